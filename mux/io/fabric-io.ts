/** Packets as UDP payload on loopback: one socket, to and from the router of the embedded site. */
import { decodeFrame, PacketFramer } from "../../dataplane/fabric-frame.js";
import { PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import type { Clock, DatagramNetwork, DatagramSocket, Timer } from "../../runtime/env.js";
import type { FabricIoConfig } from "../config.js";
import type { PacketIo, PacketIoCounters } from "./packet-io.js";

export class FabricIo implements PacketIo {
  readonly #clock: Clock;
  readonly #datagrams: DatagramNetwork;
  readonly #config: FabricIoConfig;
  readonly #framer = new PacketFramer();
  readonly #batch = new PacketBatch();
  #socket: DatagramSocket | null = null;
  #turn: Timer | null = null;
  #badFrames = 0;

  constructor(clock: Clock, datagrams: DatagramNetwork, config: FabricIoConfig) {
    this.#clock = clock;
    this.#datagrams = datagrams;
    this.#config = config;
  }

  get counters(): PacketIoCounters {
    return { badFrames: this.#badFrames, lost: this.#socket?.lost() ?? 0 };
  }

  async start(receive: (batch: PacketBatch) => void): Promise<void> {
    this.#socket = await this.#datagrams.bind(this.#config.listen);
    const flush = (): void => {
      this.#turn?.cancel();
      this.#turn = null;
      receive(this.#batch);
      this.#batch.clear();
    };
    this.#socket.listen((bytes) => {
      const frame = decodeFrame(bytes);
      if (frame?.kind !== "packet") {
        this.#badFrames++;
        return;
      }
      if (!this.#batch.append(frame.packet, WIRE_LINK)) {
        flush();
        this.#batch.append(frame.packet, WIRE_LINK); // an empty batch has room for any packet
      }
      this.#turn ??= this.#clock.nextTurn(flush);
    });
  }

  send(batch: PacketBatch): void {
    for (let index = 0; index < batch.count; index++) this.sendFrame(this.#framer.frame(batch.packet(index)));
  }

  /** A control frame to the router, from the same socket as packets. */
  sendFrame(frame: Uint8Array): void {
    this.#socket?.send(frame, this.#config.router);
  }

  stop(): void {
    this.#turn?.cancel();
    this.#turn = null;
    this.#socket?.close();
    this.#socket = null;
  }
}
