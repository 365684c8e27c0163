/** What a VIP's ports mean: rules (VIP, protocol, port) -> pool, and all-port rules (VIP, protocol or 0, port 0) -> pool. */
import type { Distribution } from "../../dataplane/flow-hash.js";
import type { MuxRuleItem } from "../../dataplane/mux-items.js";
import { RecordTable } from "../../dataplane/record-table.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import type { Pool, PoolTable } from "./pool-table.js";

export class RuleTable {
  readonly #records: RecordTable;
  readonly #pools: (Pool | null)[] = [];
  readonly #distributions: Uint8Array;
  /** Class of idle time in the flow table. */
  readonly idleClasses: Uint8Array;
  readonly #stays: Uint8Array;
  #allPortCount = 0;

  constructor(capacity: number) {
    this.#records = new RecordTable(capacity);
    this.#distributions = new Uint8Array(capacity);
    this.idleClasses = new Uint8Array(capacity);
    this.#stays = new Uint8Array(capacity);
  }

  get size(): number {
    return this.#records.size;
  }

  /** The exact rule, or `NOT_FOUND`. */
  find(vipId: number, protocol: number, port: number): number {
    return this.#records.find(vipId, (protocol << 16) | port);
  }

  /** The all-port rule of the protocol, else that of all protocols, else `NOT_FOUND`. */
  findAllPorts(vipId: number, protocol: number): number {
    if (this.#allPortCount === 0) return NOT_FOUND;
    const rule = this.#records.find(vipId, protocol << 16);
    return rule === NOT_FOUND ? this.#records.find(vipId, 0) : rule;
  }

  pool(rule: number): Pool {
    return this.#pools[rule]!; // every rule in use names one
  }

  distribution(rule: number): Distribution {
    return this.#distributions[rule]! as Distribution;
  }

  /** No FastPath for its flows. */
  staysOnMuxes(rule: number): boolean {
    return this.#stays[rule] === 1;
  }

  put(item: MuxRuleItem, pools: PoolTable, idleClass: number): void {
    const key = (item.protocol << 16) | item.port;
    const isNew = this.#records.find(item.vipId, key) === NOT_FOUND;
    const rule = this.#records.upsert(item.vipId, key);
    if (isNew && item.port === 0) this.#allPortCount++;
    const pool = pools.use(item.poolId);
    if (!isNew) pools.release(this.pool(rule));
    this.#pools[rule] = pool;
    this.#distributions[rule] = item.distribution ?? 0;
    this.idleClasses[rule] = idleClass;
    this.#stays[rule] = item.fastpath === false ? 1 : 0;
  }

  remove(item: MuxRuleItem, pools: PoolTable): void {
    const rule = this.#records.find(item.vipId, (item.protocol << 16) | item.port);
    if (rule === NOT_FOUND) return;
    if (item.port === 0) this.#allPortCount--;
    pools.release(this.pool(rule));
    this.#pools[rule] = null;
    this.#records.remove(rule);
  }
}
