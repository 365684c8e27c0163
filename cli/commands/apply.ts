/** `ananta apply -f FILE`: all objects of all files, or none. */
import { Command } from "commander";
import { wireApplyObject } from "../../manager/api/objects/wire.js";
import type { Context } from "../context.js";
import { EXIT } from "../terminal/exit-codes.js";
import { collect, printOutcomes, shortName, tellNotInForce, tellWarnings, waitInForce } from "../objects/changing.js";
import { readCheckedFiles } from "../objects/checked-files.js";
import { APPLY, type WireObject } from "../methods.js";

interface ApplyOptions {
  readonly filename: readonly string[];
  readonly dryRun?: boolean;
  readonly wait: boolean;
  readonly tenant?: string;
}

export function applyCommand(context: Context): Command {
  return new Command("apply")
    .description("create or change objects from YAML or JSON files, all or none")
    .requiredOption("-f, --filename <file>", 'file or folder, "-" for standard input; may be repeated', collect, [])
    .option("--dry-run", "check everything, change nothing")
    .option("--no-wait", "do not wait until every live MUX uses the change")
    .option("-t, --tenant <tenant>", "tenant of objects that name none")
    .action(context.action((_options: unknown, command: Command) => apply(context, command), { isChange: true }));
}

async function apply(context: Context, command: Command) {
  const options = command.opts<ApplyOptions>();
  const client = context.client(command);
  const startMs = client.clock.nowMs();
  const files = await readCheckedFiles(context, options, "nothing was applied");
  const { objects } = files;
  const request = {
    objects: objects.map((object): WireObject => wireApplyObject(object)),
    dryRun: options.dryRun === true,
  };
  const { response } = await client.change(APPLY, request).catch((caught: unknown) => files.refuse(caught));
  tellWarnings(context, response.warnings);

  if (options.dryRun === true) {
    for (const { ref } of objects) context.print(`${shortName(ref)} would be accepted (dry run)\n`);
    return EXIT.ok;
  }
  const changed = printOutcomes(context, response.outcomes);
  if (!options.wait || response.inForce || changed.length === 0) return EXIT.ok;
  const left = await waitInForce(client, changed, {
    untilMs: startMs + client.timeoutMs,
    waiting: (count) => context.progress.show(`waiting for the MUXes to use ${count} objects`),
  });
  return tellNotInForce(context, left, response.index, client.timeoutMs);
}
