/** What every `RaftTransport` must do; run on all of them by `transport-contract.test.ts`. */
import { expect, test } from "vitest";
import { nodeId, type LogIndex, type NodeId, type Term } from "../../core/brands.js";
import { simpleMembership } from "../../manager/raft/core/membership.js";
import type { Message } from "../../manager/raft/core/messages.js";
import type { PeerMessage, RaftTransport, TransferMessage } from "../../manager/raft/transport/transport.js";
import { finishesCleanly } from "../kit/finishes-cleanly.js";
import type { VirtualWorld } from "../kit/virtual-world.js";

export interface TransportUnderTest {
  readonly world: VirtualWorld;
  /** Not started; nodes 1, 2 and 3 are members of each other. */
  create(id: number): RaftTransport;
  /** What `from` sends does not reach `to` any more, until `heal`. */
  cut(from: number, to: number): void;
  heal(): void;
}

/** Time in which connections are made and everything sent arrives. */
const SOON_MS = 300;

export interface End {
  readonly id: NodeId;
  readonly transport: RaftTransport;
  readonly received: PeerMessage[];
  readonly told: string[];
  onReceived: ((message: PeerMessage) => void) | null;
}

async function startOne(under: TransportUnderTest, id: number, folder = ""): Promise<End> {
  const end: End = { id: nodeId(id), transport: under.create(id), received: [], told: [], onReceived: null };
  const listener = {
    received: (message: PeerMessage) => {
      end.received.push(message);
      end.onReceived?.(message);
    },
    dropped: (peer: NodeId) => end.told.push(`dropped ${peer}`),
    gone: (peer: NodeId) => end.told.push(`gone ${peer}`),
    restarted: (peer: NodeId) => end.told.push(`restarted ${peer}`),
    identified: (peer: NodeId, of: string) => end.told.push(`identified ${peer} ${of}`),
    removedSays: (peer: NodeId) => end.told.push(`removed, says ${peer}`),
  };
  await under.world.run(end.transport.start(listener, folder));
  return end;
}

async function startThree(under: TransportUnderTest): Promise<readonly [End, End, End]> {
  const ends = [await startOne(under, 1), await startOne(under, 2), await startOne(under, 3)] as const;
  await under.world.advance(SOON_MS);
  return ends;
}

async function stopAll(under: TransportUnderTest, ends: readonly End[]): Promise<void> {
  for (const { transport } of ends) await under.world.run(transport.stop());
  await finishesCleanly(under.world);
}

const from = nodeId(1);
const term = 7 as Term;
const index = (value: number): LogIndex => value as LogIndex;
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const heartbeat = (round: number): Message => ({
  kind: "heartbeat",
  from,
  term,
  round,
  commitIndex: index(3),
  quorumAgeTicks: 2,
});
const append = (prevIndex: number, text: string): Message => ({
  kind: "append-request",
  from,
  term,
  prevIndex: index(prevIndex),
  prevTerm: term,
  entries: [{ index: index(prevIndex + 1), term, payload: bytes(text) }],
  commitIndex: index(1),
  quorumAgeTicks: null,
});
const membership = simpleMembership([1, 2, 3].map(nodeId));
const snapshot = { index: index(9), term, membership };
const digest = "ab".repeat(32);

const send = (end: End, to: End | number, message: Message): void =>
  end.transport.send({ order: "now", to: typeof to === "number" ? nodeId(to) : to.id, message });

/** One of each kind. */
const MESSAGES: readonly Message[] = [
  { kind: "pre-vote-request", from, term, lastIndex: index(4), lastTerm: term },
  { kind: "pre-vote-response", from, term, granted: true },
  { kind: "vote-request", from, term, lastIndex: index(4), lastTerm: term, force: true },
  { kind: "vote-response", from, term, granted: false },
  append(5, "entry"),
  { kind: "append-response", from, term, matchIndex: index(5), counts: false },
  { kind: "append-rejection", from, term, rejectedIndex: index(5), hintIndex: index(2), hintTerm: term, counts: true },
  heartbeat(4),
  { kind: "heartbeat-response", from, term, round: 4, counts: true },
  { kind: "install-snapshot", from, term, snapshot },
  { kind: "timeout-now", from, term },
  { kind: "read-request", from, term, id: { nonce: 5, sequence: 6 } },
  { kind: "read-response", from, term, id: { nonce: 5, sequence: 6 }, index: index(8) },
];
const TRANSFERS: readonly TransferMessage[] = [
  { kind: "snapshot-offer", from, term, snapshot: { meta: snapshot, chunkCount: 2, byteCount: 3, digest } },
  { kind: "snapshot-chunk", from, term, digest, number: 1, data: bytes("chunk") },
  { kind: "snapshot-chunk-ack", from, term, digest, next: 1, rewind: true },
];

export function transportContract(name: string, make: (salt: string) => TransportUnderTest): void {
  test(`${name}: every kind of message arrives as it was sent, and at nobody else`, async () => {
    const under = make("kinds");
    const [one, two, three] = await startThree(under);
    for (const message of MESSAGES) send(one, two, message);
    for (const message of TRANSFERS) one.transport.sendTransfer(two.id, message);
    await under.world.advance(SOON_MS);
    const byKind = (a: PeerMessage, b: PeerMessage): number => a.kind.localeCompare(b.kind);
    expect([...two.received].sort(byKind)).toEqual([...MESSAGES, ...TRANSFERS].sort(byKind));
    expect([...one.received, ...three.received]).toEqual([]);
    await stopAll(under, [one, two, three]);
  });

  test(`${name}: what goes one lane arrives in order`, async () => {
    const under = make("order");
    const [one, two, three] = await startThree(under);
    for (let at = 0; at < 200; at++) {
      send(one, two, append(at, `entry ${at}`));
      send(one, two, heartbeat(at + 1));
    }
    await under.world.advance(SOON_MS);
    const appends = two.received.flatMap((message) => (message.kind === "append-request" ? [message.prevIndex] : []));
    const rounds = two.received.flatMap((message) => (message.kind === "heartbeat" ? [message.round] : []));
    expect(appends).toEqual(Array.from({ length: 200 }, (_, at) => at));
    expect(rounds).toEqual(Array.from({ length: 200 }, (_, at) => at + 1));
    await stopAll(under, [one, two, three]);
  });

  test(`${name}: what was received is the receiver's own`, async () => {
    const under = make("own");
    const [one, two, three] = await startThree(under);
    const message = append(0, "shared by all");
    send(one, two, message);
    send(one, three, message);
    await under.world.advance(SOON_MS);
    const payloadAt = (end: End): Uint8Array =>
      (end.received[0] as typeof message & { kind: "append-request" }).entries[0]!.payload;
    payloadAt(two).fill(0);
    expect(new TextDecoder().decode(payloadAt(three))).toBe("shared by all");
    expect(message).toEqual(append(0, "shared by all"));
    await stopAll(under, [one, two, three]);
  });

  test(`${name}: a chunk and an append of the largest size arrive`, async () => {
    const under = make("large");
    const [one, two, three] = await startThree(under);
    const data = new Uint8Array(1024 * 1024).fill(7);
    one.transport.sendTransfer(two.id, { kind: "snapshot-chunk", from, term, digest, number: 0, data });
    send(one, two, append(0, "x".repeat(2 * 1024 * 1024)));
    await under.world.advance(SOON_MS);
    expect(two.received.map(({ kind }) => kind)).toEqual(["snapshot-chunk", "append-request"]);
    await stopAll(under, [one, two, three]);
  });

  test(`${name}: messages to one who does not run, or whom nobody knows, are lost without a word to the caller`, async () => {
    const under = make("nobody");
    const one = await startOne(under, 1);
    await under.world.advance(SOON_MS);
    send(one, 2, heartbeat(1));
    send(one, 77, heartbeat(1));
    await under.world.advance(SOON_MS);
    const two = await startOne(under, 2);
    await under.world.advance(1_000);
    expect(two.received).toEqual([]);
    send(one, two, heartbeat(2));
    await under.world.advance(SOON_MS);
    expect(two.received).toEqual([heartbeat(2)]);
    await stopAll(under, [one, two]);
  });

  test(`${name}: a link that is dead in one direction carries the other`, async () => {
    const under = make("one way");
    const [one, two, three] = await startThree(under);
    under.cut(1, 2);
    send(one, two, heartbeat(1));
    send(two, one, { ...heartbeat(2), from: nodeId(2) });
    await under.world.advance(SOON_MS);
    expect(two.received).toEqual([]);
    expect(one.received).toHaveLength(1);
    under.heal();
    await under.world.advance(SOON_MS);
    two.received.length = 0; // what was held on its way may come now
    send(one, two, heartbeat(3));
    await under.world.advance(SOON_MS);
    expect(two.received).toContainEqual(heartbeat(3));
    await stopAll(under, [one, two, three]);
  });

  test(`${name}: one that stops is gone for the others, hears nothing more, and may be stopped twice`, async () => {
    const under = make("stops");
    const [one, two, three] = await startThree(under);
    await under.world.run(two.transport.stop());
    await under.world.run(two.transport.stop());
    await under.world.advance(SOON_MS);
    expect(one.told.filter((line) => line === "gone 2")).toHaveLength(1);
    expect(three.told.filter((line) => line === "gone 2")).toHaveLength(1);
    const before = two.received.length;
    send(one, two, heartbeat(1));
    send(two, one, { ...heartbeat(1), from: nodeId(2) });
    await under.world.advance(SOON_MS);
    expect(two.received).toHaveLength(before);
    expect(one.received).toEqual([]);
    await stopAll(under, [one, three]);
  });

  test(`${name}: a receiver may send from within what it is told`, async () => {
    const under = make("within");
    const [one, two, three] = await startThree(under);
    two.onReceived = (message) => {
      if (message.kind !== "heartbeat") return;
      send(two, one, { kind: "heartbeat-response", from: nodeId(2), term, round: message.round, counts: true });
    };
    for (let round = 1; round <= 20; round++) send(one, two, heartbeat(round));
    await under.world.advance(SOON_MS);
    expect(one.received).toHaveLength(20);
    await stopAll(under, [one, two, three]);
  });

  test(`${name}: whoever joined later is known by its data folder, whichever of two started first`, async () => {
    const under = make("folders");
    const one = await startOne(under, 1, "11".repeat(16));
    await under.world.advance(SOON_MS);
    const two = await startOne(under, 2, "22".repeat(16));
    const three = await startOne(under, 3);
    await under.world.advance(2 * SOON_MS);
    expect(one.told).toContain(`identified 2 ${"22".repeat(16)}`);
    expect(two.told).toContain(`identified 1 ${"11".repeat(16)}`);
    expect(three.told).toContain(`identified 2 ${"22".repeat(16)}`);
    expect([...one.told, ...two.told].filter((line) => line.startsWith("identified 3"))).toEqual([]);
    await stopAll(under, [one, two, three]);
  });
}
