/** Every process shows metrics that Prometheus' users expect, and operations.md lists each of them with its labels. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import type { Agent } from "../../agent/agent.js";
import { agentMetrics } from "../../agent/metrics.js";
import type { Manager } from "../../manager/manager.js";
import { managerMetrics } from "../../manager/metrics.js";
import { muxMetrics } from "../../mux/metrics.js";
import type { Mux } from "../../mux/mux.js";
import { Metrics, type Metric } from "../../runtime/metrics.js";

// Names and labels are declared before anything is read: no process is needed.
const DECLARED: readonly Metric[] = [
  ...managerMetrics({} as Manager),
  ...muxMetrics({} as Mux),
  ...agentMetrics({} as Agent),
];

/** Names no label may have: they grow with the customers, not with the site, or say who they are. */
const UNBOUNDED = ["dip", "dip_id", "client", "address", "ip", "source", "destination", "host", "port"];

test("names, units and labels follow the rules of Prometheus", () => {
  for (const { name, help, type, labels = [] } of DECLARED) {
    expect(name).toMatch(/^ananta_[a-z][a-z0-9]*(_[a-z0-9]+)*$/);
    expect(help, name).toMatch(/\.$/);
    expect(name.endsWith("_total"), `${name} is a ${type}`).toBe(type === "counter");
    expect(name, "base units: seconds and bytes").not.toMatch(
      /_(ms|millis|milliseconds|minutes|kb|mb|kilobytes|percent)(_|$)/,
    );
    for (const label of labels) {
      expect(label).toMatch(/^[a-z]+(_[a-z]+)*$/);
      expect(UNBOUNDED, `${name} has no label ${label}`).not.toContain(label);
    }
  }
  expect(new Set(DECLARED.map(({ name }) => name)).size, "a name is declared once").toBe(DECLARED.length);
});

test("operations.md lists exactly the metrics that there are, with their labels", () => {
  const text = readFileSync(new URL("../../docs/operations.md", import.meta.url), "utf8");
  const listed = new Map<string, string>();
  for (const [, names = "", labels = ""] of text.matchAll(/^\| ((?:`ananta_\w+`(?:, )?)+) *\|([^|]*)\|/gm))
    for (const [, name = ""] of names.matchAll(/`(\w+)`/g)) listed.set(name, labels.replaceAll(/[`\s]/g, ""));
  expect(Object.fromEntries(listed)).toEqual(
    Object.fromEntries(DECLARED.map(({ name, labels = [] }) => [name, labels.join(",")])),
  );
});

test("the exposition has HELP and TYPE before the samples of each name, and every sample is of a declared name", async () => {
  const metrics = new Metrics([
    {
      name: "ananta_test_drop_total",
      help: "Dropped.",
      type: "counter",
      labels: ["reason"],
      read: () => [{ labels: { reason: 'a "b"' }, value: 2 }],
    },
    { name: "ananta_test_length", help: "Waiting.", type: "gauge", read: () => [{ value: 1.5 }] },
  ]);
  const described = new Set<string>();
  const samples: string[] = [];
  for (const line of (await metrics.text()).split("\n").filter((text) => text !== "")) {
    const [, kind, name = ""] = /^# (HELP|TYPE) (\w+) /.exec(line) ?? [];
    if (kind !== undefined) described.add(`${kind} ${name}`);
    else {
      const sample = /^(\w+?)(?:_bucket|_sum|_count)?(\{[^}]*\})? (-?[0-9.e+-]+|[Nn]a[Nn]|[+-]Inf)$/.exec(line);
      expect(sample, line).not.toBeNull();
      const full = /^\w+/.exec(line)?.[0] ?? "";
      const known = [full, sample?.[1] ?? ""].some((of) => described.has(`HELP ${of}`) && described.has(`TYPE ${of}`));
      expect(known, line).toBe(true);
      if (full.startsWith("ananta_")) samples.push(line);
    }
  }
  expect(samples).toEqual(['ananta_test_drop_total{reason="a \\"b\\""} 2', "ananta_test_length 1.5"]);
});
