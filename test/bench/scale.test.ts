/** What the benchmark of a large site reads and measures with is right. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { decodeLight } from "../../bench/scale/light-codec.js";
import { dipsOf, dipsOfHost, endpointsOf, portsOf, tenantOfDip } from "../../bench/scale/objects.js";
import { readStalls } from "../../bench/scale/stall-watch.js";
import { AGENT_FOLLOW } from "../../manager/api/methods.js";
import type { ananta } from "../../proto/gen/wire.js";

const { response } = AGENT_FOLLOW;

test("a light agent reads of a projection what it is, and everything else as any agent", () => {
  const update: ananta.v1.ProjectionUpdate.$Properties = {
    clusterEpoch: 3,
    index: 2 ** 40 + 7,
    snapshot: true,
    last: true,
    hostItems: [{ mux: { muxId: 1, address: "10.255.0.1" } }],
    removedKeys: ["range/1/6/128"],
    digest: "0123456789abcdef",
  };
  const { clusterEpoch, index, snapshot, last } = update;
  expect(decodeLight(response.encode({ projection: update }))).toEqual({
    projection: { clusterEpoch, index, snapshot, last },
  });
  for (const message of [{ answers: { answers: [{ sequence: 5, code: "X" }] } }, { beat: { appliedIndex: 9 } }, {}]) {
    const bytes = response.encode(message);
    expect(decodeLight(bytes)).toEqual(response.decode(bytes));
  }
});

test("the site has the size that it is named for, and every DIP is on one host, in its tenant", () => {
  const size = { hosts: 2_000, dipsPerHost: 50 };
  expect([endpointsOf(size), dipsOf(size), portsOf(size)]).toEqual([20_000, 100_000, 1_600_000]);
  const numbers = Array.from({ length: size.hosts }, (_, host) => dipsOfHost(size, host)).flat();
  expect(new Set(numbers).size).toBe(100_000);
  expect(new Set(numbers.map(tenantOfDip)).size).toBe(50);
});

test("a stall is told with the pauses of the collector that fell into it; a line that was cut off is left out", () => {
  const folder = mkdtempSync(join(tmpdir(), "ananta-stalls-"));
  try {
    const file = join(folder, "stalls");
    const lines = [
      { atMs: 1_000, lateMs: 40, ownMs: 30 },
      { pausedAtMs: 970, pauseMs: 12 },
      { pausedAtMs: 2_000, pauseMs: 9 },
      { atMs: 3_000, lateMs: 20, ownMs: 20 },
    ];
    writeFileSync(file, `${lines.map((line) => JSON.stringify(line)).join("\n")}\n{"atMs":40`);
    expect(readStalls(file)).toEqual([
      { atMs: 1_000, lateMs: 40, ownMs: 30, gcMs: 12 },
      { atMs: 3_000, lateMs: 20, ownMs: 20, gcMs: 0 },
    ]);
    expect(readStalls(join(folder, "none"))).toEqual([]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
