/**
 * The core alone: five of them in memory, messages handed over as they are, disks that take no time. The goal is 200,000
 * committed entries a second on one core of a quiet machine; the test asks for a tenth, so that a loaded one passes, and
 * prints what it saw. Agreement of all five is checked inside.
 */
import { expect, test } from "vitest";
import { nodeId, type LogIndex, type Term } from "../../core/brands.js";
import { createRandom } from "../../core/random.js";
import { simpleMembership } from "../../manager/raft/core/membership.js";
import { RaftCore } from "../../manager/raft/core/raft.js";

const ENTRIES = 200_000;
const BATCH = 200;

test("five cores in memory commit far more entries than any disk could take", () => {
  const ids = [1, 2, 3, 4, 5].map(nodeId);
  const applied = new Map(ids.map((id) => [id, { count: 0, digest: 0 }]));
  const cores = new Map(
    ids.map((id) => [
      id,
      new RaftCore(
        {
          id,
          membership: simpleMembership(ids),
          electionTimeoutMinTicks: 15,
          electionTimeoutMaxTicks: 25,
          heartbeatTicks: 3,
          unreachableDelayMaxTicks: 5,
          inflightAppendsMax: 256,
          inflightBytesMax: 8 << 20,
          appendBytesMax: 1 << 20,
          storageStallTicks: 100,
          leaseMarginTicks: null,
          uncommittedBytesMax: 16 << 20,
          random: createRandom(id),
          readNonce: id,
          voting: { kind: "full" },
          observe: null,
        },
        { hardState: { term: 0 as Term, votedFor: null }, snapshot: null, entries: [], commitIndex: 0 as LogIndex },
      ),
    ]),
  );
  const pump = (): void => {
    for (let busy = true; busy;) {
      busy = false;
      for (const [id, core] of cores) {
        while (core.hasReady()) {
          busy = true;
          const ready = core.ready();
          for (const { to, message } of ready.sendNow) cores.get(to)!.step(message);
          if (ready.persist !== null) core.appended(ready.persist.token);
          const mine = applied.get(id)!;
          for (const entry of ready.committed) {
            mine.count++;
            mine.digest = (Math.imul(mine.digest, 31) + entry.index * 7 + (entry.payload[0] ?? 0)) | 0;
          }
        }
      }
    }
  };
  const leader = cores.get(nodeId(1))!;
  for (let at = 0; at < 25; at++) leader.tick();
  pump();
  const payload = new Uint8Array(64).fill(7);
  const began = process.hrtime.bigint(); // eslint-disable-line no-restricted-syntax -- a measurement, not a decision
  for (let at = 0; at < ENTRIES; at += BATCH) {
    for (let one = 0; one < BATCH; one++) expect1(leader.propose(payload).kind === "accepted");
    pump();
    if (at % 20_000 === 0)
      for (const core of cores.values())
        core.snapshotTaken(
          { index: core.state.log.appliedIndex, term: core.state.term, membership: core.state.membership },
          core.state.log.appliedIndex,
        );
  }
  const seconds = Number(process.hrtime.bigint() - began) / 1e9; // eslint-disable-line no-restricted-syntax -- as above
  const rate = Math.round(ENTRIES / seconds);
  console.log(`${rate.toLocaleString("en")} entries/s committed and applied by five cores (Node ${process.version})`);
  for (const one of applied.values()) expect(one).toEqual(applied.get(nodeId(1)));
  expect(applied.get(nodeId(1))?.count).toBe(ENTRIES + 1);
  expect(rate).toBeGreaterThan(20_000);
});

function expect1(condition: boolean): void {
  if (!condition) throw new Error("the leader takes proposals");
}
