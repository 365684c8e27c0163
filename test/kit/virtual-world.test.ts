import { describe, expect, it } from "vitest";
import { AnantaError } from "../../core/errors.js";
import { type MessageStream, type Method, bidi, unary } from "../../runtime/env.js";
import { leftovers } from "./finishes-cleanly.js";
import { textCodec } from "./network-contract.js";
import { VirtualWorld, testSeed } from "./virtual-world.js";

interface Text {
  readonly text: string;
}
const ECHO: Method<Text, Text> = {
  path: "/test.v1.World/Echo",
  kind: "unary",
  request: textCodec,
  response: textCodec,
};
const CHAT: Method<Text, Text> = { path: "/test.v1.World/Chat", kind: "bidi", request: textCodec, response: textCodec };

const ADDRESS = "server:7001";

/** A server that answers every message of a chat with itself, and a client with one open chat. */
async function chatting(world: VirtualWorld) {
  const open: MessageStream<Text, Text>[] = [];
  const serve = (name = "server") =>
    world.run(
      world.env(name).network.serve(ADDRESS, [
        unary(ECHO, async (request) => request),
        bidi(CHAT, (stream) => {
          open.push(stream);
          stream.listen({ message: (message) => void stream.send(message), closed: () => stream.end() });
        }),
      ]),
    );
  const server = await serve();
  const channel = world.env("client").network.connect(ADDRESS, { reconnectMaxMs: 200 });
  const heard: string[] = [];
  const chat = (): MessageStream<Text, Text> => {
    const stream = channel.open(CHAT);
    stream.listen({
      message: ({ text }) => void heard.push(text),
      closed: (error) =>
        void heard.push(error === null ? "closed" : `closed ${error.code} ${error.facts["refused"] === true}`),
    });
    return stream;
  };
  return { server, serve, channel, heard, chat, open };
}

const world = (salt: string): VirtualWorld => new VirtualWorld({ seed: testSeed(salt) });

describe("the virtual world", () => {
  it("tells the same story for the same seed, another one for another", async () => {
    const story = async (seed: number): Promise<string> => {
      const w = new VirtualWorld({ seed, link: { loss: 0.2, duplicate: 0.2, reorder: 0.3 } });
      const a = await w.run(w.env("a").datagrams.bind("a:1"));
      const b = await w.run(w.env("b").datagrams.bind("b:1"));
      const log = w.env("b").log;
      b.listen((bytes, from) => log.info("datagram", { from, number: bytes[0] }));
      for (let i = 0; i < 100; i++) {
        a.send(Uint8Array.of(i), "b:1");
        await w.advance(0.1);
      }
      await w.advance(10);
      return w.log.trace();
    };
    expect(await story(7)).toBe(await story(7));
    expect(await story(7)).not.toBe(await story(8));
  });

  it("loses, duplicates and reorders datagrams, and carries none across a cut", async () => {
    const w = new VirtualWorld({ seed: testSeed("datagrams"), link: { loss: 0.1, duplicate: 0.1, reorder: 0.2 } });
    const a = await w.run(w.env("a").datagrams.bind("a:1"));
    const b = await w.run(w.env("b").datagrams.bind("b:0"));
    const got: number[] = [];
    b.listen((bytes) => void got.push(bytes[0] ?? -1));
    for (let i = 0; i < 200; i++) {
      a.send(Uint8Array.of(i), b.address);
      await w.advance(0.2);
    }
    await w.advance(10);
    const distinct = new Set(got);
    expect(distinct.size).toBeLessThan(200);
    expect(distinct.size).toBeGreaterThan(150);
    expect(got.length).toBeGreaterThan(distinct.size);
    expect(got).not.toEqual([...got].sort((x, y) => x - y));
    got.length = 0;
    w.partition(["a"], ["b"]);
    a.send(Uint8Array.of(1), b.address);
    await w.advance(100);
    w.heal();
    await w.advance(100);
    expect(got).toEqual([]);
  });

  it("closes the streams of a crashed process promptly and refuses new connections", async () => {
    const w = world("crash");
    const { heard, chat } = await chatting(w);
    chat().send({ text: "hello" });
    await w.advance(5);
    w.crash("server");
    await w.advance(1);
    expect(heard).toEqual(["hello", "closed UNAVAILABLE false"]);
    chat();
    await w.advance(2);
    expect(heard.at(-1)).toBe("closed UNAVAILABLE true");
  });

  it("never calls a crashed env back", async () => {
    const w = world("never");
    const env = w.env("client");
    const { heard, chat, channel } = await chatting(w);
    const late: string[] = [];
    chat().send({ text: "hello" });
    env.clock.setTimer(10, () => void late.push("timer"));
    const file = await w.run(env.disk.openFile("/f"));
    void file.sync().then(() => late.push("sync"));
    void channel.call(ECHO, { text: "x" }, { deadlineMs: 5 }).then(
      () => late.push("call"),
      () => late.push("call"),
    );
    w.crash("client");
    env.clock.setTimer(1, () => void late.push("timer after the crash"));
    void file.readAt(0, 1).then(() => late.push("read after the crash"));
    env.log.info("a word from beyond");
    chat().send({ text: "beyond" });
    await w.advance(60_000);
    expect(late).toEqual([]);
    expect(heard).toEqual([]);
    expect(w.log.find("a word from beyond")).toEqual([]);
  });

  it("says nothing for a machine that is lost silently, until the peers' patience ends", async () => {
    const w = world("silent");
    const { heard, chat } = await chatting(w);
    chat();
    await w.advance(5);
    w.crash("server", { sockets: "silent" });
    await w.advance(9_000);
    expect(heard).toEqual([]);
    await w.advance(2_000);
    expect(heard).toEqual(["closed UNAVAILABLE false"]);
  });

  it("holds what crosses a short cut and delivers it in order after the heal", async () => {
    const w = world("short cut");
    const { heard, chat } = await chatting(w);
    const stream = chat();
    await w.advance(5);
    w.partition(["client"], ["server"]);
    for (let i = 0; i < 5; i++) {
      stream.send({ text: String(i) });
      await w.advance(100);
    }
    expect(heard).toEqual([]);
    w.heal();
    await w.advance(200);
    expect(heard).toEqual(["0", "1", "2", "3", "4"]);
  });

  it("breaks the streams of a long cut on both sides, without refusal", async () => {
    const w = world("long cut");
    const { heard, chat, open } = await chatting(w);
    const stream = chat();
    await w.advance(5);
    const atServer: string[] = [];
    open[0]?.listen({ message: () => {}, closed: (error) => void atServer.push(String(error?.code)) });
    w.cut("client", "server", "one-way");
    stream.send({ text: "lost" });
    await w.advance(11_000);
    expect(heard).toEqual(["closed UNAVAILABLE false"]);
    expect(atServer).toEqual(["CANCELLED"]);
    w.heal();
    await w.advance(1_000);
    expect(heard).toHaveLength(1);
  });

  it("spares the first stream the handshake on a channel that was told to connect", async () => {
    const firstAnswerMs = async (warm: boolean): Promise<number> => {
      const w = new VirtualWorld({ seed: testSeed("warm"), link: { delayMs: [10, 10] } });
      const { channel, heard, chat } = await chatting(w);
      if (warm) channel.connect();
      await w.advance(100);
      const fromMs = w.clock.nowMs;
      chat().send({ text: "hello" });
      while (heard.length === 0) await w.advance(1);
      return w.clock.nowMs - fromMs;
    };
    expect(await firstAnswerMs(false)).toBeGreaterThan((await firstAnswerMs(true)) + 9);
  });

  it("lets a connect attempt wait for a cut link", async () => {
    const w = world("connect across a cut");
    const { heard, chat } = await chatting(w);
    w.partition(["client"], ["server"]);
    chat().send({ text: "late" });
    await w.advance(500);
    expect(heard).toEqual([]);
    w.heal();
    await w.advance(100);
    expect(heard).toEqual(["late"]);
  });

  it("lets nothing of a paused process run, and all of it after the resume", async () => {
    const w = world("pause");
    const { heard, chat, channel } = await chatting(w);
    const stream = chat();
    await w.advance(5);
    w.pause("server");
    stream.send({ text: "1" });
    stream.send({ text: "2" });
    const error = await w.run(channel.call(ECHO, { text: "x" }, { deadlineMs: 50 }).then(() => null, AnantaError.from));
    expect(error?.code).toBe("DEADLINE_EXCEEDED");
    expect(heard).toEqual([]);
    w.resume("server");
    await w.advance(5);
    expect(heard).toEqual(["1", "2"]);
  });

  it("gives a restarted machine its disk back, without what was never synced", async () => {
    const w = world("disk");
    const env = w.env("m");
    const store = await w.run(env.disk.openStore("/data/log"));
    await w.run(store.put(Uint8Array.of(1), Uint8Array.of(1)));
    await w.run(store.put(Uint8Array.of(2), Uint8Array.of(2), { sync: true } as object));
    await w.run(store.del(Uint8Array.of(1)));
    await w.run(store.put(Uint8Array.of(3), Uint8Array.of(3)));
    const file = await w.run(env.disk.openFile("/data/state"));
    await w.run(file.writeAt(0, Uint8Array.of(1, 1)));
    await w.run(file.sync());
    await w.run(file.writeAt(0, Uint8Array.of(2, 2, 2)));

    const again = w.restart("m").disk;
    const reopened = await w.run(again.openStore("/data/log"));
    expect((await w.run(reopened.keys().all())).map((key) => key[0])).toEqual([1, 2]);
    const state = await w.run(again.openFile("/data/state"));
    expect([...(await w.run(state.readAt(0, 9)))]).toEqual([1, 1]);

    await w.run(state.writeAt(0, Uint8Array.of(3)));
    const afterKill = w.restart("m", { disk: "process" }).disk;
    const kept = await w.run(afterKill.openFile("/data/state"));
    expect([...(await w.run(kept.readAt(0, 9)))]).toEqual([3, 1]);
  });

  it("keeps by chance a prefix of a store's unsynced writes", async () => {
    const kept = new Set<number>();
    for (let seed = 0; seed < 40; seed++) {
      const w = new VirtualWorld({ seed, disk: { unsyncedWrites: "by-chance" } });
      const store = await w.run(w.env("m").disk.openStore("/s"));
      for (let i = 0; i < 3; i++) await w.run(store.put(Uint8Array.of(i), Uint8Array.of(i)));
      const reopened = await w.run(w.restart("m").disk.openStore("/s"));
      const keys = (await w.run(reopened.keys().all())).map((key) => key[0]);
      expect(keys).toEqual([0, 1, 2].slice(0, keys.length));
      kept.add(keys.length);
    }
    expect([...kept].sort()).toEqual([0, 1, 2, 3]);
  });

  it("fails syncs and writes on demand, and a store that failed once stays failed", async () => {
    const w = world("disk faults");
    const { disk } = w.env("m");
    const store = await w.run(disk.openStore("/s"));
    const file = await w.run(disk.openFile("/f"));
    w.disk("m").failNextSync(2);
    await expect(w.run(file.sync())).rejects.toMatchObject({ code: "STORAGE_FAILED" });
    await expect(w.run(store.put(Uint8Array.of(1), Uint8Array.of(1), { sync: true } as object))).rejects.toThrow();
    await expect(w.run(store.put(Uint8Array.of(1), Uint8Array.of(1)))).rejects.toThrow();
    w.disk("m").setFreeBytes(10);
    expect(await w.run(disk.freeBytes("/"))).toBe(10);
    await expect(w.run(file.writeAt(0, new Uint8Array(11)))).rejects.toMatchObject({ code: "STORAGE_FAILED" });
  });

  it("knows what was left open, and that nothing was", async () => {
    const w = world("leftovers");
    const { server, channel, chat } = await chatting(w);
    const stream = chat();
    const timer = w.env("client").clock.setTimer(1_000, () => {});
    await w.advance(5);
    expect([...leftovers(w)].sort()).toEqual([
      "client: 1 timer(s)",
      `client: channel ${ADDRESS}`,
      `client: stream ${CHAT.path} to ${ADDRESS}`,
      `server: server ${ADDRESS}`,
      expect.stringContaining(`server: stream ${CHAT.path} from client:`),
    ]);
    timer.cancel();
    stream.end();
    await w.advance(5);
    channel.close();
    await w.run(server.stop(0));
    expect(leftovers(w)).toEqual([]);
  });
});
