/** UDP sockets. Addresses are IPs, so nothing is looked up: the resolver would share its threads with fsync. */
import { type Socket, createSocket } from "node:dgram";
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { endianness } from "node:os";
import { parseIpv4, parseIpv6 } from "../../core/address.js";
import { AnantaError } from "../../core/errors.js";
import type { DatagramNetwork, DatagramSocket, Log } from "../env.js";
import { type HostPort, bindError, checkListenAddress, formatHostPort, parseHostPort } from "./address.js";

/** Bursts of some thousand small packets; the kernel clips it to net.core.rmem_max / wmem_max. */
const SOCKET_BUFFER_BYTES = 4 * 1024 * 1024;
/** Parsed destinations kept; a data path speaks to few. */
const DESTINATIONS_MAX = 4_096;

export function createNodeDatagrams(insecure: boolean, log: Log): DatagramNetwork {
  return {
    bind: async (address) => {
      const { host, port } = checkListenAddress(address, insecure);
      const socket = createSocket({
        type: isIP(host) === 6 ? "udp6" : "udp4",
        recvBufferSize: SOCKET_BUFFER_BYTES,
        sendBufferSize: SOCKET_BUFFER_BYTES,
        lookup: (name, _options, found) => {
          const family = isIP(name);
          found(
            family === 0 ? new AnantaError("INVALID_ARGUMENT", `"${name}" is not an IP address`) : null,
            name,
            family,
          );
        },
      });
      await new Promise<void>((resolve, reject) => {
        socket.once("error", (error) => reject(bindError(address, error)));
        socket.bind(port, host === "localhost" ? "127.0.0.1" : host, () => {
          socket.removeAllListeners("error");
          resolve();
        });
      });
      socket.on("error", (error) => log.debug("datagram not sent", { error: error.message }));
      return datagramSocket(socket);
    },
  };
}

function datagramSocket(socket: Socket): DatagramSocket {
  const { address, port } = socket.address();
  const destinations = new Map<string, HostPort>();
  let closed = false;
  const table = isIP(address) === 6 ? "/proc/net/udp6" : "/proc/net/udp";
  const local = localAddress(address, port);
  let lost = 0;
  return {
    address: formatHostPort(address, port),
    lost: () => {
      if (!closed) lost = lostBy(table, local) ?? lost;
      return lost;
    },
    send: (bytes, to) => {
      if (closed) return;
      let destination = destinations.get(to);
      if (destination === undefined) {
        destination = parseHostPort(to);
        if (destinations.size >= DESTINATIONS_MAX) destinations.clear();
        destinations.set(to, destination);
      }
      // A copy: when the socket buffer is full, libuv sends from this memory later.
      socket.send(Buffer.from(bytes), destination.port, destination.host);
    },
    listen: (listener) => {
      socket.removeAllListeners("message");
      socket.on("message", (bytes, from) => listener(bytes, formatHostPort(from.address, from.port)));
    },
    close: () => {
      if (closed) return;
      closed = true;
      socket.close();
    },
  };
}

/** An address as Linux shows it in /proc/net/udp and udp6: its words in hexadecimal, each in the machine's byte order. */
function localAddress(address: string, port: number): string {
  const ipv4 = parseIpv4(address);
  const groups = parseIpv6(address) ?? [];
  const words =
    ipv4 !== null ? [ipv4] : Array.from({ length: 4 }, (_, i) => groups[i * 2]! * 0x1_0000 + groups[i * 2 + 1]!);
  const bytes = Buffer.alloc(words.length * 4);
  words.forEach((word, i) =>
    endianness() === "LE" ? bytes.writeUInt32LE(word, i * 4) : bytes.writeUInt32BE(word, i * 4),
  );
  return `${bytes.toString("hex")}:${port.toString(16).padStart(4, "0")}`.toUpperCase();
}

/** The column "drops" of the socket's line; null: the system does not tell. Reads one small file, without the threads that fsync needs. */
function lostBy(table: string, local: string): number | null {
  try {
    for (const line of readFileSync(table, "utf8").split("\n")) {
      const fields = line.trim().split(/\s+/);
      if (fields[1] === local) return Number(fields.at(-1));
    }
  } catch {
    // not Linux
  }
  return null;
}
