import { describe, expect, test } from "vitest";
import type { LogIndex } from "../../../core/brands.js";
import { Watches } from "../../../manager/api/watch.js";
import type { ananta } from "../../../proto/gen/wire.js";
import { edge, FakeStream } from "../edge.js";
import { pool } from "../state/fixture.js";

type Event = ananta.v1.WatchEvent.$Properties;

function scene() {
  const { site, replica } = edge();
  const watches = new Watches(replica);
  const apply = (...names: readonly string[]): LogIndex => {
    site.applyObjects(...names.map((name) => pool(name, [])));
    if (site.last !== null) watches.applied(site.last);
    return replica.state.appliedIndex;
  };
  const watch = (fromIndex: number, reading = true) => {
    const stream = new FakeStream<Event, never>();
    stream.reading = reading;
    watches.open({ kind: "BackendPool", fromIndex }, stream);
    return stream;
  };
  const story = (stream: FakeStream<Event, never>): string[] =>
    stream.take().map(({ type, object, index }) => `${type} ${object?.metadata?.name ?? "-"} @${index}`);
  return { apply, watch, story };
}

describe("a watch", () => {
  test("tells the present state first, under index 0, then up to where that was", () => {
    const { apply, watch, story } = scene();
    const index = apply("a", "b");
    expect(story(watch(0))).toEqual(["added a @0", "added b @0", `progress - @${index}`]);
  });

  test("only the last change of an entry carries its index, so that who resumes in between misses none", () => {
    const { apply, watch, story } = scene();
    const before = apply("a");
    const stream = watch(before);
    const index = apply("b", "c", "d");
    const told = story(stream);
    expect(told).toEqual([`added b @${index - 1}`, `added c @${index - 1}`, `added d @${index}`]);
    expect(story(watch(index - 1))).toEqual(told); // broke off after b
    expect(story(watch(index))).toEqual([]);
  });

  test("a watcher that is ahead of this replica hears nothing again", () => {
    const { apply, watch, story } = scene();
    const before = apply("a");
    const stream = watch(before + 2);
    apply("b");
    apply("c");
    expect(story(stream)).toEqual([]);
    apply("d");
    expect(story(stream)).toEqual([`added d @${before + 3}`]);
  });

  test("a large state is sent as fast as the watcher reads, and changes wait behind it", () => {
    const { apply, watch, story } = scene();
    const names = Array.from({ length: 3_000 }, (_, position) => `p${String(position).padStart(4, "0")}`);
    const index = apply(...names);
    const stream = watch(0, false);
    expect(story(stream)).toEqual(["added p0000 @0"]);
    const later = apply("z");
    stream.drain();
    const told = story(stream);
    expect(told).toHaveLength(3_001);
    expect(told.slice(-2)).toEqual([`progress - @${index}`, `added z @${later}`]);
  });
});
