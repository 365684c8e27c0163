import { expect, test } from "vitest";
import type { LogIndex } from "../../../core/brands.js";
import { whenInForce } from "../../../manager/api/in-force.js";
import { COMMAND_FORMAT_VERSION } from "../../../manager/state/commands/commands.js";
import { edge } from "../edge.js";
import { pool, poolRef } from "../state/fixture.js";

test("a deletion is in force when MUXes have it, not while it is being applied", async () => {
  const { site, replica, time } = edge();
  site.join("mux-1", "192.0.2.1");
  site.register("host-1", ["10.0.0.1"]);
  site.configure(pool("web", ["10.0.0.1"]));
  site.delete(poolRef("web"));
  const { machine } = site;
  const before = machine.appliedIndex;
  replica.muxSafeIndex.advance(before);
  const index = (before + 1) as LogIndex;
  const activate = { origin: null, command: { kind: "activate", upToIndex: before } } as const;
  const steps = machine.applying(
    {
      formatVersion: COMMAND_FORMAT_VERSION,
      clusterTimeMs: machine.clusterTimeMs,
      wallMs: 0,
      muxSafeIndex: before,
      commands: [activate],
    },
    index,
    () => undefined,
  );
  steps.next();
  expect([machine.object(poolRef("web")), machine.appliedIndex]).toEqual([null, before]);
  let isInForce: boolean | null = null;
  void whenInForce(replica, [{ ref: poolRef("web"), generation: 1, change: "deleted" }], 1_000).then(
    (is) => (isInForce = is),
  );
  await time.advance(10);
  expect(isInForce, "half of the entry").toBe(null);
  while (steps.next().done !== true) continue;
  await time.advance(10);
  expect(isInForce, "MUXes know nothing of it").toBe(null);
  replica.muxSafeIndex.advance(index);
  await time.advance(10);
  expect(isInForce).toBe(true);
});
