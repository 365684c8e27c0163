/**
 * [pure] A few UDP five-tuples that ask for an echo now and then. UDP repeats nothing, so a lost datagram is only counted;
 * an answer from another DIP than before is a fault, as long as the pool stands (Ananta §3.3.2).
 */
import { familyOf } from "../core/address.js";
import { assert } from "../core/assert.js";
import type { IpAddress, Port } from "../core/brands.js";
import type { Endpoint } from "./endpoints/endpoint.js";
import { line, parseAnswer } from "./endpoints/identity-server.js";
import type { Tuple } from "./endpoints/packets.js";

export interface UdpPlan {
  readonly sources: readonly Endpoint[];
  /** A source uses that of its own family; there is one. */
  readonly destinations: readonly { readonly address: IpAddress; readonly port: Port }[];
  readonly flows: number;
  readonly intervalMs: number;
}

interface Probe {
  readonly source: Endpoint;
  readonly tuple: Tuple;
  nextMs: number;
  sequence: number;
  by: string | null;
}

export class UdpProber {
  asked = 0;
  answered = 0;
  /** Answers by another DIP than the flow's first. */
  moved = 0;
  private readonly plan: UdpPlan;
  private readonly probes: Probe[] = [];
  private readonly decoder = new TextDecoder();

  constructor(plan: UdpPlan) {
    this.plan = plan;
  }

  tick(nowMs: number): void {
    if (this.probes.length === 0) for (let n = 0; n < this.plan.flows; n++) this.add(n, nowMs);
    for (const probe of this.probes) {
      if (nowMs < probe.nextMs) continue;
      probe.nextMs = nowMs + this.plan.intervalMs;
      probe.sequence++;
      this.asked++;
      probe.source.sendUdp(probe.tuple, line(`udp ${probe.sequence}`));
    }
  }

  private add(n: number, nowMs: number): void {
    const source = this.plan.sources[n % this.plan.sources.length]!; // in range by the modulus
    const sourcePort = source.freeUdpPort();
    const family = familyOf(source.address);
    const destination = this.plan.destinations.find((one) => familyOf(one.address) === family);
    assert(destination !== undefined, `there is a destination for ${source.address}`);
    const { address, port } = destination;
    const probe: Probe = {
      source,
      tuple: { source: source.address, sourcePort, destination: address, destinationPort: port },
      nextMs: nowMs + (this.plan.intervalMs * n) / this.plan.flows,
      sequence: 0,
      by: null,
    };
    this.probes.push(probe);
    source.listenUdp(sourcePort, (payload) => {
      const answer = parseAnswer(this.decoder.decode(payload).trimEnd());
      if (answer === null) return;
      this.answered++;
      probe.by ??= answer.by;
      if (answer.by !== probe.by) this.moved++;
    });
  }
}
