/** The real network and disk keep the same contracts as the virtual ones. */
import { mkdtemp, readdir, rm, unlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createNodeEnv, nodeClock } from "../../runtime/node/env.js";
import { diskContract } from "../kit/disk-contract.js";
import { networkContract } from "../kit/network-contract.js";

const sleep = (ms: number): Promise<void> => new Promise((resolve) => void nodeClock.setTimer(ms, resolve));

networkContract("grpc-js on loopback", () => {
  const env = createNodeEnv({ name: "test", dataFolder: "", logLevel: "silent" });
  return Promise.resolve({
    server: env,
    client: env,
    anyAddress: "127.0.0.1:0",
    run: (promise) => promise,
    until: async (predicate) => {
      const endMs = env.clock.nowMs() + 5_000;
      while (!predicate()) {
        if (env.clock.nowMs() > endMs) throw new Error("it did not happen within 5 s");
        await sleep(1);
      }
    },
    pass: (ms) => sleep(ms),
    dispose: () => Promise.resolve(),
  });
});

diskContract("files and classic-level", async () => {
  const folder = await mkdtemp(join(tmpdir(), "ananta-disk-"));
  return {
    disk: createNodeEnv({ name: "test", dataFolder: "", logLevel: "silent" }).disk,
    folder,
    run: (promise) => promise,
    damageStore: async (store) => {
      for (const name of await readdir(store)) if (name.startsWith("MANIFEST")) await unlink(join(store, name));
      await writeFile(join(store, "CURRENT"), "MANIFEST-999999\n");
    },
    dispose: () => rm(folder, { recursive: true, force: true }),
  };
});
