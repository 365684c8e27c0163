/** Streams of agents and MUXes: who may speak for whom, and what is kept of what they say. */
import { describe, expect, test } from "vitest";
import type { HostId, LogIndex } from "../../../core/brands.js";
import { SnatService } from "../../../manager/api/snat-service.js";
import { inMessages } from "../../../manager/api/link/replica-link.js";
import { EffectLog } from "../../../manager/projection/effect-log.js";
import type { ananta } from "../../../proto/gen/wire.js";
import { CALL, FakeStream, bootIdOf, edge, origins } from "../edge.js";

type Scene = ReturnType<typeof edge>;

async function agent(
  { agents, identity, time }: Scene,
  boot: string,
  options: { readonly address?: string; readonly origin?: { session: string; sequence: number } } = {},
) {
  const stream = new FakeStream<ananta.v1.ManagerToAgent.$Properties, ananta.v1.AgentToManager.$Properties>();
  agents.open(stream);
  const origin = options.origin ?? origins(boot)();
  const dips = [{ address: options.address ?? "10.0.0.1" }];
  stream.deliver({ hello: { identity: identity("host-1", boot), dips, origin } });
  await time.advance(1);
  return stream;
}

function mux({ muxes, identity }: Scene, boot: string, held = 0) {
  const stream = new FakeStream<ananta.v1.ManagerToMux.$Properties, ananta.v1.MuxToManager.$Properties>();
  muxes.open(stream);
  const capacity = { rules: 100, snatRanges: 100 };
  stream.deliver({ hello: { identity: identity("mux-1", boot), address: "192.0.2.1", capacity } });
  stream.deliver({ activate: { clusterEpoch: 1, index: held } });
  return stream;
}

describe("the stream of an agent", () => {
  test("ends with STALE_INCARNATION once a later process of the host has registered", async () => {
    const scene = edge();
    const first = await agent(scene, "one");
    await agent(scene, "two");
    scene.agents.advanced();
    expect(first.ended?.code).toBe("STALE_INCARNATION");
  });

  test("whose origin was used for another kind of request ends with INVALID_ARGUMENT", async () => {
    const scene = edge();
    const origin = origins("reused")();
    scene.submit({ origin, command: { kind: "tick" } });
    expect((await agent(scene, "one", { origin })).ended?.code).toBe("INVALID_ARGUMENT");
  });

  test("may ask for its own DIPs only: others are refused before anything is submitted", async () => {
    const scene = edge();
    const stream = await agent(scene, "one");
    const before = scene.submitted.length;
    const request = {
      origin: { session: bootIdOf("one"), sequence: 2 },
      dipId: 7,
      allocate: { protocol: 6, ports: 8 },
    };
    stream.deliver({ requests: { requests: [request] } });
    await scene.time.advance(1);
    expect(stream.sent.at(-1)?.answers?.answers).toMatchObject([{ sequence: 2, code: "PERMISSION_DENIED" }]);
    expect(scene.submitted).toHaveLength(before);
  });

  test("that ends late forgets nothing that a newer one of the same host has acknowledged", async () => {
    const scene = edge();
    const [older, newer] = [await agent(scene, "one"), await agent(scene, "one")];
    for (const stream of [older, newer]) {
      stream.deliver({ activate: { clusterEpoch: 1, index: 2 } });
      stream.deliver({ ack: { clusterEpoch: 1, index: 2 } });
    }
    older.close();
    expect(scene.acknowledgements.hosts()).toEqual([[1, 2]]);
    newer.close();
    expect(scene.acknowledgements.hosts()).toEqual([]);
  });
});

describe("the stream of a MUX", () => {
  test("vouches for no index beyond what it was told", async () => {
    const scene = edge();
    const stream = mux(scene, "one");
    await scene.time.advance(1);
    stream.deliver({ ack: { clusterEpoch: 1, index: 1_000, renewal: 1 } });
    expect(scene.reports).toEqual(["mux-1/one 1"]);
  });

  test("of an earlier process does not overwrite what its successor has reported", () => {
    const scene = edge();
    const [older, newer] = [mux(scene, "one"), mux(scene, "two")];
    newer.deliver({ ack: { clusterEpoch: 1, index: 1, renewal: 1 } });
    older.deliver({ ack: { clusterEpoch: 1, index: 1, renewal: 9 } });
    expect(scene.acknowledgements.muxes().map(({ bootId, renewal }) => [bootId, renewal])).toEqual([
      [bootIdOf("two"), 1],
      [bootIdOf("one"), 9],
    ]);
  });
});

test("effects are bounded by changes too: one entry of very many pushes the older ones out", () => {
  const effects = new EffectLog(0 as LogIndex);
  const entry = (index: number, changes: number) =>
    effects.append({
      index: index as LogIndex,
      results: [],
      muxChanges: Array.from({ length: changes }, () => ({ op: "remove" as const, key: "dip/1" })),
      hostChanges: new Map<HostId, never>(),
      ended: [],
    });
  entry(1, 10);
  entry(2, 499_995);
  expect([effects.covers(0 as LogIndex), effects.covers(1 as LogIndex)]).toEqual([false, true]);
});

test("messages between replicas hold at most 1,024 items and 1 MiB, in order", () => {
  const sizes = (items: readonly number[]) => [...inMessages(items, (bytes) => bytes)].map((message) => message.length);
  expect(sizes(Array.from({ length: 2_050 }, () => 1))).toEqual([1_024, 1_024, 2]);
  expect(sizes([600_000, 600_000, 400_000, 2_000_000, 1])).toEqual([1, 2, 1, 1]);
});

test("a replica that is behind a new DIP looks once more before it refuses the call", async () => {
  const scene = edge();
  scene.site.register("host-1", []);
  scene.onReadPoint(() => scene.site.register("host-1", ["10.0.0.1"]));
  const ask = { host: "host-1", incarnation: 1, dip: "10.0.0.1", protocol: 6, ports: 8, origin: origins("c")() };
  await expect(new SnatService(scene.replica).allocate(ask, CALL)).rejects.not.toMatchObject({
    code: "PERMISSION_DENIED",
  });
  expect(scene.readPoints).toBe(1);
});
