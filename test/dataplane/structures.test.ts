/** Fast structures against naive models: random operations from a printed seed. */
import { describe, expect, it } from "vitest";
import { createRandom } from "../../core/random.js";
import { AgedQueues, NO_RECORD, TOUCH_MS } from "../../dataplane/aged-queues.js";
import { EventRing } from "../../dataplane/event-ring.js";
import { PacketBatch } from "../../dataplane/packet-batch.js";
import { RecordTable } from "../../dataplane/record-table.js";
import { TokenBucket } from "../../dataplane/token-bucket.js";
import { NOT_FOUND, WordIndex } from "../../dataplane/word-index.js";
import { SEED } from "../packet/packet-kit.js";

describe("a word index", () => {
  it.each([
    { description: "hashes that spread", hashBits: 32 },
    { description: "hashes that nearly all collide", hashBits: 2 },
  ])("finds what a Map finds, with $description", ({ hashBits }) => {
    const random = createRandom(SEED + hashBits);
    const capacity = 200;
    const index = new WordIndex(capacity);
    const model = new Map<string, { record: number; hash: number }>();
    const free = Array.from({ length: capacity }, (_, i) => i);
    const keyOf = (n: number): [number, number, number, number] => [(0xf000_0000 + n) >>> 0, n * 7, n % 3, 17 << 24];
    const hashOf = (n: number): number => (Math.imul(n, 0x9e3779b1) >>> 0) % 2 ** hashBits;
    for (let round = 0; round < 6_000; round++) {
      const n = random.below(400);
      const key = keyOf(n);
      const known = model.get(key.join());
      expect(index.find(hashOf(n), ...key), `seed ${SEED} round ${round}`).toBe(known?.record ?? NOT_FOUND);
      if (known !== undefined && random.below(2) === 0) {
        index.remove(known.record);
        model.delete(key.join());
        free.push(known.record);
      } else if (known === undefined && free.length > 0) {
        const record = free.pop()!;
        index.insert(record, hashOf(n), ...key);
        model.set(key.join(), { record, hash: hashOf(n) });
      }
      expect(index.size).toBe(model.size);
    }
  });
});

describe("aged queues", () => {
  it("expire in the order of a naive model", () => {
    const random = createRandom(SEED);
    const lifetimes = [1_000, 5_000];
    const queues = new AgedQueues(50, lifetimes);
    const model = new Map<number, { queue: number; seen: number }>();
    let now = 2 ** 32 - 20_000; // crosses the wrap of 32-bit times
    for (let round = 0; round < 6_000; round++) {
      now += random.below(40);
      const live = [...model.keys()];
      const record = live[random.below(Math.max(1, live.length))];
      const action = random.below(4);
      if (action === 0 || record === undefined) {
        const queue = random.below(2);
        const added = queues.add(queue, now);
        expect(added === NO_RECORD).toBe(model.size === 50);
        if (added !== NO_RECORD) model.set(added, { queue, seen: now });
      } else if (action === 1) {
        const queue = random.below(2);
        queues.move(record, queue, now);
        model.set(record, { queue, seen: now });
      } else if (action === 2) {
        queues.touch(record, now);
        const state = model.get(record)!;
        if (now - state.seen >= TOUCH_MS) state.seen = now;
      } else if (random.below(4) === 0) {
        queues.free(record);
        model.delete(record);
      }
      for (const queue of [0, 1]) {
        const due = [...model].filter(([, state]) => state.queue === queue && now - state.seen >= lifetimes[queue]!);
        const oldest = Math.min(...due.map(([, state]) => state.seen));
        const expired = queues.expired(queue, now);
        expect(expired === NO_RECORD, `seed ${SEED} round ${round}`).toBe(due.length === 0);
        if (expired === NO_RECORD) continue;
        expect(model.get(expired)!.seen).toBe(oldest);
        queues.free(expired);
        model.delete(expired);
      }
      expect(queues.size).toBe(model.size);
      expect(queues.sizes[0]).toBe([...model.values()].filter((state) => state.queue === 0).length);
    }
  });
});

describe("a record table", () => {
  it("says when it is full, and finds room again after a removal", () => {
    const table = new RecordTable(2);
    const first = table.upsert(1);
    expect(table.upsert(2)).not.toBe(NOT_FOUND);
    expect(table.upsert(3)).toBe(NOT_FOUND);
    expect(table.upsert(1)).toBe(first);
    table.remove(first);
    expect(table.find(1)).toBe(NOT_FOUND);
    expect(table.upsert(3)).toBe(first);
    expect(table.keyWord(first, 0)).toBe(3);
  });
});

describe("an event ring", () => {
  it("keeps the oldest events when full and counts what it lost", () => {
    const ring = new EventRing(2);
    for (let i = 1; i <= 4; i++) ring.push(3, i, 6, 0x0a000001, 1_000 + i, 0xffff_ffff, 80, 7, 9);
    expect(ring.lost).toBe(2);
    const [first, ...rest] = ring.drain(10);
    expect(first).toEqual({
      kind: "hold",
      atMs: 1,
      tuple: {
        protocol: 6,
        source: "10.0.0.1",
        sourcePort: 1_001,
        destination: "255.255.255.255",
        destinationPort: 80,
      },
      vipId: 7,
      dipId: 9,
    });
    expect(rest.map(({ atMs }) => atMs)).toEqual([2]);
    expect(ring.drain(10)).toEqual([]);
  });
});

describe("a packet batch", () => {
  it("refuses a packet that does not fit, and takes the next one that does", () => {
    const batch = new PacketBatch({ packets: 2, bytes: 100 });
    expect(batch.append(new Uint8Array(60).fill(1))).toBe(true);
    expect(batch.append(new Uint8Array(60).fill(2))).toBe(false);
    expect(batch.append(new Uint8Array(40).fill(3), 7)).toBe(true);
    expect(batch.append(new Uint8Array(0))).toBe(false);
    expect([batch.count, batch.usedBytes, batch.links[1]]).toEqual([2, 100, 7]);
    expect(batch.packet(1)).toEqual(new Uint8Array(40).fill(3));
  });

  it("copies any length at any offset", () => {
    const from = new PacketBatch({ packets: 1, bytes: 64 });
    from.arena.forEach((_, i) => (from.arena[i] = i));
    for (let length = 0; length < 12; length++) {
      const to = new PacketBatch({ packets: 1, bytes: 64 });
      to.copyIn(from, 3, 5, length);
      expect([...to.arena.subarray(4, 6 + length)]).toEqual([0, ...Array.from({ length }, (_, i) => 3 + i), 0]);
    }
  });
});

describe("a token bucket", () => {
  it("gives its burst at once and its rate in the long run", () => {
    const bucket = new TokenBucket(10, 3);
    const taken = (from: number, to: number): number => {
      let count = 0;
      for (let now = from; now < to; now++) if (bucket.take(now)) count++;
      return count;
    };
    expect(taken(0, 10)).toBe(3);
    expect(taken(10, 1_010)).toBe(10);
  });
});
