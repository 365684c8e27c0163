/** Port ranges between the wire and the log, every field checked. */
import { AnantaError } from "../../core/errors.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { RangeBlock } from "../state/commands/commands.js";
import { checkAddress } from "./address-wire.js";

/** Ports below 1024 are never used for SNAT: ranges 128 to 8191 of a VIP and protocol. */
const RANGE_MIN = 128;
const RANGE_END = 8_192;

export function checkProtocol(protocol: number | null | undefined, where: string): 6 | 17 {
  if (protocol === 6 || protocol === 17) return protocol;
  throw new AnantaError("INVALID_ARGUMENT", `${where}: ${protocol ?? 0} is not supported; use 6 (TCP) or 17 (UDP)`);
}

export function checkBlock(block: ananta.v1.RangeBlock.$Properties | null | undefined, where: string): RangeBlock {
  const vip = checkAddress(block?.vip, `${where}.vip`);
  const protocol = checkProtocol(block?.protocol, `${where}.protocol`);
  const range = block?.range ?? 0;
  const count = block?.count ?? 0;
  if (range < RANGE_MIN || count < 1 || range + count > RANGE_END) {
    throw new AnantaError(
      "INVALID_ARGUMENT",
      `${where}: ranges ${range}..${range + count - 1} are not within ${RANGE_MIN}..${RANGE_END - 1}`,
    );
  }
  return { vip, protocol, range, count };
}

export function wireBlock(block: RangeBlock): ananta.v1.RangeBlock.$Properties {
  return { vip: block.vip, protocol: block.protocol, range: block.range, count: block.count };
}
