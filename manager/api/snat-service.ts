/** SNAT ports by unary calls, for clients in any language (proto/ananta/v1/snat.proto). */
import type { DipId, HostId, IpAddress } from "../../core/brands.js";
import { parseIpAddress } from "../../core/address.js";
import { AnantaError } from "../../core/errors.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { CallContext } from "../../runtime/env.js";
import { checkAddress } from "../projection/address-wire.js";
import { checkName, registration, tenantOf } from "../projection/agent-streams.js";
import { isHex128 } from "../projection/identity.js";
import { checkOrigin } from "../projection/origin.js";
import { checkProtocol, wireBlock } from "../projection/range-wire.js";
import { checkPorts, releasedBlocks } from "../projection/snat-requests.js";
import type { ReplicaView } from "../replica-view.js";
import type { Command } from "../state/commands/commands.js";
import type { CommandResult } from "../state/commands/results.js";
import type { SnatFilter, SnatSpace } from "../state/state-machine.js";
import { noPage } from "./objects/pages.js";
import { budget, throwIfRefused, otherRequest } from "./operator-service.js";
import { readPoint } from "./read-state.js";

export class SnatService {
  readonly #replica: ReplicaView;

  constructor(replica: ReplicaView) {
    this.#replica = replica;
  }

  async register(
    request: ananta.v1.RegisterRequest.$Properties,
    call: CallContext,
  ): Promise<ananta.v1.RegisterResponse.$Properties> {
    const name = checkName(request.host, "host");
    const bootId = request.bootId ?? "";
    if (!isHex128(bootId))
      throw new AnantaError(
        "INVALID_ARGUMENT",
        `boot_id: "${bootId}" is not 32 hex digits; choose 128 random bits per start`,
      );
    const command = registration({ name, bootId }, request.dips ?? [], request.heldRanges ?? []);
    const result = await this.#submit(request.origin, command, call);
    if (!result.ok || result.value.kind !== "host-registered") throw otherRequest();
    const { hostId, incarnation, refusedRanges } = result.value;
    return {
      hostId,
      incarnation,
      refusedRanges: refusedRanges.map((block) => ({ block: wireBlock(block) })),
      index: result.index,
    };
  }

  async allocate(
    request: ananta.v1.AllocateRequest.$Properties,
    call: CallContext,
  ): Promise<ananta.v1.AllocateResponse.$Properties> {
    const command: Command = {
      kind: "allocate-snat",
      ...(await this.#owner(request, call)),
      protocol: checkProtocol(request.protocol, "protocol"),
      ports: checkPorts(request.ports, "ports"),
    };
    const result = await this.#submit(request.origin, command, call);
    if (!result.ok || result.value.kind !== "snat-allocated") throw otherRequest();
    return { blocks: result.value.blocks.map(wireBlock), index: result.index };
  }

  async release(
    request: ananta.v1.ReleaseRequest.$Properties,
    call: CallContext,
  ): Promise<ananta.v1.ReleaseResponse.$Properties> {
    const blocks = releasedBlocks(request.blocks ?? [], "blocks");
    const command: Command = { kind: "release-snat", ...(await this.#owner(request, call)), blocks };
    const result = await this.#submit(request.origin, command, call);
    if (!result.ok || result.value.kind !== "snat-released") throw otherRequest();
    return { ranges: result.value.ranges, index: result.index };
  }

  async list(
    request: ananta.v1.ListSnatRequest.$Properties,
    call: CallContext,
  ): Promise<ananta.v1.ListSnatResponse.$Properties> {
    const filter = this.#filterShape(request);
    const after = spaceOfPage(request.page ?? "");
    const { index, ageMs } = await readPoint(this.#replica, request.stale === true, budget(call));
    const { state } = this.#replica;
    const dip = filter.dip === null ? null : this.#dipId(tenantOf(request.tenant, "tenant"), filter.dip);
    const query: SnatFilter = { ...(filter.vip === null ? {} : { vip: filter.vip }), ...(dip === null ? {} : { dip }) };
    const { blocks: taken, end } = state.snatPage(query, after);
    const blocks = taken.map((block) => ({
      block: wireBlock(block),
      tenant: block.dip.tenant,
      dip: block.dip.address,
      host: block.host ?? "",
      state: block.recalledSinceMs === null ? block.state : "recalled",
      freeInSeconds:
        block.freeAtMs === null ? 0 : Math.max(0, Math.ceil((block.freeAtMs - state.clusterTimeMs) / 1_000)),
    }));
    return { blocks, nextPage: pageOf(end), index, ageMs };
  }

  /** Which host asks for which of its DIPs. Found in the state as applied here; what it says is checked again in apply. */
  async #owner(
    request: {
      readonly host?: string | null;
      readonly incarnation?: number | null;
      readonly tenant?: string | null;
      readonly dip?: string | null;
    },
    call: CallContext,
  ): Promise<{ readonly hostId: HostId; readonly incarnation: number; readonly dipId: DipId }> {
    const name = checkName(request.host, "host");
    const incarnation = request.incarnation ?? 0;
    const address = checkAddress(request.dip, "dip");
    const tenant = tenantOf(request.tenant, "tenant");
    const look = () => {
      const host = this.#replica.state.hostByName(name);
      const dipId = host?.dips.find((id) => {
        const dip = this.#replica.state.dip(id);
        return dip?.address === address && dip.tenant === tenant;
      });
      return { host, dipId };
    };
    let { host, dipId } = look();
    if (host === null || host.incarnation < incarnation || dipId === undefined) {
      await readPoint(this.#replica, false, budget(call)); // this replica may just be behind the registration
      ({ host, dipId } = look());
    }
    if (host === null) throw new AnantaError("NOT_FOUND", `host "${name}" is not registered; call Register first`);
    if (dipId === undefined)
      throw new AnantaError("PERMISSION_DENIED", `${address} (tenant "${tenant}") is not a DIP of host "${name}"`);
    return { hostId: host.hostId, incarnation, dipId };
  }

  #dipId(tenant: string, address: string): DipId {
    for (const host of this.#replica.state.hosts()) {
      for (const id of host.dips) {
        const dip = this.#replica.state.dip(id);
        if (dip?.address === address && dip.tenant === tenant) return id;
      }
    }
    throw new AnantaError("NOT_FOUND", `no host has the DIP ${address} of tenant "${tenant}"`);
  }

  #filterShape(request: ananta.v1.ListSnatRequest.$Properties): {
    readonly vip: IpAddress | null;
    readonly dip: string | null;
  } {
    const vip = (request.vip ?? "") === "" ? null : checkAddress(request.vip, "vip");
    const dip = (request.dip ?? "") === "" ? null : checkAddress(request.dip, "dip");
    return { vip, dip };
  }

  async #submit(
    origin: ananta.v1.Origin.$Properties | null | undefined,
    command: Command,
    call: CallContext,
  ): Promise<CommandResult> {
    const result = await this.#replica.submit({ origin: checkOrigin(origin), command }, budget(call));
    throwIfRefused(result);
    return result;
  }
}

/** The (VIP, protocol) that the page before ended with. */
export function spaceOfPage(page: string): SnatSpace | null {
  if (page === "") return null;
  const [, vip = "", protocol = ""] = /^([0-9a-f.:]{2,45})\/(6|17)$/.exec(page) ?? [];
  const address = parseIpAddress(vip);
  if (address === null) throw noPage(page);
  return { vip: address, protocol: protocol === "6" ? 6 : 17 };
}

/** What `spaceOfPage` reads; empty: nothing follows. */
export const pageOf = (end: SnatSpace | null): string => (end === null ? "" : `${end.vip}/${end.protocol}`);
