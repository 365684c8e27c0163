/**
 * Replicas in one process, for tests of the driver without a network: a hub carries messages after a delay, through the
 * real codec, unless the link is cut.
 */
import type { NodeId } from "../../../core/brands.js";
import type { Clock } from "../../../runtime/env.js";
import { ananta } from "../../../proto/gen/wire.js";
import type { SendNow } from "../core/ready.js";
import { encodeMessage, messageFromWire } from "./codec.js";
import type { PeerMessage, RaftTransport, TransferMessage, TransportListener } from "./transport.js";

export class LoopbackHub {
  readonly #clock: Clock;
  readonly #delayMs: number;
  readonly #nodes = new Map<NodeId, { readonly listener: TransportListener; readonly folder: string }>();
  readonly #cut = new Set<string>();

  constructor(options: { readonly clock: Clock; readonly delayMs?: number }) {
    this.#clock = options.clock;
    this.#delayMs = options.delayMs ?? 0;
  }

  transportOf(id: NodeId): RaftTransport {
    return {
      start: (listener, folder) => {
        for (const [other, { listener: told, folder: theirs }] of this.#nodes) {
          if (folder !== "") told.identified(id, folder);
          if (theirs !== "") listener.identified(other, theirs);
        }
        this.#nodes.set(id, { listener, folder });
        return Promise.resolve();
      },
      // Everybody hears everybody: whom to talk to is the core's to say.
      setMembers: () => undefined,
      send: ({ to, message }: SendNow) => this.#carry(id, to, message),
      sendTransfer: (to: NodeId, message: TransferMessage) => this.#carry(id, to, message),
      stop: () => {
        if (!this.#nodes.delete(id)) return Promise.resolve();
        for (const { listener } of this.#nodes.values()) listener.gone(id);
        return Promise.resolve();
      },
    };
  }

  /** One direction. */
  cut(from: NodeId, to: NodeId): void {
    this.#cut.add(`${from}>${to}`);
  }

  mend(): void {
    this.#cut.clear();
  }

  #carry(from: NodeId, to: NodeId, message: PeerMessage): void {
    if (!this.#nodes.has(from)) return; // stopped
    const bytes = encodeMessage(message);
    const deliver = (): void => {
      const listener = this.#nodes.get(to)?.listener;
      if (listener === undefined || this.#cut.has(`${from}>${to}`)) return;
      listener.received(messageFromWire(ananta.raft.v1.Frame.decode(bytes), from));
    };
    if (this.#delayMs > 0) this.#clock.setTimer(this.#delayMs, deliver);
    else this.#clock.nextTurn(deliver);
  }
}
