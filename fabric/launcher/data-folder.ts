/**
 * The data folder of the embedded site: who uses it, which cluster it is, and the children's configurations.
 *
 *     .ananta/
 *       lock           pid of the launcher that uses the folder
 *       site.json      cluster id, and whether the cluster has been formed
 *       config/        one JSON file per child, written at every start
 *       log/           one file per child
 *       manager-1/ ... what the children keep
 *
 * Invariant: `formed` is written only after the cluster has answered a write, and only before that are replicas told to
 * format an empty folder. A replica that comes back with an empty folder later has lost its state and must not vote.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";

export interface Site {
  readonly version: 1;
  /** 32 hex digits. */
  readonly clusterId: string;
  readonly formed: boolean;
}

/** Said to the user in one line; the process then ends. */
export class LauncherError extends Error {
  override readonly name = "LauncherError";
}

/** Step by step: Node's recursive mkdir tries for ever where a file system answers ENOENT for a new folder, as /proc does. */
function makeFolder(path: string): void {
  if (existsSync(path)) return;
  makeFolder(dirname(path));
  try {
    mkdirSync(path);
  } catch (caught) {
    if (!existsSync(path)) throw caught; // else somebody else has just made it
  }
}

export class DataFolder {
  readonly path: string;
  private readonly lockPath: string;
  private locked = false;

  /** `path` is absolute. */
  constructor(path: string) {
    this.path = path;
    this.lockPath = join(path, "lock");
  }

  /** Throws LauncherError when another launcher has it. */
  lock(): void {
    try {
      makeFolder(this.path);
    } catch (caught) {
      throw new LauncherError(`the data folder ${this.path} cannot be made: ${messageOf(caught)}`, { cause: caught });
    }
    const own = JSON.stringify({ pid: process.pid, started: startOf(process.pid) });
    for (let tries = 0; tries < 3; tries++) {
      try {
        const file = openSync(this.lockPath, "wx");
        writeSync(file, own);
        closeSync(file);
        this.locked = true;
        return;
      } catch (caught) {
        if ((caught as NodeJS.ErrnoException).code !== "EEXIST") {
          throw new LauncherError(`the data folder ${this.path} cannot be written: ${messageOf(caught)}`, {
            cause: caught,
          });
        }
      }
      const pid = this.holder();
      if (pid !== null) {
        throw new LauncherError(
          `the data folder ${this.path} is in use by process ${pid}: stop that one, or choose another with --data`,
        );
      }
      unlinkIfThere(this.lockPath); // left behind by a process that was killed
    }
    throw new LauncherError(`the lock ${this.lockPath} keeps coming back: remove it if nothing uses the folder`);
  }

  unlock(): void {
    if (this.locked) unlinkIfThere(this.lockPath);
    this.locked = false;
  }

  /** Reads the site, or makes a new one with `newClusterId`. */
  site(newClusterId: () => string): Site {
    const path = join(this.path, "site.json");
    if (!existsSync(path)) {
      const site: Site = { version: 1, clusterId: newClusterId(), formed: false };
      this.writeSite(site);
      return site;
    }
    try {
      const site = JSON.parse(readFileSync(path, "utf8")) as Partial<Site>;
      if (site.version === 1 && typeof site.clusterId === "string" && typeof site.formed === "boolean")
        return site as Site;
    } catch {
      // said below
    }
    throw new LauncherError(
      `${path} is not a site of this version: move the data folder away, or choose another with --data`,
    );
  }

  writeSite(site: Site): void {
    writeDurably(join(this.path, "site.json"), JSON.stringify(site, null, 2));
  }

  /** Answers the file's path. */
  writeConfig(name: string, config: unknown): string {
    const path = join(this.path, "config", `${name}.json`);
    mkdirSync(dirname(path), { recursive: true });
    writeDurably(path, JSON.stringify(config, null, 2));
    return path;
  }

  logPath(name: string): string {
    const path = join(this.path, "log", `${name}.log`);
    mkdirSync(dirname(path), { recursive: true });
    return path;
  }

  /** The live process that has the lock, or null when there is none any more. */
  private holder(): number | null {
    let holder: { readonly pid: number; readonly started: string | null };
    try {
      holder = JSON.parse(readFileSync(this.lockPath, "utf8")) as typeof holder;
    } catch {
      return null; // gone meanwhile, or never written whole
    }
    if (!isAlive(holder.pid)) return null;
    // A process number that was given away again belongs to a process that started later.
    const started = startOf(holder.pid);
    return holder.started !== null && started !== null && holder.started !== started ? null : holder.pid;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (caught) {
    return (caught as NodeJS.ErrnoException).code === "EPERM"; // somebody else's, but alive
  }
}

/** When a process started, as Linux tells it; null elsewhere. */
function startOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null; // field 22 of proc(5), counted behind the name
  } catch {
    return null;
  }
}

function writeDurably(path: string, text: string): void {
  const partial = `${path}.new`;
  const file = openSync(partial, "w");
  writeFileSync(file, `${text}\n`);
  fsyncSync(file);
  closeSync(file);
  renameSync(partial, path);
}

function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (caught) {
    if ((caught as NodeJS.ErrnoException).code !== "ENOENT") throw caught;
  }
}

const messageOf = (caught: unknown): string => (caught instanceof Error ? caught.message : String(caught));
