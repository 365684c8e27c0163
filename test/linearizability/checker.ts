/**
 * [pure] Is there an order of these operations, each at one moment between its call and its return, that a single copy of the
 * object could have answered as it was answered? The search of Wing and Gong (1993) with Lowe's memory (2017), as Porcupine
 * has it (Athalye): go through calls in order of time; linearize the first that the model allows; at the return of an operation that is
 * not linearized, undo the last choice. A (set of linearized operations, state) is visited once.
 *
 * A pending operation (no return) may be linearized anywhere after its call, or never: the search ends when all that returned
 * are linearized.
 */

export interface Interval<Step> {
  readonly callMs: number;
  /** Null: pending. */
  readonly returnMs: number | null;
  readonly step: Step;
}

/** The specification: what one copy, asked one at a time, answers. Deterministic. */
export interface Model<State, Step> {
  readonly initial: State;
  /** The state afterwards, or null when the step's answer is impossible in `state`. `pending`: nobody was answered. */
  apply(state: State, step: Step, pending: boolean): State | null;
  /** Equal keys, equal states. */
  keyOf(state: State): string;
}

export type Verdict =
  | { readonly kind: "linearizable"; readonly steps: number }
  /** `longest`: indices of the longest order that was found, for a person who looks for the reason. */
  | { readonly kind: "violation"; readonly steps: number; readonly longest: readonly number[] }
  /** The search took more than `stepsMax` steps. */
  | { readonly kind: "undecided"; readonly steps: number };

/** A few minutes at the usual million steps a second; real histories need little more than one step per operation. */
const STEPS_MAX = 100_000_000;

interface Entry {
  readonly index: number;
  readonly isCall: boolean;
  /** Of a call: its return; null when pending. */
  match: Entry | null;
  previous: Entry;
  next: Entry | null;
}

export function checkLinearizable<State, Step>(
  model: Model<State, Step>,
  operations: readonly Interval<Step>[],
  stepsMax: number = STEPS_MAX,
): Verdict {
  const head = listOf(operations);
  let open = operations.filter(({ returnMs }) => returnMs !== null).length;
  const linearized = new Linearized(operations.length);
  const seen = new Set<string>();
  const undo: { readonly entry: Entry; readonly state: State }[] = [];
  let longest: readonly number[] = [];
  let longestOpen = open;
  let state = model.initial;
  let steps = 0;
  let entry = head.next;
  while (open > 0 && entry !== null) {
    if (++steps > stepsMax) return { kind: "undecided", steps };
    if (entry.isCall) {
      const after = model.apply(state, operations[entry.index]!.step, entry.match === null);
      if (after !== null) {
        linearized.add(entry.index);
        const key = `${linearized.key()}|${model.keyOf(after)}`;
        if (!seen.has(key)) {
          seen.add(key);
          undo.push({ entry, state });
          state = after;
          if (entry.match !== null) open--;
          lift(entry);
          if (open < longestOpen) {
            longestOpen = open;
            longest = undo.length > LONGEST_KEPT ? longest : undo.map((done) => done.entry.index);
          }
          entry = head.next;
          continue;
        }
        linearized.remove(entry.index);
      }
      entry = entry.next;
      continue;
    }
    // The return of an operation that has no place in this order: the last choice was wrong.
    const last = undo.pop();
    if (last === undefined) return { kind: "violation", steps, longest };
    state = last.state;
    linearized.remove(last.entry.index);
    if (last.entry.match !== null) open++;
    unlift(last.entry);
    entry = last.entry.next;
  }
  return { kind: "linearizable", steps };
}

/** Copying the order at each new record is quadratic; a partition that long is not read by a person either. */
const LONGEST_KEPT = 5_000;

/** Calls and returns in order of time; at one moment calls come first, because what touches in time overlaps. */
function listOf<Step>(operations: readonly Interval<Step>[]): { next: Entry | null } {
  const events = operations.flatMap(({ callMs, returnMs }, index) => [
    { atMs: callMs, index, isCall: true },
    ...(returnMs === null ? [] : [{ atMs: returnMs, index, isCall: false }]),
  ]);
  events.sort((a, b) => a.atMs - b.atMs || Number(b.isCall) - Number(a.isCall) || a.index - b.index);
  const head = { index: -1, isCall: true, match: null, next: null } as unknown as Entry;
  const calls = new Map<number, Entry>();
  let last = head;
  for (const { index, isCall } of events) {
    const entry: Entry = { index, isCall, match: null, previous: last, next: null };
    last.next = entry;
    last = entry;
    if (isCall) calls.set(index, entry);
    else calls.get(index)!.match = entry; // its call came before
  }
  return head;
}

function lift(call: Entry): void {
  unlink(call);
  if (call.match !== null) unlink(call.match);
}

function unlift(call: Entry): void {
  if (call.match !== null) relink(call.match);
  relink(call);
}

function unlink(entry: Entry): void {
  entry.previous.next = entry.next;
  if (entry.next !== null) entry.next.previous = entry.previous;
}

function relink(entry: Entry): void {
  entry.previous.next = entry;
  if (entry.next !== null) entry.next.previous = entry;
}

/** The set of linearized operations. Its key leaves out the words that are full at the front and empty at the end. */
class Linearized {
  readonly #words: Uint32Array;

  constructor(count: number) {
    this.#words = new Uint32Array(Math.ceil(count / 32) + 1);
  }

  add(index: number): void {
    this.#words[index >>> 5]! |= 1 << (index & 31);
  }

  remove(index: number): void {
    this.#words[index >>> 5]! &= ~(1 << (index & 31));
  }

  key(): string {
    const words = this.#words;
    let first = 0;
    while (words[first] === 0xffffffff) first++;
    let end = words.length;
    while (end > first && words[end - 1] === 0) end--;
    let key = `${first}`;
    for (let at = first; at < end; at++) key += `,${words[at]!.toString(36)}`;
    return key;
  }
}
