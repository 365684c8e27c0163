/**
 * The same client for etcd: as many requesters at the same moments, spread over all members, each with one write open; one
 * that is refused goes to the next member at once, one that is not answered for 150 ms goes to the next one, too.
 */
import { Turns } from "../../fabric/turns.js";
import type { EtcdClient } from "../etcd/etcd-client.js";
import { keyOf, valueOf } from "../replica/payload.js";
import { pause } from "./gaps.js";

const HEDGE_MS = 150;
const ROUND_PAUSE_MS = 10;

export class EtcdLoad {
  readonly answeredMs: number[] = [];
  readonly #client: EtcdClient;
  readonly #members: number;
  readonly #running: readonly Promise<void>[];
  #stopping = false;

  constructor(
    client: EtcdClient,
    options: { readonly members: number; readonly requesters: number; readonly periodMs: number },
  ) {
    this.#client = client;
    this.#members = options.members;
    const { requesters, periodMs } = options;
    const nowMs = performance.now();
    this.#running = Array.from({ length: requesters }, (_, id) =>
      this.#request(id, new Turns(nowMs + (periodMs * id) / requesters, periodMs)),
    );
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running);
  }

  async #request(id: number, turns: Turns): Promise<void> {
    await pause(turns.untilNextMs(performance.now()));
    let member = id % this.#members;
    for (let round = 0; !this.#stopping; round++) {
      for (let tried = 1; ; tried++) {
        try {
          await this.#client.put(member, keyOf(id, round), valueOf(), HEDGE_MS);
          break;
        } catch {
          member = (member + 1) % this.#members;
          if (this.#stopping) return;
          if (tried % this.#members === 0) await pause(ROUND_PAUSE_MS);
        }
      }
      this.answeredMs.push(performance.now());
      await pause(turns.untilNextMs(performance.now()));
    }
  }
}
