/** Section "When a host or a MUX starts" of docs/configuration.md: settings of agents, MUXes and third-party clients that do not fit. */
import type { IpAddress } from "../../../core/brands.js";
import type { Command, JoinMuxCommand, RegisterHostCommand } from "../../../manager/state/commands/commands.js";
import { DIPS_MAX } from "../../../manager/state/apply/limits.js";
import { LARGE, type Site, pool, smallSite, vip } from "../state/fixture.js";
import { provokeAll } from "./document.js";

type Dip = readonly [address: string, locator?: string];

const host = (name: string, ...dips: readonly Dip[]): RegisterHostCommand => ({
  kind: "register-host",
  name,
  bootId: `boot of ${name}`,
  dips: dips.map(([address, locator = address]) => ({
    tenant: "default",
    address: address as IpAddress,
    locator: locator as IpAddress,
  })),
  heldRanges: [],
});
const mux = (address: string, more: Partial<JoinMuxCommand> = {}): JoinMuxCommand => ({
  kind: "join-mux",
  name: "mux-9",
  bootId: "boot of mux-9",
  address: address as IpAddress,
  capacity: LARGE,
  ...more,
});

/** On a small site: host-1 runs 10.0.0.1 and 10.0.0.2, mux-1 is at 192.0.2.1, VIP web at 198.51.100.1. */
const provocations: Readonly<Record<string, (site: Site) => Command>> = {
  "host host-9 lists DIP default/10.0.0.9 twice": () => host("host-9", ["10.0.0.9"], ["10.0.0.9", "172.16.0.1"]),
  "host host-9 gives locator 172.16.0.1 to two DIPs: default/10.0.0.8 and default/10.0.0.9": () =>
    host("host-9", ["10.0.0.8", "172.16.0.1"], ["10.0.0.9", "172.16.0.1"]),
  "DIP default/10.0.0.1 is registered by host host-1": () => host("host-9", ["10.0.0.1", "172.16.0.1"]),
  "locator 10.0.0.1 of DIP default/10.0.0.9 already reaches DIP default/10.0.0.1 of host host-1": () =>
    host("host-9", ["10.0.0.9", "10.0.0.1"]),
  "locator 192.0.2.1 of DIP default/10.0.0.9 is the outer address of MUX mux-1": () =>
    host("host-9", ["10.0.0.9", "192.0.2.1"]),
  "locator 2001:db8::9 of DIP default/10.0.0.9 is an IPv6 address, and the live MUX mux-1 has none to reach it from":
    () => host("host-9", ["10.0.0.9", "2001:db8::9"]),
  "198.51.100.1 of DIP default/10.0.0.9 is the address of VIP default/web": () =>
    host("host-9", ["10.0.0.9", "198.51.100.1"]),
  "host host-9 brings 1 new DIPs; a site holds at most 131072": (site) => {
    const dips = Array.from(
      { length: DIPS_MAX - 2 },
      (_, at) => `10.${16 + (at >> 16)}.${(at >> 8) & 255}.${at & 255}`,
    );
    const pools = Array.from({ length: Math.ceil(dips.length / 655) }, (_, at) =>
      pool(`p${at}`, dips.slice(at * 655, (at + 1) * 655), { maxMembers: 655 }),
    );
    site.applyObjects(...pools);
    return host("host-9", ["10.0.0.9"]);
  },
  "outer address 192.0.2.1 belongs to the live MUX mux-1": () => mux("192.0.2.1"),
  "outer address 198.51.100.1 is the VIP default/web": () => mux("198.51.100.1"),
  "outer address 10.0.0.1 is the locator of DIP default/10.0.0.1": () => mux("10.0.0.1"),
  "MUX mux-9 forwards IPv4 only, and VIP 2001:db8::1 is an IPv6 address": (site) => {
    site.configure(vip("six", "2001:db8::1"));
    return mux("192.0.2.9", { capacity: { rules: 10, snatRanges: 10_000 } });
  },
  'MUX mux-9 has no IPv6 address, and DIP default/10.0.0.9 is reached at the IPv6 locator 2001:db8::9; give the MUX an "addressIpv6"':
    (site) => {
      site.ok("none", { kind: "leave-mux", muxId: 1 as never, incarnation: 1 });
      site.ok("host-registered", host("host-9", ["10.0.0.9", "2001:db8::9"]));
      return mux("192.0.2.9");
    },
};

provokeAll("When a host or a MUX starts", provocations, (provoke) => {
  const site = smallSite();
  return [site.refused(provoke(site)).message];
});
