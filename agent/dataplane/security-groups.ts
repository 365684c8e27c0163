/**
 * Security groups: which new flows a machine may have. Asked once per flow; what was let through has an entry, and packets
 * of entries are not asked about again: so answers pass, and a change of rules holds for new flows (stateful, as in NSGs).
 *
 *     rules of all groups that are named, by priority: the first that matches decides; none: denied
 *
 *  (G1) A direction for which no rule of any named group exists is open: a group of inbound rules does not cut off what
 *       the machine itself begins.
 *  (G2) A named group that is not known (yet) denies: nothing passes because its rules came late.
 */
import type { HostGroupItem, SecurityRuleItem } from "../../dataplane/host-items.js";
import type { Addresses } from "./addresses.js";
import { isInPrefix, parsePrefix } from "./prefix-list.js";

export type SecurityDirection = SecurityRuleItem["direction"];

/** A new flow, as the machine sees it. */
export interface NewFlow {
  readonly direction: SecurityDirection;
  /** IANA number. */
  readonly protocol: number;
  /** Of the side that is asked: the machine's port inbound, the remote's port outbound; 0 for ICMP. */
  readonly port: number;
  /** Address of the other end, see `addresses.ts`. */
  readonly peer: number;
  /** Groups of the VIP that it came through. */
  readonly through: readonly string[];
  readonly isProbe: boolean;
}

interface Rule {
  readonly direction: SecurityDirection;
  /** 0: all. */
  readonly protocol: number;
  readonly ports: readonly (readonly [number, number])[];
  readonly matchesPeer: (flow: NewFlow) => boolean;
  readonly allows: boolean;
  readonly priority: number;
}

const PROTOCOLS = { tcp: 6, udp: 17, icmp: 1, all: 0 } as const;
const ICMPV6 = 58;

export class SecurityGroups {
  readonly #addresses: Addresses;
  readonly #groups = new Map<string, readonly Rule[]>();
  /** Merged rules by the names they came from; emptied when a group changes. */
  readonly #merged = new Map<string, readonly Rule[] | null>();

  constructor(addresses: Addresses) {
    this.#addresses = addresses;
  }

  put(item: HostGroupItem): void {
    this.#groups.set(
      item.group,
      item.rules.map((rule) => compile(rule, this.#addresses)),
    );
    this.#merged.clear();
  }

  remove(item: HostGroupItem): void {
    this.#groups.delete(item.group);
    this.#merged.clear();
  }

  /** `named`: groups that guard; none: everything passes. */
  allows(named: readonly string[], flow: NewFlow): boolean {
    if (named.length === 0) return true;
    const rules = this.#rulesOf(named);
    if (rules === null) return false; // (G2)
    let guarded = false;
    for (const rule of rules) {
      if (rule.direction !== flow.direction) continue;
      guarded = true;
      if (matches(rule, flow)) return rule.allows;
    }
    return !guarded; // (G1)
  }

  #rulesOf(named: readonly string[]): readonly Rule[] | null {
    const key = named.join(" ");
    let rules = this.#merged.get(key);
    if (rules === undefined) {
      const groups = named.map((name) => this.#groups.get(name));
      const known = groups.filter((group) => group !== undefined);
      rules =
        known.length < groups.length
          ? null
          : known.flat().sort((a, b) => a.priority - b.priority || Number(a.allows) - Number(b.allows)); // of equals, deny first
      this.#merged.set(key, rules);
    }
    return rules;
  }
}

function matches(rule: Rule, flow: NewFlow): boolean {
  const protocol = flow.protocol === ICMPV6 ? PROTOCOLS.icmp : flow.protocol;
  if (rule.protocol !== 0 && rule.protocol !== protocol) return false;
  if (rule.ports.length > 0 && !rule.ports.some(([low, high]) => flow.port >= low && flow.port <= high)) return false;
  return rule.matchesPeer(flow);
}

function compile(rule: SecurityRuleItem, addresses: Addresses): Rule {
  return {
    direction: rule.direction,
    protocol: PROTOCOLS[rule.protocol],
    ports: rule.ports.map((text) => {
      const [low = "", high = low] = text.split("-");
      return [Number(low), Number(high)] as const;
    }),
    matchesPeer: peerMatcher(rule.peer, addresses),
    allows: rule.action === "allow",
    priority: rule.priority,
  };
}

function peerMatcher(peer: string, addresses: Addresses): (flow: NewFlow) => boolean {
  if (peer === "probe") return ({ isProbe }) => isProbe;
  if (peer.startsWith("sg:")) {
    const group = peer.slice("sg:".length);
    return ({ through }) => through.includes(group);
  }
  const prefix = parsePrefix(peer);
  // Probes come from the host, which is in nobody's network.
  return ({ peer: address, isProbe }) => prefix !== null && !isProbe && isInPrefix(prefix, addresses, address);
}
