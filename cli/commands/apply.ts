/** `ananta apply -f FILE`: all objects of all files, or none. */
import { Command } from "commander";
import { AnantaError } from "../../core/errors.js";
import { wireApplyObject } from "../../manager/api/wire-objects.js";
import type { Context } from "../context.js";
import { EXIT, ToldError, UsageError } from "../exit-codes.js";
import { collect, printOutcomes, shortName, tellNotInForce, waitInForce } from "../changing.js";
import {
  checkManifests,
  countProblems,
  problemLine,
  readManifests,
  type ProblemLine,
  type Source,
} from "../manifests.js";
import { APPLY, type WireObject } from "../methods.js";
import { serverProblems } from "../server-problems.js";

/** One Apply carries no more (operator.proto). */
const OBJECTS_MAX = 1_000;

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
  if (options.filename.length === 0) throw new UsageError("-f FILE is missing");
  const client = context.client(command);
  const startMs = client.clock.nowMs();
  const manifests = await readManifests(options.filename, context.shell.files);
  const { objects, problems } = checkManifests(manifests.objects, options.tenant ?? null);
  const refuse = (lines: readonly ProblemLine[]): never => {
    for (const line of lines) context.tell(line);
    const where = countProblems(lines, options.filename, manifests.fileCount);
    context.tell(`${context.paintError("error:")} ${where}; nothing was applied`);
    throw new ToldError(EXIT.refused);
  };
  const found = [...manifests.problems, ...problems];
  if (found.length > 0) refuse(found);
  if (objects.length === 0) throw new UsageError(`no objects in ${options.filename.join(", ")}`);
  if (objects.length > OBJECTS_MAX)
    throw new UsageError(`${objects.length} objects; one apply takes at most ${OBJECTS_MAX}`);

  const request = {
    objects: objects.map(({ object }): WireObject => wireApplyObject(object)),
    dryRun: options.dryRun === true,
  };
  const { response } = await client.change(APPLY, request).catch((caught: unknown) => {
    const error = AnantaError.from(caught);
    const lines = linesOf(
      error,
      objects.map(({ source }) => source),
    );
    if (lines.length > 0) refuse(lines);
    throw error;
  });

  if (options.dryRun === true) {
    for (const { object } of objects) context.print(`${shortName(object.ref)} would be accepted (dry run)\n`);
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

/** What the server found, with the place in the file. */
function linesOf(error: AnantaError, sources: readonly Source[]): readonly ProblemLine[] {
  const problems = serverProblems(error);
  const lines = problems.flatMap((problem) => {
    const source = sources[problem.object];
    return source === undefined ? [] : [problemLine(source, problem)];
  });
  if (lines.length < problems.length) return []; // better the server's own words than half of them
  const count = error.facts["problemCount"];
  const more = typeof count === "number" ? count - lines.length : 0;
  return more > 0 ? [...lines, `and ${more} more problems`] : lines;
}
