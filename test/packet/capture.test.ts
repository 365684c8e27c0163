// Captures are read by people with tools of their own: where tshark is installed, it reads ours and must not complain.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { addressWords } from "../../packet/address-words.js";
import { buildIpv6Packet } from "../../packet/build.js";
import { pcapFileHeader, pcapRecord, readPcap } from "../../packet/pcap.js";
import { pcapngFileHeader, pcapngPacket } from "../../packet/pcapng.js";
import { encapsulate, tcp, udp } from "./packet-kit.js";

const inner = tcp("198.51.100.7:40000", "203.0.113.10:80", "S", { mss: 1_440 });
const PACKETS = [
  inner,
  encapsulate(inner, "192.0.2.1", "10.0.0.1"),
  udp("198.51.100.7:40001", "203.0.113.10:9000"),
  buildIpv6Packet({
    source: addressWords("2001:db8::7")!,
    destination: addressWords("2001:db8:f::10")!,
    protocol: 6,
    body: inner.subarray(20),
  }),
];
const join2 = (parts: readonly Uint8Array[]): Uint8Array => Uint8Array.from(parts.flatMap((part) => [...part]));
const pcap = join2([pcapFileHeader(), ...PACKETS.map((packet, i) => pcapRecord(packet, 1_000 + i))]);
const pcapng = join2([
  pcapngFileHeader("mux-1"),
  ...PACKETS.map((packet, i) => pcapngPacket(packet, 1_000 + i, `verdict ${i}`)),
]);

describe("pcap", () => {
  it("reads back what was written", () => {
    const { packets, problem, linkType } = readPcap(pcap);
    expect({ problem, linkType }).toEqual({ problem: null, linkType: 101 });
    expect(packets.map(({ bytes }) => Uint8Array.from(bytes))).toEqual(
      PACKETS.map((packet) => Uint8Array.from(packet)),
    );
    expect(packets.map(({ timeMs }) => timeMs)).toEqual([1_000, 1_001, 1_002, 1_003]);
  });

  it("says where a damaged file ends, and never reads beyond it", () => {
    for (let length = 0; length < pcap.length; length++) {
      const { problem, packets } = readPcap(pcap.slice(0, length));
      const whole = [24, 24 + 16 + inner.length].includes(length) || packets.length > 1;
      if (!whole) expect(problem, `${length} bytes`).not.toBeNull();
    }
    expect(readPcap(new Uint8Array(40)).problem).toBe("not a pcap file");
  });
});

const tshark = spawnSync("tshark", ["--version"]).status === 0;
if (!tshark) console.warn("tshark is not installed: captures are not checked with it");

describe.skipIf(!tshark)("tshark", () => {
  const folder = mkdtempSync(join(tmpdir(), "ananta-capture-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  it.each([
    ["golden.pcap", pcap],
    ["golden.pcapng", pcapng],
  ])("%s opens without a warning, and every checksum is right", (name, bytes) => {
    const file = join(folder, name);
    writeFileSync(file, bytes);
    const checks = ["ip.check_checksum", "tcp.check_checksum", "udp.check_checksum"].flatMap((o) => [
      "-o",
      `${o}:TRUE`,
    ]);
    const fields = ["-T", "fields", "-e", "frame.protocols", "-e", "_ws.expert.severity", "-e", "_ws.expert.message"];
    const out = execFileSync("tshark", ["-r", file, ...checks, ...fields], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    const lines = out
      .trimEnd()
      .split("\n")
      .map((line) => line.split("\t"));
    expect(lines).toHaveLength(PACKETS.length);
    // Chats (a SYN) are 0x200000, notes (the same SYN in a tunnel, again) 0x400000; warnings and errors are above.
    for (const [, severity = ""] of lines)
      for (const one of severity.split(",").filter((text) => text !== "")) expect(Number(one)).toBeLessThan(0x600000);
    expect(lines[1]![0]).toContain("ip:ip:tcp");
  });
});
