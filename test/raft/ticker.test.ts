/** How often a replica wakes up for its clock, and what it tells its core. */
import { describe, expect, it } from "vitest";
import { Ticker } from "../../manager/raft/ticker.js";
import { HandClock } from "./image-disk.js";

const TICK_MS = 10;

function tickerDueIn(ticks: number): { clock: HandClock; ticker: Ticker; told: number[]; due: { inTicks: number } } {
  const clock = new HandClock();
  const told: number[] = [];
  const due = { inTicks: ticks };
  const ticker = new Ticker({
    clock,
    tickMs: TICK_MS,
    dueInTicks: () => due.inTicks,
    tick: (elapsed) => told.push(elapsed),
  });
  ticker.start();
  return { clock, ticker, told, due };
}

describe("a ticker", () => {
  it("wakes up when something is due, and tells of all ticks since", () => {
    const { clock, told } = tickerDueIn(3);
    clock.pass(29);
    expect(told).toEqual([]);
    clock.pass(1);
    expect(told).toEqual([3]);
    clock.pass(30);
    clock.pass(30);
    expect(told).toEqual([3, 3, 3]);
  });

  it("after a stall lets two turns of waiting input go first, and then says how long it was", () => {
    const { clock, ticker, told } = tickerDueIn(3);
    clock.pass(1_000);
    expect(told).toEqual([]);
    expect(ticker.passed(false), "nobody tells the core before that").toBe(0);
    clock.pass(0);
    expect(told).toEqual([]);
    clock.pass(0);
    expect(told).toEqual([100]);
  });

  it("tells the true time also after a stall to whoever needs it more than that", () => {
    const { clock, ticker, told } = tickerDueIn(3);
    clock.pass(1_000);
    expect(ticker.passed(true)).toBe(100);
    clock.pass(0);
    clock.pass(0);
    expect(told).toEqual([]);
  });

  it("counts once what was told in between", () => {
    const { clock, ticker, told } = tickerDueIn(3);
    clock.pass(25);
    expect(ticker.passed(false)).toBe(2);
    clock.pass(5);
    expect(told).toEqual([1]);
    expect(ticker.lastTickMs).toBe(clock.nowMs());
  });

  it("wakes up sooner when something is due sooner than it was", () => {
    const { clock, ticker, told, due } = tickerDueIn(3);
    clock.pass(5);
    due.inTicks = 1;
    ticker.adjust();
    clock.pass(5);
    expect(told).toEqual([1]);
  });

  it("is silent once it was stopped, also by what a tick brought", () => {
    const { clock, ticker, told } = tickerDueIn(1);
    clock.pass(10);
    ticker.stop();
    clock.pass(100);
    expect(told).toEqual([1]);
    expect(ticker.passed(false)).toBe(0);
  });
});
