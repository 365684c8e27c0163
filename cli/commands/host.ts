/** `ananta host fence NAME`: an operator says that a host is gone for good. */
import { Command } from "commander";
import type { Context } from "../context.js";
import { EXIT, UsageError } from "../terminal/exit-codes.js";
import { FENCE_HOST } from "../methods.js";

const REASON_MAX = 256;

export function hostCommand(context: Context): Command {
  const host = new Command("host").description("hosts: the machines that run the DIPs");
  host
    .command("fence <host>")
    .description(
      "declare a host dead: its SNAT ports begin to rest and its present agent is refused. Only when it is switched off or cut from the network",
    )
    .requiredOption("--reason <text>", "why, for whoever asks later")
    .action(
      context.action((name: string, _options: unknown, command: Command) => fence(context, name, command), {
        isChange: true,
      }),
    );
  return host;
}

async function fence(context: Context, name: string, command: Command) {
  const reason = command.opts<{ readonly reason: string }>().reason.trim();
  if (reason === "" || reason.length > REASON_MAX)
    throw new UsageError(`--reason: ${reason.length} characters; use 1 to ${REASON_MAX}`);
  const { response } = await context.client(command).change(FENCE_HOST, { host: name, reason });
  const ranges = response.ranges;
  context.print(ranges === 0 ? `host/${name} fenced\n` : `host/${name} fenced; ${ranges * 8} ports rest for 120 s\n`);
  return EXIT.ok;
}
