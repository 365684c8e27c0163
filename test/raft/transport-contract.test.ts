/** The transport contract on both implementations. */
import { nodeId } from "../../core/brands.js";
import { GrpcTransport } from "../../manager/raft/transport/grpc-transport.js";
import { LoopbackHub } from "../../manager/raft/transport/loopback-transport.js";
import { VirtualWorld, testSeed } from "../kit/virtual-world.js";
import { transportContract } from "./transport-contract.js";

const ADDRESSES = new Map([1, 2, 3].map((id) => [nodeId(id), `m${id}:7001`]));

transportContract("gRPC streams", (salt) => {
  const world = new VirtualWorld({ seed: testSeed(`contract ${salt}`) });
  return {
    world,
    create: (id) => {
      const env = world.env(`m${id}`);
      const transport = new GrpcTransport({
        env,
        log: env.log,
        id: nodeId(id),
        address: `m${id}:7001`,
        clusterId: "c",
        clusterEpoch: 1,
        redialMaxMs: 150,
      });
      transport.setMembers({ addresses: ADDRESSES, removed: [] });
      return transport;
    },
    cut: (from, to) => world.cut(`m${from}`, `m${to}`, "one-way"),
    heal: () => world.heal(),
  };
});

transportContract("loopback", (salt) => {
  const world = new VirtualWorld({ seed: testSeed(`contract ${salt}`) });
  const hub = new LoopbackHub({ clock: world.env("hub").clock, delayMs: 1 });
  return {
    world,
    create: (id) => hub.transportOf(nodeId(id)),
    cut: (from, to) => hub.cut(nodeId(from), nodeId(to)),
    heal: () => hub.mend(),
  };
});
