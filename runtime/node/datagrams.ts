/** UDP sockets. Addresses are IPs, so nothing is looked up: the resolver would share its threads with fsync. */
import { type Socket, createSocket } from "node:dgram";
import { isIP } from "node:net";
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
  return {
    address: formatHostPort(address, port),
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
