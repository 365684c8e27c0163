/** What is written: a key of 8 bytes and a value of 256, the size that etcd's own benchmark has. */
export const VALUE_BYTES = 256;
/** Few: it is the log that is measured, not a store. */
const KEYS = 1_024;
const value = new Uint8Array(VALUE_BYTES).fill(0x61);

export function keyOf(requester: number, round: number): Buffer {
  const key = Buffer.allocUnsafe(8);
  key.writeDoubleLE((requester + round) % KEYS);
  return key;
}

export const valueOf = (): Uint8Array => value;

export const payloadOf = (requester: number, round: number): Buffer => Buffer.concat([keyOf(requester, round), value]);
