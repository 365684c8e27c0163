/**
 * [pure] The few items of the projection that the control side of a MUX needs itself: which VIPs to announce, and who is in
 * the pool. Everything else goes to the tables and is not kept a second time.
 */
import type { IpAddress, MuxId, VipId } from "../../core/brands.js";
import type { TableDelta } from "../../dataplane/contract.js";
import {
  muxItemKey,
  type MuxChange,
  type MuxItem,
  type MuxPeerItem,
  type MuxVipItem,
} from "../../dataplane/mux-items.js";

export class WatchedItems {
  private readonly vips = new Map<VipId, MuxVipItem>();
  private readonly vipIds = new Map<string, VipId>();
  private readonly peers = new Map<string, MuxPeerItem>();

  /** Follows a delta that is in force. */
  follow(delta: TableDelta<MuxItem, MuxChange>): void {
    if (delta.kind === "snapshot") {
      this.vips.clear();
      this.vipIds.clear();
      this.peers.clear();
      for (const item of delta.items) this.put(item);
      return;
    }
    for (const change of delta.changes) {
      if (change.op === "upsert") this.put(change.item);
      else this.remove(change.key);
    }
  }

  announcedVips(): readonly IpAddress[] {
    return [...this.vips.values()].filter((vip) => vip.announced).map((vip) => vip.address);
  }

  peerNamed(name: string): MuxPeerItem | null {
    for (const peer of this.peers.values()) if (peer.name === name) return peer;
    return null;
  }

  get pool(): readonly { readonly muxId: MuxId; readonly name: string }[] {
    return [...this.peers.values()].map(({ muxId, name }) => ({ muxId, name }));
  }

  private put(item: MuxItem): void {
    if (item.kind === "vip") {
      this.vips.set(item.vipId, item);
      this.vipIds.set(muxItemKey(item), item.vipId);
    } else if (item.kind === "mux") this.peers.set(muxItemKey(item), item);
  }

  private remove(key: string): void {
    const vipId = this.vipIds.get(key);
    if (vipId !== undefined) this.vips.delete(vipId);
    this.vipIds.delete(key);
    this.peers.delete(key);
  }
}
