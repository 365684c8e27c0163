/**
 * Manager replicas as the CLI sees them, on the simulated network: one store of objects behind all of them, and a switch
 * per replica for what it does to requests. Plus a shell whose output is kept.
 */
import {
  APPLY,
  CLUSTER_STATUS,
  DELETE,
  EXPLAIN_FLOW,
  RESET_FLOWS,
  GET,
  LIST,
  LIST_SNAT,
  ADD_REPLICA,
  PROMOTE_REPLICA,
  REMOVE_REPLICA,
  DRAIN_MUX,
  RESTORE_VIP,
  SNAT_USAGE,
  UNDRAIN_MUX,
  SAVE_SNAPSHOT,
  WATCH,
  WITHDRAW_VIP,
} from "../../cli/methods.js";
import { runCli } from "../../cli/program.js";
import { AnantaError } from "../../core/errors.js";
import { objectsFromWire, wireApplyObject } from "../../manager/api/objects/wire.js";
import type { ApplyObject } from "../../manager/state/commands/commands.js";
import type { ananta } from "../../proto/gen/wire.js";
import { serverStream, unary, type Handler, type Method } from "../../runtime/env.js";
import { VirtualWorld, testSeed } from "../kit/virtual-world.js";

type V1 = typeof ananta.v1;
type Response<Name extends keyof V1> = V1[Name] extends { decode(bytes: Uint8Array): infer Message } ? Message : never;

/** What a replica does instead of answering; null: it answers. */
export type Mischief = (method: string, request: unknown) => Promise<void> | void;

export interface Run {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export interface RunOptions {
  readonly files?: Readonly<Record<string, string>>;
  readonly variables?: Readonly<Record<string, string>>;
  readonly isTty?: boolean;
  /** Ctrl-C after so many ms. */
  readonly interruptAfterMs?: number;
}

export class FakeSite {
  readonly world: VirtualWorld;
  readonly stored = new Map<string, { readonly object: ApplyObject; readonly generation: number; phase: string }>();
  readonly mischief = new Map<number, Mischief>();
  /** Origins of all changes that arrived, "node session sequence". */
  readonly origins: string[] = [];
  /** Changes by origin that were made: a retry gets the same answer. */
  readonly #answers = new Map<string, Response<"ApplyResponse">>();
  /** The file that `cluster snapshot save` gets; empty: it waits for ever. */
  snapshotParts: readonly Uint8Array[] = [];
  readonly snapshotRefusal = new Map<number, AnantaError>();
  readonly snapshotsAskedOf: number[] = [];
  /** Node ids of the changes of members that were made. */
  readonly memberChanges: number[] = [];
  readonly watchers: ((event: ananta.v1.WatchEvent.$Properties) => void)[] = [];
  /** Where each watch began. */
  readonly watchedFrom: number[] = [];
  /** How watches end at once; null: they go on. */
  watchRefusal: AnantaError | null = null;
  index = 10;
  inForce = true;
  leader = 1;
  muxState = "live";
  readonly flowResets: ananta.v1.ResetFlowsRequest.$Properties[] = [];
  flowResetAnswer: ananta.v1.ResetFlowsResponse.$Properties = {
    hosts: [{ name: "host-1", flows: 12, answered: true }],
    muxes: [{ name: "mux-1", flows: 9, answered: true }],
  };
  /** By DIP; others are up. */
  readonly memberHealth = new Map<string, { readonly health: string; readonly reason: string }>();
  /** Replicas that hold a stream of mux-1. */
  muxConnectedTo: readonly number[] = [2];
  muxRenewedMsAgo = 40;
  furtherHosts: readonly string[] = [];
  shares: Response<"SnatSharesResponse">["shares"] = [];
  blocks: ananta.v1.SnatOwnership.$Properties[] = [];
  /** What Apply warns of. */
  warnings: string[] = [];
  /** "why for SECONDS" by key of the VIP. */
  readonly withdrawn = new Map<string, string>();
  muxNames: readonly string[] = ["mux-1", "mux-2"];
  /** Reason by MUX. */
  readonly drained = new Map<string, string>();
  explanation: ananta.v1.ExplainFlowResponse.$Properties = {};
  readonly #count: number;
  /** Replicas that do the next change and die before they answer. */
  readonly #dying = new Set<number>();

  constructor(salt: string, count = 3) {
    this.world = new VirtualWorld({ seed: testSeed(salt) });
    this.#count = count;
  }

  address = (node: number): string => `manager-${node}:7401`;

  get endpoints(): string {
    return Array.from({ length: this.#count }, (_, at) => this.address(at + 1)).join(",");
  }

  async start(): Promise<this> {
    for (let node = 1; node <= this.#count; node++) {
      const env = this.world.env(`manager-${node}`);
      await this.world.run(env.network.serve(this.address(node), this.#handlers(node)));
    }
    return this;
  }

  /** Runs `ananta WORDS` on a machine of its own until it ends. */
  async run(words: string, options: RunOptions = {}): Promise<Run> {
    const env = this.world.env("desk");
    const written = { out: "", err: "" };
    const interrupt = new AbortController();
    const files = options.files ?? {};
    const isTty = options.isTty === true;
    const done = runCli(
      words.split(" ").filter((word) => word !== ""),
      {
        env,
        variables: { ANANTA_ENDPOINTS: this.endpoints, ...options.variables },
        out: { write: (text) => void (written.out += text), isTty },
        err: { write: (text) => void (written.err += text), isTty },
        files: {
          read: (path) => {
            const text = files[path];
            return text === undefined
              ? Promise.reject(Object.assign(new Error("no"), { code: "ENOENT" }))
              : Promise.resolve(text);
          },
          manifestsIn: (path) => {
            const inside = Object.keys(files).filter((name) => name.startsWith(`${path}/`));
            const manifests = inside.filter((name) => /\.(ya?ml|json)$/.test(name)).sort();
            return Promise.resolve(inside.length > 0 ? manifests : null);
          },
        },
        interrupted: interrupt.signal,
        version: "1.2.3",
      },
    );
    if (options.interruptAfterMs !== undefined) env.clock.setTimer(options.interruptAfterMs, () => interrupt.abort());
    const code = await this.world.run(done);
    return { code, ...written };
  }

  /** The replica will do the change that it is at, and die before it answers. */
  async loseAnswer(node: number): Promise<void> {
    this.#dying.add(node);
    return Promise.resolve();
  }

  /** Stores objects without asking the API. */
  put(...documents: readonly ananta.v1.Object.$Properties[]): void {
    for (const object of objectsFromWire(documents)) this.#store(object);
  }

  emit(event: ananta.v1.WatchEvent.$Properties): void {
    for (const watcher of this.watchers) watcher(event);
  }

  wire(key: string): ananta.v1.Object.$Properties {
    const entry = this.stored.get(key);
    if (entry === undefined) throw new AnantaError("NOT_FOUND", `${key} does not exist`);
    const wired = wireApplyObject(entry.object);
    const members =
      wired.backendPool?.members?.map(({ dip }, at) => {
        const health = this.memberHealth.get(dip ?? "") ?? { health: "up" };
        return { dip: dip ?? "", host: `host-${at + 1}`, ...health };
      }) ?? [];
    const snat = wired.vip?.outbound ? [{ protocol: 6, ownedRanges: 2, freeRanges: 8_061, excludedRanges: 1 }] : [];
    return {
      ...wired,
      metadata: { ...wired.metadata, generation: entry.generation },
      status: { phase: entry.phase, updatedIndex: this.index, members, snat },
    };
  }

  #keys(kind: string | null | undefined, tenant: string | null | undefined): readonly string[] {
    return [...this.stored.keys()]
      .filter((key) => key.startsWith(`${kind ?? ""}/${tenant ? `${tenant}/` : ""}`))
      .sort();
  }

  #store(object: ApplyObject): "created" | "configured" {
    const key = keyOf(object.ref);
    const before = this.stored.get(key);
    this.stored.set(key, {
      object,
      generation: (before?.generation ?? 0) + 1,
      phase: this.inForce ? "Ready" : "Pending",
    });
    return before === undefined ? "created" : "configured";
  }

  #handlers(node: number): Handler[] {
    const handle = <Request, Answer>(method: Method<Request, Answer>, answer: (request: Request) => unknown): Handler =>
      unary(method, async (request) => {
        await this.mischief.get(node)?.(method.path.split("/")[2] ?? "", request);
        return answer(request) as Answer;
      });
    const change = (origin: ananta.v1.Origin.$Properties | null | undefined, make: () => unknown): unknown => {
      const key = `${origin?.session ?? ""} ${origin?.sequence ?? 0}`;
      this.origins.push(`${node} ${key}`);
      const known = this.#answers.get(key);
      const answer = known ?? make();
      this.#answers.set(key, answer as Response<"ApplyResponse">);
      if (this.#dying.delete(node)) this.world.crash(`manager-${node}`);
      return answer;
    };
    const read = { index: this.index, ageMs: 1_500 };
    return [
      handle(APPLY, (request) => {
        const objects = objectsFromWire(request.objects ?? []);
        if (request.dryRun === true) return { index: this.index, warnings: this.warnings };
        return change(request.origin, () => {
          this.index++;
          const outcomes = objects.map((object) => ({ ...object.ref, change: this.#store(object), generation: 1 }));
          return { outcomes, index: this.index, inForce: this.inForce, warnings: this.warnings };
        });
      }),
      handle(DELETE, (request) => {
        const refs = request.refs ?? [];
        const missing = refs.flatMap((ref, object) =>
          this.stored.has(keyOf(ref))
            ? []
            : [
                {
                  object,
                  path: "metadata.name",
                  code: "NOT_FOUND",
                  message: `${ref.kind ?? ""} ${ref.tenant ?? ""}/${ref.name ?? ""} does not exist`,
                },
              ],
        );
        if (missing.length > 0)
          throw new AnantaError("NOT_FOUND", missing.map(({ message }) => message).join("; "), {
            problems: JSON.stringify(missing),
          });
        return change(request.origin, () => {
          for (const ref of refs) this.stored.delete(keyOf(ref));
          return {
            outcomes: refs.map((ref) => ({ ...ref, change: "deleted" })),
            index: ++this.index,
            inForce: this.inForce,
          };
        });
      }),
      handle(WITHDRAW_VIP, (request) =>
        change(request.origin, () => {
          const { tenant = "", name = "", reason, forSeconds } = request;
          this.withdrawn.set(keyOf({ kind: "Vip", tenant, name }), `${reason ?? ""} for ${forSeconds ?? 0}`);
          return { index: ++this.index };
        }),
      ),
      handle(RESTORE_VIP, (request) =>
        change(request.origin, () => {
          const { tenant = "", name = "" } = request;
          if (this.withdrawn.delete(keyOf({ kind: "Vip", tenant, name }))) return { index: ++this.index };
          throw new AnantaError("FAILED_PRECONDITION", `VIP ${tenant ?? ""}/${name ?? ""} is not withdrawn`);
        }),
      ),
      handle(DRAIN_MUX, (request) =>
        change(request.origin, () => {
          const { name = "", reason, force } = request;
          const announcing = this.muxNames.filter((mux) => !this.drained.has(mux));
          if (announcing.join() === name && force !== true)
            throw new AnantaError("FAILED_PRECONDITION", `MUX ${name ?? ""} is the last one that announces VIPs`);
          const changed = !this.drained.has(name ?? "");
          this.drained.set(name ?? "", reason ?? "");
          const left = this.muxNames.filter((mux) => !this.drained.has(mux)).length;
          return { index: ++this.index, changed, inForce: this.inForce, announcing: left };
        }),
      ),
      handle(UNDRAIN_MUX, ({ origin, name }) =>
        change(origin, () => {
          const changed = this.drained.delete(name ?? "");
          const announcing = this.muxNames.filter((mux) => !this.drained.has(mux)).length;
          return { index: ++this.index, changed, inForce: this.inForce, announcing };
        }),
      ),
      handle(GET, (request) => ({ object: this.wire(keyOf(request.ref ?? {})), ...read })),
      handle(LIST, ({ kind, tenant }) => {
        return { objects: this.#keys(kind, tenant).map((key) => this.wire(key)), nextPage: "", ...read };
      }),
      handle(LIST_SNAT, ({ page }) => {
        // one block a page
        const at = Number(page || 0);
        return {
          blocks: this.blocks.slice(at, at + 1),
          nextPage: at + 1 < this.blocks.length ? `${at + 1}` : "",
          ...read,
        };
      }),
      handle(SNAT_USAGE, () => ({ shares: this.shares, nextPage: "", ...read })),
      handle(EXPLAIN_FLOW, () => this.explanation),
      handle(RESET_FLOWS, (request) => {
        this.flowResets.push(request);
        return this.flowResetAnswer;
      }),
      ...[ADD_REPLICA, PROMOTE_REPLICA, REMOVE_REPLICA].map((method) =>
        handle(method as Method<{ nodeId?: number | null }, unknown>, ({ nodeId }) => {
          this.memberChanges.push(nodeId ?? 0);
          return { members: [{ nodeId: 1, role: "voter" }], leader: this.leader };
        }),
      ),
      handle(CLUSTER_STATUS, () => this.#status(node)),
      serverStream(
        SAVE_SNAPSHOT as Method<ananta.v1.SaveSnapshotRequest.$Properties, { data: Uint8Array }>,
        (_request, stream) => {
          stream.listen({ message: () => {}, closed: () => {} });
          this.snapshotsAskedOf.push(node);
          if (this.snapshotRefusal.has(node)) stream.end(this.snapshotRefusal.get(node));
          else for (const data of this.snapshotParts) stream.send({ data });
          if (this.snapshotParts.length > 0) stream.end();
        },
      ),
      serverStream(
        WATCH as Method<ananta.v1.WatchRequest.$Properties, ananta.v1.WatchEvent.$Properties>,
        ({ fromIndex, kind, tenant }, stream) => {
          this.watchedFrom.push(fromIndex ?? 0);
          if (this.watchRefusal !== null) {
            stream.listen({ message: () => {}, closed: () => {} });
            stream.end(this.watchRefusal);
            return;
          }
          const send = (event: ananta.v1.WatchEvent.$Properties): boolean => stream.send(event);
          if (!fromIndex)
            for (const key of this.#keys(kind, tenant))
              send({ type: "added", object: this.wire(key), index: this.index });
          send({ type: "progress", index: this.index });
          this.watchers.push(send);
          stream.listen({ message: () => {}, closed: () => void this.watchers.splice(this.watchers.indexOf(send), 1) });
        },
      ),
    ];
  }

  #status(node: number): ananta.v1.ClusterStatusResponse.$Properties {
    return {
      identity: { clusterId: "c1", clusterEpoch: 1, node: String(node), incarnation: 1, bootId: "b" },
      role: node === this.leader ? "leader" : "follower",
      term: 3,
      leader: this.leader,
      commitIndex: this.index,
      appliedIndex: this.index,
      muxSafeIndex: this.index,
      ageMs: node === this.leader ? 0 : 20,
      pid: 4_000 + node,
      version: "1.2.3",
      notVoting: "",
      digest: "00ff",
      vips: this.stored.size,
      replicas: Array.from({ length: this.#count }, (_, at) => ({
        nodeId: at + 1,
        address: this.address(at + 1),
        membership: "voter",
      })),
      muxes: [
        {
          muxId: 1,
          name: "mux-1",
          incarnation: 2,
          state: this.muxState,
          address: "192.0.2.1",
          ...(this.drained.has("mux-1") ? { drain: { reason: this.drained.get("mux-1")!, ageMs: 3_000 } } : {}),
          index: this.index,
          ...(node === this.leader ? { renewedMsAgo: this.muxRenewedMsAgo } : {}),
          connectedHere: this.muxConnectedTo.includes(node),
          ...(node === 2 ? { counters: { packets: 500, bytes: 9_000, flows: 7, drops: { drop_no_vip: 3 } } } : {}),
        },
      ],
      hosts: [
        ...this.furtherHosts.map((name, at) => ({ hostId: at + 2, name, incarnation: 1 })),
        {
          hostId: 1,
          name: "host-1",
          incarnation: 1,
          dips: ["10.1.0.4", "10.1.0.5"],
          connectedHere: node !== 3,
        },
      ],
    };
  }
}

function keyOf({ kind, tenant, name }: ananta.v1.ObjectRef.$Properties): string {
  return `${kind ?? ""}/${tenant === "" || !tenant ? "default" : tenant}/${name ?? ""}`;
}
