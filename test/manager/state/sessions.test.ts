/** Exactly-once requests: retries are answered, never executed again. */
import { describe, expect, test } from "vitest";
import {
  SESSION_IDLE_MS,
  SESSION_WINDOW,
  Sessions,
  TOMBSTONES_MAX,
  TOMBSTONE_MS,
} from "../../../manager/state/sessions.js";
import { pool, smallSite } from "./fixture.js";

const A = "a".repeat(32);
const B = "b".repeat(32);
const from = (session: string, sequence: number) => ({ session, sequence });

describe("a retry", () => {
  test("gets the remembered answer with the index of the first execution", () => {
    const site = smallSite();
    const request = site.allocation("10.0.0.1", 8);
    const first = site.apply(request, from(A, 1));
    site.elapse(1_000);
    expect(site.apply(request, from(A, 1))).toEqual(first);
    expect(site.machine.snatUsage()[0]?.owned).toBe(1);
  });

  test("in the same entry is answered too", () => {
    const site = smallSite();
    const request = site.allocation("10.0.0.1", 8);
    const { results } = site.applyAll([request, request], [from(A, 1), from(A, 1)]);
    expect(results[1]).toEqual(results[0]);
    expect(site.machine.snatUsage()[0]?.owned).toBe(1);
  });

  test("of a refused request is refused the same way, though it would succeed now", () => {
    const site = smallSite();
    const request = { kind: "apply-objects", objects: [pool("p", [], { expectedGeneration: 1 })] } as const;
    const first = site.refused(request, from(A, 1));
    site.applyObjects(pool("p", []));
    expect(site.apply(request, from(A, 1))).toEqual(first);
  });
});

describe("requests that arrive out of order", () => {
  test("are all executed, within the window", () => {
    const site = smallSite();
    for (const sequence of [3, 1, 64, 2]) {
      expect(site.apply(site.allocation("10.0.0.1", 8), from(A, sequence))).toMatchObject({ ok: true });
    }
    expect(site.machine.snatUsage()[0]?.owned).toBe(4);
  });

  test("are never executed when older than the window", () => {
    const site = smallSite();
    for (let sequence = 1; sequence <= SESSION_WINDOW + 1; sequence++) site.apply({ kind: "tick" }, from(A, sequence));
    expect(site.refused(site.allocation("10.0.0.1", 8), from(A, 1))).toMatchObject({
      code: "SESSION_EXPIRED",
      index: site.index,
    });
    expect(site.apply({ kind: "tick" }, from(A, 2))).toMatchObject({ ok: true });
  });
});

describe("a session", () => {
  test("is made by any of its first 64 requests, since they may overtake each other", () => {
    const site = smallSite();
    expect(site.apply({ kind: "tick" }, from(A, 64))).toMatchObject({ ok: true });
    expect(site.refused({ kind: "tick" }, from(B, 65)).code).toBe("SESSION_EXPIRED");
    expect([site.machine.hasSession(A), site.machine.hasSession(B)]).toEqual([true, false]);
  });

  test("expires after 10 minutes without use, and nothing of it is executed afterwards", () => {
    const site = smallSite();
    site.apply({ kind: "tick" }, from(A, 1));
    site.elapse(SESSION_IDLE_MS - 1);
    expect(site.apply({ kind: "tick" }, from(A, 2))).toMatchObject({ ok: true });
    expect(site.machine.nextTickDueMs()).toBe(2 * SESSION_IDLE_MS - 1);
    site.elapse(SESSION_IDLE_MS);
    expect(site.machine.hasSession(A)).toBe(false);
    for (const sequence of [1, 2, 3]) {
      expect(site.refused(site.allocation("10.0.0.1", 8), from(A, sequence)).code).toBe("SESSION_EXPIRED");
    }
    expect(site.machine.snatUsage()[0]?.owned).toBe(0);
    site.elapse(TOMBSTONE_MS - 1);
    expect(site.refused({ kind: "tick" }, from(A, 1)).code).toBe("SESSION_EXPIRED");
    site.elapse(1);
    expect(site.apply({ kind: "tick" }, from(A, 1))).toMatchObject({ ok: true });
  });

  test("is used by a retry as well", () => {
    const site = smallSite();
    site.apply({ kind: "tick" }, from(A, 1));
    site.elapse(SESSION_IDLE_MS - 1);
    site.apply({ kind: "tick" }, from(A, 1));
    site.elapse(SESSION_IDLE_MS - 1);
    expect(site.machine.hasSession(A)).toBe(true);
  });
});

test("of too many expired sessions the oldest is forgotten first", () => {
  const sessions = new Sessions();
  const name = (at: number): string => at.toString(16).padStart(32, "0");
  for (let at = 0; at <= TOMBSTONES_MAX; at++) {
    sessions.admit(from(name(at), 1), at);
    sessions.remember(from(name(at), 1), { ok: true, value: { kind: "none" }, index: 1 as never });
  }
  sessions.expire(TOMBSTONES_MAX + SESSION_IDLE_MS);
  expect(sessions.size).toBe(0);
  expect(sessions.admit(from(name(1), 1), TOMBSTONES_MAX + SESSION_IDLE_MS).kind).toBe("expired");
  expect(sessions.admit(from(name(0), 1), TOMBSTONES_MAX + SESSION_IDLE_MS).kind).toBe("execute");
});
