/**
 * What is sent to a MUX or an agent at once is bounded in bytes, whatever it is made of: a receiver refuses a message above 4 MiB, and
 * would be sent it again and again. The many verdicts of a bad minute change large pools' tables by the hundred.
 */
import { expect, test } from "vitest";
import type { DipId, HostId, IpAddress, LogIndex, MuxId, PoolId, VipId } from "../../../core/brands.js";
import { type HostChange, type HostItem, hostItemKey } from "../../../dataplane/host-items.js";
import { MEMBER_DOWN, type MuxItem, muxItemKey } from "../../../dataplane/mux-items.js";
import {
  deltaUpdate,
  foldChanges,
  HOST_SCOPE,
  MUX_SCOPE,
  viewUpdate,
  type WireUpdate,
} from "../../../manager/projection/projection-wire.js";
import { EffectLog } from "../../../manager/projection/effect-log.js";
import { ScopeFeed } from "../../../manager/projection/scope-feed.js";
import { itemBytes } from "../../../manager/state/views/item-bytes.js";
import { ViewCapture } from "../../../manager/state/views/view-capture.js";
import { ananta } from "../../../proto/gen/wire.js";
import { MESSAGE_BYTES_MAX } from "../../../runtime/serving.js";

const DIP_MAX = 0xffff_ffff as DipId;
const text = "\u20ac".repeat(60);
const long = "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff" as IpAddress;
const bytesOf = (update: WireUpdate): number => ananta.v1.ProjectionUpdate.encode(update).finish().length;
const at = { clusterEpoch: 1, index: 7 as LogIndex, digest: "0123456789abcdef" };

const members = (first: number, count: number): { dipId: DipId; weight: number }[] =>
  Array.from({ length: count }, (_, i) => ({ dipId: (first + i) as DipId, weight: 1_000 }));

const table = (poolId: number, revision: number, from = 60_000): HostItem => ({
  kind: "table",
  poolId: poolId as PoolId,
  revision,
  maxMembers: 655,
  members: members(from, 655),
});

const HOST_ITEMS: readonly HostItem[] = [
  table(DIP_MAX, 0xffff_ffff, DIP_MAX - 1_000),
  { kind: "dip", dipId: DIP_MAX, address: long, locator: long, tenant: text, fastpathKey: new Uint8Array(16) },
  {
    kind: "endpoint",
    vipId: DIP_MAX as never,
    vip: long,
    protocol: 17,
    port: 65_535,
    dipId: DIP_MAX,
    dipPort: 65_535,
    hairpin: "drop",
    floating: true,
    idleSeconds: 86_400,
    idleReset: false,
    groups: [text, text, text, text, text],
  },
  {
    kind: "group",
    group: text,
    rules: Array.from({ length: 256 }, () => ({
      direction: "out" as const,
      protocol: "icmp" as const,
      ports: Array.from({ length: 32 }, () => "60000-65535"),
      peer: "2001:db8:ffff:ffff:ffff:ffff:ffff:0/112",
      action: "allow" as const,
      priority: 4_096,
    })),
  },
  { kind: "range", vipId: DIP_MAX as never, vip: long, protocol: 17, range: 8_191, dipId: DIP_MAX },
  { kind: "owner", poolId: DIP_MAX as never, dipId: DIP_MAX, locator: long },
  { kind: "rule", poolId: DIP_MAX as never, vipId: DIP_MAX as never, vip: long, port: 65_535, distribution: 2 },
  { kind: "internal", prefix: `${long}/128`, tenant: text },
  { kind: "mux", muxId: 9 as MuxId, address: long },
  { kind: "site", hashKey: new Uint8Array(8) },
];

const MUX_ITEMS: readonly MuxItem[] = [
  {
    kind: "pool",
    poolId: DIP_MAX as never,
    maxMembers: 655,
    failoverPermille: 1_000,
    failOpen: true,
    resetOnProbeDown: true,
    members: members(DIP_MAX - 1_000, 655).map((member) => ({ ...member, state: MEMBER_DOWN, backup: true })),
  },
  { kind: "vip", vipId: DIP_MAX as never, address: long, announced: true, weight: 100 },
  { kind: "dip", dipId: DIP_MAX, locator: long, hostId: DIP_MAX as unknown as HostId },
  { kind: "snat", vipId: DIP_MAX as unknown as VipId, protocol: 17, range: 8_191, dipId: DIP_MAX },
  {
    kind: "mux",
    muxId: 9 as MuxId,
    name: text,
    incarnation: Number.MAX_SAFE_INTEGER,
    bootId: "f".repeat(32),
    address: long,
    joinedIndex: Number.MAX_SAFE_INTEGER as LogIndex,
  },
];

test.each([...HOST_ITEMS, ...MUX_ITEMS].map((item) => [item.kind, item] as const))(
  "a %s is never longer on the wire than is reckoned, nor reckoned many times too long",
  (_, item) => {
    const update = (items: readonly never[]): WireUpdate =>
      HOST_ITEMS.includes(item as HostItem) ? viewUpdate(HOST_SCOPE, items, at) : viewUpdate(MUX_SCOPE, items, at);
    const wire = bytesOf(update([item as never])) - bytesOf(update([]));
    expect(itemBytes(item)).toBeGreaterThanOrEqual(wire);
    expect(itemBytes(item)).toBeLessThan(6 * wire);
  },
);

test("a delta is never longer than is reckoned, removals included", () => {
  const removals = Array.from({ length: 500 }, (_, i): HostChange => ({ op: "remove", key: `table/4294967295/${i}` }));
  const folded = foldChanges(HOST_SCOPE, [
    ...HOST_ITEMS.map((item): HostChange => ({ op: "upsert", item })),
    ...removals,
  ]);
  expect(folded.bytes).toBeGreaterThanOrEqual(bytesOf(deltaUpdate(HOST_SCOPE, folded, at)));
});

test("an agent that missed an entry of 900 tables of 655 members gets its whole view in parts, not one delta above the limit", () => {
  const { feed, sent, turn } = feedOf([tables(900)]);
  feed.pump();
  turn();
  expect(sent.map((update) => update.snapshot)).not.toContain(false);
  expect(sent.flatMap((update) => update.hostItems ?? [])).toHaveLength(900);
  expect(Math.max(...sent.map(bytesOf))).toBeLessThan(MESSAGE_BYTES_MAX / 16);
  expect(sent.at(-1)).toMatchObject({ last: true });
});

test("the same in nine entries comes as deltas that fit", () => {
  const { feed, sent, turn } = feedOf(Array.from({ length: 9 }, () => tables(100)));
  feed.pump();
  turn();
  expect(sent.map(({ snapshot }) => snapshot)).not.toContain(true);
  expect(sent.flatMap((update) => update.hostItems ?? [])).toHaveLength(900);
  expect(sent.at(-1)?.index).toBe(10);
  expect(Math.max(...sent.map(bytesOf))).toBeLessThan(MESSAGE_BYTES_MAX);
});

test("a verdict or two on large pools go as one delta", () => {
  const { feed, sent, turn } = feedOf([tables(1), tables(1)]);
  feed.pump();
  turn();
  expect(sent.map(({ snapshot, hostItems }) => [snapshot, hostItems?.length])).toEqual([[false, 2]]);
});

test("parts of a MUX's view count what a pool makes the MUX build, as well as its bytes", () => {
  const item = MUX_ITEMS.find(({ kind }) => kind === "pool")!;
  const capture = new ViewCapture({
    index: at.index,
    keyOf: muxItemKey,
    groups: [Array.from({ length: 40 }, (_, i) => ({ ...item, poolId: i as PoolId }) as MuxItem)].values(),
  });
  expect(capture.next()).toHaveLength(4); // 100,000 / (656 * 50)
  capture.end();
});

let revision = 0;
const tables = (count: number): readonly HostItem[] =>
  Array.from({ length: count }, (_, i) => table(1 + (i % 100), ++revision));

/** Of an agent that has everything but what these entries, from index 2 on, have brought. */
function feedOf(entries: readonly (readonly HostItem[])[]): {
  feed: { pump(): void };
  sent: WireUpdate[];
  turn: () => void;
} {
  const sent: WireUpdate[] = [];
  const steps: (() => boolean)[] = [];
  const host = 1 as HostId;
  const effects = new EffectLog(1 as LogIndex);
  entries.forEach((items, i) => {
    const changes = items.map((item): HostChange => ({ op: "upsert", item }));
    const index = (i + 2) as LogIndex;
    effects.append({ index, results: [], muxChanges: [], hostChanges: new Map([[host, changes]]), ended: [] });
  });
  const last = (entries.length + 1) as LogIndex;
  const feed = new ScopeFeed<HostItem, HostChange>(
    {
      codec: HOST_SCOPE,
      clusterEpoch: () => 1,
      appliedIndex: () => last,
      limit: () => last,
      covers: () => true,
      changes: (after, upTo, most) => effects.hostChanges(host, after, upTo, most),
      view: () => new ViewCapture({ index: last, keyOf: hostItemKey, groups: entries.values() }),
      digest: () => null,
    },
    1 as LogIndex,
    (update) => sent.push(update) > 0,
    (step) => steps.push(step),
  );
  const turn = (): void => {
    while (steps[0] !== undefined) if (steps[0]()) steps.shift();
  };
  return { feed, sent, turn };
}
