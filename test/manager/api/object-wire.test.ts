import { describe, expect, it } from "vitest";
import type { IpAddress, LogIndex, PoolId, Port, VipId } from "../../../core/brands.js";
import { AnantaError } from "../../../core/errors.js";
import { validateDocument } from "../../../manager/api/objects/schema.js";
import { wireObject } from "../../../manager/api/objects/status.js";
import { documentFromWire, objectsFromWire, wireApplyObject } from "../../../manager/api/objects/wire.js";
import type { AnyStoredObject } from "../../../manager/state/objects.js";
import type { StateMachine } from "../../../manager/state/state-machine.js";
import { ananta } from "../../../proto/gen/wire.js";
import { memberSpec, poolSpec } from "../state/specs.js";

/** There and back, as bytes. */
const travel = (object: ananta.v1.Object.$Properties): ananta.v1.Object =>
  ananta.v1.Object.decode(ananta.v1.Object.encode(object).finish());

function applyObject(value: unknown) {
  const checked = validateDocument(value);
  if (!("ok" in checked)) throw new Error(JSON.stringify(checked.problems));
  return checked.ok;
}

const VIP = {
  apiVersion: "ananta/v1",
  kind: "Vip",
  metadata: { name: "web", tenant: "shop", labels: { app: "web" }, generation: 3 },
  spec: {
    address: "203.0.113.10",
    rules: [
      { name: "http", protocol: "tcp", port: 80, pool: "web", backendPort: 8080 },
      { name: "dns", protocol: "udp", port: 53, pool: "dns", backendPort: 53 },
    ],
    outbound: { pools: ["web"], maxPorts: 2048 },
  },
};
const POOL = {
  apiVersion: "ananta/v1",
  kind: "BackendPool",
  metadata: { name: "web", tenant: "shop" },
  spec: {
    members: [
      { dip: "10.1.0.4", weight: 0 },
      { dip: "10.1.0.5", port: 81, weight: 100 },
    ],
    maxMembers: 50,
  },
};

describe("objects on the wire", () => {
  it("carry everything of a document there and back", () => {
    for (const document of [VIP, POOL]) {
      const wired = travel(wireApplyObject(applyObject(document)));
      expect(documentFromWire(wired)).toMatchObject(document);
      expect(objectsFromWire([wired])).toEqual([applyObject(document)]);
    }
  });

  it("may leave out what has a default", () => {
    const wired = travel({
      metadata: { name: "web" },
      vip: {
        address: "203.0.113.10",
        rules: [{ name: "http", protocol: ananta.v1.RuleProtocol.RULE_PROTOCOL_TCP, port: 80, pool: "web" }],
        outbound: { pools: ["web"] },
      },
    });
    expect(objectsFromWire([wired])).toMatchObject([
      {
        ref: { tenant: "default" },
        expectedGeneration: null,
        object: { spec: { rules: [{ backendPort: 80 }], outbound: { maxPorts: 1024 } } },
      },
    ]);
    const poolOnWire = travel({
      metadata: { name: "web" },
      backendPool: { members: [{ dip: "10.1.0.4" }, { dip: "10.1.0.5", weight: 0 }] },
    });
    expect(objectsFromWire([poolOnWire])).toMatchObject([
      { object: { spec: { maxMembers: 100, members: [{ port: 0, weight: 100 }, { weight: 0 }] } } },
    ]);
  });

  it("are refused with all problems of all objects, each with its object and path", () => {
    const bad = [
      travel({
        metadata: { name: "web" },
        vip: {
          address: "203.0.113.10",
          rules: [{ name: "http", protocol: ananta.v1.RuleProtocol.RULE_PROTOCOL_TCP, port: 70_000, pool: "web" }],
        },
      }),
      travel({ metadata: { name: "empty" } }),
    ];
    const caught = ((): unknown => {
      try {
        return objectsFromWire(bad);
      } catch (error) {
        return error;
      }
    })();
    expect(caught).toBeInstanceOf(AnantaError);
    const error = caught as AnantaError;
    expect(error.code).toBe("INVALID_ARGUMENT");
    expect(error.message).toBe(
      "objects[0] spec.rules[0].port: 70000 is not a port; use 1 to 65535; objects[1] kind: missing; use Vip, BackendPool, Tenant or SecurityGroup",
    );
    expect(JSON.parse(String(error.facts["problems"]))).toEqual([
      {
        object: 0,
        path: "spec.rules[0].port",
        message: "70000 is not a port; use 1 to 65535",
        code: "INVALID_ARGUMENT",
      },
      {
        object: 1,
        path: "kind",
        message: "missing; use Vip, BackendPool, Tenant or SecurityGroup",
        code: "INVALID_ARGUMENT",
      },
    ]);
    expect(error.facts["problemCount"]).toBe(2);
  });

  it("name a protocol that is not ours by its number", () => {
    const wired = {
      metadata: { name: "web" },
      vip: {
        address: "203.0.113.10",
        rules: [{ name: "x", protocol: 132 as unknown as ananta.v1.RuleProtocol, port: 80, pool: "web" }],
      },
    };
    expect(() => objectsFromWire([wired])).toThrow("132 is not a protocol; use tcp, udp, tcp_udp or all");
  });
});

describe("the status of a stored object", () => {
  const state = {
    lentPorts: () => ({ count: 0, first: [] }),
    snatContests: () => [],
    snatUsageOf: (vip: string) =>
      vip === "203.0.113.10" ? [{ vip, protocol: 6, owned: 3, quarantined: 2, excluded: 1, free: 8058 }] : [],
    muxes: () => [{ state: "live" }],
    withdrawal: () => null,
    memberHealth: () => null,
    drainsOf: () => [],
    overloadBackoff: () => null,
    dipAt: (_tenant: string, dip: string) => (dip === "10.1.0.4" ? { dipId: 1, hostId: 1 } : null),
    host: () => ({ name: "host-1", isExpired: false }),
    muxItemsOf: () => [{ kind: "pool", poolId: 1, maxMembers: 9, members: [{ dipId: 1, weight: 100 }] }],
  } as unknown as StateMachine;

  const stored = (document: unknown, change: Partial<AnyStoredObject> = {}): AnyStoredObject => {
    const { ref, labels, object } = applyObject(document);
    return {
      ref,
      labels,
      spec: object.spec,
      active: object.spec,
      generation: 3,
      createdIndex: 5 as LogIndex,
      updatedIndex: 10 as LogIndex,
      activeIndex: 11 as LogIndex,
      deleting: false,
      ...(ref.kind === "Vip" ? { vipId: 1 as VipId, natPorts: [] } : { poolId: 1 as PoolId }),
      ...change,
    } as AnyStoredObject;
  };
  const phase = (object: AnyStoredObject, muxSafeIndex: number): unknown =>
    wireObject(object, state, muxSafeIndex).status?.phase;

  it("is Ready only when every live MUX uses the newest spec", () => {
    expect(phase(stored(VIP), 11)).toBe("Ready");
    expect(phase(stored(VIP), 10)).toBe("Pending");
    expect(phase(stored(VIP, { active: null, activeIndex: 0 as LogIndex }), 11)).toBe("Pending");
    expect(phase(stored(VIP, { updatedIndex: 12 as LogIndex }), 12)).toBe("Pending");
    expect(phase(stored(VIP, { deleting: true }), 11)).toBe("Deleting");
  });

  it("shows a VIP's SNAT ranges and a pool's hosts, and can be applied again", () => {
    const [vip, pool] = [stored(VIP), stored(POOL)].map((object) =>
      documentFromWire(travel(wireObject(object, state, 11))),
    );
    expect(vip).toMatchObject({
      ...VIP,
      status: {
        phase: "Ready",
        updatedIndex: 10,
        snat: [{ protocol: "tcp", ownedRanges: 3, quarantinedRanges: 2, excludedRanges: 1, freeRanges: 8058 }],
      },
    });
    expect(pool).toMatchObject({
      status: {
        phase: "Ready",
        members: [
          { dip: "10.1.0.4", host: "host-1" },
          { dip: "10.1.0.5", host: "" },
        ],
      },
    });
    expect(applyObject(vip)).toEqual(applyObject(VIP));
  });

  it("of a VIP without outbound has no SNAT ranges to show", () => {
    const plain = { ...VIP, spec: { ...VIP.spec, outbound: undefined } };
    expect(documentFromWire(travel(wireObject(stored(plain), state, 11)))["status"]).toEqual({
      phase: "Ready",
      updatedIndex: 10,
      conditions: [
        { type: "Ready", status: true },
        { type: "Announced", status: true },
        { type: "Serving", status: true },
      ],
    });
  });

  it("keeps a member's port of 0 out of the document", () => {
    const member = memberSpec({ dip: "10.1.0.4" as IpAddress, port: 0 as Port, weight: 100 });
    const wired = wireApplyObject({
      ...applyObject(POOL),
      object: { kind: "BackendPool", spec: poolSpec({ members: [member], maxMembers: 1 }) },
    });
    expect(documentFromWire(travel(wired))["spec"]).toEqual({
      members: [{ dip: "10.1.0.4", weight: 100, role: "primary", adminState: "none" }],
      maxMembers: 1,
      allDown: "drop",
      tcpOnDown: "persist",
    });
  });
});
