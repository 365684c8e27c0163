/** Flows as people write them: "tcp 198.51.100.10:40000 203.0.113.10:80" or "tcp:198.51.100.10:40000->203.0.113.10:80". */
import { parseIpAddress } from "../core/address.js";
import { ananta } from "../proto/gen/wire.js";
import { UsageError } from "./terminal/exit-codes.js";
import { protocolText } from "./objects/object-columns.js";

export interface Flow {
  readonly protocol: ananta.v1.Protocol;
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
}

const EXAMPLE = "tcp 198.51.100.10:40000 203.0.113.10:80";

export function parseFlow(words: readonly string[]): Flow {
  const parts = words
    .join(" ")
    .replaceAll(/->|→/g, " ")
    .replace(/^\s*(tcp|udp):/i, "$1 ")
    .split(/\s+/)
    .filter((part) => part !== "");
  const [protocol = "", source = "", destination = ""] = parts;
  if (parts.length !== 3) throw new UsageError(`"${words.join(" ")}" is not a flow; write for example ${EXAMPLE}`);
  const from = endpoint(source, "source");
  const to = endpoint(destination, "destination");
  return {
    protocol: protocolOf(protocol),
    source: from.address,
    sourcePort: from.port,
    destination: to.address,
    destinationPort: to.port,
  };
}

function protocolOf(text: string): ananta.v1.Protocol {
  switch (text.toLowerCase()) {
    case "tcp":
      return ananta.v1.Protocol.PROTOCOL_TCP;
    case "udp":
      return ananta.v1.Protocol.PROTOCOL_UDP;
    default:
      throw new UsageError(`"${text}" is not a protocol; use tcp or udp`);
  }
}

function endpoint(text: string, what: string): { readonly address: string; readonly port: number } {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:]+)):([0-9]{1,5})$/.exec(text);
  const address = parseIpAddress(match?.[1] ?? match?.[2] ?? "");
  const port = Number(match?.[3] ?? 0);
  if (address === null || port < 1 || port > 65_535) {
    throw new UsageError(
      `${what} "${text}" is not ADDRESS:PORT (port 1 to 65535, IPv6 as in [2001:db8::1]:80); write for example ${EXAMPLE}`,
    );
  }
  return { address, port };
}

const endpointText = (address: string, port: number): string =>
  address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;

export function formatFlow({ protocol, source, sourcePort, destination, destinationPort }: Flow): string {
  return `${protocolText(protocol)}:${endpointText(source, sourcePort)}->${endpointText(destination, destinationPort)}`;
}
