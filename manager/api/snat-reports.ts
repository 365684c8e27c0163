/** What operators ask about SNAT ports: who had one, who has how many, when they run out (proto/ananta/v1/snat.proto). */
import type { IpAddress } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { CallContext } from "../../runtime/env.js";
import type { HistoryGap, Space } from "../history/history-keys.js";
import type { OwnershipHistory } from "../history/ownership-history.js";
import { forecast, stockPoints } from "../history/stock-trend.js";
import { checkAddress } from "../projection/address-wire.js";
import { checkProtocol, wireBlock } from "../projection/range-wire.js";
import type { PortReports } from "../projection/port-reports.js";
import type { ReplicaView } from "../replica-view.js";
import type { SnatShare } from "../state/state-machine.js";
import { FIRST_RANGE, PORTS_PER_RANGE, rangeOfPort, SNAT_PROTOCOLS } from "../state/snat/port-ranges.js";
import { budget } from "./operator-service.js";
import { readPoint } from "./read-state.js";
import { askedOfOthers, type PortsOfShare } from "./ports-of-others.js";
import { pageOf, spaceOfPage } from "./snat-service.js";

const PORT_MIN = FIRST_RANGE * PORTS_PER_RANGE;
const PORT_MAX = 65_535;
/** Hosts say every 9 s or so what they use; who was not heard for longer may have said it to another replica. */
const USE_FRESH_MS = 20_000;
const WINDOW_SECONDS = { min: 60, max: 2_592_000, default: 86_400 };
const HORIZON_SECONDS = { min: 60, max: 31_536_000, default: 604_800 };

type Interval = ananta.v1.SnatInterval.$Properties;

export class SnatReports {
  readonly #replica: ReplicaView;
  readonly #portReports: PortReports;

  constructor(replica: ReplicaView, portReports: PortReports) {
    this.#replica = replica;
    this.#portReports = portReports;
  }

  async who(
    request: ananta.v1.SnatWhoRequest.$Properties,
    call: CallContext,
  ): Promise<ananta.v1.SnatWhoResponse.$Properties> {
    const vip = checkAddress(request.vip, "vip");
    const port = request.port ?? 0;
    if (!(port >= PORT_MIN && port <= PORT_MAX))
      throw new AnantaError(
        "INVALID_ARGUMENT",
        `port: ${port} is not a SNAT port; those are ${PORT_MIN} to ${PORT_MAX}`,
      );
    const protocols = request.protocol ? [checkProtocol(request.protocol, "protocol")] : SNAT_PROTOCOLS;
    const atMs = request.atMs ?? 0;
    const history = this.#history();
    const { index, ageMs } = await readPoint(this.#replica, request.stale === true, budget(call));
    const intervals: Interval[] = [];
    for (const protocol of protocols) {
      const space = { vip, protocol };
      const range = rangeOfPort(port);
      const now = await this.#now(history, space, range);
      if (atMs === 0) intervals.push(...now);
      else {
        const owned = now.filter(({ state }) => state === "owned");
        const past = await this.#past(history, space, range);
        intervals.push(...[...owned, ...past].filter((interval) => covers(interval, atMs)));
      }
    }
    const gaps = atMs === 0 ? [] : history.gaps().filter((gap) => mayHide(gap, atMs));
    return { intervals, gaps: gaps.map(wireGap), sinceMs: history.sinceMs ?? 0, index, ageMs };
  }

  async usage(
    request: ananta.v1.SnatSharesRequest.$Properties,
    call: CallContext,
  ): Promise<ananta.v1.SnatSharesResponse.$Properties> {
    const vip = optionalAddress(request.vip, "vip");
    const dip = optionalAddress(request.dip, "dip");
    const tenant = (request.tenant ?? "") === "" ? null : (request.tenant ?? null);
    const after = spaceOfPage(request.page ?? "");
    const onlyHere = request.onlyHere === true;
    const { index, ageMs } = await readPoint(this.#replica, onlyHere || request.stale === true, budget(call));
    const { shares: found, end } = this.#replica.state.snatShares({ vip, dip, tenant }, after);
    const shares = found.map((share) => ({
      ...this.#useOf(share),
      vip: share.vip,
      protocol: share.protocol,
      tenant: share.dip.tenant,
      dip: share.dip.address,
      host: share.host ?? "",
      owned: share.owned * PORTS_PER_RANGE,
      guaranteed: share.guaranteed * PORTS_PER_RANGE,
      recalled: share.recalled * PORTS_PER_RANGE,
      waiting: share.waiting * PORTS_PER_RANGE,
      limit: share.limit * PORTS_PER_RANGE,
    }));
    const isKnown = shares.every(
      ({ host, owned, useAgeMs }) => host === "" || owned === 0 || (useAgeMs ?? Infinity) < USE_FRESH_MS,
    );
    const told = isKnown || onlyHere ? shares : await askedOfOthers(this.#replica, request, shares);
    return { shares: told, nextPage: pageOf(end), index, ageMs };
  }

  /** What its host has said to this replica; nothing when it has not. */
  #useOf({ vip, protocol, dip, host }: SnatShare): PortsOfShare {
    const hostId = host === null ? null : (this.#replica.state.hostByName(host)?.hostId ?? null);
    const use = hostId === null ? null : this.#portReports.find(hostId, { vip, protocol, dipId: dip.dipId });
    return use === null ? {} : { inUse: use.inUse, onHold: use.onHold, useAgeMs: Math.round(use.ageMs) };
  }

  async forecast(
    request: ananta.v1.SnatForecastRequest.$Properties,
    call: CallContext,
  ): Promise<ananta.v1.SnatForecastResponse.$Properties> {
    const vip = optionalAddress(request.vip, "vip");
    const windowMs = seconds(request.windowSeconds, "window_seconds", WINDOW_SECONDS) * 1_000;
    const horizonMs = seconds(request.horizonSeconds, "horizon_seconds", HORIZON_SECONDS) * 1_000;
    const history = this.#history();
    const { index, ageMs } = await readPoint(this.#replica, request.stale === true, budget(call));
    const nowMs = this.#replica.env.clock.wallMs();
    const past = stockPoints(await history.stockSince(nowMs - windowMs));
    const forecasts = this.#replica.state
      .snatUsage()
      .filter((usage) => vip === null || usage.vip === vip)
      .map(({ vip: address, protocol, owned, quarantined, free }) => {
        const stock = owned + quarantined + free;
        const points = [...(past.get(`${address}/${protocol}`) ?? []), { atMs: nowMs, taken: owned + quarantined }];
        const { rangesPerHour, exhaustedInMs, vipsNeeded } = forecast(points, stock, horizonMs);
        return {
          vip: address,
          protocol,
          stock: stock * PORTS_PER_RANGE,
          owned: owned * PORTS_PER_RANGE,
          quarantined: quarantined * PORTS_PER_RANGE,
          free: free * PORTS_PER_RANGE,
          perHour: rangesPerHour * PORTS_PER_RANGE,
          ...(exhaustedInMs === null ? {} : { exhaustedInSeconds: Math.floor(exhaustedInMs / 1_000) }),
          vipsNeeded,
          windowSeconds: Math.floor((nowMs - (points[0]?.atMs ?? nowMs)) / 1_000),
        };
      });
    return { forecasts, index, ageMs };
  }

  /** Who owns the range, or who did while it rests; with when that began. */
  async #now(history: OwnershipHistory, space: Space, range: number): Promise<readonly Interval[]> {
    const block = this.#replica.state
      .snatBlocks(space)
      .find((found) => found.range <= range && range < found.range + found.count);
    if (block === undefined) return [];
    if (block.state === "quarantined") {
      const [last] = await this.#past(history, space, range);
      if (last?.dip === block.dip.address) return [{ ...last, state: "quarantined" }];
    }
    return [
      {
        block: wireBlock(block),
        tenant: block.dip.tenant,
        dip: block.dip.address,
        fromMs: (await history.wallOf(block.grantedIndex)) ?? 0,
        fromIndex: block.grantedIndex,
        state: block.state,
      },
    ];
  }

  async #past(history: OwnershipHistory, space: Space, range: number): Promise<readonly Interval[]> {
    const owners = await history.ownersOf(space, range);
    return owners.map((owner) => ({
      block: wireBlock({ ...space, range: owner.first, count: owner.count }),
      tenant: owner.tenant,
      dip: owner.dip,
      fromMs: owner.fromMs ?? 0,
      untilMs: owner.untilMs,
      fromIndex: owner.fromIndex,
      untilIndex: owner.untilIndex,
      state: "ended",
    }));
  }

  #history(): OwnershipHistory {
    const history = this.#replica.history();
    const failure = history === null ? "it cannot be opened" : history.failure?.message;
    if (history !== null && failure === undefined) return history;
    throw new AnantaError("STORAGE_FAILED", `this replica has no ownership history: ${failure ?? ""}; ask another one`);
  }
}

const covers = ({ fromMs, untilMs }: Interval, atMs: number): boolean =>
  (fromMs ?? 0) <= atMs && ((untilMs ?? 0) === 0 || atMs <= (untilMs ?? 0));

/** What was owned at `atMs` and ended in the gap is not known; a gap that ended before `atMs` hides nothing of then. */
const mayHide = (gap: HistoryGap, atMs: number): boolean => atMs <= gap.untilMs;

const wireGap = (gap: HistoryGap): ananta.v1.HistoryGap.$Properties => ({ ...gap, fromMs: gap.fromMs ?? 0 });

function optionalAddress(text: string | null | undefined, field: string): IpAddress | null {
  return (text ?? "") === "" ? null : checkAddress(text, field);
}

function seconds(
  given: number | null | undefined,
  field: string,
  bounds: { readonly min: number; readonly max: number; readonly default: number },
): number {
  const value = given ?? 0;
  if (value === 0) return bounds.default;
  if (value >= bounds.min && value <= bounds.max) return value;
  throw new AnantaError("INVALID_ARGUMENT", `${field}: ${value} is not in ${bounds.min} to ${bounds.max}`);
}
