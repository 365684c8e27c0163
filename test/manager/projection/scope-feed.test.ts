import { describe, expect, test } from "vitest";
import type { DipId, HostId, IpAddress, LogIndex } from "../../../core/brands.js";
import type { MuxChange, MuxItem } from "../../../dataplane/mux-items.js";
import { EffectLog } from "../../../manager/projection/effect-log.js";
import { MUX_SCOPE, type WireUpdate } from "../../../manager/projection/projection-wire.js";
import { ScopeFeed } from "../../../manager/projection/scope-feed.js";

const at = (index: number): LogIndex => index as LogIndex;
const dip = (id: number, locator = `10.1.0.${id}`): MuxItem => ({
  kind: "dip",
  dipId: id as DipId,
  locator: locator as IpAddress,
});

/** One receiver's feed over a log that the test writes. */
function scene(options: { readonly held?: number; readonly keepFrom?: number; readonly itemsPerPart?: number } = {}) {
  const effects = new EffectLog(at(options.keepFrom ?? 0));
  const items = new Map<number, MuxItem>();
  const state = { applied: at(options.keepFrom ?? 0), limit: at(0) };
  const sent: WireUpdate[] = [];
  const turns: (() => boolean)[] = [];
  const held = { count: 0 };
  let reading = true;
  const apply = (index: number, ...changes: MuxChange[]): void => {
    for (const change of changes)
      if (change.op === "upsert" && change.item.kind === "dip") items.set(change.item.dipId, change.item);
    effects.append({
      index: at(index),
      results: [],
      muxChanges: changes,
      hostChanges: new Map<HostId, never>(),
      ended: [],
    });
    state.applied = at(index);
  };
  const feed = new ScopeFeed(
    {
      codec: MUX_SCOPE,
      clusterEpoch: () => 1,
      appliedIndex: () => state.applied,
      limit: () => (state.limit === 0 ? state.applied : state.limit),
      covers: (index) => effects.covers(index),
      changes: (after, upTo, most) => effects.muxChanges(after, upTo, most),
      view: () => {
        const left = [...items.values()];
        held.count++;
        return {
          index: state.applied,
          next: () => (left.length === 0 ? null : left.splice(0, options.itemsPerPart ?? 2_000)),
          digest: () => "d",
          end: () => held.count--,
        };
      },
      digest: () => "d",
    },
    at(options.held ?? 0),
    (update) => {
      sent.push(update);
      return reading;
    },
    (step) => turns.push(step),
  );
  /** Gives turns until nothing is left to do, or so many. */
  const turn = (most = Number.POSITIVE_INFINITY): void => {
    for (let count = 0; count < most && turns[0] !== undefined; count++) if (turns[0]()) turns.shift();
  };
  const story = (): string[] =>
    sent
      .splice(0)
      .map(
        (update) =>
          `${update.snapshot === true ? "view" : "delta"} ${update.index}: ${(update.muxItems ?? []).map((item) => `dip ${item.dip?.dipId}=${item.dip?.locator}`).join(", ")}`,
      );
  return { feed, apply, state, story, turn, held, setReading: (open: boolean) => (reading = open) };
}

const put = (item: MuxItem): MuxChange => ({ op: "upsert", item });

describe("the feed of one receiver", () => {
  test("who holds nothing gets the whole view, then deltas", () => {
    const { feed, apply, story, turn } = scene();
    apply(1, put(dip(1)));
    apply(2, put(dip(2)));
    feed.pump();
    turn();
    apply(3, put(dip(3)));
    feed.pump();
    expect(story()).toEqual(["view 2: dip 1=10.1.0.1, dip 2=10.1.0.2", "delta 3: dip 3=10.1.0.3"]);
  });

  test("who was in step with another replica a moment ago gets only what it missed", () => {
    const { feed, apply, story } = scene({ held: 1 });
    apply(1, put(dip(1)));
    apply(2, put(dip(2)));
    feed.pump();
    expect(story()).toEqual(["delta 2: dip 2=10.1.0.2"]);
  });

  test("who is ahead of this replica hears nothing until it has caught up: nothing older is ever sent", () => {
    const { feed, apply, story } = scene({ held: 5 });
    apply(4, put(dip(4)));
    feed.pump();
    expect(story()).toEqual([]);
    apply(6, put(dip(6)));
    feed.pump();
    expect(story()).toEqual(["delta 6: dip 6=10.1.0.6"]);
  });

  test("who fell behind what is kept gets the whole view", () => {
    const { feed, apply, story, turn } = scene({ held: 3, keepFrom: 10 });
    apply(11, put(dip(1)));
    feed.pump();
    turn();
    expect(story()).toEqual(["view 11: dip 1=10.1.0.1"]);
  });

  test("several changes of one key in one delta: the last one counts", () => {
    const { feed, apply, story } = scene({ held: 1 });
    apply(2, put(dip(1, "10.1.0.8")));
    apply(3, put(dip(1, "10.1.0.9")));
    feed.pump();
    expect(story()).toEqual(["delta 3: dip 1=10.1.0.9"]);
  });

  test("nothing above the limit is told, and a whole view cut above it waits for it", () => {
    const { feed, apply, state, story, turn } = scene();
    apply(5, put(dip(5)));
    state.limit = at(3);
    feed.pump();
    turn();
    apply(6, put(dip(6)));
    feed.pump();
    turn();
    expect(story()).toEqual([]);
    state.limit = at(5);
    feed.pump();
    turn();
    expect(story()).toEqual(["view 5: dip 5=10.1.0.5"]);
    state.limit = at(6);
    feed.pump();
    expect(story()).toEqual(["delta 6: dip 6=10.1.0.6"]);
  });

  test("a receiver that reads too slowly costs no memory: it gets one larger delta when it reads again", () => {
    const { feed, apply, story, setReading } = scene({ held: 1 });
    setReading(false);
    apply(2, put(dip(2)));
    feed.pump();
    for (let index = 3; index <= 50; index++) {
      apply(index, put(dip(index)));
      feed.pump();
    }
    setReading(true);
    feed.resume();
    const told = story();
    expect(told).toHaveLength(2);
    expect(told[1]).toMatch(/^delta 50: dip 3=/);
  });
});

// A replica that was away for a minute, or an agent that comes back to it: no message of many MB, no long piece of work.
test("who missed much gets several deltas, each of whole entries, a turn apart; changes meanwhile wait behind them", () => {
  const { feed, apply, story, turn } = scene({ held: 1 });
  const many = (count: number) => Array.from({ length: count }, (_, id) => put(dip(id)));
  for (const index of [2, 3, 4, 5]) apply(index, ...many(1_500));
  apply(6, put(dip(9, "10.9.9.9")));
  feed.pump();
  apply(7, put(dip(8, "10.8.8.8")));
  const lengths = (): string[] => story().map((line) => `${line.split(":")[0]}, ${line.split(",").length} items`);
  expect(lengths()).toEqual(["delta 3, 1500 items"]);
  turn(1);
  expect(lengths()).toEqual(["delta 7, 1500 items"]);
  turn();
  expect(lengths()).toEqual([]);
});

test("one entry of more than 20,000 changes is not cut: who missed it gets the whole view in parts", () => {
  const { feed, apply, story, turn } = scene({ held: 1 });
  apply(2, ...Array.from({ length: 20_001 }, (_, id) => put(dip(1, `10.1.${id >> 8}.${id & 255}`))));
  feed.pump();
  turn();
  expect(story()).toEqual(["view 2: dip 1=10.1.78.32"]);
});

describe("a whole view in parts", () => {
  const items = (count: number): MuxChange[] => Array.from({ length: count }, (_, id) => put(dip(id + 1)));

  test("is sent a part in each turn, and is that of its beginning, whatever is applied between the parts", () => {
    const { feed, apply, story, turn, held } = scene({ itemsPerPart: 2 });
    apply(1, ...items(5));
    feed.pump();
    turn(2);
    apply(2, put(dip(1, "10.9.9.9")));
    feed.pump();
    turn();
    expect(story()).toEqual([
      "view 1: dip 1=10.1.0.1, dip 2=10.1.0.2",
      "view 1: dip 3=10.1.0.3, dip 4=10.1.0.4",
      "view 1: dip 5=10.1.0.5",
      "delta 2: dip 1=10.9.9.9",
    ]);
    expect(held.count).toBe(0);
  });

  test("waits in mid-view while the receiver reads too slowly, and goes on where it was", () => {
    const { feed, apply, story, turn, setReading } = scene({ itemsPerPart: 2 });
    apply(1, ...items(5));
    feed.pump();
    setReading(false);
    turn();
    expect(story()).toEqual(["view 1: dip 1=10.1.0.1, dip 2=10.1.0.2"]);
    feed.pump();
    turn();
    expect(story()).toEqual([]);
    setReading(true);
    feed.resume();
    turn();
    expect(story()).toEqual(["view 1: dip 3=10.1.0.3, dip 4=10.1.0.4", "view 1: dip 5=10.1.0.5"]);
  });

  test("is let go of when the receiver has gone", () => {
    const { feed, apply, story, turn, held } = scene({ itemsPerPart: 1 });
    apply(1, ...items(5));
    feed.pump();
    turn(2);
    story();
    feed.stop();
    turn();
    expect(story()).toEqual([]);
    expect(held.count).toBe(0);
  });
});
