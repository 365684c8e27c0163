/** [pure] Judges a whole history: every range and every object by itself. */
import { checkLinearizable, type Interval, type Model, type Verdict } from "./checker.js";
import { objectModel, objectPartitions, type ObjectState } from "./configuration-model.js";
import type { History, Operation } from "./history.js";
import { rangeModel, rangePartitions, type RangeState, type RangeStep } from "./snat-model.js";

export interface Judgement {
  /** False also when a part could not be decided: what is not proven is not claimed. */
  readonly linearizable: boolean;
  readonly operations: number;
  /** Of unknown outcome. */
  readonly unknown: number;
  /** Ranges and objects. */
  readonly partitions: number;
  readonly steps: number;
  /** Those that are not linearizable, or not decided. */
  readonly failures: readonly Failure[];
}

export interface Failure {
  /** The range or the object. */
  readonly partition: string;
  readonly kind: "violation" | "undecided";
  readonly operations: readonly Operation[];
  /** Indices of `operations`: the longest order that explains the answers so far, with the state after each. */
  readonly longest: readonly { readonly index: number; readonly state: string }[];
}

export function judge(history: History): Judgement {
  const ranges = rangePartitions(history);
  const objects = objectPartitions(history);
  const tally = { steps: 0, failures: [] as Failure[] };
  const ofRange = rangeModel(history.quarantineMs);
  for (const [name, steps] of ranges)
    judgePart(tally, {
      name,
      model: ofRange,
      steps,
      operationOf: (step: RangeStep) => step.operation,
      textOf: rangeText,
    });
  for (const [name, steps] of objects)
    judgePart(tally, { name, model: objectModel, steps, operationOf: (step: Operation) => step, textOf: objectText });
  return {
    linearizable: tally.failures.length === 0,
    operations: history.operations.length,
    unknown: history.operations.filter(({ outcome }) => outcome.kind === "unknown").length,
    partitions: ranges.size + objects.size,
    steps: tally.steps,
    failures: tally.failures,
  };
}

interface Part<State, Step> {
  readonly name: string;
  readonly model: Model<State, Step>;
  readonly steps: readonly Interval<Step>[];
  readonly operationOf: (step: Step) => Operation;
  readonly textOf: (state: State) => string;
}

function judgePart<State, Step>(tally: { steps: number; failures: Failure[] }, part: Part<State, Step>): void {
  const { model, steps, operationOf, textOf } = part;
  const verdict = checkLinearizable(model, steps);
  tally.steps += verdict.steps;
  if (verdict.kind === "linearizable") return;
  tally.failures.push({
    partition: part.name,
    kind: verdict.kind,
    operations: steps.map(({ step }) => operationOf(step)),
    longest: longestOf(verdict).map(statesAlong(model, steps, textOf)),
  });
}

const longestOf = (verdict: Verdict): readonly number[] => (verdict.kind === "violation" ? verdict.longest : []);

/** Walks an order that the model allows, telling the state after each step. */
function statesAlong<State, Step>(
  model: Model<State, Step>,
  steps: readonly Interval<Step>[],
  textOf: (state: State) => string,
): (index: number) => { readonly index: number; readonly state: string } {
  let state = model.initial;
  return (index) => {
    const { step, returnMs } = steps[index]!; // the checker's own index
    state = model.apply(state, step, returnMs === null) ?? state;
    return { index, state: textOf(state) };
  };
}

const rangeText = ({ owner, last }: RangeState): string =>
  owner !== null ? `owned by ${owner}` : last === null ? "free" : `resting, last ${last}`;

const objectText = ({ value, generation }: ObjectState): string =>
  generation === 0 ? "absent" : `generation ${generation}: ${value}`;
