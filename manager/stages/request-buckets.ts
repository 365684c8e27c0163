/**
 * [pure] How often SNAT ports may be asked for: a token bucket per DIP, and one per tenant if wanted. A DIP that asks in a tight loop
 * costs the cluster a durable write per request, whatever it is answered; the queue is fair between tenants, but a tenant's own
 * other DIPs wait behind it. An agent asks ahead of need, once in a second or so: it never comes near the limit.
 *
 * A bucket holds up to `burst` tokens and gains `perSecond`; a request takes one of its DIP and one of its tenant, or none. A
 * tenant's bucket is as large, and fills as fast, as its weight says. Buckets are the leader's own: a new leader begins with full ones.
 */
import type { DipId } from "../../core/brands.js";

export interface BucketRate {
  /** Requests per second in the long run; 0: no limit. */
  readonly perSecond: number;
  /** Requests at once after a rest, at least 1. */
  readonly burst: number;
}

export interface RequestRates {
  readonly dip: BucketRate;
  /** For weight 1. */
  readonly tenant: BucketRate;
}

/** One requester of a closed loop over unary calls stays below it; ten times what any data plane needs. */
export const REQUEST_RATES: RequestRates = {
  dip: { perSecond: 2_000, burst: 4_000 },
  tenant: { perSecond: 0, burst: 1 },
};

export interface Asker {
  readonly dipId: DipId;
  readonly tenant: string;
  /** Of the tenant, 1..1000. */
  readonly weight: number;
}

/** Whose bucket is empty, and when it has a token again. */
export interface RateExceeded {
  readonly by: "dip" | "tenant";
  readonly rate: BucketRate;
  readonly retryAfterMs: number;
}

interface Bucket {
  tokens: number;
  atMs: number;
  rate: BucketRate;
}

export class RequestBuckets {
  private readonly rates: RequestRates;
  private readonly dips = new Map<DipId, Bucket>();
  private readonly tenants = new Map<string, Bucket>();

  constructor(rates: RequestRates) {
    this.rates = rates;
  }

  /** Takes a token of each bucket, or of none and says why. */
  take({ dipId, tenant, weight }: Asker, nowMs: number): RateExceeded | null {
    const dip = filled(this.dips, dipId, this.rates.dip, nowMs);
    const { perSecond, burst } = this.rates.tenant;
    const ofTenant = filled(this.tenants, tenant, { perSecond: perSecond * weight, burst: burst * weight }, nowMs);
    if (dip !== null && dip.tokens < 1) return exceeded("dip", dip);
    if (ofTenant !== null && ofTenant.tokens < 1) return exceeded("tenant", ofTenant);
    if (dip !== null) dip.tokens -= 1;
    if (ofTenant !== null) ofTenant.tokens -= 1;
    return null;
  }

  /** Full buckets are as none: forgets them. */
  sweep(nowMs: number): void {
    for (const buckets of [this.dips, this.tenants] as readonly Map<unknown, Bucket>[]) {
      for (const [key, bucket] of buckets) {
        fill(bucket, nowMs);
        if (bucket.tokens >= bucket.rate.burst) buckets.delete(key);
      }
    }
  }

  get size(): number {
    return this.dips.size + this.tenants.size;
  }

  clear(): void {
    this.dips.clear();
    this.tenants.clear();
  }
}

/** Null: no limit. */
function filled<Key>(buckets: Map<Key, Bucket>, key: Key, rate: BucketRate, nowMs: number): Bucket | null {
  if (rate.perSecond === 0) return null;
  let bucket = buckets.get(key);
  if (bucket === undefined) {
    bucket = { tokens: rate.burst, atMs: nowMs, rate };
    buckets.set(key, bucket);
  }
  fill(bucket, nowMs);
  bucket.rate = rate; // a tenant's weight may have changed
  return bucket;
}

function fill(bucket: Bucket, nowMs: number): void {
  const { perSecond, burst } = bucket.rate;
  bucket.tokens = Math.min(burst, bucket.tokens + (Math.max(0, nowMs - bucket.atMs) * perSecond) / 1_000);
  bucket.atMs = nowMs;
}

const exceeded = (by: RateExceeded["by"], { tokens, rate }: Bucket): RateExceeded => ({
  by,
  rate,
  retryAfterMs: Math.max(1, Math.ceil(((1 - tokens) * 1_000) / rate.perSecond)),
});
