/** A follower's link to the leader, while one tenant asks for SNAT ports as fast as it can. */
import { describe, expect, test } from "vitest";
import { nodeId, type DipId, type HostId, type IpAddress, type LogIndex, type Term } from "../../../core/brands.js";
import { decodeCommand, encodeResult } from "../../../manager/api/link/forwarded-command.js";
import { ReplicaLink } from "../../../manager/api/link/replica-link.js";
import { managerConfig } from "../../../manager/config.js";
import type { Acknowledgements } from "../../../manager/projection/acknowledgements.js";
import { MuxSafeIndex } from "../../../manager/projection/mux-safe-index.js";
import type { ReplicaView } from "../../../manager/replica-view.js";
import type { Command } from "../../../manager/state/commands/commands.js";
import type { ananta } from "../../../proto/gen/wire.js";
import { virtualTime } from "../../kit/virtual-time.js";
import { FakeStream } from "../edge.js";

type Up = ananta.v1.FollowerToLeader.$Properties;
type Down = ananta.v1.LeaderToFollower.$Properties;

const SESSION = "0123456789abcdef0123456789abcdef";
/** DIPs from here on are the second tenant's. */
const VICTIM = 100_000;
const LEADER = { node: nodeId(2), term: 1 as Term };

async function scene() {
  const { time, clock } = virtualTime();
  const stream = new FakeStream<Up, Down>();
  const executed = new Set<number>();
  const channel = { open: () => stream, connect: () => undefined, close: () => undefined };
  const replica = {
    env: { clock, network: { connect: () => channel } },
    config: managerConfig({ nodeId: nodeId(1), clusterId: SESSION, dataFolder: "/data", replicas: [] }),
    bootId: SESSION,
    incarnation: () => 1,
    members: () => [{ nodeId: LEADER.node, apiAddress: "leader:1", raftAddress: "", role: "voter" }],
    muxSafeIndex: new MuxSafeIndex(),
    state: {
      site: null,
      dip: (dipId: DipId) => ({
        dipId,
        tenant: dipId >= VICTIM ? "victim" : "flood",
        address: "10.0.0.1" as IpAddress,
      }),
      verdictOn: ({ sequence }: { sequence: number }) => ({ kind: executed.has(sequence) ? "answered" : "execute" }),
    },
  } as unknown as ReplicaView;
  const link = new ReplicaLink({
    replica,
    acknowledgements: { muxes: () => [], hosts: () => new Map() } as unknown as Acknowledgements,
    routeChanged: () => undefined,
    failed: (error) => {
      throw error;
    },
  });
  link.follow(LEADER);
  stream.deliver({ welcome: {} });
  await time.advance(1);
  stream.take();

  const answers: { readonly name: string; readonly code: string; readonly retryAfterMs: number }[] = [];
  const submit = (name: string, command: Command, sequence: number): void =>
    link.submit({
      submitted: { origin: { session: SESSION, sequence }, command },
      deadlineAtMs: clock.nowMs() + 5_000,
      reply: (result) =>
        answers.push({
          name,
          code: result.ok ? "granted" : result.code,
          retryAfterMs: result.ok ? 0 : Number(result.facts["retryAfterMs"] ?? 0),
        }),
    });
  const ask = (dip: number, sequence = dip): void =>
    submit(
      dip >= VICTIM ? "victim" : "flood",
      { kind: "allocate-snat", hostId: 1 as HostId, incarnation: 1, dipId: dip as DipId, protocol: 6, ports: 8 },
      sequence,
    );
  /** 4,000 DIPs of one tenant ask, and nobody answers: as many as the link takes are under way, the others wait. */
  const flood = async (): Promise<void> => {
    for (let dip = 1; dip <= 2_000; dip++) ask(dip);
    await time.advance(1);
    for (let dip = 2_001; dip <= 4_000; dip++) ask(dip);
    await time.advance(1);
  };
  /** What has left for the leader since the last look. */
  const left = (): readonly { readonly id: number; readonly dip: number | null }[] =>
    stream.take().flatMap(({ commands }) =>
      (commands?.commands ?? []).map(({ id, command }) => {
        const decoded = decodeCommand(command ?? new Uint8Array()).command;
        return { id: id ?? 0, dip: decoded.kind === "allocate-snat" ? decoded.dipId : null };
      }),
    );
  const grant = (ids: readonly number[]): void => {
    const result = encodeResult({ ok: true, index: 5 as LogIndex, value: { kind: "none" } });
    stream.deliver({ results: { results: ids.map((id) => ({ id, result })), muxSafeIndex: 5 } });
  };
  return { time, link, stream, answers, executed, submit, ask, flood, left, grant };
}

describe("a follower's link to the leader", () => {
  test("carries so many requests for ports at once; tenants take turns before it", async () => {
    const { time, ask, flood, left, grant } = await scene();
    await flood();
    const first = left();
    expect(first.length).toBeGreaterThanOrEqual(2_048);
    expect(first.length).toBeLessThan(2_048 + 512);
    ask(VICTIM);
    await time.advance(10);
    expect(left()).toEqual([]); // full: only an answer makes room
    grant(first.slice(0, 512).map(({ id }) => id));
    await time.advance(1);
    expect(
      left()
        .slice(0, 2)
        .map(({ dip }) => dip),
    ).toContain(VICTIM);
  });

  test("lets everything else pass what waits for ports", async () => {
    const { time, submit, flood, left } = await scene();
    await flood();
    left();
    submit("operator", { kind: "tick" }, 1);
    await time.advance(1);
    expect(left().map(({ dip }) => dip)).toEqual([null]);
  });

  test("lets returns of ports pass, too, while grants wait for a MUX that lags", async () => {
    const { time, submit, flood, left } = await scene();
    await flood();
    left();
    const release = {
      kind: "release-snat",
      hostId: 1 as HostId,
      incarnation: 1,
      dipId: 7 as DipId,
      blocks: [],
    } as const;
    submit("flood", release, 5_000);
    await time.advance(1);
    expect(left().map(({ dip }) => dip)).toEqual([null]);
  });

  test("refuses what one tenant asks beyond its share at once, and says when to ask again; not what was executed already", async () => {
    const { time, ask, answers, executed, left } = await scene();
    for (let dip = 1; dip <= 5_000; dip++) ask(dip);
    expect(answers.length).toBeGreaterThan(2_000);
    for (const { name, code, retryAfterMs } of answers) {
      expect([name, code]).toEqual(["flood", "STAGE_OVERLOADED"]);
      expect(retryAfterMs).toBeGreaterThanOrEqual(200);
    }
    const refused = answers.length;
    ask(VICTIM);
    executed.add(6_000);
    ask(6_000);
    expect(answers).toHaveLength(refused);
    await time.advance(1);
    expect(left().map(({ dip }) => dip)).toEqual(expect.arrayContaining([VICTIM, 6_000]));
  });

  test("gives back what waits when it closes, as not done; of what was under way nobody knows", async () => {
    const { link, flood, answers } = await scene();
    await flood();
    link.follow(null);
    const count = (code: string): number => answers.filter((answer) => answer.code === code).length;
    expect(count("LEADERSHIP_LOST")).toBeGreaterThanOrEqual(2_048);
    expect(count("NOT_LEADER")).toBeGreaterThan(1_000);
    expect(count("LEADERSHIP_LOST") + count("NOT_LEADER")).toBe(4_000);
  });
});
