/**
 * A Host Agent has started. In order:
 *
 *   1. check the declared DIPs: one host each, locators unique, no VIP addresses;
 *   2. same boot id: a repeated hello of the same process, which may add DIPs and nothing else;
 *      new boot id: a new incarnation, whose DIPs are exactly those it lists;
 *   3. ranges that its DIPs own but that it does not declare are orphaned: nobody uses them, their quarantine begins.
 *      This holds for the DIPs it had before and those it has now; in case 2 only for those just added, since the running
 *      process may have been granted more since it wrote its hello. The first hello after a restore speaks for all DIPs
 *      in both cases, and what it holds without the state's knowing is taken over (see `orphans`, `cluster-epoch`);
 *   4. ranges that it declares and its DIPs do not own are refused: the agent must stop using them at once.
 */
import { familyOf } from "../../../core/address.js";
import type { DipId, HostId, IpAddress } from "../../../core/brands.js";
import type { HeldRange, RangeBlock, RegisterHostCommand } from "../commands/commands.js";
import { formerBootsAfter } from "../former-boots.js";
import type { DipRecord } from "../dip-table.js";
import { byNumber } from "../order.js";
import { END_RANGE, FIRST_RANGE, type SnatProtocol, isRangeBlock } from "../snat/port-ranges.js";
import type { CommandResult } from "../commands/results.js";
import type { Host } from "../state-machine.js";
import type { State } from "../state.js";
import { heldByDip, orphan, takeOverHeld } from "./orphans.js";
import { DIPS_MAX, dipsInUse } from "./limits.js";
import { type ApplyContext, refuse, succeed } from "./outcome.js";

type DeclaredDip = RegisterHostCommand["dips"][number];

export function registerHost(context: ApplyContext, command: RegisterHostCommand): CommandResult {
  const { state, index } = context;
  const before = state.hosts.named(command.name);
  const problem = findProblem(context, command, before);
  if (problem !== null) return problem;

  const sameProcess = before !== null && before.bootId === command.bootId;
  const hostId = before?.hostId ?? state.hosts.nextId;
  const listed = command.dips.map(({ tenant, address, locator }) => ({
    dip: state.dips.mention(tenant, address),
    locator,
  }));
  const listedIds = new Set(listed.map(({ dip }) => dip.dipId));
  const hadIds = new Set(before?.dips ?? []);
  const dropped = sameProcess ? [] : [...hadIds].filter((id) => !listedIds.has(id));
  const dips = [...new Set([...(sameProcess ? hadIds : []), ...listedIds])].sort(byNumber);
  // Every DIP whose ranges this hello speaks for, whether or not the host still has it.
  const declaring = [...new Set([...hadIds, ...listedIds])].sort(byNumber);
  // The first hello in an epoch that is not settled speaks for all of them: the state is older than the process.
  const isFirstOfEpoch = state.epoch.hears(before?.hostId ?? null);
  const orphanable = sameProcess && !isFirstOfEpoch ? declaring.filter((id) => !hadIds.has(id)) : declaring;

  const held = heldByDip(state, command.heldRanges, new Set(declaring));
  // Orphaned before DIPs are placed: a host that takes over a DIP never sees ranges that are not its own.
  for (const id of orphanable) orphan(context, state.dips.must(id), held);
  const isMoved = placeDips(state, hostId, listed, dropped);
  state.hosts.put({
    hostId,
    name: command.name,
    incarnation: sameProcess ? before.incarnation : (before?.incarnation ?? 0) + 1,
    bootId: command.bootId,
    formerBootIds: formerBootsAfter(before, command.bootId),
    dips,
    isExpired: false,
    registeredIndex: sameProcess ? before.registeredIndex : index,
  });
  state.fences.delete(hostId);
  if (isFirstOfEpoch) takeOverHeld(context, command.heldRanges, new Set(declaring));
  state.epoch.settle(hostId);
  // A stream that was opened anew says the same again: its host sees nothing new.
  if (!sameProcess || isMoved || before.isExpired) state.projection.hostChanged(hostId);
  // Of all its DIPs: a running process may list fewer than it has.
  if (before?.isExpired === true) for (const id of dips) state.projection.dipChanged(id);
  return succeed(context, {
    kind: "host-registered",
    hostId,
    incarnation: state.hosts.must(hostId).incarnation,
    dips: dips.map((id) => state.dips.must(id)).map(({ tenant, address, dipId }) => ({ tenant, address, dipId })),
    refusedRanges: refusedRanges(state, command.heldRanges, new Set(declaring)),
  });
}

function findProblem(context: ApplyContext, command: RegisterHostCommand, before: Host | null): CommandResult | null {
  const { state } = context;
  const fence = before === null ? undefined : state.fences.get(before.hostId);
  if (fence !== undefined && before?.bootId === command.bootId) {
    const message = `host ${command.name} was fenced (${fence.reason}); restart its agent, which then starts without ports`;
    return refuse(context, "STALE_INCARNATION", message, { host: command.name });
  }
  if (before?.formerBootIds.includes(command.bootId) === true) {
    return refuse(context, "STALE_INCARNATION", `a later process of host ${command.name} has registered`, {
      host: command.name,
    });
  }
  const identities = new Set<string>();
  const locators = new Map<IpAddress, DeclaredDip>();
  for (const declared of command.dips) {
    const { tenant, address, locator } = declared;
    const name = `${tenant}/${address}`;
    if (identities.has(name))
      return refuse(context, "INVALID_ARGUMENT", `host ${command.name} lists DIP ${name} twice`, { dip: address });
    identities.add(name);
    const twin = locators.get(locator);
    if (twin !== undefined) {
      const message = `host ${command.name} gives locator ${locator} to two DIPs: ${twin.tenant}/${twin.address} and ${name}`;
      return refuse(context, "INVALID_ARGUMENT", message, { locator });
    }
    locators.set(locator, declared);
    const dip = state.dips.find(tenant, address);
    if (dip !== null && dip.hostId !== null && dip.hostId !== before?.hostId) {
      const host = state.hosts.must(dip.hostId).name;
      return refuse(context, "FAILED_PRECONDITION", `DIP ${name} is registered by host ${host}`, {
        dip: address,
        host,
      });
    }
    const short = familyOf(locator) === "ipv6" ? state.muxes.liveWithoutIpv6() : null;
    if (short !== null) {
      const message = `locator ${locator} of DIP ${name} is an IPv6 address, and the live MUX ${short.name} has none to reach it from`;
      return refuse(context, "FAILED_PRECONDITION", message, { locator, mux: short.name });
    }
    const reached = state.dips.atLocator(locator);
    if (reached !== null && !replacesLocator(command, before, reached)) {
      const host = reached.hostId === null ? "" : state.hosts.must(reached.hostId).name;
      const message = `locator ${locator} of DIP ${name} already reaches DIP ${reached.tenant}/${reached.address} of host ${host}`;
      return refuse(context, "FAILED_PRECONDITION", message, { locator, host });
    }
    const mux = state.muxes.liveAt(locator);
    if (mux !== null) {
      const message = `locator ${locator} of DIP ${name} is the outer address of MUX ${mux.name}`;
      return refuse(context, "FAILED_PRECONDITION", message, { locator, mux: mux.name });
    }
    for (const text of [address, locator]) {
      const vip = state.objects.vipAt(text);
      if (vip === null) continue;
      return refuse(
        context,
        "FAILED_PRECONDITION",
        `${text} of DIP ${name} is the address of VIP ${vip.ref.tenant}/${vip.ref.name}`,
        { dip: address },
      );
    }
  }
  const fresh = command.dips.filter(({ tenant, address }) => {
    const dip = state.dips.find(tenant, address);
    return dip === null || (dip.hostId === null && dip.pools.size === 0);
  });
  if (fresh.length > 0 && dipsInUse(state) + fresh.length > DIPS_MAX) {
    const message = `host ${command.name} brings ${fresh.length} new DIPs; a site holds at most ${DIPS_MAX}`;
    return refuse(context, "FAILED_PRECONDITION", message, { dips: dipsInUse(state) });
  }
  for (const block of command.heldRanges) {
    if (isRangeBlock(block)) continue;
    const message = `held ranges are ${FIRST_RANGE}..${END_RANGE - 1} of protocol 6 or 17, not ${block.range} + ${block.count} of protocol ${block.protocol}`;
    return refuse(context, "INVALID_ARGUMENT", message, { dip: block.dip });
  }
  return null;
}

/** True when the DIP that has the locator now gives it up by this very hello: it keeps it, moves to another, or is dropped. */
function replacesLocator(command: RegisterHostCommand, before: Host | null, reached: DipRecord): boolean {
  if (reached.hostId === null || reached.hostId !== before?.hostId) return false;
  const listed = command.dips.some((dip) => dip.tenant === reached.tenant && dip.address === reached.address);
  return listed || before.bootId !== command.bootId;
}

interface Placement {
  readonly dip: DipRecord;
  readonly locator: IpAddress;
}

/** True when any DIP came, went, or has another locator. */
function placeDips(state: State, hostId: HostId, listed: readonly Placement[], dropped: readonly DipId[]): boolean {
  const moving = listed.filter(({ dip, locator }) => dip.hostId !== hostId || dip.locator !== locator);
  // All leave before any arrives: two DIPs may exchange their locators.
  for (const dip of [...dropped.map((id) => state.dips.must(id)), ...moving.map((placement) => placement.dip)]) {
    if (dip.hostId !== null) state.dips.place(dip, null);
    state.projection.dipChanged(dip.dipId);
  }
  for (const { dip, locator } of moving) state.dips.place(dip, { hostId, locator });
  // What was said of a DIP elsewhere, or by an agent that has ended, is not known to hold here.
  for (const { dip } of moving)
    for (const pool of [...dip.pools, ...state.drains.poolsLeftBy(dip.dipId)]) state.health.remove(pool, dip.dipId);
  return moving.length + dropped.length > 0;
}

/** What is declared but not owned by the DIP it is declared for, or for a DIP that is not this host's; in order of declaration. */
function refusedRanges(
  state: State,
  heldRanges: readonly HeldRange[],
  declaring: ReadonlySet<DipId>,
): readonly RangeBlock[] {
  const refused: RangeBlock[] = [];
  for (const { tenant, dip, vip, protocol, range, count } of heldRanges) {
    const record = state.dips.find(tenant, dip);
    const space = state.snat.space(vip, protocol);
    let open: { vip: IpAddress; protocol: SnatProtocol; range: number; count: number } | null = null;
    for (let at = range; at < range + count; at++) {
      const owned =
        record !== null && declaring.has(record.dipId) && space !== null && space.isOwnedBy(at, record.dipId);
      if (owned) open = null;
      else if (open !== null) open.count += 1;
      else {
        open = { vip, protocol, range: at, count: 1 };
        refused.push(open);
      }
    }
  }
  return refused;
}
