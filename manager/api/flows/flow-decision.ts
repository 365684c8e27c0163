/**
 * What a MUX that has not seen a flow does with its first packet, step by step in the words of the configuration. Computed
 * from the replicated state with the hash and the table that every MUX uses. Pure. Order of look-up: exact rule, inbound NAT,
 * SNAT range, all-port rule.
 */
import type { DipId } from "../../../core/brands.js";
import {
  DISTRIBUTION_FIVE_TUPLE,
  type Distribution,
  FlowHasher,
  distributionPorts,
  distributionProtocol,
} from "../../../dataplane/flow-hash.js";
import { buildMaglevTable, maglevMember, maglevSize } from "../../../dataplane/maglev.js";
import type { MuxItem, MuxPoolItem, MuxRuleItem } from "../../../dataplane/mux-items.js";
import { servingMembers } from "../../../dataplane/serving-members.js";
import { addressWords } from "../../../packet/address-words.js";
import type { FiveTuple } from "../../../packet/five-tuple.js";
import { createPacketHeader } from "../../../packet/header.js";
import type { AnyStoredObject, VipRule } from "../../state/objects.js";
import type { StateMachine } from "../../state/state-machine.js";
import { type VipObject, isPool, isVip, protocolsOf } from "../../state/vip-map.js";

export interface FlowTuple extends FiveTuple {
  readonly protocol: 6 | 17;
}

export interface Step {
  /** "vip", "rule", "inbound-nat", "snat-range", "hash", "dip", "router", "host". */
  readonly what: string;
  readonly found: string;
}

export interface FlowDecision {
  readonly steps: readonly Step[];
  /** Null: its packets are dropped. */
  readonly dipId: DipId | null;
}

const PORTS_PER_RANGE = 8;

export function decideFlow(state: StateMachine, flow: FlowTuple): FlowDecision {
  const steps: Step[] = [];
  const step = (what: string, found: string): void => void steps.push({ what, found });
  const end = (dipId: DipId | null): FlowDecision => ({ steps, dipId });
  const dipText = (id: DipId): string => state.dip(id)?.address ?? "a DIP that is gone";

  const vip = vipAt(state, flow.destination);
  const items = vip === null ? [] : state.muxItemsOf(vip.ref);
  const shown = items.find((item) => item.kind === "vip");
  if (vip === null || shown?.kind !== "vip") {
    const pending = vip === null ? "is not a VIP" : `is Vip ${nameOf(vip)}, which no MUX uses yet`;
    step("vip", `${flow.destination} ${pending}: the packet is dropped, or reaches no MUX`);
    return end(null);
  }
  step("vip", `${flow.destination} is Vip ${nameOf(vip)}, ${announcementText(state, vip, shown.announced)}`);
  const live = state.muxes().filter((mux) => mux.state === "live");
  const names = live.map(({ name }) => name).join(", ");
  step("router", `spreads flows over ${live.length} live MUXes by its own hash (ECMP): ${names || "none"}`);

  const rules = items.filter((item) => item.kind === "rule");
  const exact = rules.find((rule) => rule.protocol === flow.protocol && rule.port === flow.destinationPort);
  const portText = `${protocolText(flow.protocol)} port ${flow.destinationPort}`;
  if (exact !== undefined) return byRule(exact);
  step("rule", `none has ${portText}`);

  const nat = items.find(
    (item) => item.kind === "nat" && item.protocol === flow.protocol && item.port === flow.destinationPort,
  );
  if (nat?.kind === "nat") {
    const name = vip.natPorts.find(({ port }) => port === flow.destinationPort)?.rule ?? "";
    step("inbound-nat", `"${name}": ${portText} belongs to ${dipText(nat.dipId)}`);
    return end(nat.dipId);
  }
  const range = flow.destinationPort >> 3;
  const ports = `${range * PORTS_PER_RANGE}-${range * PORTS_PER_RANGE + PORTS_PER_RANGE - 1}`;
  const owner = state
    .snatBlocks({ vip: vip.spec.address, protocol: flow.protocol })
    .find((block) => block.state === "owned" && range >= block.range && range < block.range + block.count);
  if (owner !== undefined) {
    step("snat-range", `ports ${ports} belong to ${owner.dip.address}: an answer to a flow that it opened`);
    return end(owner.dip.dipId);
  }
  step("snat-range", `ports ${ports} belong to nobody`);
  const all = rules.find((rule) => rule.port === 0 && (rule.protocol === flow.protocol || rule.protocol === 0));
  if (all !== undefined) return byRule(all);
  step("drop", `nothing of the VIP takes ${portText}: the packet is dropped`);
  return end(null);

  function byRule(rule: MuxRuleItem): FlowDecision {
    const written = vip?.active?.rules.find((one) => isWritten(one, rule));
    const pool = state
      .objects("BackendPool", vip?.ref.tenant ?? null)
      .find((one) => isPool(one) && one.poolId === rule.poolId);
    const item = (pool === undefined ? [] : state.muxItemsOf(pool.ref)).find((one: MuxItem) => one.kind === "pool");
    if (pool === undefined || item?.kind !== "pool" || state.site === null) {
      step("rule", `"${written?.name ?? ""}": its pool is not in use yet`);
      return end(null);
    }
    const serving = servingMembers(item);
    step(
      "rule",
      `"${written?.name ?? ""}" takes ${rule.port === 0 ? "every other port" : portText}, pool ${pool.ref.name}`,
    );
    step("pool", poolText(pool, item, serving.length));
    const distribution = rule.distribution ?? DISTRIBUTION_FIVE_TUPLE;
    const hash = hashOf(state.site.hashKey, flow, distribution);
    const size = maglevSize(item.maxMembers);
    const dipId = maglevMember(buildMaglevTable(size, serving), hash) as DipId;
    if (dipId === 0) {
      step("dip", "no member takes new flows: the packet is dropped");
      return end(null);
    }
    step(
      "hash",
      `${hashText(hash)} of ${DISTRIBUTION_TEXT[distribution]} -> slot ${hash % size} of ${size}, on every MUX`,
    );
    step("dip", `${dipText(dipId)} owns the slot`);
    return end(dipId);
  }
}

const nameOf = ({ ref }: Pick<AnyStoredObject, "ref">): string => `${ref.tenant}/${ref.name}`;
const protocolText = (protocol: 6 | 17): string => (protocol === 6 ? "tcp" : "udp");
/** As the MUXes write it. */
const hashText = (hash: number): string => `0x${hash.toString(16).padStart(8, "0")}`;

const DISTRIBUTION_TEXT: Readonly<Record<Distribution, string>> = {
  0: "the five-tuple",
  1: "client address, VIP and protocol",
  2: "client address and VIP",
};

function vipAt(state: StateMachine, address: string): VipObject | null {
  const found = state.objects("Vip", null).find((object) => isVip(object) && object.spec.address === address);
  return found !== undefined && isVip(found) ? found : null;
}

function announcementText(state: StateMachine, vip: VipObject, announced: boolean): string {
  if (announced) return "announced by every live MUX";
  const withdrawal = state.withdrawal(vip.vipId);
  if (withdrawal !== null) return `withdrawn: ${withdrawal.reason}`;
  return vip.deleting ? "being deleted" : "not announced: adminState is down";
}

const isWritten = (rule: VipRule, item: MuxRuleItem): boolean =>
  rule.port === item.port && protocolsOf(rule.protocol).includes(item.protocol);

function poolText(pool: AnyStoredObject, item: MuxPoolItem, serving: number): string {
  const written = isPool(pool) ? (pool.active?.members.length ?? 0) : 0;
  const homeless = written - item.members.length;
  const without = homeless > 0 ? `, ${homeless} without a host` : "";
  return `${nameOf(pool)}: ${serving} of ${written} members take new flows${without}`;
}

function hashOf(hashKey: string, flow: FlowTuple, distribution: Distribution): number {
  const key = Uint8Array.from({ length: 8 }, (_, at) => parseInt(hashKey.slice(at * 2, at * 2 + 2), 16));
  const header = createPacketHeader();
  const source = addressWords(flow.source) ?? new Int32Array(4);
  const destination = addressWords(flow.destination) ?? new Int32Array(4);
  [header.source0, header.source1, header.source2, header.source3] = wordsOf(source);
  [header.destination0, header.destination1, header.destination2, header.destination3] = wordsOf(destination);
  const ports = distributionPorts((flow.sourcePort << 16) | flow.destinationPort, distribution);
  const protocol = distributionProtocol(flow.protocol, distribution);
  return new FlowHasher(key).header(header, ports, protocol, distribution) >>> 0;
}

const wordsOf = (words: Int32Array): readonly [number, number, number, number] => [
  words[0] ?? 0,
  words[1] ?? 0,
  words[2] ?? 0,
  words[3] ?? 0,
];
