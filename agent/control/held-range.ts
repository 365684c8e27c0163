/** [pure] Port ranges as the agent keeps and declares them: by address, since ids mean nothing to the next process. */
import type { IpAddress } from "../../core/brands.js";
import type { PortProtocol } from "../../dataplane/mux-items.js";

export interface HeldRange {
  readonly vip: IpAddress;
  readonly protocol: PortProtocol;
  /** port >> 3, integer 128..8191. */
  readonly range: number;
  readonly tenant: string;
  readonly dip: IpAddress;
}

/** Neighbouring ranges of one DIP. */
export interface HeldBlock extends HeldRange {
  readonly count: number;
}

/** A range has one owner, so (VIP, protocol, range) names it. */
export const rangeName = ({ vip, protocol, range }: Pick<HeldRange, "vip" | "protocol" | "range">): string =>
  `${vip}/${protocol}/${range}`;

export const isHeldFor = (
  range: Pick<HeldRange, "tenant" | "dip">,
  dip: { readonly tenant: string; readonly address: IpAddress },
): boolean => range.tenant === dip.tenant && range.dip === dip.address;

/** Neighbours joined; sorted. */
export function heldBlocks(ranges: Iterable<HeldRange>): readonly HeldBlock[] {
  const owner = ({ vip, protocol, tenant, dip }: HeldRange): string => `${vip}/${protocol}/${tenant}/${dip}`;
  const sorted = [...ranges].sort((a, b) => (owner(a) < owner(b) ? -1 : owner(a) > owner(b) ? 1 : a.range - b.range));
  const blocks: HeldBlock[] = [];
  for (const range of sorted) {
    const last = blocks.at(-1);
    if (last !== undefined && owner(last) === owner(range) && last.range + last.count === range.range) {
      blocks[blocks.length - 1] = { ...last, count: last.count + 1 };
    } else blocks.push({ ...range, count: 1 });
  }
  return blocks;
}
