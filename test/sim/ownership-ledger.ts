/**
 * Who owns which SNAT ranges, worked out a second time from the committed log alone: commands and their answers, never the
 * allocator's own tables. What any client, agent or MUX believes is judged by it.
 *
 *   nobody's ── granted ──> owned ── released, orphaned ──> resting ── 120 s of cluster time ──> nobody's
 */
import type { DipId } from "../../core/brands.js";
import type { CommandBatch, RangeBlock } from "../../manager/state/commands/commands.js";
import type { AppliedBatch } from "../../manager/state/commands/results.js";
import type { StateMachine } from "../../manager/state/state-machine.js";
import { mustHold } from "./violation.js";

/** RFC 6888 REQ-8. */
const REST_MS = 120_000;

export interface Ownership {
  readonly dip: DipId;
  readonly state: "owned" | "resting";
  /** Cluster time of the grant or the release. */
  readonly sinceMs: number;
  readonly index: number;
}

export const rangeKey = (vip: string, protocol: number, range: number): string => `${vip}/${protocol}/${range}`;

export class OwnershipLedger {
  readonly ranges = new Map<string, Ownership>();
  /** Origins of what was executed, with the entry that did it. */
  readonly #executed = new Map<string, number>();
  grants = 0;
  releases = 0;

  /** The entry is the newest, and `state` has just applied it. */
  entry(batch: CommandBatch, applied: AppliedBatch, state: StateMachine): void {
    const firsts = new Map<string, number>();
    batch.commands.forEach(({ command, origin }, at) => {
      const result = applied.results[at];
      if (origin !== null) {
        const id = `${origin.session} ${origin.sequence}`;
        const first = firsts.get(id);
        if (first !== undefined) {
          // The same request twice in one entry: the second is answered from memory.
          mustHold(
            JSON.stringify(result) === JSON.stringify(applied.results[first]),
            "a request is executed once",
            () => `entry ${applied.index} answers ${id} in two ways`,
          );
          return;
        }
        firsts.set(id, at);
        if (result?.ok === true && result.index === applied.index) {
          const before = this.#executed.get(id);
          mustHold(
            before === undefined,
            "a request is executed once",
            () => `${command.kind} of ${id} was executed by entry ${String(before)}, and again by ${applied.index}`,
          );
          this.#executed.set(id, applied.index);
        }
      }
      if (result === undefined || !result.ok || result.index !== applied.index) return; // refused, or a remembered answer
      if (command.kind === "allocate-snat" && result.value.kind === "snat-allocated")
        this.#granted(command.dipId, result.value.blocks, applied.index, state);
      else if (command.kind === "release-snat") this.#released(command.dipId, command.blocks, applied.index, state);
      else if (command.kind === "register-host") this.#registered(command.name, applied.index, state);
    });
  }

  owner(key: string): DipId | null {
    const found = this.ranges.get(key);
    return found?.state === "owned" ? found.dip : null;
  }

  /** The replica's tables say the same as the log does. */
  compare(state: StateMachine): void {
    const listed = new Set<string>();
    for (const block of state.snatBlocks({})) {
      for (let range = block.range; range < block.range + block.count; range++) {
        const key = rangeKey(block.vip, block.protocol, range);
        mustHold(!listed.has(key), "one owner per range", () => `${key} is listed twice`);
        listed.add(key);
        const known = this.ranges.get(key);
        const wanted = block.state === "owned" ? "owned" : "resting";
        mustHold(
          known !== undefined && known.dip === block.dip.dipId && known.state === wanted,
          "a grant survives",
          () => `${key} is ${block.state} by DIP ${block.dip.dipId}; by the log ${describe(known)}`,
        );
      }
    }
    for (const [key, known] of this.ranges) {
      const mayBeFree = known.state === "resting" && state.clusterTimeMs - known.sinceMs >= REST_MS;
      mustHold(
        listed.has(key) || mayBeFree,
        "a grant survives",
        () => `${key} is nobody's; by the log ${describe(known)}`,
      );
    }
  }

  #granted(dip: DipId, blocks: readonly RangeBlock[], index: number, state: StateMachine): void {
    this.grants++;
    for (const key of keysOf(blocks)) {
      const known = this.ranges.get(key);
      mustHold(
        known?.state !== "owned",
        "one owner per range",
        () => `${key} is granted to DIP ${dip} at ${index}, ${describe(known)}`,
      );
      const restedMs = known === undefined ? Infinity : state.clusterTimeMs - known.sinceMs;
      mustHold(
        restedMs >= REST_MS,
        "a released range rests",
        () => `${key} is granted to DIP ${dip} after ${restedMs} ms, ${describe(known)}`,
      );
      mustHold(
        !holdsRule(state, key),
        "no grant on a rule's port",
        () => `${key} is granted to DIP ${dip} at ${index}`,
      );
      this.ranges.set(key, { dip, state: "owned", sinceMs: state.clusterTimeMs, index });
    }
  }

  #released(dip: DipId, blocks: readonly RangeBlock[], index: number, state: StateMachine): void {
    this.releases++;
    for (const key of keysOf(blocks)) {
      const known = this.ranges.get(key);
      mustHold(
        known?.state === "owned" && known.dip === dip,
        "only the owner releases",
        () => `${key} is released by DIP ${dip} at ${index}, ${describe(known)}`,
      );
      this.ranges.set(key, { dip, state: "resting", sinceMs: state.clusterTimeMs, index });
    }
  }

  /** A new start of a host gives up what it does not declare: the state says what that was. */
  #registered(name: string, index: number, state: StateMachine): void {
    const host = state.hostByName(name);
    if (host === null) return;
    for (const dip of host.dips) {
      const still = new Set<string>();
      for (const block of state.snatBlocks({ dip }))
        if (block.state === "owned") for (const key of keysOf([block])) still.add(key);
      for (const [key, known] of this.ranges)
        if (known.state === "owned" && known.dip === dip && !still.has(key))
          this.ranges.set(key, { dip, state: "resting", sinceMs: state.clusterTimeMs, index });
    }
  }
}

export function keysOf(blocks: readonly RangeBlock[]): readonly string[] {
  return blocks.flatMap(({ vip, protocol, range, count }) =>
    Array.from({ length: count }, (_, offset) => rangeKey(vip, protocol, range + offset)),
  );
}

const describe = (known: Ownership | undefined): string =>
  known === undefined ? "nobody's" : `${known.state} by DIP ${known.dip} since entry ${known.index}`;

function holdsRule(state: StateMachine, key: string): boolean {
  const [vip = "", ...wantedParts] = key.split("/");
  const wanted = wantedParts.join("/");
  return state
    .objects("Vip", null)
    .some(
      ({ spec }) =>
        "address" in spec &&
        spec.address === vip &&
        spec.rules.some((rule) => `${rule.protocol}/${rule.port >> 3}` === wanted),
    );
}
