/** Integers up to 2^53 - 1 as 64 bits, big-endian: what numbers of the control plane need in messages, without BigInt. */
const TWO_TO_32 = 0x1_0000_0000;

export function setLong(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / TWO_TO_32));
  view.setUint32(at + 4, value % TWO_TO_32);
}

/** Beyond 2^53 - 1 it is only near the value that was written: compare such numbers with what you know. */
export const getLong = (view: DataView, at: number): number => view.getUint32(at) * TWO_TO_32 + view.getUint32(at + 4);
