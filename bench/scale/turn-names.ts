/**
 * What a Manager was doing while its event loop was held up: the samples of its CPU profile that fall into the time, as the
 * chain of functions that most of them have in common. Clocks are the same: both count from the machine's start.
 */
import { existsSync, readFileSync } from "node:fs";
import { basename } from "node:path";

interface ProfileNode {
  readonly id: number;
  readonly callFrame: { readonly functionName: string; readonly url: string };
  readonly children?: readonly number[];
}

interface Profile {
  readonly nodes: readonly ProfileNode[];
  /** us, as `timeDeltas`. */
  readonly startTime: number;
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

/** A chain goes on where at least this share of the samples goes with it. */
const SHARE = 0.5;
/** Of a chain the last functions: the first ones are the same for all. */
const NAMED = 5;

/** Names what a process did from one moment to the other (ms since the machine's start); null where it left no profile. */
export function turnNames(file: string): ((fromMs: number, toMs: number) => string) | null {
  if (!existsSync(file)) return null;
  const { nodes, startTime, samples, timeDeltas } = JSON.parse(readFileSync(file, "utf8")) as Profile;
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const parents = new Map(nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id] as const)));
  const times: number[] = [];
  let atUs = startTime;
  for (const delta of timeDeltas) times.push((atUs += delta) / 1_000);
  return (fromMs, toMs) => {
    const within = samples.filter((_, at) => times[at]! >= fromMs && times[at]! <= toMs); // one time per sample
    if (within.length === 0) return "no sample";
    /** Of each node: samples in it or in what it called. */
    const counts = new Map<number, number>();
    for (const sample of within)
      for (let id: number | undefined = sample; id !== undefined; id = parents.get(id))
        counts.set(id, (counts.get(id) ?? 0) + 1);
    const chain: ProfileNode[] = [];
    for (let node = nodes[0]; node !== undefined;) {
      chain.push(node);
      const next: number | undefined = node.children?.find((id) => (counts.get(id) ?? 0) >= SHARE * within.length);
      node = next === undefined ? undefined : byId.get(next);
    }
    const last = counts.get(chain.at(-1)?.id ?? 0) ?? 0;
    return `${chain.slice(1).slice(-NAMED).map(nameOf).join(" > ")} (${((100 * last) / within.length).toFixed(0)} % of ${within.length} samples)`;
  };
}

function nameOf({ callFrame: { functionName, url } }: ProfileNode): string {
  const file = basename(url).replace(/\.js$/, "");
  return file === "" ? functionName : `${functionName || "(module)"} [${file}]`;
}
