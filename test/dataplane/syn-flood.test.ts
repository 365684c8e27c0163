/**
 * A SYN flood on one VIP, eight MUXes, on virtual time. Each MUX holds tenants to their shares at once; two seconds later the
 * flooded VIP is withdrawn from all of them; other VIPs notice nothing. Without any of it the paper's cascade follows: a MUX
 * that forwards far beyond what it can starves its BGP session, routers give its share to the others, and they go as well.
 */
import { describe, expect, it } from "vitest";
import { parseIpv4 } from "../../core/address.js";
import type { DipId, IpAddress, LogIndex, PoolId, VipId } from "../../core/brands.js";
import type { MuxItem } from "../../dataplane/mux-items.js";
import { PacketBatch } from "../../dataplane/packet-batch.js";
import { RouterModel } from "../../fabric/router-model.js";
import { createMuxDataplane, type MuxDataplane } from "../../mux/dataplane/mux-dataplane.js";
import { Isolation } from "../../mux/fairness/isolation.js";
import { tcp } from "../packet/packet-kit.js";

const MUXES = 8;
/** Packets per second that a MUX can do; scaled down, so that the test is quick. */
const CAPACITY = 500;
const FLOOD = 16_000; // per second: four times what all MUXes can
const VICTIM = "203.0.113.10";
const OTHERS = ["203.0.113.11", "203.0.113.12", "203.0.113.13"];
const STEP_MS = 100;
/** A MUX that forwards this many times what it can for this long loses its BGP session. */
const STARVES = 1.5;
const STARVES_MS = 2_000;

const vips = [VICTIM, ...OTHERS];
const item = {
  vip: (address: string, i: number): MuxItem => ({
    kind: "vip",
    vipId: (i + 1) as VipId,
    address: address as IpAddress,
    announced: true,
  }),
  rule: (_: string, i: number): MuxItem => ({
    kind: "rule",
    vipId: (i + 1) as VipId,
    protocol: 6,
    port: 80,
    poolId: 1 as PoolId,
  }),
};
const items: readonly MuxItem[] = [
  { kind: "site", hashKey: Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7) },
  ...vips.map(item.vip),
  ...vips.map(item.rule),
  {
    kind: "pool",
    poolId: 1 as PoolId,
    maxMembers: 10,
    members: [1, 2, 3, 4].map((dipId) => ({ dipId: dipId as DipId, weight: 1 })),
  },
  ...[1, 2, 3, 4].map((dipId): MuxItem => ({
    kind: "dip",
    dipId: dipId as DipId,
    locator: `10.0.0.${dipId}` as IpAddress,
  })),
];

interface Member {
  readonly name: string;
  readonly mux: MuxDataplane;
  starvedMs: number;
  sentBefore: number;
  isDead: boolean;
}

class Site {
  readonly isolation = new Isolation();
  /** Segments of the other VIPs' connections that did not get through. */
  lostOfOthers = 0;
  withdrawnAtMs: number | null = null;
  restoredAtMs: number | null = null;
  nowMs = 1_000;
  readonly #protects: boolean;
  readonly #router = new RouterModel({ ecmp: "plain", hashSeed: 3, holdTimeMs: 1_000, routes: new Map() });
  readonly #members: Member[];
  #sequence = 1;
  #attacker = 0;
  readonly #batch = new PacketBatch();
  readonly #out = new PacketBatch();

  constructor(protects: boolean) {
    this.#protects = protects;
    this.#members = Array.from({ length: MUXES }, (_, i) => {
      const mux = createMuxDataplane({
        address: `192.0.2.${i + 1}` as IpAddress,
        packetsPerSecondMax: protects ? CAPACITY : 0,
        layout: {
          trustedFlows: 4_096,
          untrustedFlows: 2_048,
          vips: 16,
          members: 64,
          dips: 64,
          snatRanges: 16,
          nats: 16,
        },
        seed: i + 1,
      });
      expect(mux.tables.apply({ kind: "snapshot", items }, 1 as LogIndex)).toBe("in-force");
      return { name: `mux-${i + 1}`, mux, starvedMs: 0, sentBefore: 0, isDead: false };
    });
    this.#announce();
  }

  get dead(): number {
    return this.#members.filter(({ isDead }) => isDead).length;
  }

  #announce(): void {
    this.#sequence++;
    const withdrawn = new Set(this.isolation.withdrawn.map((id) => vips[id - 1]!));
    const addresses = vips.filter((vip) => !withdrawn.has(vip)).map((vip) => parseIpv4(vip)!);
    for (const { name, isDead } of this.#members) {
      const announcement = {
        mux: name,
        address: name,
        vips: isDead ? [] : addresses,
        holdTimeMs: 1_000,
        sequence: this.#sequence,
      };
      this.#router.announce(announcement, name, this.nowMs);
    }
  }

  #send(packet: Uint8Array): boolean {
    const port = this.#router.forward(packet);
    if (port === null) return false;
    const { mux } = this.#members.find(({ name }) => name === port.name)!;
    this.#batch.clear();
    this.#out.clear();
    this.#batch.append(packet);
    mux.process(this.#batch, this.nowMs, this.#out);
    return this.#out.count === 1;
  }

  /** One step of time: the flood if there is one, and three connections of each other VIP, two of which are old. */
  step(flood: number): void {
    this.nowMs += STEP_MS;
    for (let i = 0; i < (flood * STEP_MS) / 1_000; i++) {
      const n = this.#attacker++;
      this.#send(
        tcp(`100.${64 + ((n >> 16) & 63)}.${(n >> 8) & 255}.${n & 255}:${1_024 + (n % 60_000)}`, `${VICTIM}:80`, "S"),
      );
    }
    const second = Math.floor(this.nowMs / 1_000);
    for (const vip of OTHERS) {
      if (!this.#send(tcp(`198.51.100.1:40000`, `${vip}:80`, second === 1 ? "S" : "A"))) this.lostOfOthers++;
      if (!this.#send(tcp(`198.51.100.2:40000`, `${vip}:80`, second === 1 ? "S" : "A"))) this.lostOfOthers++;
      if (!this.#send(tcp(`198.51.100.3:${20_000 + (this.nowMs % 20_000)}`, `${vip}:80`, "S"))) this.lostOfOthers++;
    }
    for (const member of this.#members) {
      if (member.isDead) continue;
      member.mux.tick(this.nowMs, this.#out);
      const sent = member.mux.telemetry.counters().sent.packets;
      const perSecond = ((sent - member.sentBefore) * 1_000) / STEP_MS;
      member.sentBefore = sent;
      member.starvedMs = perSecond > CAPACITY * STARVES ? member.starvedMs + STEP_MS : 0;
      if (member.starvedMs <= STARVES_MS) continue;
      member.isDead = true;
      this.#announce();
    }
    if (!this.#protects || this.nowMs % 500 !== 0) return;
    const live = this.#members.filter(({ isDead }) => !isDead);
    const { withdraw, restore } = this.isolation.step(
      live.map(({ mux }) => mux.overload()),
      this.nowMs,
    );
    if (withdraw !== null) {
      expect(withdraw, "it is the flooded VIP").toBe(1);
      this.withdrawnAtMs ??= this.nowMs;
    }
    if (restore.length > 0) this.restoredAtMs ??= this.nowMs;
    if (withdraw !== null || restore.length > 0) this.#announce();
  }
}

describe("a SYN flood on one VIP", () => {
  it("is isolated within five seconds; other VIPs lose nothing, no MUX dies, and the VIP comes back", () => {
    const site = new Site(true);
    for (let i = 0; i < 20; i++) site.step(0);
    const beganAtMs = site.nowMs;
    for (let i = 0; i < 100; i++) site.step(FLOOD);
    expect(site.withdrawnAtMs).not.toBeNull();
    expect(site.withdrawnAtMs! - beganAtMs).toBeLessThanOrEqual(5_000);
    for (let i = 0; i < 700 && site.restoredAtMs === null; i++) site.step(0);
    expect(site.restoredAtMs).not.toBeNull();
    for (let i = 0; i < 20; i++) site.step(0);
    expect({ lostOfOthers: site.lostOfOthers, dead: site.dead, withdrawn: site.isolation.withdrawn }).toEqual({
      lostOfOthers: 0,
      dead: 0,
      withdrawn: [],
    });
    console.info(
      `flood isolated after ${site.withdrawnAtMs! - beganAtMs} ms, restored ${site.restoredAtMs! - site.withdrawnAtMs!} ms later, 0 segments of other VIPs lost`,
    );
  });

  // The control: it shows that the model can fail, and what the protection is for.
  it("kills one MUX after another where nobody drops or withdraws", () => {
    const site = new Site(false);
    for (let i = 0; i < 20; i++) site.step(0);
    for (let i = 0; i < 60; i++) site.step(FLOOD);
    expect(site.dead).toBe(MUXES);
    expect(site.lostOfOthers).toBeGreaterThan(0);
  });
});
