/** Section "Through the API" of docs/configuration.md: requests that the edge refuses, whoever sends them. */
import { OperatorService } from "../../../manager/api/operator-service.js";
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
  return { ...made, service: new OperatorService(made.replica), next: origins("desk") };
}

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
