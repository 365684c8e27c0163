/** What operators and their tools call (proto/ananta/v1/operator.proto). Any replica answers. */
import { AnantaError } from "../../core/errors.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { CallContext } from "../../runtime/env.js";
import { checkOrigin } from "../projection/origin.js";
import { checkName, tenantOf } from "../projection/agent-streams.js";
import type { ReplicaView } from "../replica-view.js";
import type { ApplyObject, Command } from "../state/commands/commands.js";
import type { ObjectKind, ObjectRef } from "../state/objects.js";
import type { CommandResult, ObjectOutcome } from "../state/commands/results.js";
import { whenInForce, whenMuxesHave } from "./in-force.js";
import { objectPage } from "./objects/pages.js";
import { KIND_WORDS, isKind } from "./objects/schema.js";
import { warningsOf, wireObject } from "./objects/status.js";
import { checkVipPrefixes } from "./objects/vip-prefixes.js";
import { objectsFromWire } from "./objects/wire.js";
import { readPoint } from "./read-state.js";

/** Of why a host was fenced, a VIP withdrawn or a MUX drained, in characters. */
const REASON_MAX = 256;
/** Part of the caller's deadline kept back, so that the answer still reaches it. */
const ANSWER_RESERVE_MS = 200;
const OBJECTS_MAX = 1_000;

export class OperatorService {
  readonly #replica: ReplicaView;

  constructor(replica: ReplicaView) {
    this.#replica = replica;
  }

  async apply(
    request: ananta.v1.ApplyRequest.$Properties,
    call: CallContext,
  ): Promise<ananta.v1.ApplyResponse.$Properties> {
    const objects = checkCount(request.objects ?? [], "objects");
    const wanted = unique(objectsFromWire(objects));
    checkVipPrefixes(wanted, this.#replica.config.vipPrefixes, this.#replica.state);
    const command: Command = { kind: "apply-objects", objects: wanted };
    if (request.dryRun === true) {
      const { index } = await readPoint(this.#replica, false, budget(call));
      throwIfRefused(this.#replica.state.check(command));
      return { outcomes: [], index, inForce: false, warnings: [...warningsOf(wanted, this.#replica.state)] };
    }
    const answer = await this.#change({ origin: request.origin, command, call });
    return { ...answer, warnings: [...warningsOf(wanted, this.#replica.state)] };
  }

  async delete(
    request: ananta.v1.DeleteRequest.$Properties,
    call: CallContext,
  ): Promise<ananta.v1.DeleteResponse.$Properties> {
    const refs = checkCount(request.refs ?? [], "refs").map((ref, position) => {
      const generation = ref.generation ?? 0;
      return { ref: refOf(ref, `refs[${position}]`), expectedGeneration: generation === 0 ? null : generation };
    });
    return this.#change({ origin: request.origin, command: { kind: "delete-objects", objects: refs }, call });
  }

  async get(request: ananta.v1.GetRequest.$Properties, call: CallContext): Promise<ananta.v1.GetResponse.$Properties> {
    const ref = refOf(request.ref ?? {}, "ref");
    const { index, ageMs } = await readPoint(this.#replica, request.stale === true, budget(call));
    const object = this.#replica.state.object(ref);
    if (object === null)
      throw new AnantaError("NOT_FOUND", `${ref.kind} "${ref.name}" does not exist in tenant "${ref.tenant}"`);
    return { object: wireObject(object, this.#replica.state, this.#replica.muxSafeIndex.value), index, ageMs };
  }

  async list(
    request: ananta.v1.ListRequest.$Properties,
    call: CallContext,
  ): Promise<ananta.v1.ListResponse.$Properties> {
    const kind = kindOf(request.kind, "kind");
    const { index, ageMs } = await readPoint(this.#replica, request.stale === true, budget(call));
    const tenant = (request.tenant ?? "") === "" ? null : (request.tenant ?? null);
    const { state, muxSafeIndex } = this.#replica;
    const { objects, nextPage } = objectPage(state.objects(kind, tenant), request.page ?? "", (object) =>
      wireObject(object, state, muxSafeIndex.value),
    );
    return { objects: [...objects], nextPage, index, ageMs };
  }

  async fenceHost(
    request: ananta.v1.FenceHostRequest.$Properties,
    call: CallContext,
  ): Promise<ananta.v1.FenceHostResponse.$Properties> {
    const reason = checkReason(request.reason);
    const command: Command = { kind: "fence-host", name: checkName(request.host, "host"), reason };
    const result = await this.#replica.submit({ origin: checkOrigin(request.origin), command }, budget(call));
    throwIfRefused(result);
    if (!result.ok || result.value.kind !== "host-fenced") throw otherRequest();
    return { ranges: result.value.ranges, index: result.index };
  }

  async withdraw(
    request: ananta.v1.WithdrawVipRequest.$Properties,
    call: CallContext,
  ): Promise<ananta.v1.WithdrawVipResponse.$Properties> {
    const { tenant, name } = refOf({ kind: "Vip", tenant: request.tenant ?? "", name: request.name ?? "" }, "vip");
    const reason = checkReason(request.reason);
    const forSeconds = request.forSeconds ?? 0;
    if (forSeconds !== 0 && (forSeconds < 30 || forSeconds > 86_400))
      throw new AnantaError("INVALID_ARGUMENT", `for_seconds: ${forSeconds} is out of bounds; use 30 to 86400`);
    const command: Command = { kind: "withdraw-vip", tenant, name, reason, forSeconds, isOverload: false };
    return this.#simple(request.origin, command, call);
  }

  async restore(
    request: ananta.v1.RestoreVipRequest.$Properties,
    call: CallContext,
  ): Promise<ananta.v1.RestoreVipResponse.$Properties> {
    const { tenant, name } = refOf({ kind: "Vip", tenant: request.tenant ?? "", name: request.name ?? "" }, "vip");
    return this.#simple(request.origin, { kind: "restore-vip", tenant, name }, call);
  }

  drainMux(
    request: ananta.v1.DrainMuxRequest.$Properties,
    call: CallContext,
  ): Promise<ananta.v1.DrainMuxResponse.$Properties> {
    const name = checkName(request.name, "name");
    const reason = checkReason(request.reason);
    const command: Command = { kind: "drain-mux", name, reason, force: request.force === true };
    return this.#drain(request.origin, command, "mux-drained", call);
  }

  undrainMux(
    request: ananta.v1.UndrainMuxRequest.$Properties,
    call: CallContext,
  ): Promise<ananta.v1.UndrainMuxResponse.$Properties> {
    const command: Command = { kind: "undrain-mux", name: checkName(request.name, "name") };
    return this.#drain(request.origin, command, "mux-undrained", call);
  }

  async #drain(
    origin: ananta.v1.Origin.$Properties | null | undefined,
    command: Command,
    answer: "mux-drained" | "mux-undrained",
    call: CallContext,
  ): Promise<{ index: number; changed: boolean; inForce: boolean; announcing: number }> {
    const { clock } = this.#replica.env;
    const untilMs = clock.nowMs() + budget(call);
    const result = await this.#replica.submit({ origin: checkOrigin(origin), command }, budget(call));
    throwIfRefused(result);
    if (!result.ok || result.value.kind !== answer) throw otherRequest();
    const { changed, announcing } = result.value;
    const inForce = await whenMuxesHave(this.#replica, result.index, Math.max(0, untilMs - clock.nowMs()));
    return { index: result.index, changed, inForce, announcing };
  }

  async #simple(
    origin: ananta.v1.Origin.$Properties | null | undefined,
    command: Command,
    call: CallContext,
  ): Promise<{ index: number }> {
    const result = await this.#replica.submit({ origin: checkOrigin(origin), command }, budget(call));
    throwIfRefused(result);
    if (!result.ok || result.value.kind !== "none") throw otherRequest();
    return { index: result.index };
  }

  async #change(change: {
    readonly origin: ananta.v1.Origin.$Properties | null | undefined;
    readonly command: Command;
    readonly call: CallContext;
  }): Promise<{ outcomes: ananta.v1.Outcome.$Properties[]; index: number; inForce: boolean }> {
    const { env } = this.#replica;
    const startMs = env.clock.nowMs();
    const origin = checkOrigin(change.origin);
    const result = await this.#replica.submit({ origin, command: change.command }, budget(change.call));
    const outcomes = outcomesOf(result);
    const leftMs = Math.max(0, budget(change.call) - (env.clock.nowMs() - startMs));
    await this.#replica.whenApplied(result.index, leftMs).catch(() => undefined); // only in_force depends on it
    const changed = outcomes.filter((outcome) => outcome.change !== "unchanged");
    const inForce = await whenInForce(
      this.#replica,
      changed,
      Math.max(0, budget(change.call) - (env.clock.nowMs() - startMs)),
    );
    return {
      outcomes: outcomes.map(({ ref, change: what, generation }) => ({
        kind: ref.kind,
        tenant: ref.tenant,
        name: ref.name,
        change: what,
        generation,
      })),
      index: result.index,
      inForce,
    };
  }
}

/** Time that may be spent on the request in ms. */
export function budget(call: CallContext): number {
  return Math.max(1, call.deadlineMs - ANSWER_RESERVE_MS);
}

export function throwIfRefused(result: CommandResult | null): void {
  if (result !== null && !result.ok) throw new AnantaError(result.code, result.message, result.facts);
}

function outcomesOf(result: CommandResult): readonly ObjectOutcome[] {
  throwIfRefused(result);
  if (!result.ok || (result.value.kind !== "objects-applied" && result.value.kind !== "objects-deleted"))
    throw otherRequest();
  return result.value.objects;
}

/** The remembered answer is that of another request: a client has used one origin twice. Nothing was done now. */
export function otherRequest(): AnantaError {
  return new AnantaError(
    "INVALID_ARGUMENT",
    "origin: it belongs to an earlier request of another kind; count the sequence up for each request",
  );
}

export function kindOf(kind: string | null | undefined, where: string): ObjectKind {
  if (isKind(kind)) return kind;
  throw new AnantaError("INVALID_ARGUMENT", `${where}: "${kind ?? ""}" is not a kind; use ${KIND_WORDS}`);
}

export function refOf(ref: ananta.v1.ObjectRef.$Properties, where: string): ObjectRef {
  const kind = kindOf(ref.kind, `${where}.kind`);
  if ((ref.name ?? "") === "") throw new AnantaError("INVALID_ARGUMENT", `${where}.name: missing`);
  const name = checkName(ref.name, `${where}.name`);
  return { kind, tenant: kind === "Tenant" ? name : tenantOf(ref.tenant, `${where}.tenant`), name };
}

function checkReason(text: string | null | undefined): string {
  const reason = (text ?? "").trim();
  if (reason !== "" && reason.length <= REASON_MAX) return reason;
  throw new AnantaError("INVALID_ARGUMENT", `reason: ${reason.length} characters; say why, in 1 to ${REASON_MAX}`);
}

function checkCount<T>(items: readonly T[], where: string): readonly T[] {
  if (items.length < 1 || items.length > OBJECTS_MAX)
    throw new AnantaError("INVALID_ARGUMENT", `${where}: ${items.length} given; use 1 to ${OBJECTS_MAX}`);
  return items;
}

/** One request names an object once. */
function unique(objects: readonly ApplyObject[]): readonly ApplyObject[] {
  const seen = new Map<string, number>();
  objects.forEach(({ ref }, position) => {
    const key = `${ref.kind}/${ref.tenant}/${ref.name}`;
    const first = seen.get(key);
    if (first !== undefined) {
      const message = `objects[${position}]: ${ref.kind} "${ref.name}" is given twice; it is objects[${first}] already`;
      throw new AnantaError("INVALID_ARGUMENT", message, {
        problems: JSON.stringify([{ object: position, path: "metadata.name", message }]),
      });
    }
    seen.set(key, position);
  });
  return objects;
}
