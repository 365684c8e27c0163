/**
 * The wires between simulated processes, by name: delay, loss, and which pairs are cut. A process that is in no partition
 * group reaches everybody.
 */
import type { Random } from "../../core/random.js";

export interface LinkOptions {
  /** One-way delay, uniform in [lo, hi] ms. */
  readonly delayMs: readonly [number, number];
  /** Datagrams only, each a probability in [0, 1]. */
  readonly loss: number;
  readonly duplicate: number;
  /** Share of datagrams that take a detour of up to `detourMs`. */
  readonly reorder: number;
  readonly detourMs: number;
  /** Share of a stream's frames that need a retransmission, which takes up to `retransmitMs`; the frames behind wait. */
  readonly streamLoss: number;
  readonly retransmitMs: number;
}

export const DEFAULT_LINK: LinkOptions = {
  delayMs: [0.1, 0.4], // one data centre
  loss: 0,
  duplicate: 0,
  reorder: 0,
  detourMs: 2,
  streamLoss: 0,
  retransmitMs: 60, // TCP's smallest retransmission time-out is 40 to 200 ms
};

export class Links {
  readonly #random: Random;
  #default: LinkOptions;
  readonly #special = new Map<string, LinkOptions>();
  /** "from>to", with the time since when. */
  readonly #cut = new Map<string, number>();

  constructor(random: Random, standard: LinkOptions) {
    this.#random = random;
    this.#default = standard;
  }

  /** Both directions of one link; what is not given keeps the world's default. */
  set(a: string, b: string, options: Partial<LinkOptions>): void {
    for (const key of [`${a}>${b}`, `${b}>${a}`]) this.#special.set(key, { ...this.#default, ...options });
  }

  /** All links that were not set apart. */
  setDefault(options: Partial<LinkOptions>): void {
    this.#default = { ...this.#default, ...options };
  }

  /** One direction of one link; null: as the world's default again. */
  setOneWay(from: string, to: string, options: Partial<LinkOptions> | null): void {
    if (options === null) this.#special.delete(`${from}>${to}`);
    else this.#special.set(`${from}>${to}`, { ...this.#default, ...options });
  }

  clearSpecial(): void {
    this.#special.clear();
  }

  cut(from: string, to: string, nowMs: number): void {
    if (from !== to && !this.#cut.has(`${from}>${to}`)) this.#cut.set(`${from}>${to}`, nowMs);
  }

  mend(from: string, to: string): void {
    this.#cut.delete(`${from}>${to}`);
  }

  mendAll(): void {
    this.#cut.clear();
  }

  isCut(from: string, to: string): boolean {
    return this.#cut.size > 0 && this.#cut.has(`${from}>${to}`);
  }

  /** Since when, or null. */
  cutSinceMs(from: string, to: string): number | null {
    return this.#cut.get(`${from}>${to}`) ?? null;
  }

  streamDelay(from: string, to: string): number {
    const options = this.#options(from, to);
    const delayMs = this.#delay(options);
    if (options.streamLoss === 0 || this.#random.nextFloat() >= options.streamLoss) return delayMs;
    return delayMs + this.#random.nextFloat() * options.retransmitMs;
  }

  /** One delay per copy that arrives: none when lost, two when duplicated. */
  datagramDelays(from: string, to: string): readonly number[] {
    const options = this.#options(from, to);
    if (options.loss > 0 && this.#random.nextFloat() < options.loss) return [];
    const copies = options.duplicate > 0 && this.#random.nextFloat() < options.duplicate ? 2 : 1;
    return Array.from({ length: copies }, () => {
      const detour = options.reorder > 0 && this.#random.nextFloat() < options.reorder;
      return this.#delay(options) + (detour ? this.#random.nextFloat() * options.detourMs : 0);
    });
  }

  /** Uniform in [0, bound). */
  chance(bound: number): number {
    return this.#random.nextFloat() * bound;
  }

  #delay({ delayMs: [lo, hi] }: LinkOptions): number {
    return lo + (hi - lo) * this.#random.nextFloat();
  }

  #options(from: string, to: string): LinkOptions {
    return this.#special.get(`${from}>${to}`) ?? this.#default;
  }
}
