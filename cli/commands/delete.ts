/** `ananta delete TYPE NAME...` or `ananta delete -f FILE`: all of them, or none. */
import { Command } from "commander";
import { AnantaError } from "../../core/errors.js";
import { formatProblem } from "../../manager/api/objects/schema-messages.js";
import { DEFAULT_TENANT, KIND_WORDS, isKind } from "../../manager/api/objects/schema.js";
import type { ObjectRef } from "../../manager/state/objects.js";
import type { Context } from "../context.js";
import { EXIT, ToldError, UsageError } from "../terminal/exit-codes.js";
import {
  countProblems,
  inTenant,
  isRecord,
  problemLine,
  readManifests,
  type ManifestObject,
  type ProblemLine,
  type Source,
} from "../objects/manifests.js";
import { DELETE } from "../methods.js";
import { objectType, parseTargets } from "../objects/resource-types.js";
import { serverProblems } from "../objects/server-problems.js";
import { collect, printOutcomes, tellNotInForce, waitInForce } from "../objects/changing.js";

interface DeleteOptions {
  readonly filename: readonly string[];
  readonly wait: boolean;
  readonly ignoreNotFound?: boolean;
  readonly tenant?: string;
}

interface Deletion {
  readonly ref: ObjectRef;
  /** Null: named on the command line. */
  readonly source: Source | null;
}

export function deleteCommand(context: Context): Command {
  return new Command("delete")
    .description("delete objects by name or from files, all or none")
    .argument("[target...]", "TYPE NAME..., or TYPE/NAME...")
    .option("-f, --filename <file>", 'file or folder, "-" for standard input; may be repeated', collect, [])
    .option("--ignore-not-found", "what is not there counts as deleted")
    .option("--no-wait", "do not wait until no MUX uses them any more")
    .option("-t, --tenant <tenant>", "tenant of the objects", undefined)
    .action(
      context.action(
        (words: readonly string[], _options: unknown, command: Command) => remove(context, words, command),
        { isChange: true },
      ),
    );
}

async function remove(context: Context, words: readonly string[], command: Command) {
  const options = command.opts<DeleteOptions>();
  const client = context.client(command);
  const startMs = client.clock.nowMs();
  let deletions =
    options.filename.length > 0
      ? await fromFiles(context, options, words)
      : fromWords(words, options.tenant ?? DEFAULT_TENANT);
  for (;;) {
    try {
      if (deletions.length === 0) return EXIT.ok;
      const { response } = await client.change(DELETE, { refs: deletions.map(({ ref }) => ref) });
      const changed = printOutcomes(context, response.outcomes);
      if (!options.wait || response.inForce) return EXIT.ok;
      const left = await waitInForce(client, changed, {
        untilMs: startMs + client.timeoutMs,
        waiting: (count) => context.progress.show(`waiting for the MUXes to drop ${count} objects`),
      });
      return tellNotInForce(context, left, response.index, client.timeoutMs);
    } catch (caught) {
      const error = AnantaError.from(caught);
      const problems = serverProblems(error);
      const missing = new Set(problems.filter(({ code }) => code === "NOT_FOUND").map(({ object }) => object));
      if (options.ignoreNotFound === true && missing.size > 0 && missing.size === problems.length) {
        deletions = deletions.filter((_, position) => !missing.has(position)); // strictly fewer each time
        continue;
      }
      if (problems.length === 0) throw error;
      for (const problem of problems) {
        const source = deletions[problem.object]?.source ?? null;
        context.tell(
          source === null ? formatProblem({ path: "", message: problem.message }) : problemLine(source, problem),
        );
      }
      context.tell(`${context.paintError("error:")} nothing was deleted`);
      throw new ToldError(EXIT.refused);
    }
  }
}

function fromWords(words: readonly string[], tenant: string): readonly Deletion[] {
  return parseTargets(words).map(({ type, name }) => {
    const { kind } = objectType(type, "deleted");
    if (name === null) throw new UsageError(`name what to delete: ananta delete ${type.name} NAME...`);
    return { ref: { kind, tenant, name }, source: null };
  });
}

/** Only kind and name matter: what else is in the file may be out of date. */
async function fromFiles(
  context: Context,
  options: DeleteOptions,
  words: readonly string[],
): Promise<readonly Deletion[]> {
  if (words.length > 0) throw new UsageError("give names or -f FILE, not both");
  const manifests = await readManifests(options.filename, context.shell.files);
  const problems: ProblemLine[] = [...manifests.problems];
  const deletions = manifests.objects.flatMap((object) => deletionOf(object, options.tenant ?? null, problems));
  if (problems.length > 0) {
    for (const line of problems) context.tell(line);
    context.tell(
      `${context.paintError("error:")} ${countProblems(problems, options.filename, manifests.fileCount)}; nothing was deleted`,
    );
    throw new ToldError(EXIT.refused);
  }
  if (deletions.length === 0) throw new UsageError(`no objects in ${options.filename.join(", ")}`);
  return deletions.reverse(); // what refers to others is usually written after them
}

function deletionOf(
  { value: written, source }: ManifestObject,
  tenant: string | null,
  problems: ProblemLine[],
): readonly Deletion[] {
  const value = inTenant(written, tenant);
  const fields = isRecord(value) ? value : {};
  const metadata = isRecord(fields["metadata"]) ? fields["metadata"] : {};
  const { kind } = fields;
  const { name, tenant: own = DEFAULT_TENANT } = metadata;
  if (!isKind(kind)) problems.push(problemLine(source, { path: "kind", message: `use ${KIND_WORDS}` }));
  else if (typeof name !== "string" || typeof own !== "string")
    problems.push(problemLine(source, { path: "metadata.name", message: "missing; name the object" }));
  else return [{ ref: { kind, tenant: kind === "Tenant" ? name : own, name }, source }];
  return [];
}
