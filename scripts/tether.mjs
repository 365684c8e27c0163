// Preloaded into children of child.mjs: when the pipe to the parent closes, the parent has died without passing a signal on.
import { Socket } from "node:net";

const fd = Number(process.env["ANANTA_TETHER_FD"]);
delete process.env["ANANTA_TETHER_FD"]; // grandchildren do not hold the pipe
if (Number.isInteger(fd) && fd > 2) {
  const pipe = new Socket({ fd, readable: true, writable: false });
  pipe.on("error", () => {});
  pipe.on("close", () => {
    // This process leads its group: take along whatever it started and did not stop.
    const ending = process.platform === "win32" ? process.pid : -process.pid;
    process.on("exit", () => process.kill(ending, "SIGKILL"));
    process.kill(process.pid, "SIGTERM");
    setTimeout(() => process.kill(ending, "SIGKILL"), 10_000).unref();
  });
  pipe.resume();
  pipe.unref();
}
