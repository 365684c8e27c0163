/**
 * Random logs of a small, busy site. Every entry: the invariants hold, the emitted changes lead from the old views to the
 * new ones, and a machine that was restored from a snapshot at some point behaves as one that never was.
 */
import { expect, test } from "vitest";
import type { HostId, LogIndex } from "../../../core/brands.js";
import { createRandom } from "../../../core/random.js";
import { EMPTY_DIGEST, digestOf, formatDigest, xorDigests } from "../../../dataplane/digest.js";
import { type HostItem, hostItemKey } from "../../../dataplane/host-items.js";
import { type MuxItem, muxItemKey } from "../../../dataplane/mux-items.js";
import type { CommandBatch } from "../../../manager/state/commands/commands.js";
import { createStateMachine, decodeBatch, encodeBatch } from "../../../manager/state/index.js";
import { assertInvariants } from "../../../manager/state/invariants.js";
import type { AppliedBatch } from "../../../manager/state/commands/results.js";
import type { StateMachine } from "../../../manager/state/state-machine.js";
import { LogGenerator } from "./log-generator.js";

const SEED = Number(process.env["ANANTA_TEST_SEED"] ?? 1);
const LOGS = 6;
const ENTRIES = 150;

const seeds = Array.from({ length: LOGS }, (_, at) => SEED + at);

/** A receiver that holds what it was told, and nothing else. */
class Receiver<Item extends MuxItem | HostItem> {
  readonly items = new Map<string, Item>();
  private readonly keyOf: (item: Item) => string;

  constructor(keyOf: (item: Item) => string) {
    this.keyOf = keyOf;
  }

  follow(
    changes: readonly (
      { readonly op: "upsert"; readonly item: Item } | { readonly op: "remove"; readonly key: string }
    )[],
  ): void {
    for (const change of changes) {
      if (change.op === "upsert") this.items.set(this.keyOf(change.item), change.item);
      else expect(this.items.delete(change.key), `${change.key} was held when its removal came`).toBe(true);
    }
  }

  digest(): string {
    let digest = EMPTY_DIGEST;
    for (const [key, item] of this.items) digest = xorDigests(digest, digestOf(key, item));
    return formatDigest(digest);
  }
}

const sorted = <Item>(items: Iterable<Item>, keyOf: (item: Item) => string): readonly Item[] =>
  [...items].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));

function generate(seed: number): readonly CommandBatch[] {
  const machine = createStateMachine();
  const generator = new LogGenerator(createRandom(seed), machine);
  const log: CommandBatch[] = [];
  for (let index = 1; index <= ENTRIES; index++) {
    const batch = generator.batch();
    machine.apply(batch, index as LogIndex);
    log.push(batch);
  }
  return log;
}

/** Keys in order: two machines may build equal objects in different ways. */
const canonical = (value: unknown): string =>
  JSON.stringify(value, (_, part: unknown) =>
    typeof part === "object" && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );

/** All that a reader can see, as text. */
function everything(machine: StateMachine): string {
  const hosts = machine.hosts();
  return canonical({
    appliedIndex: machine.appliedIndex,
    clusterTimeMs: machine.clusterTimeMs,
    site: machine.site,
    mux: sorted(machine.muxItems(), muxItemKey),
    muxDigest: machine.muxDigest(),
    hosts,
    views: hosts.map((host) => [sorted(machine.hostItems(host.hostId), hostItemKey), machine.hostDigest(host.hostId)]),
    objects: [machine.objects("BackendPool", null), machine.objects("Vip", null)],
    muxes: machine.muxes(),
    replicas: machine.replicas(),
    blocks: machine.snatBlocks({}),
    usage: machine.snatUsage(),
    pending: machine.pendingActivation(),
    due: machine.nextTickDueMs(),
    digest: machine.digest(),
  });
}

/** Changes of one entry as text; hosts in order. */
const answered = (applied: AppliedBatch): string =>
  JSON.stringify([applied.results, applied.muxChanges, [...applied.hostChanges]]);

test.each(seeds)("after every entry of log %i the invariants hold", (seed) => {
  const machine = createStateMachine();
  generate(seed).forEach((batch, at) => {
    machine.apply(batch, (at + 1) as LogIndex);
    assertInvariants(machine.inspect());
  });
});

test.each(seeds)("receivers that apply the changes of log %i hold exactly the views, digests included", (seed) => {
  const machine = createStateMachine();
  const mux = new Receiver<MuxItem>(muxItemKey);
  const hosts = new Map<HostId, Receiver<HostItem>>();
  generate(seed).forEach((batch, at) => {
    const applied = machine.apply(batch, (at + 1) as LogIndex);
    mux.follow(applied.muxChanges);
    for (const [id, changes] of applied.hostChanges) {
      const host = hosts.get(id) ?? new Receiver<HostItem>(hostItemKey);
      hosts.set(id, host);
      expect(changes.length, "a host without changes is not told of any").toBeGreaterThan(0);
      host.follow(changes);
    }
    expect(sorted(mux.items.values(), muxItemKey)).toEqual(sorted(machine.muxItems(), muxItemKey));
    expect(mux.digest()).toBe(machine.muxDigest());
    for (const { hostId } of machine.hosts()) {
      const host = hosts.get(hostId) ?? new Receiver<HostItem>(hostItemKey);
      expect(sorted(host.items.values(), hostItemKey)).toEqual(sorted(machine.hostItems(hostId), hostItemKey));
      expect(host.digest()).toBe(machine.hostDigest(hostId));
    }
  });
});

test.each(seeds)("two machines that apply log %i, one of them from its bytes, are equal after every entry", (seed) => {
  const [one, two] = [createStateMachine(), createStateMachine()];
  generate(seed).forEach((batch, at) => {
    const index = (at + 1) as LogIndex;
    expect(answered(two.apply(decodeBatch(encodeBatch(batch)), index))).toBe(answered(one.apply(batch, index)));
    expect(two.digest()).toBe(one.digest());
  });
  expect(everything(two)).toBe(everything(one));
});

test.each(seeds)("a machine restored from a snapshot anywhere in log %i goes on as if it had never stopped", (seed) => {
  const random = createRandom(seed);
  const log = generate(seed);
  const original = createStateMachine();
  let restored = createStateMachine();
  log.forEach((batch, at) => {
    const index = (at + 1) as LogIndex;
    expect(answered(restored.apply(batch, index))).toBe(answered(original.apply(batch, index)));
    if (random.below(4) > 0) return;
    const chunks = [...restored.snapshot()];
    restored = createStateMachine();
    restored.restore(chunks, index);
    assertInvariants(restored.inspect());
    expect(everything(restored)).toBe(everything(original));
  });
  expect(everything(restored)).toBe(everything(original));
});

test("random logs meet both sides of what they test: grants and refusals of many kinds", () => {
  const codes = new Map<string, number>();
  for (const seed of [...seeds, ...seeds.map((one) => one + LOGS)]) {
    const machine = createStateMachine();
    generate(seed).forEach((batch, at) => {
      const { results } = machine.apply(batch, (at + 1) as LogIndex);
      for (const result of results) {
        const what = result.ok ? result.value.kind : result.code;
        codes.set(what, (codes.get(what) ?? 0) + 1);
      }
    });
  }
  const wanted = [
    "snat-allocated",
    "snat-released",
    "objects-applied",
    "host-registered",
    "mux-joined",
    "FAILED_PRECONDITION",
  ];
  for (const what of wanted)
    expect(codes.get(what) ?? 0, `${what} among ${JSON.stringify([...codes])}`).toBeGreaterThan(10);
});
