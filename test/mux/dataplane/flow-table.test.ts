/** The flow table against a plain Map that follows the same rules by the book. */
import { describe, expect, it } from "vitest";
import { createRandom } from "../../../core/random.js";
import { TOUCH_MS } from "../../../dataplane/aged-queues.js";
import { mixWords } from "../../../dataplane/flow-hash.js";
import { MUX_LAYOUT } from "../../../dataplane/layouts.js";
import { NOT_FOUND } from "../../../dataplane/word-index.js";
import { createPacketHeader } from "../../../packet/header.js";
import { FlowTable } from "../../../mux/dataplane/flow-table.js";
import { SEED } from "../../packet/packet-kit.js";

interface ModelFlow {
  trusted: boolean;
  seenMs: number;
  member: number;
  idleMs: number;
}

describe("the flow table", () => {
  it("remembers what a Map remembers, under random packets, quotas and times", () => {
    const random = createRandom(SEED);
    const [untrustedMs, trustedMs] = [10_000, 60_000];
    const table = new FlowTable({ ...MUX_LAYOUT, trustedFlows: 20, untrustedFlows: 10 }, { untrustedMs, trustedMs });
    const model = new Map<number, ModelFlow>();
    const header = createPacketHeader();
    const idleTimes = [trustedMs, 5_000, 90_000];
    const classes = [0, 5_000, 90_000].map((idleMs) => table.idleClass(idleMs));
    const lifetime = (flow: ModelFlow): number => (flow.trusted ? flow.idleMs : untrustedMs);
    const countOf = (trusted: boolean): number => [...model.values()].filter((flow) => flow.trusted === trusted).length;
    let now = 0;
    const expire = (): void => {
      table.expire(now);
      for (const [key, flow] of model) if (now - flow.seenMs >= lifetime(flow)) model.delete(key);
    };
    for (let round = 0; round < 10_000; round++) {
      now += random.below(2_000);
      if (random.below(3) > 0) now -= now % 2; // some times repeat
      expire(); // so that which expired entry a full quota would reclaim never matters
      const n = random.below(50);
      // Half of the flows are IPv6 and differ in one word only; hashes collide.
      [header.source0, header.source1, header.source2, header.source3] = [n & 1, n & 2, n & 4, n >> 3];
      const key = [header, 7, (n << 16) | 80, 6] as const;
      const hash = mixWords(n % 20, 0, 0, 0);
      const entry = table.find(hash, ...key);
      const flow = model.get(n);
      expect(entry === NOT_FOUND, `seed ${SEED} round ${round}`).toBe(flow === undefined);
      if (flow === undefined) {
        const member = random.below(4);
        const kind = random.below(3);
        const inserted = table.insert(hash, ...key, member, 0, classes[kind]!, now);
        expect(inserted === NOT_FOUND).toBe(countOf(false) >= 10);
        if (inserted !== NOT_FOUND) model.set(n, { trusted: false, seenMs: now, member, idleMs: idleTimes[kind]! });
      } else if (random.below(4) === 0) {
        const member = random.below(4);
        table.restart(entry, member, 0, now);
        if (flow.trusted && countOf(false) >= 10) model.delete(n);
        else model.set(n, { ...flow, trusted: false, seenMs: now, member });
      } else {
        table.confirm(entry, now);
        if (!flow.trusted && countOf(true) < 20) model.set(n, { ...flow, trusted: true, seenMs: now });
        else if (now - flow.seenMs >= TOUCH_MS) flow.seenMs = now;
      }
      const after = table.find(hash, ...key);
      const expected = model.get(n);
      if (expected === undefined) expect(after).toBe(NOT_FOUND);
      else {
        expect(table.isTrusted(after)).toBe(expected.trusted);
        expect(table.member(after)).toBe(expected.member);
      }
      expect([table.sizeOf(0), table.sizeOf(1)]).toEqual([countOf(false), countOf(true)]);
    }
  });
});
