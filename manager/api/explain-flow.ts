/**
 * `ananta flow explain`: which rule and DIP a packet of a flow meets, and why. Rule and DIP are computed here, from the
 * replicated state, with the same hash and table as every MUX uses; the MUXes add whether the flow is in their table, which
 * may override the hash while a pool changes. A MUX has streams to two replicas only, so those without one here are asked
 * through the other replicas.
 */
import { parseIpv4 } from "../../core/address.js";
import { AnantaError } from "../../core/errors.js";
import { DISTRIBUTION_FIVE_TUPLE, FlowHasher } from "../../dataplane/flow-hash.js";
import { buildMaglevTable, maglevMember, maglevSize } from "../../dataplane/maglev.js";
import type { MuxItem, MuxPoolItem } from "../../dataplane/mux-items.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { MuxStreams } from "../projection/mux-streams.js";
import { checkProtocol } from "../projection/range-wire.js";
import { OPERATOR_EXPLAIN_FLOW } from "./methods.js";
import type { ReplicaView } from "../replica-view.js";
import type { Dip } from "../state/objects.js";
import type { DipId } from "../../core/brands.js";

type Step = ananta.v1.ExplainStep.$Properties;
type MuxView = ananta.v1.MuxFlowView.$Properties;

/** A MUX answers a replica within 500 ms or not at all. */
const OTHERS_DEADLINE_MS = 1_000;

interface Flow {
  readonly protocol: 6 | 17;
  readonly source: number;
  readonly sourcePort: number;
  readonly destination: number;
  readonly destinationText: string;
  readonly destinationPort: number;
}

interface Decision {
  readonly steps: readonly Step[];
  readonly dipId: DipId | null;
}

export class ExplainFlow {
  readonly #replica: ReplicaView;
  readonly #muxStreams: MuxStreams;

  constructor(replica: ReplicaView, muxStreams: MuxStreams) {
    this.#replica = replica;
    this.#muxStreams = muxStreams;
  }

  async explain(request: ananta.v1.ExplainFlowRequest.$Properties): Promise<ananta.v1.ExplainFlowResponse.$Properties> {
    const flow = checkFlow(request.flow ?? {});
    const { state } = this.#replica;
    const { steps, dipId } = decide([...state.muxItems()], flow, (id) => state.dip(id));
    const dip = dipId === null ? null : state.dip(dipId);
    const host = dipId === null ? undefined : state.hosts().find((candidate) => candidate.dips.includes(dipId));
    const hop =
      host === undefined
        ? []
        : [{ what: "host", found: `${host.name} takes the outer header off and hands it to ${dip?.address ?? ""}` }];
    const live = state.muxes().filter((mux) => mux.state === "live");
    const views = await this.#askMuxes(
      request,
      live.map(({ name }) => name),
    );
    const silent = (mux: string): MuxView => ({ mux, answered: false, reason: "it answered no replica in time" });
    return {
      steps: [...steps, ...hop],
      dip: dip?.address ?? "",
      host: host?.name ?? "",
      muxes: live.map(({ name }) => views.get(name) ?? silent(name)),
    };
  }

  async #askMuxes(
    request: ananta.v1.ExplainFlowRequest.$Properties,
    live: readonly string[],
  ): Promise<ReadonlyMap<string, MuxView>> {
    const views = new Map<string, MuxView>();
    for (const [mux, { inFlowTable, dip, reason }] of await this.#muxStreams.explainFlow(request.flow ?? {})) {
      views.set(mux, { mux, answered: true, inFlowTable: inFlowTable ?? false, dip: dip ?? "", reason: reason ?? "" });
    }
    if (request.onlyHere === true || live.every((mux) => views.has(mux))) return views;
    const { config, env } = this.#replica;
    const others = this.#replica.members().filter(({ nodeId }) => nodeId !== config.nodeId);
    await Promise.all(
      others.map(async ({ apiAddress }) => {
        const channel = env.network.connect(apiAddress);
        try {
          const question = { ...request, onlyHere: true };
          const answer = await channel.call(OPERATOR_EXPLAIN_FLOW, question, { deadlineMs: OTHERS_DEADLINE_MS });
          for (const view of answer.muxes ?? []) if (view.answered === true) views.set(view.mux ?? "", view);
        } catch {
          // That replica is dead or slow; another one may have a stream to the same MUX.
        } finally {
          channel.close();
        }
      }),
    );
    return views;
  }
}

/** [pure] The decision of a MUX that has not seen the flow: exact rule, then SNAT range (DATAPATH: order of look-up). */
function decide(items: readonly MuxItem[], flow: Flow, dipOf: (id: DipId) => Dip | null): Decision {
  const steps: Step[] = [];
  const step = (what: string, found: string): void => void steps.push({ what, found });
  const end = (dipId: DipId | null): Decision => ({ steps, dipId });

  const vip = items.find((item) => item.kind === "vip" && item.address === flow.destinationText);
  if (vip?.kind !== "vip") {
    step("vip", `${flow.destinationText} is not a VIP in force; the packet would be dropped or never reach a MUX`);
    return end(null);
  }
  step("vip", `${vip.address} (id ${vip.vipId}), ${vip.announced ? "announced by every live MUX" : "not announced"}`);

  const rule = items.find(
    (item) =>
      item.kind === "rule" &&
      item.vipId === vip.vipId &&
      item.protocol === flow.protocol &&
      item.port === flow.destinationPort,
  );
  if (rule?.kind === "rule") {
    const pool = items.find((item): item is MuxPoolItem => item.kind === "pool" && item.poolId === rule.poolId);
    step(
      "rule",
      `${protocolText(flow.protocol)}/${rule.port} -> pool id ${rule.poolId}, ${pool?.members.length ?? 0} members with a host`,
    );
    const site = items.find((item) => item.kind === "site");
    if (pool === undefined || site?.kind !== "site") return end(null);
    const ports = flow.sourcePort * 65_536 + flow.destinationPort;
    const { source, destination } = flow;
    const hasher = new FlowHasher(site.hashKey);
    const hash = hasher.ipv4(source, destination, ports, flow.protocol, DISTRIBUTION_FIVE_TUPLE) >>> 0;
    const size = maglevSize(pool.maxMembers);
    const dipId = maglevMember(buildMaglevTable(size, pool.members), hash) as DipId;
    step("hash", `five-tuple hash 0x${hash.toString(16).padStart(8, "0")} -> slot ${hash % size} of ${size}`);
    if (dipId === 0) {
      step("dip", "no member takes new flows (weight 0, or none has a host)");
      return end(null);
    }
    step("dip", `${dipOf(dipId)?.address ?? `id ${dipId}`} owns the slot`);
    return end(dipId);
  }
  step("rule", `none for ${protocolText(flow.protocol)}/${flow.destinationPort}`);

  const range = flow.destinationPort >> 3;
  const snat = items.find(
    (item) =>
      item.kind === "snat" && item.vipId === vip.vipId && item.protocol === flow.protocol && item.range === range,
  );
  if (snat?.kind === "snat") {
    step(
      "snat-range",
      `ports ${range * 8}-${range * 8 + 7} belong to ${dipOf(snat.dipId)?.address ?? `id ${snat.dipId}`}: return traffic of a flow it opened`,
    );
    return end(snat.dipId);
  }
  step("snat-range", `ports ${range * 8}-${range * 8 + 7} belong to nobody; the packet would be dropped`);
  return end(null);
}

const protocolText = (protocol: 6 | 17): string => (protocol === 6 ? "tcp" : "udp");

function checkFlow(flow: ananta.v1.FiveTuple.$Properties): Flow {
  const address = (text: string | null | undefined, where: string): number => {
    const value = parseIpv4(text ?? "");
    if (value === null) throw new AnantaError("INVALID_ARGUMENT", `${where}: "${text ?? ""}" is not an IPv4 address`);
    return value;
  };
  const port = (value: number | null | undefined, where: string): number => {
    const number = value ?? 0;
    if (number < 1 || number > 65_535)
      throw new AnantaError("INVALID_ARGUMENT", `${where}: ${number} is not a port; use 1 to 65535`);
    return number;
  };
  return {
    protocol: checkProtocol(flow.protocol, "flow.protocol"),
    source: address(flow.source, "flow.source"),
    sourcePort: port(flow.sourcePort, "flow.source_port"),
    destination: address(flow.destination, "flow.destination"),
    destinationText: flow.destination ?? "",
    destinationPort: port(flow.destinationPort, "flow.destination_port"),
  };
}
