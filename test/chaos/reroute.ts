/**
 * Preloaded into every child of a chaos run: a connection to a Manager goes to the proxy that stands between the two instead.
 * Configuration, membership and addresses in the log stay as they are; nothing of the product knows of it. Where a small file
 * system cannot be mounted, it also makes the disk look full while a flag file exists.
 */
import { existsSync, readFileSync, type StatsFs } from "node:fs";
import fsPromises from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { Socket } from "node:net";
import { basename } from "node:path";

/** Of each child by name: the proxy's port for each Manager's port. */
export type Routes = Readonly<Record<string, Readonly<Record<string, number>>>>;

interface Target {
  port?: number | string;
}
type Connect = (this: Socket, ...args: unknown[]) => Socket;

const file = process.env["ANANTA_CHAOS_ROUTES"];
const config = process.argv[process.argv.indexOf("--config") + 1] ?? "";
if (file !== undefined && process.argv.includes("--config")) {
  const routes = (JSON.parse(readFileSync(file, "utf8")) as Routes)[basename(config, ".json")] ?? {};
  const connect = Socket.prototype.connect as Connect;
  const routed: Connect = function (this: Socket, ...args) {
    // `net.connect` hands its arguments on in one array of [options, callback].
    const list: unknown[] = Array.isArray(args[0]) ? args[0] : args;
    const target = list[0] as Target | null;
    const port = typeof target === "object" ? routes[String(target?.port)] : undefined;
    if (port !== undefined) list[0] = { ...target, port };
    return connect.apply(this, args);
  };
  Socket.prototype.connect = routed;
}

const full = process.env["ANANTA_CHAOS_FULL"];
if (full !== undefined) {
  const flag = `${full}/${basename(config, ".json")}`;
  const statfs = fsPromises.statfs as (path: string) => Promise<StatsFs>;
  const shim = async (path: string): Promise<StatsFs> => {
    const found = await statfs(path);
    return existsSync(flag) ? Object.assign(found, { bavail: 0, bfree: 0 }) : found;
  };
  fsPromises.statfs = shim as typeof fsPromises.statfs;
  syncBuiltinESMExports();
}
