/**
 * `ananta flow reset`: ends open flows of a DIP or VIP. Hosts, whose NAT state is the truth, reset both ends and forget them; MUXes
 * forget what they cached. Nothing is written to the log: it is done to what runs now. MUXes and hosts have streams to two replicas
 * only, so the other replicas are asked as well; one that is asked twice has nothing left the second time.
 */
import { parseIpAddress } from "../../../core/address.js";
import { AnantaError } from "../../../core/errors.js";
import { ananta } from "../../../proto/gen/wire.js";
import type { AgentStreams } from "../../projection/agent-streams.js";
import type { MuxStreams } from "../../projection/mux-streams.js";
import type { ReplicaView } from "../../replica-view.js";
import { isVip } from "../../state/vip-map.js";
import { OPERATOR_RESET_FLOWS } from "../methods.js";

type Request = ananta.v1.ResetFlowsRequest.$Properties;
type Response = ananta.v1.ResetFlowsResponse.$Properties;

/** Hosts and MUXes answer a replica within 500 ms or not at all. */
const OTHERS_DEADLINE_MS = 1_500;

export class ResetFlows {
  readonly #replica: ReplicaView;
  readonly #muxStreams: MuxStreams;
  readonly #agentStreams: AgentStreams;

  constructor(replica: ReplicaView, muxStreams: MuxStreams, agentStreams: AgentStreams) {
    this.#replica = replica;
    this.#muxStreams = muxStreams;
    this.#agentStreams = agentStreams;
  }

  async reset(request: Request): Promise<Response> {
    const filter = this.#filter(request);
    const { state } = this.#replica;
    const dip = (request.dip ?? "") === "" ? null : this.#dip(request);
    const [hosts, muxes] = await Promise.all([
      this.#agentStreams.resetFlows(filter),
      this.#muxStreams.resetFlows(filter),
    ]);
    const hostCounts = new Map([...hosts].map(([id, flows]) => [state.host(id)?.name ?? String(id), flows]));
    const muxCounts = new Map(muxes);
    if (request.onlyHere !== true) await this.#askOthers(request, hostCounts, muxCounts);
    // A DIP that no host runs has no flows, and there is nobody to ask.
    const concerned = state.hosts().filter(({ hostId }) => dip === null || hostId === dip.hostId);
    return {
      hosts: concerned.filter(({ dips }) => dips.length > 0).map(({ name }) => answerOf(name, hostCounts)),
      muxes: state
        .muxes()
        .filter(({ state: is }) => is === "live")
        .map(({ name }) => answerOf(name, muxCounts)),
    };
  }

  async #askOthers(request: Request, hosts: Map<string, number>, muxes: Map<string, number>): Promise<void> {
    const { config, env } = this.#replica;
    const others = this.#replica.members().filter(({ nodeId }) => nodeId !== config.nodeId);
    const add = (counts: Map<string, number>, answers: Response["hosts"]): void => {
      for (const { name, flows, answered } of answers ?? [])
        if (answered === true) counts.set(name ?? "", (counts.get(name ?? "") ?? 0) + (flows ?? 0));
    };
    await Promise.all(
      others.map(async ({ apiAddress }) => {
        const channel = env.network.connect(apiAddress);
        try {
          const options = { deadlineMs: OTHERS_DEADLINE_MS };
          const answer = await channel.call(OPERATOR_RESET_FLOWS, { ...request, onlyHere: true }, options);
          add(hosts, answer.hosts);
          add(muxes, answer.muxes);
        } catch {
          // That replica is dead or slow; who has a stream to it alone shows as not answered.
        } finally {
          channel.close();
        }
      }),
    );
  }

  #filter(request: Request): { vipId: number; dipId: number; protocol: ananta.v1.Protocol } {
    const protocol = request.protocol ?? ananta.v1.Protocol.PROTOCOL_UNSPECIFIED;
    if ((request.dip ?? "") === "" && (request.vip ?? "") === "")
      throw new AnantaError("INVALID_ARGUMENT", "name a DIP or a VIP: without either, all flows of the site would end");
    return { vipId: this.#vipId(request.vip ?? ""), dipId: this.#dipId(request), protocol };
  }

  #dipId(request: Request): number {
    return (request.dip ?? "") === "" ? 0 : this.#dip(request).dipId;
  }

  #dip(request: Request): NonNullable<ReturnType<ReplicaView["state"]["dipAt"]>> {
    const [dip, tenant] = [request.dip ?? "", request.tenant ?? ""];
    const address = parseIpAddress(dip);
    if (address === null) throw new AnantaError("INVALID_ARGUMENT", `dip: "${dip}" is not an IP address`);
    const of = tenant === "" ? "default" : tenant;
    const found = this.#replica.state.dipAt(of, address);
    if (found === null) throw new AnantaError("NOT_FOUND", `DIP ${of}/${address} is not known`);
    return found;
  }

  #vipId(vip: string): number {
    if (vip === "") return 0;
    const address = parseIpAddress(vip);
    if (address === null) throw new AnantaError("INVALID_ARGUMENT", `vip: "${vip}" is not an IP address`);
    const found = this.#replica.state
      .objects("Vip", null)
      .find((object) => isVip(object) && object.spec.address === address);
    if (found === undefined || !isVip(found)) throw new AnantaError("NOT_FOUND", `no Vip has the address ${address}`);
    return found.vipId;
  }
}

const answerOf = (name: string, counts: ReadonlyMap<string, number>): ananta.v1.FlowResetAnswer.$Properties => {
  const flows = counts.get(name);
  return { name, flows: flows ?? 0, answered: flows !== undefined };
};
