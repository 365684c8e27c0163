/**
 * The operator and the second tenant, in a thread of their own: what they wait for is not the thread that makes the flood. Told how
 * long to go on, and answers with what was measured.
 */
import { parentPort, workerData } from "node:worker_threads";
import { assert } from "../../core/assert.js";
import { hex } from "../../core/hex.js";
import { ManagerApi } from "../../fabric/control/manager-api.js";
import { createNodeEnv } from "../../runtime/node/env.js";
import { pause } from "../measure/manager-site.js";
import { channelsTo, refused, TCP, UDP, VICTIM_DIPS } from "./asking.js";
import { FollowingAgent } from "./following-agent.js";

export interface BystandersData {
  readonly clusterId: string;
  readonly endpoints: readonly string[];
  /** Whom the second tenant's agent asks. */
  readonly leader: string;
  readonly logTo: string;
}

export interface RoundPlan {
  readonly seconds: number;
  readonly who: "operator" | "second tenant" | "both";
  /** Number of the first VIP that the operator applies. */
  readonly first: number;
}

export interface Round {
  readonly applyMs: number[];
  readonly grantMs: number[];
  /** Of the second tenant: each was asked again until it was granted, which is what `grantMs` tells. */
  readonly refusals: Map<string, number>;
}

/** Between two requests of one victim's DIP, and between two changes of the operator. */
const PACE_MS = 50;

/** One VIP after the other, each with a rule: from the request until it is in force on all MUXes. */
async function applyVips(api: ManagerApi, untilMs: number, taken: Round, first: number): Promise<void> {
  const session = api.newSession();
  for (let at = first; performance.now() < untilMs; at++) {
    const sentMs = performance.now();
    const vip = {
      metadata: { tenant: "victim", name: `web-${at}` },
      vip: {
        address: `198.18.${at >> 8}.${at & 255}`,
        rules: [{ name: "http", protocol: TCP, port: 80, pool: "web" }],
      },
    };
    const { inForce } = await api.apply(session, [vip], { deadlineMs: 120_000, hedgeMs: 20_000 });
    assert(inForce, "a VIP is in force on all MUXes in the end");
    taken.applyMs.push(performance.now() - sentMs);
    await pause(PACE_MS);
  }
}

async function askForPorts(agent: FollowingAgent, dip: number, untilMs: number, taken: Round): Promise<void> {
  await pause((PACE_MS * dip) / VICTIM_DIPS.length);
  while (performance.now() < untilMs) {
    const sentMs = performance.now();
    for (let isGranted = false; !isGranted;) {
      try {
        await agent.allocate(dip, dip % 2 === 0 ? TCP : UDP, 8);
        isGranted = true;
      } catch (caught) {
        assert(!agent.isOver, "the second tenant's stream stays");
        await pause(refused(caught, taken.refusals));
      }
    }
    taken.grantMs.push(performance.now() - sentMs);
    await pause(PACE_MS);
  }
}

const port = parentPort;
assert(port !== null, "this runs in a thread of its own");
const { clusterId, endpoints, leader, logTo } = workerData as BystandersData;
const env = createNodeEnv({ name: "bystanders", logLevel: "warn", logTo });
const api = new ManagerApi(env, endpoints);
const agent = await FollowingAgent.start({
  channelTo: channelsTo(env),
  leader,
  clusterId,
  host: "victim",
  bootId: hex(env.entropy(16)),
  newSession: () => hex(env.entropy(16)),
  tenant: "victim",
  dips: VICTIM_DIPS,
  follows: true, // the operator's VIPs lead to one of its DIPs
});
port.on("message", ({ seconds, who, first }: RoundPlan) => {
  const taken: Round = { applyMs: [], grantMs: [], refusals: new Map() };
  const untilMs = performance.now() + seconds * 1_000;
  const operator = who === "second tenant" ? [] : [applyVips(api, untilMs, taken, first)];
  const tenant = who === "operator" ? [] : VICTIM_DIPS.map((_, dip) => askForPorts(agent, dip, untilMs, taken));
  void Promise.all([...operator, ...tenant]).then(() => port.postMessage(taken));
});
port.postMessage("ready");
