/** `ananta flow explain`: which MUX, rule and DIP a flow meets, and why. */
import { Command } from "commander";
import { API_VERSION } from "../../manager/api/object-schema.js";
import type { Context } from "../context.js";
import { EXIT } from "../exit-codes.js";
import { formatFlow, parseFlow } from "../five-tuple.js";
import { EXPLAIN_FLOW } from "../methods.js";
import { formatOption, isStructured, serialize, type Format } from "../output.js";
import { createTable, renderFields, type Cell } from "../table.js";

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
  return flow;
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
