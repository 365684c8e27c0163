/** What is remembered of paths to hosts: bounded, believed only about what was sent, and for ten minutes. */
import { describe, expect, it } from "vitest";
import { createRandom } from "../../core/random.js";
import { DROP } from "../../dataplane/drop-reasons.js";
import { PathMtus } from "../../dataplane/path-mtu.js";
import { addressWords } from "../../packet/address-words.js";
import { createPacketHeader } from "../../packet/header.js";
import { parseIpPacket } from "../../packet/parse.js";
import { packetOf } from "../packet/fixtures/notation.js";
import { SEED } from "../packet/packet-kit.js";

const FABRIC = 1_500;
const host = (n: number): string => `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`;
const words = (address: string): Int32Array => addressWords(address)!;

/** A router's "too big" about a packet of so many bytes, and what becomes of it. */
function told(paths: PathMtus, to: string, sentBytes: number, mtu: number, nowMs: number): number {
  const inner = `udp 198.51.100.7:4 > 203.0.113.10:53 data=${sentBytes - 48}`;
  const bytes = packetOf(`icmp 10.254.0.9 > 192.0.2.1 3/4 mtu=${mtu} ( ipip 192.0.2.1 > ${to} ( ${inner} ) )`);
  const view = new DataView(bytes.buffer);
  const header = createPacketHeader();
  const quoted = createPacketHeader();
  expect(parseIpPacket(view, 0, bytes.length, header)).toBe(-1);
  const fault = paths.read(view, header, quoted);
  return fault === -1 ? paths.learn(view, header, quoted, nowMs) : fault;
}

describe("path MTUs", () => {
  it("agree with a plain map over random packets, messages and time", () => {
    const random = createRandom(SEED);
    const paths = new PathMtus(64, FABRIC);
    const naive = new Map<number, { mtu: number; atMs: number }>();
    let nowMs = 2 ** 31 - 400_000; // and through the turn of 32 bits
    let believed = 0;
    for (let step = 0; step < 5_000; step++) {
      nowMs += random.below(2_000);
      const n = 1 + random.below(8);
      const to = words(host(n));
      const known = naive.get(n);
      const expected = known !== undefined && nowMs - known.atMs < 600_000 ? known.mtu : FABRIC;
      expect(paths.of(to, 0, nowMs), `seed ${SEED}, step ${step}`).toBe(expected);
      if (random.below(10) === 0) paths.expire(nowMs);
      const bytes = 577 + random.below(expected - 576);
      if (bytes > expected) continue;
      paths.admit(to, 0, bytes, nowMs);
      if (random.below(20) > 0) continue;
      const mtu = 560 + random.below(bytes - 560);
      expect(told(paths, host(n), bytes, mtu, nowMs)).toBe(-1);
      believed++;
      naive.set(n, { mtu: Math.min(expected, Math.max(576, mtu)), atMs: nowMs });
    }
    expect(paths.learned).toBe(believed);
    expect(believed).toBeGreaterThan(50);
  });

  it("are of so many hosts at most: the one that was learned first is forgotten", () => {
    const paths = new PathMtus(64, FABRIC);
    for (let n = 0; n < 100; n++) {
      paths.admit(words(host(n)), 0, 1_400, 1_000);
      expect(told(paths, host(n), 1_400, 1_300, 1_000)).toBe(-1);
    }
    expect(paths.size).toBe(64);
    expect([0, 35, 36, 99].map((n) => paths.of(words(host(n)), 0, 1_000))).toEqual([FABRIC, FABRIC, 1_300, 1_300]);
    paths.expire(601_000);
    expect(paths.size).toBe(0);
  });

  it("are not learned of what was never sent, not sent lately, or was longer than anything sent", () => {
    const paths = new PathMtus(64, FABRIC);
    expect(told(paths, host(1), 1_400, 1_300, 1_000)).toBe(DROP.path_mtu_unmatched);
    paths.admit(words(host(1)), 0, 1_400, 1_000);
    expect(told(paths, host(1), 1_404, 1_300, 1_000)).toBe(DROP.path_mtu_unmatched);
    expect(told(paths, host(1), 1_400, 1_300, 11_000)).toBe(DROP.path_mtu_unmatched);
    expect(told(paths, host(1), 1_400, 1_400, 1_000)).toBe(DROP.path_mtu_invalid);
    expect([paths.size, paths.learned]).toEqual([0, 0]);
  });

  it("are not learned of what was sent before the clock's 32 bits turned, and is noted anew after that", () => {
    const paths = new PathMtus(64, FABRIC);
    paths.admit(words(host(1)), 0, 1_400, 1_000);
    const laterMs = 1_000 + 2 ** 31 + 60_000; // 25 days
    expect(told(paths, host(1), 1_400, 1_300, laterMs)).toBe(DROP.path_mtu_unmatched);
    paths.admit(words(host(1)), 0, 1_000, laterMs);
    expect(told(paths, host(1), 1_400, 1_300, laterMs)).toBe(DROP.path_mtu_unmatched);
    expect(told(paths, host(1), 1_000, 900, laterMs)).toBe(-1);
  });

  it("of others stay when a full table hears more of one that it has", () => {
    const paths = new PathMtus(64, FABRIC);
    for (let n = 0; n < 64; n++) {
      paths.admit(words(host(n)), 0, 1_400, 1_000);
      expect(told(paths, host(n), 1_400, 1_300, 1_000)).toBe(-1);
    }
    expect(told(paths, host(9), 1_400, 1_200, 1_000)).toBe(-1);
    expect([paths.size, paths.of(words(host(9)), 0, 1_000), paths.of(words(host(0)), 0, 1_000)]).toEqual([
      64, 1_200, 1_300,
    ]);
  });

  it("are not learned of packets that any path must carry", () => {
    const paths = new PathMtus(64, FABRIC);
    paths.admit(words(host(1)), 0, 1_400, 1_000);
    expect(told(paths, host(1), 576, 500, 1_000)).toBe(DROP.path_mtu_invalid);
  });
});
