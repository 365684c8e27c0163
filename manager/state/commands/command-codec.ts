/**
 * A command batch as the bytes of one log entry: first byte the format version, then compact JSON in UTF-8. Commands are
 * arrays, fields by position, since the log carries mostly SNAT grants by the thousand: names would be half the bytes.
 * Decoding builds plain objects with all fields present and of the right type and range, in a fixed order.
 */
import type { DipId, HostId, LogIndex, MuxId, NodeId, PoolId } from "../../../core/brands.js";
import { assert } from "../../../core/assert.js";
import { CLUSTER_EPOCH_MAX, isClusterEpoch } from "../../../core/cluster-epoch.js";
import { AnantaError } from "../../../core/errors.js";
import { address, count, integer, label, list, malformed, protocol, text, tuple } from "./command-fields.js";
import {
  type Command,
  COMMAND_FORMAT_VERSION,
  type CommandBatch,
  type HealthTransition,
  type HeldRange,
  type Origin,
  type RangeBlock,
  type SubmittedCommand,
} from "./commands.js";
import { decodeApplyObject, decodeRef, encodeApplyObject, encodeRef } from "./object-codec.js";
import { END_RANGE, FIRST_RANGE, PORTS_PER_RANGE, RANGES_PER_SPACE } from "../snat/port-ranges.js";

const PORTS_MAX = RANGES_PER_SPACE * PORTS_PER_RANGE;

/** Bytes of a batch; `batch.formatVersion` is what this program writes. */
export function encodeBatch(batch: CommandBatch): Uint8Array {
  if (batch.formatVersion !== COMMAND_FORMAT_VERSION) unknownVersion(batch.formatVersion);
  const commands = batch.commands.map(({ origin, command }) =>
    origin === null ? encodeCommand(command) : [origin.session, origin.sequence, ...encodeCommand(command)],
  );
  const json = JSON.stringify([batch.clusterTimeMs, batch.wallMs, batch.muxSafeIndex, commands]);
  return new TextEncoder().encode(String.fromCharCode(COMMAND_FORMAT_VERSION) + json); // below 128: one byte
}

/** Throws UNIMPLEMENTED (`facts.formatVersion`) for a version this program does not know, INVALID_ARGUMENT when malformed. */
export function decodeBatch(bytes: Uint8Array): CommandBatch {
  if (bytes.length === 0) malformed("it is empty");
  if (bytes[0] !== COMMAND_FORMAT_VERSION) unknownVersion(bytes[0] ?? 0);
  const [clusterTimeMs, wallMs, muxSafeIndex, commands] = tuple(parse(bytes.subarray(1)), 4, "the batch");
  return {
    formatVersion: COMMAND_FORMAT_VERSION,
    clusterTimeMs: milliseconds(clusterTimeMs, "clusterTimeMs"),
    wallMs: milliseconds(wallMs, "wallMs"),
    muxSafeIndex: count(muxSafeIndex, "muxSafeIndex") as LogIndex,
    commands: list(commands, "commands", decodeSubmitted),
  };
}

function unknownVersion(formatVersion: number): never {
  const message = `command batch of format ${formatVersion}; this program knows format ${COMMAND_FORMAT_VERSION}`;
  throw new AnantaError("UNIMPLEMENTED", message, { formatVersion });
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new AnantaError("INVALID_ARGUMENT", "malformed command batch: not JSON in UTF-8", {}, { cause });
  }
}

/** Clocks may give fractions. */
function milliseconds(value: unknown, name: string): number {
  if (typeof value !== "number" || !(value >= 0) || value > Number.MAX_SAFE_INTEGER)
    malformed(`${name} is not a time in ms`);
  return value;
}

/** Without an origin the kind comes first; with one, the session (32 hex digits, never a kind) and the sequence do. */
function decodeSubmitted(value: unknown): SubmittedCommand {
  if (!Array.isArray(value)) malformed("a command is not an array");
  const fields = value as readonly unknown[];
  const first = text(fields[0], "kind");
  if (!isSession(first)) return { origin: null, command: decodeCommand(fields, 0) };
  const origin: Origin = { session: first, sequence: integer(fields[1], 1, Number.MAX_SAFE_INTEGER, "sequence") };
  return { origin, command: decodeCommand(fields, 2) };
}

const SESSION_DIGITS = 32;

/** Asked of every grant: an expression for it costs as much as finding the ports. */
function isSession(value: string): boolean {
  if (value.length !== SESSION_DIGITS) return false;
  for (let at = 0; at < SESSION_DIGITS; at++) {
    const unit = value.charCodeAt(at);
    if (!((unit >= 0x30 && unit <= 0x39) || (unit >= 0x61 && unit <= 0x66))) return false; // 0-9, a-f
  }
  return true;
}

type Fields = readonly unknown[];

function encodeCommand(command: Command): Fields {
  const { kind } = command;
  switch (kind) {
    case "bootstrap":
      return [
        kind,
        command.clusterId,
        encodeEpoch(command.clusterEpoch),
        command.hashKey,
        ...(command.muxKey === undefined ? [] : [command.muxKey]),
      ];
    case "begin-epoch":
      return [kind, encodeEpoch(command.clusterEpoch)];
    case "fence-host":
      return [kind, command.name, command.reason];
    case "start-replica":
      return [kind, command.nodeId, command.bootId];
    case "apply-objects":
      return [kind, command.objects.map(encodeApplyObject)];
    case "delete-objects":
      return [kind, command.objects.map(({ ref, expectedGeneration }) => [encodeRef(ref), expectedGeneration])];
    case "activate":
      return [kind, command.upToIndex];
    case "register-host": {
      const dips = command.dips.map((dip) => [dip.tenant, dip.address, dip.locator]);
      return [
        kind,
        command.name,
        command.bootId,
        dips,
        command.heldRanges.map((held) => [...encodeBlock(held), held.dip, held.tenant]),
      ];
    }
    case "join-mux":
      return [
        kind,
        command.name,
        command.bootId,
        command.address,
        command.capacity.rules,
        command.capacity.snatRanges,
        command.capacity.ipv6 === true ? 1 : 0,
        ...(command.addressIpv6 === undefined ? [] : [command.addressIpv6]),
      ];
    case "withdraw-vip":
      return [kind, command.tenant, command.name, command.reason, command.forSeconds, command.isOverload ? 1 : 0];
    case "restore-vip":
      return [kind, command.tenant, command.name];
    case "report-health": {
      const transitions = command.transitions.map((one) => [one.poolId, one.dipId, one.healthy ? 1 : 0, one.reason]);
      return [kind, command.hostId, command.incarnation, transitions];
    }
    case "expire-hosts":
    case "renew-hosts":
      return [kind, command.hosts.map(({ hostId, incarnation }) => [hostId, incarnation])];
    case "leave-mux":
    case "lose-mux":
      return [kind, command.muxId, command.incarnation];
    case "drain-mux":
      return [kind, command.name, command.reason, command.force ? 1 : 0];
    case "undrain-mux":
      return [kind, command.name];
    case "allocate-snat":
      return [kind, command.hostId, command.incarnation, command.dipId, command.protocol, command.ports];
    case "release-snat":
      return [kind, command.hostId, command.incarnation, command.dipId, command.blocks.map(encodeBlock)];
    case "tick":
      return [kind];
    default:
      return unknownKind(kind);
  }
}

/** `fields` from position `at` on: the kind and what belongs to it. */
function decodeCommand(fields: Fields, at: number): Command {
  const kind = fields[at] as Command["kind"];
  const [a, b, c, d, e, f, g] = fields.slice(at + 1);
  const length = fields.length - at - 1;
  const expect = (expected: number): void => {
    if (length !== expected) malformed(`${kind} has ${length} fields instead of ${expected}`);
  };
  switch (kind) {
    case "allocate-snat": {
      expect(5);
      const ports = integer(e, 1, PORTS_MAX, "ports");
      return { kind, ...requester(a, b, c), protocol: protocol(d, "protocol"), ports };
    }
    case "release-snat":
      expect(4);
      return { kind, ...requester(a, b, c), blocks: list(d, "blocks", decodeBlock) };
    case "tick":
      expect(0);
      return { kind };
    case "bootstrap":
      expect(length === 3 ? 3 : 4); // logs from before there was a key of the MUXes
      return {
        kind,
        clusterId: text(a, "clusterId"),
        clusterEpoch: decodeEpoch(b),
        hashKey: text(c, "hashKey"),
        ...(length === 3 ? {} : { muxKey: text(d, "muxKey") }),
      };
    case "begin-epoch":
      expect(1);
      return { kind, clusterEpoch: decodeEpoch(a) };
    case "fence-host":
      expect(2);
      return { kind, name: label(a, "name"), reason: text(b, "reason") };
    case "start-replica":
      expect(2);
      return { kind, nodeId: integer(a, 1, 65_535, "nodeId") as NodeId, bootId: text(b, "bootId") };
    case "apply-objects":
      expect(1);
      return { kind, objects: list(a, "objects", decodeApplyObject) };
    case "delete-objects":
      expect(1);
      return { kind, objects: list(a, "objects", decodeDeletion) };
    case "activate":
      expect(1);
      return { kind, upToIndex: count(a, "upToIndex") as LogIndex };
    case "register-host":
      expect(4);
      return {
        kind,
        name: label(a, "name"),
        bootId: text(b, "bootId"),
        dips: list(c, "dips", decodeDip),
        heldRanges: list(d, "heldRanges", decodeHeld),
      };
    case "join-mux": {
      expect(length === 6 ? 6 : 7);
      const capacity = {
        rules: count(d, "capacity.rules"),
        snatRanges: count(e, "capacity.snatRanges"),
        ...(integer(f, 0, 1, "capacity.ipv6") === 1 ? { ipv6: true as const } : {}),
      };
      const join = {
        kind,
        name: label(a, "name"),
        bootId: text(b, "bootId"),
        address: address(c, "address"),
        capacity,
      };
      return length === 6 ? join : { ...join, addressIpv6: address(g, "addressIpv6") };
    }
    case "withdraw-vip":
      expect(5);
      return {
        kind,
        tenant: label(a, "tenant"),
        name: label(b, "name"),
        reason: text(c, "reason"),
        forSeconds: integer(d, 0, 86_400, "forSeconds"),
        isOverload: integer(e, 0, 1, "isOverload") === 1,
      };
    case "restore-vip":
      expect(2);
      return { kind, tenant: label(a, "tenant"), name: label(b, "name") };
    case "report-health":
      expect(3);
      return {
        kind,
        hostId: count(a, "hostId") as HostId,
        incarnation: count(b, "incarnation"),
        transitions: list(c, "transitions", decodeTransition),
      };
    case "expire-hosts":
    case "renew-hosts":
      expect(1);
      return { kind, hosts: list(a, "hosts", decodeHostStart) };
    case "leave-mux":
    case "lose-mux":
      expect(2);
      return { kind, muxId: count(a, "muxId") as MuxId, incarnation: count(b, "incarnation") };
    case "drain-mux":
      expect(3);
      return { kind, name: label(a, "name"), reason: text(b, "reason"), force: integer(c, 0, 1, "force") === 1 };
    case "undrain-mux":
      expect(1);
      return { kind, name: label(a, "name") };
    default:
      return unknownKind(kind);
  }
}

/** Takes `never`, so that a kind without a case above is a type error. */
const unknownKind = (kind: never): never => malformed(`unknown kind ${JSON.stringify(kind)}`);

/** No submitter's word goes into it, only our own configuration: one that cannot be read back must not be written. */
function encodeEpoch(clusterEpoch: number): number {
  assert(isClusterEpoch(clusterEpoch), `a cluster epoch is an integer from 1 to ${CLUSTER_EPOCH_MAX}`);
  return clusterEpoch;
}

const decodeEpoch = (value: unknown): number => integer(value, 1, CLUSTER_EPOCH_MAX, "clusterEpoch");

function requester(
  hostId: unknown,
  incarnation: unknown,
  dipId: unknown,
): { hostId: HostId; incarnation: number; dipId: DipId } {
  return {
    hostId: count(hostId, "hostId") as HostId,
    incarnation: count(incarnation, "incarnation"),
    dipId: count(dipId, "dipId") as DipId,
  };
}

const encodeBlock = (block: RangeBlock): Fields => [block.vip, block.protocol, block.range, block.count];

function readBlock(vip: unknown, ipProtocol: unknown, range: unknown, ranges: unknown): RangeBlock {
  return {
    vip: address(vip, "vip"),
    protocol: protocol(ipProtocol, "protocol"),
    range: integer(range, FIRST_RANGE, END_RANGE - 1, "range"),
    count: integer(ranges, 1, RANGES_PER_SPACE, "count"),
  };
}

function decodeBlock(value: unknown): RangeBlock {
  const [vip, ipProtocol, range, ranges] = tuple(value, 4, "a block");
  return readBlock(vip, ipProtocol, range, ranges);
}

function decodeHeld(value: unknown): HeldRange {
  const [vip, ipProtocol, range, ranges, dip, tenant] = tuple(value, 6, "a held range");
  return { ...readBlock(vip, ipProtocol, range, ranges), dip: address(dip, "dip"), tenant: label(tenant, "tenant") };
}

function decodeDip(value: unknown): {
  tenant: string;
  address: ReturnType<typeof address>;
  locator: ReturnType<typeof address>;
} {
  const [tenant, dip, locator] = tuple(value, 3, "a DIP");
  return { tenant: label(tenant, "tenant"), address: address(dip, "address"), locator: address(locator, "locator") };
}

function decodeTransition(value: unknown): HealthTransition {
  const [poolId, dipId, healthy, reason] = tuple(value, 4, "a transition");
  return {
    poolId: count(poolId, "poolId") as PoolId,
    dipId: count(dipId, "dipId") as DipId,
    healthy: integer(healthy, 0, 1, "healthy") === 1,
    reason: text(reason, "reason"),
  };
}

function decodeHostStart(value: unknown): { readonly hostId: HostId; readonly incarnation: number } {
  const [hostId, incarnation] = tuple(value, 2, "a host");
  return { hostId: count(hostId, "hostId") as HostId, incarnation: count(incarnation, "incarnation") };
}

function decodeDeletion(value: unknown): { ref: ReturnType<typeof decodeRef>; expectedGeneration: number | null } {
  const [ref, generation] = tuple(value, 2, "a deletion");
  return {
    ref: decodeRef(ref),
    expectedGeneration: generation === null ? null : count(generation, "expectedGeneration"),
  };
}
