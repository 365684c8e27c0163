/** Packets as UDP payload on loopback: one socket towards the router, one towards the VMs of this host. */
import type { DipId } from "../../core/brands.js";
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
  readonly #dipOf = new Map<string, DipId>();
  readonly #nicOf = new Map<number, string>();
  #wire: DatagramSocket | null = null;
  #vms: DatagramSocket | null = null;
  #turn: Timer | null = null;
  #badFrames = 0;
  #unknownNic = 0;
  #receive: (batch: PacketBatch) => void = () => undefined;

  constructor(clock: Clock, datagrams: DatagramNetwork, config: FabricIoConfig) {
    this.#clock = clock;
    this.#datagrams = datagrams;
    this.#config = config;
  }

  get counters(): PacketIoCounters {
    return { badFrames: this.#badFrames, unknownNic: this.#unknownNic };
  }

  connect(nic: string, dipId: DipId): void {
    const before = this.#dipOf.get(nic);
    if (before === dipId) return;
    if (before !== undefined) this.#nicOf.delete(before);
    this.#dipOf.set(nic, dipId);
    this.#nicOf.set(dipId, nic);
  }

  async start(receive: (batch: PacketBatch) => void): Promise<void> {
    this.#receive = receive;
    const wire = await this.#datagrams.bind(this.#config.listen);
    try {
      this.#vms = await this.#datagrams.bind(this.#config.vmListen);
    } catch (caught) {
      wire.close();
      throw caught;
    }
    this.#wire = wire;
    wire.listen((bytes) => this.#arrived(bytes, WIRE_LINK));
    this.#vms.listen((bytes, from) => {
      const dipId = this.#dipOf.get(from);
      if (dipId === undefined) this.#unknownNic++;
      else this.#arrived(bytes, dipId);
    });
  }

  send(batch: PacketBatch): void {
    for (let index = 0; index < batch.count; index++) {
      const link = batch.links[index]!; // index < count
      const frame = this.#framer.frame(batch.packet(index));
      if (link === WIRE_LINK) this.#wire?.send(frame, this.#config.router);
      else {
        const nic = this.#nicOf.get(link);
        if (nic !== undefined) this.#vms?.send(frame, nic);
      }
    }
  }

  stop(): void {
    this.#turn?.cancel();
    this.#turn = null;
    this.#wire?.close();
    this.#vms?.close();
    this.#wire = null;
    this.#vms = null;
  }

  #arrived(bytes: Uint8Array, link: number): void {
    const frame = decodeFrame(bytes);
    if (frame?.kind !== "packet") {
      this.#badFrames++;
      return;
    }
    if (!this.#batch.append(frame.packet, link)) {
      this.#flush();
      this.#batch.append(frame.packet, link); // an empty batch has room for any packet
    }
    this.#turn ??= this.#clock.nextTurn(() => this.#flush());
  }

  #flush(): void {
    this.#turn?.cancel();
    this.#turn = null;
    this.#receive(this.#batch);
    this.#batch.clear();
  }
}
