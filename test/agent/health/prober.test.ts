// Probes as packets to a machine that has a small TCP and UDP of its own, on virtual time.
import { createServer } from "node:tls";
import { Duplex } from "node:stream";
import { describe, expect, it } from "vitest";
import { PROBE_SOURCES } from "../../../agent/dataplane/reserved.js";
import { Health } from "../../../agent/health/health.js";
import type { MemberHealth } from "../../../agent/health/monitor.js";
import { openTls } from "../../../agent/health/tls-session.js";
import type { IpAddress, Port } from "../../../core/brands.js";
import { createRandom } from "../../../core/random.js";
import type { HostProbeItem } from "../../../dataplane/host-items.js";
import { PacketBatch, HOST_LINK } from "../../../dataplane/packet-batch.js";
import { Endpoint, type TcpApplication } from "../../../fabric/endpoints/endpoint.js";
import { AgentBench, HOST, upsert } from "../dataplane/agent-kit.js";
import { silentLog } from "../../kit/silent-log.js";
import { batchOf, SEED } from "../../packet/packet-kit.js";
import { probeItem } from "./probe-kit.js";

const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgrv881lrfcCmI9Jas
seIHP6pUXVmh/Y/J2sEhVZ9KqAGhRANCAASBGGth2/WIBcxIu9w4b9BzRvwfmQV2
UjOfHLF+vUyg5CfoGJfvuH+O3+kRACWfij0j8przlEknl09LzD/M7SIc
-----END PRIVATE KEY-----`;
const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBgjCCASegAwIBAgIUeb3DULRxxEbR/+uapnuiwmBFvtwwCgYIKoZIzj0EAwIw
FTETMBEGA1UEAwwKcHJvYmUudGVzdDAgFw0yNjExMjEwNzI0MjNaGA8yMTI2MTAy
ODA3MjQyM1owFTETMBEGA1UEAwwKcHJvYmUudGVzdDBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABIEYa2Hb9YgFzEi73Dhv0HNG/B+ZBXZSM58csX69TKDkJ+gYl++4
f47f6REAJZ+KPSPymvOUSSeXT0vMP8ztIhyjUzBRMB0GA1UdDgQWBBSXXOxPw+dp
2U7lRFxRV3oJzNLbvDAfBgNVHSMEGDAWgBSXXOxPw+dp2U7lRFxRV3oJzNLbvDAP
BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0kAMEYCIQD0l7fmzFR/Cwm9ncUP
ZQsSCxHYg927WwTyok4afboWCAIhANUi1/gkZ/5mKispwHLunmN0Hg/3II59nknt
UqTJtAsC
-----END CERTIFICATE-----`;

/** One host with one machine, and the packets between them. */
class ProbedMachine {
  readonly bench = new AgentBench(HOST);
  readonly reports: { readonly members: readonly MemberHealth[]; readonly whole: boolean }[] = [];
  readonly health: Health;
  readonly vm: Endpoint;
  readonly sources = new Set<string>();
  /** Every n-th packet is lost; 0: none. */
  loseEvery = 0;
  #packets = 0;
  readonly #out = new PacketBatch({ packets: 512 });
  #fromVm: Uint8Array[] = [];

  constructor(probe: HostProbeItem) {
    this.bench.change(upsert(probe));
    this.vm = new Endpoint("10.0.0.1" as IpAddress, createRandom(SEED), (packet) => this.#fromVm.push(packet));
    this.health = new Health({
      random: createRandom(SEED),
      log: silentLog,
      host: this.bench.agent,
      report: (members, whole) => this.reports.push({ members, whole }),
      openTls,
    });
  }

  run(seconds: number): void {
    for (const end = this.bench.nowMs + seconds * 1_000; this.bench.nowMs < end; this.bench.nowMs += 20) this.step();
  }

  step(): void {
    const { nowMs, agent } = this.bench;
    this.health.tick(nowMs, this.#out);
    for (let turns = 0; turns < 20 && (this.#out.count > 0 || this.#fromVm.length > 0); turns++) {
      for (let i = 0; i < this.#out.count; i++) {
        const packet = this.#out.packet(i).slice();
        if (this.loseEvery > 0 && ++this.#packets % this.loseEvery === 0) continue;
        this.sources.add([...packet.subarray(12, 16)].join("."));
        this.vm.receive(packet, nowMs);
      }
      this.#out.clear();
      const packets = this.#fromVm;
      this.#fromVm = [];
      const answers = new PacketBatch({ packets: 64 });
      if (packets.length > 0) agent.processFromVm(1 as never, batchOf(...packets), nowMs, answers);
      for (let i = 0; i < answers.count; i++) {
        expect(answers.links[i], "nothing of a probe leaves the host").toBe(HOST_LINK);
        this.health.receive(answers, i, answers.sources[i]!, nowMs);
      }
      this.health.settle(nowMs, this.#out);
    }
    this.vm.tick(nowMs);
  }

  get state(): string {
    const [member] = this.health.states(this.bench.nowMs);
    return member === undefined ? "unknown" : member.healthy ? "healthy" : member.reason;
  }
}

const answering = (answer: string, seen: string[] = []): TcpApplication => ({
  received(connection, payload) {
    seen.push(new TextDecoder().decode(payload));
    connection.send(new TextEncoder().encode(answer));
  },
  peerClosed: (connection) => connection.close(),
  ended: () => undefined,
});

describe("a TCP probe", () => {
  it("finds a listener, a closed port and a silent machine, and says which", () => {
    const machine = new ProbedMachine(probeItem());
    machine.run(15);
    expect(machine.state).toBe("connection refused");
    machine.vm.listen(8_080 as Port, answering(""));
    machine.run(12);
    expect(machine.state).toBe("healthy");
    machine.loseEvery = 1;
    machine.run(18);
    expect(machine.state).toBe("timed out: no answer to SYN");
  });

  it("comes from one known address, from a fresh port each time, and leaves no connection behind", () => {
    const machine = new ProbedMachine(probeItem());
    const ports = new Set<number>();
    machine.vm.listen(8_080 as Port, {
      connected: (connection) => void ports.add(connection.tuple.destinationPort),
      received: () => undefined,
      ended: () => undefined,
    });
    machine.run(60);
    expect(ports.size).toBe(12);
    expect([...machine.sources]).toEqual(["169.254.100.1"]);
    expect(machine.vm.connectionCount).toBe(0);
    expect(machine.bench.agent.telemetry.gauges().flows).toBe(0);
  });

  it("survives the loss of every fourth packet", () => {
    const machine = new ProbedMachine(probeItem({ timeoutSeconds: 4 }));
    machine.vm.listen(8_080 as Port, answering(""));
    machine.loseEvery = 4;
    machine.run(60);
    expect(machine.state).toBe("healthy");
  });
});

describe("an HTTP probe", () => {
  const probe = probeItem({
    protocol: "http",
    path: "/health",
    host: "app.example",
    healthyThreshold: 1,
    unhealthyThreshold: 1,
  });

  it("asks for the path with the host, and takes 200 to 299 as healthy unless told otherwise", () => {
    const seen: string[] = [];
    const machine = new ProbedMachine(probe);
    machine.vm.listen(8_080 as Port, answering("HTTP/1.1 204 No Content\r\n\r\n", seen));
    machine.run(2);
    expect(machine.state).toBe("healthy");
    expect(seen[0]).toMatch(/^GET \/health HTTP\/1\.1\r\nHost: app\.example\r\n[\s\S]*Connection: close\r\n\r\n$/);
  });

  it.each([
    ["HTTP/1.1 503 Service Unavailable\r\n\r\n", "status 503"],
    ["HTTP/1.1 301 Moved\r\n\r\n", "status 301"],
    ["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 Oops\r\n\r\n", "status 500"],
    ["SSH-2.0-OpenSSH_9.6\r\n", "the answer is not HTTP"],
    ["", "timed out: connected, but no answer"],
  ])("an answer of %j is %j", (answer, reason) => {
    const machine = new ProbedMachine(probe);
    machine.vm.listen(8_080 as Port, answering(answer));
    machine.run(5);
    expect(machine.state).toBe(reason);
  });

  it("takes the statuses that the pool names", () => {
    const machine = new ProbedMachine({ ...probe, expectedStatus: ["200-204", "404"] });
    machine.vm.listen(8_080 as Port, answering("HTTP/1.0 404 Not Found\r\n\r\n"));
    machine.run(2);
    expect(machine.state).toBe("healthy");
  });

  it("a server that closes without an answer is unhealthy", () => {
    const machine = new ProbedMachine(probe);
    machine.vm.listen(8_080 as Port, { received: (connection) => connection.close(), ended: () => undefined });
    machine.run(5);
    expect(machine.state).toBe("closed without an answer");
  });
});

describe("an HTTPS probe", () => {
  const probe = probeItem({
    protocol: "https",
    path: "/",
    host: "probe.test",
    healthyThreshold: 1,
    unhealthyThreshold: 1,
  });

  /** TLS runs on Node's own event loop: virtual time stands still while it works. */
  async function settle(machine: ProbedMachine, turns: number): Promise<void> {
    for (let turn = 0; turn < turns; turn++) {
      machine.step();
      // eslint-disable-next-line no-restricted-globals -- TLS works on Node's own event loop, which virtual time does not turn
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  it("speaks TLS to the machine and reads the status behind it", async () => {
    const server = createServer({ key: KEY, cert: CERTIFICATE }, (socket) => {
      socket.on("data", () => socket.end("HTTP/1.1 200 OK\r\n\r\n"));
      socket.on("error", () => undefined);
    });
    const machine = new ProbedMachine(probe);
    const streams = new Map<object, Duplex>();
    machine.vm.listen(8_080 as Port, {
      connected(connection) {
        const stream = new Duplex({
          read: () => undefined,
          write: (chunk: Uint8Array, _encoding, done) => {
            connection.send(Uint8Array.from(chunk));
            done();
          },
        });
        streams.set(connection, stream);
        server.emit("connection", stream);
      },
      received: (connection, payload) => void streams.get(connection)?.push(payload.slice()),
      ended: () => undefined,
    });
    machine.run(1);
    await settle(machine, 200);
    expect(machine.state).toBe("healthy");
    server.close();
    machine.health.stop();
  });

  it("a machine that speaks plain HTTP there is unhealthy, and the reason says TLS", async () => {
    const machine = new ProbedMachine(probe);
    machine.vm.listen(8_080 as Port, answering("HTTP/1.1 400 Bad Request\r\n\r\n"));
    machine.run(1);
    await settle(machine, 200);
    expect(machine.state).toMatch(/^TLS: ERR_SSL/);
  });
});

describe("a UDP probe", () => {
  const probe = probeItem({
    protocol: "udp",
    port: 53,
    send: "70696e67",
    expect: "706f6e67",
    healthyThreshold: 1,
    unhealthyThreshold: 1,
  });

  it("sends the bytes it was given, and wants an answer that begins as expected", () => {
    const machine = new ProbedMachine(probe);
    const seen: string[] = [];
    machine.vm.listenUdp(53 as Port, (payload, _from, reply) => {
      seen.push(new TextDecoder().decode(payload));
      reply(new TextEncoder().encode("pong and more"));
    });
    machine.run(2);
    expect(machine.state).toBe("healthy");
    expect(seen).toEqual(["ping"]);
  });

  it("another answer and silence are told apart", () => {
    const machine = new ProbedMachine(probe);
    machine.run(4);
    expect(machine.state).toBe("no reply to a datagram");
    machine.vm.listenUdp(53 as Port, (_payload, _from, reply) => reply(new TextEncoder().encode("nope")));
    machine.run(6);
    expect(machine.state).toBe("unexpected reply");
  });
});

describe("reports", () => {
  it("a change is reported at once, and everything every five seconds and when asked", () => {
    const machine = new ProbedMachine(probeItem({ healthyThreshold: 1 }));
    machine.vm.listen(8_080 as Port, answering(""));
    machine.run(3);
    const changes = machine.reports.filter(({ whole, members }) => !whole && members.length > 0);
    expect(changes).toEqual([{ members: [{ poolId: 1, dipId: 1, healthy: true, reason: "" }], whole: false }]);
    machine.run(20);
    expect(machine.reports.filter(({ whole }) => whole).length).toBeGreaterThanOrEqual(4);
    const before = machine.reports.length;
    machine.health.reportAll(machine.bench.nowMs);
    expect(machine.reports).toHaveLength(before + 1);
  });
});

it("the reserved addresses are what the documentation says", () => {
  expect(PROBE_SOURCES).toEqual({ ipv4: "169.254.100.1", ipv6: "fe80::a9fe:6401" });
});
