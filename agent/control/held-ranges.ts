/**
 * The durable record of the port ranges that this host may be using.
 *
 *     granted  --add, synced-->  on disk  --> used          so a restart declares whatever may have been in use
 *     stopped  --remove, synced--> gone   --> given back    so a restart never declares what another may own by then
 *
 *  (H1) A range is in this record, durably, before the first packet uses it.
 *  (H2) A range leaves it, durably, before its release is sent.
 *
 * One record per range: key "range/<vip>/<protocol>/<range>", value JSON {tenant, dip} behind a CRC-32 over key and value.
 * A record that fails the check is dropped: its range is not declared, so it rests in quarantine and nobody uses it.
 */
import { crc32 } from "node:zlib";
import type { AbstractBatchOptions } from "abstract-level";
import { parseIpAddress } from "../../core/address.js";
import { AnantaError } from "../../core/errors.js";
import type { PortProtocol } from "../../dataplane/mux-items.js";
import type { Disk, Log, Store } from "../../runtime/env.js";
import { heldBlocks, rangeName, type HeldBlock, type HeldRange } from "./held-range.js";

const PREFIX = "range/";
/** "0" follows "/" : the end of all keys with the prefix. */
const PREFIX_END = "range0";
const CRC_BYTES = 4;
/** abstract-level leaves the option to its implementations; all of ours know it. */
const SYNCED: { readonly sync: true } & AbstractBatchOptions<Uint8Array, Uint8Array> = { sync: true };

type Write =
  | { readonly type: "put"; readonly key: Uint8Array; readonly value: Uint8Array }
  | { readonly type: "del"; readonly key: Uint8Array };

export class HeldRanges {
  readonly #store: Store;
  readonly #held = new Map<string, HeldRange>();

  private constructor(store: Store) {
    this.#store = store;
  }

  /** Rejects with STORAGE_LOCKED, STORAGE_DAMAGED or STORAGE_FAILED. */
  static async open(disk: Disk, folder: string, log: Log): Promise<HeldRanges> {
    await disk.makeFolder(folder);
    const store = await disk.openStore(`${folder}/held-ranges`);
    const held = new HeldRanges(store);
    const damaged: Uint8Array[] = [];
    for await (const [key, value] of store.iterator({ gte: encode(PREFIX), lt: encode(PREFIX_END) })) {
      const range = decodeRecord(key, value);
      if (range === null) damaged.push(key);
      else held.#held.set(rangeName(range), range);
    }
    if (damaged.length > 0) {
      log.error("damaged records of held ranges: dropped, their ranges will rest in quarantine", {
        records: damaged.length,
      });
      await store.batch(
        damaged.map((key) => ({ type: "del" as const, key })),
        SYNCED,
      );
    }
    return held;
  }

  get size(): number {
    return this.#held.size;
  }

  has(range: Pick<HeldRange, "vip" | "protocol" | "range">): boolean {
    return this.#held.has(rangeName(range));
  }

  get(range: Pick<HeldRange, "vip" | "protocol" | "range">): HeldRange | null {
    return this.#held.get(rangeName(range)) ?? null;
  }

  ranges(): Iterable<HeldRange> {
    return this.#held.values();
  }

  /** As declared in a hello. */
  blocks(): readonly HeldBlock[] {
    return heldBlocks(this.#held.values());
  }

  /** Durable once it resolves (H1). Rejects with STORAGE_FAILED: then none of them may be used. */
  async add(ranges: readonly HeldRange[]): Promise<void> {
    if (ranges.length === 0) return;
    await this.#write(ranges.map((range) => ({ type: "put" as const, key: keyOf(range), value: encodeRecord(range) })));
    for (const range of ranges) this.#held.set(rangeName(range), range);
  }

  /** Durable once it resolves (H2). */
  async remove(ranges: readonly Pick<HeldRange, "vip" | "protocol" | "range">[]): Promise<void> {
    const present = ranges.filter((range) => this.has(range));
    if (present.length === 0) return;
    await this.#write(present.map((range) => ({ type: "del" as const, key: keyOf(range) })));
    for (const range of present) this.#held.delete(rangeName(range));
  }

  async close(): Promise<void> {
    await this.#store.close();
  }

  async #write(writes: readonly Write[]): Promise<void> {
    try {
      await this.#store.batch([...writes], SYNCED);
    } catch (caught) {
      throw new AnantaError("STORAGE_FAILED", "the record of held ranges cannot be written", {}, { cause: caught });
    }
  }
}

const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
const keyOf = (range: Pick<HeldRange, "vip" | "protocol" | "range">): Uint8Array => encode(PREFIX + rangeName(range));

function encodeRecord(range: HeldRange): Uint8Array {
  const json = encode(JSON.stringify({ tenant: range.tenant, dip: range.dip }));
  const record = new Uint8Array(CRC_BYTES + json.length);
  record.set(json, CRC_BYTES);
  new DataView(record.buffer).setUint32(0, checksum(keyOf(range), json));
  return record;
}

function decodeRecord(key: Uint8Array, record: Uint8Array): HeldRange | null {
  if (record.length < CRC_BYTES) return null;
  const json = record.subarray(CRC_BYTES);
  const stored = new DataView(record.buffer, record.byteOffset).getUint32(0);
  if (stored !== checksum(key, json)) return null;
  const [vipText, protocol, range] = new TextDecoder().decode(key).slice(PREFIX.length).split("/");
  const { tenant, dip } = JSON.parse(new TextDecoder().decode(json)) as { tenant: string; dip: string };
  const vip = parseIpAddress(vipText ?? "");
  const dipAddress = parseIpAddress(dip);
  if (vip === null || dipAddress === null) return null;
  return { vip, protocol: Number(protocol) as PortProtocol, range: Number(range), tenant, dip: dipAddress };
}

const checksum = (key: Uint8Array, json: Uint8Array): number => crc32(json, crc32(key));
