/** `ananta version`: of this program, and of each replica. */
import { Command } from "commander";
import { API_VERSION } from "../../manager/api/objects/schema.js";
import type { Context } from "../context.js";
import { EXIT } from "../terminal/exit-codes.js";
import { formatOption, isStructured, serialize, type Format } from "../terminal/output.js";
import { createTable } from "../terminal/table.js";
import { surveyedView } from "../reading.js";

interface VersionOptions {
  readonly client?: boolean;
  readonly output: Format;
}

export function versionCommand(context: Context): Command {
  return new Command("version")
    .description("version of this program and of the replicas")
    .option("--client", "only of this program")
    .addOption(formatOption(["table", "json", "yaml"]))
    .action(context.action((_options: unknown, command: Command) => version(context, command)));
}

async function version(context: Context, command: Command) {
  const { client = false, output } = command.opts<VersionOptions>();
  const own = context.shell.version;
  // Its own version is worth saying also where nobody answers.
  if (!isStructured(output)) context.print(`ananta ${own}\n`);
  else if (client) context.print(serialize({ apiVersion: API_VERSION, kind: "Version", client: own }, output));
  if (client) return EXIT.ok;
  const { replicas } = await surveyedView(context, command);
  if (isStructured(output)) {
    const versions = replicas.map(({ nodeId, address, answer }) => ({
      nodeId,
      address,
      version: answer?.version ?? null,
    }));
    context.print(serialize({ apiVersion: API_VERSION, kind: "Version", client: own, replicas: versions }, output));
    return EXIT.ok;
  }
  const rows = replicas.map(({ nodeId, address, answer, note }) => [
    nodeId ?? "?",
    address,
    answer?.version ?? "unreachable",
    note === "" ? " " : note,
  ]);
  context.print(createTable(["REPLICA", "ADDRESS", "VERSION", "NOTE"], context.paint).render(rows));
  return EXIT.ok;
}
