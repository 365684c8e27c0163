/** Hosts report what their ports are doing to two replicas: the others have it from these. */
import type { ananta } from "../../proto/gen/wire.js";
import type { ReplicaView } from "../replica-view.js";
import { SNAT_USAGE } from "./methods.js";

type Share = ananta.v1.SnatShare.$Properties;
export type PortsOfShare = Pick<Share, "inUse" | "onHold" | "useAgeMs">;

/** A replica that is paused keeps an operator waiting no longer. */
const OTHERS_DEADLINE_MS = 500;

const keyOf = ({ vip, protocol, tenant, dip }: Share): string => [vip, protocol, tenant, dip].join("/");

/** The same page, with what the other replicas know of it; the newest word counts. */
export async function askedOfOthers(
  replica: ReplicaView,
  request: ananta.v1.SnatSharesRequest.$Properties,
  shares: readonly Share[],
): Promise<Share[]> {
  const { config, env } = replica;
  const known = new Map<string, PortsOfShare>();
  const learn = (share: Share): void => {
    const { inUse, onHold } = share;
    if (typeof inUse !== "number" || typeof onHold !== "number") return;
    const useAgeMs = share.useAgeMs ?? 0;
    const before = known.get(keyOf(share));
    if (before === undefined || useAgeMs < (before.useAgeMs ?? 0)) known.set(keyOf(share), { inUse, onHold, useAgeMs });
  };
  shares.forEach(learn);
  const others = replica.members().filter(({ nodeId }) => nodeId !== config.nodeId);
  await Promise.all(
    others.map(async ({ apiAddress }) => {
      const channel = env.network.connect(apiAddress);
      try {
        const options = { deadlineMs: OTHERS_DEADLINE_MS };
        const answer = await channel.call(SNAT_USAGE, { ...request, onlyHere: true }, options);
        answer.shares?.forEach(learn);
      } catch {
        // Dead or slow: of hosts that report to nobody else it is not known.
      } finally {
        channel.close();
      }
    }),
  );
  return shares.map((share) => ({ ...share, ...known.get(keyOf(share)) }));
}
