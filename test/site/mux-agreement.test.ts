/** Any MUX may get any packet of a flow: all of them send it to the same machine, without telling each other anything. */
import { expect, it } from "vitest";
import { formatIpv4 } from "../../core/address.js";
import type { Ipv4 } from "../../core/brands.js";
import { createRandom } from "../../core/random.js";
import { PacketBatch } from "../../dataplane/packet-batch.js";
import { IPV4_DESTINATION } from "../../packet/ipv4.js";
import { batchOf, tcp } from "../packet/packet-kit.js";
import { poolObject, ruleObject, vipObject, WholeSite } from "./whole-site.js";

const VIP = "203.0.113.10";

it("ten thousand SYNs, given to each of eight MUXes, go to the same machines", async () => {
  const hosts = [1, 2, 3, 4].map((host) => [1, 2, 3, 4, 5].map((n) => `10.0.${host}.${n}`));
  const site = await WholeSite.start(
    { name: "eight judges", hosts },
    poolObject("web", hosts.flat()),
    vipObject("web", VIP, { rules: [ruleObject("tcp/80 -> web:8080")] }),
  );
  const random = createRandom(site.world.seed);
  const syns = Array.from({ length: 10_000 }, () => {
    const client = `198.51.${random.below(256)}.${1 + random.below(254)}:${1_024 + random.below(60_000)}`;
    return tcp(client, `${VIP}:80`, "S");
  });
  const out = new PacketBatch({ packets: syns.length });
  const choices = site.muxes.map(({ dataplane }) => {
    out.clear();
    for (let at = 0; at < syns.length; at += 100)
      dataplane.process(batchOf(...syns.slice(at, at + 100)), site.nowMs, out);
    return Array.from({ length: out.count }, (_, at) =>
      formatIpv4(out.view.getUint32(out.offsets[at]! + IPV4_DESTINATION) as Ipv4),
    );
  });
  expect(choices[0]).toHaveLength(10_000);
  for (const choice of choices) expect(choice).toEqual(choices[0]);
  const shares = new Map<string, number>();
  for (const dip of choices[0]!) shares.set(dip, (shares.get(dip) ?? 0) + 1);
  expect([...shares.keys()].sort()).toEqual(hosts.flat().sort());
  for (const [dip, share] of shares) expect(Math.abs(share - 500), `${dip}: ${share} of 10,000`).toBeLessThan(120);
  await site.stop();
});
