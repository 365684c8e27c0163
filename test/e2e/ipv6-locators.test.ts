/**
 * The story of the demo with IPv6 between MUXes and hosts, as real processes: a leader and a MUX are killed, no connection is
 * broken, and what is sent through a VIP arrives unchanged.
 */
import { afterAll, expect, test } from "vitest";
import { Site } from "./embedded-site.js";

interface Muxes {
  readonly items: readonly { readonly status: { readonly addressIpv6?: string } }[];
}

const site = new Site(18_100, { args: ["--demo", "--flows", "60", "--locators", "ipv6"] });

afterAll(async () => {
  await site.stop();
  site.removeData();
});

test("hosts take what MUXes send from their IPv6 addresses, and the whole story plays", async () => {
  const addresses = (): (string | undefined)[] =>
    (JSON.parse(site.ananta("get", "muxes", "-o", "json").stdout) as Muxes).items.map(
      ({ status }) => status.addressIpv6,
    );
  const both = ["2001:db8:255::1", "2001:db8:255::2"];
  await site.until("both MUXes", () => addresses().join() === both.join());
  expect(site.ananta("get", "muxes", "-o", "wide").stdout).toContain(both[0]);
  expect(await site.stopped(), site.output).toBe(0);
});
