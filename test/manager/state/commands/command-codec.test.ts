/** Command batches as bytes of the log. */
import { expect, test } from "vitest";
import type { DipId, HostId, LogIndex, MuxId, NodeId, PoolId } from "../../../../core/brands.js";
import { CLUSTER_EPOCH_MAX } from "../../../../core/cluster-epoch.js";
import {
  COMMAND_FORMAT_VERSION,
  beginEpoch,
  type Command,
  type CommandBatch,
} from "../../../../manager/state/commands/commands.js";
import { decodeBatch, encodeBatch } from "../../../../manager/state/index.js";
import { LARGE, block, held, ip, pool, poolRef, registerHost, vip } from "../fixture.js";

const batchOf = (...commands: readonly Command[]): CommandBatch => ({
  formatVersion: COMMAND_FORMAT_VERSION,
  clusterTimeMs: 1234.5,
  wallMs: 1_700_000_000_000,
  muxSafeIndex: 7 as LogIndex,
  commands: commands.map((command, at) => ({
    origin: at % 2 === 0 ? null : { session: "0123456789abcdef".repeat(2), sequence: at },
    command,
  })),
});

const requester = { hostId: 3 as HostId, incarnation: 4, dipId: 5 as DipId };

const EVERY_KIND: { readonly [Kind in Command["kind"]]: Command & { readonly kind: Kind } } = {
  bootstrap: { kind: "bootstrap", clusterId: "c", clusterEpoch: 1, hashKey: "0".repeat(16), muxKey: "f".repeat(32) },
  "start-replica": { kind: "start-replica", nodeId: 3 as NodeId, bootId: "b" },
  "begin-epoch": beginEpoch(2),
  "fence-host": { kind: "fence-host", name: "h", reason: "its power is off" },
  "apply-objects": {
    kind: "apply-objects",
    objects: [
      pool("p", ["10.0.0.1:8080*5"], { labels: { "a/b": "é" }, expectedGeneration: 3 }),
      vip("v", "2001:db8::1", { rules: ["tcp/80 -> p:81"], outbound: ["p"], maxPorts: 64 }),
      vip("w", "198.51.100.1"),
    ],
  },
  "delete-objects": { kind: "delete-objects", objects: [{ ref: poolRef("p"), expectedGeneration: null }] },
  activate: { kind: "activate", upToIndex: 9 as LogIndex },
  "register-host": registerHost("h", ["10.0.0.1@192.0.2.1"], [held("10.0.0.1", "198.51.100.1/17:1024-1039")]) as never,
  "withdraw-vip": {
    kind: "withdraw-vip",
    tenant: "default",
    name: "v",
    reason: "SYN flood",
    forSeconds: 60,
    isOverload: true,
  },
  "restore-vip": { kind: "restore-vip", tenant: "default", name: "v" },
  "report-health": {
    kind: "report-health",
    hostId: 3 as HostId,
    incarnation: 4,
    transitions: [{ poolId: 2 as PoolId, dipId: 5 as DipId, healthy: false, reason: "connection refused" }],
  },
  "expire-hosts": { kind: "expire-hosts", hosts: [{ hostId: 3 as HostId, incarnation: 4 }] },
  "renew-hosts": { kind: "renew-hosts", hosts: [] },
  "join-mux": { kind: "join-mux", name: "m", bootId: "b", address: ip("192.0.2.1"), capacity: LARGE },
  "leave-mux": { kind: "leave-mux", muxId: 1 as MuxId, incarnation: 2 },
  "lose-mux": { kind: "lose-mux", muxId: 1 as MuxId, incarnation: 2 },
  "drain-mux": { kind: "drain-mux", name: "m", reason: "new \u00e9 kernel", force: true },
  "undrain-mux": { kind: "undrain-mux", name: "m" },
  "allocate-snat": { kind: "allocate-snat", ...requester, protocol: 17, ports: 100 },
  "release-snat": { kind: "release-snat", ...requester, blocks: [block("198.51.100.1/6:1024-1031")] },
  tick: { kind: "tick" },
};

test("every kind of command survives its bytes, with and without origin", () => {
  const modern: Command = { ...EVERY_KIND["join-mux"], addressIpv6: ip("2001:db8:255::1") };
  const commands = [...Object.values(EVERY_KIND), modern];
  for (const batch of [batchOf(...commands), batchOf({ kind: "tick" }, ...commands), batchOf()]) {
    expect(decodeBatch(encodeBatch(batch))).toEqual(batch);
  }
});

test("equal batches give equal bytes, also after a round trip", () => {
  const bytes = encodeBatch(batchOf(...Object.values(EVERY_KIND)));
  expect(encodeBatch(decodeBatch(bytes))).toEqual(bytes);
});

test("the first byte is the format version, and an unknown one is a typed error", () => {
  const bytes = encodeBatch(batchOf());
  expect(bytes[0]).toBe(COMMAND_FORMAT_VERSION);
  bytes[0] = 1;
  expect(() => decodeBatch(bytes)).toThrow(
    expect.objectContaining({ code: "UNIMPLEMENTED", facts: { formatVersion: 1 } }),
  );
  expect(() => encodeBatch({ ...batchOf(), formatVersion: 1 })).toThrow(
    expect.objectContaining({ code: "UNIMPLEMENTED" }),
  );
});

test.each([
  ["nothing", ""],
  ["no JSON", "[1,"],
  ["no batch", "{}"],
  ["a field too few", "[0,0,0]"],
  ["a negative time", "[-1,0,0,[]]"],
  ["a fractional index", "[0,0,1.5,[]]"],
  ["an unknown kind", '[0,0,0,[["destroy"]]]'],
  ["a command that is no array", '[0,0,0,["tick"]]'],
  ["a field too many", '[0,0,0,[["tick",1]]]'],
  ["sequence 0", `[0,0,0,[["${"a".repeat(32)}",0,"tick"]]]`],
  ["a session alone", `[0,0,0,[["${"a".repeat(32)}",1]]]`],
  ["no port", '[0,0,0,[["allocate-snat",1,1,1,6,0]]]'],
  ["ICMP", '[0,0,0,[["allocate-snat",1,1,1,1,8]]]'],
  ["a range below 1024", '[0,0,0,[["release-snat",1,1,1,[["198.51.100.1",6,127,1]]]]]'],
  ["an address that is not canonical", '[0,0,0,[["join-mux","m","b","2001:DB8::1",1,1,0]]]'],
  ["an IPv6 address that is none", '[0,0,0,[["join-mux","m","b","192.0.2.1",1,1,0,""]]]'],
  ["a name that is no label", '[0,0,0,[["join-mux","Mux_1","b","192.0.2.1",1,1,0]]]'],
  ["a replica 0", '[0,0,0,[["start-replica",0,"b"]]]'],
  [
    "a rule at port 70000",
    '[0,0,0,[["apply-objects",[[["Vip","t","v"],{},"Vip",{"address":"192.0.2.1","rules":[{"name":"r","protocol":"tcp","port":70000}]},null]]]]]',
  ],
  [
    "labels that are no texts",
    '[0,0,0,[["apply-objects",[[["BackendPool","t","p"],{"a":1},"BackendPool",[1,[]],null]]]]]',
  ],
])("%s is refused as malformed", (_, json) => {
  const bytes = new TextEncoder().encode(json === "" ? "" : String.fromCharCode(COMMAND_FORMAT_VERSION) + json);
  expect(() => decodeBatch(bytes)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
});

test("an epoch that could not be read back is never written, by either command that carries one", () => {
  const commands = (clusterEpoch: number): readonly Command[] => [
    beginEpoch(clusterEpoch),
    { ...EVERY_KIND.bootstrap, clusterEpoch },
  ];
  for (const clusterEpoch of [1, CLUSTER_EPOCH_MAX])
    for (const command of commands(clusterEpoch))
      expect(decodeBatch(encodeBatch(batchOf(command))).commands[0]?.command).toEqual(command);
  for (const clusterEpoch of [0, CLUSTER_EPOCH_MAX + 1, Number.MAX_SAFE_INTEGER, 1.5])
    for (const command of commands(clusterEpoch))
      expect(() => encodeBatch(batchOf(command))).toThrow("a cluster epoch is an integer from 1 to 4294967295");
});

test("a grant takes less than 80 bytes of the log, its session included", () => {
  const command = EVERY_KIND["allocate-snat"];
  const size = (count: number) =>
    encodeBatch({
      ...batchOf(),
      commands: Array.from({ length: count }, () => ({ origin: { session: "f".repeat(32), sequence: 1000 }, command })),
    }).length;
  expect((size(101) - size(1)) / 100).toBeLessThan(80);
});
