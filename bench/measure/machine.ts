/** One line on what a figure was taken on: without it the figure means nothing. */
import { statfsSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release, totalmem, type } from "node:os";

/** Magic numbers of statfs(2). */
const FILE_SYSTEMS: Readonly<Record<number, string>> = {
  0xef53: "ext4",
  0x58465342: "xfs",
  0x9123683e: "btrfs",
  0x794c7630: "overlay",
  0x01021994: "tmpfs (memory: synced writes cost nothing here)",
};

/** `folder` is where the benchmark writes. */
export function machineText(folder: string): string {
  const kind = statfsSync(folder).type;
  const disk = FILE_SYSTEMS[kind] ?? `file system 0x${kind.toString(16)}`;
  const memory = (totalmem() / 2 ** 30).toFixed(0);
  const cpu = cpus()[0]?.model.trim() ?? "unknown CPU";
  const [load = 0] = loadavg();
  return `${availableParallelism()} x ${cpu}, ${memory} GiB, ${disk}, ${type()} ${release()}, Node ${process.version}, load ${load.toFixed(2)} at the start`;
}
