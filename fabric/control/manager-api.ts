/**
 * A client of the public API that does not mind which replica lives: it knows every endpoint, starts with the one that
 * answered last, goes on to the next when one refuses, and asks a second one when the first is silent.
 *
 * That is safe because every change carries an origin, a session and a sequence number: however many replicas get the same
 * request, it is executed once and all get the same answer (outcome unknown is not failure).
 */
import { AnantaError, type ErrorCode } from "../../core/errors.js";
import { hex } from "../../core/hex.js";
import * as methods from "../../manager/api/methods.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { Channel, Env, Method } from "../../runtime/env.js";

export type ApiObject = ananta.v1.Object.$Properties;
export type TransportProtocol = "tcp" | "udp";

/** Ports [range * 8, (range + count) * 8) of a VIP. */
export interface PortBlock {
  readonly vip: string;
  readonly protocol: TransportProtocol;
  readonly range: number;
  readonly count: number;
}

export interface OwnedPorts extends PortBlock {
  readonly tenant: string;
  readonly dip: string;
  readonly host: string;
  readonly state: "owned" | "quarantined";
}

export interface SnatListing {
  readonly blocks: readonly OwnedPorts[];
  readonly index: number;
}

export interface ReplicaView {
  readonly nodeId: number;
  readonly clusterId: string;
  readonly role: string;
  readonly term: number;
  /** 0: none known. */
  readonly leader: number;
  readonly commitIndex: number;
  readonly appliedIndex: number;
  readonly muxSafeIndex: number;
  readonly pid: number;
  readonly digest: string;
  readonly notVoting: string;
  readonly muxes: readonly MuxView[];
  readonly hosts: readonly HostView[];
}

export interface MuxView {
  readonly name: string;
  readonly state: string;
  readonly index: number;
  readonly packets: number;
  readonly flows: number;
  readonly vipsAnnounced: number;
  readonly drops: ReadonlyMap<string, number>;
}

export interface HostView {
  readonly name: string;
  readonly dips: readonly string[];
  readonly connectedHere: boolean;
}

export interface VipView {
  readonly name: string;
  readonly tenant: string;
  readonly address: string;
  readonly phase: string;
  /** "tcp 80 -> demo-pool:8080" */
  readonly rules: readonly string[];
  readonly ownedRanges: number;
  readonly freeRanges: number;
  readonly quarantinedRanges: number;
}

/** One requester: its requests are numbered, one at a time. */
export interface Session {
  readonly id: string;
  nextSequence: number;
}

export interface CallLimits {
  /** When to give up altogether. */
  readonly deadlineMs: number;
  /** Silence after which the next endpoint is asked as well. */
  readonly hedgeMs: number;
}

/** Another endpoint, or the same later, may do better: not the leader, nobody there, outcome unknown, queue full. */
const RETRIED: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "NOT_LEADER",
  "UNAVAILABLE",
  "STAGE_OVERLOADED",
  "BEHIND",
  "NO_LIVE_MUX",
  "CANCELLED",
  "DEADLINE_EXCEEDED",
  "LEADERSHIP_LOST",
]);

/** Between two rounds over all endpoints: an election takes 100 to 300 ms, so a few rounds meet its end closely. */
const ROUND_PAUSE_MS = 10;
const DEFAULT_LIMITS: CallLimits = { deadlineMs: 20_000, hedgeMs: 1_000 };

export class ManagerApi {
  readonly endpoints: readonly string[];
  private readonly env: Env;
  private readonly channels: readonly Channel[];
  private preferred = 0;

  constructor(env: Env, endpoints: readonly string[]) {
    this.env = env;
    this.endpoints = endpoints;
    // A killed replica is back within seconds: it shall not be met by a back-off that is longer.
    this.channels = endpoints.map((address) => env.network.connect(address, { reconnectMaxMs: 250 }));
  }

  close(): void {
    for (const channel of this.channels) channel.close();
  }

  newSession(): Session {
    return { id: hex(this.env.entropy(16)), nextSequence: 1 };
  }

  /** What one replica says of itself and the cluster. */
  async status(endpoint: number, deadlineMs: number): Promise<ReplicaView> {
    return replicaView(await this.one(endpoint, methods.OPERATOR_CLUSTER_STATUS, {}, deadlineMs));
  }

  async apply(
    session: Session,
    objects: readonly ApiObject[],
    limits: CallLimits = DEFAULT_LIMITS,
  ): Promise<{ readonly index: number; readonly inForce: boolean; readonly changes: readonly string[] }> {
    const response = await this.any(methods.OPERATOR_APPLY, { origin: next(session), objects: [...objects] }, limits);
    return {
      index: response.index ?? 0,
      inForce: response.inForce ?? false,
      changes: (response.outcomes ?? []).map(({ kind, name, change }) => `${kind ?? ""} ${name ?? ""} ${change ?? ""}`),
    };
  }

  async vips(limits: CallLimits = { deadlineMs: 2_000, hedgeMs: 500 }): Promise<readonly VipView[]> {
    const request = { kind: "Vip", stale: true };
    const pages = await this.pages<ananta.v1.ListResponse.$Properties>(limits.deadlineMs, (page, deadlineMs) =>
      this.any(methods.OPERATOR_LIST, { ...request, page }, { ...limits, deadlineMs }),
    );
    return pages.flatMap(({ objects }) => (objects ?? []).map(vipView));
  }

  /** What is known of all ranges; `endpoint` null asks any replica, and `stale` answers from its own state. */
  async snatList(options: { readonly endpoint: number | null; readonly stale: boolean }): Promise<SnatListing> {
    const { endpoint, stale } = options;
    const pages = await this.pages<ananta.v1.ListSnatResponse.$Properties>(
      endpoint === null ? 10_000 : 5_000,
      (page, deadlineMs) =>
        endpoint === null
          ? this.any(methods.SNAT_LIST, { stale, page }, { deadlineMs, hedgeMs: 2_000 })
          : this.one(endpoint, methods.SNAT_LIST, { stale, page }, deadlineMs),
    );
    const blocks = pages.flatMap((page) =>
      (page.blocks ?? []).map(({ block, tenant, dip, host, state }): OwnedPorts => {
        return {
          ...portBlock(block ?? {}),
          tenant: tenant ?? "",
          dip: dip ?? "",
          host: host ?? "",
          state: state === "quarantined" ? "quarantined" : "owned",
        };
      }),
    );
    return { index: Math.min(...pages.map(({ index }) => index ?? 0)), blocks };
  }

  /** A listing to its last page; all pages together have `deadlineMs`. */
  private async pages<Response extends { readonly nextPage?: string | null }>(
    deadlineMs: number,
    ask: (page: string, deadlineMs: number) => Promise<Response>,
  ): Promise<readonly Response[]> {
    const { clock } = this.env;
    const endMs = clock.nowMs() + deadlineMs;
    const pages: Response[] = [];
    let next = "";
    do {
      const page = await ask(next, Math.max(1, endMs - clock.nowMs()));
      pages.push(page);
      next = page.nextPage ?? "";
    } while (next !== "");
    return pages;
  }

  /** Makes the caller a host with DIPs of its own; answers its incarnation. */
  async registerHost(
    session: Session,
    host: { readonly name: string; readonly bootId: string; readonly dips: readonly string[] },
  ): Promise<number> {
    const request = {
      origin: next(session),
      host: host.name,
      bootId: host.bootId,
      dips: host.dips.map((address) => ({ tenant: "default", address, locator: "" })),
      heldRanges: [],
    };
    return (await this.any(methods.SNAT_REGISTER, request, DEFAULT_LIMITS)).incarnation ?? 0;
  }

  /** `first` is the endpoint to begin with. */
  async allocate(
    session: Session,
    wanted: {
      readonly host: string;
      readonly incarnation: number;
      readonly dip: string;
      readonly protocol: TransportProtocol;
      readonly ports: number;
    },
    limits: CallLimits & { readonly first: number },
  ): Promise<readonly PortBlock[]> {
    const request = { origin: next(session), ...wanted, tenant: "default", protocol: wireProtocol(wanted.protocol) };
    return ((await this.any(methods.SNAT_ALLOCATE, request, limits)).blocks ?? []).map(portBlock);
  }

  async release(
    session: Session,
    returned: {
      readonly host: string;
      readonly incarnation: number;
      readonly dip: string;
      readonly blocks: readonly PortBlock[];
    },
    limits: CallLimits & { readonly first: number },
  ): Promise<void> {
    const blocks = returned.blocks.map(({ vip, protocol, range, count }) => ({
      vip,
      protocol: wireProtocol(protocol),
      range,
      count,
    }));
    await this.any(methods.SNAT_RELEASE, { origin: next(session), ...returned, tenant: "default", blocks }, limits);
  }

  /** Asks one endpoint, once. */
  one<Request, Response>(
    endpoint: number,
    method: Method<Request, Response>,
    request: Request,
    deadlineMs: number,
  ): Promise<Response> {
    return this.channels[endpoint]!.call(method, request, { deadlineMs }); // the caller counts within `endpoints`
  }

  /**
   * The first answer of any endpoint; rejects with a refusal that no endpoint would answer otherwise. A change has to carry
   * an origin, because several endpoints may get it.
   */
  any<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    limits: CallLimits & { readonly first?: number },
  ): Promise<Response> {
    const { clock } = this.env;
    const endMs = clock.nowMs() + limits.deadlineMs;
    return new Promise((resolve, reject) => {
      let endpoint = limits.first ?? this.preferred;
      let tried = 0;
      let settled = false;
      let timer = clock.setTimer(limits.hedgeMs, () => attempt());
      let lastError: AnantaError | null = null;
      const settle = (finish: () => void): void => {
        if (settled) return;
        settled = true;
        timer.cancel();
        finish();
      };
      const attempt = (): void => {
        if (settled) return;
        const leftMs = endMs - clock.nowMs();
        if (leftMs <= 0) {
          settle(() =>
            reject(lastError ?? new AnantaError("DEADLINE_EXCEEDED", `no endpoint answered ${method.path}`)),
          );
          return;
        }
        const asked = endpoint;
        endpoint = (endpoint + 1) % this.channels.length;
        tried++;
        timer.cancel();
        timer = clock.setTimer(Math.min(limits.hedgeMs, leftMs), () => attempt());
        this.one(asked, method, request, Math.min(leftMs, 10_000)).then(
          (response) =>
            settle(() => {
              this.preferred = asked;
              resolve(response);
            }),
          (caught: unknown) => {
            const error = AnantaError.from(caught);
            if (!RETRIED.has(error.code)) {
              settle(() => reject(error));
              return;
            }
            lastError = error;
            if (settled) return;
            timer.cancel();
            const roundIsOver = tried % this.channels.length === 0;
            timer = clock.setTimer(roundIsOver ? ROUND_PAUSE_MS : 0, () => attempt());
          },
        );
      };
      attempt();
    });
  }
}

const next = (session: Session): { session: string; sequence: number } => ({
  session: session.id,
  sequence: session.nextSequence++,
});

const wireProtocol = (protocol: TransportProtocol): 6 | 17 => (protocol === "tcp" ? 6 : 17);

const portBlock = (block: ananta.v1.RangeBlock.$Properties): PortBlock => ({
  vip: block.vip ?? "",
  protocol: block.protocol === 17 ? "udp" : "tcp",
  range: block.range ?? 0,
  count: block.count ?? 0,
});

function replicaView(status: ananta.v1.ClusterStatusResponse.$Properties): ReplicaView {
  return {
    nodeId: Number(status.identity?.node ?? 0),
    clusterId: status.identity?.clusterId ?? "",
    role: status.role ?? "",
    term: status.term ?? 0,
    leader: status.leader ?? 0,
    commitIndex: status.commitIndex ?? 0,
    appliedIndex: status.appliedIndex ?? 0,
    muxSafeIndex: status.muxSafeIndex ?? 0,
    pid: status.pid ?? 0,
    digest: status.digest ?? "",
    notVoting: status.notVoting ?? "",
    muxes: (status.muxes ?? []).map((mux) => ({
      name: mux.name ?? "",
      state: mux.state ?? "",
      index: mux.index ?? 0,
      packets: mux.counters?.packets ?? 0,
      flows: mux.counters?.flows ?? 0,
      vipsAnnounced: mux.counters?.vipsAnnounced ?? 0,
      drops: new Map(Object.entries(mux.counters?.drops ?? {})),
    })),
    hosts: (status.hosts ?? []).map((host) => ({
      name: host.name ?? "",
      dips: host.dips ?? [],
      connectedHere: host.connectedHere ?? false,
    })),
  };
}

function vipView(object: ApiObject): VipView {
  const { metadata, vip, status } = object;
  const sum = (pick: (usage: ananta.v1.SnatUsage.$Properties) => number | null | undefined): number =>
    (status?.snat ?? []).reduce((total, usage) => total + (pick(usage) ?? 0), 0);
  return {
    name: metadata?.name ?? "",
    tenant: metadata?.tenant ?? "",
    address: vip?.address ?? "",
    phase: status?.phase ?? "",
    rules: (vip?.rules ?? []).map(
      (rule) =>
        `${rule.protocol === 17 ? "udp" : "tcp"} ${rule.port ?? 0} -> ${rule.pool ?? ""}:${rule.backendPort ?? 0}`,
    ),
    ownedRanges: sum((usage) => usage.ownedRanges),
    freeRanges: sum((usage) => usage.freeRanges),
    quarantinedRanges: sum((usage) => usage.quarantinedRanges),
  };
}
