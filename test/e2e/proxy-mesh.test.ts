/** The network that chaos runs cut: real sockets on loopback. */
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { once } from "node:events";
import { afterEach, expect, test } from "vitest";
import { freePortBlock } from "../../bench/measure/ports.js";
import { ProxyMesh } from "../chaos/proxy-mesh.js";

let server: Server;
let mesh: ProxyMesh;
let client: Socket;
const accepted: Socket[] = [];

/** One link from "a" to "b", an echo server; what comes back is collected. */
async function start(): Promise<{ readonly port: number; readonly received: () => string }> {
  server = createServer((socket) => {
    accepted.push(socket);
    socket.on("error", () => undefined).pipe(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port: targetPort } = server.address() as AddressInfo;
  const listenPort = await freePortBlock(1, 24_600);
  mesh = await ProxyMesh.start([{ from: "a", to: "b", listenPort, targetPort }]);
  return { port: listenPort, received: dial(listenPort) };
}

function dial(port: number): () => string {
  let text = "";
  client = connect(port, "127.0.0.1");
  client.on("error", () => undefined).on("data", (bytes) => (text += bytes.toString()));
  return () => text;
}

afterEach(() => {
  client.destroy();
  mesh.stop();
  for (const socket of accepted.splice(0)) socket.destroy();
  server.close();
});

const until = (condition: () => boolean): Promise<void> => expect.poll(condition, { timeout: 10_000 }).toBe(true);
const aWhile = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 150));

test.each([
  ["there", ["a"], ["b"]],
  ["back", ["b"], ["a"]],
] as const)("a cut holds bytes on their way %s, and they arrive when it is healed", async (_way, from, to) => {
  const { received } = await start();
  client.write("1");
  await until(() => received() === "1");
  mesh.cut(from, to);
  client.write("2");
  await aWhile();
  expect(received()).toBe("1");
  mesh.heal(false);
  await until(() => received() === "12");
});

test("a connection over a cut link hangs until it is healed", async () => {
  const { port } = await start();
  client.destroy();
  mesh.cut(["b"], ["a"]);
  const before = accepted.length;
  const received = dial(port);
  client.write("1");
  await aWhile();
  expect(accepted.length).toBe(before);
  mesh.heal(false);
  await until(() => received() === "1");
});

test("healing may break what was cut", async () => {
  const { received } = await start();
  client.write("1");
  await until(() => received() === "1");
  mesh.cut(["a"], ["b"]);
  const closed = new Promise((resolve) => client.once("close", resolve)); // after an error: it was reset
  mesh.heal(true);
  await closed;
});

test("the port of a dead process refuses, and accepts once it is back", async () => {
  const { port } = await start();
  mesh.processEnded("b");
  client.destroy();
  const refused = await new Promise<string>((resolve) => {
    connect(port, "127.0.0.1").on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? ""));
  });
  expect(refused).toBe("ECONNREFUSED");
  mesh.processStarted("b");
  const received = dial(port);
  client.write("1");
  await until(() => received() === "1");
});
