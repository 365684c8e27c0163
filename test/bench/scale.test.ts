/** What the benchmark of a large site reads and measures with is right. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { decodeLight } from "../../bench/scale/light-codec.js";
import { dipsOf, dipsOfHost, endpointsOf, portsOf, tenantOfDip } from "../../bench/scale/objects.js";
import { readStalls } from "../../bench/scale/stall-watch.js";
import { turnNames } from "../../bench/scale/turn-names.js";
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
      { pausedAtMs: 970, pauseMs: 12, gcKind: "whole" },
      { pausedAtMs: 985, pauseMs: 4, gcKind: "young" },
      { pausedAtMs: 2_000, pauseMs: 9, gcKind: "young" },
      { atMs: 3_000, lateMs: 20, ownMs: 20 },
    ];
    writeFileSync(file, `${lines.map((line) => JSON.stringify(line)).join("\n")}\n{"atMs":40`);
    expect(readStalls(file)).toEqual([
      { atMs: 1_000, lateMs: 40, ownMs: 30, gcMs: 16, gcKind: "whole" },
      { atMs: 3_000, lateMs: 20, ownMs: 20, gcMs: 0, gcKind: "" },
    ]);
    expect(readStalls(join(folder, "none"))).toEqual([]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("what a process did for a while is the chain of functions that most samples have in common", () => {
  const folder = mkdtempSync(join(tmpdir(), "ananta-profile-"));
  try {
    const file = join(folder, "manager.cpuprofile");
    const node = (id: number, functionName: string, children: readonly number[]) => {
      return { id, callFrame: { functionName, url: "file:///dist/manager/turn.js" }, children };
    };
    const nodes = [node(1, "(root)", [2, 5]), node(2, "apply", [3, 4]), node(3, "settle", []), node(4, "flush", [])];
    nodes.push(node(5, "idle", []));
    // Sampled at 1.001 s, 1.002 s and so on.
    const profile = {
      nodes,
      startTime: 1e6,
      samples: [5, 3, 3, 4, 5],
      timeDeltas: [1_000, 1_000, 1_000, 1_000, 1_000],
    };
    writeFileSync(file, JSON.stringify(profile));
    const name = turnNames(file);
    expect(name?.(1_001.5, 1_004.5)).toBe("apply [turn] > settle [turn] (67 % of 3 samples)");
    expect(name?.(1_003.5, 1_004.5)).toBe("apply [turn] > flush [turn] (100 % of 1 samples)");
    expect(name?.(5_000, 5_001)).toBe("no sample");
    expect(turnNames(join(folder, "none"))).toBeNull();
  } finally {
    rmSync(folder, { recursive: true });
  }
});
