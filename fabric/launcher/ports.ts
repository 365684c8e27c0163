/** Looks whether all ports of the site are free before anything is started: one clear line instead of ten failed children. */
import { createSocket } from "node:dgram";
import { createServer } from "node:net";

export interface PortUse {
  readonly transport: "tcp" | "udp";
  /** "host:port" */
  readonly address: string;
  readonly usedBy: string;
}

/** The first port that cannot be bound, with why; null when all are free. */
export async function firstPortInUse(
  ports: readonly PortUse[],
): Promise<{ readonly port: PortUse; readonly code: string } | null> {
  const codes = await Promise.all(ports.map((port) => (port.transport === "tcp" ? probeTcp(port) : probeUdp(port))));
  const at = codes.findIndex((code) => code !== null);
  return at < 0 ? null : { port: ports[at]!, code: codes[at]! }; // at is an index of both
}

function split(address: string): { readonly host: string; readonly port: number } {
  const colon = address.lastIndexOf(":");
  return { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
}

function probeTcp({ address }: PortUse): Promise<string | null> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? "ERROR"));
    server.listen({ ...split(address), exclusive: true }, () => {
      server.close(() => resolve(null));
    });
  });
}

function probeUdp({ address }: PortUse): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = createSocket("udp4");
    const { host, port } = split(address);
    socket.once("error", (error: NodeJS.ErrnoException) => {
      socket.close();
      resolve(error.code ?? "ERROR");
    });
    socket.bind({ address: host, port, exclusive: true }, () => {
      socket.close(() => resolve(null));
    });
  });
}
