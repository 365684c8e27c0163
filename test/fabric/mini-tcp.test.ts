import { describe, expect, it } from "vitest";
import { createRandom, type Random } from "../../core/random.js";
import * as tcp from "../../fabric/endpoints/mini-tcp.js";
import type { TcpConnection, TcpEvent, TcpSegment } from "../../fabric/endpoints/mini-tcp.js";

interface Link {
  /** 0..1 */
  readonly loss: number;
  readonly delayMinMs: number;
  readonly delayMaxMs: number;
}

const CLEAN: Link = { loss: 0, delayMinMs: 5, delayMaxMs: 5 };

interface Side {
  connection: TcpConnection | null;
  readonly received: number[];
  readonly events: string[];
  onEvent: (event: TcpEvent) => void;
}

/** Two connections and a link between them, on a virtual clock in steps of 1 ms. The listener is side 1. */
class Pair {
  nowMs = 0;
  link: Link;
  readonly sides: readonly [Side, Side];
  readonly segments: TcpSegment[] = [];
  private readonly random: Random;
  private readonly flying: { atMs: number; to: 0 | 1; segment: TcpSegment }[] = [];

  constructor(seed: number, link: Link) {
    this.random = createRandom(seed);
    this.link = link;
    const side = (): Side => ({ connection: null, received: [], events: [], onEvent: () => undefined });
    this.sides = [side(), side()];
  }

  open(): void {
    this.sides[0].connection = tcp.connect(this.random, this.nowMs);
    this.flush(0);
  }

  send(from: 0 | 1, bytes: Uint8Array): void {
    tcp.send(this.at(from), bytes);
    this.flush(from);
  }

  close(from: 0 | 1): void {
    tcp.close(this.at(from));
    this.flush(from);
  }

  at(index: 0 | 1): TcpConnection {
    const { connection } = this.sides[index];
    if (connection === null) throw new Error("not open yet");
    return connection;
  }

  flush(index: 0 | 1): void {
    tcp.flush(this.at(index), this.nowMs, (segment) => this.put(index, segment));
  }

  put(from: 0 | 1, segment: TcpSegment): void {
    this.segments.push(segment);
    if (this.random.nextFloat() < this.link.loss) return;
    const { delayMinMs, delayMaxMs } = this.link;
    const atMs = this.nowMs + delayMinMs + this.random.below(delayMaxMs - delayMinMs + 1);
    this.flying.push({ atMs, to: from === 0 ? 1 : 0, segment: { ...segment, payload: segment.payload.slice() } });
  }

  run(durationMs: number): void {
    const end = this.nowMs + durationMs;
    for (; this.nowMs < end; this.nowMs++) {
      for (let i = 0; i < this.flying.length;) {
        const next = this.flying[i]!;
        if (next.atMs > this.nowMs) i++;
        else {
          this.flying.splice(i, 1);
          this.deliver(next.to, next.segment);
        }
      }
      for (const index of [0, 1] as const) {
        const side = this.sides[index];
        if (side.connection === null) continue;
        const events: TcpEvent[] = [];
        tcp.tick(side.connection, this.nowMs, events);
        this.handle(index, events);
      }
    }
  }

  isOver(): boolean {
    return this.sides.every((side) => side.connection?.state === "closed");
  }

  private deliver(to: 0 | 1, segment: TcpSegment): void {
    const side = this.sides[to];
    if (side.connection === null) {
      if ((segment.flags & tcp.SYN) === 0) return;
      side.connection = tcp.accept(segment, this.random, this.nowMs);
      this.flush(to);
      return;
    }
    if (side.connection.state === "closed") {
      const reset = tcp.resetFor(segment); // as an endpoint does that knows the connection no more
      if (reset !== null) this.put(to, reset);
      return;
    }
    const events: TcpEvent[] = [];
    tcp.receive(side.connection, segment, this.nowMs, events);
    this.handle(to, events);
  }

  private handle(index: 0 | 1, events: readonly TcpEvent[]): void {
    const side = this.sides[index];
    for (const event of events) {
      side.events.push(event.kind === "broken" ? `broken:${event.reason}` : event.kind);
      if (event.kind === "received") side.received.push(...event.payload);
      side.onEvent(event);
    }
    this.flush(index);
  }
}

const bytes = (count: number, seed: number): Uint8Array => {
  const random = createRandom(seed);
  return Uint8Array.from({ length: count }, () => random.below(256));
};

const hex = (values: Iterable<number>): string => Buffer.from([...values]).toString("hex");
const closed = (events: readonly string[]): boolean => events.at(-1) === "closed";

describe("mini-tcp", () => {
  it("opens with three segments, of which the third carries the first data", () => {
    const pair = new Pair(1, CLEAN);
    pair.sides[0].onEvent = (event) => {
      if (event.kind === "connected") tcp.send(pair.at(0), Uint8Array.of(1, 2, 3));
    };
    pair.open();
    pair.run(40);
    expect(pair.segments.slice(0, 3).map((segment) => segment.flags)).toEqual([
      tcp.SYN,
      tcp.SYN | tcp.ACK,
      tcp.PSH | tcp.ACK,
    ]);
    expect(pair.segments[0]!.mss).toBe(tcp.MSS_BYTES);
    expect(pair.sides[1].received).toEqual([1, 2, 3]);
  });

  it("answers a request with one segment that also acknowledges it", () => {
    const pair = new Pair(2, CLEAN);
    pair.sides[1].onEvent = (event) => {
      if (event.kind === "received") tcp.send(pair.at(1), event.payload);
    };
    pair.open();
    pair.run(30);
    const before = pair.segments.length;
    pair.send(0, Uint8Array.of(9));
    pair.run(30);
    // Request, answer with acknowledgement, acknowledgement of the answer.
    expect(pair.segments.length - before).toBe(3);
    expect(pair.sides[0].received).toEqual([9]);
  });

  it("cuts data into segments of at most the smaller MSS, as a clamped SYN says", () => {
    const pair = new Pair(3, CLEAN);
    pair.sides[0].connection = tcp.connect(createRandom(3), 0);
    tcp.flush(pair.at(0), 0, (segment) => pair.put(0, { ...segment, mss: 1_000 }));
    pair.run(30);
    pair.send(1, bytes(5_000, 3));
    pair.run(100);
    expect(Math.max(...pair.segments.map((segment) => segment.payload.length))).toBe(1_000);
    expect(pair.sides[0].received).toEqual([...bytes(5_000, 3)]);
  });

  it("puts segments that overtake each other in order, and none of them is sent again", () => {
    const pair = new Pair(4, { loss: 0, delayMinMs: 1, delayMaxMs: 40 });
    const sent = bytes(60_000, 4);
    pair.open();
    pair.sides[0].onEvent = (event) => {
      if (event.kind !== "connected") return;
      tcp.send(pair.at(0), sent);
      tcp.close(pair.at(0));
    };
    pair.sides[1].onEvent = (event) => {
      if (event.kind === "peer-closed") tcp.close(pair.at(1));
    };
    pair.run(2_000);
    expect(hex(pair.sides[1].received)).toBe(hex(sent));
    expect(pair.sides[1].connection?.early).toEqual([]);
    expect(pair.sides.map((side) => side.connection?.retransmissions)).toEqual([0, 0]);
  });

  it("delivers both directions whole and in order, and closes, over a link that loses and reorders", () => {
    for (let seed = 1; seed <= 60; seed++) {
      const pair = new Pair(seed, { loss: 0.15, delayMinMs: 1, delayMaxMs: 40 });
      const up = bytes(20_000, seed);
      const down = bytes(9_000, seed + 1_000);
      pair.open();
      pair.sides[0].onEvent = (event) => {
        if (event.kind !== "connected") return;
        tcp.send(pair.at(0), up);
        tcp.close(pair.at(0));
      };
      pair.sides[1].onEvent = (event) => {
        if (event.kind === "connected") tcp.send(pair.at(1), down);
        if (event.kind === "peer-closed") tcp.close(pair.at(1));
      };
      for (let second = 0; second < 240 && !pair.isOver(); second++) pair.run(1_000);
      expect(hex(pair.sides[1].received) === hex(up), `seed ${String(seed)}: side 1 received what side 0 sent`).toBe(
        true,
      );
      expect(hex(pair.sides[0].received) === hex(down), `seed ${String(seed)}: side 0 received what side 1 sent`).toBe(
        true,
      );
      expect(
        closed(pair.sides[0].events),
        `seed ${String(seed)}: side 0 ended with ${String(pair.sides[0].events.at(-1))}`,
      ).toBe(true);
      expect(
        closed(pair.sides[1].events),
        `seed ${String(seed)}: side 1 ended with ${String(pair.sides[1].events.at(-1))}`,
      ).toBe(true);
      expect(pair.at(0).state).toBe("closed");
      expect(pair.at(1).state).toBe("closed");
      expect(pair.at(0).deadlineMs).toBeNull();
    }
  }, 60_000);

  it("repeats what is lost after 200 ms, then at doubled intervals, and breaks after 30 s without progress", () => {
    const pair = new Pair(4, CLEAN);
    pair.open();
    pair.run(30);
    pair.link = { ...CLEAN, loss: 1 };
    const sentAtMs: number[] = [];
    const put = pair.put.bind(pair);
    pair.put = (from, segment) => {
      if (from === 0) sentAtMs.push(pair.nowMs);
      put(from, segment);
    };
    pair.send(0, Uint8Array.of(1));
    pair.run(40_000);
    const waits = sentAtMs.slice(1).map((at, i) => at - sentAtMs[i]!);
    expect(waits.slice(0, 6)).toEqual([200, 400, 800, 1_600, 3_200, 5_000]);
    expect(pair.sides[0].events).toEqual(["connected", "broken:no-progress"]);
    expect(pair.at(0).state).toBe("closed");
  });

  it("goes on where it was when the link comes back within 30 s", () => {
    const pair = new Pair(5, CLEAN);
    pair.open();
    pair.run(30);
    pair.link = { ...CLEAN, loss: 1 };
    pair.send(0, Uint8Array.of(1, 2));
    pair.run(20_000);
    pair.link = CLEAN;
    pair.run(6_000);
    expect(pair.sides[1].received).toEqual([1, 2]);
    // Repeated segments tell nothing of the round trip: the long time-out stays until one is answered at once (Karn).
    expect(pair.at(0).rtoMs).toBe(5_000);
    pair.send(0, Uint8Array.of(3));
    pair.run(100);
    expect(pair.at(0).rtoMs).toBe(tcp.RTO_INITIAL_MS);
  });

  it("does not repeat segments on a path that is only slow, once it has measured it", () => {
    const pair = new Pair(9, { loss: 0, delayMinMs: 400, delayMaxMs: 450 });
    pair.open();
    pair.run(5_000);
    for (let n = 0; n < 5; n++) {
      pair.send(0, Uint8Array.of(n));
      pair.run(2_000);
    }
    const before = pair.at(0).retransmissions;
    for (let n = 0; n < 10; n++) {
      pair.send(0, Uint8Array.of(n));
      pair.run(2_000);
    }
    expect(pair.at(0).retransmissions).toBe(before);
    expect(pair.at(0).rtt?.smoothedMs).toBeGreaterThan(750);
  });

  it("breaks on a reset of exactly the next byte, and only questions a reset elsewhere in the window", () => {
    const pair = new Pair(6, CLEAN);
    pair.open();
    pair.run(30);
    const reset = { seq: pair.at(0).rcvNxt, ack: 0, flags: tcp.RST, window: 0, mss: null, payload: new Uint8Array(0) };
    const events: TcpEvent[] = [];
    tcp.receive(pair.at(0), { ...reset, seq: reset.seq + 100 }, pair.nowMs, events);
    expect(events).toEqual([]);
    expect(pair.at(0).ackPending).toBe(true);
    tcp.receive(pair.at(0), reset, pair.nowMs, events);
    expect(events).toEqual([{ kind: "broken", reason: "reset" }]);
    tcp.receive(pair.at(0), reset, pair.nowMs, events);
    expect(events).toHaveLength(1);
  });

  it("answers a segment for no connection with a reset that the sender accepts, and never a reset with a reset", () => {
    const pair = new Pair(7, CLEAN);
    pair.open();
    const syn = pair.segments[0]!;
    const answer = tcp.resetFor(syn)!;
    expect(answer).toMatchObject({ seq: 0, ack: syn.seq + 1, flags: tcp.RST | tcp.ACK });
    const events: TcpEvent[] = [];
    tcp.receive(pair.at(0), answer, 1, events);
    expect(events).toEqual([{ kind: "broken", reason: "reset" }]);
    expect(tcp.resetFor(answer)).toBeNull();
  });

  it("closes in order when both sides close at once", () => {
    const pair = new Pair(8, CLEAN);
    pair.open();
    pair.run(30);
    pair.close(0);
    pair.close(1);
    pair.run(5_000);
    expect(pair.sides[0].events).toEqual(["connected", "peer-closed", "closed"]);
    expect(pair.sides[1].events).toEqual(["connected", "peer-closed", "closed"]);
  });
});
