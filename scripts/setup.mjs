// Brings a fresh clone to the point where dist/ can be run: packages, build, command link. Safe to run again at any time
// (a no-op takes well under a second), safe to run twice at once (the second waits), safe to interrupt.
//
//   node scripts/setup.mjs            everything that is not up to date
//   node scripts/setup.mjs --build    the same, but build even if no source has changed
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  renameSync,
} from "node:fs";
import { rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { constants, hostname } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

export const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const dist = join(root, "dist");
const nodeModules = join(root, "node_modules");
const lockDir = join(root, ".ananta", "setup.lock");
const sourceFolders = [
  ..."core packet dataplane runtime manager agent mux fabric cli proto bench".split(" "),
  "test/linearizability",
  "test/chaos",
];
const staticFolders = ["console"];
const startedAt = performance.now();

export class SetupError extends Error {
  constructor(message, exitCode = 1) {
    super(message);
    this.exitCode = exitCode;
  }
}

function say(text) {
  process.stderr.write(`[setup ${((performance.now() - startedAt) / 1000).toFixed(1)}s] ${text}\n`);
}

export function checkNodeVersion() {
  const wanted = /(\d+)\.(\d+)/.exec(JSON.parse(readFileSync(join(root, "package.json"), "utf8")).engines.node);
  const [major, minor] = process.versions.node.split(".").map(Number);
  const [wantedMajor, wantedMinor] = [Number(wanted[1]), Number(wanted[2])];
  if (major > wantedMajor || (major === wantedMajor && minor >= wantedMinor)) return;
  throw new SetupError(
    `Ananta needs Node ${String(wantedMajor)}.${String(wantedMinor)} or newer; this is ${process.version} (${process.execPath}).`,
  );
}

// ---- lock: a folder (mkdir is atomic) with its owner's pid; its time is refreshed while the owner lives ----

const heartbeatMs = 2_000;
const staleMs = 30_000; // many heartbeats: a busy machine must not lose its lock
let heldToken;
let heartbeat;

function readOwner() {
  try {
    return JSON.parse(readFileSync(join(lockDir, "owner.json"), "utf8"));
  } catch {
    return undefined; // just being created, or left by a crash between mkdir and write
  }
}

function isStale(owner) {
  let age;
  try {
    age = Date.now() - statSync(lockDir).mtimeMs;
  } catch {
    return false; // released in the meantime
  }
  if (age > staleMs) return true;
  if (owner === undefined || owner.host !== hostname()) return false;
  try {
    process.kill(owner.pid, 0);
    return false;
  } catch (error) {
    return error.code === "ESRCH";
  }
}

function tryLock() {
  mkdirSync(dirname(lockDir), { recursive: true });
  try {
    mkdirSync(lockDir);
  } catch (error) {
    if (error.code === "EEXIST") return false;
    throw error;
  }
  heldToken = `${String(process.pid)}-${String(Date.now())}`;
  writeFileSync(join(lockDir, "owner.json"), JSON.stringify({ pid: process.pid, host: hostname(), token: heldToken }));
  heartbeat = setInterval(() => {
    try {
      utimesSync(lockDir, new Date(), new Date());
    } catch {
      // the folder was removed by hand; nothing to keep fresh
    }
  }, heartbeatMs);
  heartbeat.unref();
  return true;
}

function breakStaleLock(seen) {
  const aside = `${lockDir}.stale-${String(process.pid)}`;
  try {
    renameSync(lockDir, aside); // only one of several waiters wins this
    const moved = JSON.parse(readFileSync(join(aside, "owner.json"), "utf8"));
    // Another waiter was quicker and what we moved is its fresh lock: put it back.
    if (moved.token !== seen?.token && !existsSync(lockDir)) renameSync(aside, lockDir);
  } catch {
    // lost the race, or the owner file was never written
  }
  rmSync(aside, { recursive: true, force: true });
}

async function lock() {
  let said = false;
  while (!tryLock()) {
    const owner = readOwner();
    if (isStale(owner)) {
      breakStaleLock(owner);
      continue;
    }
    if (!said) say(`another setup is running (process ${String(owner?.pid ?? "?")}); waiting for it`);
    said = true;
    await new Promise((wake) => setTimeout(wake, 200));
  }
}

function unlock() {
  clearInterval(heartbeat);
  if (heldToken !== undefined && readOwner()?.token === heldToken) rmSync(lockDir, { recursive: true, force: true });
  heldToken = undefined;
}

// ---- children: a signal ends the child first, then us ----

let child;
let interruptedBy;

function onSignal(signal) {
  if (interruptedBy === undefined) say(`${signal}: stopping`);
  interruptedBy = signal;
  child?.kill(signal === "SIGHUP" ? "SIGTERM" : signal);
  const running = child;
  setTimeout(() => running?.kill("SIGKILL"), 5_000).unref();
  if (child === undefined) {
    unlock();
    process.exit(128 + constants.signals[signal]);
  }
}

function run(command, args, { waiting, shell = false, env = {} }) {
  return new Promise((done, fail) => {
    const since = performance.now();
    const progress = setInterval(() => {
      say(`${waiting} (${((performance.now() - since) / 1000).toFixed(0)}s)`);
    }, 5_000);
    child = spawn(command, args, { cwd: root, stdio: ["ignore", 2, 2], shell, env: { ...process.env, ...env } });
    const finish = (outcome) => {
      clearInterval(progress);
      child = undefined;
      if (interruptedBy !== undefined)
        fail(new SetupError(`stopped by ${interruptedBy}`, 128 + constants.signals[interruptedBy]));
      else outcome();
    };
    child.on("error", (error) => finish(() => fail(new SetupError(`cannot run ${command}: ${error.message}`))));
    child.on("close", (code, signal) => finish(() => done(code ?? `signal ${String(signal)}`)));
  });
}

// ---- packages ----

function packageStamp() {
  const hash = createHash("sha256").update(readFileSync(join(root, "package-lock.json")));
  return hash.update(`${process.version} ${process.platform} ${process.arch}`).digest("hex");
}

async function installPackages() {
  const stampFile = join(nodeModules, ".ananta-setup");
  const stamp = packageStamp();
  if (existsSync(stampFile) && readFileSync(stampFile, "utf8") === stamp) return;
  say(existsSync(nodeModules) ? "packages differ from package-lock.json: npm ci" : "installing packages: npm ci");
  rmSync(stampFile, { force: true });
  // Scripts are off: every native part comes prebuilt inside its package, and a package has no business running code here.
  const args = [
    "ci",
    "--ignore-scripts",
    "--include=dev",
    "--include=optional",
    "--no-audit",
    "--no-fund",
    "--prefer-offline",
  ];
  const npmCli = process.env.npm_execpath ?? "";
  const underNpm = /npm-cli\.[cm]?js$/.test(npmCli);
  const windows = process.platform === "win32";
  const command = underNpm ? process.execPath : windows ? "npm.cmd" : "npm";
  const options = { waiting: "still installing", shell: windows && !underNpm, env: { npm_config_loglevel: "error" } };
  let code = 1;
  for (let attempt = 1; attempt <= 2 && code !== 0; attempt++) {
    if (attempt > 1) say("npm ci failed; trying once more");
    code = await run(command, underNpm ? [npmCli, ...args] : args, options);
  }
  if (code !== 0) throw new SetupError(`npm ci failed (${String(code)}); its messages are above.`);
  writeFileSync(stampFile, stamp);
  say("packages installed");
}

// ---- build ----

function* filesUnder(dir) {
  if (!existsSync(dir)) return;
  const entries = readdirSync(dir, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) yield* filesUnder(path);
    else if (entry.isFile()) yield path;
  }
}

// Files that tsc does not emit but a running process reads.
function isStatic(path) {
  const name = relative(root, path);
  if (staticFolders.some((folder) => name.startsWith(folder))) return true;
  return /\.(proto|js|json|html|css|svg|txt)$/.test(name) && sourceFolders.some((folder) => name.startsWith(folder));
}

function sourceState() {
  const hash = createHash("sha256").update(process.version);
  const statics = [];
  const tracked = [
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "tsconfig.build.json",
    "scripts/setup.mjs",
  ].map((name) => join(root, name));
  for (const folder of [...sourceFolders, ...staticFolders]) {
    for (const path of filesUnder(join(root, folder))) {
      if (isStatic(path)) statics.push(path);
      if (isStatic(path) || path.endsWith(".ts")) tracked.push(path);
    }
  }
  for (const path of tracked) {
    const { size, mtimeMs } = statSync(path);
    hash.update(`${relative(root, path)} ${String(size)} ${String(mtimeMs)}\n`);
  }
  return { stamp: hash.digest("hex"), statics, sources: tracked.filter((path) => path.endsWith(".ts")).length };
}

async function build(force) {
  const stampFile = join(dist, ".build-stamp");
  const { stamp, statics, sources } = sourceState();
  if (!force && existsSync(stampFile) && readFileSync(stampFile, "utf8") === stamp) return;
  if (sources === 0) throw new SetupError("no TypeScript sources found: is this a complete checkout?");
  say(existsSync(stampFile) ? "sources changed: building" : "building");
  rmSync(stampFile, { force: true });
  const tsc = join(nodeModules, "typescript", "bin", "tsc");
  const colour = process.stderr.isTTY ? ["--pretty"] : [];
  const code = await run(process.execPath, [tsc, "-p", "tsconfig.build.json", ...colour], {
    waiting: "still building",
  });
  if (code !== 0) throw new SetupError("the TypeScript build failed; the errors are above.");
  for (const path of statics) {
    const target = join(dist, relative(root, path));
    mkdirSync(dirname(target), { recursive: true });
    copyFileSync(path, target);
  }
  writeFileSync(stampFile, stamp);
  say("built");
}

// ---- `npx ananta`: npx looks into node_modules/.bin first, so no copy of this package has to be installed anywhere ----

function linkCommand() {
  const target = join(dist, "cli", "main.js");
  if (!existsSync(target)) return;
  chmodSync(target, 0o755);
  const link = join(nodeModules, ".bin", "ananta");
  const value = join("..", "..", "dist", "cli", "main.js");
  mkdirSync(dirname(link), { recursive: true });
  if (process.platform === "win32") {
    writeFileSync(`${link}.cmd`, `@node "%~dp0\\${value}" %*\r\n`);
    return;
  }
  const present = lstatSync(link, { throwIfNoEntry: false });
  if (present?.isSymbolicLink() && readlinkSync(link) === value) return;
  rmSync(link, { force: true });
  symlinkSync(value, link);
}

/** Runs every step that is not up to date. Throws SetupError (message for people, exitCode) if one fails. */
export async function setup({ force = false } = {}) {
  checkNodeVersion();
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const signal of signals) process.on(signal, onSignal);
  try {
    await lock();
    await installPackages();
    await build(force);
    linkCommand();
  } finally {
    unlock();
    for (const signal of signals) process.off(signal, onSignal);
  }
}

/** For scripts: setup, or one clear line and the exit code; false if it failed. */
export async function setupOrReport(options) {
  try {
    await setup(options);
    return true;
  } catch (error) {
    process.stderr.write(
      `${error instanceof SetupError ? `ananta: ${error.message}` : (error?.stack ?? String(error))}\n`,
    );
    process.exitCode = error?.exitCode ?? 1;
    return false;
  }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(resolve(process.argv[1])).href) {
  await setupOrReport({ force: process.argv.includes("--build") });
}
