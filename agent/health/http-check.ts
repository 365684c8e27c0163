/** [pure] The HTTP part of a probe: a GET with "Connection: close", of whose answer only the status counts (RFC 9112). */
import type { HostProbeItem } from "../../dataplane/host-items.js";
import type { ProbeOutcome } from "./monitor.js";

const STATUS_LINE = /^HTTP\/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n/;
/** "HTTP/1.1 200 " and a reason phrase; a first line that is longer is no status line. */
const STATUS_LINE_MAX = 1_024;

export function httpRequest(probe: HostProbeItem, address: string): Uint8Array {
  const host =
    probe.host === undefined || probe.host === ""
      ? `${address.includes(":") ? `[${address}]` : address}:${probe.port}`
      : probe.host;
  const lines = [
    `GET ${probe.path ?? "/"} HTTP/1.1`,
    `Host: ${host}`,
    "User-Agent: ananta-health-probe",
    "Accept: */*",
    "Connection: close",
  ];
  return new TextEncoder().encode(`${lines.join("\r\n")}\r\n\r\n`);
}

/** Null: more bytes are needed. */
export function judgeHttp(probe: HostProbeItem, received: Uint8Array): ProbeOutcome | null {
  const text = new TextDecoder("latin1").decode(received.subarray(0, STATUS_LINE_MAX));
  const status = STATUS_LINE.exec(text)?.[1];
  if (status === undefined) {
    const isWhole = text.includes("\n") || text.length >= STATUS_LINE_MAX || !couldBeStatus(text);
    return isWhole ? { ok: false, reason: "the answer is not HTTP" } : null;
  }
  const code = Number(status);
  if (code < 200 && code !== 101) return judgeHttp(probe, afterHead(received)); // 100 Continue and the like go before
  const expected = probe.expectedStatus ?? ["200-299"];
  return expected.some((range) => isWithin(code, range)) ? { ok: true } : { ok: false, reason: `status ${code}` };
}

const couldBeStatus = (text: string): boolean => "HTTP/1.".startsWith(text.slice(0, 7));

function isWithin(code: number, range: string): boolean {
  const [low = "", high = low] = range.split("-");
  return code >= Number(low) && code <= Number(high);
}

/** What follows the first header section; empty when it has not ended. */
function afterHead(bytes: Uint8Array): Uint8Array {
  for (let at = 0; at + 3 < bytes.length; at++) {
    if (bytes[at] === 13 && bytes[at + 1] === 10 && bytes[at + 2] === 13 && bytes[at + 3] === 10)
      return bytes.subarray(at + 4);
  }
  return new Uint8Array(0);
}
