import { describe, expect, it } from "vitest";
import { createRandom } from "../../core/random.js";
import { checksum, foldSum, sumWords, updateDoubleWord, updateWord } from "../../packet/checksum.js";
import { SEED } from "./packet-kit.js";

const viewOf = (...bytes: number[]): DataView => new DataView(Uint8Array.from(bytes).buffer);

describe("the Internet checksum", () => {
  it("gives the sum of the example: 0001 + f203 + f4f5 + f6f7 = 2ddf0, folded ddf2 (RFC 1071 §3)", () => {
    const view = viewOf(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7);
    expect(sumWords(view, 0, 8)).toBe(0x2ddf0);
    expect(foldSum(0x2ddf0)).toBe(0xddf2);
    expect(checksum(view, 0, 8)).toBe(0x220d);
  });

  it("takes an odd last byte as the high half of a word (RFC 1071 §4.1)", () => {
    expect(sumWords(viewOf(0x12, 0x34, 0x56), 0, 3)).toBe(0x1234 + 0x5600);
  });

  it("updates dd2f to 0000 when 5555 becomes 3285, where RFC 1141 gave ffff (RFC 1624 §4)", () => {
    expect(updateWord(0xdd2f, 0x5555, 0x3285)).toBe(0x0000);
  });

  it("updates as a whole new computation would, for random packets and changes", () => {
    const random = createRandom(SEED);
    for (let round = 0; round < 5_000; round++) {
      const bytes = Uint8Array.from({ length: 40 }, () => random.below(256));
      const view = new DataView(bytes.buffer);
      const before = checksum(view, 0, 40);
      const at = random.below(9) * 4;
      const [old32, new32] = [view.getUint32(at), random.nextUint32()];
      view.setUint32(at, new32);
      const [old16, new16] = [view.getUint16(38), random.below(65_536)];
      view.setUint16(38, new16);
      const updated = updateWord(updateDoubleWord(before, old32, new32), old16, new16);
      expect(updated, `seed ${SEED} round ${round}`).toBe(checksum(view, 0, 40));
    }
  });
});
