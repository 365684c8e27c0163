/**
 * Hosts: who runs which DIPs. A host is known by name for ever; each start of its agent is a new incarnation, told apart
 * by boot id. Third-party clients of the SNAT calls are hosts too.
 */
import { assert } from "../../core/assert.js";
import type { HostId } from "../../core/brands.js";
import type { Host } from "./state-machine.js";

export class HostTable {
  /** Position is hostId - 1; hosts are never removed. */
  private readonly hosts: Host[] = [];
  private readonly byName = new Map<string, HostId>();

  get(id: HostId): Host | null {
    return this.hosts[id - 1] ?? null;
  }

  must(id: HostId): Host {
    const host = this.hosts[id - 1];
    assert(host !== undefined, "a host id that is stored anywhere is known");
    return host;
  }

  named(name: string): Host | null {
    const id = this.byName.get(name);
    return id === undefined ? null : this.must(id);
  }

  get nextId(): HostId {
    return (this.hosts.length + 1) as HostId;
  }

  /** Inserts the host, whose id is then `nextId`, or replaces what is stored under its id. */
  put(host: Host): void {
    assert(host.hostId >= 1 && host.hostId <= this.nextId, "host ids are dense");
    this.hosts[host.hostId - 1] = host;
    this.byName.set(host.name, host.hostId);
  }

  /** In order of id. */
  all(): readonly Host[] {
    return this.hosts;
  }
}
