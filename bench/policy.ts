/**
 * How many connections wait for a SNAT port, or fail, under three policies? A burst, and a steady load, in virtual time: the
 * agent's data plane and reserve, and the Managers' state machine, as they are. bench/README.md says how.
 */
import { assert } from "../core/assert.js";
import { print, progress, runBenchmark } from "./measure/benchmark.js";
import { numberText, resultNumber, spreadOf, spreadText } from "./measure/statistics.js";
import { POLICIES, type PolicyName } from "./policy/policies.js";
import { BURST, type Load, type Outcome, play, STEADY } from "./policy/scenario.js";

const MEANING: Readonly<Record<PolicyName, string>> = {
  static: "static, 1,024 ports per DIP",
  "on-demand": "on demand",
  "early-refill": "early refill (ours)",
};

function playAll(policy: PolicyName, load: Load, runs: number): readonly Outcome[] {
  return Array.from({ length: runs }, (_, run) => {
    const outcome = play(policy, load, run + 1);
    progress(
      `${policy}, seed ${run + 1}: ${numberText(outcome.connections)} connections, ${numberText(outcome.waited)} waited, ${numberText(outcome.failed)} failed`,
    );
    return outcome;
  });
}

const total = (outcomes: readonly Outcome[], of: (outcome: Outcome) => number): number =>
  outcomes.reduce((sum, outcome) => sum + of(outcome), 0);

const share = (outcomes: readonly Outcome[], of: (outcome: Outcome) => number): number =>
  total(outcomes, of) / total(outcomes, ({ connections }) => connections);

const percents = (outcomes: readonly Outcome[], of: (outcome: Outcome) => number, digits: number): string =>
  spreadText(spreadOf(outcomes.map((outcome) => (of(outcome) * 100) / outcome.connections)), digits);

await runBenchmark({
  name: "policy",
  question: "How many connections wait for a SNAT port, or fail: static ports, ports on demand, early refill?",
  options: { runs: { meaning: "seeds per policy", default: 5, min: 1, max: 50 } },
  run: ({ runs }) => {
    print(
      "Burst: 50 DIPs with 2 connections/s, five of them with 100/s for 30 s; one destination, which closes first.",
    );
    print(`Of all connections, in percent; median of ${runs} seeds [smallest..largest].`);
    print();
    print(`${"policy".padEnd(30)}${"wait".padEnd(24)}${"fail".padEnd(24)}${"requests".padEnd(24)}ports owned at most`);
    const burst = new Map(POLICIES.map((policy) => [policy, playAll(policy, BURST, runs)]));
    for (const [policy, outcomes] of burst) {
      const columns = [
        percents(outcomes, ({ waited }) => waited, 2),
        percents(outcomes, ({ failed }) => failed, 2),
        spreadText(spreadOf(outcomes.map(({ requests }) => requests))),
      ];
      const owned = spreadText(spreadOf(outcomes.map(({ portsOwnedMax }) => portsOwnedMax)));
      print(`${MEANING[policy].padEnd(30)}${columns.map((text) => text.padEnd(24)).join("")}${owned}`);
    }
    const steady = playAll("early-refill", STEADY, runs);
    print();
    print(
      `Steady: 50 DIPs with 0.5 to 25 connections/s for 5 minutes, early refill: ${percents(steady, ({ servedAtOnce }) => servedAtOnce, 3)} % find a port in the agent's reserve`,
    );
    const ours = burst.get("early-refill") ?? [];
    assert(ours.length === runs, "every policy was played");
    return Promise.resolve({
      waitShareEarlyRefill: resultNumber(
        share(ours, ({ waited }) => waited),
        6,
      ),
      failShareEarlyRefill: resultNumber(
        share(ours, ({ failed }) => failed),
        6,
      ),
      servedLocally: resultNumber(
        share(steady, ({ servedAtOnce }) => servedAtOnce),
        6,
      ),
    });
  },
});
