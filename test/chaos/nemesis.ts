/** Does one fault after the other until time is up: two kills of the leader, then one of the others, each of them in turn. */
import type { Random } from "../../core/random.js";
import type { ChaosSite } from "./chaos-site.js";
import { KILL_LEADER, OTHER_FAULTS, shuffled, type Fault } from "./faults.js";

export interface Injected {
  readonly name: string;
  readonly target: string;
  readonly fromMs: number;
  readonly toMs: number;
}

/** As long as a process is stopped at most, when the run is long enough for it. */
const LONG_PAUSE_MS = 120_000;
const SETTLE_MS = 400;
const BACK_MS = 15_000;

export class Nemesis {
  readonly injected: Injected[] = [];
  readonly #chaos: ChaosSite;
  readonly #random: Random;
  readonly #say: (text: string) => void;
  #longPaused = false;

  constructor(chaos: ChaosSite, random: Random, say: (text: string) => void) {
    this.#chaos = chaos;
    this.#random = random;
    this.#say = say;
  }

  get leaderKills(): number {
    return this.injected.filter(({ name }) => name === KILL_LEADER.name).length;
  }

  async run(untilMs: number): Promise<void> {
    const { clock } = this.#chaos.env;
    const pause = this.#longPause(untilMs);
    let deck: readonly Fault[] = [];
    for (let round = 0; clock.nowMs() < untilMs; round++) {
      if (round % 3 < 2) await this.#inject(KILL_LEADER);
      else {
        if (deck.length === 0) deck = shuffled(this.#random, OTHER_FAULTS);
        const next = deck.find(({ wide }) => wide !== true || !this.#longPaused);
        deck = deck.filter((fault) => fault !== next);
        await this.#chaos.allAnswer(BACK_MS);
        if (next !== undefined) await this.#inject(next);
      }
      await this.#chaos.sleep(SETTLE_MS);
    }
    await pause;
  }

  async #inject(fault: Fault): Promise<void> {
    const { clock } = this.#chaos.env;
    const fromMs = clock.nowMs();
    const target = await fault.run(this.#chaos, this.#random);
    if (target === null) return;
    const toMs = clock.nowMs();
    this.injected.push({ name: fault.name, target, fromMs, toMs });
    this.#say(`${fault.name}: ${target}, ${((toMs - fromMs) / 1_000).toFixed(1)} s`);
  }

  /** Whoever leads then is stopped, beside the other faults: for up to two minutes, a third of the run at most. */
  async #longPause(untilMs: number): Promise<void> {
    const { clock } = this.#chaos.env;
    const lastsMs = Math.min(LONG_PAUSE_MS, (untilMs - clock.nowMs()) / 3);
    await this.#chaos.sleep(lastsMs);
    this.#longPaused = true;
    await this.#inject({
      name: "SIGSTOP for long",
      run: async (chaos) => {
        const leader = await chaos.leader();
        if (leader === null) return null;
        chaos.pause(leader.name);
        await chaos.sleep(lastsMs);
        chaos.resume(leader.name);
        return leader.name;
      },
    });
    this.#longPaused = false;
  }
}
