/** Write options that abstract-level's types do not know: LevelDB's fsync before the promise resolves. Its default is false. */
import type { AbstractBatchOptions } from "abstract-level";

export const SYNCED: { readonly sync: true } & AbstractBatchOptions<Uint8Array, Uint8Array> = { sync: true };
