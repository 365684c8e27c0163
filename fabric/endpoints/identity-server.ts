/**
 * [pure] What the machines of the fabric serve. Every answer names who answered and whom it saw, so that a client notices
 * when another DIP answers in the middle of its flow, and a VM learns which VIP and port it left as.
 *
 *     request    "<anything>\n"
 *     answer     "by=10.1.1.1 saw=198.51.100.7:40123 <anything>\n", of IPv6 "by=fd00:1::1 saw=[2001:db8::7]:40123 <anything>\n"
 */
import { endpointText } from "../../core/address.js";
import type { IpAddress, Port } from "../../core/brands.js";
import type { TcpApplication, TcpHandle, UdpApplication } from "./endpoint.js";

export interface Answer {
  /** Address of the machine that answered, in text. */
  readonly by: string;
  /** Address and port that the answering machine saw as its peer. */
  readonly saw: string;
  /** The request. */
  readonly request: string;
}

/** A line without its end; longer ones are not ours. */
const LINE_BYTES_MAX = 512;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

export const line = (text: string): Uint8Array => encoder.encode(`${text}\n`);

const answerTo = (request: string, by: IpAddress, peer: IpAddress, peerPort: Port): string =>
  `by=${by} saw=${endpointText(peer, peerPort)} ${request}`;

/** Null when the text is not an answer. */
export function parseAnswer(text: string): Answer | null {
  const match = /^by=(\S+) saw=(\S+) (.*)$/.exec(text);
  return match === null ? null : { by: match[1]!, saw: match[2]!, request: match[3]! };
}

/** Cuts a byte stream into lines; one per connection. */
export class LineReader {
  private rest = "";

  /** The complete lines; a stream without line ends is given up (null). */
  push(payload: Uint8Array): readonly string[] | null {
    const parts = (this.rest + decoder.decode(payload)).split("\n");
    this.rest = parts.pop() ?? "";
    return this.rest.length > LINE_BYTES_MAX ? null : parts;
  }
}

/** Answers each line; closes when the client does. */
export class IdentityServer implements TcpApplication {
  private readonly readers = new Map<TcpHandle, LineReader>();

  received(connection: TcpHandle, payload: Uint8Array): void {
    const reader = this.readers.get(connection) ?? new LineReader();
    this.readers.set(connection, reader);
    const requests = reader.push(payload);
    if (requests === null) {
      connection.abort();
      return;
    }
    const { source, destination, destinationPort } = connection.tuple;
    for (const request of requests) connection.send(line(answerTo(request, source, destination, destinationPort)));
  }

  peerClosed(connection: TcpHandle): void {
    connection.close();
  }

  ended(connection: TcpHandle): void {
    this.readers.delete(connection);
  }
}

/** The same over UDP: one datagram, one answer. */
export const identityEcho: UdpApplication = (payload, from, reply) => {
  const request = decoder.decode(payload).trimEnd();
  reply(line(answerTo(request, from.destination, from.source, from.sourcePort)));
};
