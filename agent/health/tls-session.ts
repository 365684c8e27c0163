/**
 * [shell] TLS for HTTPS probes: Node's own, over a pair of byte streams instead of a socket. A probe asks whether the service
 * answers, not who it is: certificates are not verified, as machines behind a load balancer mostly have none for their own
 * address.
 */
import { Duplex } from "node:stream";
import { connect } from "node:tls";
import type { TlsEvents, TlsSession } from "./prober.js";

export function openTls(serverName: string | null, events: TlsEvents): TlsSession {
  let isOver = false;
  const wire = new Duplex({
    read: () => undefined,
    write(chunk: Uint8Array, _encoding, done) {
      if (!isOver) events.transmit(Uint8Array.from(chunk));
      done();
    },
  });
  const isName = serverName !== null && /[a-z]/i.test(serverName) && !serverName.includes(":");
  const session = connect({ socket: wire, rejectUnauthorized: false, ...(isName ? { servername: serverName } : {}) });
  const unlessOver =
    <Arguments extends unknown[]>(action: (...given: Arguments) => void) =>
    (...given: Arguments): void => {
      if (!isOver) action(...given);
    };
  session.on(
    "secureConnect",
    unlessOver(() => events.secured()),
  );
  session.on(
    "data",
    unlessOver((bytes: Uint8Array) => events.plain(Uint8Array.from(bytes))),
  );
  session.on(
    "error",
    unlessOver((error: Error & { code?: string }) => events.failed(`TLS: ${error.code ?? error.message}`)),
  );
  session.on(
    "end",
    unlessOver(() => events.failed("closed without an answer")),
  );
  return {
    received: (bytes) => void wire.push(bytes),
    send: (bytes) => void session.write(bytes),
    end: () => {
      isOver = true;
      session.destroy();
      wire.destroy();
    },
  };
}
