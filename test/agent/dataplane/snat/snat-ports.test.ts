/** What a search for a port costs, and when it is worth another one (S4). */
import { expect, it } from "vitest";
import type { DipId, IpAddress, VipId } from "../../../../core/brands.js";
import { createRandom } from "../../../../core/random.js";
import { Addresses } from "../../../../agent/dataplane/addresses.js";
import { SnatPorts } from "../../../../agent/dataplane/snat/snat-ports.js";
import { testSeed } from "../../../kit/virtual-world.js";

const VIP = "198.51.100.1" as IpAddress;
const REMOTE = 7;
const RANGE = 1_000;

/** Two ranges of DIP 1, all of whose ports are in use towards `REMOTE`; the second is recalled. */
function exhausted() {
  const addresses = new Addresses(16, new Uint8Array(8));
  const vip = addresses.take(VIP);
  const ports = new SnatPorts(64, 64, createRandom(testSeed("search")), addresses);
  const add = (range: number): void =>
    ports.addRange({ vipId: 1 as VipId, vip: VIP, protocol: 6, range, dipId: 1 as DipId }, vip, 0);
  const taken = new Set<string>();
  let looks = 0;
  const known = {
    isTaken: (remote: number, _vip: number, _remotePort: number, port: number): boolean => {
      looks++;
      return taken.has(`${remote}/${port}`);
    },
  };
  const open = (nowMs: number, remote = REMOTE): number => {
    const port = ports.allocate(known, 1, 0, vip, 6, remote, 443, nowMs);
    if (port >= 0) taken.add(`${remote}/${port}`);
    return port;
  };
  add(RANGE);
  add(RANGE + 1);
  const flows = Array.from({ length: 16 }, () => {
    const port = open(0);
    return { port, range: ports.allocatedRange, use: ports.allocatedUse };
  });
  ports.recall(vip, 6, RANGE + 1);
  const close = ({ port, range, use }: (typeof flows)[number], nowMs: number): void => {
    taken.delete(`${REMOTE}/${port}`);
    ports.release(range, use, nowMs);
  };
  const looksFor = (work: () => void): number => {
    const before = looks;
    work();
    return looks - before;
  };
  return { ports, vip, add, open, close, flows, looksFor };
}

const isRecalled = ({ port }: { readonly port: number }): boolean => port >> 3 === RANGE + 1;

it("packets in vain are one search, not one each, while a range is recalled", () => {
  const { open, close, flows, looksFor } = exhausted();
  close(flows.find(isRecalled)!, 1);
  expect(looksFor(() => open(2))).toBeGreaterThanOrEqual(8);
  const looks = looksFor(() => {
    for (let packet = 0; packet < 1_000; packet++) expect(open(3)).toBe(-1);
  });
  expect(looks).toBe(0);
});

it("another destination is searched for as ever", () => {
  const { open, close, flows } = exhausted();
  close(flows.find(isRecalled)!, 1);
  expect(open(2)).toBe(-1);
  expect(open(2, 8)).toBeGreaterThan(0);
});

it("a flow towards the destination that ends, a new range, and the recall's end each let the next packet search", () => {
  for (const what of ["flow", "range", "recall"] as const) {
    const { ports, vip, add, open, close, flows } = exhausted();
    close(flows.find(isRecalled)!, 1);
    expect(open(2)).toBe(-1);
    if (what === "flow")
      close(
        flows.find((flow) => !isRecalled(flow))!,
        3,
      );
    else if (what === "range") add(RANGE + 2);
    else ports.endRecall(vip, 6, RANGE + 1);
    expect(open(3), what).toBeGreaterThan(0);
  }
});

/** Four ranges of DIP 1: a flow each on the first two; one range more than asked for could go at once. */
function working() {
  const addresses = new Addresses(16, new Uint8Array(8));
  const vip = addresses.take(VIP);
  const ports = new SnatPorts(64, 64, createRandom(testSeed("surplus")), addresses);
  const nobody = { isTaken: () => false };
  const add = (range: number): void =>
    ports.addRange({ vipId: 1 as VipId, vip: VIP, protocol: 6, range, dipId: 1 as DipId }, vip, 0);
  const open = (remote: number): { readonly range: number; readonly use: number } => {
    ports.allocate(nobody, 1, 0, vip, 6, remote, 443, 0);
    return { range: ports.allocatedRange, use: ports.allocatedUse };
  };
  add(RANGE);
  const first = open(1);
  ports.recall(vip, 6, RANGE);
  add(RANGE + 1);
  const second = open(2);
  ports.endRecall(vip, 6, RANGE);
  add(RANGE + 2);
  add(RANGE + 3);
  const returnable = (): readonly number[] => ports.returnable().map(({ range }) => range);
  return { ports, vip, first, second, open, returnable };
}

it("of ranges wanted back, whichever, the idle ones go, and no flow starts on one that is chosen", () => {
  const { ports, vip, open, returnable } = working();
  ports.recallSurplus(1, vip, 6, 2);
  expect([...returnable()].sort()).toEqual([RANGE + 2, RANGE + 3]);
  expect(ports.rangesOf(1, vip, 6)).toBe(2);
  for (let flow = 0; flow < 16; flow++) open(10 + flow);
  expect([...returnable()].sort()).toEqual([RANGE + 2, RANGE + 3]);
  // One is on its way back: it counts.
  expect(ports.stop(vip, 6, RANGE + 2)).toBe(true);
  expect(returnable()).toEqual([RANGE + 3]);
  ports.removeRange(vip, 6, RANGE + 2);
  ports.recallSurplus(1, vip, 6, 1);
  expect(returnable()).toEqual([RANGE + 3]);
});

it("one with a flow is kept until that is over; when another falls idle first, that one goes instead", () => {
  const { ports, vip, first, second, returnable } = working();
  ports.recallSurplus(1, vip, 6, 3);
  expect(returnable()).toHaveLength(2);
  expect(ports.rangesOf(1, vip, 6), "three are off for new flows").toBe(1);
  for (const flow of [first, second]) ports.release(flow.range, flow.use, 1);
  expect(returnable()).toHaveLength(3);
});

it("whoever is asked no more uses all of its ranges again", () => {
  const { ports, vip, returnable } = working();
  ports.recallSurplus(1, vip, 6, 4);
  expect(ports.rangesOf(1, vip, 6)).toBe(0);
  ports.recallSurplus(1, vip, 6, 0);
  expect(ports.rangesOf(1, vip, 6)).toBe(4);
  expect(returnable()).toEqual([]);
});
