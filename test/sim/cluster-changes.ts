/**
 * What an operator does to the cluster itself: replicas join as learners, are promoted and removed, damaged ones are
 * replaced, leadership is handed around. Each change is a small task that asks one replica after another until it is done,
 * refused for good, or the faults are over.
 */
import { AnantaError } from "../../core/errors.js";
import type { Random } from "../../core/random.js";
import {
  CLUSTER_ADD_REPLICA,
  CLUSTER_PROMOTE_REPLICA,
  CLUSTER_REMOVE_REPLICA,
  CLUSTER_TRANSFER_LEADERSHIP,
} from "../../manager/api/methods.js";
import type { Env, Method } from "../../runtime/env.js";
import { addressesOf, type ManagerProcess, type SimSite } from "./site.js";

const CALL_MS = 1_000;
const PAUSE_MS = 150;
/** A change that has not come through by then is left as it is. */
const GIVE_UP_MS = 15_000;
/** Replicas that join in one world at most. */
const JOINS_MAX = 3;

export class ClusterChanges {
  /** Tasks that have not ended. */
  running = 0;
  private readonly site: SimSite;
  private readonly env: Env;
  private joins = 0;
  private next = 0;

  constructor(site: SimSite) {
    this.site = site;
    this.env = site.world.env("administrator");
  }

  /**
   * Voters that may be without their durable state at a time; none while a change is under way. Between two leaders the
   * fewest voters that any replica knows of count: of four, the loss of two is the loss of the quorum.
   */
  damageAllowed(): number {
    if (this.running > 0) return 0;
    const members = this.site.managers.filter(({ retired }) => !retired);
    const known = members.map(({ unit }) => unit?.raftStatus().voters.length ?? 0).filter((voters) => voters > 0);
    return Math.floor((Math.min(this.site.plan.managers, members.length, ...known) - 1) / 2);
  }

  /** Takes a replica in, or one out. */
  change(random: Random): boolean {
    if (this.running > 0) return false;
    const voters = this.site.inOffice()?.unit?.raftStatus().voters ?? [];
    const damaged = this.site.managers.some((one) => one.damaged !== null && !one.retired);
    if (voters.length > 3 && !damaged && random.below(2) === 0) {
      const leaving = voters[random.below(voters.length)];
      const one = this.site.managers.find(({ id }) => id === leaving);
      if (one === undefined) return false;
      this.task(() => this.remove(one));
      return true;
    }
    if (this.joins >= JOINS_MAX) return false;
    this.task(() => this.join(null));
    return true;
  }

  /** A replica whose state is lost comes back as a new one, as the manual says: a new id, joining, in the old one's place. */
  replaceDamaged(): boolean {
    if (this.running > 0 || this.joins >= JOINS_MAX) return false;
    const lost = this.site.managers.find((one) => one.damaged !== null && !one.retired);
    if (lost === undefined) return false;
    this.task(() => this.join(lost));
    return true;
  }

  transferStorm(times: number, random: Random): boolean {
    this.task(async () => {
      for (let n = 0; n < times; n++) {
        const target = 1 + random.below(this.site.plan.managers);
        await this.once(CLUSTER_TRANSFER_LEADERSHIP, { nodeId: random.below(3) === 0 ? 0 : target });
        await this.pause(random.below(120));
      }
    });
    return true;
  }

  private async join(replaced: ManagerProcess | null): Promise<void> {
    this.joins++;
    const one = this.site.addManager();
    const { nodeId, raftAddress, apiAddress } = addressesOf(one.id);
    const added = await this.until(CLUSTER_ADD_REPLICA, { nodeId, raftAddress, apiAddress });
    if (!added) return;
    const promoted = await this.until(CLUSTER_PROMOTE_REPLICA, { nodeId, replacing: replaced?.id ?? 0 });
    if (promoted && replaced !== null) this.retire(replaced);
  }

  private async remove(one: ManagerProcess): Promise<void> {
    if (await this.until(CLUSTER_REMOVE_REPLICA, { nodeId: one.id })) this.retire(one);
  }

  private retire(one: ManagerProcess): void {
    one.retired = true;
    this.site.crash(one, { disk: "process" }, null);
  }

  private async until<Request, Response>(method: Method<Request, Response>, request: Request): Promise<boolean> {
    const endMs = this.env.clock.nowMs() + GIVE_UP_MS;
    while (this.env.clock.nowMs() < endMs) {
      if (await this.once(method, request)) return true;
      await this.pause(PAUSE_MS);
    }
    return false;
  }

  private async once<Request, Response>(method: Method<Request, Response>, request: Request): Promise<boolean> {
    const running = this.site.managers.filter(({ ready, retired }) => ready && !retired);
    const asked = this.site.inOffice() ?? running[this.next++ % Math.max(1, running.length)];
    if (asked === undefined) return false;
    const channel = this.env.network.connect(addressesOf(asked.id).apiAddress);
    try {
      await channel.call(method, request, { deadlineMs: CALL_MS });
      return true;
    } catch (caught) {
      const { code, message } = AnantaError.from(caught);
      this.site.world.log.note(
        this.site.world.nowMs,
        `administrator: ${method.path} ${JSON.stringify(request)}: ${code} ${message}`,
      );
      return false;
    } finally {
      channel.close();
    }
  }

  private task(work: () => Promise<void>): void {
    this.running++;
    void work().finally(() => {
      this.running--;
    });
  }

  private pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.env.clock.setTimer(delayMs, resolve);
    });
  }
}
