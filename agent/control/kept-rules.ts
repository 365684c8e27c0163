/**
 * The host's rules on disk: what was in force last, so that a restarted agent serves its machines before it has heard a Manager,
 * and also when there is none to be heard.
 *
 *     in force --after a while, the newest only--> on disk --start--> in force again, at index 0 --> the Managers' view
 *
 *  (K1) Port ranges are not among them: whether they are still ours, a Manager says (`held-ranges.ts`). Connections by SNAT
 *       therefore end with the agent; connections to VIPs go on, since their rule tells the way of every packet.
 *  (K2) Rules may be out of date. A MUX sends only what its own, newer rules say; what differs is put right by the first view.
 *  (K3) What cannot be read, is of another cluster, or does not fit is not used, and said so.
 *  (K4) Keys are not written down: without the one for FastPath none of its messages is believed, until the first view.
 */
import { crc32 } from "node:zlib";
import type { AbstractPutOptions } from "abstract-level";
import { AnantaError } from "../../core/errors.js";
import type { HostItem } from "../../dataplane/host-items.js";
import type { Clock, Disk, Log, Store, Timer } from "../../runtime/env.js";
import type { DipConfig } from "../config.js";

/** Rules change in bursts; what is lost with the last seconds comes again from the Managers. */
const WRITE_DELAY_MS = 1_000;
/** Of the form below. A record of another form is not used. */
const FORM = 1;
const KEY = new TextEncoder().encode("rules");
const CRC_BYTES = 4;
/** abstract-level leaves the option to its implementations; all of ours know it. */
const SYNCED: { readonly sync: true } & AbstractPutOptions<Uint8Array, Uint8Array> = { sync: true };

interface Record {
  readonly form: number;
  readonly clusterId: string;
  readonly items: readonly HostItem[];
}

export class KeptRules {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #clusterId: string;
  #timer: Timer | null = null;
  #wasUsed = false;
  #writing: Promise<void> = Promise.resolve();

  private constructor(store: Store, clock: Clock, log: Log, clusterId: string) {
    this.#store = store;
    this.#clock = clock;
    this.#log = log;
    this.#clusterId = clusterId;
  }

  /** Rejects with STORAGE_LOCKED, STORAGE_DAMAGED or STORAGE_FAILED. */
  static async open(
    env: { readonly disk: Disk; readonly clock: Clock; readonly log: Log },
    folder: string,
    clusterId: string,
  ): Promise<KeptRules> {
    await env.disk.makeFolder(folder);
    return new KeptRules(await env.disk.openStore(`${folder}/rules`), env.clock, env.log, clusterId);
  }

  /** Rules of before, for those of its DIPs that the host still has; empty: there are none that can be used (K3). */
  async read(dips: readonly DipConfig[]): Promise<readonly HostItem[]> {
    const bytes = await this.#store.get(KEY);
    if (bytes === undefined) return [];
    this.#wasUsed = true;
    const record = decode(bytes);
    if (record?.form !== FORM || record.clusterId !== this.#clusterId) {
      this.#log.warn("rules of before are not used", {
        reason: record === null ? "damaged" : record.form === FORM ? "of another cluster" : "of another form",
      });
      return [];
    }
    const here = new Set(dips.map(({ tenant, address }) => `${tenant}/${address}`));
    const gone = new Set(
      record.items.flatMap((item) =>
        item.kind === "dip" && !here.has(`${item.tenant}/${item.address}`) ? [item.dipId] : [],
      ),
    );
    return record.items.filter((item) => !("dipId" in item) || !gone.has(item.dipId));
  }

  /** `read` found rules of before, even if they cannot be used. */
  get wasUsed(): boolean {
    return this.#wasUsed;
  }

  /** `items` is asked when it is time to write. */
  writeSoon(items: () => Iterable<HostItem>): void {
    this.#timer ??= this.#clock.setTimer(WRITE_DELAY_MS, () => {
      this.#timer = null;
      this.#writing = this.#writing.then(() => this.#write(items()));
    });
  }

  async close(): Promise<void> {
    this.#timer?.cancel();
    await this.#writing;
    await this.#store.close();
  }

  async #write(items: Iterable<HostItem>): Promise<void> {
    const kept = [...items].filter(({ kind }) => kind !== "range").map(withoutKey); // (K1), (K4)
    try {
      await this.#store.put(KEY, encode({ form: FORM, clusterId: this.#clusterId, items: kept }), SYNCED);
    } catch (caught) {
      this.#log.error("the host's rules cannot be kept on disk", { reason: AnantaError.from(caught).message });
    }
  }
}

/** The item as it is kept (K4). */
function withoutKey(item: HostItem): HostItem {
  if (item.kind !== "dip" || item.fastpathKey === undefined) return item;
  const { fastpathKey: _, ...kept } = item;
  return kept;
}

/** JSON behind its CRC-32; bytes (the hash key) as {hex}. */
function encode(record: Record): Uint8Array {
  const text = JSON.stringify(record, (_, value: unknown) =>
    value instanceof Uint8Array ? { hex: Buffer.from(value).toString("hex") } : value,
  );
  const json = new TextEncoder().encode(text);
  const bytes = new Uint8Array(CRC_BYTES + json.length);
  bytes.set(json, CRC_BYTES);
  new DataView(bytes.buffer).setUint32(0, crc32(json));
  return bytes;
}

function decode(bytes: Uint8Array): Record | null {
  const json = bytes.subarray(CRC_BYTES);
  if (bytes.length < CRC_BYTES) return null;
  if (new DataView(bytes.buffer, bytes.byteOffset).getUint32(0) !== crc32(json)) return null;
  // It is what we wrote, by its checksum.
  return JSON.parse(new TextDecoder().decode(json), (_, value: unknown) =>
    typeof value === "object" && value !== null && "hex" in value && typeof value.hex === "string"
      ? Uint8Array.from(Buffer.from(value.hex, "hex"))
      : value,
  ) as Record;
}
