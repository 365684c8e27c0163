/**
 * The machines behind VIPs. A DIP is (tenant, address); its dense id is given at first mention, by a pool or by a host,
 * and belongs to that identity for ever: a DIP that goes and comes back is the same DIP.
 *
 * A DIP is *hosted* while a host runs it; it then has a locator, the outer address that reaches it, unique
 * in the site. It is *in use* while it is hosted, a pool names it, or it owns port ranges.
 */
import { familyOf } from "../../core/address.js";
import { assert } from "../../core/assert.js";
import type { DipId, HostId, IpAddress, PoolId } from "../../core/brands.js";
import { BeforeImages } from "./snapshot/before-images.js";
import type { Dip } from "./objects.js";

export interface DipRecord extends Dip {
  /** Null together with `locator`: no host runs it. */
  hostId: HostId | null;
  locator: IpAddress | null;
  /** Pools that name it in their spec or their active configuration. */
  readonly pools: Set<PoolId>;
}

interface Member {
  readonly dip: IpAddress;
}

interface MemberRecords {
  readonly tenant: string;
  readonly records: readonly DipRecord[];
}

export class DipTable {
  /** Position is dipId - 1. */
  private readonly records: DipRecord[] = [];
  private readonly byIdentity = new Map<string, DipRecord>();
  private readonly byAddress = new Map<IpAddress, DipRecord[]>();
  private readonly byLocator = new Map<IpAddress, DipRecord>();
  /** Of lists of members, which never change once they are stored: asked for with every change of a pool, or of a DIP in it. */
  private readonly ofMembers = new WeakMap<readonly Member[], MemberRecords>();
  private readonly images: BeforeImages;

  constructor(images = new BeforeImages()) {
    this.images = images;
  }

  get(id: DipId): DipRecord | null {
    return this.records[id - 1] ?? null;
  }

  /** For ids that were handed out by this table. */
  must(id: DipId): DipRecord {
    const record = this.records[id - 1];
    assert(record !== undefined, "a DIP id that is stored anywhere is known");
    return record;
  }

  find(tenant: string, address: IpAddress): DipRecord | null {
    return this.byIdentity.get(identity(tenant, address)) ?? null;
  }

  /** The record of (tenant, address), made now at its first mention. */
  mention(tenant: string, address: IpAddress): DipRecord {
    const existing = this.byIdentity.get(identity(tenant, address));
    if (existing !== undefined) return existing;
    const dipId = (this.records.length + 1) as DipId;
    const record: DipRecord = { dipId, tenant, address, hostId: null, locator: null, pools: new Set() };
    this.records.push(record);
    this.byIdentity.set(identity(tenant, address), record);
    const namesakes = this.byAddress.get(address);
    if (namesakes === undefined) this.byAddress.set(address, [record]);
    else namesakes.push(record);
    return record;
  }

  /** The records of a pool's members, in their order; made now where this is their first mention. */
  mentionAll(tenant: string, members: readonly Member[]): readonly DipRecord[] {
    const known = this.ofMembers.get(members);
    if (known?.tenant === tenant) return known.records;
    const records = members.map(({ dip }) => this.mention(tenant, dip));
    this.ofMembers.set(members, { tenant, records });
    return records;
  }

  /** As `mentionAll`, of members of which each was mentioned before: makes none. */
  mustAll(tenant: string, members: readonly Member[]): readonly DipRecord[] {
    const known = this.ofMembers.get(members);
    if (known?.tenant === tenant) return known.records;
    const isKnown = members.every(({ dip }) => this.byIdentity.has(identity(tenant, dip)));
    assert(isKnown, "members of a stored pool are known");
    return this.mentionAll(tenant, members);
  }

  /** DIPs of all tenants with this address, in order of id. */
  withAddress(address: IpAddress): readonly DipRecord[] {
    return this.byAddress.get(address) ?? [];
  }

  /** The DIP that is reached at this outer address. */
  atLocator(locator: IpAddress): DipRecord | null {
    return this.byLocator.get(locator) ?? null;
  }

  /** Gives the DIP a host and a locator, or takes both away. The locator must be free. */
  place(record: DipRecord, place: { readonly hostId: HostId; readonly locator: IpAddress } | null): void {
    this.images.keep(record, (before) => ({ ...before }));
    if (record.locator !== null) this.byLocator.delete(record.locator);
    record.hostId = place?.hostId ?? null;
    record.locator = place?.locator ?? null;
    if (record.locator === null) return;
    assert(!this.byLocator.has(record.locator), "a locator reaches one DIP");
    this.byLocator.set(record.locator, record);
  }

  /** One that is reached at an IPv6 locator, or null. */
  anyAtIpv6(): DipRecord | null {
    return this.records.find(({ locator }) => locator !== null && familyOf(locator) === "ipv6") ?? null;
  }

  /** In order of id. */
  all(): readonly DipRecord[] {
    return this.records;
  }
}

/** Tenants are labels without "/", so that two identities never give one text. */
const identity = (tenant: string, address: IpAddress): string => `${tenant}/${address}`;
