/**
 * What `Network` promises, as one suite for every implementation: the virtual one runs it on virtual time, the real one on
 * loopback.
 */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { AnantaError } from "../../core/errors.js";
import {
  type CallContext,
  type Channel,
  type Codec,
  type Env,
  type Handler,
  type MessageStream,
  type Method,
  type Server,
  bidi,
  serverStream,
  unary,
} from "../../runtime/env.js";

export interface NetworkFixture {
  readonly server: Env;
  readonly client: Env;
  /** An address with a free port: "host:0". */
  readonly anyAddress: string;
  /** Lets time run until the promise settles. */
  run<T>(promise: Promise<T>): Promise<T>;
  /** Lets time run until the predicate holds; fails after some seconds. */
  until(predicate: () => boolean): Promise<void>;
  /** Lets `ms` pass. */
  pass(ms: number): Promise<void>;
  dispose(): Promise<void>;
}

interface Text {
  readonly text: string;
}

export const textCodec: Codec<Text> = {
  encode: (message) => new TextEncoder().encode(message.text),
  decode: (bytes) => {
    const text = new TextDecoder().decode(bytes);
    if (text === "malformed") throw new Error("not a text");
    return { text };
  },
};

const method = (name: string, kind: Method<Text, Text>["kind"]): Method<Text, Text> => ({
  path: `/test.v1.Contract/${name}`,
  kind,
  request: textCodec,
  response: textCodec,
});
const ECHO = method("Echo", "unary");
const FAIL = method("Fail", "unary");
const SILENT = method("Silent", "unary");
const COUNT = method("Count", "server-stream");
const CHAT = method("Chat", "bidi");
const BROKEN = method("Broken", "bidi");

/** What a listener heard, in order. */
class Heard {
  readonly events: string[] = [];
  error: AnantaError | null = null;
  drained = 0;

  get closedCount(): number {
    return this.events.filter((event) => event.startsWith("closed")).length;
  }

  on(stream: MessageStream<never, Text> | MessageStream<Text, Text>): this {
    stream.listen({
      message: ({ text }) => void this.events.push(text),
      closed: (error) => {
        this.error = error;
        this.events.push(error === null ? "closed" : `closed ${error.code}`);
      },
      drained: () => {
        this.drained++;
      },
    });
    return this;
  }
}

async function rejection(promise: Promise<unknown>): Promise<AnantaError> {
  const caught = await promise.then(
    () => null,
    (error: unknown) => error,
  );
  if (!(caught instanceof AnantaError)) throw new Error(`an AnantaError, not ${String(caught)}`);
  return caught;
}

export function networkContract(name: string, create: () => Promise<NetworkFixture>): void {
  describe(`network contract: ${name}`, () => {
    let fixture: NetworkFixture;
    let server: Server;
    let channel: Channel;
    let chats: MessageStream<Text, Text>[];
    let calls: CallContext[];

    const handlers = (): Handler[] => [
      unary(ECHO, async (request) => request),
      unary(FAIL, (request) => {
        if (request.text === "typed") {
          throw new AnantaError("NOT_LEADER", "replica 2 leads", {
            leaderHint: "127.0.0.1:7002",
            term: 7,
            known: true,
          });
        }
        return Promise.reject(new TypeError(`a defect: ${request.text}`));
      }),
      unary(SILENT, (_request, call) => {
        calls.push(call);
        return new Promise(() => {});
      }),
      serverStream(COUNT, (request, stream) => {
        if (request.text === "throw") throw new AnantaError("NOT_FOUND", "no such thing");
        for (let i = 1; i <= Number(request.text); i++) stream.send({ text: String(i) });
        stream.end();
      }),
      bidi(CHAT, (stream) => void chats.push(stream)),
      bidi(BROKEN, () => {
        throw new Error("broken handler");
      }),
    ];
    const serve = async (address = fixture.anyAddress): Promise<Server> =>
      fixture.run(fixture.server.network.serve(address, handlers()));
    const call = (m: Method<Text, Text>, text: string, deadlineMs = 2_000): Promise<Text> =>
      fixture.run(channel.call(m, { text }, { deadlineMs }));
    const failure = (m: Method<Text, Text>, text: string, deadlineMs = 2_000): Promise<AnantaError> =>
      fixture.run(rejection(channel.call(m, { text }, { deadlineMs })));
    const openChat = async (): Promise<[MessageStream<Text, Text>, MessageStream<Text, Text>]> => {
      const index = chats.length;
      const mine = channel.open(CHAT);
      await fixture.until(() => chats.length > index);
      return [mine, chats[index]!];
    };

    beforeEach(async () => {
      chats = [];
      calls = [];
      fixture = await create();
      server = await serve();
      channel = fixture.client.network.connect(server.address, { reconnectMaxMs: 100 });
    });

    afterEach(async () => {
      channel.close();
      await fixture.run(server.stop(0));
      await fixture.dispose();
    });

    it("answers a unary call", async () => {
      expect(await call(ECHO, "hello")).toEqual({ text: "hello" });
      expect(channel.address).toBe(server.address);
    });

    it("keeps many concurrent calls apart", async () => {
      const texts = Array.from({ length: 50 }, (_, i) => `call ${i}`);
      const answers = await fixture.run(
        Promise.all(texts.map((text) => channel.call(ECHO, { text }, { deadlineMs: 5_000 }))),
      );
      expect(answers.map(({ text }) => text)).toEqual(texts);
    });

    it("brings a typed error with its code, message and facts", async () => {
      const error = await failure(FAIL, "typed");
      expect(error.code).toBe("NOT_LEADER");
      expect(error.message).toBe("replica 2 leads");
      expect(error.facts).toMatchObject({ leaderHint: "127.0.0.1:7002", term: 7, known: true });
    });

    it("turns an untyped failure of a handler into INTERNAL, promptly", async () => {
      const error = await failure(FAIL, "untyped");
      expect(error.code).toBe("INTERNAL");
      expect(error.message).toContain("a defect: untyped");
    });

    it("refuses a malformed request with INVALID_ARGUMENT", async () => {
      expect((await failure(ECHO, "malformed")).code).toBe("INVALID_ARGUMENT");
    });

    it("refuses a method that nobody serves with UNIMPLEMENTED", async () => {
      expect((await failure(method("Nothing", "unary"), "x")).code).toBe("UNIMPLEMENTED");
    });

    it("refuses a message that is too long with INVALID_ARGUMENT before it is sent", async () => {
      expect((await failure(ECHO, "x".repeat(4 * 1024 * 1024 + 1))).code).toBe("INVALID_ARGUMENT");
    });

    it("ends a call at its deadline and tells the handler", async () => {
      await call(ECHO, "warm"); // connecting takes its time on a busy machine
      const error = await failure(SILENT, "x", 250);
      expect(error.code).toBe("DEADLINE_EXCEEDED");
      expect(error.outcomeUnknown).toBe(true);
      expect(calls).toHaveLength(1);
      expect(calls[0]?.deadlineMs).toBeLessThanOrEqual(250);
      expect(calls[0]?.peer).toMatch(/:\d+$/);
      await fixture.until(() => calls[0]?.signal.aborted === true);
    });

    it("says at once that nobody listens", async () => {
      const address = server.address;
      await fixture.run(server.stop(0));
      const fresh = fixture.client.network.connect(address);
      const startMs = fixture.client.clock.nowMs();
      const error = await fixture.run(rejection(fresh.call(ECHO, { text: "x" }, { deadlineMs: 5_000 })));
      expect(error.code).toBe("UNAVAILABLE");
      expect(error.facts["refused"]).toBe(true);
      const heard = new Heard().on(fresh.open(CHAT));
      await fixture.until(() => heard.error !== null);
      expect(heard.error?.code).toBe("UNAVAILABLE");
      expect(heard.error?.facts["refused"]).toBe(true);
      expect(fixture.client.clock.nowMs() - startMs).toBeLessThan(1_000);
      fresh.close();
    });

    it("tells a process that listens from one that does not, without being noticed", async () => {
      const probe = (): Promise<string> => fixture.run(fixture.client.network.probe(server.address, 1_000));
      expect(await probe()).toBe("listening");
      expect(await call(ECHO, "goes on")).toEqual({ text: "goes on" });
      await fixture.run(server.stop(0));
      expect(await probe()).toBe("refused");
    });

    it("reaches a server that came back, within the back-off", async () => {
      await call(ECHO, "before");
      const address = server.address;
      await fixture.run(server.stop(0));
      for (let i = 0; i < 5; i++) expect((await failure(ECHO, "x")).code).toBe("UNAVAILABLE");
      server = await serve(address);
      await fixture.pass(300);
      expect(await call(ECHO, "after")).toEqual({ text: "after" });
    });

    it("connects before anything is asked, as often as it is told to, and to nobody without harm", async () => {
      const address = server.address;
      const early = fixture.client.network.connect(address);
      early.connect();
      early.connect();
      await fixture.pass(50);
      expect(await fixture.run(early.call(ECHO, { text: "warm" }, { deadlineMs: 1_000 }))).toEqual({ text: "warm" });
      await fixture.run(server.stop(0));
      early.connect();
      await fixture.pass(50);
      server = await serve(address);
      await fixture.pass(300);
      expect(await fixture.run(early.call(ECHO, { text: "again" }, { deadlineMs: 1_000 }))).toEqual({ text: "again" });
      early.close();
      early.connect();
    });

    it("refuses a port that is taken", async () => {
      const error = await fixture.run(rejection(fixture.server.network.serve(server.address, handlers())));
      expect(error.code).toBe("FAILED_PRECONDITION");
      expect(error.message).toContain(`${server.address} is already in use`);
    });

    it("brings the messages of a subscription in order, then its end", async () => {
      const heard = new Heard().on(channel.subscribe(COUNT, { text: "100" }));
      await fixture.until(() => heard.closedCount > 0);
      expect(heard.events).toEqual([...Array.from({ length: 100 }, (_, i) => String(i + 1)), "closed"]);
    });

    it("closes a subscription with the error that its handler threw", async () => {
      const heard = new Heard().on(channel.subscribe(COUNT, { text: "throw" }));
      await fixture.until(() => heard.closedCount > 0);
      expect(heard.events).toEqual(["closed NOT_FOUND"]);
    });

    it("closes a bidi stream whose handler throws with INTERNAL", async () => {
      const heard = new Heard().on(channel.open(BROKEN));
      await fixture.until(() => heard.closedCount > 0);
      expect(heard.error?.code).toBe("INTERNAL");
    });

    it("carries messages both ways on a bidi stream", async () => {
      const [mine, theirs] = await openChat();
      const atServer = new Heard().on(theirs);
      const atClient = new Heard().on(mine);
      for (let i = 0; i < 20; i++) mine.send({ text: `to server ${i}` });
      for (let i = 0; i < 20; i++) theirs.send({ text: `to client ${i}` });
      await fixture.until(() => atServer.events.length === 20 && atClient.events.length === 20);
      expect(atServer.events[19]).toBe("to server 19");
      expect(atClient.events[19]).toBe("to client 19");
      theirs.end();
      await fixture.until(() => atClient.closedCount > 0 && atServer.closedCount > 0);
      expect(atClient.events.at(-1)).toBe("closed");
      expect(atServer.events.at(-1)).toBe("closed");
    });

    it("keeps what came before `listen`, in order, and calls the listener outside of `listen`", async () => {
      const [mine, theirs] = await openChat();
      for (let i = 0; i < 5; i++) mine.send({ text: String(i) });
      theirs.send({ text: "a" });
      theirs.end(new AnantaError("STALE_INCARNATION", "a newer one"));
      await fixture.pass(30);
      const atClient = new Heard().on(mine);
      const atServer = new Heard().on(theirs);
      expect(atClient.events).toEqual([]);
      await fixture.until(() => atClient.closedCount > 0 && atServer.closedCount > 0);
      expect(atClient.events).toEqual(["a", "closed STALE_INCARNATION"]);
      expect(atServer.events.at(-1)).toBe("closed STALE_INCARNATION");
    });

    it("lets the serving side still answer after the caller has ended its side, then ends the stream", async () => {
      const [mine, theirs] = await openChat();
      const atClient = new Heard().on(mine);
      const atServer = new Heard().on(theirs);
      mine.send({ text: "question" });
      mine.end();
      mine.end();
      mine.send({ text: "too late" });
      await fixture.until(() => atServer.closedCount > 0);
      expect(atServer.events).toEqual(["question", "closed"]);
      theirs.send({ text: "answer" });
      await fixture.until(() => atClient.closedCount > 0); // nobody calls `theirs.end()`
      expect(atClient.events).toEqual(["answer", "closed"]);
    });

    it("tells the serving side CANCELLED when the caller ends with an error, and itself that error", async () => {
      const [mine, theirs] = await openChat();
      const atClient = new Heard().on(mine);
      const atServer = new Heard().on(theirs);
      mine.end(new AnantaError("BEHIND", "switching replicas"));
      expect(atClient.events).toEqual([]);
      await fixture.until(() => atClient.closedCount > 0 && atServer.closedCount > 0);
      expect(atClient.events).toEqual(["closed BEHIND"]);
      expect(atServer.events).toEqual(["closed CANCELLED"]);
      theirs.send({ text: "into the void" });
      theirs.end();
      await fixture.pass(10);
      expect(atServer.closedCount).toBe(1);
    });

    it("closes the streams of a channel that is closed", async () => {
      const [mine, theirs] = await openChat();
      const atClient = new Heard().on(mine);
      const atServer = new Heard().on(theirs);
      channel.close();
      channel.close();
      await fixture.until(() => atClient.closedCount > 0 && atServer.closedCount > 0);
      expect(atClient.error?.code).toBe("CANCELLED");
      expect(atServer.error?.code).toBe("CANCELLED");
      expect((await failure(ECHO, "x")).code).toBe("CANCELLED");
    });

    it("holds a fast sender back while the reader does not read, loses nothing, and says when to go on", async () => {
      const [mine, theirs] = await openChat();
      const atClient = new Heard().on(mine);
      const text = "x".repeat(16_384);
      let sent = 0;
      let free = true;
      while (free && sent < 1_000) {
        free = mine.send({ text });
        sent++;
      }
      expect(free).toBe(false);
      const atServer = new Heard().on(theirs);
      await fixture.until(() => atServer.events.length === sent && atClient.drained > 0);
      mine.end();
      await fixture.until(() => atServer.closedCount > 0);
      expect(atServer.events).toHaveLength(sent + 1);
    });

    it("gives open calls their grace when it stops, then ends them", async () => {
      const [mine, theirs] = await openChat();
      const atClient = new Heard().on(mine);
      const atServer = new Heard().on(theirs);
      let stopped = false;
      const stop = server.stop(100).then(() => {
        stopped = true;
      });
      await fixture.pass(30);
      expect(stopped).toBe(false);
      expect(atClient.events).toEqual([]);
      theirs.send({ text: "still here" });
      await fixture.run(stop);
      await fixture.until(() => atClient.closedCount > 0 && atServer.closedCount > 0);
      expect(atClient.events).toEqual(["still here", "closed UNAVAILABLE"]);
    });

    it("stops at once when nothing is open", async () => {
      await call(ECHO, "x");
      const startMs = fixture.client.clock.nowMs();
      await fixture.run(server.stop(5_000));
      await fixture.run(server.stop(5_000));
      expect(fixture.client.clock.nowMs() - startMs).toBeLessThan(1_000);
    });

    it("gives dedicated channels connections of their own", async () => {
      const other = fixture.client.network.connect(server.address, { dedicated: true });
      expect(await fixture.run(other.call(ECHO, { text: "x" }, { deadlineMs: 1_000 }))).toEqual({ text: "x" });
      const [first] = await openChat();
      other.close();
      const heard = new Heard().on(first);
      await fixture.pass(20);
      expect(heard.events).toEqual([]);
      first.end(new AnantaError("CANCELLED", "done"));
    });
  });
}
