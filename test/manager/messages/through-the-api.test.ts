/** Section "Through the API" of docs/configuration.md: requests that the edge refuses, whoever sends them. */
import { OperatorService } from "../../../manager/api/operator-service.js";
import { ClusterService } from "../../../manager/api/cluster-service.js";
import { ExplainFlow } from "../../../manager/api/flows/explain-flow.js";
import { ResetFlows } from "../../../manager/api/flows/reset-flows.js";
import { SnatReports } from "../../../manager/api/snat-reports.js";
import { SnatService } from "../../../manager/api/snat-service.js";
import { Watches } from "../../../manager/api/watch.js";
import { wireApplyObject } from "../../../manager/api/objects/wire.js";
import { AnantaError } from "../../../core/errors.js";
import type { ananta } from "../../../proto/gen/wire.js";
import { CALL, edge, FakeStream, origins } from "../edge.js";
import { pool, vip } from "../state/fixture.js";
import { provokeAll } from "./document.js";

type Scene = ReturnType<typeof scene>;

function scene() {
  const made = edge();
  const { replica, muxes, agents } = made;
  return {
    ...made,
    service: new OperatorService(replica),
    snat: new SnatService(replica),
    reports: new SnatReports(replica, agents.portReports),
    members: new ClusterService(replica),
    explaining: new ExplainFlow(replica, muxes),
    resetting: new ResetFlows(replica, muxes, agents),
    next: origins("desk"),
  };
}

const FLOW = {
  protocol: 6,
  source: "198.51.100.10",
  sourcePort: 40_000,
  destination: "203.0.113.10",
  destinationPort: 80,
};

/** A host with a DIP that owns ports 1024 to 1087 of a VIP; and what it asks for. */
function owner({ site }: Scene): { readonly host: string; readonly incarnation: number; readonly dip: string } {
  site.join("mux-1", "192.0.2.1");
  site.register("host-1", ["10.0.0.1"]);
  site.configure(pool("web", ["10.0.0.1"]), vip("web", "198.51.100.1", { outbound: ["web"] }));
  site.allocate("10.0.0.1", 64);
  return { host: "host-1", incarnation: 1, dip: "10.0.0.1" };
}
const block = (range: number, count = 1) => ({ vip: "198.51.100.1", protocol: 6, range, count });

const web = wireApplyObject(vip("web", "198.51.100.1"));

const provocations: Readonly<Record<string, (scene: Scene) => unknown>> = {
  "objects: 1001 given; use 1 to 1000": ({ service, next }) =>
    service.apply({ origin: next(), objects: Array.from({ length: 1_001 }, () => web) }, CALL),
  "objects[0] spec.address: 198.51.100.1 is in none of the prefixes that this site announces, 203.0.113.0/24; use an address of these, or add one to vipPrefixes of the Managers":
    ({ replica, next }) => {
      const config = { ...replica.config, vipPrefixes: ["203.0.113.0/24"] };
      return new OperatorService({ ...replica, config }).apply({ origin: next(), objects: [web] }, CALL);
    },
  'objects[1]: Vip "web" is given twice; it is objects[0] already': ({ service, next }) =>
    service.apply({ origin: next(), objects: [web, web] }, CALL),
  'ref.kind: "Pool" is not a kind; use Vip, BackendPool, Tenant or SecurityGroup': ({ service }) =>
    service.get({ ref: { kind: "Pool", name: "web" } }, CALL),
  "ref.name: missing": ({ service }) => service.get({ ref: { kind: "Vip" } }, CALL),
  'Vip "nope" does not exist in tenant "default"': ({ service }) =>
    service.get({ ref: { kind: "Vip", name: "nope" }, stale: true }, CALL),
  "reason: 0 characters; say why, in 1 to 256": ({ service, next }) =>
    service.fenceHost({ origin: next(), host: "host-1", reason: " " }, CALL),
  "for_seconds: 10 is out of bounds; use 30 to 86400": ({ service, next }) =>
    service.withdraw({ origin: next(), name: "web", reason: "test", forSeconds: 10 }, CALL),
  // A client that begins to count anew with its old session gets the answer of another request: nothing is done.
  "origin: it belongs to an earlier request of another kind; count the sequence up for each request": async ({
    service,
    next,
    site,
  }) => {
    site.register("host-1", ["10.0.0.1"]);
    const origin = next();
    await service.apply({ origin, objects: [web] }, CALL);
    await service.fenceHost({ origin, host: "host-1", reason: "gone" }, CALL);
  },
  "not executed: the session has ended: 10 minutes passed without use, or the cluster was restored from a snapshot; whether it was executed before is unknown":
    async ({ service, next, site }) => {
      await service.apply({ origin: next(), objects: [web] }, CALL);
      site.ok("epoch-begun", { kind: "begin-epoch", clusterEpoch: 2 });
      await service.apply({ origin: next(), objects: [web] }, CALL);
    },
  'page: "x" is none; use next_page of the answer before': ({ service }) =>
    service.list({ kind: "Vip", page: "x", stale: true }, CALL),
  'origin.session: "mine" is not 32 hex digits; choose 128 random bits once per client': ({ service }) =>
    service.apply({ origin: { session: "mine", sequence: 1 }, objects: [web] }, CALL),
  "origin.sequence: 0 is not a count from 1": ({ service, next }) =>
    service.apply({ origin: { ...next(), sequence: 0 }, objects: [web] }, CALL),
  'host: "Host 1" is not a name; use 1 to 63 of a-z, 0-9 and "-"': ({ snat, next }) =>
    snat.register({ origin: next(), host: "Host 1" }, CALL),
  'boot_id: "x" is not 32 hex digits; choose 128 random bits per start': ({ snat, next }) =>
    snat.register({ origin: next(), host: "host-1", bootId: "x" }, CALL),
  'host "host-9" is not registered; call Register first': ({ snat, next }) =>
    snat.allocate({ origin: next(), host: "host-9", dip: "10.0.0.1", protocol: 6, ports: 8 }, CALL),
  '10.0.0.9 (tenant "default") is not a DIP of host "host-1"': (scene) =>
    scene.snat.allocate({ origin: scene.next(), ...owner(scene), dip: "10.0.0.9", protocol: 6, ports: 8 }, CALL),
  'no host has the DIP 10.0.0.9 of tenant "default"': ({ snat }) => snat.list({ dip: "10.0.0.9", stale: true }, CALL),
  "protocol: 1 is not supported; use 6 (TCP) or 17 (UDP)": (scene) =>
    scene.snat.allocate({ origin: scene.next(), ...owner(scene), protocol: 1 as never, ports: 8 }, CALL),
  "ports: 0 is not a number of ports; use 1 to 64512": (scene) =>
    scene.snat.allocate({ origin: scene.next(), ...owner(scene), protocol: 6 }, CALL),
  "blocks: none given; name the ranges to release": (scene) =>
    scene.snat.release({ origin: scene.next(), ...owner(scene), blocks: [] }, CALL),
  "blocks: 1025 in one message; at most 1024": (scene) => {
    const blocks = Array.from({ length: 1_025 }, () => block(128));
    return scene.snat.release({ origin: scene.next(), ...owner(scene), blocks }, CALL);
  },
  "blocks[0]: ranges 5..5 are not within 128..8191": (scene) =>
    scene.snat.release({ origin: scene.next(), ...owner(scene), blocks: [block(5)] }, CALL),
  "DIP default/10.0.0.1 does not own all of 198.51.100.1:4000-4007/tcp": (scene) =>
    scene.snat.release({ origin: scene.next(), ...owner(scene), blocks: [block(500)] }, CALL),
  "a range is named twice in one release": (scene) =>
    scene.snat.release({ origin: scene.next(), ...owner(scene), blocks: [block(128), block(128)] }, CALL),
  "port: 80 is not a SNAT port; those are 1024 to 65535": ({ reports }) =>
    reports.who({ vip: "198.51.100.1", port: 80 }, CALL),
  "horizon_seconds: 5 is not in 60 to 31536000": ({ reports }) => reports.forecast({ horizonSeconds: 5 }, CALL),
  "node_id: 0 is not a node id, 1 to 65535": ({ members }) => members.addReplica({}, CALL),
  'raft_address: "here" is not of the form host:port': ({ members }) =>
    members.addReplica({ nodeId: 6, raftAddress: "here" }, CALL),
  "raft_address and api_address are both db:7000": ({ members }) =>
    members.addReplica({ nodeId: 6, raftAddress: "db:7000", apiAddress: "db:7000" }, CALL),
  "replacing: node 2 cannot replace itself": ({ members }) => members.promoteReplica({ nodeId: 2, replacing: 2 }, CALL),
  'flow.source: "here" is not an IP address': ({ explaining }) =>
    explaining.explain({ flow: { ...FLOW, source: "here" } }),
  "flow: 2001:db8::1 and 203.0.113.10 are of two address families": ({ explaining }) =>
    explaining.explain({ flow: { ...FLOW, source: "2001:db8::1" } }),
  "name a DIP or a VIP: without either, all flows of the site would end": ({ resetting }) => resetting.reset({}),
  'dip: "10.1" is not an IP address': ({ resetting }) => resetting.reset({ dip: "10.1" }),
  "DIP default/10.0.0.9 is not known": ({ resetting }) => resetting.reset({ dip: "10.0.0.9" }),
  'vip: "web" is not an IP address': ({ resetting }) => resetting.reset({ vip: "web" }),
  "no Vip has the address 203.0.113.99": ({ resetting }) => resetting.reset({ vip: "203.0.113.99" }),
  "changes up to index 7 are no longer held; list again and watch from that index": ({ replica, site }) => {
    while (site.machine.appliedIndex < 7) site.applyObjects(pool(`p${site.machine.appliedIndex}`, []));
    const stream = new FakeStream<ananta.v1.WatchEvent.$Properties, never>();
    new Watches(replica).open({ kind: "Vip", fromIndex: 3 }, stream);
    throw stream.ended ?? new Error("the watch goes on");
  },
};

provokeAll("Through the API", provocations, async (provoke) => {
  try {
    await provoke(scene());
    return [];
  } catch (caught) {
    return [AnantaError.from(caught).message];
  }
});
