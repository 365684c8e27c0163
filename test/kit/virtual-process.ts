/**
 * One run of one simulated process: the gate between the world's events and the code under test.
 *
 *   running   events are delivered
 *   paused    (SIGSTOP) events are held and delivered in order on resume; the kernel still accepts and buffers for it
 *   crashed   nothing is ever delivered again; calls into its env do nothing and their promises never settle
 *
 * Everything it holds open (timers apart) is registered, so that a test can ask what was left behind.
 */
import type { ScheduledEvent, VirtualClock } from "./virtual-clock.js";

export type ResourceKind = "server" | "channel" | "stream" | "call" | "datagram socket" | "store" | "file";

export interface Resource {
  readonly kind: ResourceKind;
  readonly label: string;
}

/** What a crashed process awaits. */
export function never<T>(): Promise<T> {
  return new Promise<T>(() => {});
}

export class VirtualProcess {
  readonly name: string;
  /** 1 for the first start of this name, then 2, 3 ... */
  readonly incarnation: number;
  readonly clock: VirtualClock;
  readonly resources = new Set<Resource>();
  /** One token per pending timer of the env. */
  readonly timers = new Set<object>();
  #state: "running" | "paused" | "crashed" = "running";
  #held: (() => void)[] = [];
  #pausedSinceMs = 0;
  /** Called when something is delivered to it: it may have changed. */
  onDelivered: (() => void) | null = null;

  constructor(name: string, incarnation: number, clock: VirtualClock) {
    this.name = name;
    this.incarnation = incarnation;
    this.clock = clock;
  }

  get state(): "running" | "paused" | "crashed" {
    return this.#state;
  }

  get crashed(): boolean {
    return this.#state === "crashed";
  }

  /** Null unless paused. */
  get pausedSinceMs(): number | null {
    return this.#state === "paused" ? this.#pausedSinceMs : null;
  }

  /** Delivers `run` to this process `delayMs` from now, later if it is paused then, never if it has crashed. */
  schedule(delayMs: number, run: () => void): ScheduledEvent {
    let cancelled = false;
    const event = this.clock.schedule(delayMs, () => {
      this.deliver(() => {
        if (!cancelled) run();
      });
    });
    return {
      cancel: () => {
        cancelled = true;
        event.cancel();
      },
    };
  }

  /** Runs `run` at once, or holds it while paused. Called from world events only. */
  deliver(run: () => void): void {
    if (this.#state === "running") {
      this.onDelivered?.();
      run();
    } else if (this.#state === "paused") this.#held.push(run);
  }

  /** The result of an operation of the kernel that takes `delayMs`; `effect` runs when it completes. */
  operation<T>(delayMs: number, effect: () => T): Promise<T> {
    if (this.crashed) return never();
    return new Promise<T>((resolve, reject) => {
      this.schedule(delayMs, () => {
        try {
          resolve(effect());
        } catch (caught) {
          reject(caught);
        }
      });
    });
  }

  pause(): void {
    if (this.#state !== "running") return;
    this.#state = "paused";
    this.#pausedSinceMs = this.clock.nowMs;
  }

  /** Held events become due now, in their old order, before anything that becomes due later. */
  resume(): void {
    if (this.#state !== "paused") return;
    this.#state = "running";
    const held = this.#held;
    this.#held = [];
    for (const run of held) this.clock.schedule(0, () => this.deliver(run));
  }

  crash(): void {
    if (this.#state === "crashed") return;
    this.#state = "crashed";
    this.#held = [];
    this.resources.clear();
    this.timers.clear();
  }

  /** Registers something open; the returned function registers that it was closed. */
  hold(kind: ResourceKind, label: string): () => void {
    const resource: Resource = { kind, label };
    if (!this.crashed) this.resources.add(resource);
    return () => this.resources.delete(resource);
  }
}
