/** Watches the free space of the log's file system, so that proposals stop before LevelDB meets a full disk. */
import type { Clock, Log, Timer } from "../../runtime/env.js";
import type { RaftStorage } from "./storage/storage.js";

const RESERVE_BYTES = 64 * 1024 * 1024;
const CHECK_MS = 1_000;

export class StorageReserve {
  readonly #storage: Pick<RaftStorage, "freeBytes">;
  readonly #clock: Clock;
  readonly #log: Log;
  #timer: Timer | null = null;
  #running = false;
  #reached = false;

  constructor(options: { readonly storage: Pick<RaftStorage, "freeBytes">; readonly clock: Clock; readonly log: Log }) {
    this.#storage = options.storage;
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** Less than the reserve is free. */
  get reached(): boolean {
    return this.#reached;
  }

  start(): void {
    this.#running = true;
    this.#check();
  }

  stop(): void {
    this.#running = false;
    this.#timer?.cancel();
  }

  #check(): void {
    this.#storage.freeBytes().then(
      (free) => {
        const reached = free < RESERVE_BYTES;
        if (reached !== this.#reached)
          this.#log.warn(reached ? "free disk is below the reserve" : "free disk is above the reserve again", { free });
        this.#reached = reached;
        this.#again();
      },
      () => this.#again(), // not knowing is no reason to stop; a full disk shows in the writes
    );
  }

  #again(): void {
    if (this.#running) this.#timer = this.#clock.setTimer(CHECK_MS, () => this.#check());
  }
}
