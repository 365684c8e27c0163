import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parseArguments } from "../../fabric/arguments.js";
import { DataFolder } from "../../fabric/launcher/data-folder.js";
import { firstPortInUse } from "../../fabric/launcher/ports.js";
import { dataPathIn } from "../../fabric/data-path.js";
import { childPlans, planSite, PORT_BASE_DEFAULT, PORT_SPAN, portsOf } from "../../fabric/site.js";

describe("data folder", () => {
  let path = "";
  beforeEach(() => {
    path = mkdtempSync(join(tmpdir(), "ananta-test-"));
  });
  afterEach(() => rmSync(path, { recursive: true, force: true }));

  it("is used by one launcher at a time, and the second is told whose it is", () => {
    const first = new DataFolder(path);
    first.lock();
    expect(() => new DataFolder(path).lock()).toThrow(`in use by process ${process.pid}`);
    first.unlock();
    new DataFolder(path).lock();
  });

  it("is made with the folders above it, and where that cannot be the user is told", () => {
    new DataFolder(join(path, "a", "b")).lock();
    writeFileSync(join(path, "file"), "");
    expect(() => new DataFolder(join(path, "file", "x")).lock()).toThrow("cannot be made");
    // Node's own recursive mkdir never comes back from here.
    if (process.platform === "linux") expect(() => new DataFolder("/proc/ananta").lock()).toThrow("cannot be made");
  });

  it("is taken over from a process that died, also when its number was given away again", () => {
    writeFileSync(join(path, "lock"), JSON.stringify({ pid: 2 ** 22 + 1, started: "1" }));
    new DataFolder(path).lock();
    writeFileSync(join(path, "lock"), JSON.stringify({ pid: process.pid, started: "1" }));
    if (process.platform === "linux") new DataFolder(path).lock();
  });

  it("keeps the cluster's id over starts, and refuses a file that is not its own", () => {
    const folder = new DataFolder(path);
    const site = folder.site(() => "a".repeat(32));
    expect(site).toEqual({ version: 1, clusterId: "a".repeat(32), formed: false });
    folder.writeSite({ ...site, formed: true });
    expect(folder.site(() => "b".repeat(32))).toEqual({ ...site, formed: true });
    writeFileSync(join(path, "site.json"), "{");
    expect(() => folder.site(() => "")).toThrow("is not a site of this version");
  });

  it("writes configurations as JSON", () => {
    const file = new DataFolder(path).writeConfig("mux-1", { name: "mux-1" });
    expect(JSON.parse(readFileSync(file, "utf8"))).toEqual({ name: "mux-1" });
  });
});

describe("plan of the site", () => {
  it("gives every port once, all within a hundred of the base", () => {
    const ports = portsOf(planSite(7_400)).map(({ address }) => Number(address.split(":")[1]));
    expect(new Set(ports).size).toBe(ports.length);
    expect(Math.min(...ports)).toBeGreaterThan(7_400);
    expect(Math.max(...ports)).toBeLessThan(7_500);
  });

  it("tells replicas to format an empty folder only when the cluster is being formed", () => {
    const bootstraps = (bootstrap: boolean): unknown[] =>
      childPlans(planSite(7_400), { clusterId: "c", dataFolder: "/d", bootstrap })
        .filter((child) => child.role === "manager")
        .map((child) => child.config["bootstrap"]);
    expect(bootstraps(true)).toEqual([true, true, true, true, true]);
    expect(bootstraps(false)).toEqual([false, false, false, false, false]);
  });

  it("names the port that is in use", async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const taken = await firstPortInUse([{ transport: "tcp", address, usedBy: "manager-1, API" }]);
    expect(taken).toMatchObject({ port: { address }, code: "EADDRINUSE" });
    await new Promise((resolve) => server.close(resolve));
    expect(await firstPortInUse([{ transport: "tcp", address, usedBy: "" }])).toBeNull();
  });
});

describe("arguments of npm start", () => {
  it("have defaults, and take a value with a space or an equals sign", () => {
    expect(parseArguments([])).toEqual({
      demo: false,
      restart: true,
      portBase: 7_400,
      dataFolder: null,
      ecmp: "plain",
      locators: "ipv4",
      flows: 1_000,
    });
    expect(
      parseArguments([
        "--demo",
        "--port-base",
        "9000",
        "--data=x=y",
        "--no-restart",
        "--ecmp",
        "resilient",
        "--locators",
        "ipv6",
      ]),
    ).toEqual({
      demo: true,
      restart: false,
      portBase: 9_000,
      dataFolder: "x=y",
      ecmp: "resilient",
      locators: "ipv6",
      flows: 1_000,
    });
  });

  it("are all in the text that --help shows, with the defaults that hold", () => {
    const usage = readFileSync(new URL("../../fabric/usage.txt", import.meta.url), "utf8");
    for (const option of ["--demo", "--no-restart", "--port-base", "--data", "--ecmp", "--flows", "--help"])
      expect(usage).toContain(`  ${option} `);
    expect(usage).toContain(`(default ${PORT_BASE_DEFAULT})`);
    expect(usage).toContain(`first of ${PORT_SPAN} ports`);
  });

  it("are refused in one line that says what would be right", () => {
    for (const wrong of [
      ["--port-base", "70000"],
      ["--port-base"],
      ["--data"],
      ["--ecmp", "x"],
      ["--locators", "ipv5"],
      ["--flows", "0"],
      ["--nope"],
      ["demo"],
    ]) {
      expect(parseArguments(wrong), wrong.join(" ")).toHaveProperty("problem");
    }
  });
});

it("reads what data paths count from a metrics page: drops by reason, the rarer paths, how flows ended", () => {
  const page = [
    "# HELP ananta_mux_packet_drop_total Packets dropped.",
    "# TYPE ananta_mux_packet_drop_total counter",
    'ananta_mux_packet_drop_total{reason="no_vip"} 3',
    'ananta_mux_packet_drop_total{mux="mux-1",reason="no_rule"} 2',
    'ananta_mux_packet_drop_total{reason="ttl_expired"} 0',
    'ananta_mux_table_entries{table="fragments"} 4',
    'ananta_mux_table_entries{table="rules"} 9',
    'ananta_mux_relayed_packets_total{direction="out"} 7',
    'ananta_mux_relayed_packets_total{direction="in"} 0',
    "ananta_mux_received_packets_total 1.2e3",
    'ananta_agent_flows_ended_total{end="idle, and the machine did not answer a keepalive"} 5',
  ].join("\n");
  const { drops, counts } = dataPathIn(page);
  expect([...drops]).toEqual([
    ["no_vip", 3],
    ["no_rule", 2],
  ]);
  expect([...counts]).toEqual([
    ["received", 1_200],
    ["relayed to peers", 7],
    ["fragmented packets", 4],
    ["ended: idle, and the machine did not answer a keepalive", 5],
  ]);
});
