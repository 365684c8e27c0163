/**
 * A MUX's data plane in TypeScript: the parts put together behind the contract of `dataplane/contract.ts`.
 *
 *     items --> MuxTables --+
 *                           +--> MuxPipeline --> encapsulated packets
 *     packets ------------- + <--> FlowTable
 */
import { parseIpv4, parseIpv6 } from "../../core/address.js";
import { assert } from "../../core/assert.js";
import type { IpAddress } from "../../core/brands.js";
import type { Flows, PacketProcessor, Tables, Telemetry } from "../../dataplane/contract.js";
import { dropsByReason } from "../../dataplane/drop-reasons.js";
import { EventRing } from "../../dataplane/event-ring.js";
import {
  FABRIC_MTU_BYTES,
  MUX_LAYOUT,
  MUX_TIMEOUTS,
  type MuxLayout,
  type MuxTimeouts,
} from "../../dataplane/layouts.js";
import type { MuxChange, MuxItem } from "../../dataplane/mux-items.js";
import type { FiveTuple } from "../../packet/five-tuple.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import { explainFlow, findFlow, flowRecord, type ExplainOptions, type MuxExplanation } from "./explain.js";
import { addressWords } from "../../packet/address-words.js";
import { Fairness, type Load } from "../fairness/fairness.js";
import { HeavyHitters, type HeavyHitter } from "../fairness/heavy-hitters.js";
import type { PeerChannel } from "../peers/peer-channel.js";
import { FlowSamples, SAMPLE_ONE_IN, type FlowSample } from "./flow-samples.js";
import { FlowTable, TRUSTED, UNTRUSTED } from "./flow-table.js";
import { MuxPipeline } from "./pipeline.js";
import { MuxTables } from "./tables.js";

/** Counters of the sketch: every client with more than 1 in 256 of the samples is in it. */
const HEAVY_HITTERS = 256;
/** Counts are halved so often: who was heavy a few minutes ago is not. */
const FADE_MS = 60_000;

export interface MuxDataplaneOptions {
  /** Outer source of what this MUX encapsulates; IPv4. */
  readonly address: IpAddress;
  /**
   * The MUX owns the prefix of `address` of this many bits; the bits below it carry the flow hash, so that hosts and
   * routers spread the load. Default 32: the one address.
   */
  readonly prefixBits?: number;
  readonly layout?: Partial<MuxLayout>;
  readonly timeouts?: Partial<MuxTimeouts>;
  /** Default 1,500. */
  readonly fabricMtuBytes?: number;
  /** Outer source towards IPv6 locators. Default: none, IPv6 locators are "unsupported". */
  readonly addressIpv6?: IpAddress;
  /** Agents pass on what they have no state for; default true. */
  readonly secondChance?: boolean;
  /** One packet in so many is sampled for export; 0: none. Default 1,000. */
  readonly sampleOneIn?: number;
  /** What this MUX can forward; beyond it tenants are held to their fair shares. Default 0: losses on the way in alone tell. */
  readonly packetsPerSecondMax?: number;
  /** Of chance, for drops in proportion to a tenant's excess. */
  readonly seed?: number;
}

export interface MuxDataplane extends PacketProcessor {
  /** `stage` takes the work of a large view ahead. */
  readonly tables: Tables<MuxItem, MuxChange> & Pick<MuxTables, "stage">;
  readonly flows: Flows;
  readonly telemetry: Telemetry;
  /** What is declared when the MUX joins. */
  readonly capacity: { readonly rules: number; readonly snatRanges: number };
  /** Takes up to `limit` of the oldest flow samples; `lost` counts since the start. */
  drainSamples(limit: number): { readonly samples: readonly FlowSample[]; readonly lost: number };
  /** The channel to the other MUXes: control says what to tell, and hears whether they have left this one behind. */
  readonly peers: Pick<PeerChannel, "tell" | "counts">;
  /** Packets that went to another MUX of the pool (`out`), and that others relayed here (`in`), since the start. */
  relayed(): { readonly out: number; readonly in: number };
  /** Routers' words about the MTU of a path that were believed, since the start. */
  pathMtusLearned(): number;
  /** Packets that were lost before they came here, as an io adapter finds out; added up. */
  inputLost(packets: number): void;
  /** Of the last interval: whether this MUX is overloaded, and by whom. */
  overload(): Load;
  /** Flows that FastPath took off this MUX, and those that it took back, since the start. */
  fastpath(): { readonly redirected: number; readonly revoked: number };
  /** Clients that send most to one VIP, from the samples; largest first. */
  heavyHitters(limit: number): readonly HeavyHitter[];
  explain(tuple: FiveTuple, options: ExplainOptions): MuxExplanation;
}

export function createMuxDataplane(options: MuxDataplaneOptions): MuxDataplane {
  const address = parseIpv4(options.address);
  assert(address !== null, "the outer source of a MUX is an IPv4 address");
  const prefixBits = options.prefixBits ?? 32;
  assert(prefixBits >= 8 && prefixBits <= 32, "the prefix of a MUX has 8..32 bits");
  const layout: MuxLayout = { ...MUX_LAYOUT, ...options.layout };
  const addressIpv6 = options.addressIpv6 === undefined ? null : addressWords(options.addressIpv6);
  assert(
    options.addressIpv6 === undefined || parseIpv6(options.addressIpv6) !== null,
    "the outer source towards IPv6 locators is an IPv6 address",
  );
  const flowTable = new FlowTable(layout, { ...MUX_TIMEOUTS, ...options.timeouts });
  const tables = new MuxTables(layout, flowTable, { hasIpv6Locators: addressIpv6 !== null });
  const events = new EventRing(layout.events);
  const samples = new FlowSamples(layout.samples, options.sampleOneIn ?? SAMPLE_ONE_IN, (slot) =>
    tables.dips.dipId(slot),
  );
  const pipeline = new MuxPipeline(tables, flowTable, samples, layout, {
    address,
    hashBits: 32 - prefixBits,
    addressIpv6,
    secondChance: options.secondChance ?? true,
    seed: options.seed ?? address,
    fabricMtuBytes: options.fabricMtuBytes ?? FABRIC_MTU_BYTES,
  });

  const fairness = new Fairness(tables.vips, { packetsPerSecondMax: options.packetsPerSecondMax ?? 0 });
  const hitters = new HeavyHitters(HEAVY_HITTERS);
  samples.onSample = (header, vipId) =>
    hitters.add(vipId, header.source0, header.source1, header.source2, header.source3);
  let lost = 0;
  let fadeAtMs = 0;

  const flows: Flows = {
    lookUp: (tuple, nowMs, answer) => {
      const entry = findFlow(tables, flowTable, tuple);
      answer(entry === NOT_FOUND ? null : flowRecord(tables, flowTable, entry, nowMs));
    },
    list: (cursor, limit, nowMs, answer) => {
      const records = [];
      let entry = cursor;
      for (; entry < flowTable.end && records.length < limit; entry++) {
        if (flowTable.isLive(entry)) records.push(flowRecord(tables, flowTable, entry, nowMs));
      }
      answer(records, entry < flowTable.end ? entry : null);
    },
    reset: (filter, answer) => {
      let count = 0;
      for (let entry = 0; entry < flowTable.end; entry++) {
        if (!flowTable.isLive(entry)) continue;
        // By numbers alone: a million entries are looked at between two packets.
        const protocol = flowTable.protocol(entry);
        if (filter.protocol !== undefined && filter.protocol !== protocol) continue;
        if (filter.vipId !== undefined && filter.vipId !== flowTable.vipId(entry)) continue;
        if (filter.dipId !== undefined) {
          const member = flowTable.member(entry);
          const isStale = flowTable.generation(entry) !== tables.members.generation(member, protocol);
          if (isStale || tables.members.dipId(member) !== filter.dipId) continue;
        }
        flowTable.remove(entry);
        count++;
      }
      answer(count);
    },
  };

  const telemetry: Telemetry = {
    counters: () => ({
      received: { packets: pipeline.receivedPackets, bytes: pipeline.receivedBytes },
      sent: { packets: pipeline.sentPackets, bytes: pipeline.sentBytes },
      drops: dropsByReason(pipeline.drops),
      vips: tables.vips.traffic(),
      dips: tables.dips.traffic(),
      eventsLost: events.lost,
    }),
    gauges: () => ({
      flows: flowTable.size,
      flowCapacity: flowTable.capacity,
      entries: {
        "flows-untrusted": flowTable.sizeOf(UNTRUSTED),
        "flows-trusted": flowTable.sizeOf(TRUSTED),
        "flows-refused": flowTable.refusedCount,
        vips: tables.vips.size,
        rules: tables.rules.size,
        pools: tables.pools.size,
        dips: tables.dips.size,
        "snat-ranges": tables.snat.size,
        "inbound-nats": tables.nats.size,
        members: tables.members.size,
        peers: tables.peers.count,
        fragments: pipeline.fragments.size,
        "fragments-held": pipeline.fragments.heldCount,
        "flow-samples": samples.waiting,
        "path-mtus": pipeline.paths.size,
      },
    }),
    drainEvents: (limit) => ({ events: events.drain(limit), lost: events.lost }),
  };

  return {
    tables,
    flows,
    telemetry,
    capacity: { rules: layout.rules, snatRanges: layout.snatRanges },
    process: (batch, nowMs, out) => pipeline.process(batch, nowMs, out),
    tick: (nowMs, out) => {
      pipeline.tick(nowMs, out);
      fairness.tick(nowMs, lost);
      if (nowMs < fadeAtMs) return;
      fadeAtMs = nowMs + FADE_MS;
      hitters.fade();
    },
    pathMtusLearned: () => pipeline.paths.learned,
    inputLost: (packets) => {
      lost += packets;
    },
    peers: pipeline.peers,
    relayed: () => ({ out: pipeline.relayedOut, in: pipeline.relayedIn }),
    overload: () => fairness.report,
    fastpath: () => ({ redirected: pipeline.fastpath.redirected, revoked: pipeline.fastpath.revoked }),
    heavyHitters: (limit) => hitters.top(limit),
    drainSamples: (limit) => ({ samples: samples.drain(limit), lost: samples.lost }),
    explain: (tuple, explainOptions) => explainFlow(tables, flowTable, tuple, explainOptions),
  };
}
