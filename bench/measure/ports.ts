/** Ports on 127.0.0.1 that are free now, so that benchmarks run beside whatever else this machine does. */
import { firstPortInUse } from "../../fabric/launcher/ports.js";

/** First of `count` consecutive ports, free for TCP and UDP; the search starts at `from`. */
export async function freePortBlock(count: number, from: number): Promise<number> {
  for (let base = from; base + count <= 32_768; base += count) {
    const ports = Array.from({ length: count }, (_, offset) => `127.0.0.1:${base + offset}`);
    const taken = await firstPortInUse(
      ports.flatMap((address) => [
        { transport: "tcp", address, usedBy: "benchmark" },
        { transport: "udp", address, usedBy: "benchmark" },
      ]),
    );
    if (taken === null) return base;
  }
  throw new Error(`no ${count} consecutive ports are free between ${from} and 32767 on 127.0.0.1`);
}
