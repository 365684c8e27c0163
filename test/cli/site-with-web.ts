/** A site with a pool and two VIPs, one of another tenant, and two blocks of SNAT ports: what there is to look at. */
import { ananta } from "../../proto/gen/wire.js";
import { FakeSite } from "./fake-site.js";

const TCP = ananta.v1.RuleProtocol.RULE_PROTOCOL_TCP;
const SNAT_TCP = ananta.v1.Protocol.PROTOCOL_TCP;
const UDP = ananta.v1.RuleProtocol.RULE_PROTOCOL_UDP;

export async function siteWithWeb(salt: string): Promise<FakeSite> {
  const site = await new FakeSite(salt).start();
  site.put(
    {
      metadata: { name: "web" },
      backendPool: { members: [{ dip: "10.1.0.4" }, { dip: "10.1.0.5", port: 81, weight: 0 }] },
    },
    {
      metadata: { name: "web", labels: { app: "shop" } },
      vip: {
        address: "203.0.113.10",
        rules: [80, 443, 8080, 8443].map((port) => ({ name: `p${port}`, protocol: TCP, port, pool: "web" })),
        outbound: { pools: ["web"] },
      },
    },
    {
      metadata: { name: "dns", tenant: "bank" },
      vip: { address: "203.0.113.11", rules: [{ name: "dns", protocol: UDP, port: 53, pool: "web" }] },
    },
  );
  site.blocks = [
    {
      block: { vip: "203.0.113.10", protocol: SNAT_TCP, range: 128, count: 2 },
      tenant: "default",
      dip: "10.1.0.4",
      host: "host-1",
      state: "owned",
    },
    {
      block: { vip: "203.0.113.10", protocol: SNAT_TCP, range: 140, count: 1 },
      tenant: "default",
      dip: "10.1.0.5",
      host: "",
      state: "quarantined",
      freeInSeconds: 90,
    },
  ];
  return site;
}
