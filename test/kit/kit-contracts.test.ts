import { diskContract } from "./disk-contract.js";
import { networkContract } from "./network-contract.js";
import { VirtualWorld, testSeed } from "./virtual-world.js";

networkContract("virtual", () => {
  const world = new VirtualWorld({ seed: testSeed("network contract") });
  return Promise.resolve({
    server: world.env("server"),
    client: world.env("client"),
    anyAddress: "server:0",
    run: (promise) => world.run(promise),
    until: async (predicate) => {
      await world.runUntil(predicate, 10_000);
    },
    pass: (ms) => world.advance(ms),
    dispose: () => Promise.resolve(),
  });
});

diskContract("virtual", () => {
  const world = new VirtualWorld({ seed: testSeed("disk contract") });
  return Promise.resolve({
    disk: world.env("machine").disk,
    folder: "/data",
    run: (promise) => world.run(promise),
    damageStore: (folder) => {
      world.disk("machine").damageStore(folder);
      return Promise.resolve();
    },
    dispose: () => Promise.resolve(),
  });
});
