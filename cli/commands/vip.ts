/** `ananta vip`: what a VIP serves, for whoever looks for a fault (`vip-show`); and taking it off the routers for a while. */
import { Command } from "commander";
import { DEFAULT_TENANT } from "../../manager/api/objects/schema.js";
import type { Context } from "../context.js";
import { formatDuration, parseDuration } from "../terminal/durations.js";
import { EXIT, UsageError } from "../terminal/exit-codes.js";
import { RESTORE_VIP, WITHDRAW_VIP } from "../methods.js";
import { vipRefOf } from "../vip-address.js";
import { vipShowCommand } from "./vip-show.js";

/** Bounds of a withdrawal (operator.proto). */
const MIN_SECONDS = 30;
const MAX_SECONDS = 86_400;

interface WithdrawOptions {
  readonly tenant: string;
  readonly reason: string;
  readonly for?: string;
}

export function vipCommand(context: Context): Command {
  const vip = new Command("vip").description("what VIPs serve; take one off the routers for a while, and put it back");
  vip.addCommand(vipShowCommand(context));
  vip
    .command("withdraw")
    .description("withdraw the VIP's routes from all MUXes; it comes back by itself")
    .argument("<vip>", "name or address of the VIP")
    .requiredOption("--reason <text>", "why, for those who look at it")
    .option("--for <span>", "30s to 24h; default: the VIP's spec.overload.restoreAfterSeconds")
    .option("-t, --tenant <tenant>", "tenant of the VIP's name", DEFAULT_TENANT)
    .action(
      context.action(
        (vip: string, options: WithdrawOptions, command: Command) => withdraw(context, vip, options, command),
        {
          isChange: true,
        },
      ),
    );
  vip
    .command("restore")
    .description("announce the VIP again before its time")
    .argument("<vip>", "name or address of the VIP")
    .option("-t, --tenant <tenant>", "tenant of the VIP's name", DEFAULT_TENANT)
    .action(
      context.action(
        async (named: string, options: { readonly tenant: string }, command: Command) => {
          const client = context.client(command);
          const { tenant, name } = await vipRefOf(client, { vip: named, tenant: options.tenant });
          await client.change(RESTORE_VIP, { tenant, name });
          context.print(`vip/${name} restored\n`);
          return EXIT.ok;
        },
        { isChange: true },
      ),
    );
  return vip;
}

async function withdraw(context: Context, vip: string, options: WithdrawOptions, command: Command) {
  const forSeconds = options.for === undefined ? 0 : secondsOf(options.for);
  const client = context.client(command);
  const { tenant, name } = await vipRefOf(client, { vip, tenant: options.tenant });
  await client.change(WITHDRAW_VIP, { tenant, name, reason: options.reason, forSeconds });
  const span = forSeconds === 0 ? "spec.overload.restoreAfterSeconds" : formatDuration(forSeconds * 1_000);
  context.print(`vip/${name} withdrawn; announced again by itself after ${span}\n`);
  return EXIT.ok;
}

function secondsOf(text: string): number {
  const ms = parseDuration(text, "--for");
  if (ms % 1_000 === 0 && ms >= MIN_SECONDS * 1_000 && ms <= MAX_SECONDS * 1_000) return ms / 1_000;
  throw new UsageError(`--for: "${text}" is out of bounds; use whole seconds from 30s to 24h`);
}
