/** What the commands that change something have in common: options, outcomes, and waiting until MUXes use the change. */
import { AnantaError } from "../../core/errors.js";
import { DEFAULT_TENANT, isKind } from "../../manager/api/objects/schema.js";
import type { ObjectRef } from "../../manager/state/objects.js";
import type { ananta } from "../../proto/gen/wire.js";
import { type ApiClient, sleep } from "../api-client.js";
import type { Context } from "../context.js";
import { formatDuration } from "../terminal/durations.js";
import { EXIT, type ExitCode } from "../terminal/exit-codes.js";
import { GET } from "../methods.js";

const LOOK_MS = 100;
/** All must settle, so it does no harm to look at the first ones only. */
const LOOKED_AT_MAX = 16;

/** Those that are not in force when time is up; empty when all are. */
export async function waitInForce(
  client: ApiClient,
  refs: readonly ObjectRef[],
  options: { readonly untilMs: number; readonly waiting: (left: number) => void },
): Promise<readonly ObjectRef[]> {
  let left = refs;
  for (;;) {
    const timeoutMs = Math.max(LOOK_MS, options.untilMs - client.clock.nowMs());
    const settled = await Promise.all(left.slice(0, LOOKED_AT_MAX).map((ref) => isSettled(client, ref, timeoutMs)));
    left = left.filter((_, position) => settled[position] !== true);
    if (left.length === 0 || client.clock.nowMs() >= options.untilMs) return left;
    if (settled.every((one) => one)) continue;
    options.waiting(left.length);
    await sleep(client.clock, LOOK_MS);
  }
}

/**
 * In force, or gone: a deleted object stays visible until the MUXes have dropped it. The change is committed by now, so no
 * other error speaks of it: it means "not known yet".
 */
async function isSettled(client: ApiClient, ref: ObjectRef, timeoutMs: number): Promise<boolean> {
  try {
    const { response } = await client.read(GET, { ref }, { timeoutMs });
    return response.object?.status?.phase === "Ready";
  } catch (caught) {
    return AnantaError.from(caught).code === "NOT_FOUND";
  }
}

/** "vip/web created" for each; gives back what was really changed. */
export function printOutcomes(
  context: Context,
  outcomes: readonly ananta.v1.Outcome.$Properties[],
): readonly ObjectRef[] {
  return outcomes.flatMap(({ kind, tenant, name, change }) => {
    context.print(`${(kind ?? "").toLowerCase()}/${name ?? ""} ${change ?? ""}\n`);
    if (!isKind(kind) || change === "unchanged") return [];
    return [{ kind, tenant: tenant ?? DEFAULT_TENANT, name: name ?? "" }];
  });
}

/** The change stands, but traffic does not follow it yet: for scripts that is not "ok". */
export function tellNotInForce(
  context: Context,
  left: readonly ObjectRef[],
  index: number,
  timeoutMs: number,
): ExitCode {
  if (left.length === 0) return EXIT.ok;
  const names = left.map(shortName).join(", ");
  context.tell(
    `committed at index ${index}, but not in force on all MUXes within ${formatDuration(timeoutMs)}: ${names}. See \`ananta get muxes\`.`,
  );
  return EXIT.unhealthy;
}

/** Nothing was refused, but the operator should know. */
export function tellWarnings(context: Context, warnings: readonly string[]): void {
  for (const warning of warnings) context.tell(`warning: ${warning}`);
}

export const shortName = ({ kind, name }: Pick<ObjectRef, "kind" | "name">): string => `${kind.toLowerCase()}/${name}`;

/** For options that may be repeated. */
export function collect(value: string, before: readonly string[]): readonly string[] {
  return [...before, value];
}
