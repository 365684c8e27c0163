/**
 * Does a process listen there? One bare TCP connection, closed as soon as it is made. A dead process refuses within a
 * fraction of a millisecond; a gRPC channel would say the same only after its own back-off, name resolution and set-up.
 */
import { connect } from "node:net";
import type { Reach } from "../env.js";
import { parseHostPort } from "./address.js";

export function probeTcp(address: string, timeoutMs: number): Promise<Reach> {
  return new Promise((resolve) => {
    const socket = connect(parseHostPort(address));
    const done = (reach: Reach): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(reach);
    };
    const timer = setTimeout(() => done("silent"), timeoutMs);
    socket.once("connect", () => done("listening"));
    socket.once("error", (error: NodeJS.ErrnoException) => done(error.code === "ECONNREFUSED" ? "refused" : "silent"));
  });
}
