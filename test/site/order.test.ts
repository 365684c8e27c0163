/**
 * Who hears of a change first. What MUXes will send, hosts know before; what hosts are to forget, MUXes have forgotten before. Of
 * port ranges the other way: a host hears of its range when all MUXes send its replies there. Seen at the tables of real MUXes and
 * agents, item by item, in the order in which they came into force.
 */
import { afterEach, describe, expect, it } from "vitest";
import type { TableDelta } from "../../dataplane/contract.js";
import { type HostChange, type HostItem, hostItemKey } from "../../dataplane/host-items.js";
import { MEMBER_DOWN, type MuxChange, type MuxItem, muxItemKey } from "../../dataplane/mux-items.js";
import type { ApiObject } from "../../fabric/control/manager-api.js";
import { BACKEND_PORT } from "../../fabric/site.js";
import { MUXES, poolObject, ruleObject, vipObject, WholeSite } from "./whole-site.js";

const VIP = "203.0.113.10";
const HOSTS = [["10.0.1.1"], ["10.0.2.1"], ["10.0.3.1"]];
const HOST_COUNT = HOSTS.length;
const DIPS = HOSTS.flat();
const web = (dips: readonly string[]) => poolObject("web", dips);
const webVip = (...rules: readonly string[]) => vipObject("web", VIP, { rules: rules.map((rule) => ruleObject(rule)) });
const HTTP = `tcp/80 -> web:${BACKEND_PORT}`;

interface Seen {
  readonly who: "mux" | "host";
  readonly receiver: number;
  readonly key: string;
  /** Null: it is gone. */
  readonly item: MuxItem | HostItem | null;
  readonly atMs: number;
}

/** Everything that comes into force anywhere, in order. */
class Order {
  readonly #site: WholeSite;
  #seen: Seen[] = [];

  constructor(site: WholeSite) {
    this.#site = site;
    site.muxes.forEach((mux, receiver) => this.#watch("mux", receiver, mux.dataplane.tables, muxItemKey));
    site.agents.forEach((agent, receiver) => this.#watch("host", receiver, agent.dataplane.tables, hostItemKey));
  }

  #watch<Item extends MuxItem | HostItem, Change extends MuxChange | HostChange>(
    who: Seen["who"],
    receiver: number,
    tables: { apply: (delta: TableDelta<Item, Change>, index: never) => string },
    keyOf: (item: Item) => string,
  ): void {
    const apply = tables.apply.bind(tables);
    tables.apply = (delta, index) => {
      const outcome = apply(delta, index);
      expect(delta.kind, "nobody fell behind so far that it got a whole view").toBe("changes");
      if (delta.kind !== "changes" || outcome !== "in-force") return outcome;
      for (const change of delta.changes) {
        const item = change.op === "upsert" ? (change.item as Item) : null;
        const key = item === null ? (change as { readonly key: string }).key : keyOf(item);
        this.#seen.push({ who, receiver, key, item, atMs: this.#site.nowMs });
      }
      return outcome;
    };
  }

  forget(): void {
    this.#seen = [];
  }

  /** Where in the order each receiver first saw it; as many as there are. */
  places(who: Seen["who"], count: number, matches: (seen: Seen) => boolean): readonly number[] {
    const places = new Map<number, number>();
    this.#seen.forEach((seen, place) => {
      if (seen.who === who && matches(seen) && !places.has(seen.receiver)) places.set(seen.receiver, place);
    });
    expect(places.size, `${who}es that saw it`).toBe(count);
    return [...places.values()];
  }

  when(who: Seen["who"], matches: (seen: Seen) => boolean): readonly number[] {
    return this.#seen.filter((seen) => seen.who === who && matches(seen)).map(({ atMs }) => atMs);
  }

  keys(who: Seen["who"], prefix: string): readonly string[] {
    return [
      ...new Set(this.#seen.filter((one) => one.who === who && one.key.startsWith(prefix)).map(({ key }) => key)),
    ];
  }
}

const there =
  (prefix: string) =>
  ({ key, item }: Seen): boolean =>
    key.startsWith(prefix) && item !== null;
const gone =
  (prefix: string) =>
  ({ key, item }: Seen): boolean =>
    key.startsWith(prefix) && item === null;

function before(first: readonly number[], then: readonly number[], what: string): void {
  expect(Math.max(...first), what).toBeLessThan(Math.min(...then));
}

let site: WholeSite | null = null;

async function start(name: string, ...objects: readonly ApiObject[]): Promise<[WholeSite, Order]> {
  site = await WholeSite.start({ name: `order: ${name}`, hosts: HOSTS }, ...objects);
  return [site, new Order(site)];
}

afterEach(async () => {
  await site?.stop();
  site = null;
});

describe("an addition reaches every host before any MUX, a removal every MUX before any host", () => {
  it("a VIP", async () => {
    const [here, order] = await start("VIP", web(DIPS));
    await here.apply(webVip(HTTP));
    before(
      order.places("host", HOST_COUNT, there("endpoint/1/6/80/")),
      order.places("mux", MUXES, there("vip/1")),
      "the VIP comes",
    );
    order.forget();
    await here.delete({ kind: "Vip", name: "web" });
    before(
      order.places("mux", MUXES, gone("vip/1")),
      order.places("host", HOST_COUNT, gone("endpoint/1/6/80/")),
      "the VIP goes",
    );
  });

  it("a rule", async () => {
    const [here, order] = await start("rule", web(DIPS), webVip(HTTP));
    await here.apply(webVip(HTTP, "tcp/443 -> web:8443"));
    before(
      order.places("host", HOST_COUNT, there("endpoint/1/6/443/")),
      order.places("mux", MUXES, there("rule/1/6/443")),
      "the rule comes",
    );
    order.forget();
    await here.apply(webVip(HTTP));
    before(
      order.places("mux", MUXES, gone("rule/1/6/443")),
      order.places("host", HOST_COUNT, gone("endpoint/1/6/443/")),
      "the rule goes",
    );
  });

  it("a member of a pool", async () => {
    const [here, order] = await start("member", web(DIPS.slice(1)), webVip(HTTP));
    const members = (count: number) => (seen: Seen) => seen.item?.kind === "pool" && seen.item.members.length === count;
    await here.apply(web(DIPS));
    before(
      order.places("host", 1, there("endpoint/1/6/80/")),
      order.places("mux", MUXES, members(HOST_COUNT)),
      "the member comes",
    );
    order.forget();
    await here.apply(web(DIPS.slice(1)));
    before(
      order.places("mux", MUXES, members(HOST_COUNT - 1)),
      order.places("host", 1, gone("endpoint/1/6/80/")),
      "the member goes",
    );
  });

  it("at once: no replica, through which hosts and operators hear of it, waits for the leader's next beat", async () => {
    const [here] = await start("at once", web(DIPS), webVip(HTTP));
    let knownAtMs = 0;
    for (const { nodeId } of here.managers.replicas)
      here.managers.manager(nodeId).muxSafeIndex.onAdvance(() => (knownAtMs = here.nowMs));
    const took: number[] = [];
    for (let port = 1_001; port <= 1_010; port++) {
      await here.advance(137);
      const fromMs = here.nowMs;
      await here.apply(webVip(HTTP, `tcp/${port} -> web:8443`));
      took.push(Math.round(knownAtMs - fromMs));
    }
    expect(Math.max(...took), `ms until all replicas know that it is in force: ${took.join(", ")}`).toBeLessThan(15);
  });

  it("also when a host is slow to hear of it, for as long as the Managers wait", async () => {
    const [here, order] = await start("slow host", web(DIPS), webVip(HTTP));
    here.world.pause("host-2");
    const applied = here.apply(webVip(HTTP, "tcp/443 -> web:8443"));
    await here.advance(250);
    expect(order.keys("mux", "rule/1/6/443"), "no MUX uses what a host does not know").toEqual([]);
    here.world.resume("host-2");
    await applied;
    before(
      order.places("host", HOST_COUNT, there("endpoint/1/6/443/")),
      order.places("mux", MUXES, there("rule/1/6/443")),
      "the rule comes",
    );
  });

  // Hosts are told of nothing that a live MUX lacks: until this one is declared lost they cannot know, and no MUX may send them anything.
  it("also while a MUX is silent and not declared lost yet", async () => {
    const [here, order] = await start("silent MUX", web(DIPS), webVip(HTTP));
    here.world.pause("mux-8");
    const applied = here.apply(webVip(HTTP, "tcp/443 -> web:8443"));
    await here.advance(2_000);
    expect(order.keys("host", "endpoint/1/6/443/"), "hosts cannot be told").toEqual([]);
    expect(order.keys("mux", "rule/1/6/443"), "so no MUX uses it").toEqual([]);
    await applied;
    before(
      order.places("host", HOST_COUNT, there("endpoint/1/6/443/")),
      order.places("mux", MUXES - 1, there("rule/1/6/443")),
      "the rule comes",
    );
    here.killMux(8);
  });
});

describe("port ranges", () => {
  it("a host hears of its range when every MUX has it, and loses it from its view when every MUX has; a rule on it comes last", async () => {
    const [here, order] = await start("range", web(DIPS));
    const outbound = { pools: ["web"], maxPorts: 64 };
    const vip = (...rules: readonly string[]) =>
      vipObject("web", VIP, { rules: rules.map((rule) => ruleObject(rule)), outbound });
    await here.apply(vip(HTTP));
    await here.world.runUntil(() => order.keys("host", "range/1/6/").length >= HOST_COUNT, 5_000, "each has ports");
    await here.advance(500);
    const ranges = order.keys("host", "range/1/6/").map((key) => key.slice("range/1/6/".length));
    expect(ranges.length).toBeGreaterThanOrEqual(HOST_COUNT);
    for (const range of ranges)
      before(
        order.places("mux", MUXES, there(`snat/1/6/${range}`)),
        order.places("host", 1, there(`range/1/6/${range}`)),
        `range ${range} is granted`,
      );

    const wanted = Number(ranges[0]);
    const port = wanted * 8 + 3;
    await here.apply(vip(HTTP, `tcp/${port} -> web:9000`));
    await here.advance(130_000);
    const released = order.places("mux", MUXES, gone(`snat/1/6/${wanted}`));
    before(released, order.places("host", 1, gone(`range/1/6/${wanted}`)), "the range goes");
    const ruled = order.places("mux", MUXES, there(`rule/1/6/${port}`));
    before(released, ruled, "a rule has the port when SNAT has given it back");
    const rest =
      Math.min(...order.when("mux", there(`rule/1/6/${port}`))) -
      Math.max(...order.when("mux", gone(`snat/1/6/${wanted}`)));
    expect(rest, "and when it has rested").toBeGreaterThan(119_000);
  });
});

describe("a verdict of a host's probe", () => {
  const PROBE = { protocol: "tcp", port: BACKEND_PORT, intervalSeconds: 1, timeoutSeconds: 1, unhealthyThreshold: 2 };
  const probed = poolObject("web", DIPS, { probe: PROBE });
  const downOn = (here: WholeSite, n: number): readonly number[] =>
    [...here.muxes[n]!.dataplane.tables.items()].flatMap((item) =>
      item.kind === "pool" ? item.members.filter(({ state }) => state === MEMBER_DOWN).map(({ dipId }) => dipId) : [],
    );

  it("is committed and reaches all MUXes: those that are there, one that was cut off, and one that starts later", async () => {
    site = await WholeSite.start({ name: "verdict everywhere", hosts: HOSTS }, probed, webVip(HTTP));
    const here = site;
    await here.advance(3_000);
    const downEverywhere = (): number => here.muxes.filter((_, n) => downOn(here, n).length === 1).length;
    expect(downEverywhere()).toBe(0);
    here.killMux(7);
    for (const { nodeId } of here.managers.replicas) here.world.cut("mux-8", `manager-${nodeId}`);
    here.machine(1).unlisten(BACKEND_PORT);
    await here.world.runUntil(() => downEverywhere() === MUXES - 2, 4_000, "six MUXes know");
    expect(downOn(here, 7), "the one that is cut off does not").toEqual([]);
    for (const id of here.managers.replicas.map(({ nodeId }) => nodeId)) {
      const { state } = here.managers.manager(id);
      const dip = state.dipAt("default", DIPS[0] as never)!.dipId;
      expect(state.memberHealth(1 as never, dip)?.reason, `replica ${id}`).toContain("refused");
    }
    here.world.heal();
    await here.world.runUntil(() => downOn(here, 7).length === 1, 15_000, "the one that was cut off knows");
    await here.restartMux(7);
    await here.world.runUntil(() => downEverywhere() === MUXES, 15_000, "the one that started later knows");
    expect(new Set(here.muxes.flatMap((_, n) => downOn(here, n))).size, "of the same member").toBe(1);
    const digests = new Set(here.muxes.map(({ dataplane }) => dataplane.tables.digest()));
    await here.advance(500);
    expect(digests.size).toBe(1);
  });
});
