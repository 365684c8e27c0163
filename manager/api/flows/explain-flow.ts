/**
 * `ananta flow explain`: which rule and DIP a packet of a flow meets, and why. The decision is computed here
 * (`flow-decision`); the MUXes add whether the flow is in their table, which may override the hash while a pool changes. A
 * MUX has streams to two replicas only, so those without one here are asked through the other replicas.
 */
import { parseIpAddress } from "../../../core/address.js";
import type { IpAddress } from "../../../core/brands.js";
import { AnantaError } from "../../../core/errors.js";
import type { ananta } from "../../../proto/gen/wire.js";
import type { MuxStreams } from "../../projection/mux-streams.js";
import { checkProtocol } from "../../projection/range-wire.js";
import type { ReplicaView } from "../../replica-view.js";
import { type FlowTuple, decideFlow } from "./flow-decision.js";
import { OPERATOR_EXPLAIN_FLOW } from "../methods.js";

type MuxView = ananta.v1.MuxFlowView.$Properties;

/** A MUX answers a replica within 500 ms or not at all. */
const OTHERS_DEADLINE_MS = 1_000;

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
    const { steps, dipId } = decideFlow(state, flow);
    const dip = dipId === null ? null : state.dip(dipId);
    const place = dip === null ? null : state.dipAt(dip.tenant, dip.address);
    const hostId = place?.hostId ?? null;
    const host = hostId === null ? null : state.host(hostId);
    const hop =
      host === null
        ? []
        : [
            {
              what: "host",
              found: `${host.name} (${place?.locator ?? ""}) takes the outer header off and hands it over`,
            },
          ];
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
      muxes: live.map(({ name }) => this.#named(views.get(name) ?? silent(name))),
    };
  }

  /** A MUX knows DIPs by their outer addresses. */
  #named(view: MuxView): MuxView {
    const locator = parseIpAddress(view.dip ?? "");
    return locator === null ? view : { ...view, dip: this.#replica.state.dipAtLocator(locator)?.address ?? locator };
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

function checkFlow(flow: ananta.v1.FiveTuple.$Properties): FlowTuple {
  const address = (text: string | null | undefined, where: string): IpAddress => {
    const value = parseIpAddress(text ?? "");
    if (value === null) throw new AnantaError("INVALID_ARGUMENT", `${where}: "${text ?? ""}" is not an IP address`);
    return value;
  };
  const port = (value: number | null | undefined, where: string): number => {
    const number = value ?? 0;
    if (number < 1 || number > 65_535)
      throw new AnantaError("INVALID_ARGUMENT", `${where}: ${number} is not a port; use 1 to 65535`);
    return number;
  };
  const source = address(flow.source, "flow.source");
  const destination = address(flow.destination, "flow.destination");
  if (source.includes(":") !== destination.includes(":"))
    throw new AnantaError("INVALID_ARGUMENT", `flow: ${source} and ${destination} are of two address families`);
  return {
    protocol: checkProtocol(flow.protocol, "flow.protocol"),
    source,
    sourcePort: port(flow.sourcePort, "flow.source_port"),
    destination,
    destinationPort: port(flow.destinationPort, "flow.destination_port"),
  };
}
