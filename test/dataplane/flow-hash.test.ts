import { describe, expect, it } from "vitest";
import { createRandom } from "../../core/random.js";
import { distributionPorts, distributionProtocol, FlowHasher, halfSipHash } from "../../dataplane/flow-hash.js";
import { addressWords } from "../../packet/address-words.js";
import { createPacketHeader } from "../../packet/header.js";
import { address, SEED } from "../packet/packet-kit.js";

/** HalfSipHash-2-4 once more, straight from its definition and with BigInt: slow, and sharing nothing with the product. */
function reference(key: Uint8Array, message: Uint8Array): number {
  const M = 0xffff_ffffn;
  const le = (bytes: Uint8Array, at: number): bigint =>
    [0, 1, 2, 3].reduce((word, i) => word | (BigInt(bytes[at + i] ?? 0) << BigInt(8 * i)), 0n);
  const rotl = (x: bigint, by: bigint): bigint => ((x << by) | (x >> (32n - by))) & M;
  const k0 = le(key, 0);
  const k1 = le(key, 4);
  let [v0, v1, v2, v3] = [k0, k1, 0x6c796765n ^ k0, 0x74656462n ^ k1];
  const round = (): void => {
    v0 = (v0 + v1) & M;
    v1 = rotl(v1, 5n) ^ v0;
    v0 = rotl(v0, 16n);
    v2 = (v2 + v3) & M;
    v3 = rotl(v3, 8n) ^ v2;
    v0 = (v0 + v3) & M;
    v3 = rotl(v3, 7n) ^ v0;
    v2 = (v2 + v1) & M;
    v1 = rotl(v1, 13n) ^ v2;
    v2 = rotl(v2, 16n);
  };
  const padded = new Uint8Array((Math.floor(message.length / 4) + 1) * 4);
  padded.set(message);
  padded[padded.length - 1] = message.length & 255;
  for (let at = 0; at < padded.length; at += 4) {
    const word = le(padded, at);
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  }
  v2 ^= 0xffn;
  for (let i = 0; i < 4; i++) round();
  return Number(v1 ^ v3);
}

const KEY = Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7);

type Words = [number, number, number, number];

describe("HalfSipHash-2-4", () => {
  // Key 00..07, message 00, 01, .. of length n; output bytes, little-endian. From the reference implementation's
  // vectors.h (github.com/veorq/SipHash, vectors_hsip32).
  const vectors: readonly (readonly [length: number, bytes: string])[] = [
    [0, "a9359f5b"],
    [1, "27475ab8"],
    [2, "fa62a603"],
    [3, "8afee704"],
    [4, "2a6e4689"],
    [7, "8bcf63c5"],
    [8, "d0b8848f"],
    [13, "77e663ff"],
    [14, "d6fff87c"],
    [38, "63688b0f"],
    [63, "59ea4a74"],
  ];
  it.each(vectors)("agrees with the published vector of length %i", (length, bytes) => {
    const message = Uint8Array.from({ length }, (_, i) => i);
    const expected = new DataView(Uint8Array.from(bytes.match(/../g)!, (byte) => parseInt(byte, 16)).buffer);
    expect(halfSipHash(0x03020100, 0x07060504, message)).toBe(expected.getUint32(0, true));
    expect(reference(KEY, message)).toBe(expected.getUint32(0, true));
  });
});

describe("the flow hash", () => {
  /** The documented byte layout. */
  const layout = (source: number, destination: number, ports: number, protocol: number, distribution: number) => {
    const message = new Uint8Array(14);
    const view = new DataView(message.buffer);
    view.setUint32(0, source);
    view.setUint32(4, destination);
    view.setUint32(8, ports);
    message.set([protocol, distribution], 12);
    return message;
  };

  // These three numbers are published: every MUX, in whatever language, must give them.
  it("has published vectors", () => {
    const hasher = new FlowHasher(KEY);
    const hash = ([from, fromPort, to, toPort, protocol]: readonly [string, number, string, number, number]): number =>
      hasher.ipv4(address(from), address(to), (fromPort << 16) | toPort, protocol, 0) >>> 0;
    const rows = [
      { given: ["198.51.100.7", 40_000, "203.0.113.10", 80, 6] as const },
      { given: ["198.51.100.7", 40_001, "203.0.113.10", 80, 6] as const },
      { given: ["255.255.255.255", 65_535, "0.0.0.0", 0, 17] as const },
    ];
    expect(rows.map(({ given }) => hash(given))).toMatchInlineSnapshot(`
      [
        77130370,
        1164955556,
        3473989309,
      ]
    `);
  });

  it("is HalfSipHash of the documented layout, for random flows and keys", () => {
    const random = createRandom(SEED);
    for (let round = 0; round < 2_000; round++) {
      const key = Uint8Array.from({ length: 8 }, () => random.below(256));
      const flow = [
        random.nextUint32(),
        random.nextUint32(),
        random.nextUint32(),
        random.below(256),
        random.below(3),
      ] as const;
      const message = layout(...flow);
      const expected = reference(key, message);
      expect(new FlowHasher(key).ipv4(...flow) >>> 0, `seed ${SEED} round ${round}`).toBe(expected);
      const words = new DataView(key.buffer);
      expect(halfSipHash(words.getUint32(0, true), words.getUint32(4, true), message)).toBe(expected);
    }
  });

  // Published as well: [2001:db8::7]:40000 > [2001:db8:f::10]:80, TCP, in the three distributions.
  it("has published vectors for IPv6, and is HalfSipHash of 38 bytes", () => {
    const header = createPacketHeader();
    const [source, destination] = [addressWords("2001:db8::7")!, addressWords("2001:db8:f::10")!];
    [header.source0, header.source1, header.source2, header.source3] = source as unknown as Words;
    [header.destination0, header.destination1, header.destination2, header.destination3] =
      destination as unknown as Words;
    const hasher = new FlowHasher(KEY);
    const ports = (40_000 << 16) | 80;
    const hashes = [0, 1, 2].map(
      (mode) => hasher.header(header, distributionPorts(ports, mode), distributionProtocol(6, mode), mode) >>> 0,
    );
    expect(hashes).toMatchInlineSnapshot(`
      [
        2080545701,
        2213371125,
        1821589611,
      ]
    `);
    const random = createRandom(SEED);
    for (let round = 0; round < 1_000; round++) {
      const message = Uint8Array.from({ length: 38 }, () => random.below(256));
      const view = new DataView(message.buffer);
      const word = (at: number): number => view.getInt32(at);
      [header.source0, header.source1, header.source2, header.source3] = [word(0), word(4), word(8), word(12)];
      [header.destination0, header.destination1] = [word(16), word(20)];
      [header.destination2, header.destination3] = [word(24), word(28)];
      const found = hasher.header(header, word(32), message[36]!, message[37]!) >>> 0;
      expect(found, `seed ${SEED} round ${round}`).toBe(reference(KEY, message));
    }
  });
});
