/** `ananta cluster`: the replicas of the Manager themselves, who takes part, who leads. */
import { Command } from "commander";
import { API_VERSION } from "../../manager/api/objects/schema.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { ClusterView, ReplicaRow } from "../cluster-view.js";
import type { Context } from "../context.js";
import { formatDuration } from "../terminal/durations.js";
import { EXIT, UsageError } from "../terminal/exit-codes.js";
import { ADD_REPLICA, PROMOTE_REPLICA, REMOVE_REPLICA, TRANSFER_LEADERSHIP } from "../methods.js";
import { formatOption, isStructured, serialize, type Format } from "../terminal/output.js";
import { surveyedView } from "../reading.js";
import { stateCell } from "../terminal/style.js";
import { snapshotCommand } from "./snapshot.js";
import { createTable, type Cell } from "../terminal/table.js";

type Members = ananta.v1.MembersResponse.$Properties;

export function clusterCommand(context: Context): Command {
  const cluster = new Command("cluster").description("the Manager's replicas: who takes part, who leads, snapshots");
  const change = { isChange: true };
  cluster
    .command("status")
    .description("the replicas, what each is in the membership, and how far each has come")
    .addOption(formatOption(["table", "json", "yaml"]))
    .action(context.action((_options: unknown, command: Command) => status(context, command)));
  cluster
    .command("add <node-id>")
    .description("take a new replica on as a learner: it gets the log and counts for nothing")
    .requiredOption("--raft-address <host:port>", "where it talks Raft")
    .requiredOption("--api-address <host:port>", "where it is called")
    .action(context.action((id: string, _options: unknown, command: Command) => add(context, id, command), change));
  cluster
    .command("promote <node-id>")
    .description("make a learner a voter; waits until it has caught up, as long as --timeout says")
    .option("--replacing <node-id>", "voter that leaves in the same step")
    .action(context.action((id: string, _options: unknown, command: Command) => promote(context, id, command), change));
  cluster
    .command("remove <node-id>")
    .description("take a replica out; its node id is never used again")
    .action(context.action((id: string, _options: unknown, command: Command) => remove(context, id, command), change));
  cluster
    .command("transfer [node-id]")
    .description("hand leadership to this voter, or to the fittest")
    .action(
      context.action(
        (id: string | undefined, _options: unknown, command: Command) => transfer(context, id, command),
        change,
      ),
    );
  cluster.addCommand(snapshotCommand(context));
  return cluster;
}

async function status(context: Context, command: Command) {
  const { output } = command.opts<{ readonly output: Format }>();
  const view = await surveyedView(context, command);
  const told = toldByLeader(view);
  if (isStructured(output)) {
    const replicas = view.replicas.map((row) => ({
      nodeId: row.nodeId,
      membership: row.membership,
      role: row.state,
      apiAddress: row.address,
      raftAddress: told.get(row.nodeId ?? 0)?.raftAddress ?? "",
      term: row.answer?.term ?? null,
      appliedIndex: row.answer?.appliedIndex ?? null,
      commitIndex: row.answer?.commitIndex ?? null,
      matchIndex: told.get(row.nodeId ?? 0)?.matchIndex ?? null,
      replication: told.get(row.nodeId ?? 0)?.replication ?? "",
      note: row.note,
    }));
    const leader = view.leader?.nodeId ?? null;
    const document = { apiVersion: API_VERSION, kind: "Cluster", health: view.health, leader, replicas };
    context.print(serialize({ ...document, problems: view.problems }, output));
  } else {
    const header = ["NODE", "MEMBERSHIP", "ROLE", "TERM", "APPLIED", "BEHIND", "HEARD", "RAFT", "API", "NOTE"];
    const rows = view.replicas.map((row) => statusRow(view, row, told.get(row.nodeId ?? 0)));
    context.print(createTable(header, context.paint).render(rows));
    for (const problem of view.problems) context.print(`${problem}\n`);
  }
  return view.health === "healthy" ? EXIT.ok : EXIT.unhealthy;
}

const toldByLeader = (view: ClusterView): ReadonlyMap<number, ananta.v1.ReplicaStatus.$Properties> =>
  new Map(((view.leader ?? view.best)?.answer?.replicas ?? []).map((replica) => [replica.nodeId ?? 0, replica]));

function statusRow(
  view: ClusterView,
  { nodeId, membership, state, answer, address, note }: ReplicaRow,
  told: ananta.v1.ReplicaStatus.$Properties | undefined,
): readonly Cell[] {
  const leads = nodeId !== null && nodeId === view.leader?.nodeId;
  const lastIndex = view.leader?.answer?.commitIndex ?? null;
  const behind =
    lastIndex === null || told?.matchIndex === undefined ? "-" : Math.max(0, lastIndex - (told.matchIndex ?? 0));
  const heardMs = told?.heardMsAgo ?? null;
  return [
    nodeId ?? "?",
    membership,
    stateCell(state),
    answer?.term ?? "-",
    answer?.appliedIndex ?? "-",
    leads ? 0 : behind,
    leads || heardMs === null ? "-" : `${formatDuration(heardMs)} ago`,
    told?.raftAddress ?? "-",
    address,
    note === "" ? "-" : note,
  ];
}

async function add(context: Context, idText: string, command: Command) {
  const nodeId = parseNodeId(idText);
  const { raftAddress, apiAddress } = command.opts<{ readonly raftAddress: string; readonly apiAddress: string }>();
  const { response } = await context.client(command).changeAgain(ADD_REPLICA, { nodeId, raftAddress, apiAddress });
  printMembers(context, response);
  context.tell(
    `node ${nodeId} is a learner. Start it with join: true and an empty data folder, then: ananta cluster promote ${nodeId}`,
  );
  return EXIT.ok;
}

async function promote(context: Context, idText: string, command: Command) {
  const nodeId = parseNodeId(idText);
  const { replacing } = command.opts<{ readonly replacing?: string }>();
  const request = { nodeId, replacing: replacing === undefined ? 0 : parseNodeId(replacing) };
  const { response } = await context.client(command).changeAgain(PROMOTE_REPLICA, request);
  printMembers(context, response);
  return EXIT.ok;
}

async function remove(context: Context, idText: string, command: Command) {
  const { response } = await context.client(command).changeAgain(REMOVE_REPLICA, { nodeId: parseNodeId(idText) });
  printMembers(context, response);
  return EXIT.ok;
}

async function transfer(context: Context, idText: string | undefined, command: Command) {
  const nodeId = idText === undefined ? 0 : parseNodeId(idText);
  const { response } = await context.client(command).changeAgain(TRANSFER_LEADERSHIP, { nodeId });
  context.print(
    response.leader === response.before
      ? `replica ${response.leader} leads already\n`
      : `replica ${response.leader} leads now, replica ${response.before} did\n`,
  );
  return EXIT.ok;
}

function printMembers(context: Context, { members, leader }: Members): void {
  const rows = (members ?? []).map(({ nodeId, role, raftAddress, apiAddress }) => [
    nodeId ?? 0,
    role ?? "",
    raftAddress ?? "",
    apiAddress ?? "",
    nodeId === leader ? "leads" : "-",
  ]);
  context.print(createTable(["NODE", "MEMBERSHIP", "RAFT", "API", "NOTE"], context.paint).render(rows));
}

function parseNodeId(text: string): number {
  const id = /^[0-9]{1,5}$/.test(text) ? Number(text) : 0;
  if (id < 1 || id > 65_535) throw new UsageError(`"${text}" is not a node id; it is a number from 1 to 65535`);
  return id;
}
