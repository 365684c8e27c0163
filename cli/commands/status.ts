/** `ananta status`: is it well? Asks every replica for itself, so that it also answers when there is no majority. */
import { Command } from "commander";
import { API_VERSION } from "../../manager/api/objects/schema.js";
import { clusterListings, type Listings } from "../cluster-tables.js";
import type { ClusterView } from "../cluster-view.js";
import type { Context } from "../context.js";
import { formatDuration } from "../terminal/durations.js";
import { EXIT } from "../terminal/exit-codes.js";
import { formatOption, isStructured, serialize, type Document, type Format } from "../terminal/output.js";
import { stateCell } from "../terminal/style.js";
import { createTable, renderFields, type Cell } from "../terminal/table.js";
import { surveyedView } from "../reading.js";

export function statusCommand(context: Context): Command {
  return new Command("status")
    .description("health of replicas, MUXes and hosts; exits 3 when something is not as it should be")
    .addOption(formatOption(["table", "wide", "json", "yaml"]))
    .addHelpText("after", COLUMNS_HELP)
    .action(context.action((_options: unknown, command: Command) => status(context, command)));
}

const COLUMNS_HELP = `
Columns of replicas:
  COMMIT    last log entry that a majority holds, as this replica knows
  APPLIED   last log entry that is in its state
  IN-STEP   when it last had proof that a majority works: what it answers with --stale is at most so old
Columns of MUXes:
  INDEX     last log entry that the MUX has in force; "-": no replica that answers knows
  RENEWED   when its lease was last renewed; known to the leader alone
`;

async function status(context: Context, command: Command) {
  const { output } = command.opts<{ readonly output: Format }>();
  const view = await surveyedView(context, command);
  if (isStructured(output)) context.print(serialize(statusDocument(view), output));
  else context.print(statusText(context, view, output === "wide"));
  return view.health === "healthy" ? EXIT.ok : EXIT.unhealthy;
}

function statusText(context: Context, view: ClusterView, wide: boolean): string {
  const { best, leader, replicas, muxes } = view;
  const answering = replicas.filter(({ answer }) => answer !== null).length;
  const live = muxes.filter(({ mux }) => mux.state === "live").length;
  const drained = muxes.filter(({ mux }) => mux.drain).length;
  const ageMs = best?.answer.ageMs ?? 0;
  const fields: (readonly [string, Cell])[] = [
    ["Health", stateCell(view.health)],
    [
      "Leader",
      leader === null
        ? { text: "none", style: "bad" }
        : `replica ${leader.nodeId ?? "?"} (${leader.address}), term ${leader.answer?.term ?? 0}`,
    ],
    ["Replicas", `${answering} of ${replicas.length} answer`],
    ["MUXes", `${live} of ${muxes.length} live${drained === 0 ? "" : `, ${drained} drained`}`],
    ["Hosts", view.hosts.length],
    ["VIPs", best?.answer.vips ?? 0],
    ["State", `index ${best?.answer.appliedIndex ?? 0}, in force on all MUXes up to ${best?.answer.muxSafeIndex ?? 0}`],
    ...(leader === null
      ? [
          [
            "As of",
            `${ageMs >= 2 ** 31 - 1 ? "unknown age" : formatDuration(ageMs)}, from ${best?.endpoint ?? ""}`,
          ] as const,
        ]
      : []),
  ];
  const table = (title: string, { header, wideHeader, rows }: Listings): string => {
    if (rows.length === 0) return `\n${title}: none\n`;
    const columns = createTable([...header, ...(wide ? wideHeader : [])], context.paint);
    return `\n${columns.render(rows.map((row) => [...blankNone(row.cells), ...(wide ? row.wideCells : [])]))}`;
  };
  const stages = (best?.answer.stages ?? []).flatMap(({ name, events }) =>
    (events ?? []).map((event): readonly Cell[] => [
      name ?? "",
      event.kind ?? "",
      event.queued ?? 0,
      event.handled ?? 0,
      (event.refusedFull ?? 0) + (event.refusedLate ?? 0),
      meanMs(event.waitMs, event.handled),
      (event.waitMaxMs ?? 0).toFixed(1),
      meanMs(event.serviceMs, event.handled),
    ]),
  );
  return [
    renderFields(fields, context.paint),
    table("Replicas", clusterListings(view, "Replica")),
    table("MUXes", clusterListings(view, "Mux")),
    table("Hosts", clusterListings(view, "Host")),
    wide && stages.length > 0 ? `\n${createTable(STAGE_HEADER, context.paint).render(stages)}` : "",
    view.problems.length > 0 ? `\nProblems:\n${view.problems.map((problem) => `  - ${problem}\n`).join("")}` : "",
  ].join("");
}

const STAGE_HEADER = ["STAGE", "EVENT", "QUEUED", "HANDLED", "REFUSED", "MEAN WAIT MS", "MAX", "MEAN SERVICE MS"];

const meanMs = (sumMs: number | null | undefined, count: number | null | undefined): string =>
  (count ?? 0) === 0 ? "0.0" : ((sumMs ?? 0) / (count ?? 1)).toFixed(3);

/** A note that is not there needs no "<none>". */
const blankNone = (cells: readonly Cell[]): readonly Cell[] => cells.map((cell) => (cell === "" ? " " : cell));

function statusDocument(view: ClusterView): Document {
  const statuses = (kind: "Replica" | "Mux" | "Host"): readonly unknown[] =>
    clusterListings(view, kind).rows.map(({ name, document }) => ({ name, ...(document["status"] as Document) }));
  const { best, leader } = view;
  return {
    apiVersion: API_VERSION,
    kind: "ClusterStatus",
    health: view.health,
    problems: view.problems,
    clusterId: best?.answer.identity?.clusterId ?? "",
    clusterEpoch: best?.answer.identity?.clusterEpoch ?? 0,
    leader: leader?.nodeId ?? null,
    appliedIndex: best?.answer.appliedIndex ?? 0,
    muxSafeIndex: best?.answer.muxSafeIndex ?? 0,
    vips: best?.answer.vips ?? 0,
    replicas: statuses("Replica"),
    muxes: statuses("Mux"),
    hosts: statuses("Host"),
    stages: (best?.answer.stages ?? []).map(({ name, priority, queued, handled, refused, events }) => ({
      name,
      priority,
      queued,
      handled,
      refused,
      events,
    })),
  };
}
