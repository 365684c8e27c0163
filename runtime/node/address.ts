/** "host:port" text at the edge of the operating system. IPv6 hosts stand in brackets. */
import { isIP } from "node:net";
import { AnantaError } from "../../core/errors.js";

export interface HostPort {
  /** Without brackets. */
  readonly host: string;
  readonly port: number;
}

/** Throws INVALID_ARGUMENT for anything but "host:port" or "[ipv6]:port". */
export function parseHostPort(address: string): HostPort {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(address);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65_535) {
    throw new AnantaError("INVALID_ARGUMENT", `"${address}" is not an address of the form host:port`, { address });
  }
  return { host, port };
}

export function formatHostPort(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}

/** Nothing listens beyond loopback without TLS unless the operator has said so. */
export function checkListenAddress(address: string, insecure: boolean): HostPort {
  const parsed = parseHostPort(address);
  if (!insecure && !isLoopback(parsed.host)) {
    throw new AnantaError(
      "FAILED_PRECONDITION",
      `${address} is not a loopback address: without TLS anyone who reaches it can command this process (--insecure allows it)`,
      { address },
    );
  }
  return parsed;
}

/** The error for a failed bind. */
export function bindError(address: string, caught: unknown): AnantaError {
  const message = caught instanceof Error ? caught.message : String(caught);
  if (message.includes("EADDRINUSE")) {
    return new AnantaError("FAILED_PRECONDITION", `port ${address} is already in use`, { address }, { cause: caught });
  }
  return new AnantaError(
    "FAILED_PRECONDITION",
    `cannot listen at ${address}: ${message}`,
    { address },
    { cause: caught },
  );
}
