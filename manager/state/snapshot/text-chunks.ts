/** Lines of text as byte chunks of bounded size, and back. Chunks are cut anywhere, also inside a line or a character. */
import { assert } from "../../../core/assert.js";

/** What the consensus module takes as one chunk of a snapshot: 1 MiB. */
export const CHUNK_BYTES_MAX = 1 << 20;

export class ChunkWriter {
  private full: Uint8Array[] = [];
  private current = new Uint8Array(CHUNK_BYTES_MAX);
  private used = 0;
  private readonly encoder = new TextEncoder();

  writeByte(byte: number): void {
    this.writeBytes(Uint8Array.of(byte));
  }

  /** Returns the number of bytes. */
  writeLine(line: string): number {
    const bytes = this.encoder.encode(`${line}\n`);
    this.writeBytes(bytes);
    return bytes.length;
  }

  /** The chunks that have become full since the last call. */
  takeFull(): readonly Uint8Array[] {
    const taken = this.full;
    this.full = [];
    return taken;
  }

  /** What is left. */
  finish(): readonly Uint8Array[] {
    if (this.used > 0) this.full.push(this.current.slice(0, this.used));
    this.used = 0;
    return this.takeFull();
  }

  private writeBytes(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      if (this.used === CHUNK_BYTES_MAX) {
        this.full.push(this.current);
        this.current = new Uint8Array(CHUNK_BYTES_MAX);
        this.used = 0;
      }
      const part = bytes.subarray(at, at + CHUNK_BYTES_MAX - this.used);
      this.current.set(part, this.used);
      this.used += part.length;
      at += part.length;
    }
  }
}

/** The lines of the chunks after the first byte, which goes to `checkFirstByte` before anything else is looked at. */
export function* readLines(chunks: Iterable<Uint8Array>, checkFirstByte: (byte: number) => void): Iterable<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let rest = "";
  let isFirst = true;
  for (const chunk of chunks) {
    const first: number | undefined = isFirst ? chunk[0] : undefined;
    if (first !== undefined) checkFirstByte(first);
    const lines = (rest + decoder.decode(first === undefined ? chunk : chunk.subarray(1), { stream: true })).split(
      "\n",
    );
    isFirst = isFirst && first === undefined;
    rest = lines.pop() ?? "";
    yield* lines;
  }
  rest += decoder.decode();
  assert(rest === "", "the last line of a snapshot is complete");
}
