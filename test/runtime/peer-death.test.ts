/**
 * A process is killed, or stops reading: what its peers notice, and how soon. These need a second process; what needs only
 * two ends is in the network contract.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import type { AnantaError } from "../../core/errors.js";
import { type MessageStream, type Method, type Server, bidi } from "../../runtime/env.js";
import { createNodeEnv, nodeClock } from "../../runtime/node/env.js";
import { textCodec } from "../kit/network-contract.js";

type Text = { readonly text: string };
const CHAT: Method<Text, Text> = {
  path: "/test.v1.Death/Chat",
  kind: "bidi",
  request: textCodec,
  response: textCodec,
};

/** Plain grpc-js, as the child runs it without our sources: answers each message with the same bytes. */
const ECHO_SERVER = `
  const { Server, ServerCredentials } = require("@grpc/grpc-js");
  const same = (bytes) => bytes;
  const server = new Server();
  server.register("${CHAT.path}", (call) => { call.on("data", (m) => call.write(m)); call.on("end", () => call.end()); }, same, same, "bidi");
  server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (_, port) => console.log(port));
`;
/** Opens a stream, says one word, and lives on. */
const CALLER = `
  const { Client, credentials } = require("@grpc/grpc-js");
  const same = (bytes) => bytes;
  const call = new Client(process.env.ADDRESS, credentials.createInsecure()).makeBidiStreamRequest("${CHAT.path}", same, same);
  call.on("error", () => {});
  call.write(Buffer.from("hello"));
`;

const env = createNodeEnv({ logLevel: "silent" });
let child: ChildProcess | null = null;
afterEach(() => {
  child?.kill("SIGKILL");
  child = null;
});

function run(script: string, variables: Record<string, string> = {}): ChildProcess {
  child = spawn(process.execPath, ["-e", script], {
    env: { ...process.env, ...variables },
    stdio: ["ignore", "pipe", "inherit"],
  });
  return child;
}

interface End {
  readonly error: AnantaError | null;
  readonly atMs: number;
}

/** Resolves with the first message and, later, with the end. */
function listen(stream: MessageStream<Text, Text>): { readonly first: Promise<string>; readonly end: Promise<End> } {
  let closed: (end: End) => void;
  const end = new Promise<End>((resolve) => {
    closed = resolve;
  });
  const first = new Promise<string>((resolve) => {
    stream.listen({
      message: ({ text }) => resolve(text),
      closed: (error) => closed({ error, atMs: nodeClock.nowMs() }),
    });
  });
  return { first, end };
}

describe("when a peer dies", () => {
  it("closes its streams within milliseconds of a kill -9, and says at once that nobody listens any more", async () => {
    const server = run(ECHO_SERVER);
    const [line] = (await once(server.stdout!, "data")) as [Buffer];
    const channel = env.network.connect(`127.0.0.1:${line.toString().trim()}`, { reconnectMaxMs: 100 });
    const stream = channel.open(CHAT);
    const { first, end } = listen(stream);
    stream.send({ text: "hello" });
    expect(await first).toBe("hello");
    const killedMs = nodeClock.nowMs();
    const exited = once(server, "exit"); // it may come before the end of the stream
    server.kill("SIGKILL");
    const { error, atMs } = await end;
    expect(error?.code).not.toBe("CANCELLED");
    expect(error?.facts["refused"]).toBeUndefined();
    expect(atMs - killedMs).toBeLessThan(1_000); // some 5 ms on an idle machine
    await exited;
    for (let i = 0; i < 3; i++) {
      const startMs = nodeClock.nowMs();
      const again = await listen(channel.open(CHAT)).end;
      expect(again.error).toMatchObject({ code: "UNAVAILABLE", facts: { refused: true } });
      expect(again.atMs - startMs).toBeLessThan(1_000);
    }
    channel.close();
  });

  it("says that a port of something else does not speak gRPC", async () => {
    const pages = createServer((_request, response) => response.end("metrics")).listen(0, "127.0.0.1");
    await once(pages, "listening");
    const address = `127.0.0.1:${(pages.address() as AddressInfo).port}`;
    const channel = env.network.connect(address);
    const { error } = await listen(channel.open(CHAT)).end;
    expect(error).toMatchObject({ code: "UNAVAILABLE", facts: { foreign: true } });
    expect(error?.message).toBe(
      `what listens at ${address} does not speak gRPC; it may be the port for metrics and health`,
    );
    channel.close();
    pages.close();
  });

  it("tells the serving side CANCELLED when its caller is killed", async () => {
    let server: Server | null = null;
    const served = new Promise<ReturnType<typeof listen>>((resolve) => {
      void env.network.serve("127.0.0.1:0", [bidi(CHAT, (stream) => resolve(listen(stream)))]).then((started) => {
        server = started;
        run(CALLER, { ADDRESS: started.address });
      });
    });
    const { first, end } = await served;
    expect(await first).toBe("hello");
    child?.kill("SIGKILL");
    expect((await end).error?.code).toBe("CANCELLED");
    await (server as Server | null)?.stop(0);
  });
});

describe("when a peer does not read", () => {
  it("stops the sender within some windows' worth of bytes, on either side", async () => {
    const streams: MessageStream<Text, Text>[] = [];
    const server = await env.network.serve("127.0.0.1:0", [bidi(CHAT, (stream) => void streams.push(stream))]);
    const channel = env.network.connect(server.address, { dedicated: true });
    const mine = channel.open(CHAT);
    mine.send({ text: "hello" });
    while (streams.length === 0) await new Promise<void>((resolve) => void nodeClock.setTimer(1, resolve));
    const text = "x".repeat(8_192);
    for (const sender of [mine, streams[0]!]) {
      let sentBytes = 0;
      // Not a burst: between two messages there is time to send.
      while (sender.send({ text })) {
        sentBytes += text.length;
        expect(sentBytes).toBeLessThan(1_000_000);
        await new Promise<void>((resolve) => void nodeClock.setTimer(0, resolve));
      }
    }
    channel.close();
    await server.stop(0);
  });
});
