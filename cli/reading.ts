/** What the commands that only look have in common. */
import type { Command } from "commander";
import { nobodyAnswers } from "./api-client.js";
import { clusterView, type ClusterView } from "./cluster-view.js";
import type { Context } from "./context.js";
import { formatDuration } from "./terminal/durations.js";
import { UsageError } from "./terminal/exit-codes.js";
import type { Format, ReadAt } from "./terminal/output.js";

export interface GetOptions {
  readonly output: Format;
  readonly stale?: boolean;
  readonly watch?: boolean;
  readonly fromIndex?: string;
  readonly selector?: string;
  readonly tenant: string;
  readonly allTenants?: boolean;
}

/** Whoever reads old state is told how old. */
export function tellStale(context: Context, endpoint: string, { index, ageMs }: ReadAt): void {
  const age = ageMs >= 2 ** 31 - 1 ? "of unknown age" : `${formatDuration(ageMs)} old`;
  context.tell(`stale: as ${endpoint} knows it, at index ${index}, ${age}`);
}

/** Throws UNAVAILABLE when no replica answers. */
export async function surveyedView(context: Context, command: Command): Promise<ClusterView> {
  const client = context.client(command);
  context.progress.show("asking all replicas");
  const surveys = await client.survey();
  context.progress.clear();
  if (surveys.every(({ answer }) => answer === null)) throw nobodyAnswers(surveys);
  return clusterView(surveys);
}

/** The tenant that a listing asks for; "" is all of them. `names`: what was asked for by name, which belongs to one. */
export function tenantAsked(
  { tenant, allTenants = false }: { readonly tenant: string; readonly allTenants?: boolean },
  names: readonly string[],
): string {
  if (allTenants && names.length > 0)
    throw new UsageError("a name belongs to one tenant: give --tenant, not --all-tenants");
  return allTenants ? "" : tenant;
}
