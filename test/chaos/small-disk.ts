/**
 * A disk that can be filled: a small tmpfs under one replica's data folder where this process may mount, otherwise a flag
 * file that makes the child's own look at free space answer "none" (reroute.ts).
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { atExit } from "../../bench/measure/cleanup.js";

/** Well above the reserve below which proposals are refused (64 MiB) and what a run of some minutes writes. */
const SIZE_MIB = 256;
const CHUNK_BYTES = 1024 * 1024;

export class SmallDisk {
  readonly kind: "tmpfs" | "shim";
  readonly #filler: string;
  readonly #forget: () => void;
  readonly #folder: string;

  /** `folder`: the replica's data folder, not yet in use; `flags`: where flag files of the shim are. */
  constructor(folder: string, flags: string, name: string) {
    this.#folder = folder;
    mkdirSync(folder, { recursive: true });
    const mounted =
      process.platform === "linux" &&
      process.getuid?.() === 0 &&
      spawnSync("mount", ["-t", "tmpfs", "-o", `size=${SIZE_MIB}m`, "ananta-chaos", folder]).status === 0;
    this.kind = mounted ? "tmpfs" : "shim";
    this.#filler = mounted ? join(folder, "filler") : join(flags, name);
    this.#forget = mounted ? atExit(() => unmount(folder)) : () => undefined;
  }

  fill(): void {
    if (this.kind === "shim") {
      writeFileSync(this.#filler, "");
      return;
    }
    const { bavail, bsize } = statfsSync(this.#folder);
    const chunk = Buffer.alloc(CHUNK_BYTES);
    try {
      for (let left = bavail * bsize; left > 0; left -= CHUNK_BYTES) {
        writeFileSync(this.#filler, chunk.subarray(0, Math.min(left, CHUNK_BYTES)), { flag: "a" });
      }
    } catch (caught) {
      if ((caught as NodeJS.ErrnoException).code !== "ENOSPC") throw caught; // full is what was wanted
    }
  }

  empty(): void {
    rmSync(this.#filler, { force: true });
  }

  /** After the replica has ended. */
  remove(): void {
    this.#forget();
    if (this.kind === "tmpfs") unmount(this.#folder);
  }
}

function unmount(folder: string): void {
  spawnSync("umount", ["-l", folder]);
}
