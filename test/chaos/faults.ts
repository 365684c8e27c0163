/**
 * What is done to the site. Each fault begins, lasts, and is healed before the next one begins, so that never more than a
 * minority of the Managers is lost; only the long pause goes on beside others.
 */
import type { Random } from "../../core/random.js";
import { CLUSTER_TRANSFER_LEADERSHIP } from "../../manager/api/methods.js";
import type { ChaosSite } from "./chaos-site.js";

export interface Fault {
  readonly name: string;
  /** Takes two Managers, or each in turn: not while another one is stopped for long. */
  readonly wide?: true;
  /** Does it and heals it. Answers whom it met; null: nobody could be met (no leader at the moment). */
  run(chaos: ChaosSite, random: Random): Promise<string | null>;
}

const BACK_MS = 15_000;
/** The next leader may be killed while the last one still starts: three of five are left. */
const LEADER_BACK_MS = 4_000;
/** Long enough for elections and for what clients do meanwhile. */
const HOLD_MIN_MS = 1_500;
const HOLD_SPREAD_MS = 4_000;

const hold = (random: Random): number => HOLD_MIN_MS + random.below(HOLD_SPREAD_MS);
const pick = <T>(random: Random, from: readonly T[]): T => from[random.below(from.length)]!; // below its length

export const KILL_LEADER: Fault = {
  name: "kill -9 of the leader",
  async run(chaos) {
    const leader = await chaos.leader();
    if (leader === null || !chaos.kill(leader.name)) return null;
    await chaos.sleep(1_200);
    chaos.start(leader.name);
    await chaos.answers(leader.name, LEADER_BACK_MS);
    return leader.name;
  },
};

const killFollower: Fault = {
  name: "kill -9 of a follower",
  async run(chaos, random) {
    const leader = await chaos.leader();
    return killed(chaos, random, [
      pick(
        random,
        chaos.managers.filter((name) => name !== leader?.name),
      ),
    ]);
  },
};

const killTwo: Fault = {
  name: "kill -9 of two Managers at once",
  wide: true,
  async run(chaos, random) {
    const leader = await chaos.leader();
    const first = leader?.name ?? pick(random, chaos.managers);
    return killed(chaos, random, [
      first,
      pick(
        random,
        chaos.managers.filter((name) => name !== first),
      ),
    ]);
  },
};

const killMux: Fault = {
  name: "kill -9 of a MUX",
  run: (chaos, random) => killed(chaos, random, [pick(random, chaos.site.plan.muxes).name]),
};

const killAgent: Fault = {
  name: "kill -9 of an agent",
  run: (chaos, random) => killed(chaos, random, [pick(random, chaos.site.plan.hosts).name]),
};

async function killed(chaos: ChaosSite, random: Random, names: readonly string[]): Promise<string | null> {
  const met = names.filter((name) => chaos.kill(name));
  await chaos.sleep(hold(random));
  for (const name of names) chaos.start(name);
  for (const name of names) if (chaos.managers.includes(name)) await chaos.answers(name, BACK_MS);
  return met.length === 0 ? null : met.join(", ");
}

const pauseLeader: Fault = {
  name: "SIGSTOP of the leader",
  async run(chaos, random) {
    const leader = await chaos.leader();
    return leader === null ? null : paused(chaos, random, leader.name);
  },
};

const pauseOther: Fault = {
  name: "SIGSTOP of a MUX or an agent",
  run: (chaos, random) =>
    paused(chaos, random, pick(random, [...chaos.site.plan.muxes, ...chaos.site.plan.hosts]).name),
};

async function paused(chaos: ChaosSite, random: Random, name: string): Promise<string> {
  chaos.pause(name);
  await chaos.sleep(hold(random));
  chaos.resume(name);
  return name;
}

const partitionLeader: Fault = {
  name: "partition: the leader with one follower",
  wide: true,
  async run(chaos, random) {
    const leader = await chaos.leader();
    if (leader === null) return null;
    const minority = [
      leader.name,
      pick(
        random,
        chaos.managers.filter((name) => name !== leader.name),
      ),
    ];
    return cutBoth(
      chaos,
      random,
      minority,
      chaos.managers.filter((name) => !minority.includes(name)),
    );
  },
};

const partitionBridge: Fault = {
  name: "partition: a bridge",
  wide: true,
  run(chaos, random) {
    const [bridge = "", ...others] = shuffled(random, chaos.managers);
    return cutBoth(chaos, random, others.slice(0, 2), others.slice(2), `${bridge} between `);
  },
};

const partitionClients: Fault = {
  name: "partition: a MUX or agent from three Managers",
  run(chaos, random) {
    const name = pick(random, [...chaos.site.plan.muxes, ...chaos.site.plan.hosts]).name;
    return cutBoth(chaos, random, [name], shuffled(random, chaos.managers).slice(0, 3));
  },
};

async function cutBoth(
  chaos: ChaosSite,
  random: Random,
  some: readonly string[],
  others: readonly string[],
  prefix = "",
): Promise<string> {
  chaos.mesh.cut(some, others);
  chaos.mesh.cut(others, some);
  await chaos.sleep(hold(random));
  chaos.mesh.heal(random.below(2) === 0);
  return `${prefix}${some.join(" ")} | ${others.join(" ")}`;
}

const deafLeader: Fault = {
  name: "one-way cut: the leader hears nobody",
  run: (chaos, random) => oneWay(chaos, random, (leader, others) => chaos.mesh.cut(others, [leader])),
};

const muteLeader: Fault = {
  name: "one-way cut: nobody hears the leader",
  run: (chaos, random) => oneWay(chaos, random, (leader, others) => chaos.mesh.cut([leader], others)),
};

async function oneWay(
  chaos: ChaosSite,
  random: Random,
  cut: (leader: string, others: readonly string[]) => void,
): Promise<string | null> {
  const leader = await chaos.leader();
  if (leader === null) return null;
  cut(
    leader.name,
    chaos.managers.filter((name) => name !== leader.name),
  );
  await chaos.sleep(hold(random));
  chaos.mesh.heal(random.below(2) === 0);
  return leader.name;
}

const fullDisk: Fault = {
  name: "full disk",
  async run(chaos, random) {
    chaos.disk.fill();
    await chaos.sleep(hold(random));
    chaos.disk.empty();
    await chaos.sleep(300);
    chaos.start(chaos.diskOwner); // one that met the full disk in a write has ended
    await chaos.answers(chaos.diskOwner, BACK_MS);
    return `${chaos.diskOwner} (${chaos.disk.kind})`;
  },
};

const rollingRestart: Fault = {
  name: "rolling restart",
  wide: true,
  async run(chaos) {
    for (const name of chaos.managers) {
      await chaos.end(name);
      chaos.start(name);
      await chaos.answers(name, BACK_MS);
    }
    return "all Managers";
  },
};

const transfer: Fault = {
  name: "leader transfer",
  async run(chaos) {
    const answer = await chaos.site.api
      .any(CLUSTER_TRANSFER_LEADERSHIP, { nodeId: 0 }, { deadlineMs: 5_000, hedgeMs: 5_000 })
      .catch(() => null);
    await chaos.sleep(500);
    return answer === null ? null : `manager-${answer.before ?? 0} to manager-${answer.leader ?? 0}`;
  },
};

/** Every one of them but the kill of the leader, which comes between them. */
export const OTHER_FAULTS: readonly Fault[] = [
  killFollower,
  killTwo,
  killMux,
  killAgent,
  pauseLeader,
  pauseOther,
  partitionLeader,
  partitionBridge,
  partitionClients,
  deafLeader,
  muteLeader,
  fullDisk,
  rollingRestart,
  transfer,
];

export function shuffled<T>(random: Random, items: readonly T[]): readonly T[] {
  const deck = [...items];
  for (let at = deck.length - 1; at > 0; at--) {
    const other = random.below(at + 1);
    [deck[at], deck[other]] = [deck[other]!, deck[at]!];
  }
  return deck;
}
