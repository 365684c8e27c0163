/**
 * Preloaded into every child (`node --import`): ends it when the launcher dies without saying so, by `kill -9` or a crash.
 * The launcher holds the other end of a pipe for as long as it lives. A child that somebody starts by hand has no such
 * pipe and is not touched.
 */
import { Socket } from "node:net";

/** The child's own shutdown gets this long. */
const GRACE_MS = 5_000;

const fd = Number(process.env["ANANTA_LAUNCHER_FD"] ?? "");
delete process.env["ANANTA_LAUNCHER_FD"];
if (Number.isInteger(fd) && fd > 2) {
  const pipe = new Socket({ fd, readable: true, writable: false });
  pipe.on("error", () => undefined);
  pipe.on("close", () => {
    process.kill(process.pid, "SIGTERM");
    setTimeout(() => process.kill(process.pid, "SIGKILL"), GRACE_MS).unref();
  });
  pipe.resume();
  pipe.unref();
}
