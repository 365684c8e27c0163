// Reads the sources and fails on a breach of the one boundary that everything else rests on: pure folders are synchronous
// functions of their arguments. They import pure folders only, and touch no clock, timer, chance, process or promise.
//
// Lint and dependency-cruiser say the same with more detail; this test needs neither, runs in a second and cannot be
// switched off with a comment. Comments and the text of strings are removed first, so a sentence may mention Date.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, posix, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

/** Folders (ending in /) and single files that must be pure. */
const purePlaces = [
  "core/",
  "packet/",
  "dataplane/",
  "manager/raft/core/",
  "manager/state/",
  "mux/dataplane/",
  "mux/fairness/",
  "mux/peers/",
  "agent/dataplane/",
  "agent/health/monitor.ts",
  "test/linearizability/",
];

/** Narrower than "pure imports pure": from a folder of the left, only folders on the right. */
const narrower: readonly (readonly [string, readonly string[]])[] = [
  ["core/", ["core/"]],
  ["packet/", ["core/", "packet/"]],
  ["dataplane/", ["core/", "packet/", "dataplane/"]],
  ["manager/raft/core/", ["core/", "manager/raft/core/"]],
];

const forbidden: readonly (readonly [string, RegExp])[] = [
  ["a timer", /\b(?:set|clear)(?:Timeout|Interval|Immediate)\b/],
  ["queueMicrotask", /\bqueueMicrotask\b/],
  ["Date", /(?<![.\w$])Date\b(?!\s*[?:,=])/],
  ["performance", /(?<![.\w$])performance\s*\./],
  ["Math.random", /\bMath\s*\.\s*random\b/],
  ["crypto", /(?<![.\w$])crypto\s*\./],
  [
    "process",
    /(?<![.\w$])process\s*[.[]\s*(?:env|argv|nextTick|hrtime|uptime|exit|on|once|pid|cwd|stdout|stderr|memoryUsage|["'`])/,
  ],
  ["globalThis", /\bglobalThis\b/],
  ["Promise", /(?<![.\w$])Promise\b/],
  ["async", /(?<![.\w$])async\b(?=\s*(?:function|\(|[A-Za-z_$*]))/],
  ["await", /(?<![.\w$])await\b(?=\s)/],
  ["Buffer", /(?<![.\w$])Buffer\s*\./],
  ["console", /(?<![.\w$])console\s*\./],
  // Also under another name: `const { now } = Date`, `const c = crypto`, `void performance`.
  ["Date", /=\s*Date\b(?!\s*[?:])/],
  ["a global by another name", /=\s*(?:performance|crypto|console|Buffer|process)\b(?!\s*[.:?(\w])/],
  ["global", /(?<![.\w$])global\s*[.[]/],
  ["fetch", /(?<![.\w$])fetch\s*\(/],
  ["a network or worker object", /\bnew\s+(?:WebSocket|Worker|BroadcastChannel|MessageChannel|EventSource)\b/],
  ["shared memory", /(?<![.\w$])(?:SharedArrayBuffer|Atomics)\b/],
  ["a weak reference", /(?<![.\w$])(?:WeakRef|FinalizationRegistry)\b/], // told by the garbage collector: chance
  ["the locale", /\.(?:toLocale\w+|localeCompare)\s*\(|(?<![.\w$])Intl\s*\./],
  ["eval", /(?<![.\w$])(?:eval|Function)\s*\(/],
  ["then", /\.(?:then|catch|finally)\s*\(/],
  ["for await", /\bfor\s+await\b/],
];

/** Blanks comments; with `strings`, also the text between quotes. Line breaks stay, so that line numbers hold. */
function strip(source: string, { strings }: { readonly strings: boolean }): string {
  const token =
    /\/\/[^\n]*|\/\*[\s\S]*?\*\/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|\$\{[^{}]*\}|[^`\\$]|\$(?!\{))*`/g;
  return source.replace(token, (match) => {
    if (match.startsWith("/")) return match.replace(/[^\n]/g, " ");
    if (!strings) return match;
    // What stands in ${...} is code, not text.
    const code = match.startsWith("`") ? [...match.matchAll(/\$\{([^{}]*)\}/g)].map((hit) => hit[1]).join(";") : "";
    return `"${code}"${"\n".repeat(match.split("\n").length - 1)}`;
  });
}

/** Every module a source names, in static, re-exporting, dynamic and type-only imports. */
function importsOf(source: string): string[] {
  const text = strip(source, { strings: false });
  const pattern =
    /(?:^|[;}\s])(?:import|export)\b[^;"'`]*?\bfrom\s*["']([^"']+)["']|(?:^|[;}\s])import\s*["']([^"']+)["']|\b(?:import|require)\s*\(\s*["'`]([^"'`]+)["'`]/g;
  return [...text.matchAll(pattern)].map((hit) => hit[1] ?? hit[2] ?? hit[3] ?? "");
}

function isWithin(path: string, places: readonly string[]): boolean {
  return places.some((place) => (place.endsWith("/") ? path.startsWith(place) : path === place));
}

/** What is wrong with one pure file; `path` is relative to the repository, with forward slashes. */
function breachesOf(path: string, source: string): string[] {
  const breaches: string[] = [];
  const allowed = narrower.find(([from]) => path.startsWith(from))?.[1] ?? purePlaces;
  for (const specifier of importsOf(source)) {
    const target = specifier.startsWith(".")
      ? posix.join(posix.dirname(path), specifier).replace(/\.js$/, ".ts")
      : undefined;
    if (target === undefined || !isWithin(target, allowed)) breaches.push(`${path} imports ${specifier}`);
  }
  const lines = strip(source, { strings: true }).split("\n");
  lines.forEach((line, index) => {
    for (const [name, pattern] of forbidden) {
      if (pattern.test(line)) breaches.push(`${path}:${index + 1} uses ${name}`);
    }
  });
  return breaches;
}

function filesUnder(place: string): string[] {
  const path = join(root, place);
  if (!existsSync(path)) return [];
  if (!place.endsWith("/")) return [place];
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts") && !entry.name.endsWith(".test.ts"))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).split(sep).join("/"));
}

describe("pure folders", () => {
  it("import only pure folders and use no clock, timer, chance, process or promise", () => {
    const files = purePlaces.flatMap(filesUnder);
    expect(files.filter((path) => path.startsWith("manager/raft/core/")).length).toBeGreaterThan(15);
    expect(files.length).toBeGreaterThan(0);
    const breaches = files.flatMap((path) => breachesOf(path, readFileSync(join(root, path), "utf8")));
    expect(breaches).toEqual([]);
  });
});

describe("the purity check itself", () => {
  it.each([
    ["a node module", `import { readFileSync } from "node:fs";`, "imports node:fs"],
    ["a package, type only", `import type { Level } from "level";`, "imports level"],
    ["a shell folder", `export * from "../../runtime/env.js";`, "imports ../../runtime/env.js"],
    ["an import over several lines", `import {\n  a,\n  b,\n} from "../stages/x.js";`, "imports ../stages/x.js"],
    ["a dynamic import", `const m = import("node:net");`, "imports node:net"],
    ["an import for its effect", `import "node:http";`, "imports node:http"],
    ["a type imported in place", `type E = import("../../runtime/env.js").Env;`, "imports ../../runtime/env.js"],
    ["the wall clock", `const t = Date.now();`, "uses Date"],
    ["a new Date", `const t = new Date();`, "uses Date"],
    ["the monotonic clock", `const t = performance.now();`, "uses performance"],
    ["a timer", `setTimeout(() => 0, 1);`, "uses a timer"],
    ["chance", `const r = Math.random();`, "uses Math.random"],
    ["the process", `const e = process.env["X"];`, "uses process"],
    ["a promise", `function f(): Promise<void> { return x; }`, "uses Promise"],
    ["an async arrow", `const f = async () => 1;`, "uses async"],
    ["an await", `const x = await y;`, "uses await"],
    ["an async method", `class C { async go() {} }`, "uses async"],
    ["an async generator", `async function* f() {}`, "uses async"],
    ["a chained promise", `x.then(() => 1);`, "uses then"],
    ["a loop over promises", `for await (const a of b) a;`, "uses for await"],
    ["the clock by another name", `const { now } = Date;`, "uses Date"],
    ["the monotonic clock by another name", `const p = performance;`, "uses a global by another name"],
    ["the global object's older name", `global.setImmediate;`, "uses global"],
    ["the network", `fetch("http://x");`, "uses fetch"],
    ["a worker", `new Worker("x");`, "uses a network or worker object"],
    ["waiting on memory", `Atomics.wait(a, 0, 0);`, "uses shared memory"],
    ["the garbage collector", `new WeakRef(x);`, "uses a weak reference"],
    ["the machine's language", `a.localeCompare(b);`, "uses the locale"],
    ["code from text", `eval("1");`, "uses eval"],
    ["protobuf", `import { ananta } from "../../proto/gen/wire.js";`, "imports ../../proto/gen/wire.js"],
    ["gRPC", `import grpc from "@grpc/grpc-js";`, "imports @grpc/grpc-js"],
    ["code inside a template", "const s = `at ${Date.now()}`;", "uses Date"],
    ["a line after a comment", `/* a\n comment */ const t = Date.now();`, ":2 uses Date"],
  ])("finds %s", (_title, source, finding) => {
    const breaches = breachesOf("manager/state/sample.ts", source);
    expect(breaches.some((breach) => breach.endsWith(finding))).toBe(true);
  });

  it.each([
    ["words in comments", `// Date.now() and await are forbidden here\n/* setTimeout */`],
    ["words in strings", `const message = "await the Promise of Date.now()";`],
    ["a pipeline's own process method", `pipeline.process(batch, nowMs, out);`],
    ["a method named process", `process(batch: Batch, nowMs: number): void {}`],
    ["a pure neighbour", `import { assert } from "../../core/assert.js";`],
  ])("lets %s pass", (_title, source) => {
    expect(breachesOf("manager/state/sample.ts", source)).toEqual([]);
  });

  it("keeps packet out of dataplane, and the Raft core out of the state machine", () => {
    expect(breachesOf("packet/sample.ts", `import { x } from "../dataplane/contract.js";`)).toHaveLength(1);
    expect(breachesOf("manager/raft/core/sample.ts", `import { x } from "../../state/commands.js";`)).toHaveLength(1);
    expect(breachesOf("dataplane/sample.ts", `import { x } from "../packet/ipv4.js";`)).toEqual([]);
  });
});
