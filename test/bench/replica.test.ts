/** What the benchmark's replicas are made of holds what they are measured for. */
import { expect, test } from "vitest";
import type { LogIndex, Term } from "../../core/brands.js";
import { measureCore } from "../../bench/replica/core-alone.js";
import { KeyValueStore } from "../../bench/replica/key-value.js";
import { payloadOf } from "../../bench/replica/payload.js";
import { PUTS } from "../../bench/replica/wire.js";

const entry = (at: number) => ({ index: (at + 1) as LogIndex, term: 1 as Term, payload: payloadOf(at, 0) });

test("a store that was restored from a snapshot goes on as the one that it was taken from", () => {
  const original = new KeyValueStore();
  original.apply(Array.from({ length: 5_000 }, (_, at) => entry(at)));
  const restored = new KeyValueStore();
  restored.restore([...original.snapshot()], 5_000 as LogIndex);
  for (const store of [original, restored]) store.apply([entry(5_000)]);
  expect([restored.applied, restored.digest]).toEqual([original.applied, original.digest]);
  expect([...restored.snapshot()]).toEqual([...original.snapshot()]);
});

test("a batch of puts is read back as it was sent", () => {
  const puts = [
    { id: 1, payload: payloadOf(1, 2) },
    { id: 4_294_967_295, payload: payloadOf(3, 4) },
  ];
  expect(PUTS.request.decode(PUTS.request.encode(puts))).toEqual(puts);
  expect(PUTS.response.decode(PUTS.response.encode([7, 4_294_967_295]))).toEqual([7, 4_294_967_295]);
});

test("the core's figure comes with a check that all five agree", () => {
  expect(measureCore(1_000)).toBeGreaterThan(0);
});
