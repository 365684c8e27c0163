import { describe, expect, test } from "vitest";
import type { LogIndex } from "../../../core/brands.js";
import { AnantaError } from "../../../core/errors.js";
import { Watches } from "../../../manager/api/watch.js";
import type { ananta } from "../../../proto/gen/wire.js";
import { COMMAND_FORMAT_VERSION, type Command } from "../../../manager/state/commands/commands.js";
import { edge, FakeStream } from "../edge.js";
import { pool } from "../state/fixture.js";

type Event = ananta.v1.WatchEvent.$Properties;

/** `settled`: MUXes use a change at once, as far as this replica knows. */
function scene({ settled = true } = {}) {
  const { site, replica, time } = edge();
  const watches = new Watches(replica);
  const told = (): LogIndex => {
    if (site.last !== null) watches.applied(site.last);
    return replica.state.appliedIndex;
  };
  const inForce = (): void => replica.muxSafeIndex.advance(replica.state.appliedIndex);
  const apply = (...names: readonly string[]): LogIndex => {
    const objects = names.map((name) => pool(name, []));
    const index = (replica.state.appliedIndex + 1) as LogIndex;
    // One entry: the change, and its activation.
    const commands: Command[] = [{ kind: "apply-objects", objects }];
    if (settled) {
      commands.push({ kind: "activate", upToIndex: index });
      replica.muxSafeIndex.advance(index);
    }
    site.applyAll(commands);
    return told();
  };
  /** An entry in its first step; what is given back takes the others. */
  const begin = (name: string): (() => LogIndex) => {
    const index = ++site.index as LogIndex;
    const steps = site.machine.applying(
      {
        ...{ formatVersion: COMMAND_FORMAT_VERSION, clusterTimeMs: 0, wallMs: 0, muxSafeIndex: 0 as LogIndex },
        commands: [{ origin: null, command: { kind: "apply-objects", objects: [pool(name, [])] } }],
      },
      index,
      () => undefined,
    );
    steps.next();
    return () => {
      let step = steps.next();
      while (step.done !== true) step = steps.next();
      watches.applied(step.value);
      return index;
    };
  };
  const watch = (fromIndex: number, reading = true) => {
    const stream = new FakeStream<Event, never>();
    stream.reading = reading;
    watches.open({ kind: "BackendPool", fromIndex }, stream);
    return stream;
  };
  const story = (stream: FakeStream<Event, never>): string[] =>
    stream.take().map(({ type, object, index }) => `${type} ${object?.metadata?.name ?? "-"} @${index}`);
  const activate = (): LogIndex => {
    site.activate();
    return told();
  };
  return { apply, begin, watch, story, activate, inForce, told, site, time };
}

describe("a watch", () => {
  test("tells the present state first, under index 0, then up to where that was", () => {
    const { apply, watch, story } = scene();
    const index = apply("a", "b");
    expect(story(watch(0))).toEqual(["added a @0", "added b @0", `progress - @${index}`]);
  });

  // The objects of a large entry change in its first step; its views follow in later turns.
  test("opened while an entry is being applied tells the present state after it, and that entry's changes not again", () => {
    const { apply, begin, watch, story } = scene();
    const before = apply("a");
    const finish = begin("b");
    const [listing, gone, resumed] = [watch(0), watch(0), watch(before)];
    gone.close();
    expect([story(listing), story(gone), story(resumed)]).toEqual([[], [], []]);
    const index = finish();
    expect(index).toBe(before + 1);
    expect(story(listing)).toEqual(["added a @0", "added b @0", `progress - @${before}`]);
    expect(story(gone)).toEqual([]);
    expect(story(resumed)).toEqual([`added b @${before}`]);
    apply("c");
    expect(story(listing)[0]).toBe(`added c @${before}`);
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

  test("a large state is sent as fast as the watcher reads, and changes wait behind it", async () => {
    const { apply, watch, story, time } = scene();
    const names = Array.from({ length: 3_000 }, (_, position) => `p${String(position).padStart(4, "0")}`);
    const index = apply(...names);
    const stream = watch(0, false);
    expect(story(stream)).toEqual(["added p0000 @0"]);
    const later = apply("z");
    stream.drain();
    await time.advance(1);
    const told = story(stream);
    expect(told).toHaveLength(3_001);
    expect(told.slice(-2)).toEqual([`progress - @${index}`, `added z @${later}`]);
  });

  test("a large state is told a part in each turn of the event loop, in order, and not at all to who has gone", async () => {
    const { apply, watch, story, time } = scene();
    const index = apply(...Array.from({ length: 200 }, (_, position) => `p${String(position).padStart(3, "0")}`));
    const stream = watch(0);
    const gone = watch(0);
    expect(story(stream)).toHaveLength(64);
    gone.close();
    gone.take();
    const later = apply("z");
    await time.advance(1);
    const told = story(stream);
    expect(told[0]).toBe("added p064 @0");
    expect(told.slice(-2)).toEqual([`progress - @${index}`, `added z @${later}`]);
    expect(story(gone)).toEqual([]);
  });

  // A person who watches sees "Pending" turn to "Ready", and what becomes of the members.
  test("tells how an object stands: active, in force, and when its members' host comes", () => {
    const { site, watch, activate, inForce, told } = scene({ settled: false });
    site.join("mux-1", "192.0.2.1");
    told();
    const stream = watch(site.index);
    const stands = (): string[] =>
      stream.take().map(({ type, object }) => {
        const { phase, members = [] } = object?.status ?? {};
        return `${type} ${phase ?? ""} ${(members ?? []).map(({ health }) => health ?? "").join()}`.trim();
      });
    site.applyObjects(pool("a", ["10.0.0.1"]));
    told();
    expect(stands()).toEqual(["added Pending no-host"]);
    activate();
    expect(stands()).toEqual(["modified Pending no-host"]);
    inForce();
    expect(stands()).toEqual(["modified Ready no-host"]);
    site.register("host-1", ["10.0.0.1"]);
    told();
    expect(stands()).toEqual(["modified Ready up"]);
  });

  // Nobody announces the VIPs then, which no entry about a VIP says.
  test("tells every object when the last MUX is drained, and when one is not any more, some in a turn", async () => {
    const { apply, watch, told, site, time } = scene();
    site.join("mux-1", "192.0.2.1");
    told();
    const names = Array.from({ length: 150 }, (_, position) => `p${String(position).padStart(3, "0")}`);
    const before = apply(...names);
    await time.advance(1);
    const stream = watch(before);
    site.ok("mux-drained", { kind: "drain-mux", name: "mux-1", reason: "repair", force: true });
    const drained = told();
    expect(stream.take(), "in the next turns").toEqual([]);
    await time.advance(1);
    const events = stream.take();
    expect(new Set(events.map(({ object }) => object?.metadata?.name)).size).toBe(150);
    expect(Math.max(...events.map(({ index }) => index ?? 0)), "who breaks off here hears of it again").toBe(before);
    await time.advance(5_000);
    expect(stream.take()).toMatchObject([{ type: "progress", index: drained }]);
    site.ok("mux-undrained", { kind: "undrain-mux", name: "mux-1" });
    told();
    await time.advance(1);
    expect(stream.take()).toHaveLength(150);
    // A second MUX that is drained changes nothing for anybody.
    site.join("mux-2", "192.0.2.2");
    site.ok("mux-drained", { kind: "drain-mux", name: "mux-2", reason: "repair", force: false });
    told();
    await time.advance(1);
    expect(stream.take()).toEqual([]);
  });

  // (W3) Replica A tells of a change and dies before the MUXes use it. B notices that at another index.
  test("no index is told beyond a change that is not in force, so that a resumed watch still hears of it", () => {
    const { apply, watch, story, activate, inForce } = scene({ settled: false });
    const before = apply("a");
    activate();
    inForce();
    const stream = watch(before + 1);
    apply("b");
    expect(story(stream)).toEqual([`added b @${before + 1}`]);
    const active = activate();
    expect(story(stream)).toEqual([`modified b @${before + 1}`]);
    const elsewhere = watch(before + 1);
    expect(story(elsewhere)).toEqual([`added b @${before + 1}`, `modified b @${before + 1}`]);
    inForce();
    expect(story(elsewhere)).toEqual([`modified b @${active}`]);
    expect(story(watch(active))).toEqual([]);
  });

  test("an index that is no longer held ends the watch with what to do", () => {
    const { apply, watch } = scene();
    const before = apply("a");
    for (let at = 0; at < 9; at++) apply(...Array.from({ length: 1_000 }, (_, one) => `p${at}-${one}`));
    const { code, message } = AnantaError.from(watch(before).ended);
    expect(code).toBe("FAILED_PRECONDITION");
    expect(message).toMatch(/^changes up to index \d+ are no longer held; list again and watch from that index$/);
    expect(watch(before + 8).ended).toBeUndefined();
  });
});
