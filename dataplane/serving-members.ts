/**
 * Which members of a pool get new flows, and with what weight: the input of its Maglev table. The same on every MUX and agent,
 * from the pool's item alone.
 *
 *     enough primaries are up -> the primaries that are up
 *     else backups are up     -> the backups that are up, and with them the primaries that are
 *     else fail open          -> every member that is not draining
 *     else                    -> nobody: new flows are dropped
 */
import { MEMBER_DOWN, MEMBER_UP, type MuxPoolItem, type MuxPoolMember } from "./mux-items.js";

export function servingMembers(pool: MuxPoolItem): readonly MuxPoolMember[] {
  const takesFlows = (member: MuxPoolMember): boolean => member.weight > 0 && (member.state ?? MEMBER_UP) === MEMBER_UP;
  const isPrimary = (member: MuxPoolMember): boolean => member.backup !== true;
  const up = pool.members.filter(takesFlows);
  const primariesUp = up.filter(isPrimary);
  const primaries = pool.members.filter(isPrimary).length;
  const hasEnough = primariesUp.length > 0 && primariesUp.length * 1_000 >= primaries * (pool.failoverPermille ?? 0);
  if (hasEnough) return primariesUp;
  if (up.length > 0) return up;
  if (pool.failOpen !== true) return [];
  // What is down may be the probes. Weight 0 and draining are wishes of the operator, and stay.
  return pool.members.filter(({ weight, state }) => weight > 0 && (state ?? MEMBER_UP) === MEMBER_DOWN);
}
