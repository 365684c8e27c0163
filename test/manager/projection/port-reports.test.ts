/** What hosts say of their ports: the newest word of each that has a stream here, with its age. */
import { expect, test } from "vitest";
import type { DipId, HostId } from "../../../core/brands.js";
import { PortReports } from "../../../manager/projection/port-reports.js";
import { virtualTime } from "../../kit/virtual-time.js";
import { ip } from "../state/fixture.js";

const HOST = 1 as HostId;
const PLACE = { vip: ip("198.51.100.1"), protocol: 6, dipId: 7 as DipId } as const;
const line = (inUse: number, onHold: number) => ({ ...PLACE, inUse, onHold });

test("the newest report of a host counts, and is as old as it is", async () => {
  const { time, clock } = virtualTime();
  const reports = new PortReports(clock);
  const [first, second] = [{}, {}];
  expect(reports.find(HOST, PLACE)).toBeNull();
  reports.take(first, HOST, { ports: [line(5, 3)] });
  await time.advance(4_000);
  expect(reports.find(HOST, PLACE)).toEqual({ inUse: 5, onHold: 3, ageMs: 4_000 });
  expect(reports.find(2 as HostId, PLACE), "another host").toBeNull();
  expect(reports.find(HOST, { ...PLACE, protocol: 17 }), "it said nothing of UDP").toBeNull();
  reports.take(second, HOST, { ports: [line(6, 0)] });
  expect(reports.find(HOST, PLACE)).toEqual({ inUse: 6, onHold: 0, ageMs: 0 });
  reports.gone(first);
  expect(reports.find(HOST, PLACE), "the stream of the older report has ended").not.toBeNull();
  reports.gone(second);
  expect(reports.find(HOST, PLACE)).toBeNull();
});

test.each([
  ["ports[0].vip", { ...line(1, 0), vip: "nowhere" }],
  ["ports[0].protocol", { ...line(1, 0), protocol: 1 }],
  ["ports[0]: 70000 ports; a VIP has 64512", line(60_000, 10_000)],
])("what no agent says is refused: %s", (message, wrong) => {
  const reports = new PortReports(virtualTime().clock);
  expect(() => {
    reports.take({}, HOST, { ports: [wrong] });
  }).toThrow(message);
  expect(reports.find(HOST, PLACE)).toBeNull();
});

test("a report has at most 4,096 lines", () => {
  const reports = new PortReports(virtualTime().clock);
  expect(() => {
    reports.take({}, HOST, { ports: Array.from({ length: 4_097 }, () => line(1, 0)) });
  }).toThrow("4096");
});
