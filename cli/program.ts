/** The program: its commands, its common options, and how a run of it ends. */
import { Command, CommanderError } from "commander";
import { applyCommand } from "./commands/apply.js";
import { clusterCommand } from "./commands/cluster.js";
import { completionCommand } from "./commands/completion.js";
import { deleteCommand } from "./commands/delete.js";
import { describeCommand } from "./commands/describe.js";
import { explainCommand } from "./commands/explain.js";
import { flowCommand } from "./commands/flow.js";
import { getCommand } from "./commands/get.js";
import { hostCommand } from "./commands/host.js";
import { muxCommand } from "./commands/mux.js";
import { diffCommand, planCommand } from "./commands/plan.js";
import { poolCommand } from "./commands/pool.js";
import { snatCommand } from "./commands/snat.js";
import { statusCommand } from "./commands/status.js";
import { versionCommand } from "./commands/version.js";
import { vipCommand } from "./commands/vip.js";
import { Context, DEFAULT_ENDPOINTS, DEFAULT_TIMEOUT } from "./context.js";
import { EXIT } from "./terminal/exit-codes.js";
import type { Shell } from "./terminal/shell.js";

const EXIT_CODES_HELP = `
Exit codes: 0 done; 1 refused, nothing was done; 2 wrong command line; 3 unhealthy, or not in force in time;
            4 unreachable or too late, nothing was done; 5 outcome unknown, it may have been done;
            6 it would change something (diff, plan --detailed-exitcode)`;

/** Runs one command line (without "node" and the script) and resolves with its exit code. Rejects only by a defect. */
export async function runCli(words: readonly string[], shell: Shell): Promise<number> {
  const context = new Context(shell);
  const program = createProgram(context);
  if (words.length === 0) {
    program.outputHelp({ error: true });
    return EXIT.usage;
  }
  try {
    await program.parseAsync(words, { from: "user" });
  } catch (caught) {
    if (!(caught instanceof CommanderError)) throw caught;
    return caught.exitCode === 0 ? EXIT.ok : EXIT.usage;
  }
  return context.exitCode;
}

function createProgram(context: Context): Command {
  const program = new Command("ananta")
    .description("Layer-4 load balancer and source NAT: look at it and change it.")
    .option("--endpoints <list>", `Manager replicas, "host:port,..." (ANANTA_ENDPOINTS; default ${endpointsText()})`)
    .option("--timeout <span>", `longest time for one request (ANANTA_TIMEOUT; default ${DEFAULT_TIMEOUT})`)
    .addHelpText("after", EXIT_CODES_HELP);
  for (const create of [
    applyCommand,
    planCommand,
    diffCommand,
    getCommand,
    describeCommand,
    deleteCommand,
    statusCommand,
    clusterCommand,
    snatCommand,
    hostCommand,
    muxCommand,
    vipCommand,
    poolCommand,
    flowCommand,
    explainCommand,
    versionCommand,
    completionCommand,
  ]) {
    program.addCommand(create(context));
  }
  program.helpCommand("help [command]", "show help for a command");
  for (const command of withSubcommands(program)) {
    command
      .exitOverride()
      .showHelpAfterError("(--help shows what there is)")
      .configureOutput({
        writeOut: (text) => context.shell.out.write(text),
        writeErr: (text) => context.shell.err.write(text),
        getOutHasColors: () => false,
        getErrHasColors: () => false,
      });
  }
  return program;
}

const withSubcommands = (command: Command): readonly Command[] => [
  command,
  ...command.commands.flatMap(withSubcommands),
];

/** "127.0.0.1:7401 to 7405" */
function endpointsText(): string {
  const last = DEFAULT_ENDPOINTS.at(-1) ?? "";
  return `${DEFAULT_ENDPOINTS[0] ?? ""} to ${last.slice(last.indexOf(":") + 1)}`;
}
