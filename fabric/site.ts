/**
 * [pure] The plan of the embedded site: who listens where, which addresses the machines have, and the configuration file of
 * every child process. All ports are offsets from one base, all addresses from the ranges for documentation and private use
 * (RFC 5737, RFC 1918, RFC 3849).
 *
 *     base + 1..5    managers, API        base + 11..15  managers, Raft      base + 21..25  managers, metrics and health
 *     base + 31..32  MUXes, packets       base + 41..42  MUXes, metrics
 *     base + 51..53  hosts, packets       base + 61..63  hosts, towards VMs  base + 71..73  hosts, metrics
 *     base + 80      router               base + 91..96  VMs         base + 97..99  VMs of IPv6
 */
import { type AddressFamily, familyOf } from "../core/address.js";
import type { IpAddress, Port } from "../core/brands.js";
import type { ApiObject } from "./control/manager-api.js";

export const PORT_BASE_DEFAULT = 7_400;
/** The highest offset from the base that is used. */
export const PORT_SPAN = 100;

export interface SitePlan {
  readonly managers: readonly {
    readonly nodeId: number;
    readonly name: string;
    readonly api: string;
    readonly raft: string;
    readonly ops: string;
  }[];
  readonly muxes: readonly {
    readonly name: string;
    /** Outer source of what it encapsulates. */
    readonly address: IpAddress;
    /** Left out: none. */
    readonly addressIpv6?: IpAddress;
    readonly wire: string;
    readonly ops: string;
  }[];
  readonly hosts: readonly {
    readonly name: string;
    readonly wire: string;
    readonly vmListen: string;
    readonly ops: string;
    readonly vms: readonly VmPlan[];
  }[];
  readonly router: string;
  /** External clients and servers. */
  readonly clients: readonly IpAddress[];
  readonly servers: readonly IpAddress[];
  /** Others, of IPv6. */
  readonly clientsIpv6: readonly IpAddress[];
  readonly serversIpv6: readonly IpAddress[];
}

export interface VmPlan {
  readonly dip: IpAddress;
  /** Where its host is found, an address of either family; left out: the DIP. */
  readonly locator?: IpAddress;
  /** Datagram address of its network card. */
  readonly nic: string;
}

export interface ChildPlan {
  readonly name: string;
  readonly role: "manager" | "mux" | "agent";
  /** Its main file, from the root of the build. */
  readonly program: string;
  readonly config: Readonly<Record<string, unknown>>;
}

/** What the servers of the site listen on. */
export const BACKEND_PORT = 8_080 as Port;
export const BACKEND_UDP_PORT = 5_353 as Port;
export const SERVER_PORT = 443 as Port;
/** Machines hash there what is sent to them. */
export const BULK_PORT = 9_000 as Port;

const DEMO_POOL = "demo-pool";
const IPV6_POOL = "demo-ipv6-pool";
export const DEMO_VIP = address("203.0.113.10");
/** In front of the machines of IPv6. */
export const IPV6_VIP = address("2001:db8:113::10");
/** Of the demo: what is sent there is hashed. */
export const BULK_VIP = address("203.0.113.12");
export const BULK_IPV6_VIP = address("2001:db8:113::12");

/** Of text in canonical form. */
function address(text: string): IpAddress {
  return text as IpAddress;
}

/** Family of the outer headers between MUXes and hosts. */
export type LocatorFamily = "ipv4" | "ipv6";

export interface PlanOptions {
  /** Default: "ipv4". */
  readonly locators?: LocatorFamily;
  /** Each host has a VM of IPv6, too. Default: none has. */
  readonly ipv6Machines?: boolean;
}

export function planSite(portBase: number, { locators = "ipv4", ipv6Machines = false }: PlanOptions = {}): SitePlan {
  const at = (offset: number): string => `127.0.0.1:${portBase + offset}`;
  const upTo = (count: number): readonly number[] => Array.from({ length: count }, (_, index) => index + 1);
  return {
    managers: upTo(5).map((n) => ({
      nodeId: n,
      name: `manager-${n}`,
      api: at(n),
      raft: at(10 + n),
      ops: at(20 + n),
    })),
    muxes: upTo(2).map((n) => ({
      name: `mux-${n}`,
      address: address(`10.255.0.${n}`),
      addressIpv6: address(`2001:db8:255::${n}`),
      wire: at(30 + n),
      ops: at(40 + n),
    })),
    hosts: upTo(3).map((n) => ({
      name: `host-${n}`,
      wire: at(50 + n),
      vmListen: at(60 + n),
      ops: at(70 + n),
      vms: upTo(ipv6Machines ? 3 : 2).map((vm) => ({
        dip: address(vm === 3 ? `fd00:1:${n}::1` : `10.1.${n}.${vm}`),
        locator: address(locators === "ipv6" ? `2001:db8:1:${n}::${vm}` : `10.1.${n}.${vm}`),
        nic: at(vm === 3 ? 96 + n : 90 + (n - 1) * 2 + vm),
      })),
    })),
    router: at(80),
    clients: upTo(20).map((n) => address(`198.51.100.${9 + n}`)),
    servers: upTo(2).map((n) => address(`192.0.2.${n}`)),
    clientsIpv6: upTo(6).map((n) => address(`2001:db8:51::${n}`)),
    serversIpv6: upTo(2).map((n) => address(`2001:db8:2::${n}`)),
  };
}

/** `bootstrap` only for the first start of an empty site: later an empty folder of a replica is a loss. */
export function childPlans(
  plan: SitePlan,
  site: { readonly clusterId: string; readonly dataFolder: string; readonly bootstrap: boolean },
): readonly ChildPlan[] {
  const { clusterId } = site;
  const managers = plan.managers.map((manager) => manager.api);
  const folder = (name: string): string => `${site.dataFolder}/${name}`;
  return [
    ...plan.managers.map(({ nodeId, name, ops }) => ({
      name,
      role: "manager" as const,
      program: "manager/main.js",
      config: {
        nodeId,
        clusterId,
        clusterEpoch: 1,
        dataFolder: folder(name),
        bootstrap: site.bootstrap,
        replicas: plan.managers.map((replica) => ({
          nodeId: replica.nodeId,
          raftAddress: replica.raft,
          apiAddress: replica.api,
        })),
        opsAddress: ops,
      },
    })),
    ...plan.muxes.map((mux) => ({
      name: mux.name,
      role: "mux" as const,
      program: "mux/main.js",
      config: {
        name: mux.name,
        clusterId,
        managers,
        address: mux.address,
        addressIpv6: mux.addressIpv6,
        io: { kind: "fabric", listen: mux.wire, router: plan.router },
        opsAddress: mux.ops,
      },
    })),
    ...plan.hosts.map((host) => ({
      name: host.name,
      role: "agent" as const,
      program: "agent/main.js",
      config: {
        name: host.name,
        clusterId,
        managers,
        dataFolder: folder(host.name),
        dips: host.vms.map(({ dip, locator, nic }) => ({ tenant: "default", address: dip, locator, nic })),
        io: { kind: "fabric", listen: host.wire, router: plan.router, vmListen: host.vmListen },
        opsAddress: host.ops,
      },
    })),
  ];
}

/** Every port of the plan, for a look before anything is started. */
export function portsOf(
  plan: SitePlan,
): readonly { readonly transport: "tcp" | "udp"; readonly address: string; readonly usedBy: string }[] {
  const tcp = (address: string, usedBy: string) => ({ transport: "tcp" as const, address, usedBy });
  const udp = (address: string, usedBy: string) => ({ transport: "udp" as const, address, usedBy });
  return [
    ...plan.managers.flatMap(({ name, api, raft, ops }) => [
      tcp(api, `${name}, API`),
      tcp(raft, `${name}, Raft`),
      tcp(ops, `${name}, metrics`),
    ]),
    ...plan.muxes.flatMap(({ name, wire, ops }) => [udp(wire, `${name}, packets`), tcp(ops, `${name}, metrics`)]),
    ...plan.hosts.flatMap(({ name, wire, vmListen, ops, vms }) => [
      udp(wire, `${name}, packets`),
      udp(vmListen, `${name}, its VMs`),
      tcp(ops, `${name}, metrics`),
      ...vms.map((vm) => udp(vm.nic, `VM ${vm.dip}`)),
    ]),
    udp(plan.router, "the router"),
  ];
}

/** VIPs of their own in front of the VMs of `exampleObjects`. */
export function bulkObjects(): readonly ApiObject[] {
  const bulk = (name: string, vip: IpAddress, pool: string): ApiObject => ({
    metadata: { tenant: "default", name },
    vip: {
      address: vip,
      rules: [{ name: "bulk", protocol: 6, port: BULK_PORT, pool, backendPort: BULK_PORT }],
    },
  });
  return [bulk("bulk", BULK_VIP, DEMO_POOL), bulk("bulk-ipv6", BULK_IPV6_VIP, IPV6_POOL)];
}

/** What a first start applies: a VIP of each family in front of all VMs of that family, for connections in both directions. */
export function exampleObjects(plan: SitePlan): readonly ApiObject[] {
  const dips = plan.hosts.flatMap((host) => host.vms.map((vm) => vm.dip));
  const of = (family: AddressFamily): readonly IpAddress[] => dips.filter((dip) => familyOf(dip) === family);
  return [
    ...service("demo", DEMO_VIP, DEMO_POOL, of("ipv4")),
    ...(of("ipv6").length === 0 ? [] : service("demo-ipv6", IPV6_VIP, IPV6_POOL, of("ipv6"))),
  ];
}

function service(name: string, vip: IpAddress, pool: string, dips: readonly IpAddress[]): readonly ApiObject[] {
  return [
    { metadata: { tenant: "default", name: pool }, backendPool: { members: dips.map((dip) => ({ dip })) } },
    {
      metadata: { tenant: "default", name },
      vip: {
        address: vip,
        rules: [
          { name: "http", protocol: 6, port: 80, pool, backendPort: BACKEND_PORT },
          { name: "dns", protocol: 17, port: 53, pool, backendPort: BACKEND_UDP_PORT },
        ],
        outbound: { pools: [pool] },
      },
    },
  ];
}
