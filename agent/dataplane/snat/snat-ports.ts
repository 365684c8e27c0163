/**
 * SNAT ports of this host's DIPs: which ranges they own, which ports are in use towards whom, and which port a new flow gets.
 *
 *     port set  (DIP, VIP, protocol)          owns ranges of 8 ports
 *     use       (port set, remote address and port) -> ports in use towards it
 *
 * One port serves many flows at a time as long as their destinations differ (Ananta §3.5.1); so "exhausted" is a property of
 * one destination, known at once from its use count. Among the ports free for a destination a random one is taken: ports are
 * then hard to guess (RFC 6056), and one just freed seldom comes back at once.
 *
 * Invariants
 *  (S1) `flowsOf[range]` is the number of NAT entries on the range's ports; the count of a use the number towards it.
 *  (S2) A stopped range has no flow, and none starts on it until it is resumed. Only stopped ranges are given back.
 *  (S3) Ranges of a port set are in `usable`, unless stopped or recalled. A recalled one keeps its flows and gets no new one.
 *       The Managers name ranges that they want, or say how many: then those with the fewest flows are chosen, again whenever
 *       there is a look at what can be returned, so that an idle range goes before one on which something lives.
 *  (S4) A destination for which a search found no port is not searched for again until a flow towards it ends, a range becomes
 *       usable, or `FULL_MS` have passed: a machine that opens connections in vain costs a look-up each, not a walk.
 */
import type { DipId, IpAddress, VipId } from "../../../core/brands.js";
import type { Random } from "../../../core/random.js";
import { RANGE_PORTS, RANGE_SHIFT } from "../../../dataplane/layouts.js";
import type { PortProtocol } from "../../../dataplane/mux-items.js";
import { RecordTable } from "../../../dataplane/record-table.js";
import { NOT_FOUND } from "../../../dataplane/word-index.js";
import type { Addresses } from "../addresses.js";

/** What control asks for: enough to tell how soon ports run out. */
export interface SnatDemand {
  readonly dipId: DipId;
  readonly protocol: PortProtocol;
  /** Ports that flows may use; those of stopped ranges do not count. */
  readonly portsOwned: number;
  /** Ports free for the destination that has the fewest left, or fewer: flows on recalled ranges count as if on others. */
  readonly portsFree: number;
  /** New flows: smoothed over about a second, a burst at once. */
  readonly newFlowsPerSecond: number;
  /** Flows whose first packet waits for a port now. */
  readonly waiting: number;
}

interface PortDemand {
  readonly dipId: DipId;
  readonly protocol: PortProtocol;
  portsOwned: number;
  portsFree: number;
  newFlowsPerSecond: number;
}

export interface RangeRef {
  readonly vipId: VipId;
  readonly vip: IpAddress;
  readonly protocol: PortProtocol;
  readonly range: number;
  readonly dipId: DipId;
}

/** Who knows which ports of a VIP are taken towards a destination. */
export interface TakenPorts {
  isTaken(remote: number, vip: number, remotePort: number, port: number, protocol: number, slot: number): boolean;
}

/** Ports of one DIP at one VIP and protocol: with a flow that lives, and with closed ones only. */
export interface PortUse {
  readonly dipId: DipId;
  readonly vip: IpAddress;
  readonly protocol: PortProtocol;
  readonly inUse: number;
  readonly onHold: number;
}

interface PortSet {
  readonly dipId: DipId;
  readonly vipId: VipId;
  readonly vip: number;
  readonly protocol: PortProtocol;
  /** Records of ranges that new flows may use. */
  readonly usable: number[];
  /** Records of ranges chosen to be given back, of those that the Managers want any of. */
  readonly chosen: number[];
  /** Ranges in all, the stopped ones too. */
  ranges: number;
  /** How often a range has become usable. */
  gains: number;
  newFlows: number;
  newFlowsSampled: number;
  sampledAtMs: number;
  newFlowsPerSecond: number;
}

/** Random tries before the ports are walked: at half use, all eight fail once in 256 times. */
const RANDOM_TRIES = 8;

/** (S4) For what makes room without being counted in the use: flows that share the port of a mapping. */
const FULL_MS = 100;

/** Smoothing of the rate: a second ago counts 37 %. */
const RATE_TIME_MS = 1_000;

export class SnatPorts {
  /** Flows on each range (S1), by range record. */
  readonly flowsOf: Uint32Array;
  /** Range and use of the port that `allocate` answered. */
  allocatedRange = 0;
  allocatedUse = 0;
  readonly #ranges: RecordTable;
  readonly #dipId: Uint32Array;
  readonly #setOf: Uint32Array;
  readonly #stopped: Uint8Array;
  readonly #lastUsedMs: Float64Array;
  /** Ranges that the Managers want back, by place; they need not be ours yet. */
  readonly #recalled = new Map<string, { readonly vip: number; readonly protocol: number; readonly range: number }>();
  /** How many ranges of a DIP's port set the Managers want, whichever; it need not be known yet. */
  readonly #surplus = new Map<
    string,
    { readonly dipId: number; readonly vip: number; readonly protocol: number; readonly ranges: number }
  >();
  readonly #setTable: RecordTable;
  readonly #sets: (PortSet | undefined)[] = [];
  readonly #uses: RecordTable;
  readonly #useCount: Uint32Array;
  /** (S4) `gains` + 1 of the set when nothing was found, and until when that is believed; 0: not full, as far as known. */
  readonly #fullAt: Float64Array;
  readonly #fullUntilMs: Float64Array;
  readonly #random: Random;
  readonly #addresses: Addresses;

  constructor(rangeCapacity: number, flowCapacity: number, random: Random, addresses: Addresses) {
    this.#addresses = addresses;
    this.#ranges = new RecordTable(rangeCapacity);
    this.flowsOf = new Uint32Array(rangeCapacity);
    this.#dipId = new Uint32Array(rangeCapacity);
    this.#setOf = new Uint32Array(rangeCapacity);
    this.#stopped = new Uint8Array(rangeCapacity);
    this.#lastUsedMs = new Float64Array(rangeCapacity);
    this.#setTable = new RecordTable(rangeCapacity);
    this.#uses = new RecordTable(flowCapacity);
    this.#useCount = new Uint32Array(flowCapacity);
    this.#fullAt = new Float64Array(flowCapacity);
    this.#fullUntilMs = new Float64Array(flowCapacity);
    this.#random = random;
  }

  get rangeCount(): number {
    return this.#ranges.size;
  }

  get rangeCapacity(): number {
    return this.#ranges.capacity;
  }

  /** Adds up what is known of ports, a bit each by range record, for each DIP, VIP and protocol. */
  tally(live: Uint8Array, closed: Uint8Array): readonly PortUse[] {
    const inUse = new Uint32Array(this.#sets.length);
    const onHold = new Uint32Array(this.#sets.length);
    for (let record = 0; record < this.#ranges.capacity; record++) {
      if (!this.#ranges.isUsed(record)) continue;
      inUse[this.#setOf[record]!]! += bitsOf(live[record]!); // one bit of each port
      onHold[this.#setOf[record]!]! += bitsOf(closed[record]! & ~live[record]!);
    }
    return this.#sets.flatMap((set, at) => {
      if (set === undefined) return [];
      const { dipId, protocol } = set;
      return [{ dipId, vip: this.#addresses.format(set.vip), protocol, inUse: inUse[at]!, onHold: onHold[at]! }];
    });
  }

  /** Record of the range that a port is in, or `NOT_FOUND`. */
  findRange(vip: number, protocol: number, range: number): number {
    return this.#ranges.find(vip, (protocol << 16) | range);
  }

  /** Ranges of (DIP, VIP, protocol) that new flows may use. */
  rangesOf(dipId: number, vip: number, protocol: number): number {
    const set = this.#setTable.find(dipId, vip, protocol);
    return set === NOT_FOUND ? 0 : this.#sets[set]!.usable.length;
  }

  ownerOf(rangeRecord: number): DipId {
    return this.#dipId[rangeRecord]! as DipId;
  }

  addRange(range: RangeRef, vip: number, nowMs: number): void {
    const record = this.#ranges.upsert(vip, (range.protocol << 16) | range.range);
    const set = this.#portSet(range, vip, nowMs);
    this.flowsOf[record] = 0;
    this.#dipId[record] = range.dipId;
    this.#setOf[record] = set;
    this.#stopped[record] = 0;
    this.#lastUsedMs[record] = nowMs;
    if (!this.#isRecalled(vip, range.protocol, range.range)) this.#makeUsable(record);
    this.#sets[set]!.ranges++;
  }

  /** Its flows have been removed by the caller. */
  removeRange(vip: number, protocol: number, range: number): void {
    const record = this.findRange(vip, protocol, range);
    if (record === NOT_FOUND) return;
    this.#makeUnusable(record);
    this.#ranges.remove(record);
    const setRecord = this.#setOf[record]!;
    if (--this.#sets[setRecord]!.ranges > 0) return;
    this.#sets[setRecord] = undefined;
    this.#setTable.remove(setRecord);
  }

  /**
   * A port of (DIP, VIP, protocol) that is free towards the remote, or -1. Fills `allocatedRange` and `allocatedUse`, and
   * counts the flow: the caller makes the entry, or gives back with `release`. `flowProtocol`: of the flow, where its ports are
   * those of another one (ICMP echo).
   */
  allocate(
    taken: TakenPorts,
    dipId: number,
    slot: number,
    vip: number,
    protocol: number,
    remote: number,
    remotePort: number,
    nowMs: number,
    flowProtocol = protocol,
  ): number {
    const setRecord = this.#setTable.find(dipId, vip, protocol);
    if (setRecord === NOT_FOUND) return -1;
    const set = this.#sets[setRecord]!;
    const ports = set.usable.length * RANGE_PORTS;
    const use = this.#uses.find(setRecord, remote, remotePort);
    // Of those in use some may be on recalled ranges: then a walk tells whether one is free.
    if (ports === 0 || (use !== NOT_FOUND && this.#isFull(use, set, nowMs))) return -1;
    let place = 0;
    for (let tries = 0; tries < RANDOM_TRIES + ports; tries++) {
      place = tries < RANDOM_TRIES ? this.#random.below(ports) : (place + 1) % ports;
      const record = set.usable[place >>> RANGE_SHIFT]!; // place < ports
      const port = ((this.#ranges.keyWord(record, 1) & 0xffff) << RANGE_SHIFT) | (place & (RANGE_PORTS - 1));
      if (taken.isTaken(remote, vip, remotePort, port, flowProtocol, slot)) continue;
      const used = this.#uses.upsert(setRecord, remote, remotePort);
      if (used === NOT_FOUND) return -1;
      if (use === NOT_FOUND) {
        this.#useCount[used] = 0;
        this.#fullAt[used] = 0;
      }
      this.#useCount[used]!++;
      this.flowsOf[record]!++;
      this.#lastUsedMs[record] = nowMs;
      set.newFlows++;
      this.allocatedRange = record;
      this.allocatedUse = used;
      return port;
    }
    if (use !== NOT_FOUND) {
      this.#fullAt[use] = set.gains + 1;
      this.#fullUntilMs[use] = nowMs + FULL_MS;
    }
    return -1;
  }

  #isFull(use: number, set: PortSet, nowMs: number): boolean {
    if (this.#useCount[use]! >= set.ranges * RANGE_PORTS) return true;
    return this.#fullAt[use] === set.gains + 1 && nowMs < this.#fullUntilMs[use]!; // (S4)
  }

  /** A flow on the range has ended. */
  release(rangeRecord: number, use: number, nowMs: number): void {
    this.flowsOf[rangeRecord]!--;
    this.#lastUsedMs[rangeRecord] = nowMs;
    this.#fullAt[use] = 0;
    if (--this.#useCount[use]! === 0) this.#uses.remove(use);
  }

  /** Stops a range when it has no flow: true when it is stopped now (S2). */
  stop(vip: number, protocol: number, range: number): boolean {
    const record = this.findRange(vip, protocol, range);
    if (record === NOT_FOUND || this.flowsOf[record] !== 0) return false;
    this.#makeUnusable(record);
    this.#stopped[record] = 1;
    return true;
  }

  /** Takes back a stop: the range was not given back after all. */
  resume(vip: number, protocol: number, range: number): void {
    const record = this.findRange(vip, protocol, range);
    if (record === NOT_FOUND || this.#stopped[record] === 0) return;
    this.#stopped[record] = 0;
    if (!this.#isRecalled(vip, protocol, range)) this.#makeUsable(record);
  }

  /** No flow starts on the range any more; those that live go on. */
  recall(vip: number, protocol: number, range: number): void {
    this.#recalled.set(placeName(vip, protocol, range), { vip, protocol, range });
    const record = this.findRange(vip, protocol, range);
    if (record !== NOT_FOUND) this.#makeUnusable(record);
  }

  endRecall(vip: number, protocol: number, range: number): void {
    if (!this.#recalled.delete(placeName(vip, protocol, range))) return;
    const record = this.findRange(vip, protocol, range);
    if (record === NOT_FOUND || this.#stopped[record] === 1) return;
    this.#makeUsable(record);
  }

  /** So many ranges of (DIP, VIP, protocol) are wanted back, whichever; 0: none any more. */
  recallSurplus(dipId: number, vip: number, protocol: number, ranges: number): void {
    const key = `${dipId}/${vip}/${protocol}`;
    if (ranges > 0) this.#surplus.set(key, { dipId, vip, protocol, ranges });
    else if (!this.#surplus.delete(key)) return;
    const set = this.#setTable.find(dipId, vip, protocol);
    if (set !== NOT_FOUND) this.#choose(set, ranges);
  }

  /** Recalled ranges whose flows are over, and that are not being given back yet. */
  returnable(): readonly RangeRef[] {
    const found: number[] = [];
    for (const { vip, protocol, range } of this.#recalled.values()) {
      const record = this.findRange(vip, protocol, range);
      if (record !== NOT_FOUND && this.#stopped[record] === 0) found.push(record);
    }
    for (const { dipId, vip, protocol, ranges } of this.#surplus.values()) {
      const set = this.#setTable.find(dipId, vip, protocol);
      if (set === NOT_FOUND) continue;
      this.#choose(set, ranges);
      found.push(...this.#sets[set]!.chosen);
    }
    return found.filter((record) => this.flowsOf[record] === 0).map((record) => this.#ref(record));
  }

  /** Those on their way back count, for whatever reason they go: the Managers count them, too. */
  #choose(setRecord: number, ranges: number): void {
    const set = this.#sets[setRecord]!;
    let onTheirWay = 0;
    for (let record = 0; record < this.#ranges.capacity; record++)
      if (this.#ranges.isUsed(record) && this.#setOf[record] === setRecord && this.#stopped[record] === 1) onTheirWay++;
    const before = new Set(set.chosen);
    const wanted = Math.max(0, ranges - onTheirWay);
    const all = [...set.chosen, ...set.usable].sort(
      (a, b) =>
        this.flowsOf[a]! - this.flowsOf[b]! ||
        Number(before.has(b)) - Number(before.has(a)) ||
        this.#lastUsedMs[a]! - this.#lastUsedMs[b]! ||
        a - b,
    );
    set.chosen.splice(0, Infinity, ...all.slice(0, wanted));
    set.usable.splice(0, Infinity, ...all.slice(wanted));
    if (set.usable.some((record) => before.has(record))) set.gains++; // (S4)
  }

  #isRecalled(vip: number, protocol: number, range: number): boolean {
    return this.#recalled.size > 0 && this.#recalled.has(placeName(vip, protocol, range));
  }

  /** Ranges without any flow for at least `idleMs`, longest idle first; stopped ones are not among them. */
  releasable(nowMs: number, idleMs: number): readonly RangeRef[] {
    const found: { readonly idle: number; readonly ref: RangeRef }[] = [];
    for (let record = 0; record < this.#ranges.capacity; record++) {
      if (!this.#ranges.isUsed(record) || this.flowsOf[record] !== 0 || this.#stopped[record] === 1) continue;
      const idle = nowMs - this.#lastUsedMs[record]!;
      if (idle >= idleMs) found.push({ idle, ref: this.#ref(record) });
    }
    return found.sort((a, b) => b.idle - a.idle).map(({ ref }) => ref);
  }

  stopped(): readonly RangeRef[] {
    const found: RangeRef[] = [];
    for (let record = 0; record < this.#ranges.capacity; record++) {
      if (this.#ranges.isUsed(record) && this.#stopped[record] === 1) found.push(this.#ref(record));
    }
    return found;
  }

  /**
   * Ports owned, ports free for the busiest destination, and rate, of each (DIP, protocol) over all its VIPs. One walk over
   * the destinations in use, then one step per port set.
   */
  demand(pairs: readonly { readonly dipId: DipId; readonly protocol: PortProtocol }[], nowMs: number): PortDemand[] {
    const busiest = new Uint32Array(this.#sets.length);
    for (let use = 0; use < this.#uses.capacity; use++) {
      if (!this.#uses.isUsed(use)) continue;
      const set = this.#uses.keyWord(use, 0);
      busiest[set] = Math.max(busiest[set]!, this.#useCount[use]!);
    }
    const byPair = new Map<string, PortDemand>();
    for (const { dipId, protocol } of pairs) {
      byPair.set(`${dipId}/${protocol}`, { dipId, protocol, portsOwned: 0, portsFree: 0, newFlowsPerSecond: 0 });
    }
    this.#sets.forEach((set, setRecord) => {
      const demand = set && byPair.get(`${set.dipId}/${set.protocol}`);
      if (!demand) return;
      const ports = set.usable.length * RANGE_PORTS;
      demand.portsOwned += ports;
      demand.portsFree += Math.max(0, ports - busiest[setRecord]!);
      demand.newFlowsPerSecond += sampleRate(set, nowMs);
    });
    return [...byPair.values()];
  }

  #portSet(range: RangeRef, vip: number, nowMs: number): number {
    const found = this.#setTable.find(range.dipId, vip, range.protocol);
    if (found !== NOT_FOUND) return found;
    // A set has at least one range, so there is room wherever there is room for a range.
    const record = this.#setTable.upsert(range.dipId, vip, range.protocol);
    this.#sets[record] = {
      dipId: range.dipId,
      vipId: range.vipId,
      vip,
      protocol: range.protocol,
      usable: [],
      chosen: [],
      ranges: 0,
      gains: 0,
      newFlows: 0,
      newFlowsSampled: 0,
      sampledAtMs: nowMs,
      newFlowsPerSecond: 0,
    };
    return record;
  }

  #makeUsable(record: number): void {
    const set = this.#sets[this.#setOf[record]!]!;
    set.usable.push(record);
    set.gains++;
  }

  #makeUnusable(record: number): void {
    const { usable, chosen } = this.#sets[this.#setOf[record]!]!;
    for (const records of [usable, chosen]) {
      const place = records.indexOf(record);
      if (place < 0) continue;
      records[place] = records[records.length - 1]!;
      records.pop();
    }
  }

  #ref(record: number): RangeRef {
    const set = this.#sets[this.#setOf[record]!]!;
    return {
      vipId: set.vipId,
      vip: this.#addresses.format(set.vip),
      protocol: set.protocol,
      range: this.#ranges.keyWord(record, 1) & 0xffff,
      dipId: set.dipId,
    };
  }
}

/** Of a byte. */
function bitsOf(byte: number): number {
  let count = 0;
  for (let left = byte; left !== 0; left &= left - 1) count++;
  return count;
}

const placeName = (vip: number, protocol: number, range: number): string => `${vip}/${protocol}/${range}`;

/**
 * New flows per second, brought up to `nowMs`: smoothed, but a burst is believed at once, as far as chance does not explain it.
 * Of n flows since the last look, n - 2 sqrt(n) are a rate that is almost surely there (Poisson, two deviations): ports for
 * all of a burst are then asked for in its first tenth of a second, not step by step as the average follows.
 */
function sampleRate(set: PortSet, nowMs: number): number {
  const elapsedMs = nowMs - set.sampledAtMs;
  if (elapsedMs <= 0) return set.newFlowsPerSecond;
  const flows = set.newFlows - set.newFlowsSampled;
  const surely = ((flows - 2 * Math.sqrt(flows)) * 1_000) / elapsedMs;
  const keep = Math.exp(-elapsedMs / RATE_TIME_MS);
  const smoothed = set.newFlowsPerSecond * keep + ((flows * 1_000) / elapsedMs) * (1 - keep);
  set.newFlowsPerSecond = Math.max(smoothed, surely);
  set.newFlowsSampled = set.newFlows;
  set.sampledAtMs = nowMs;
  return set.newFlowsPerSecond;
}
