// Runs one child in the foreground so that Ctrl-C reaches it exactly once and nothing is left behind.
//
// A terminal sends SIGINT to every process of the foreground group, and npm forwards its own copy: a child would see two and
// take the second for "exit now". So the child gets a process group of its own, this process passes each signal on once, and
// when the child has ended whatever is left of its group is killed. If this process is killed outright, the tether (a pipe
// that then closes, see tether.mjs) ends the child.
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { fileURLToPath } from "node:url";

const posix = process.platform !== "win32";
const tether = new URL("./tether.mjs", import.meta.url);
const duplicateMs = 500; // copies of one key press arrive within a few ms; a person's second Ctrl-C takes longer
const forwarded = posix ? ["SIGINT", "SIGTERM", "SIGHUP"] : ["SIGINT", "SIGTERM"];

const active = new Set();
const lastSeen = new Map();

function onSignal(signal) {
  const now = performance.now();
  if (now - (lastSeen.get(signal) ?? -Infinity) < duplicateMs) return;
  lastSeen.set(signal, now);
  for (const child of active) signalChild(child, signal);
}

function signalChild(child, signal) {
  child.interruptedBy ??= signal;
  child.signals = (child.signals ?? 0) + 1;
  child.kill(child.signals > 2 ? "SIGKILL" : signal);
}

function killGroup(child) {
  if (!posix || child.pid === undefined) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // ESRCH: the whole group has already ended
  }
}

/**
 * Runs `node [...nodeArgs] script [...args]`. Resolves to { code, signal, interrupted } and never rejects; `code` follows the
 * shell (128 + signal number). With `capture`, stdout and stderr come back in `output` instead of being printed.
 */
export function runNode(script, args = [], { nodeArgs = [], env = {}, capture = false, cwd = process.cwd() } = {}) {
  return new Promise((done) => {
    const output = capture ? ["pipe", "pipe"] : ["inherit", "inherit"];
    const child = spawn(
      process.execPath,
      [...nodeArgs, "--import", tether.href, script instanceof URL ? fileURLToPath(script) : script, ...args],
      {
        stdio: [capture ? "ignore" : "inherit", ...output, "pipe"],
        detached: posix,
        cwd,
        env: { ...process.env, ...env, ANANTA_TETHER_FD: "3" },
      },
    );
    const chunks = [];
    child.stdout?.on("data", (chunk) => chunks.push(chunk));
    child.stderr?.on("data", (chunk) => chunks.push(chunk));
    child.stdio[3].on("error", () => {}); // the child has gone: its exit is reported below
    if (active.size === 0) for (const signal of forwarded) process.on(signal, onSignal);
    active.add(child);
    let settled = false;
    const finish = (code, signal, error) => {
      if (settled) return;
      settled = true;
      killGroup(child);
      active.delete(child);
      if (active.size === 0) for (const name of forwarded) process.off(name, onSignal);
      if (error) chunks.push(Buffer.from(`${error.message}\n`));
      const text = Buffer.concat(chunks).toString("utf8");
      const exitCode = error ? 127 : (code ?? 128 + (constants.signals[signal] ?? 0));
      done({ code: exitCode, signal, interrupted: child.interruptedBy, output: text });
    };
    child.on("error", (error) => finish(null, null, error));
    child.on("exit", (code, signal) => {
      killGroup(child); // before "close", which waits for every holder of our pipes
      if (!capture) finish(code, signal);
    });
    child.on("close", (code, signal) => finish(code, signal));
  });
}
