/**
 * Builds the replicated state machine. The order of one entry: cluster time moves on; sessions and quarantines that are
 * over end; then the commands, in order. Nothing else ever changes the state.
 */
import { assert } from "../../core/assert.js";
import type { LogIndex, PoolId, VipId } from "../../core/brands.js";
import { type ApplyContext } from "./apply/outcome.js";
import { applySubmitted } from "./apply/index.js";
import { endDrains } from "./apply/drains.js";
import { checkObjectCommand } from "./apply/objects.js";
import { settling } from "./apply/settle.js";
import { endClaims } from "./apply/claims.js";
import { endWithdrawals } from "./apply/withdrawals.js";
import { COMMAND_FORMAT_VERSION, type Command, type CommandBatch } from "./commands/commands.js";
import { hostsOf } from "./configuration.js";
import { lentPorts } from "./snat/lent-ports.js";
import type { ObjectRef } from "./objects.js";
import { poolItems, vipItems } from "./views/item-sources.js";
import { byNumber } from "./order.js";
import { QUARANTINE_MS, type Quarantine } from "./snat/quarantine.js";
import type { AppliedBatch, CommandResult } from "./commands/results.js";
import { readSnapshot } from "./snapshot/snapshot-reader.js";
import { StateCapture, writeSnapshot } from "./snapshot/snapshot-writer.js";
import { listBlocks, listContests, listPage, listUsage, usageOf } from "./snat/listing.js";
import { sharePage } from "./snat/share-listing.js";
import { digestOfBytes } from "./snapshot/state-digest.js";
import type { StateMachine } from "./state-machine.js";
import { type State, createState } from "./state.js";
import { isPool, isVip } from "./vip-map.js";

/** The state machine, and its parts for the invariant checker. */
export interface InspectableStateMachine extends StateMachine {
  /** For reading only. Replaced by `restore`. */
  inspect(): State;
}

export function createStateMachine(): InspectableStateMachine {
  let state = createState();
  /** An entry's commands are applied and its views follow: this has the rest done now. */
  let finish: (() => void) | null = null;
  const whole = (): State => {
    finish?.();
    assert(finish === null, "who asks for whole views gets them");
    return state;
  };
  let pending: { readonly state: State; readonly index: LogIndex; readonly value: Pending } | null = null;
  return {
    get appliedIndex() {
      return state.appliedIndex;
    },
    get clusterTimeMs() {
      return state.time.nowMs;
    },
    get clusterEpoch() {
      return state.site?.clusterEpoch ?? 0;
    },
    get site() {
      return state.site;
    },
    get isWhole() {
      return finish === null;
    },
    apply(batch, index) {
      const steps = this.applying(batch, index, () => undefined);
      for (;;) {
        const step = steps.next();
        if (step.done === true) return step.value;
      }
    },
    *applying(batch, index, finishNow) {
      assert(finish === null, "one entry after the other");
      finish = finishNow;
      try {
        return yield* applyBatch(state, batch, index);
      } finally {
        finish = null;
      }
    },
    check(command) {
      if (command.kind !== "apply-objects" && command.kind !== "delete-objects") return null;
      return checkObjectCommand({ state, index: state.appliedIndex, nowMs: state.time.nowMs }, command);
    },
    capture: () => new StateCapture(whole()),
    snapshot: () => writeSnapshot(new StateCapture(whole())),
    restore(chunks, index) {
      const steps = this.restoring(chunks, index);
      while (steps.next().done !== true) continue;
    },
    *restoring(chunks, index) {
      assert(finish === null, "a restore follows a whole entry");
      const restored = yield* readSnapshot(chunks);
      assert(restored.appliedIndex <= index, "a snapshot holds nothing beyond the index it is stored under");
      state = restored;
    },
    digest: () => digestOfBytes(writeSnapshot(new StateCapture(whole()))),
    muxItems: () => whole().projection.muxItems(),
    muxDigest: () => whole().projection.muxDigest(),
    captureMuxView() {
      const { projection, appliedIndex, images } = whole();
      return projection.captureMux(appliedIndex, images);
    },
    captureHostView(host) {
      const { projection, appliedIndex } = whole();
      return projection.captureHost(host, appliedIndex);
    },
    knownMuxDigest: () => whole().projection.knownMuxDigest(),
    hostItems: (host) => whole().projection.hostItems(host),
    hostDigest: (host) => whole().projection.hostDigest(host),
    object: (ref) => state.objects.get(ref),
    objects: (kind, tenant) => state.objects.list(kind, tenant),
    get vipCount() {
      return state.objects.vipCount;
    },
    vip: (id) => state.objects.vipById(id),
    hosts: () => state.hosts.all(),
    host: (id) => state.hosts.get(id),
    hostByName: (name) => state.hosts.named(name),
    dip: (id) => state.dips.get(id),
    dipAt: (tenant, address) => state.dips.find(tenant, address),
    dipAtLocator: (locator) => state.dips.atLocator(locator),
    muxItemsOf: (ref) => {
      const object = state.objects.get(ref);
      if (object === null) return [];
      return isVip(object) ? vipItems(state, object) : isPool(object) ? poolItems(state, object) : [];
    },
    objectsOfMuxKeys: (keys) => objectsOfMuxKeys(state, keys),
    memberHealth: (pool, dip) => state.health.get(pool, dip),
    drainsOf: (pool) => state.drains.ofPool(pool),
    get withdrawnVips() {
      return state.withdrawals.count;
    },
    withdrawal: (vip) => state.withdrawals.get(vip),
    overloadBackoff: (vip) => state.backoffs.get(vip),
    muxes: () => state.muxes.all(),
    replicas: () => [...state.replicas.values()].sort((a, b) => a.nodeId - b.nodeId),
    unsettledEpoch: () => state.epoch.unsettled(state.site?.clusterEpoch ?? 0),
    fence: (host) => state.fences.get(host) ?? null,
    snatBlocks: (filter) => listBlocks(state, filter),
    snatPage: (filter, after) => listPage(state, filter, after),
    lentPorts: (spec, most) => lentPorts(state, spec, most),
    snatShares: (filter, after) => sharePage(state, filter, after),
    snatContests: () => listContests(state),
    snatUsage: () => listUsage(state),
    snatUsageOf: (vip) => usageOf(state, vip),
    // Asked with every acknowledgement of a host, and a walk over all members of what is pending: found out once per entry.
    pendingActivation() {
      if (pending?.state !== state || pending.index !== state.appliedIndex)
        pending = { state, index: state.appliedIndex, value: pendingActivation(state) };
      return pending.value;
    },
    nextTickDueMs: (muxSafeIndex) => nextTickDueMs(state, muxSafeIndex),
    verdictOn: (origin) => state.sessions.verdictOn(origin),
    tenantWeight: (tenant) => state.objects.tenantSpec(tenant).weight,
    hasSession: (session) => state.sessions.has(session),
    inspect: () => state,
  };
}

/** Commands that are applied in one step: of those that take long one, of others (grants, returns) some 50 us each. */
const COMMANDS_PER_STEP = 64;

const isLong = ({ kind }: Command): boolean =>
  kind === "register-host" || kind === "apply-objects" || kind === "delete-objects" || kind === "activate";

/** First the commands, then the views that follow from them, and then the entry counts as applied. A command is never halved. */
function* applyBatch(state: State, batch: CommandBatch, index: LogIndex): Generator<void, AppliedBatch> {
  assert(index > state.appliedIndex, "entries are applied once and in order");
  assert(batch.formatVersion === COMMAND_FORMAT_VERSION, "a batch is of the format that this program knows");
  state.time.advanceTo(batch.clusterTimeMs);
  const nowMs = state.time.nowMs;
  state.sessions.expire(nowMs);
  state.epoch.advance(nowMs);
  for (const quarantine of state.snat.endQuarantines(nowMs, batch.muxSafeIndex, state.muxes.everJoined))
    quarantineEnded(state, quarantine);
  endWithdrawals(state, nowMs);
  state.backoffs.forget(nowMs);
  endDrains(state, nowMs);
  endClaims(state, nowMs);
  const context: ApplyContext = { state, index, nowMs };
  const results: CommandResult[] = [];
  for (const [at, submitted] of batch.commands.entries()) {
    if (at > 0 && (isLong(submitted.command) || at % COMMANDS_PER_STEP === 0)) yield;
    results.push(applySubmitted(context, submitted));
  }
  // Once: hosts that register together mostly have members in the same pools.
  yield* settling(state);
  state.appliedIndex = index;
  return { index, results, ...state.projection.takeChanges(), ended: state.snat.takeEnded() };
}

/** A rule may have waited for the ranges: MUXes get it now. */
function quarantineEnded(state: State, { space, range, count }: Quarantine): void {
  const vip = state.objects.vipAt(space.vip);
  if (vip === null) {
    state.snat.closeIfEmpty(space.vip);
    return;
  }
  for (let at = range; at < range + count; at++) {
    if (!space.isWanted(at)) continue;
    state.projection.vipChanged(vip.vipId);
    return;
  }
}

/** "vip/3", "rule/3/6/80", "nat/3/6/50001" and "pool/2"; see `muxItemKey`. */
function objectsOfMuxKeys({ objects }: State, keys: Iterable<string>): readonly ObjectRef[] {
  const vips = new Set<VipId>();
  const pools = new Set<PoolId>();
  for (const key of keys) {
    const [kind = "", id = ""] = key.split("/", 2);
    if (kind === "pool") pools.add(Number(id) as PoolId);
    else if (kind === "vip" || kind === "rule" || kind === "nat") vips.add(Number(id) as VipId);
  }
  return [
    ...[...vips].flatMap((id) => objects.vipById(id)?.ref ?? []),
    ...[...pools].flatMap((id) => objects.poolById(id)?.ref ?? []),
  ];
}

type Pending = ReturnType<StateMachine["pendingActivation"]>;

function pendingActivation(state: State): Pending {
  const pending = state.objects.pendingObjects();
  if (pending.length === 0) return null;
  const hosts = new Set(pending.flatMap((object) => hostsOf(state, object)));
  const indexes = pending.map((object) => object.updatedIndex);
  const fromIndex = Math.min(...indexes) as LogIndex;
  const upToIndex = Math.max(...indexes) as LogIndex;
  return { fromIndex, upToIndex, hosts: [...hosts].sort(byNumber) };
}

function nextTickDueMs(state: State, muxSafeIndex: LogIndex | undefined): number | null {
  const resting = state.snat.quarantines.peek();
  const mayEnd =
    resting !== null && (muxSafeIndex === undefined || !state.muxes.everJoined || muxSafeIndex >= resting.releaseIndex);
  const due = Math.min(
    mayEnd ? resting.releasedAtMs + QUARANTINE_MS : Infinity,
    state.sessions.nextExpiryMs() ?? Infinity,
    state.withdrawals.nextEndMs() ?? Infinity,
    state.backoffs.nextMs() ?? Infinity,
    state.drains.nextDueMs() ?? Infinity,
    state.snat.nextClaimEndMs() ?? Infinity,
  );
  return due === Infinity ? null : due;
}
