/**
 * `npm run chaos`: real processes, real faults, and a judge. Exit codes: 0 no violation, 1 violations or a run that failed,
 * 2 wrong arguments, 130 and the like: interrupted (nothing is left behind).
 */
import { randomInt } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { FlowGenerator } from "../../fabric/flow-generator.js";
import { longestGapMs } from "../../fabric/ownership.js";
import { SERVER_PORT } from "../../fabric/site.js";
import { mapStacksOnDemand, stackOf } from "../../runtime/stacks.js";
import { drawJudgement } from "../linearizability/drawing.js";
import type { History } from "../linearizability/history.js";
import { encodeHistory } from "../linearizability/history-lines.js";
import { judge } from "../linearizability/judge.js";
import { ChaosSite } from "./chaos-site.js";
import { finalViolations } from "./final-checks.js";
import { Nemesis, type Injected } from "./nemesis.js";
import { parseOptions, type Options } from "./options.js";
import { drawTimeline } from "./timeline.js";
import { QUARANTINE_MS, Workload, workloadObjects } from "./workload.js";

const ANSWERS_WITHIN_MS = 30_000;
const WARM_UP_MS = 2_000;

const print = (line = ""): void => void process.stdout.write(`${line}\n`);

async function run({ minutes, seed, out, portsFrom }: Options): Promise<boolean> {
  print(`seed ${seed} (the same faults again: npm run chaos -- --minutes ${minutes} --seed ${seed})`);
  const events: { readonly atMs: number; readonly text: string }[] = [];
  const say = (text: string): void => {
    events.push({ atMs: performance.now(), text });
    process.stderr.write(`[${(performance.now() / 1_000).toFixed(1).padStart(6)}s] ${text}\n`);
  };
  const note = (text: string): void => void events.push({ atMs: performance.now(), text });
  const chaos = await ChaosSite.start({ seed, portsFrom, onEvent: note });
  const { clock, random } = chaos.env;
  if (!(await chaos.applyExample(workloadObjects()))) throw new Error("the VIPs are not in force on all MUXes");
  say(`the site serves; the small disk of ${chaos.diskOwner} is a ${chaos.disk.kind}`);
  const { fabric } = chaos.site;
  fabric.add(
    new FlowGenerator(
      {
        direction: "outbound",
        flows: 20,
        opensMax: null,
        opensPerSecond: 5,
        requestIntervalMs: 1_000,
        lifetimeMs: 20_000,
        sources: fabric.vms,
        destinations: [...fabric.servers, ...fabric.serversIpv6].map(({ address }) => ({ address, port: SERVER_PORT })),
      },
      random.fork(),
    ),
  );
  const workload = new Workload(chaos.env, chaos.site.api);
  const nemesis = new Nemesis(chaos, random.fork(), say);
  await workload.start();
  await chaos.sleep(WARM_UP_MS);
  const before = (await chaos.site.api.snatList({ endpoint: null, stale: false })).blocks.filter(({ dip }) =>
    dip.startsWith("10.1."),
  );

  const [fromMs, fromPage] = [clock.nowMs(), performance.now()];
  const problems: string[] = [];
  try {
    await nemesis.run(fromMs + minutes * 60_000);
  } catch (caught) {
    problems.push(`a fault could not be carried out: ${String(caught)}`);
  }
  const toMs = clock.nowMs();
  say("healing everything");
  chaos.heal();
  await chaos.recovered().catch((caught: unknown) => problems.push(`the site did not recover: ${String(caught)}`));
  await chaos.sleep(WARM_UP_MS);
  await workload.stop(ANSWERS_WITHIN_MS);
  say("all requests are answered; checking");
  const history: History = {
    source: "chaos",
    seed: String(seed),
    quarantineMs: QUARANTINE_MS,
    operations: workload.recorder.operations,
  };
  const violations = [
    ...problems,
    ...(await finalViolations(chaos, workload, before).catch((caught: unknown) => [
      `the final state could not be read: ${String(caught)}`,
    ])),
  ];
  mkdirSync(out, { recursive: true });
  const file = (name: string): string => join(out, `seed-${seed}-${name}`);
  writeFileSync(file("history.jsonl"), encodeHistory(history));
  const judgement = judge(history);
  violations.push(
    ...judgement.failures.map(
      ({ partition, kind }) => `${partition}: ${kind === "violation" ? "not linearizable" : "not decided"}`,
    ),
  );
  if (!judgement.linearizable) writeFileSync(file("failures.html"), drawJudgement(history, judgement));
  const gapMs = longestGapMs(workload.answeredMs, fromMs, toMs);
  const summary = [
    ...table(nemesis.injected, workload.answeredMs),
    "",
    `${judgement.operations} operations, ${judgement.unknown} of unknown outcome, ${workload.ledger.grants} grants, ${workload.ledger.releases} releases`,
    `seconds with a grant: ${(availability(workload.answeredMs, fromMs, toMs) * 100).toFixed(1)} %; longest time without one ${gapMs.toFixed(0)} ms`,
    `${judgement.partitions} ranges and objects: ${judgement.linearizable ? "linearizable" : "not linearizable"}`,
  ];
  const shift = fromPage - fromMs; // the page's clock is this process's
  writeFileSync(
    file("timeline.html"),
    drawTimeline({
      seed,
      fromMs,
      toMs,
      injected: nemesis.injected,
      answeredMs: workload.answeredMs,
      events: events.map(({ atMs, text }) => ({ atMs: atMs - shift, text })),
      violations,
      summary,
    }),
  );
  print();
  for (const line of summary) print(line);
  for (const violation of violations.slice(0, 30)) print(`VIOLATION ${violation}`);
  print(
    `written: ${file("history.jsonl")}, ${file("timeline.html")}${judgement.linearizable ? "" : `, ${file("failures.html")}`}`,
  );
  await chaos.stop();
  const result = {
    leaderKills: nemesis.leaderKills,
    operations: judgement.operations,
    violations: violations.length,
    longestGapMs: Math.round(gapMs),
    linearizable: judgement.linearizable,
  };
  print(`RESULT ${JSON.stringify(result)}`);
  return violations.length === 0;
}

/** Per kind of fault: how often, and the longest time without a grant that began while it lasted. */
function table(injected: readonly Injected[], answeredMs: readonly number[]): readonly string[] {
  const names = [...new Set(injected.map(({ name }) => name))].sort();
  const rows = names.map((name) => {
    const times = injected.filter((fault) => fault.name === name);
    const gap = Math.max(...times.map(({ fromMs, toMs }) => longestGapMs(answeredMs, fromMs, toMs)));
    return `${name.padEnd(50)}${String(times.length).padStart(6)}${gap.toFixed(0).padStart(16)}`;
  });
  return [`${"fault".padEnd(50)}${"times".padStart(6)}${"longest gap, ms".padStart(16)}`, ...rows];
}

function availability(answeredMs: readonly number[], fromMs: number, toMs: number): number {
  const seconds = Math.max(1, Math.floor((toMs - fromMs) / 1_000));
  const served = new Set(
    answeredMs.filter((atMs) => atMs >= fromMs && atMs < toMs).map((atMs) => Math.floor((atMs - fromMs) / 1_000)),
  );
  return Math.min(1, served.size / seconds);
}

mapStacksOnDemand();
const options = parseOptions(process.argv.slice(2), randomInt(2 ** 31));
if (options === "help") {
  process.stdout.write(readFileSync(new URL("usage.txt", import.meta.url), "utf8"));
  process.exit(0);
}
if ("problem" in options) {
  process.stderr.write(`ananta: ${options.problem}\n`);
  process.exit(2);
}
try {
  process.exit((await run({ ...options, out: resolve(options.out) })) ? 0 : 1);
} catch (caught) {
  process.stderr.write(`ananta: ${caught instanceof Error ? (stackOf(caught) ?? caught.message) : String(caught)}\n`);
  process.exit(1);
}
