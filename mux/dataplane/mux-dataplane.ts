/**
 * A MUX's data plane in TypeScript: the parts put together behind the contract of `dataplane/contract.ts`.
 *
 *     items --> MuxTables --+
 *                           +--> MuxPipeline --> encapsulated packets
 *     packets ------------- + <--> FlowTable
 */
import { parseIpv4 } from "../../core/address.js";
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
import { FlowTable, TRUSTED, UNTRUSTED } from "./flow-table.js";
import { MuxPipeline } from "./pipeline.js";
import { MuxTables } from "./tables.js";

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
}

export interface MuxDataplane extends PacketProcessor {
  readonly tables: Tables<MuxItem, MuxChange>;
  readonly flows: Flows;
  readonly telemetry: Telemetry;
  /** What is declared when the MUX joins. */
  readonly capacity: { readonly rules: number; readonly snatRanges: number };
  explain(tuple: FiveTuple, options: ExplainOptions): MuxExplanation;
}

export function createMuxDataplane(options: MuxDataplaneOptions): MuxDataplane {
  const address = parseIpv4(options.address);
  assert(address !== null, "the outer source of a MUX is an IPv4 address");
  const prefixBits = options.prefixBits ?? 32;
  assert(prefixBits >= 8 && prefixBits <= 32, "the prefix of a MUX has 8..32 bits");
  const layout: MuxLayout = { ...MUX_LAYOUT, ...options.layout };
  const tables = new MuxTables(layout);
  const flowTable = new FlowTable(layout, { ...MUX_TIMEOUTS, ...options.timeouts });
  const events = new EventRing(layout.events);
  const pipeline = new MuxPipeline(tables, flowTable, {
    address,
    hashBits: 32 - prefixBits,
    fabricMtuBytes: options.fabricMtuBytes ?? FABRIC_MTU_BYTES,
  });

  const flows: Flows = {
    lookUp: (tuple, nowMs, answer) => {
      const entry = findFlow(tables, flowTable, tuple);
      answer(entry === NOT_FOUND ? null : flowRecord(tables, flowTable, entry, nowMs));
    },
    list: (cursor, limit, nowMs, answer) => {
      const records = [];
      let entry = cursor;
      for (; entry < flowTable.capacity && records.length < limit; entry++) {
        if (flowTable.isLive(entry)) records.push(flowRecord(tables, flowTable, entry, nowMs));
      }
      answer(records, entry < flowTable.capacity ? entry : null);
    },
    reset: (filter, answer) => {
      let count = 0;
      for (let entry = 0; entry < flowTable.capacity; entry++) {
        if (!flowTable.isLive(entry)) continue;
        const flow = flowRecord(tables, flowTable, entry, 0);
        if (filter.vipId !== undefined && filter.vipId !== flow.vipId) continue;
        if (filter.dipId !== undefined && filter.dipId !== flow.dipId) continue;
        if (filter.protocol !== undefined && filter.protocol !== flow.tuple.protocol) continue;
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
    tick: (nowMs) => flowTable.expire(nowMs),
    explain: (tuple, explainOptions) => explainFlow(tables, flowTable, tuple, explainOptions),
  };
}
