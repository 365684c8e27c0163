/**
 * `ananta cluster snapshot`: the Manager's whole state as a file. Saving asks the running cluster; restoring works on the data
 * folder of a replica that does not run, and begins a new epoch of the cluster (docs/operations.md).
 */
import { Command } from "commander";
import { nodeId } from "../../core/brands.js";
import { AnantaError, type ErrorCode } from "../../core/errors.js";
import { API_VERSION } from "../../manager/api/objects/schema.js";
import {
  readSnapshotFile,
  restoreDataFolder,
  writeSnapshotFile,
  type SnapshotFileFacts,
} from "../../manager/raft/index.js";
import { managerSettings, type ManagerSettings } from "../../manager/settings.js";
import type { Clock, MessageStream } from "../../runtime/env.js";
import { readSettings } from "../../runtime/settings.js";
import type { Context } from "../context.js";
import { EXIT } from "../terminal/exit-codes.js";
import { SAVE_SNAPSHOT } from "../methods.js";
import { formatOption, isStructured, serialize, type Format } from "../terminal/output.js";
import { renderFields } from "../terminal/table.js";

/** What the next endpoint may do better. */
const ANOTHER_MAY_ANSWER: ReadonlySet<ErrorCode> = new Set(["UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"]);

type Parts = MessageStream<never, { readonly data: Uint8Array }>;

export function snapshotCommand(context: Context): Command {
  const snapshot = new Command("snapshot").description("the Manager's whole state as a file");
  snapshot
    .command("save <file>")
    .description("save the state, with every change answered before now, from one of the replicas")
    .action(context.action((file: string, _options: unknown, command: Command) => save(context, file, command)));
  snapshot
    .command("status <file>")
    .description("check a snapshot file and tell what is in it")
    .addOption(formatOption(["table", "json", "yaml"]))
    .action(context.action((file: string, _options: unknown, command: Command) => status(context, file, command)));
  snapshot
    .command("restore <file>")
    .description("make the empty data folder of one replica from it; the cluster begins a new epoch")
    .requiredOption("--config <file>", "the replica's settings, with the new clusterEpoch and all replicas")
    .action(context.action((file: string, _options: unknown, command: Command) => restore(context, file, command)));
  return snapshot;
}

async function save(context: Context, path: string, command: Command) {
  const client = context.client(command);
  let last: AnantaError | null = null;
  const untilMs = client.clock.nowMs() + client.timeoutMs;
  for (const [at, endpoint] of client.endpoints.entries()) {
    // A paused replica takes the question and says nothing: the others need their share of the time.
    const firstPartMs = Math.max(1, (untilMs - client.clock.nowMs()) / (client.endpoints.length - at));
    context.progress.show(`asking ${endpoint}`);
    const patience = { clock: client.clock, endpoint, firstPartMs, nextPartMs: client.timeoutMs };
    const stream: Parts = client.channel(endpoint).subscribe(SAVE_SNAPSHOT, {});
    try {
      const facts = await writeSnapshotFile(
        context.shell.env.disk,
        path,
        withProgress(context, partsOf(stream, patience)),
      );
      context.print(describe(context, path, facts));
      return EXIT.ok;
    } catch (caught) {
      const error = AnantaError.from(caught);
      stream.end(new AnantaError("CANCELLED", "the file was not written"));
      if (!ANOTHER_MAY_ANSWER.has(error.code)) throw error;
      last = error;
    }
  }
  throw last ?? new AnantaError("UNAVAILABLE", "no replica was asked");
}

async function status(context: Context, path: string, command: Command) {
  const { output } = command.opts<{ readonly output: Format }>();
  const file = await readSnapshotFile(context.shell.env.disk, path);
  const { facts } = file;
  await file.close();
  if (isStructured(output)) {
    const { meta, byteCount, digest } = facts.snapshot;
    const { clusterId, clusterEpoch } = facts;
    const { voters, learners } = meta.membership;
    const document = { apiVersion: API_VERSION, kind: "SnapshotFile", path, clusterId, clusterEpoch };
    context.print(
      serialize({ ...document, index: meta.index, term: meta.term, voters, learners, byteCount, digest }, output),
    );
  } else context.print(describe(context, path, facts));
  return EXIT.ok;
}

async function restore(context: Context, path: string, command: Command) {
  const { config } = command.opts<{ readonly config: string }>();
  const settings: ManagerSettings = readSettings(managerSettings, { argv: ["--config", config], env: {} });
  const { disk } = context.shell.env;
  const file = await readSnapshotFile(disk, path);
  try {
    context.progress.show(`restoring ${settings.dataFolder}`);
    await restoreDataFolder({
      disk,
      folder: settings.dataFolder,
      owner: {
        clusterId: settings.clusterId,
        clusterEpoch: settings.clusterEpoch,
        nodeId: nodeId(settings.nodeId),
      },
      voters: settings.replicas.map((replica) => ({
        id: nodeId(replica.nodeId),
        address: replica.raftAddress,
        service: replica.apiAddress,
      })),
      file,
    });
  } finally {
    await file.close();
  }
  context.print(
    `node ${settings.nodeId}: ${settings.dataFolder} holds the state at index ${file.facts.snapshot.meta.index}, ` +
      `as epoch ${settings.clusterEpoch} (the file is of epoch ${file.facts.clusterEpoch})\n`,
  );
  context.tell("Restore the other replicas from the same file, then start all of them with the same settings.");
  return EXIT.ok;
}

function describe(context: Context, path: string, { clusterId, clusterEpoch, snapshot }: SnapshotFileFacts): string {
  const { meta, byteCount, digest } = snapshot;
  return renderFields(
    [
      ["File", path],
      ["Cluster", `${clusterId}, epoch ${clusterEpoch}`],
      ["State", `index ${meta.index}, term ${meta.term}`],
      ["Voters", meta.membership.voters.join(", ")],
      ["Size", `${byteCount} bytes`],
      ["Digest", digest],
    ],
    context.paint,
  );
}

async function* withProgress(context: Context, parts: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  let bytes = 0;
  for await (const part of parts) {
    bytes += part.length;
    context.progress.show(`${Math.ceil(bytes / 1024)} KiB`);
    yield part;
  }
}

interface Patience {
  readonly clock: Clock;
  readonly endpoint: string;
  readonly firstPartMs: number;
  readonly nextPartMs: number;
}

/**
 * A stream's messages, one after the other; it is read as fast as the file is written. Throws DEADLINE_EXCEEDED when the next
 * one does not come in time.
 */
async function* partsOf(
  stream: Parts,
  { clock, endpoint, firstPartMs, nextPartMs }: Patience,
): AsyncIterable<Uint8Array> {
  let waitMs = firstPartMs;
  const waiting: Uint8Array[] = [];
  let end: { readonly error: AnantaError | null } | null = null;
  let wake: () => void = () => undefined;
  stream.listen({
    message: ({ data }) => {
      waiting.push(new Uint8Array(data)); // the decoded bytes are a view on a buffer that is used again
      wake();
    },
    closed: (error) => {
      end = { error };
      wake();
    },
  });
  for (;;) {
    const part = waiting.shift();
    if (part !== undefined) {
      waitMs = nextPartMs;
      yield part;
      continue;
    }
    const over = end as { readonly error: AnantaError | null } | null;
    if (over?.error) throw over.error;
    if (over !== null) return;
    await new Promise<void>((resolve, reject) => {
      const timer = clock.setTimer(waitMs, () => {
        const seconds = Math.round(waitMs / 100) / 10;
        reject(new AnantaError("DEADLINE_EXCEEDED", `${endpoint} sent nothing of the snapshot for ${seconds} s`));
      });
      wake = () => {
        timer.cancel();
        resolve();
      };
    });
  }
}
