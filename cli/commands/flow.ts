/** `ananta flow explain`: which MUX, rule and DIP a flow meets, and why. `ananta flow reset`: ends open flows. */
import { Command, Option } from "commander";
import { API_VERSION, DEFAULT_TENANT } from "../../manager/api/objects/schema.js";
import { ananta } from "../../proto/gen/wire.js";
import type { Context } from "../context.js";
import { EXIT, UsageError } from "../terminal/exit-codes.js";
import { formatFlow, parseFlow } from "../five-tuple.js";
import { EXPLAIN_FLOW, RESET_FLOWS } from "../methods.js";
import { formatOption, isStructured, serialize, type Format } from "../terminal/output.js";
import { createTable, renderFields, type Cell } from "../terminal/table.js";
import { vipAddressOf } from "../vip-address.js";

export function flowCommand(context: Context): Command {
  const flow = new Command("flow").description("flows through the load balancer");
  flow
    .command("explain")
    .description("which MUX, rule and DIP a flow meets, and why")
    .argument("<flow...>", "tcp SOURCE:PORT DESTINATION:PORT, or tcp:SOURCE:PORT->DESTINATION:PORT (in quotes)")
    .addOption(formatOption(["table", "json", "yaml"]))
    .addHelpText("after", "\nExits 3 when its packets are dropped, or lead to a DIP that no host has.\n")
    .action(
      context.action((words: readonly string[], _options: unknown, command: Command) =>
        explain(context, words, command),
      ),
    );
  flow
    .command("reset")
    .description("end open flows: both ends of a TCP connection are reset; new flows begin as before")
    .option("--dip <address>", "flows of this DIP")
    .option("--vip <address|name>", "flows through this VIP; with --dip: of that DIP through this VIP")
    .option("-t, --tenant <tenant>", "tenant of the DIP, or of the VIP's name", DEFAULT_TENANT)
    .addOption(new Option("--protocol <name>", "only these").choices(["tcp", "udp"]))
    .addHelpText("after", "\nExits 3 when a host or MUX gave no answer: its flows may go on.\n")
    .action(context.action((_options: unknown, command: Command) => reset(context, command)));
  return flow;
}

interface ResetOptions {
  readonly dip?: string;
  readonly vip?: string;
  readonly tenant: string;
  readonly protocol?: "tcp" | "udp";
}

async function reset(context: Context, command: Command) {
  const { dip, vip, tenant, protocol } = command.opts<ResetOptions>();
  if (dip === undefined && vip === undefined) throw new UsageError("name --dip or --vip: which flows shall end?");
  const { PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_UNSPECIFIED } = ananta.v1.Protocol;
  const client = context.client(command);
  const { response } = await client.read(RESET_FLOWS, {
    tenant,
    dip: dip ?? "",
    vip: await vipAddressOf(client, { vip: vip ?? "", tenant }),
    protocol: protocol === undefined ? PROTOCOL_UNSPECIFIED : protocol === "tcp" ? PROTOCOL_TCP : PROTOCOL_UDP,
  });
  const { hosts, muxes } = response;
  const rows = [...hosts.map((one) => ["host", one] as const), ...muxes.map((one) => ["mux", one] as const)];
  const table = createTable(["ON", "NAME", "FLOWS"], context.paint);
  context.print(
    table.render(
      rows.map(([on, { name, flows, answered }]): readonly Cell[] => [
        on,
        name ?? "",
        answered === true ? (flows ?? 0) : { text: "unknown: no answer", style: "bad" },
      ]),
    ),
  );
  return rows.every(([, { answered }]) => answered === true) ? EXIT.ok : EXIT.unhealthy;
}

async function explain(context: Context, words: readonly string[], command: Command) {
  const { output } = command.opts<{ readonly output: Format }>();
  const flow = parseFlow(words);
  const client = context.client(command);
  const { response } = await client.read(EXPLAIN_FLOW, { flow });
  const { steps, dip, host, muxes } = response;
  const exitCode = dip === "" || host === "" ? EXIT.unhealthy : EXIT.ok;
  if (isStructured(output)) {
    const document = {
      apiVersion: API_VERSION,
      kind: "FlowExplanation",
      flow: formatFlow(flow),
      dip,
      host,
      steps: steps.map(({ what, found }) => ({ what: what ?? "", found: found ?? "" })),
      muxes: muxes.map((mux) => ({
        mux: mux.mux ?? "",
        answered: mux.answered ?? false,
        inFlowTable: mux.inFlowTable ?? false,
        dip: mux.dip ?? "",
        reason: mux.reason ?? "",
      })),
    };
    context.print(serialize(document, output));
    return exitCode;
  }
  const goesTo: Cell =
    dip === ""
      ? { text: "nowhere: its packets are dropped", style: "bad" }
      : host === ""
        ? `${dip} (no host has it)`
        : `${dip} on host ${host}`;
  const lines = [
    renderFields(
      [
        ["Flow", formatFlow(flow)],
        ["Goes to", goesTo],
      ],
      context.paint,
    ),
    "\n",
  ];
  lines.push(
    createTable(["STEP", "FOUND"], context.paint).render(steps.map(({ what, found }) => [what ?? "", found ?? ""])),
  );
  if (muxes.length > 0) {
    const rows = muxes.map((mux): readonly Cell[] => [
      mux.mux ?? "",
      mux.answered === true ? (mux.inFlowTable === true ? "yes" : "no") : "?",
      mux.answered === true ? (mux.dip ?? "") : "?",
      mux.reason ?? "",
    ]);
    lines.push("\n", createTable(["MUX", "IN-FLOW-TABLE", "DIP", "WHY"], context.paint).render(rows));
  }
  context.print(lines.join(""));
  return exitCode;
}
