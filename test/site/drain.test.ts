/**
 * A machine is taken out of service before it is stopped: it leaves its pool, keeps its connections for the drain timeout while the
 * Managers lose their leader, and then those that are still open are reset at both ends; nobody else notices.
 */
import { expect, it } from "vitest";
import { BACKEND_PORT } from "../../fabric/site.js";
import { OPERATOR_GET } from "../../manager/api/methods.js";
import { destination, poolObject, ruleObject, vipObject, WholeSite } from "./whole-site.js";

const VIP = "203.0.113.10";
const HOSTS = [["10.0.1.1"], ["10.0.2.1"], ["10.0.3.1"]];
const [GOING = "", ...STAYING] = HOSTS.flat();
const TIMEOUT_SECONDS = 20;
const web = (members: readonly (readonly [string, number])[]): ReturnType<typeof poolObject> =>
  poolObject("web", [], {
    members: members.map(([dip, weight]) => ({ dip, weight })),
    drainTimeoutSeconds: TIMEOUT_SECONDS,
  });
const all = HOSTS.flat().map((dip) => [dip, 100] as const);

it.each([
  { how: "leaves its pool", wanted: STAYING.map((dip) => [dip, 100] as const) },
  { how: "has weight 0", wanted: [[GOING, 0] as const, ...STAYING.map((dip) => [dip, 100] as const)] },
])(
  "a member that $how keeps its connections for the timeout, across a change of leader, and then they are reset",
  async ({ how, wanted }) => {
    const site = await WholeSite.start(
      { name: `drain: ${how}`, hosts: HOSTS },
      web(all),
      vipObject("web", VIP, { rules: [ruleObject(`tcp/80 -> web:${BACKEND_PORT}`)] }),
    );
    const toWeb = { destinations: [destination(VIP, 80)] };
    const open = site.flows({ flows: 300, requestIntervalMs: 1_000, ...toWeb });
    await site.untilOpen(open, 300);
    await site.advance(3_000);
    const going = site.machine(1);
    const draining = going.connectionCount;
    expect(draining).toBeGreaterThan(50);

    await site.apply(web(wanted));
    const begunMs = site.nowMs;
    const fresh = site.flows({ flows: 300, ...toWeb });
    await site.untilOpen(fresh, 300);
    expect(fresh.statistics().spread.has(GOING), "no new connection reaches it").toBe(false);
    const status = async () => {
      const { object } = await site.managers.call(site.managers.leader() ?? 0, OPERATOR_GET, {
        ref: { kind: "BackendPool", name: "web" },
      });
      return object?.status?.members?.find(({ dip }) => dip === GOING);
    };
    const shown = await status();
    expect(shown).toMatchObject({ health: "draining", host: "host-1" });
    const leftSeconds = TIMEOUT_SECONDS - (site.nowMs - begunMs) / 1_000;
    expect(Math.abs((shown?.drainSecondsLeft ?? 0) - leftSeconds)).toBeLessThanOrEqual(1);
    expect(shown?.reason).toContain(`${shown?.drainSecondsLeft ?? 0} s left`);

    const leader = site.managers.leader() ?? 0;
    site.managers.kill(leader);
    await site.advance((TIMEOUT_SECONDS - 1) * 1_000 - (site.nowMs - begunMs));
    expect(site.managers.leader()).not.toBe(leader);
    expect(open.statistics(), "they go on").toMatchObject({ open: 300, brokenCount: 0 });
    expect(going.connectionCount).toBe(draining);

    await site.advance(2_500);
    expect(open.statistics()).toMatchObject({ open: 300 - draining, brokenCount: draining });
    expect(new Set(open.statistics().broken.map(({ because }) => because))).toEqual(new Set(["reset"]));
    expect(going.connectionCount, "the machine was reset, too").toBe(0);
    const ends = site.agents.map((agent) => agent.dataplane.endedFlowCounts().get("the drain of the DIP was over"));
    expect(ends).toEqual([draining, 0, 0]);
    expect(await status()).toMatchObject({ health: "drained" });

    await site.managers.restart(leader);
    await site.advance(5_000);
    expect(fresh.statistics()).toMatchObject({ open: 300, brokenCount: 0 });
    expect(open.statistics(), "nobody else was hit").toMatchObject({ open: 300 - draining, brokenCount: draining });

    await site.apply(web(all));
    const again = site.flows({ flows: 300, ...toWeb });
    await site.untilOpen(again, 300);
    expect(again.statistics().spread.get(GOING) ?? 0, "and it serves again").toBeGreaterThan(50);
    await site.stop();
  },
);
