/** `ananta mux drain` and `mux undrain`: take a MUX off the routers for maintenance, and put it back. */
import { Command } from "commander";
import type { Context } from "../context.js";
import { EXIT, UsageError } from "../terminal/exit-codes.js";
import { DRAIN_MUX, UNDRAIN_MUX } from "../methods.js";

const REASON_MAX = 256;

interface DrainOptions {
  readonly reason: string;
  readonly force?: boolean;
}

export function muxCommand(context: Context): Command {
  const mux = new Command("mux").description("MUXes: take one off the routers for maintenance, and put it back");
  mux
    .command("drain")
    .description(
      "withdraw all routes of a MUX; it serves what still comes, and stays drained until `undrain`, also when it restarts",
    )
    .argument("<mux>", "name of the MUX")
    .option("--reason <text>", "why, for those who look at it", "drained by an operator")
    .option("--force", "also when it is the last one that announces: then no traffic comes in")
    .action(
      context.action(
        (name: string, options: DrainOptions, command: Command) => drain(context, name, options, command),
        {
          isChange: true,
        },
      ),
    );
  mux
    .command("undrain")
    .description("announce its routes again")
    .argument("<mux>", "name of the MUX")
    .action(
      context.action((name: string, _options: unknown, command: Command) => undrain(context, name, command), {
        isChange: true,
      }),
    );
  return mux;
}

async function drain(context: Context, name: string, options: DrainOptions, command: Command) {
  const reason = options.reason.trim();
  if (reason === "" || reason.length > REASON_MAX)
    throw new UsageError(`--reason: ${reason.length} characters; use 1 to ${REASON_MAX}`);
  const request = { name, reason, force: options.force === true };
  const { response } = await context.client(command).change(DRAIN_MUX, request);
  const rest = response.announcing === 1 ? "1 MUX announces" : `${response.announcing} MUXes announce`;
  context.print(response.changed ? `mux/${name} drained; ${rest}\n` : `mux/${name} is drained already; ${rest}\n`);
  return settled(context, response);
}

async function undrain(context: Context, name: string, command: Command) {
  const { response } = await context.client(command).change(UNDRAIN_MUX, { name });
  context.print(response.changed ? `mux/${name} undrained\n` : `mux/${name} is not drained\n`);
  return settled(context, response);
}

/** It is in the log whatever happens; whether the routers follow already is another matter. */
function settled(context: Context, { index, inForce }: { readonly index: number; readonly inForce: boolean }) {
  if (inForce) return EXIT.ok;
  context.tell(`committed at index ${index}, but not in force on all MUXes in time. See \`ananta get muxes\`.`);
  return EXIT.unhealthy;
}
