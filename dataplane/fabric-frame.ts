/**
 * What the processes of the embedded site exchange as UDP payload on loopback: one frame per datagram.
 *
 *     0x01 | IP packet                       a cable: MUX, host, router, VM
 *     0x02 | announcement, JSON in UTF-8     MUX to router: the VIPs it is next hop for, the whole list each time
 *
 * JSON {"mux": name, "address": outer source, "vips": ["203.0.113.10", "2001:db8:113::10"], "holdTimeMs": 1000, "sequence": 7}. Unknown fields
 * are ignored, so that a newer MUX can say more to an older router.
 *
 * Bad frames are no errors: `decodeFrame` answers null, the receiver counts or ignores them, as with bad packets.
 */
import { parseIpAddress } from "../core/address.js";
import { assert } from "../core/assert.js";
import type { IpAddress } from "../core/brands.js";
import { PACKET_BYTES_MAX } from "./packet-batch.js";

const KIND_PACKET = 0x01;
const KIND_ANNOUNCEMENT = 0x02;

/** The largest UDP payload over IPv4: bounds one announcement to about 3,700 VIPs of IPv4. */
export const FRAME_BYTES_MAX = 65_507;

/** All VIPs that a MUX is next hop for; each announcement replaces the one before. */
export interface FrameAnnouncement {
  /** Name of the MUX. */
  readonly mux: string;
  /** Its outer source address, in text, for display. */
  readonly address: string;
  /** Empty: everything is withdrawn. */
  readonly vips: readonly IpAddress[];
  /** Silence after which the router forgets the routes. */
  readonly holdTimeMs: number;
  /** Counts the announcements of one start of the MUX from 1: the router ignores one that was overtaken. */
  readonly sequence: number;
}

export type Frame =
  /** `packet` is a view into the datagram: valid as long as that is. */
  | { readonly kind: "packet"; readonly packet: Uint8Array }
  | { readonly kind: "announcement"; readonly announcement: FrameAnnouncement };

/** Puts packets into frames, in one buffer that it reuses: a frame is valid until the next one is made. */
export class PacketFramer {
  private readonly buffer = new Uint8Array(1 + PACKET_BYTES_MAX);

  constructor() {
    this.buffer[0] = KIND_PACKET;
  }

  frame(packet: Uint8Array): Uint8Array {
    this.buffer.set(packet, 1);
    return this.buffer.subarray(0, 1 + packet.length);
  }
}

/** Null when the list of VIPs is too long for a datagram. */
export function encodeAnnouncement(announcement: FrameAnnouncement): Uint8Array | null {
  const { mux, address, vips, holdTimeMs, sequence } = announcement;
  assert(Number.isSafeInteger(sequence) && sequence >= 1, "announcements are counted from 1");
  const json = new TextEncoder().encode(JSON.stringify({ mux, address, vips, holdTimeMs, sequence }));
  if (json.length + 1 > FRAME_BYTES_MAX) return null;
  const frame = new Uint8Array(1 + json.length);
  frame[0] = KIND_ANNOUNCEMENT;
  frame.set(json, 1);
  return frame;
}

export function decodeFrame(bytes: Uint8Array): Frame | null {
  if (bytes.length < 2) return null;
  if (bytes[0] === KIND_PACKET) return { kind: "packet", packet: bytes.subarray(1) };
  if (bytes[0] !== KIND_ANNOUNCEMENT) return null;
  const announcement = parseAnnouncement(bytes.subarray(1));
  return announcement === null ? null : { kind: "announcement", announcement };
}

function parseAnnouncement(json: Uint8Array): FrameAnnouncement | null {
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder().decode(json));
  } catch {
    return null;
  }
  if (typeof parsed !== "object" || parsed === null) return null;
  const { mux, address, vips, holdTimeMs, sequence } = parsed as Record<string, unknown>;
  if (typeof mux !== "string" || typeof address !== "string" || !Array.isArray(vips)) return null;
  if (!isCount(holdTimeMs) || !isCount(sequence)) return null;
  const addresses: IpAddress[] = [];
  for (const vip of vips as unknown[]) {
    const parsedVip = typeof vip === "string" ? parseIpAddress(vip) : null;
    if (parsedVip === null) return null;
    addresses.push(parsedVip);
  }
  return { mux, address, vips: addresses, holdTimeMs, sequence };
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 1;
