import { expect, test } from "vitest";
import { formatIpv4, formatIpv6 } from "../../../core/address.js";
import type { Ipv4 } from "../../../core/brands.js";
import { createRandom } from "../../../core/random.js";
import { byAddress, inOrderOfAddress } from "../../../manager/state/order.js";
import { testSeed } from "../../kit/virtual-world.js";

test("addresses in order are those that comparing each with each puts in order: IPv4 first, by number", () => {
  const random = createRandom(testSeed("addresses"));
  const addresses = Array.from({ length: 300 }, () =>
    random.below(3) > 0
      ? formatIpv4(random.nextUint32() as Ipv4)
      : formatIpv6([0x2001, 0xdb8, 0, 0, 0, 0, random.below(3), random.below(65_536)]),
  );
  expect(inOrderOfAddress(addresses)).toEqual([...addresses].sort(byAddress));
  expect(inOrderOfAddress([])).toEqual([]);
});
