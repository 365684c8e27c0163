#!/usr/bin/env node
/** The process around `ananta`: real files, real network, real terminal. */
import { readFileSync } from "node:fs";
import { readFile, readdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { createNodeEnv } from "../runtime/node/env.js";
import { runCli } from "./program.js";
import type { Files, Shell, Terminal } from "./terminal/shell.js";

/** What shells expect of a program that Ctrl-C ended. */
const EXIT_INTERRUPTED = 130;
/** `get --watch` ends by itself when interrupted; what still runs after this is ended. */
const INTERRUPT_GRACE_MS = 200;

const files: Files = {
  read: (path) => (path === "-" ? readStdin() : readFile(path, "utf8")),
  manifestsIn: async (path) => {
    const found = await stat(path).catch(() => null);
    if (found?.isDirectory() !== true) return null;
    const names = (await readdir(path)).filter((name) => /\.(ya?ml|json)$/.test(name)).sort();
    return names.map((name) => join(path, name));
  },
};

async function readStdin(): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
}

/** Of the package this file is part of, compiled or not. */
function packageVersion(): string {
  for (let folder = import.meta.dirname; ; folder = dirname(folder)) {
    try {
      const manifest = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as {
        name?: string;
        version?: string;
      };
      if (manifest.name === "ananta") return manifest.version ?? "unknown";
    } catch {
      // not here: look further up
    }
    if (folder === dirname(folder)) return "unknown";
  }
}

function terminal(stream: NodeJS.WriteStream): Terminal {
  // `ananta get vips | head -1` closes the pipe: nobody is left to tell.
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0);
    throw error;
  });
  return { write: (text) => void stream.write(text), isTty: stream.isTTY };
}

const interrupt = new AbortController();
process.once("SIGINT", () => {
  interrupt.abort();
  setTimeout(() => process.exit(EXIT_INTERRUPTED), INTERRUPT_GRACE_MS).unref();
});

const shell: Shell = {
  env: createNodeEnv({ name: "ananta", logLevel: "silent" }),
  variables: process.env,
  out: terminal(process.stdout),
  err: terminal(process.stderr),
  files,
  interrupted: interrupt.signal,
  version: packageVersion(),
};

process.exitCode = await runCli(process.argv.slice(2), shell);
