/** `ananta vip` and `ananta pool`: what a VIP serves, how members stand; a VIP is named by its name or its address. */
import { describe, expect, test } from "vitest";
import { ananta } from "../../proto/gen/wire.js";
import { siteWithWeb } from "./site-with-web.js";

const { RULE_PROTOCOL_TCP_UDP, RULE_PROTOCOL_ALL } = ananta.v1.RuleProtocol;

describe("vip show", () => {
  test("prints VIP, protocol, port and backend port of every rule, also where a member has a port of its own", async () => {
    const site = await siteWithWeb("vip show");
    expect(await site.run("vip show web")).toEqual({
      code: 0,
      out:
        "NAME   RULE    VIP            PROTOCOL   PORT   BACKEND-PORT           POOL\n" +
        "web    p80     203.0.113.10   tcp        80     80; 81 on 10.1.0.5     web\n" +
        "web    p443    203.0.113.10   tcp        443    443; 81 on 10.1.0.5    web\n" +
        "web    p8080   203.0.113.10   tcp        8080   8080; 81 on 10.1.0.5   web\n" +
        "web    p8443   203.0.113.10   tcp        8443   8443; 81 on 10.1.0.5   web\n",
      err: "",
    });
    expect((await site.run("vip show 203.0.113.10")).out).toBe((await site.run("vip show web")).out);
    expect((await site.run("vip show")).out).not.toContain("203.0.113.11");
    expect((await site.run("vip show -A")).out).toContain("dns    dns     203.0.113.11   udp        53     53");
    expect((await site.run("vip show nope")).code).toBe(1);
    expect((await site.run("vip show 203.0.113.99")).err).toBe(
      "error: no Vip has the address 203.0.113.99 (NOT_FOUND)\n",
    );
  });

  test("says of each form of rule which port the machine sees", async () => {
    const site = await siteWithWeb("vip show forms");
    site.put({
      metadata: { name: "forms" },
      vip: {
        address: "203.0.113.12",
        rules: [
          { name: "dns", protocol: RULE_PROTOCOL_TCP_UDP, port: 53, backendPort: 5_353, pool: "web" },
          { name: "held", protocol: RULE_PROTOCOL_TCP_UDP, port: 54, pool: "web", floatingIp: true },
          { name: "rest", protocol: RULE_PROTOCOL_ALL, pool: "web" },
        ],
        inboundNat: [{ name: "ssh", protocol: "tcp", ports: "50000-50009", pool: "web", backendPort: 22 }],
      },
    });
    expect((await site.run("vip show forms")).out).toBe(
      "NAME    RULE                VIP            PROTOCOL   PORT          BACKEND-PORT           POOL\n" +
        "forms   dns                 203.0.113.12   tcp_udp    53            5353; 81 on 10.1.0.5   web\n" +
        "forms   held                203.0.113.12   tcp_udp    54            54                     web\n" +
        "forms   rest                203.0.113.12   all        all           the same               web\n" +
        "forms   ssh (inbound NAT)   203.0.113.12   tcp        50000-50009   22                     web\n",
    );
    const { items } = JSON.parse((await site.run("vip show forms -o json")).out) as { items: unknown[] };
    expect(items[0]).toEqual({
      apiVersion: "ananta/v1",
      kind: "Endpoint",
      type: "rule",
      name: "forms",
      tenant: "default",
      rule: "dns",
      vip: "203.0.113.12",
      protocol: "tcp_udp",
      port: "53",
      backendPort: 5_353,
      pool: "web",
      ownPorts: [{ dip: "10.1.0.5", port: 81 }],
    });
  });
});

test("vip withdraw and restore take the address as well as the name, whoever's VIP it is", async () => {
  const site = await siteWithWeb("vip address");
  expect((await site.run("vip withdraw 203.0.113.11 --reason flood --for 10m")).out).toBe(
    "vip/dns withdrawn; announced again by itself after 10 m\n",
  );
  expect([...site.withdrawn]).toEqual([["Vip/bank/dns", "flood for 600"]]);
  expect((await site.run("vip restore 203.0.113.11")).out).toBe("vip/dns restored\n");
  const unknown = await site.run("vip withdraw 203.0.113.99 --reason flood");
  expect([unknown.code, unknown.err]).toEqual([1, "error: no Vip has the address 203.0.113.99 (NOT_FOUND)\n"]);
});

describe("pool health", () => {
  test("lists every member with its state and the reason, and exits 3 when one is not up", async () => {
    const site = await siteWithWeb("pool health");
    expect(await site.run("pool health web")).toEqual({
      code: 0,
      out: "POOL   DIP        HOST     HEALTH   REASON\nweb    10.1.0.4   host-1   up       <none>\nweb    10.1.0.5   host-2   up       <none>\n",
      err: "",
    });
    site.memberHealth.set("10.1.0.5", { health: "down", reason: "connection refused" });
    const down = await site.run("pool health");
    expect(down.code).toBe(3);
    expect(down.out).toContain("web    10.1.0.5   host-2   down     connection refused\n");
    const { items } = JSON.parse((await site.run("pool health -o json")).out) as { items: unknown[] };
    expect(items[1]).toMatchObject({ kind: "MemberHealth", pool: "web", dip: "10.1.0.5", health: "down" });
    site.memberHealth.set("10.1.0.5", { health: "draining", reason: "its weight is 0; 20 s left" });
    expect((await site.run("pool health")).code, "somebody wanted that").toBe(0);
    expect((await site.run("pool health nope")).code).toBe(1);
  });
});
