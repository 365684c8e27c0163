/** The MUXes of the pool by address, and which of them a packet is relayed to. Few: looked through, not indexed. */
import type { MuxPeerItem } from "../../dataplane/mux-items.js";
import { addressWords } from "../../packet/address-words.js";

export class PeerTable {
  /** Sorted by id: the same order on every MUX. Four words each. */
  words = new Int32Array(0);
  count = 0;
  readonly #byId = new Map<number, Int32Array>();

  put(item: MuxPeerItem): void {
    const words = addressWords(item.address);
    if (words === null) return;
    this.#byId.set(item.muxId, words);
    this.#sort();
  }

  remove(item: MuxPeerItem): void {
    this.#byId.delete(item.muxId);
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

  #sort(): void {
    const sorted = [...this.#byId].sort(([a], [b]) => a - b);
    this.count = sorted.length;
    this.words = new Int32Array(sorted.length * 4);
    sorted.forEach(([, words], place) => this.words.set(words, place * 4));
  }
}
