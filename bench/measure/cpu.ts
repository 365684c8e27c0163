/** CPU time of processes, from Linux's /proc: user and system, all threads. */
import { readFileSync } from "node:fs";

/** Of a clock tick, in microseconds: 100 a second wherever Node runs on Linux. */
const TICK_MICROS = 10_000;

/** Microseconds since the process began; 0 where it cannot be told (gone, or not Linux). */
export function cpuMicros(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field is the name in brackets, which may hold anything; the rest is numbers. utime and stime are 14 and 15.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) * TICK_MICROS;
  } catch {
    return 0;
  }
}

/** Resident memory of a process in MiB; NaN where it cannot be told. */
export function residentMb(pid: number): number {
  try {
    const found = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
    return Number(found?.[1]) / 1_024;
  } catch {
    return Number.NaN;
  }
}
