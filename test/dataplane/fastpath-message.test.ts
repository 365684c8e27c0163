/** What MUXes tell hosts about flows between VIPs: the bytes, who can write them, and that each is good once. */
import { describe, expect, it } from "vitest";
import {
  FASTPATH_MESSAGE_BYTES,
  fastpathHostKey,
  type FastpathMessage,
  INITIATOR,
  readFastpathMessage,
  REDIRECT,
  writeFastpathMessage,
} from "../../dataplane/fastpath-message.js";
import { ReplayWindow } from "../../dataplane/replay-window.js";
import { sipHash128 } from "../../dataplane/sip-hash.js";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const counting = (count: number): Uint8Array => Uint8Array.from({ length: count }, (_, i) => i);

describe("SipHash-2-4-128", () => {
  // From the reference implementation's vectors: key 00..0f, messages 00, 01, 02 .. of growing length.
  it.each([
    [0, "a3817f04ba25a8e66df67214c7550293"],
    [1, "da87c1d86b99af44347659119b22fc45"],
    [2, "8177228da4a45dc7fca38bdef60affe4"],
    [3, "9c70b60c5267a94e5f33b6b02985ed51"],
  ])("of %i bytes", (length, expected) => {
    const out = new Uint8Array(16);
    sipHash128(counting(16), counting(length), out, 0);
    expect(hex(out)).toBe(expected);
  });
});

const master = Uint8Array.from({ length: 16 }, (_, i) => 0xa0 + i);
const message: FastpathMessage = {
  kind: REDIRECT,
  end: INITIATOR,
  protocol: 6,
  source: [0, 0, 0xffff, 0x0a00_0001],
  sourcePort: 1_032,
  destination: [0x2001_0db8, 0, 0, 1],
  destinationPort: 80,
  peerLocator: [0, 0, 0xffff, 0x0a00_0102],
  dipId: 7,
  peerDipId: 9,
  muxId: 3,
  incarnation: 2 ** 40 + 5,
  sequence: 77,
  index: 1_234_567,
  lifetimeMs: 30_000,
};

describe("a FastPath message", () => {
  it("is read as it was written", () => {
    const key = fastpathHostKey(master, 1);
    const arena = new Uint8Array(FASTPATH_MESSAGE_BYTES + 10);
    writeFastpathMessage(arena, 5, message, key);
    expect(readFastpathMessage(arena.subarray(5, 5 + FASTPATH_MESSAGE_BYTES), key)).toEqual(message);
  });

  it("of which one bit is changed, anywhere, is refused", () => {
    const key = fastpathHostKey(master, 1);
    const bytes = new Uint8Array(FASTPATH_MESSAGE_BYTES);
    writeFastpathMessage(bytes, 0, message, key);
    let refused = 0;
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const changed = Uint8Array.from(bytes);
      changed[bit >> 3]! ^= 1 << (bit & 7);
      if (readFastpathMessage(changed, key) === null) refused++;
    }
    expect(refused).toBe(bytes.length * 8);
    expect(readFastpathMessage(bytes.subarray(1), key)).toBeNull();
  });

  it("written by a host, with its own key, is refused by every other host", () => {
    const bytes = new Uint8Array(FASTPATH_MESSAGE_BYTES);
    writeFastpathMessage(bytes, 0, message, fastpathHostKey(master, 2));
    expect(readFastpathMessage(bytes, fastpathHostKey(master, 1))).toBeNull();
    expect(hex(fastpathHostKey(master, 1))).not.toBe(hex(fastpathHostKey(master, 2)));
  });
});

describe("a window of sequence numbers", () => {
  it("lets each through once, also out of order, and none of an earlier start of the MUX", () => {
    const window = new ReplayWindow();
    expect([3, 1, 2, 3, 1].map((sequence) => window.admit(1, 5, sequence))).toEqual([
      "fresh",
      "fresh",
      "fresh",
      "replayed",
      "replayed",
    ]);
    expect(window.admit(2, 5, 3), "of another MUX").toBe("fresh");
    expect(window.admit(1, 6, 1), "of its next start").toBe("fresh");
    expect(window.admit(1, 5, 9), "of the start before").toBe("stale");
  });

  it("refuses what is too old to be told from a repetition", () => {
    const window = new ReplayWindow();
    expect(window.admit(1, 1, 2_000)).toBe("fresh");
    expect(window.admit(1, 1, 977)).toBe("fresh");
    expect(window.admit(1, 1, 976)).toBe("stale");
    expect(window.admit(1, 1, 0)).toBe("stale");
  });
});
