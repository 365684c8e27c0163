import { describe, expect, it } from "vitest";
import type { IpAddress } from "../../../core/brands.js";
import {
  decodeFrame,
  encodeAnnouncement,
  PacketFramer,
  type FrameAnnouncement,
} from "../../../dataplane/fabric-frame.js";
import { FabricAnnouncer } from "../../../mux/routing/fabric-announcer.js";
import { silentLog } from "../../kit/silent-log.js";
import { virtualTime } from "../../kit/virtual-time.js";

const VIP = "203.0.113.10" as IpAddress;
const OTHER = "203.0.113.11" as IpAddress;

function announcer(selfTest: () => boolean = () => true) {
  const { time, clock } = virtualTime();
  const sent: { atMs: number; announcement: FrameAnnouncement }[] = [];
  const errors: string[] = [];
  const routes = new FabricAnnouncer({
    clock,
    log: { ...silentLog, error: (message) => void errors.push(message) },
    name: "mux-1",
    address: "10.255.0.1" as IpAddress,
    send: (frame) => {
      const decoded = decodeFrame(frame);
      if (decoded?.kind === "announcement") sent.push({ atMs: time.nowMs, announcement: decoded.announcement });
    },
    selfTest,
  });
  routes.start();
  return { time, routes, sent, errors };
}

describe("frames of the embedded site", () => {
  it("carry a packet behind one byte, and an announcement there and back", () => {
    const packet = Uint8Array.of(0x45, 1, 2, 3);
    const frame = new PacketFramer().frame(packet);
    expect([...frame]).toEqual([0x01, 0x45, 1, 2, 3]);
    expect(decodeFrame(frame)).toEqual({ kind: "packet", packet });
    const announcement = {
      mux: "mux-1",
      address: "10.255.0.1",
      vips: [VIP, "2001:db8:113::10" as IpAddress],
      holdTimeMs: 1_000,
      sequence: 7,
    };
    expect(decodeFrame(encodeAnnouncement(announcement)!)).toEqual({ kind: "announcement", announcement });
  });

  it.each([
    ["nothing", []],
    ["a kind without content", [1]],
    ["an unknown kind", [9, 1, 2]],
    ["no JSON", [2, 0x7b]],
    [
      "JSON of another shape",
      [2, ...new TextEncoder().encode('{"mux":"a","address":"b","vips":["x"],"holdTimeMs":1,"sequence":1}')],
    ],
  ])("are nothing when they hold %s", (_what, bytes) => {
    expect(decodeFrame(Uint8Array.from(bytes))).toBeNull();
  });
});

describe("the announcer of the embedded site", () => {
  it("tells the whole list at once and then four times per hold time", async () => {
    const { time, routes, sent } = announcer();
    routes.announce([VIP]);
    expect(sent).toHaveLength(1);
    await time.advance(1_000);
    expect(sent.map(({ atMs }) => atMs)).toEqual([0, 250, 500, 750, 1_000]);
    routes.announce([VIP, OTHER]);
    expect(sent.at(-1)?.announcement.vips).toHaveLength(2);
    const sequences = sent.map(({ announcement }) => announcement.sequence);
    expect(sequences).toEqual(sequences.map((_, n) => n + 1));
    routes.stop();
  });

  it("announces as many of its VIPs as fit into a datagram, says so once, and claims no others", async () => {
    const { time, routes, sent, errors } = announcer();
    const vips = Array.from({ length: 5_000 }, (_, n) => `203.${n >>> 8}.113.${n & 255}` as IpAddress);
    routes.announce(vips);
    await time.advance(1_000);
    expect(sent).toHaveLength(5);
    const told = sent.at(-1)?.announcement.vips ?? [];
    expect(told.length).toBeGreaterThan(3_500);
    expect(told.length).toBeLessThan(5_000);
    expect(told).toEqual(vips.slice(0, told.length));
    expect(routes.announced).toEqual(told);
    expect(errors).toHaveLength(1);
    routes.announce([VIP]);
    expect(routes.announced).toEqual([VIP]);
    routes.announce(vips);
    expect(errors).toHaveLength(2);
    routes.stop();
  });

  it("withdraws at once, says so three times, and is silent then", async () => {
    const { time, routes, sent } = announcer();
    routes.announce([VIP]);
    await time.advance(100);
    routes.withdraw();
    expect(sent.at(-1)).toMatchObject({ atMs: 100, announcement: { vips: [] } });
    await time.advance(5_000);
    expect(sent.filter(({ announcement }) => announcement.vips.length === 0)).toHaveLength(3);
    routes.withdraw();
    expect(sent).toHaveLength(4);
    routes.stop();
    expect(time.pendingCount).toBe(0);
  });

  it("says all its withdrawals before it ends", () => {
    const { time, routes, sent } = announcer();
    routes.announce([VIP]);
    routes.stop();
    expect(sent.filter(({ announcement }) => announcement.vips.length === 0)).toHaveLength(3);
    expect(time.pendingCount).toBe(0);
  });

  it("attracts no packets while its self-test fails", async () => {
    let healthy = true;
    const { time, routes, sent } = announcer(() => healthy);
    routes.announce([VIP]);
    healthy = false;
    await time.advance(250);
    expect(sent.at(-1)?.announcement.vips).toEqual([]);
    expect(routes.announced).toEqual([]);
    healthy = true;
    await time.advance(500);
    expect(routes.announced).toEqual([VIP]);
    routes.stop();
  });
});
