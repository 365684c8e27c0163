/** The MUXes of the pool by address, and which of them a packet is relayed to. Few: looked through, not indexed. */
import type { MuxPeerItem } from "../../dataplane/mux-items.js";
import { MAPPED_WORD } from "../../packet/header.js";
import { addressWords } from "../../packet/address-words.js";
import type { Pool } from "../peers/peer-channel.js";

export class PeerTable {
  /** Sorted by id: the same order on every MUX. Four words each. */
  words = new Int32Array(0);
  count = 0;
  /** Counts changes. */
  generation = 0;
  readonly #byId = new Map<number, Int32Array>();
  readonly #items = new Map<number, MuxPeerItem>();
  #order: readonly number[] = [];

  put(item: MuxPeerItem): void {
    const words = addressWords(item.address);
    if (words === null) return;
    this.#byId.set(item.muxId, words);
    this.#items.set(item.muxId, item);
    this.#sort();
  }

  remove(item: MuxPeerItem): void {
    this.#byId.delete(item.muxId);
    this.#items.delete(item.muxId);
    this.#sort();
  }

  /** Place of the peer whose address this is, or -1. `mask`: of the low word, where the flow hash is not. */
  find(word0: number, word1: number, word2: number, word3: number, mask: number): number {
    const words = this.words;
    for (let place = 0; place < this.count; place++) {
      const at = place * 4;
      if (
        (words[at + 3]! & mask) === (word3 & mask) &&
        words[at + 2] === word2 &&
        words[at + 1] === word1 &&
        words[at] === word0
      )
        return place;
    }
    return -1;
  }

  /** The MUX that has this IPv4 address: with its own address, itself. Null: it is not in the pool. */
  self(address: number, mask: number): MuxPeerItem | null {
    const place = this.find(0, 0, MAPPED_WORD, address, mask);
    return place < 0 ? null : (this.#items.get(this.#order[place]!) ?? null); // one id per place
  }

  /** Of the MUX at a place below `count`. */
  muxIdAt(place: number): number {
    return this.#order[place]!;
  }

  members(): readonly MuxPeerItem[] {
    return [...this.#items.values()];
  }

  /** IPv4 address as a number. */
  addressOf({ muxId }: MuxPeerItem): number {
    return this.#byId.get(muxId)?.[3] ?? 0;
  }

  #sort(): void {
    this.generation++;
    const sorted = [...this.#byId].sort(([a], [b]) => a - b);
    this.count = sorted.length;
    this.#order = sorted.map(([muxId]) => muxId);
    this.words = new Int32Array(sorted.length * 4);
    sorted.forEach(([, words], place) => this.words.set(words, place * 4));
  }
}

/** The pool as the channel between MUXes sees it. `address`, `sourceMask`: of this MUX. */
export const poolOf = (
  tables: { readonly muxKey: Uint8Array | null; readonly peers: PeerTable },
  { address, sourceMask }: { readonly address: number; readonly sourceMask: number },
): Pool => ({
  muxKey: () => tables.muxKey,
  generation: () => tables.peers.generation,
  members: () => tables.peers.members(),
  self: () => tables.peers.self(address, sourceMask),
  addressOf: (item) => tables.peers.addressOf(item),
});
