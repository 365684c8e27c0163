/** The configuration of a large site: 20,000 endpoints on 2,000 VIPs, 100,000 DIPs in 1,000 pools on 2,000 hosts. */
import type { ApiObject } from "../../fabric/control/manager-api.js";
import { ananta } from "../../proto/gen/wire.js";

export interface SiteSize {
  readonly hosts: number;
  readonly dipsPerHost: number;
}

const DIPS_PER_POOL = 100;
const VIPS_PER_POOL = 2;
const RULES_PER_VIP = 10;
const HOSTS_PER_GROUP = 20;
const POOLS_PER_TENANT = 20;
/** An operator's file: these pools and their VIPs. */
const POOLS_PER_REQUEST = 5;
/** Two ranges for each DIP. */
export const PORTS_PER_DIP = 16;

export const dipsOf = (size: SiteSize): number => size.hosts * size.dipsPerHost;
export const poolsOf = (size: SiteSize): number => Math.ceil(dipsOf(size) / DIPS_PER_POOL);
export const vipsOf = (size: SiteSize): number => poolsOf(size) * VIPS_PER_POOL;
export const endpointsOf = (size: SiteSize): number => vipsOf(size) * RULES_PER_VIP;
export const portsOf = (size: SiteSize): number => dipsOf(size) * PORTS_PER_DIP;

/** Of the DIP by number, counted over all hosts. */
export const dipAddress = (number: number): string => `10.${1 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`;
/** Numbers of a host's DIPs: 20 hosts share their pools, so that a pool's members are on many hosts and a host's DIPs in several pools. */
export function dipsOfHost(size: SiteSize, host: number): readonly number[] {
  const first = host - (host % HOSTS_PER_GROUP);
  const hosts = Math.min(HOSTS_PER_GROUP, size.hosts - first);
  return Array.from({ length: size.dipsPerHost }, (_, at) => first * size.dipsPerHost + at * hosts + (host - first));
}
export const tenantOfDip = (number: number): string => tenantOfPool(Math.floor(number / DIPS_PER_POOL));

const tenantOfPool = (pool: number): string => `tenant-${Math.floor(pool / POOLS_PER_TENANT)}`;

/** All objects, in requests that are applied one after the other: what is named before what names it. */
export function siteObjects(size: SiteSize): readonly (readonly ApiObject[])[] {
  const requests: ApiObject[][] = [];
  for (let first = 0; first < poolsOf(size); first += POOLS_PER_REQUEST) {
    const pools = Array.from({ length: Math.min(POOLS_PER_REQUEST, poolsOf(size) - first) }, (_, at) => first + at);
    requests.push([...pools.map((pool) => poolObject(size, pool)), ...pools.flatMap(vipObjects)]);
  }
  return requests;
}

function poolObject(size: SiteSize, pool: number): ApiObject {
  const first = pool * DIPS_PER_POOL;
  const members = Array.from({ length: Math.min(DIPS_PER_POOL, dipsOf(size) - first) }, (_, at) => ({
    dip: dipAddress(first + at),
  }));
  return {
    metadata: { tenant: tenantOfPool(pool), name: `pool-${pool}` },
    backendPool: { members, maxMembers: DIPS_PER_POOL },
  };
}

function vipObjects(pool: number): readonly ApiObject[] {
  return Array.from({ length: VIPS_PER_POOL }, (_, at) => {
    const number = pool * VIPS_PER_POOL + at;
    return {
      metadata: { tenant: tenantOfPool(pool), name: `vip-${number}` },
      vip: {
        address: `203.${number >> 8}.${number & 255}.1`,
        rules: Array.from({ length: RULES_PER_VIP }, (__, rule) => ({
          name: `rule-${rule}`,
          protocol: ananta.v1.RuleProtocol.RULE_PROTOCOL_TCP,
          port: 80 + rule,
          pool: `pool-${pool}`,
          backendPort: 8_080 + rule,
        })),
        outbound: { pools: [`pool-${pool}`], maxPorts: 4_096 },
      },
    };
  });
}
