import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, credentials, status as Status, type ServiceError } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { AnantaError } from "../../core/errors.js";
import { type Method, bidi, unary } from "../../runtime/env.js";
import { type NodeEnv, createNodeEnv, nodeClock } from "../../runtime/node/env.js";
import { textCodec } from "../kit/network-contract.js";

const ECHO: Method<{ text: string }, { text: string }> = {
  path: "/test.v1.Node/Echo",
  kind: "unary",
  request: textCodec,
  response: textCodec,
};
const CHAT = { ...ECHO, path: "/test.v1.Node/Chat", kind: "bidi" as const };

let env: NodeEnv;
let folder: string;
let lines: string[];
beforeEach(async () => {
  lines = [];
  folder = await mkdtemp(join(tmpdir(), "ananta-node-"));
  env = createNodeEnv({
    name: "node-1",
    dataFolder: folder,
    seed: 7,
    logTo: { write: (line) => void lines.push(line) },
  });
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const bytes = (value: Buffer): Buffer => value;

/** A caller that knows nothing of us. */
function thirdParty(address: string) {
  const client = new Client(address, credentials.createInsecure());
  return {
    close: () => client.close(),
    unary: (path: string, request: Buffer) =>
      new Promise<Buffer>((resolve, reject) => {
        client.makeUnaryRequest(path, bytes, bytes, request, (error, answer) => {
          if (error !== null) reject(error);
          else resolve(answer ?? Buffer.alloc(0));
        });
      }),
    bidi: (path: string, request: Buffer) =>
      new Promise<Buffer>((resolve, reject) => {
        const call = client.makeBidiStreamRequest(path, bytes, bytes);
        call.on("data", resolve);
        call.on("error", reject);
        call.write(request);
        call.end();
      }),
  };
}

describe("the real environment", () => {
  it("refuses to listen beyond loopback unless it was allowed to", async () => {
    await expect(env.network.serve("0.0.0.0:0", [])).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
    await expect(env.datagrams.bind("0.0.0.0:0")).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
    const open = createNodeEnv({ name: "open", dataFolder: folder, insecure: true, logLevel: "silent" });
    const server = await open.network.serve("0.0.0.0:0", []);
    await server.stop(0);
  });

  it("shows third parties the closest gRPC status", async () => {
    const codes = ["SNAT_PORTS_EXHAUSTED", "STAGE_OVERLOADED", "NO_LIVE_MUX", "NOT_LEADER", "LEADERSHIP_LOST"] as const;
    const server = await env.network.serve("127.0.0.1:0", [
      unary(ECHO, ({ text }) =>
        Promise.reject(new AnantaError(codes[Number(text)] ?? "INTERNAL", "no more ports — sorry")),
      ),
      bidi(CHAT, (stream) => stream.end(new AnantaError("WRONG_CLUSTER", "another one"))),
    ]);
    const caller = thirdParty(server.address);
    const seen: Status[] = [];
    for (const index of codes.keys()) {
      await caller.unary(ECHO.path, Buffer.from(String(index))).catch((error: unknown) => {
        seen.push((error as ServiceError).code);
        expect((error as ServiceError).details).toBe("no more ports — sorry");
      });
    }
    expect(seen).toEqual([
      Status.RESOURCE_EXHAUSTED,
      Status.RESOURCE_EXHAUSTED,
      Status.UNAVAILABLE,
      Status.UNAVAILABLE,
      Status.ABORTED,
    ]);
    await expect(caller.bidi(CHAT.path, Buffer.from("x"))).rejects.toMatchObject({ code: Status.FAILED_PRECONDITION });
    caller.close();
    await server.stop(0);
  });

  it("answers gRPC health and reflection for its public services", async () => {
    const server = await env.network.serve("127.0.0.1:0", [], { publicServices: ["ananta.v1.SnatService"] });
    const caller = thirdParty(server.address);
    const health = (): Promise<Buffer> => caller.unary("/grpc.health.v1.Health/Check", Buffer.alloc(0));
    expect([...(await health())]).toEqual([8, 2]); // NOT_SERVING
    server.setServing(true);
    expect([...(await health())]).toEqual([8, 1]); // SERVING
    const reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    const field = (number: number, text: string): Buffer =>
      Buffer.concat([Buffer.from([(number << 3) | 2, text.length]), Buffer.from(text)]);
    const services = (await caller.bidi(reflection, field(7, "*"))).toString("latin1");
    expect(services).toContain("ananta.v1.SnatService");
    expect(services).not.toContain("raft.v1");
    const file = (await caller.bidi(reflection, field(4, "ananta.v1.SnatService"))).toString("latin1");
    expect(file).toContain("SnatService");
    caller.close();
    await server.stop(0);
  });

  it("logs a defect of a handler with its stack, once, as one JSON line", async () => {
    const server = await env.network.serve("127.0.0.1:0", [
      unary(ECHO, () => Promise.reject(new TypeError("a defect"))),
    ]);
    const channel = env.network.connect(server.address);
    await expect(channel.call(ECHO, { text: "x" }, { deadlineMs: 1_000 })).rejects.toMatchObject({ code: "INTERNAL" });
    expect(lines).toHaveLength(1);
    expect(JSON.parse(lines[0] ?? "")).toMatchObject({
      level: "error",
      name: "node-1",
      event: "handler failed",
      path: ECHO.path,
    });
    channel.close();
    await server.stop(0);
  });

  it("changes its log level at run time, also for derived logs", () => {
    const derived = env.log.with({ part: "raft" });
    derived.debug("unheard");
    env.log.setLevel("debug");
    derived.debug("heard", { term: 3 });
    expect(lines).toHaveLength(1);
    expect(JSON.parse(lines[0] ?? "")).toMatchObject({ event: "heard", part: "raft", term: 3, level: "debug" });
  });

  it("draws the same numbers from the same seed, and unpredictable bytes", () => {
    const again = createNodeEnv({ name: "again", dataFolder: folder, seed: 7, logLevel: "silent" });
    expect(again.random.nextUint32()).toBe(env.random.nextUint32());
    expect(again.entropy(16)).not.toEqual(env.entropy(16));
  });

  it("carries datagrams", async () => {
    const a = await env.datagrams.bind("127.0.0.1:0");
    const b = await env.datagrams.bind("127.0.0.1:0");
    await expect(env.datagrams.bind(a.address)).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
    const got = new Promise<[number[], string]>((resolve) => {
      b.listen((packet, from) => resolve([[...packet], from]));
    });
    const packet = Uint8Array.of(1, 2, 3);
    a.send(packet, b.address);
    packet.fill(0);
    expect(await got).toEqual([[1, 2, 3], a.address]);
    a.close();
    a.close();
    a.send(packet, b.address);
    b.close();
  });

  it.skipIf(process.platform !== "linux").each(["127.0.0.1:0", "[::1]:0"])(
    "counts datagrams for which a socket has no room: %s",
    async (any) => {
      const [a, b, c] = [await env.datagrams.bind(any), await env.datagrams.bind(any), await env.datagrams.bind(any)];
      a.send(Uint8Array.of(1), b.address);
      expect(b.lost()).toBe(0);
      const packet = new Uint8Array(1_400);
      for (let i = 0; i < 20_000 && b.lost() === 0; i++) {
        for (let burst = 0; burst < 200; burst++) a.send(packet, b.address); // nobody reads meanwhile
        if (i % 50 === 49) await new Promise((resolve) => void nodeClock.nextTurn(() => resolve(undefined)));
      }
      const lost = b.lost();
      expect(lost).toBeGreaterThan(0);
      expect(c.lost(), "of another socket").toBe(0);
      for (const socket of [a, b, c]) socket.close();
      expect(b.lost(), "as it was last known").toBe(lost);
    },
  );

  it("has timers that can be cancelled", async () => {
    const fired: string[] = [];
    nodeClock.setTimer(1, () => void fired.push("cancelled")).cancel();
    nodeClock.nextTurn(() => void fired.push("cancelled")).cancel();
    await new Promise<void>((resolve) => void nodeClock.setTimer(5, resolve));
    expect(fired).toEqual([]);
  });
});
