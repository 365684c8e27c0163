/** Files given with -f, read and checked: what `apply` and `plan` begin with, and how they tell what is wrong where. */
import { AnantaError } from "../../core/errors.js";
import type { ApplyObject } from "../../manager/state/commands/commands.js";
import type { Context } from "../context.js";
import { EXIT, ToldError, UsageError } from "../terminal/exit-codes.js";
import {
  checkManifests,
  countProblems,
  problemLine,
  readManifests,
  type ProblemLine,
  type Source,
} from "./manifests.js";
import { serverProblems } from "./server-problems.js";

/** One Apply carries no more (operator.proto). */
const OBJECTS_MAX = 1_000;

export interface CheckedFiles {
  readonly objects: readonly ApplyObject[];
  /** Tells what the server found wrong, with the place in the file, and ends the run; other errors are thrown on. */
  refuse(caught: unknown): never;
}

/** Ends the run, everything told, when something in the files is wrong. `outcome`: "nothing was applied". */
export async function readCheckedFiles(
  context: Context,
  options: { readonly filename: readonly string[]; readonly tenant?: string },
  outcome: string,
): Promise<CheckedFiles> {
  if (options.filename.length === 0) throw new UsageError("-f FILE is missing");
  const manifests = await readManifests(options.filename, context.shell.files);
  const { objects, problems } = checkManifests(manifests.objects, options.tenant ?? null);
  const end = (lines: readonly ProblemLine[]): never => {
    for (const line of lines) context.tell(line);
    const where = countProblems(lines, options.filename, manifests.fileCount);
    context.tell(`${context.paintError("error:")} ${where}; ${outcome}`);
    throw new ToldError(EXIT.refused);
  };
  const found = [...manifests.problems, ...problems];
  if (found.length > 0) end(found);
  if (objects.length === 0) throw new UsageError(`no objects in ${options.filename.join(", ")}`);
  if (objects.length > OBJECTS_MAX)
    throw new UsageError(`${objects.length} objects; one apply takes at most ${OBJECTS_MAX}`);
  const sources = objects.map(({ source }) => source);
  return {
    objects: objects.map(({ object }) => object),
    refuse(caught) {
      const error = AnantaError.from(caught);
      const lines = linesOf(error, sources);
      if (lines.length > 0) end(lines);
      throw error;
    },
  };
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
