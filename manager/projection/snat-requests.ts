/** Requests for ports and their return, checked field by field where they arrive: on agents' streams and in unary calls. */
import type { DipId, HostId } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { AllocateSnatCommand, RangeBlock, ReleaseSnatCommand } from "../state/commands/commands.js";
import { checkBlock, checkProtocol } from "./range-wire.js";

const RELEASED_BLOCKS_MAX = 1_024;
const PORTS_MAX = 64_512;

/** The command of one request on the stream of a host. Throws INVALID_ARGUMENT. */
export function snatCommand(
  host: { readonly hostId: HostId; readonly incarnation: number },
  request: ananta.v1.SnatRequest.$Properties,
): AllocateSnatCommand | ReleaseSnatCommand {
  const dipId = (request.dipId ?? 0) as DipId;
  const { hostId, incarnation } = host;
  if (request.allocate) {
    const protocol = checkProtocol(request.allocate.protocol, "allocate.protocol");
    return {
      kind: "allocate-snat",
      hostId,
      incarnation,
      dipId,
      protocol,
      ports: checkPorts(request.allocate.ports, "allocate.ports"),
    };
  }
  if (request.release) {
    const blocks = releasedBlocks(request.release.blocks ?? [], "release.blocks");
    return { kind: "release-snat", hostId, incarnation, dipId, blocks };
  }
  throw new AnantaError("INVALID_ARGUMENT", "request: neither allocate nor release");
}

/** What a release names, here and in the unary Release. */
export function releasedBlocks(
  blocks: readonly ananta.v1.RangeBlock.$Properties[],
  where: string,
): readonly RangeBlock[] {
  if (blocks.length === 0)
    throw new AnantaError("INVALID_ARGUMENT", `${where}: none given; name the ranges to release`);
  checkCount(blocks, RELEASED_BLOCKS_MAX, where);
  return blocks.map((block, position) => checkBlock(block, `${where}[${position}]`));
}

/** 1 to 64,512 ports. */
export function checkPorts(ports: number | null | undefined, where: string): number {
  const count = ports ?? 0;
  if (count < 1 || count > PORTS_MAX)
    throw new AnantaError("INVALID_ARGUMENT", `${where}: ${count} is not a number of ports; use 1 to ${PORTS_MAX}`);
  return count;
}

/** Throws INVALID_ARGUMENT, saying how many there may be. */
export function checkCount(items: readonly unknown[], max: number, where: string): void {
  if (items.length <= max) return;
  throw new AnantaError("INVALID_ARGUMENT", `${where}: ${items.length} in one message; at most ${max}`);
}
