import { describe, expect, test } from "vitest";
import { nodeId, type LogIndex, type NodeId, type Term } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import { bidi, type Env, type Handler, type MessageStream, type Method, type Network } from "../../runtime/env.js";
import type { Heartbeat } from "../../manager/raft/core/messages.js";
import { GrpcTransport } from "../../manager/raft/transport/grpc-transport.js";
import { METHODS, type RaftFrame, type WireWelcome } from "../../manager/raft/transport/methods.js";
import type { PeerMessage } from "../../manager/raft/transport/transport.js";
import { finishesCleanly } from "../kit/finishes-cleanly.js";
import { VirtualWorld, testSeed } from "../kit/virtual-world.js";

const ADDRESSES = new Map([1, 2, 3].map((id) => [nodeId(id), `m${id}:7001`]));

interface End {
  readonly transport: GrpcTransport;
  readonly received: PeerMessage[];
  readonly told: string[];
}

async function start(
  world: VirtualWorld,
  id: number,
  changes: { clusterId?: string; clusterEpoch?: number; env?: Env } = {},
): Promise<End> {
  const env = changes.env ?? world.env(`m${id}`);
  const transport = new GrpcTransport({
    env,
    log: env.log,
    id: nodeId(id),
    address: ADDRESSES.get(nodeId(id)) ?? "nowhere",
    clusterId: "c",
    clusterEpoch: 1,
    redialMaxMs: 150,
    ...changes,
  });
  transport.setMembers({ addresses: ADDRESSES, removed: [] });
  const end: End = {
    received: [],
    told: [],
    transport,
  };
  await world.run(
    end.transport.start(
      {
        received: (message) => end.received.push(message),
        dropped: (peer) => end.told.push(`dropped ${peer}`),
        gone: (peer) => end.told.push(`gone ${peer}`),
        restarted: (peer) => end.told.push(`restarted ${peer}`),
        identified: (peer, folder) => end.told.push(`identified ${peer} ${folder}`),
        removedSays: (peer) => end.told.push(`removed, says ${peer}`),
      },
      "",
    ),
  );
  return end;
}

/** A network whose functions can be spread. */
const bound = (network: Network): Network => ({
  serve: (address, handlers) => network.serve(address, handlers),
  connect: (address, options) => network.connect(address, options),
  probe: (address, timeoutMs) => network.probe(address, timeoutMs),
});

const heartbeat = (from: number, round: number): Heartbeat => ({
  kind: "heartbeat",
  from: nodeId(from),
  term: 1 as Term,
  round,
  commitIndex: 0 as LogIndex,
  quorumAgeTicks: null,
});

const send = (end: End, to: NodeId, message: Heartbeat): void => {
  end.transport.send({ order: "now", to, message });
};

describe("who is listened to", () => {
  test("messages of known replicas arrive in order, under the name their hello gave", async () => {
    const world = new VirtualWorld({ seed: testSeed("transport") });
    const [one, two] = [await start(world, 1), await start(world, 2)];
    await world.advance(200);
    for (let round = 1; round <= 50; round++) send(one, nodeId(2), heartbeat(1, round));
    await world.advance(50);
    expect(two.received).toEqual(Array.from({ length: 50 }, (_, at) => heartbeat(1, at + 1)));
    await world.run(one.transport.stop());
    await world.run(two.transport.stop());
    await finishesCleanly(world);
  });

  test.each([{ clusterId: "other" }, { clusterEpoch: 2 }])(
    "a replica of another cluster or epoch is refused: %o",
    async (changes) => {
      const world = new VirtualWorld({ seed: testSeed("stranger") });
      const one = await start(world, 1);
      const stranger = await start(world, 2, changes);
      await world.advance(300);
      send(stranger, nodeId(1), heartbeat(2, 1));
      send(one, nodeId(2), heartbeat(1, 1));
      await world.advance(300);
      expect([...one.received, ...stranger.received]).toEqual([]);
      // They ask again every few seconds, and each line is written once.
      await world.advance(60_000);
      const warnings = world.log.lines.filter(({ level }) => level === "warn").map(({ event }) => event);
      expect(warnings.sort()).toEqual([
        ...["a replica refuses this one", "a replica refuses this one"],
        ...["refused a raft stream", "refused a raft stream"],
      ]);
    },
  );

  test("a stream without a hello, or with bytes that are no frame, is ended", async () => {
    const world = new VirtualWorld({ seed: testSeed("no hello") });
    const one = await start(world, 1);
    const channel = world.env("m9").network.connect("m1:7001");
    for (const bytes of [Uint8Array.of(0xff, 0xff, 0xff), Uint8Array.of(0x4a, 0x04, 0x08, 0x01, 0x10, 0x01)]) {
      const stream = channel.open(METHODS.control);
      let closed: string | null | undefined;
      stream.listen({
        message: () => undefined,
        closed: (error) => {
          closed = error?.code ?? null;
        },
      });
      stream.send({ kind: "encoded", bytes });
      await world.runUntil(() => closed !== undefined, 1_000);
      expect(closed).not.toBeNull();
    }
    expect(one.received).toEqual([]);
  });
});

describe("what becomes of a peer", () => {
  test("a process that ended is gone within a few milliseconds, once", async () => {
    const world = new VirtualWorld({ seed: testSeed("gone") });
    const one = await start(world, 1);
    await start(world, 2);
    await world.advance(500);
    one.told.length = 0;
    world.crash("m2", { disk: "process" });
    await world.advance(20);
    expect(one.told).toContain("gone 2");
    await world.advance(1_000);
    expect(one.told.filter((line) => line === "gone 2")).toHaveLength(1);
  });

  test("a peer that is merely cut off or paused is not gone", async () => {
    const world = new VirtualWorld({ seed: testSeed("cut") });
    const one = await start(world, 1);
    await start(world, 2);
    await world.advance(500);
    one.told.length = 0;
    world.cut("m1", "m2");
    await world.advance(3_000);
    world.heal();
    world.pause("m2");
    await world.advance(3_000);
    world.resume("m2");
    expect(one.told).not.toContain("gone 2");
  });

  test("a peer that merely drops its streams, all of them and again and again, is not gone: it still listens", async () => {
    const world = new VirtualWorld({ seed: testSeed("dropped streams") });
    const one = await start(world, 1);
    const { network, clock } = world.env("m2");
    let dropped = 0;
    const dropping = (method: Method<RaftFrame, WireWelcome>): Handler =>
      bidi(method, (stream) =>
        stream.listen({
          message: () => {
            stream.send({ nodeId: 2, bootId: Uint8Array.of(1), version: 1 });
            clock.setTimer(50, () => {
              dropped++;
              stream.end(new AnantaError("UNAVAILABLE", "a bad moment"));
            });
          },
          closed: () => undefined,
        }),
      );
    await world.run(network.serve("m2:7001", [dropping(METHODS.control), dropping(METHODS.bulk)]));
    await world.advance(3_000);
    expect(dropped).toBeGreaterThan(20);
    expect(one.told).not.toContain("gone 2");
  });

  test("another process under the same name is told from the old one by its boot id", async () => {
    const world = new VirtualWorld({ seed: testSeed("boot") });
    const one = await start(world, 1);
    await start(world, 2);
    await world.advance(500);
    world.restart("m2", { sockets: "silent" });
    const two = await start(world, 2);
    await world.runUntil(() => one.told.includes("restarted 2"), 1_000);
    await world.advance(200);
    send(one, nodeId(2), heartbeat(1, 7));
    await world.advance(50);
    expect(two.received).toEqual([heartbeat(1, 7)]);
  });

  test("what was queued for one process is not said to the next", async () => {
    const world = new VirtualWorld({ seed: testSeed("queued for another") });
    const one = await start(world, 1);
    const { network, clock } = world.env("m2");
    let boot = 1;
    const heard: string[] = [];
    const streams: MessageStream<WireWelcome, RaftFrame>[] = [];
    const answering = (method: Method<RaftFrame, WireWelcome>): Handler =>
      bidi(method, (stream) => {
        const by = boot;
        streams.push(stream);
        stream.listen({
          message: (frame) => {
            if (frame.kind !== "decoded") return;
            if (frame.frame.hello)
              clock.setTimer(100, () => void stream.send({ nodeId: 2, bootId: Uint8Array.of(by), version: 1 }));
            else heard.push(`process ${by} hears of round ${frame.frame.heartbeat?.round ?? 0}`);
          },
          closed: () => undefined,
        });
      });
    await world.run(network.serve("m2:7001", [answering(METHODS.control), answering(METHODS.bulk)]));
    await world.advance(500);
    send(one, nodeId(2), heartbeat(1, 1));
    await world.advance(50);
    boot = 2;
    for (const stream of streams.splice(0)) stream.end(new AnantaError("UNAVAILABLE", "the process ends"));
    await world.advance(50);
    one.told.length = 0;
    send(one, nodeId(2), heartbeat(1, 2)); // dialled, not yet welcomed: it waits
    expect(one.told).toEqual([]);
    await world.advance(300);
    expect(one.told).toEqual(expect.arrayContaining(["restarted 2", "dropped 2"]));
    send(one, nodeId(2), heartbeat(1, 3));
    await world.advance(50);
    expect(heard).toEqual(["process 1 hears of round 1", "process 2 hears of round 3"]);
  });

  test("a refusal older than a welcome does not make a later bad moment look like an end", async () => {
    const world = new VirtualWorld({ seed: testSeed("late refusal") });
    const env = world.env("m1");
    const answers: ((reach: "refused") => void)[] = [];
    const network = { ...bound(env.network), probe: () => new Promise<"refused">((resolve) => answers.push(resolve)) };
    const one = await start(world, 1, { env: { ...env, network } });
    await start(world, 2);
    await world.advance(500);
    world.breakConnections("m1", "m2");
    await world.runUntil(() => answers.length > 0, 1_000, "a probe");
    await world.advance(500); // welcomed again
    one.told.length = 0;
    for (const answer of answers.splice(0)) answer("refused");
    await world.advance(10);
    for (let round = 0; round < 5; round++) {
      world.breakConnections("m1", "m2");
      await world.advance(300);
    }
    expect(one.told).not.toContain("gone 2");
  });

  test("after a cut that outlived every connection, messages flow within half a second", async () => {
    const world = new VirtualWorld({ seed: testSeed("long cut") });
    const one = await start(world, 1);
    const two = await start(world, 2);
    await world.advance(500);
    world.cut("m1", "m2");
    for (let at = 0; at < 100; at++) {
      send(one, nodeId(2), heartbeat(1, at + 1));
      await world.advance(200);
    }
    world.heal();
    await world.advance(500);
    two.received.length = 0;
    send(one, nodeId(2), heartbeat(1, 999));
    await world.advance(50);
    expect(two.received).toContainEqual(heartbeat(1, 999));
  });

  test("a peer that does not read fills a bounded outbox; what does not fit is dropped and said so", async () => {
    const world = new VirtualWorld({ seed: testSeed("outbox") });
    const one = await start(world, 1);
    const two = await start(world, 2);
    await world.advance(500);
    one.told.length = 0;
    world.pause("m2");
    const entries = [{ index: 1 as LogIndex, term: 1 as Term, payload: new Uint8Array(512 * 1024) }];
    for (let at = 0; at < 60; at++) {
      one.transport.send({
        order: "now",
        to: nodeId(2),
        message: {
          kind: "append-request",
          from: nodeId(1),
          term: 1 as Term,
          prevIndex: 0 as LogIndex,
          prevTerm: 0 as Term,
          entries,
          commitIndex: at as LogIndex,
          quorumAgeTicks: null,
        },
      });
    }
    expect(one.told.filter((line) => line === "dropped 2").length).toBeGreaterThan(20);
    send(one, nodeId(2), heartbeat(1, 1)); // control is not behind bulk
    world.resume("m2");
    await world.advance(1_000);
    const kinds = two.received.map(({ kind }) => kind);
    expect(kinds.filter((kind) => kind === "append-request").length).toBeGreaterThan(10);
    expect(kinds.indexOf("heartbeat")).toBeGreaterThanOrEqual(0);
    expect(kinds.indexOf("heartbeat")).toBeLessThan(kinds.lastIndexOf("append-request"));
  });
});
