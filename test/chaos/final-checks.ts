/** After all faults are healed and all requests answered: do all replicas, MUXes and agents agree, and was no promise broken? */
import type { OwnedPorts } from "../../fabric/control/manager-api.js";
import { changedOwners, doublyOwned } from "../../fabric/ownership.js";
import { muxesOf } from "../../fabric/site-status.js";
import { OPERATOR_CLUSTER_STATUS } from "../../manager/api/methods.js";
import type { ChaosSite } from "./chaos-site.js";
import type { Workload } from "./workload.js";

const AGREE_MS = 30_000;

/** What is wrong, one line each; empty: nothing. */
export async function finalViolations(
  chaos: ChaosSite,
  workload: Workload,
  before: readonly OwnedPorts[],
): Promise<readonly string[]> {
  const { ledger } = workload;
  const final = await chaos.site.api.snatList({ endpoint: null, stale: false });
  const violations = [...ledger.conflicts, ...ledger.lost(final.blocks), ...doublyOwned(final.blocks)];
  // Ranges of agents: theirs before, and nobody else's since, unless they gave them back and those have rested.
  violations.push(...changedOwners(before, final.blocks).filter((line) => !line.endsWith("nobody after")));
  for (const [check, told] of [
    ["the replicas' digests", () => replicasDisagree(chaos)],
    ["each replica's own listing", () => listingsDisagree(chaos)],
    ["the MUXes' view", () => muxesDisagree(chaos)],
    ["the agents' view", () => agentsDisagree(chaos)],
  ] as const) {
    const wrong = await eventually(chaos, told);
    if (wrong !== null) violations.push(`${check}: ${wrong}`);
  }
  return violations;
}

/** What is still going on may differ for a moment: asked again until it agrees, or too long. */
async function eventually(chaos: ChaosSite, told: () => Promise<string | null>): Promise<string | null> {
  const endMs = chaos.env.clock.nowMs() + AGREE_MS;
  for (;;) {
    const wrong = await told().catch((caught: unknown) => String(caught));
    if (wrong === null || chaos.env.clock.nowMs() > endMs) return wrong;
    await chaos.sleep(250);
  }
}

async function replicasDisagree({ site }: ChaosSite): Promise<string | null> {
  const replicas = await Promise.all(
    site.api.endpoints.map((_, at) => site.api.one(at, OPERATOR_CLUSTER_STATUS, { digest: true }, 3_000)),
  );
  const shown = replicas.map(({ appliedIndex, digest }) => `${appliedIndex ?? 0} ${digest ?? ""}`);
  if (replicas.some(({ digest }) => (digest ?? "") === "")) return `one has no digest: ${shown.join(", ")}`;
  return new Set(shown).size === 1 ? null : shown.join(", ");
}

async function listingsDisagree({ site }: ChaosSite): Promise<string | null> {
  const listings = await Promise.all(
    site.api.endpoints.map((_, endpoint) => site.api.snatList({ endpoint, stale: true })),
  );
  const texts = listings.map(({ blocks }) =>
    blocks
      .map(({ vip, protocol, range, count, dip, state }) => `${vip}/${protocol}/${range}+${count} ${dip} ${state}`)
      .sort()
      .join("\n"),
  );
  const doubled = listings.flatMap(({ blocks }) => doublyOwned(blocks));
  if (doubled.length > 0) return doubled[0] ?? null;
  return new Set(texts).size === 1 ? null : "two replicas list different owners";
}

async function muxesDisagree({ site }: ChaosSite): Promise<string | null> {
  const status = await site.watch.refresh(false);
  const { index } = await site.api.snatList({ endpoint: null, stale: false });
  const behind = muxesOf(status).find((mux) => mux.state !== "live" || mux.index < index);
  if (behind !== undefined) return `${behind.name} is ${behind.state} at index ${behind.index}, below ${index}`;
  const pages = await Promise.all(site.plan.muxes.map(({ ops }) => metricsOf(ops)));
  const tables = pages.map((page) =>
    page
      .filter((line) =>
        /^ananta_mux_table_entries\{.*table="(?:vips|rules|pools|dips|snat-ranges|inbound-nats|members)"/.test(line),
      )
      .join("\n"),
  );
  return new Set(tables).size === 1 ? null : `tables differ in size: ${tables.join(" | ")}`;
}

async function agentsDisagree({ site }: ChaosSite): Promise<string | null> {
  const { blocks } = await site.api.snatList({ endpoint: null, stale: false });
  for (const { name, ops } of site.plan.hosts) {
    const owned = blocks
      .filter((block) => block.host === name && block.state === "owned")
      .reduce((sum, { count }) => sum + count, 0);
    const line = (await metricsOf(ops)).find((text) => text.startsWith("ananta_agent_ranges_in_force"));
    const inForce = Number(line?.split(" ").at(-1));
    if (inForce !== owned) return `${name} has ${inForce} ranges in force and owns ${owned}`;
  }
  return null;
}

async function metricsOf(address: string): Promise<readonly string[]> {
  const response = await fetch(`http://${address}/metrics`, { signal: AbortSignal.timeout(3_000) });
  return (await response.text()).split("\n");
}
