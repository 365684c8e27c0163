/**
 * Clients of the site under chaos: requesters that are granted ports and give them back, operators that write and read
 * pools, and a reader that lists who owns what. All through the public API, all of it recorded.
 */
import { AnantaError } from "../../core/errors.js";
import { hex } from "../../core/hex.js";
import { type ApiObject, type ManagerApi, type PortBlock } from "../../fabric/control/manager-api.js";
import { GrantLedger, rangeKey, rangesOf } from "../../fabric/ownership.js";
import * as methods from "../../manager/api/methods.js";
import type { Env } from "../../runtime/env.js";
import type { Outcome, RangeName, RangeOwner } from "../linearizability/history.js";
import { Recorder } from "./recorder.js";

export const QUARANTINE_MS = 120_000;
const HOST = "chaos-client";
const POOLS = 4;
const DIPS_PER_POOL = 4;
const PAUSE_MS = 150;
const BLOCKS_KEPT = 10;
const OBJECTS = ["written-1", "written-2", "written-3"] as const;
const OPERATORS = 3;
const OPERATOR_PAUSE_MS = 250;
const LIST_PAUSE_MS = 8_000;
const LIMITS = { deadlineMs: 5_000, hedgeMs: 200 };

const dipsOf = (pool: number): readonly string[] =>
  Array.from({ length: DIPS_PER_POOL }, (_, dip) => `10.9.${pool}.${dip + 1}`);
const VIPS: readonly string[] = Array.from({ length: POOLS }, (_, pool) => `203.0.113.${pool + 11}`);

export function workloadObjects(): readonly ApiObject[] {
  return VIPS.flatMap((address, pool): readonly ApiObject[] => {
    const metadata = { tenant: "default", name: `grants-${pool + 1}` };
    return [
      { metadata, backendPool: { members: dipsOf(pool).map((dip) => ({ dip })) } },
      { metadata, vip: { address, outbound: { pools: [metadata.name] } } },
    ];
  });
}

export class Workload {
  readonly recorder: Recorder;
  readonly ledger = new GrantLedger(QUARANTINE_MS);
  /** When grants were answered, ascending. */
  readonly answeredMs: number[] = [];
  readonly #env: Env;
  readonly #api: ManagerApi;
  #running: readonly Promise<void>[] = [];
  #stopping = false;

  constructor(env: Env, api: ManagerApi) {
    this.#env = env;
    this.#api = api;
    this.recorder = new Recorder(() => env.clock.nowMs());
  }

  async start(): Promise<void> {
    const dips = Array.from({ length: POOLS }, (_, pool) => dipsOf(pool)).flat();
    const bootId = hex(this.#env.entropy(16));
    const incarnation = await this.#api.registerHost(this.#api.newSession(), { name: HOST, bootId, dips });
    this.#running = [
      ...dips.map((dip, at) => this.#request(dip, at, incarnation)),
      ...Array.from({ length: OPERATORS }, (_, at) => this.#operate(at)),
      this.#list(),
    ];
  }

  /** Resolves when no request is open any more; what is not answered within `withinMs` stays unknown. */
  async stop(withinMs: number): Promise<void> {
    this.#stopping = true;
    this.recorder.giveUpAt(this.#env.clock.nowMs() + withinMs);
    await Promise.all(this.#running);
    await this.#listOnce();
    for (const name of OBJECTS) await this.#get("judge", name);
  }

  async #request(dip: string, at: number, incarnation: number): Promise<void> {
    const { clock } = this.#env;
    const session = this.#api.newSession();
    const held: PortBlock[] = [];
    const owner = { host: HOST, incarnation, dip };
    const limits = { ...LIMITS, first: at % this.#api.endpoints.length };
    await this.#pause((PAUSE_MS * at) / (POOLS * DIPS_PER_POOL));
    for (let round = at; !this.#stopping; round++) {
      const protocol = round % 2 === 0 ? "tcp" : "udp";
      const blocks = await this.recorder.change(
        dip,
        session,
        { kind: "snat-allocate", dip },
        () => this.#api.allocate(session, { ...owner, protocol, ports: 8 }, limits),
        (answer): Outcome => ({ kind: "granted", ranges: namesOf(answer) }),
      );
      if (blocks !== null) {
        this.answeredMs.push(clock.nowMs());
        this.ledger.granted(dip, blocks, clock.nowMs());
        held.push(...blocks);
      }
      if (held.length > BLOCKS_KEPT) {
        const returned = held.splice(0, 1);
        const sentMs = clock.nowMs();
        this.ledger.releasing(returned);
        const released = await this.recorder.change(
          dip,
          session,
          { kind: "snat-release", dip, ranges: namesOf(returned) },
          async () => {
            await this.#api.release(session, { ...owner, blocks: returned }, limits);
            return true;
          },
          (): Outcome => ({ kind: "released" }),
        );
        if (released !== null) this.ledger.released(dip, returned, sentMs);
      }
      await this.#pause(PAUSE_MS);
    }
  }

  /** Reads an object, writes it, mostly only if it is still as read. */
  async #operate(at: number): Promise<void> {
    const random = this.#env.random.fork();
    const session = this.#api.newSession();
    const client = `operator-${at + 1}`;
    for (let round = 0; !this.#stopping; round++) {
      const name = OBJECTS[random.below(OBJECTS.length)]!; // below its length
      const read = await this.#get(client, name);
      if (read?.kind === "read" && !this.#stopping) {
        const seen = read.found?.generation ?? 0;
        const generation = random.below(4) === 0 ? 0 : seen;
        const weight = random.below(1_000);
        const object: ApiObject = {
          metadata: { tenant: "default", name, generation },
          backendPool: { members: [{ dip: `10.8.0.${OBJECTS.indexOf(name) + 1}`, weight }] },
        };
        await this.recorder.change(
          client,
          session,
          { kind: "object-apply", object: nameOf(name), value: `weight ${weight}`, generation },
          () =>
            this.#api.any(
              methods.OPERATOR_APPLY,
              { origin: { session: session.id, sequence: session.nextSequence++ }, objects: [object] },
              { ...LIMITS, first: at },
            ),
          ({ outcomes }): Outcome => ({
            kind: "changed",
            change: outcomes?.[0]?.change as "created" | "configured" | "unchanged",
            generation: outcomes?.[0]?.generation ?? 0,
          }),
        );
      }
      await this.#pause(OPERATOR_PAUSE_MS);
    }
  }

  #get(client: string, name: string): Promise<Outcome | null> {
    return this.recorder.read(client, { kind: "object-get", object: nameOf(name) }, async () => {
      const ref = { kind: "BackendPool", tenant: "default", name };
      try {
        const { object } = await this.#api.any(methods.OPERATOR_GET, { ref }, LIMITS);
        const weight = object?.backendPool?.members?.[0]?.weight ?? 100;
        return { kind: "read", found: { value: `weight ${weight}`, generation: object?.metadata?.generation ?? 0 } };
      } catch (caught) {
        if (AnantaError.from(caught).code === "NOT_FOUND") return { kind: "read", found: null };
        throw caught;
      }
    });
  }

  async #list(): Promise<void> {
    while (!this.#stopping) {
      await this.#listOnce();
      for (let waited = 0; waited < LIST_PAUSE_MS && !this.#stopping; waited += 500) await this.#pause(500);
    }
  }

  async #listOnce(): Promise<void> {
    await this.recorder.read("reader", { kind: "snat-list", vips: VIPS }, async () => {
      const { blocks } = await this.#api.snatList({ endpoint: null, stale: false });
      const owners = new Map<RangeName, RangeOwner>();
      for (const block of blocks) {
        if (!VIPS.includes(block.vip)) continue;
        for (const range of rangesOf(block)) owners.set(rangeKey(block, range), { dip: block.dip, state: block.state });
      }
      return { kind: "listed", owners };
    });
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.#env.clock.setTimer(delayMs, resolve);
    });
  }
}

const nameOf = (name: string): string => `BackendPool/default/${name}`;
const namesOf = (blocks: readonly PortBlock[]): readonly RangeName[] =>
  blocks.flatMap((block) => rangesOf(block).map((range) => rangeKey(block, range)));
