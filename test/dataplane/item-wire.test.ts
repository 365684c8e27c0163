/** Items of a host over the wire and back: what both ends hold must be the same, or their digests differ. */
import { expect, test } from "vitest";
import { hostStep } from "../../agent/control/projection-wire.js";
import type { DipId, IpAddress, LogIndex, MuxId, PoolId, VipId } from "../../core/brands.js";
import { digestOf } from "../../dataplane/digest.js";
import { type HostItem, hostItemKey } from "../../dataplane/host-items.js";
import { HOST_SCOPE, viewUpdate } from "../../manager/projection/projection-wire.js";
import { ananta } from "../../proto/gen/wire.js";

const at = { clusterEpoch: 1, index: 5 as LogIndex, digest: "0123456789abcdef" };
const vipId = 3 as VipId;
const dipId = 7 as DipId;
const poolId = 2 as PoolId;
const vip = "2001:db8::10" as IpAddress;

const HOST_ITEMS: readonly HostItem[] = [
  { kind: "dip", dipId, address: vip, locator: vip, tenant: "default" },
  { kind: "dip", dipId: 8 as DipId, address: vip, locator: vip, tenant: "blue", groups: ["blue/web", "blue/ssh"] },
  { kind: "endpoint", vipId, vip, protocol: 6, port: 80, dipId, dipPort: 8080 },
  {
    kind: "endpoint",
    vipId,
    vip,
    protocol: 17,
    port: 0,
    dipId,
    dipPort: 0,
    floating: true,
    hairpin: "drop",
    idleSeconds: 60,
    idleReset: false,
    fastpath: false,
    groups: ["default/web"],
  },
  { kind: "outbound", dipId, vipId, vip },
  {
    kind: "outbound",
    dipId,
    vipId: 4 as VipId,
    vip,
    selection: "paired",
    udpMapping: "endpointIndependent",
    tcpIdleSeconds: 1_200,
    udpIdleSeconds: 60,
    idleReset: false,
    onExhaustion: "drop",
    queueSeconds: 0,
  },
  {
    kind: "probe",
    poolId,
    dipId,
    protocol: "http",
    port: 8080,
    intervalSeconds: 5,
    timeoutSeconds: 3,
    healthyThreshold: 2,
    unhealthyThreshold: 2,
    path: "/",
    host: "",
    expectedStatus: ["200-299"],
  },
  {
    kind: "group",
    group: "default/web",
    rules: [
      { direction: "in", protocol: "udp", ports: ["8080"], peer: "sg:default/lb", action: "allow", priority: 100 },
      { direction: "out", protocol: "all", ports: [], peer: "0.0.0.0/0", action: "deny", priority: 4_096 },
    ],
  },
  { kind: "mux", muxId: 1 as MuxId, address: "192.0.2.1" as IpAddress },
  { kind: "mux", muxId: 2 as MuxId, address: "192.0.2.2" as IpAddress, addressIpv6: vip },
  { kind: "internal", prefix: "10.0.0.0/8" },
  { kind: "internal", prefix: "10.0.0.0/8", tenant: "blue" },
];

/** Through the bytes, as a stream carries it. */
function overTheWire(update: ananta.v1.ProjectionUpdate.$Properties): ananta.v1.ProjectionUpdate.$Properties {
  return ananta.v1.ProjectionUpdate.decode(ananta.v1.ProjectionUpdate.encode(update).finish());
}

test("an agent holds the items that its replica sent, with equal digests", () => {
  const received = hostStep(overTheWire(viewUpdate(HOST_SCOPE, HOST_ITEMS, at))).upserts;
  expect(received).toEqual(HOST_ITEMS);
  expect(received.map((item) => digestOf(hostItemKey(item), item))).toEqual(
    HOST_ITEMS.map((item) => digestOf(hostItemKey(item), item)),
  );
});

test("a value that a receiver does not know ends the stream with a reason", () => {
  const update = {
    hostItems: [{ endpoint: { vipId: 1, vip: "198.51.100.1", protocol: 6, dipId: 1, hairpin: "moon" } }],
  };
  expect(() => hostStep(update)).toThrow('"moon" is not known');
});
