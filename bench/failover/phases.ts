/**
 * Where the time of a failover goes, from what the replicas log: each line has the wall clock of this one machine.
 *
 *     blow -> noticed -> asked -> elected -> in office -> answered
 */
import { readFileSync, statSync } from "node:fs";

/** ms after the blow, of whichever replica came first; NaN: not found. */
export interface Phases {
  /** The first follower knows that the leader is gone, or its election timer ran out. */
  readonly noticed: number;
  /** The winner became a candidate: a quorum would vote. */
  readonly candidate: number;
  readonly elected: number;
  /** The first entry of the new term is committed and applied. */
  readonly inOffice: number;
  /** Candidacies of the election that followed, the winner's included. */
  readonly candidacies: number;
}

interface Line {
  readonly time: string;
  readonly event: string;
  readonly term?: number;
}

export class PhaseReader {
  readonly #paths: readonly string[];
  #offsets: readonly number[] = [];

  /** Log files of all replicas. */
  constructor(paths: readonly string[]) {
    this.#paths = paths;
  }

  /** Just before the blow. */
  mark(): void {
    this.#offsets = this.#paths.map((path) => statSync(path).size);
  }

  /** `atWallMs`: ms since 1970 of the blow. */
  read(atWallMs: number): Phases {
    const lines = this.#paths.flatMap((path, at) =>
      readFileSync(path)
        .subarray(this.#offsets[at] ?? 0)
        .toString("utf8")
        .split("\n")
        .filter((line) => line.startsWith("{"))
        .map((line) => JSON.parse(line) as Line),
    );
    const first = (...events: readonly string[]): number => {
      const times = lines.filter(({ event }) => events.includes(event)).map(({ time }) => Date.parse(time) - atWallMs);
      return times.length === 0 ? Number.NaN : Math.min(...times.filter((time) => time >= -1));
    };
    const leader = lines.findLast(({ event }) => event === "became leader");
    const won = lines.find(({ event, term }) => event === "became candidate" && term === leader?.term);
    return {
      noticed: first("leader is gone", "asking for pre-votes"),
      candidate: won === undefined ? Number.NaN : Date.parse(won.time) - atWallMs,
      elected: first("became leader"),
      inOffice: first("took office"),
      candidacies: lines.filter(({ event }) => event === "became candidate").length,
    };
  }
}
