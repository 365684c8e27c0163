/**
 * A rule on a port that SNAT has lent out, in a whole site on virtual time: a machine has connections to the outside that live
 * long, and one of them uses a port of the range that the rule wants. None of them breaks, no new one gets the range, and the
 * rule is in force 120 s after the last one on the range has closed.
 */
import { expect, it } from "vitest";
import { createAgent } from "../../agent/agent.js";
import { agentConfig } from "../../agent/config.js";
import { ManagerApi } from "../../fabric/control/manager-api.js";
import type { TcpHandle } from "../../fabric/endpoints/endpoint.js";
import { line, LineReader, parseAnswer } from "../../fabric/endpoints/identity-server.js";
import { Fabric } from "../../fabric/fabric.js";
import { DEMO_VIP, planSite, SERVER_PORT } from "../../fabric/site.js";
import { OPERATOR_GET, SNAT_LIST } from "../../manager/api/methods.js";
import { muxConfig } from "../../mux/config.js";
import { createMux } from "../../mux/mux.js";
import { finishesCleanly } from "../kit/finishes-cleanly.js";
import { testSeed, VirtualWorld } from "../kit/virtual-world.js";
import { CLUSTER_ID, VirtualManagers } from "./virtual-managers.js";

const plan = planSite(53_000);
const host = plan.hosts[0]!;
const VIP = DEMO_VIP;

/** A connection to a server outside, which says after each question as whom it sees us. */
interface Conversation {
  readonly handle: TcpHandle;
  /** Port of the VIP, as the server saw it last; 0 before the first answer. */
  port: number;
  answers: number;
  ended: string | null;
}

it(
  "waits for the range's flows, breaks none, and takes force when the range has rested",
  { timeout: 120_000 },
  async () => {
    const world = new VirtualWorld({ seed: testSeed("recall"), logLevel: "info" });
    const managers = new VirtualManagers(world, { count: 3 });
    const api = new ManagerApi(world.env("client"), managers.apiAddresses);
    const fabric = await world.run(Fabric.start(world.env("fabric"), plan, { ecmp: "plain" }));
    await managers.startAll();
    const muxes = plan.muxes.map(({ name, address, wire }) =>
      createMux(
        world.env(name),
        muxConfig({
          name,
          clusterId: CLUSTER_ID,
          managers: managers.apiAddresses,
          address: address,
          io: { kind: "fabric", listen: wire, router: plan.router },
        }),
      ),
    );
    for (const mux of muxes) await world.run(mux.start());
    const agent = createAgent(
      world.env(host.name),
      agentConfig({
        name: host.name,
        clusterId: CLUSTER_ID,
        managers: managers.apiAddresses,
        dataFolder: `/data/${host.name}`,
        dips: host.vms.map((vm) => ({ address: vm.dip, nic: vm.nic })),
        io: { kind: "fabric", listen: host.wire, router: plan.router, vmListen: host.vmListen },
      }),
      { failed: (error) => managers.failures.push(error.message) },
    );
    await world.run(agent.start());
    await world.runUntil(() => muxes.every((mux) => mux.status().membership === "joined"), 5_000, "both MUXes joined");

    const session = api.newSession();
    const apply = async (rules: readonly number[]): Promise<void> => {
      const objects = [
        { metadata: { name: "web" }, backendPool: { members: [{ dip: host.vms[0]!.dip }] } },
        {
          metadata: { name: "web" },
          vip: {
            address: VIP,
            outbound: { pools: ["web"] },
            rules: rules.map((port) => ({ name: `r${port}`, protocol: 6, port, pool: "web", backendPort: 8_080 })),
          },
        },
      ];
      await world.run(api.apply(session, objects, { deadlineMs: 10_000, hedgeMs: 3_000 }));
    };
    const converse = (): Conversation => {
      const reader = new LineReader();
      const talk = { port: 0, answers: 0, ended: null as string | null };
      const handle = fabric.vms[0]!.connect(
        plan.servers[0]!,
        SERVER_PORT,
        {
          connected: (connection) => connection.send(line("ask 1")),
          received: (_, payload) => {
            for (const text of reader.push(payload) ?? []) {
              talk.port = Number(parseAnswer(text)?.saw.split(":")[1]);
              talk.answers++;
            }
          },
          peerClosed: () => (talk.ended ??= "by the server"),
          ended: (_, how) => (talk.ended ??= how),
        },
        world.nowMs,
      );
      return Object.assign(talk, { handle });
    };
    const askAll = async (all: readonly Conversation[]): Promise<void> => {
      const before = all.map(({ answers }) => answers);
      for (const { handle } of all) handle.send(line("ask again"));
      await world.runUntil(() => all.every(({ answers }, at) => answers > before[at]!), 5_000, "an answer to each");
    };
    const rulesOnMuxes = (port: number): number =>
      muxes.filter((mux) =>
        [...mux.dataplane.tables.items()].some((item) => item.kind === "rule" && item.port === port),
      ).length;
    const condition = async (): Promise<{ readonly reason: string; readonly message: string } | null> => {
      const { object } = await managers.call(1, OPERATOR_GET, { ref: { kind: "Vip", tenant: "default", name: "web" } });
      const found = (object?.status?.conditions ?? []).find(({ type }) => type === "RulesInForce");
      return found === undefined ? null : { reason: found.reason ?? "", message: found.message ?? "" };
    };
    const statesOf = async (range: number): Promise<readonly string[]> => {
      const { blocks } = await managers.call(1, SNAT_LIST, { vip: VIP });
      return (blocks ?? []).flatMap(({ block, state }) => {
        const first = block?.range ?? 0;
        const isHere = block?.protocol === 6 && first <= range && range < first + (block.count ?? 0);
        return isHere ? [state ?? ""] : [];
      });
    };

    await apply([]);
    await world.advance(2_000);
    const talks = Array.from({ length: 10 }, converse);
    await world.runUntil(() => talks.every(({ answers }) => answers > 0), 10_000, "all are answered");
    const range = talks[0]!.port >> 3;
    const onRange = talks.filter(({ port }) => port >> 3 === range);
    const wanted = range * 8 + 3;

    await apply([80, wanted]);
    await world.advance(3_000);
    expect(rulesOnMuxes(80)).toBe(muxes.length);
    expect(rulesOnMuxes(wanted), "no MUX has the rule").toBe(0);
    expect(await statesOf(range)).toEqual(["recalled"]);
    expect(await condition()).toMatchObject({
      reason: "PortsLent",
      message: expect.stringMatching(
        new RegExp(
          `rule "r${wanted}" waits for port ${wanted}/tcp: DIP default/.* of host ${host.name} uses SNAT ports .*asked back`,
        ),
      ) as string,
    });

    // Minutes of conversations, and new ones that come: none breaks, and none of the new ones gets a port of the range.
    await askAll(talks);
    const late = Array.from({ length: 20 }, converse);
    await world.runUntil(() => late.every(({ answers }) => answers > 0), 10_000, "the late ones are answered");
    expect(late.filter(({ port }) => port >> 3 === range)).toEqual([]);
    await world.advance(300_000);
    await askAll([...talks, ...late]);
    expect([...talks, ...late].filter(({ ended }) => ended !== null)).toEqual([]);
    expect(await statesOf(range), "silence of the owner is no answer").toEqual(["recalled"]);

    for (const { handle } of onRange) handle.close();
    await world.runUntil(() => onRange.every(({ ended }) => ended !== null), 10_000, "they have closed");
    await world.advance(10_000);
    expect(await statesOf(range)).toEqual(["quarantined"]);
    expect(rulesOnMuxes(wanted)).toBe(0);
    await world.advance(125_000);
    expect(rulesOnMuxes(wanted), "in force on every MUX").toBe(muxes.length);
    expect(await condition()).toBeNull();
    expect(await statesOf(range)).toEqual([]);
    await askAll([...talks.filter((talk) => !onRange.includes(talk)), ...late]);

    api.close();
    await world.run(agent.stop());
    for (const mux of muxes) await world.run(mux.stop());
    await managers.stopAll();
    fabric.stop();
    expect(managers.failures).toEqual([]);
    await finishesCleanly(world);
  },
);
