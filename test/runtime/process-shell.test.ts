/** What stands around every component in a process: settings, metrics, HTTP for operations. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { AnantaError } from "../../core/errors.js";
import { Metrics } from "../../runtime/metrics.js";
import { type Check, OpsServer } from "../../runtime/ops-http.js";
import { settingsHelp } from "../../runtime/settings-help.js";
import { hostPort, ipPort, readSettings } from "../../runtime/settings.js";

const schema = z.object({
  name: z.string().min(1),
  opsAddress: z.string().nullable().default(null),
  retryMaxMs: z.number().int().min(1).default(1_000),
  insecure: z.boolean().default(false),
  capacity: z.strictObject({ rules: z.number(), ranges: z.number() }).optional(),
});

describe("--help", () => {
  it("lists every setting with its flag, variable, type and default", () => {
    expect(settingsHelp("mux/main.js", "One MUX.", schema).split("\n").slice(5, -3)).toEqual([
      "  FLAG           ENVIRONMENT           TYPE      DEFAULT",
      "  --name         ANANTA_NAME           string    required",
      "  --opsAddress   ANANTA_OPS_ADDRESS    string    null",
      "  --retryMaxMs   ANANTA_RETRY_MAX_MS   number    1000",
      "  --insecure     ANANTA_INSECURE       boolean   false",
      "  --capacity     ANANTA_CAPACITY       object    none",
    ]);
  });
});

describe("settings", () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "ananta-settings-"));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const file = async (content: unknown): Promise<string> => {
    const path = join(folder, "mux.json");
    await writeFile(path, typeof content === "string" ? content : JSON.stringify(content));
    return path;
  };
  const refusal = (argv: readonly string[], env: Record<string, string> = {}): string => {
    try {
      readSettings(schema, { argv, env });
    } catch (caught) {
      expect(caught).toBeInstanceOf(AnantaError);
      expect((caught as AnantaError).code).toBe("INVALID_ARGUMENT");
      return (caught as AnantaError).message;
    }
    throw new Error("the settings were accepted");
  };

  it("come from flags before the environment, before the file, before defaults", async () => {
    const config = await file({ name: "from-file", retryMaxMs: 1, opsAddress: "127.0.0.1:1" });
    const argv = ["--config", config, "--name=from-flag", "--insecure", "true"];
    const env = { ANANTA_NAME: "from-env", ANANTA_RETRY_MAX_MS: "2" };
    expect(readSettings(schema, { argv, env })).toEqual({
      name: "from-flag",
      retryMaxMs: 2,
      opsAddress: "127.0.0.1:1",
      insecure: true,
    });
    expect(readSettings(schema, { argv: [], env: { ANANTA_CONFIG: config } }).name).toBe("from-file");
  });

  it("accept flags as they are written on a command line, with dashes", () => {
    expect(readSettings(schema, { argv: ["--name", "a", "--retry-max-ms", "7"], env: {} }).retryMaxMs).toBe(7);
  });

  it("take text that looks like a number as text where the setting is text", () => {
    expect(readSettings(schema, { argv: ["--name", "7"], env: {} }).name).toBe("7");
    expect(readSettings(schema, { argv: [], env: { ANANTA_NAME: "1e3" } }).name).toBe("1e3");
    expect(readSettings(schema, { argv: ["--name", "true", "--ops-address", "null"], env: {} })).toMatchObject({
      name: "true",
      opsAddress: null,
    });
    expect(refusal(["--name", "a", "--retry-max-ms", "0"])).not.toContain("string");
    expect(refusal(["--name", "a", "--insecure", "7"])).toContain("insecure: ");
  });

  it.each([
    { text: "127.0.0.1:65535", host: true, ip: true },
    { text: "[::1]:9001", host: true, ip: true },
    { text: "manager-1.site:7401", host: true, ip: false },
    { text: "127.0.0.1:65536", host: false, ip: false },
    { text: "127.0.0.1", host: false, ip: false },
    { text: "a b:1", host: false, ip: false },
  ])("know $text as an address with a name: $host, of an interface: $ip", ({ text, host, ip }) => {
    expect(hostPort.safeParse(text).success).toBe(host);
    expect(ipPort.safeParse(text).success).toBe(ip);
  });

  it("are refused with all problems at once, each with its key and origin, and the nearest known name", async () => {
    const config = await file({
      name: "",
      retryMaxMs: "soon",
      opsAdress: "127.0.0.1:1",
      capacity: { rules: 1, rngs: 2 },
    });
    const lines = refusal(["--config", config]).split("\n");
    expect(lines).toHaveLength(5);
    expect(lines.find((line) => line.startsWith("opsAdress"))).toContain("did you mean opsAddress?");
    expect(lines.find((line) => line.startsWith("retryMaxMs"))).toContain(config);
    expect(lines.some((line) => line.startsWith("name: "))).toBe(true);
    expect(lines.some((line) => line.startsWith("capacity.rngs: unknown"))).toBe(true);
    expect(lines.some((line) => line.startsWith("capacity.ranges: "))).toBe(true);
  });

  it("are refused when the file is missing, broken or no object, naming it", async () => {
    expect(refusal(["--config", join(folder, "none.json")])).toContain("none.json");
    expect(refusal(["--config", await file("{")])).toContain("is not JSON");
    expect(refusal(["--config", await file([1])])).toContain("no JSON object");
    expect(refusal(["--name"])).toContain("--name needs a value");
    expect(refusal(["start"])).toContain('"start" is not a flag');
  });
});

describe("HTTP for operations", () => {
  let checks: Check[];
  let ops: OpsServer;
  let address: string;
  beforeEach(async () => {
    checks = [{ name: "leader", ok: true }];
    const metrics = new Metrics([
      {
        name: "ananta_test_drop_total",
        help: "Drops by reason.",
        type: "counter",
        labels: ["reason"],
        read: () => [{ labels: { reason: "no_vip" }, value: 3 }],
      },
      { name: "ananta_test_queue_length", help: "Waiting now.", type: "gauge", read: () => [{ value: 2 }] },
    ]);
    ops = new OpsServer({ metrics: () => metrics.text(), ready: () => checks });
    address = `127.0.0.1:${await freePort()}`;
    await ops.listen(address);
  });
  afterEach(() => ops.stop());
  const get = async (path: string): Promise<[number, string]> => {
    const response = await fetch(`http://${address}${path}`);
    return [response.status, await response.text()];
  };

  it("shows the metrics as they are at that moment, and never counts a reading twice", async () => {
    for (let i = 0; i < 2; i++) {
      const [status, text] = await get("/metrics");
      expect(status).toBe(200);
      expect(text).toContain('ananta_test_drop_total{reason="no_vip"} 3\n');
      expect(text).toContain("ananta_test_queue_length 2\n");
      expect(text).toContain("nodejs_eventloop_lag_seconds");
    }
  });

  it("is alive whether ready or not, and names the check that fails", async () => {
    expect(await get("/livez")).toEqual([200, "ok\n"]);
    expect(await get("/readyz")).toEqual([200, "ok\n"]);
    expect(await get("/readyz?verbose")).toEqual([200, "[+]ping ok\n[+]leader ok\nreadyz check passed\n"]);
    expect(await get("/livez?verbose")).toEqual([200, "[+]ping ok\nlivez check passed\n"]);
    checks = [
      { name: "leader", ok: false, reason: "none is known" },
      { name: "votes", ok: true },
    ];
    expect(await get("/livez")).toEqual([200, "ok\n"]);
    expect(await get("/readyz")).toEqual([
      503,
      "[+]ping ok\n[-]leader failed: none is known\n[+]votes ok\nreadyz check failed\n",
    ]);
    expect(await get("/readyz?exclude=leader")).toEqual([200, "ok\n"]);
    expect(await get("/readyz/votes?verbose")).toEqual([200, "[+]votes ok\nreadyz check passed\n"]);
    expect(await get("/readyz/leader")).toEqual([503, "[-]leader failed: none is known\nreadyz check failed\n"]);
    expect(await get("/readyz/vote")).toEqual([404, 'no check "vote"; there are ping, leader, votes\n']);
    expect((await fetch(`http://${address}/readyz`, { method: "POST" })).status).toBe(405);
    expect((await get("/healthz"))[0]).toBe(503);
    expect((await get("/other"))[0]).toBe(404);
  });

  it("refuses a port that is taken, and an address that others reach", async () => {
    const second = new OpsServer({ metrics: () => Promise.resolve(""), ready: () => [] });
    await expect(second.listen(address)).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
    await expect(async () => second.listen("0.0.0.0:0")).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  });
});

/** A port that was free a moment ago. */
function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const bound = server.address();
      server.close(() => resolve(typeof bound === "object" && bound !== null ? bound.port : 0));
    });
  });
}
