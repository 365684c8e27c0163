/**
 * UDP between simulated processes: each datagram is lost, delayed (and so reordered) or duplicated by seed. Across a cut
 * everything is lost. A paused process has a socket buffer that overflows.
 */
import { AnantaError } from "../../core/errors.js";
import type { DatagramNetwork, DatagramSocket } from "../../runtime/env.js";
import type { Links } from "./links.js";
import { type VirtualProcess, never } from "./virtual-process.js";

/** Datagrams that wait for a paused process: about what 212 kB (Linux' default rmem) hold of small packets. */
const SOCKET_BUFFER_DATAGRAMS = 256;
/** Linux gives ports from here to those who ask for none. */
const FIRST_FREE_PORT = 32_768;

interface Bound {
  readonly process: VirtualProcess;
  listener: ((bytes: Uint8Array, from: string) => void) | null;
  waiting: number;
  lost: number;
}

export class FakeDatagrams {
  readonly #links: Links;
  readonly #bound = new Map<string, Bound>();
  #nextPort = FIRST_FREE_PORT;

  constructor(links: Links) {
    this.#links = links;
  }

  forProcess(process: VirtualProcess): DatagramNetwork {
    return { bind: (address) => this.#bind(process, address) };
  }

  processEnd(process: VirtualProcess): void {
    for (const [address, bound] of this.#bound) if (bound.process === process) this.#bound.delete(address);
  }

  #bind(process: VirtualProcess, wanted: string): Promise<DatagramSocket> {
    if (process.crashed) return never();
    return process.operation(0, () => {
      const address = wanted.endsWith(":0") ? `${wanted.slice(0, -1)}${this.#nextPort++}` : wanted;
      if (this.#bound.has(address)) {
        throw new AnantaError("FAILED_PRECONDITION", `port ${address} is already in use`, { address });
      }
      const bound: Bound = { process, listener: null, waiting: 0, lost: 0 };
      this.#bound.set(address, bound);
      const released = process.hold("datagram socket", address);
      return {
        address,
        send: (bytes, to) => {
          if (!process.crashed && this.#bound.get(address) === bound) this.#send(process, bytes.slice(), address, to);
        },
        lost: () => bound.lost,
        listen: (listener) => {
          bound.listener = listener;
        },
        close: () => {
          if (this.#bound.get(address) === bound) this.#bound.delete(address);
          bound.listener = null;
          released();
        },
      };
    });
  }

  #send(sender: VirtualProcess, bytes: Uint8Array, from: string, to: string): void {
    const receiver = this.#bound.get(to)?.process.name ?? to;
    for (const delayMs of this.#links.datagramDelays(sender.name, receiver)) {
      sender.clock.schedule(delayMs, () => this.#arrive(sender.name, bytes, from, to));
    }
  }

  #arrive(sender: string, bytes: Uint8Array, from: string, to: string): void {
    const bound = this.#bound.get(to);
    if (bound === undefined || this.#links.isCut(sender, bound.process.name)) return;
    if (bound.waiting >= SOCKET_BUFFER_DATAGRAMS) {
      bound.lost++;
      return;
    }
    bound.waiting++;
    bound.process.deliver(() => {
      bound.waiting--;
      bound.listener?.(bytes, from);
    });
  }
}
