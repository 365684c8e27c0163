/** Which addresses VIPs may have: a setting of the Managers, looked at where requests come in. */
import { expect, test } from "vitest";
import { AnantaError } from "../../../core/errors.js";
import { checkVipPrefixes } from "../../../manager/api/objects/vip-prefixes.js";
import { smallSite, pool, vip } from "../state/fixture.js";

function refusal(allowed: readonly string[], ...objects: Parameters<typeof checkVipPrefixes>[0]): AnantaError | null {
  try {
    checkVipPrefixes(objects, allowed, smallSite().machine);
    return null;
  } catch (caught) {
    return AnantaError.from(caught);
  }
}

test("addresses of the prefixes are taken, of either family; without prefixes any is", () => {
  const both = ["203.0.113.0/24", "2001:db8:1::/48"];
  expect(refusal(both, vip("a", "203.0.113.9"), vip("b", "2001:db8:1::9"), pool("p", ["10.0.0.9"]))).toBeNull();
  expect(refusal([], vip("a", "192.0.2.200"))).toBeNull();
});

test("all others are told together, each with its object, and nothing is done", () => {
  const error = refusal(["203.0.113.0/24"], vip("a", "203.0.113.9"), vip("b", "192.0.2.200"), vip("c", "2001:db8::9"));
  expect(error?.code).toBe("INVALID_ARGUMENT");
  const problems = JSON.parse(String(error?.facts["problems"])) as readonly { object: number; path: string }[];
  expect(problems.map(({ object, path }) => [object, path])).toEqual([
    [1, "spec.address"],
    [2, "spec.address"],
  ]);
});

test("a VIP that is stored may be changed under its address, and not another one take it as an excuse", () => {
  const allowed = ["203.0.113.0/24"];
  expect(refusal(allowed, vip("web", "198.51.100.1", { labels: { team: "a" } }))).toBeNull();
  expect(refusal(allowed, vip("web", "198.51.100.2"))).not.toBeNull();
  expect(refusal(allowed, vip("other", "198.51.100.1"))).not.toBeNull();
});
