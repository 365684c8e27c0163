/** Items of the projections in the wire's form. The only place in the Manager that knows both. */
import { assertNever } from "../../core/assert.js";
import type { LogIndex } from "../../core/brands.js";
import { hostItemKey, type HostChange, type HostItem } from "../../dataplane/host-items.js";
import { muxItemKey, type MuxChange, type MuxItem } from "../../dataplane/mux-items.js";
import type { ananta } from "../../proto/gen/wire.js";
import { itemBytes } from "../state/views/item-bytes.js";

export type WireUpdate = ananta.v1.ProjectionUpdate.$Properties;

export function wireMuxItem(item: MuxItem): ananta.v1.MuxItem.$Properties {
  switch (item.kind) {
    case "vip":
      return {
        vip: { vipId: item.vipId, address: item.address, announced: item.announced, weight: item.weight ?? 0 },
      };
    case "rule":
      return {
        rule: {
          vipId: item.vipId,
          protocol: item.protocol,
          port: item.port,
          poolId: item.poolId,
          distribution: item.distribution ?? 0,
          idleTimeoutMs: item.idleTimeoutMs ?? 0,
          noFastpath: item.fastpath === false,
        },
      };
    case "nat":
      return { nat: { vipId: item.vipId, protocol: item.protocol, port: item.port, dipId: item.dipId } };
    case "pool":
      return {
        pool: {
          poolId: item.poolId,
          maxMembers: item.maxMembers,
          members: item.members.map(({ dipId, weight, state, backup }) => {
            return { dipId, weight, state: state ?? 0, backup: backup ?? false };
          }),
          failoverPermille: item.failoverPermille ?? 0,
          failOpen: item.failOpen ?? false,
          resetOnProbeDown: item.resetOnProbeDown ?? false,
        },
      };
    case "dip":
      return { dip: { dipId: item.dipId, locator: item.locator, hostId: item.hostId ?? 0 } };
    case "snat":
      return { snat: { vipId: item.vipId, protocol: item.protocol, range: item.range, dipId: item.dipId } };
    case "mux":
      return {
        mux: {
          muxId: item.muxId,
          name: item.name,
          incarnation: item.incarnation,
          address: item.address,
          bootId: item.bootId,
          joinedIndex: item.joinedIndex,
          drained: item.drained ?? false,
        },
      };
    case "site":
      return { site: { hashKey: item.hashKey, muxKey: item.muxKey ?? new Uint8Array(0) } };
    default:
      return assertNever(item);
  }
}

export function wireHostItem(item: HostItem): ananta.v1.HostItem.$Properties {
  switch (item.kind) {
    case "dip":
      return { dip: { ...withoutKind(item), groups: [...(item.groups ?? [])] } };
    case "endpoint":
      return { endpoint: { ...withoutKind(item), groups: [...(item.groups ?? [])] } };
    case "outbound":
      return { outbound: withoutKind(item) };
    case "probe":
      return { probe: { ...withoutKind(item), expectedStatus: [...(item.expectedStatus ?? [])] } };
    case "group":
      return {
        group: { group: item.group, rules: item.rules.map((rule) => ({ ...rule, ports: [...rule.ports] })) },
      };
    case "range":
      return {
        range: { vipId: item.vipId, vip: item.vip, protocol: item.protocol, range: item.range, dipId: item.dipId },
      };
    case "recall":
      return { recall: { ...withoutKind(item), ranges: [...item.ranges] } };
    case "mux":
      return { mux: withoutKind(item) };
    case "internal":
      return { internal: withoutKind(item) };
    case "rule":
      return { rule: withoutKind(item) };
    case "table":
      return { table: { ...withoutKind(item), members: item.members.map(({ dipId, weight }) => ({ dipId, weight })) } };
    case "owner":
      return { owner: withoutKind(item) };
    case "site":
      return { site: { hashKey: item.hashKey } };
    default:
      return assertNever(item);
  }
}

/** Names on the wire are those of the item; the kind is the name of the case. */
function withoutKind<Item extends { readonly kind: string }>({ kind: _, ...fields }: Item): Omit<Item, "kind"> {
  return fields;
}

/** How one scope's changes and items become messages. */
export interface ScopeCodec<Item, Change> {
  readonly key: (item: Item) => string;
  /** On the wire, about; never less than it takes. */
  readonly bytes: (item: Item) => number;
  readonly put: (update: WireUpdate, items: readonly Item[]) => WireUpdate;
  readonly changed: (change: Change) => { readonly key: string; readonly item: Item | null };
}

export const MUX_SCOPE: ScopeCodec<MuxItem, MuxChange> = {
  key: muxItemKey,
  bytes: itemBytes,
  put: (update, items) => ({ ...update, muxItems: items.map(wireMuxItem) }),
  changed: (change) =>
    change.op === "upsert" ? { key: muxItemKey(change.item), item: change.item } : { key: change.key, item: null },
};

export const HOST_SCOPE: ScopeCodec<HostItem, HostChange> = {
  key: hostItemKey,
  bytes: itemBytes,
  put: (update, items) => ({ ...update, hostItems: items.map(wireHostItem) }),
  changed: (change) =>
    change.op === "upsert" ? { key: hostItemKey(change.item), item: change.item } : { key: change.key, item: null },
};

/** Changes of several entries as one: the last one of a key counts. */
export interface FoldedChanges<Item> {
  readonly items: readonly Item[];
  readonly removedKeys: readonly string[];
  /** Of the message, about; never less than it takes. */
  readonly bytes: number;
}

export function foldChanges<Item, Change>(
  codec: ScopeCodec<Item, Change>,
  changes: readonly Change[],
): FoldedChanges<Item> {
  const folded = new Map<string, Item | null>();
  for (const change of changes) {
    const { key, item } = codec.changed(change);
    folded.set(key, item);
  }
  const items: Item[] = [];
  const removedKeys: string[] = [];
  let bytes = UPDATE_BYTES;
  for (const [key, item] of folded) {
    bytes += item === null ? KEY_BYTES + key.length * 3 : codec.bytes(item);
    if (item === null) removedKeys.push(key);
    else items.push(item);
  }
  return { items, removedKeys, bytes };
}

/** Of an update without items: its position, its digest. */
const UPDATE_BYTES = 100;
/** Tag and length of a key. */
const KEY_BYTES = 4;

/** One delta message. */
export function deltaUpdate<Item, Change>(
  codec: ScopeCodec<Item, Change>,
  { items, removedKeys }: FoldedChanges<Item>,
  at: { readonly clusterEpoch: number; readonly index: LogIndex; readonly digest: string },
): WireUpdate {
  const { clusterEpoch, index, digest } = at;
  return codec.put({ clusterEpoch, index, snapshot: false, last: true, removedKeys: [...removedKeys], digest }, items);
}

/** One part of a whole view. The last one has the digest of the whole. */
export function viewUpdate<Item, Change>(
  codec: ScopeCodec<Item, Change>,
  items: readonly Item[],
  at: { readonly clusterEpoch: number; readonly index: LogIndex; readonly digest: string },
): WireUpdate {
  const { clusterEpoch, index, digest } = at;
  return codec.put({ clusterEpoch, index, snapshot: true, last: digest !== "", digest }, items);
}
