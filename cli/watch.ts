/**
 * `get --watch`: the present state, then changes in log order. When the replica that tells them goes away, another one goes
 * on. One log entry may be several events, so only "progress" says that all of its index were told: after any other event
 * the watch goes on from the index before it. Nothing is lost; some may be shown twice. Ends by Ctrl-C.
 */
import type { Command } from "commander";
import { AnantaError } from "../core/errors.js";
import { documentFromWire } from "../manager/api/objects/wire.js";
import type { ananta } from "../proto/gen/wire.js";
import type { GetOptions } from "./reading.js";
import { sleep, type ApiClient } from "./api-client.js";
import type { Context } from "./context.js";
import { EXIT, UsageError, type ExitCode } from "./terminal/exit-codes.js";
import { WATCH } from "./methods.js";
import { objectHeader, objectRow } from "./objects/object-columns.js";
import { isStructured, serialize } from "./terminal/output.js";
import type { ObjectType } from "./objects/resource-types.js";
import { createTable, type Cell } from "./terminal/table.js";

const RETRY_MS = 200;

export interface WatchRequest {
  readonly type: ObjectType;
  /** Empty: all. */
  readonly names: readonly string[];
  readonly options: GetOptions;
}

type Event = ananta.v1.WatchEvent.$Properties;

export async function watch(context: Context, command: Command, request: WatchRequest): Promise<ExitCode> {
  const client = context.client(command);
  const presenter = createPresenter(context, request);
  const tenant = request.options.allTenants === true ? "" : request.options.tenant;
  const { interrupted } = context.shell;
  const given = request.options.fromIndex === undefined ? 0 : parseIndex(request.options.fromIndex);
  let fromIndex = given;
  let failedSinceMs: number | null = null;
  for (let at = 0; !interrupted.aborted; at++) {
    const endpoint = client.endpoints[at % client.endpoints.length] ?? "";
    presenter.begin(fromIndex);
    const error = await follow(
      client,
      { endpoint, kind: request.type.kind, tenant, fromIndex, interrupted },
      (event) => {
        failedSinceMs = null;
        const index = event.index ?? 0;
        if (event.type === "progress") fromIndex = Math.max(fromIndex, index);
        else if (fromIndex > 0) fromIndex = Math.max(fromIndex, index - 1);
        presenter.show(event);
      },
    );
    if (interrupted.aborted) break;
    if (error?.code === "FAILED_PRECONDITION") {
      // Who asked for an index wants no present state instead; whose own index is gone has one to compare with.
      if (fromIndex === given && given > 0) throw error;
      context.tell(`watch: ${error.message}; starting over`);
      fromIndex = 0;
    } else if (error !== null && error.code !== "UNAVAILABLE" && error.code !== "CANCELLED") throw error;
    failedSinceMs ??= client.clock.nowMs();
    if (client.clock.nowMs() - failedSinceMs > client.timeoutMs)
      throw error ?? new AnantaError("UNAVAILABLE", "the watch keeps ending");
    await sleep(client.clock, RETRY_MS);
  }
  return EXIT.ok;
}

function parseIndex(text: string): number {
  const index = Number(text);
  if (/^[0-9]+$/.test(text) && index >= 1 && Number.isSafeInteger(index)) return index;
  throw new UsageError(`--from-index: "${text}" is not a log index; use the one that "ananta get -o json" shows`);
}

interface Following {
  readonly endpoint: string;
  readonly kind: string;
  readonly tenant: string;
  readonly fromIndex: number;
  readonly interrupted: AbortSignal;
}

/** Until the stream is over; resolves with why. */
function follow(
  client: ApiClient,
  { endpoint, kind, tenant, fromIndex, interrupted }: Following,
  event: (event: Event) => void,
): Promise<AnantaError | null> {
  return new Promise((resolve, reject) => {
    const stream = client.channel(endpoint).subscribe(WATCH, { kind, tenant, fromIndex });
    const stop = (): void => {
      stream.end();
      resolve(null);
    };
    interrupted.addEventListener("abort", stop, { once: true });
    stream.listen({
      message: (message) => {
        try {
          event(message);
        } catch (caught) {
          stream.end();
          reject(AnantaError.from(caught));
        }
      },
      closed: (error) => {
        interrupted.removeEventListener("abort", stop);
        resolve(error);
      },
    });
  });
}

interface Presenter {
  /** A stream begins: with the present state when `fromIndex` is 0. */
  begin(fromIndex: number): void;
  show(event: Event): void;
}

/** Holds the present state back until it is whole, so that the first table lines up; then shows each change at once. */
function createPresenter(context: Context, { type, names, options }: WatchRequest): Presenter {
  const { output } = options;
  const choice = { wide: output === "wide", tenant: options.allTenants === true };
  const table = createTable(objectHeader(type.kind, choice), context.paint);
  const isTable = !isStructured(output) && output !== "name";
  /** Null: the present state was shown. */
  let first: (readonly Cell[])[] | null = [];
  const showFirst = (): void => {
    if (first === null || !isTable) return;
    context.print(table.render(first));
    first = null;
  };
  return {
    begin: (fromIndex) => {
      if (fromIndex > 0) showFirst();
      else if (first !== null) first = []; // the last stream broke off before all of it was told
    },
    show: ({ type: change, object }) => {
      if (change === "progress" || !object) {
        showFirst();
        return;
      }
      const name = object.metadata?.name ?? "";
      if (names.length > 0 && !names.includes(name)) return;
      const shown = change === "deleted" ? { ...object, status: { ...object.status, phase: "Deleted" } } : object;
      if (isStructured(output)) {
        const text = serialize(documentFromWire(shown), output);
        context.print(output === "yaml" ? `---\n${text}` : text);
      } else if (output === "name") context.print(`${type.name}/${name}\n`);
      else if (first !== null) first.push(objectRow(shown, choice));
      else context.print(table.render([objectRow(shown, choice)], { header: false }));
    },
  };
}
