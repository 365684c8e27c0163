/**
 * What comes in at the edges. An entry that a replica cannot decode stops every replica at once, so whatever an edge lets
 * through must survive the log's own encoding.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AnantaError } from "../../../core/errors.js";
import { OperatorService } from "../../../manager/api/operator-service.js";
import { SnatService } from "../../../manager/api/snat-service.js";
import type { AgentStream } from "../../../manager/projection/agent-streams.js";
import type { MuxStream } from "../../../manager/projection/mux-streams.js";
import type { ananta } from "../../../proto/gen/wire.js";
import { testSeed } from "../../kit/virtual-world.js";
import { CALL, FakeStream, bootIdOf, edge, origins } from "../edge.js";

const stream = () => new FakeStream<never, never>() as unknown as FakeStream<unknown, never>;
const agentStream = () =>
  stream() as unknown as FakeStream<ananta.v1.ManagerToAgent.$Properties, ananta.v1.AgentToManager.$Properties> &
    AgentStream;
const muxStream = () =>
  stream() as unknown as FakeStream<ananta.v1.ManagerToMux.$Properties, ananta.v1.MuxToManager.$Properties> & MuxStream;

/** Texts that a client might put anywhere: nearly right, empty, long, or not text for people at all. */
const oddText = fc.oneof(
  fc.constantFrom(
    "",
    "default",
    "web",
    "Web",
    "-a",
    "a-",
    "a/b",
    "a b",
    "ü",
    "a\n",
    "__proto__",
    "constructor",
    "null",
  ),
  fc.constantFrom("10.0.0.1", "010.0.0.1", "10.0.0.256", "::1", "::ffff:10.0.0.1", "198.51.100.1", "x".repeat(64)),
  fc.constantFrom(bootIdOf("a"), bootIdOf("a").toUpperCase(), "a".repeat(63)),
  fc.string({ unit: "binary", maxLength: 40 }),
);
const oddCount = fc.oneof(
  fc.constantFrom(0, 1, 6, 8, 17, 127, 128, 8_064, 8_191, 8_192, 64_512, 65_536, 2 ** 32 - 1, Number.MAX_SAFE_INTEGER),
  fc.nat(),
);
const often = <T>(usual: T, odd: fc.Arbitrary<T>): fc.Arbitrary<T> =>
  fc.oneof({ weight: 3, arbitrary: fc.constant(usual) }, { weight: 2, arbitrary: odd });

const block = fc.record({
  vip: often("198.51.100.1", oddText),
  protocol: often(6, oddCount),
  range: often(128, oddCount),
  count: often(1, oddCount),
});
const hostDip = fc.record({
  tenant: often("default", oddText),
  address: often("10.0.0.1", oddText),
  locator: often("", oddText),
});
const held = fc.record({ block, tenant: often("default", oddText), dip: often("10.0.0.1", oddText) });
const object = fc.record({
  metadata: fc.record({
    name: often("web", oddText),
    tenant: often("default", oddText),
    labels: fc.dictionary(oddText, oddText, { maxKeys: 2 }),
    generation: often(0, oddCount),
  }),
  vip: fc.record({
    address: often("198.51.100.1", oddText),
    rules: fc.array(
      fc.record({
        name: often("http", oddText),
        protocol: often(6, oddCount),
        port: often(80, oddCount),
        pool: often("web", oddText),
        backendPort: oddCount,
      }),
      { maxLength: 2 },
    ),
    outbound: fc.record({ pools: fc.array(oddText, { maxLength: 2 }), maxPorts: oddCount }),
  }),
});
const pool = fc.record({
  metadata: fc.record({ name: often("web", oddText), tenant: often("default", oddText) }),
  backendPool: fc.record({
    members: fc.array(fc.record({ dip: oddText, port: oddCount, weight: oddCount }), { maxLength: 2 }),
    maxMembers: oddCount,
  }),
});
const ref = fc.record({
  kind: often("Vip", oddText),
  tenant: often("default", oddText),
  name: often("web", oddText),
  generation: often(0, oddCount),
});
const asks = { host: often("host-1", oddText), incarnation: often(1, oddCount), tenant: often("default", oddText) };
const message = fc.record({
  objects: fc.array(fc.oneof(object, pool), { minLength: 1, maxLength: 2 }),
  refs: fc.array(ref, { minLength: 1, maxLength: 2 }),
  host: often("host-1", oddText),
  bootId: often(bootIdOf("a"), oddText),
  dips: fc.array(hostDip, { maxLength: 3 }),
  heldRanges: fc.array(held, { maxLength: 3 }),
  session: often(bootIdOf("client"), oddText),
  sequence: often(1, oddCount),
  allocate: fc.record({ ...asks, dip: often("10.0.0.1", oddText), protocol: often(6, oddCount), ports: oddCount }),
  release: fc.record({ ...asks, dip: often("10.0.0.1", oddText), blocks: fc.array(block, { maxLength: 2 }) }),
  dipId: often(1, oddCount),
  address: often("192.0.2.1", oddText),
  capacity: fc.record({ rules: oddCount, snatRanges: oddCount }),
});

const EXPECTED = /^(?!INTERNAL)/;

describe("every edge", () => {
  test("refuses what the log could not carry: what it lets through survives its bytes", async () => {
    await fc.assert(
      fc.asyncProperty(message, async (odd) => {
        const { time, replica, agents, muxes, site, submit, poisoned, identity } = edge();
        submit({ origin: null, command: { kind: "tick" } });
        site.register("host-1", ["10.0.0.1"], [], bootIdOf("host-1"));
        const origin = { session: odd.session, sequence: odd.sequence };
        const operator = new OperatorService(replica);
        const snat = new SnatService(replica);
        const calls: (() => Promise<unknown>)[] = [
          () => operator.apply({ origin, objects: odd.objects }, CALL),
          () => operator.delete({ origin, refs: odd.refs }, CALL),
          () =>
            snat.register(
              { origin, host: odd.host, bootId: odd.bootId, dips: odd.dips, heldRanges: odd.heldRanges },
              CALL,
            ),
          () => snat.allocate({ origin, ...odd.allocate }, CALL),
          () => snat.release({ origin, ...odd.release }, CALL),
        ];
        for (const call of calls) {
          const ending = call().catch((error: unknown) => AnantaError.from(error).code);
          await time.advance(1);
          expect(await Promise.race([ending, Promise.resolve("pending")])).toBeDefined();
        }
        const agent = agentStream();
        agents.open(agent);
        agent.deliver({
          hello: {
            identity: { ...identity("host-1", "host-1"), node: odd.host },
            dips: odd.dips,
            heldRanges: odd.heldRanges,
            origin,
          },
        });
        await time.advance(1);
        agent.deliver({
          requests: {
            requests: [
              { origin: { ...origin, sequence: 2 }, dipId: odd.dipId, allocate: odd.allocate },
              { origin: { ...origin, sequence: 3 }, dipId: odd.dipId, release: odd.release },
            ],
          },
        });
        await time.advance(1);
        const mux = muxStream();
        muxes.open(mux);
        mux.deliver({
          hello: {
            identity: { ...identity("mux-1", "m"), node: odd.host },
            address: odd.address,
            capacity: odd.capacity,
          },
        });
        mux.deliver({ join: { origin } });
        await time.advance(1);
        expect(poisoned).toEqual([]);
        for (const ended of [agent.ended, mux.ended]) expect(ended?.code ?? "").toMatch(EXPECTED);
        agent.close();
        mux.close();
      }),
      { numRuns: 300, seed: testSeed("edges") },
    );
  });

  test.each([
    ["refs[0].tenant", { refs: [{ kind: "Vip", tenant: "Blue", name: "web" }] }],
    ["refs[0].name", { refs: [{ kind: "Vip", name: "web/1" }] }],
  ])("names the field that is no name: %s", async (field, request) => {
    const { replica, submitted } = edge();
    const before = submitted.length;
    const next = origins("client");
    await expect(new OperatorService(replica).delete({ origin: next(), ...request }, CALL)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining(field) as string,
    });
    expect(submitted).toHaveLength(before);
  });

  test.each([
    ["dips[0].tenant", { dips: [{ tenant: "Blue", address: "10.0.0.1" }] }],
    ["dips[0].locator", { dips: [{ address: "10.0.0.1", locator: "fe80::1" }] }],
    ["dips[0].locator", { dips: [{ address: "10.0.0.1", locator: "host-1" }] }],
    [
      "held_ranges[0].tenant",
      {
        heldRanges: [
          { tenant: "a b", dip: "10.0.0.1", block: { vip: "198.51.100.1", protocol: 6, range: 128, count: 1 } },
        ],
      },
    ],
    ["host", { host: "Host_1" }],
    ["dips: 1025", { dips: Array.from({ length: 1_025 }, () => ({ address: "10.0.0.1" })) }],
    ["held_ranges: 16385", { heldRanges: Array.from({ length: 16_385 }, () => ({})) }],
  ])("of a registration names what it refuses: %s", async (field, request) => {
    const { replica, submitted, agents, time, identity } = edge();
    const before = submitted.length;
    const next = origins("client");
    await expect(
      new SnatService(replica).register({ origin: next(), host: "host-1", bootId: bootIdOf("a"), ...request }, CALL),
    ).rejects.toMatchObject({ code: "INVALID_ARGUMENT", message: expect.stringContaining(field) as string });
    if (!("host" in request)) {
      const agent = agentStream();
      agents.open(agent);
      agent.deliver({ hello: { identity: identity("host-1", "a"), origin: next(), ...request } });
      await time.advance(1);
      expect(agent.ended).toMatchObject({
        code: "INVALID_ARGUMENT",
        message: expect.stringContaining(field) as string,
      });
    }
    expect(submitted).toHaveLength(before);
  });

  test.each([
    ["10.0.0.1", "not an IPv6 address"],
    ["2001:db8::1/64", "not an IPv6 address"],
    ["::ffff:10.0.0.1", "not an IPv6 address"],
    ["::1", "the unspecified or loopback address"],
    ["fe80::1", "a link-local address"],
    ["ff02::1", "a multicast address"],
  ])("of a MUX refuses an outer IPv6 address that no host could believe: %s", async (addressIpv6, why) => {
    const { submitted, muxes, time, identity } = edge();
    const before = submitted.length;
    const mux = muxStream();
    muxes.open(mux);
    mux.deliver({
      hello: {
        identity: identity("mux-1", "m"),
        address: "192.0.2.1",
        addressIpv6,
        capacity: { rules: 1, snatRanges: 1 },
      },
    });
    await time.advance(1);
    expect(mux.ended).toMatchObject({ code: "INVALID_ARGUMENT" });
    expect(mux.ended?.message).toContain(`address_ipv6: "${addressIpv6}" is ${why}`);
    expect(submitted).toHaveLength(before);
  });

  test.each([
    ["2001:DB8:1::1", "2001:db8:1::1"],
    ["", "10.0.0.1"],
    ["10.7.7.7", "10.7.7.7"],
  ])("of a host takes a locator of either family: %j", async (locator, stored) => {
    const { replica, submitted } = edge();
    const origin = origins("client")();
    const dips = [{ address: "10.0.0.1", locator }];
    await new SnatService(replica)
      .register({ origin, host: "host-1", bootId: bootIdOf("a"), dips }, CALL)
      .catch(() => null);
    expect(submitted.at(-1)).toMatchObject({ command: { kind: "register-host", dips: [{ locator: stored }] } });
  });

  test("takes at most 1,024 blocks in one release", async () => {
    const { replica, site } = edge();
    site.register("host-1", ["10.0.0.1"]);
    const blocks = Array.from({ length: 1_025 }, () => ({ vip: "198.51.100.1", protocol: 6, range: 128, count: 1 }));
    const request = { origin: origins("client")(), host: "host-1", incarnation: 1, dip: "10.0.0.1", blocks };
    await expect(new SnatService(replica).release(request, CALL)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("blocks: 1025") as string,
    });
  });
});
