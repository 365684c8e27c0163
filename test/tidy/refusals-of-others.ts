/** Messages about mistakes that docs/configuration.md does not show, because no person meets them: see `refusals.test.ts`. */

export interface Other {
  /** How the message begins; "..." for a value. */
  readonly begins: string;
  readonly why: string;
}

export const OTHERS: readonly Other[] = [
  { begins: "...; and ... more", why: "several problems of one request, each of which is documented" },
  { begins: "withdrawn for overload ...; forgotten in", why: "a condition that holds, not a mistake" },
  { begins: "the watcher reads too slowly", why: "a program that reads slower than the site changes" },
  { begins: "the first message of a stream is hello", why: "a program that does not keep to the protocol of agents" },
  { begins: "dip_id: ... is not a DIP of this host", why: "an agent that does not keep to its welcome" },
  {
    begins: "origin: it belongs to an earlier request of another kind",
    why: "the same is said, and documented, of calls",
  },
  { begins: "request: neither allocate nor release", why: "a program that does not keep to the protocol of agents" },
  { begins: "the flow-hash key is 16 hex digits", why: "drawn by the first leader" },
  { begins: "the key of the MUXes is 32 hex digits", why: "drawn by the first leader" },
  { begins: "an epoch begins in a restored state", why: "begun by the first leader after a restore" },
  { begins: "no host has id", why: "ids are given by the Managers, and remembered by agents" },
  { begins: "no MUX has id", why: "ids are given by the Managers, and remembered by MUXes" },
  { begins: "... of ... hosts are silent together", why: "what a leader proposes of its own" },
  { begins: "MUX ... is the last live one; it is never declared lost", why: "what a leader proposes of its own" },
  { begins: "VIP .../... is never withdrawn for overload", why: "what a leader proposes of its own" },
  { begins: "VIP .../... is withdrawn already (", why: "what a leader proposes of its own" },
  { begins: "held ranges are", why: 'the edge says it first: "ranges ... are not within"' },
  { begins: "the spec is that of a", why: "the edge makes ref and spec of one document" },
  { begins: "named twice in one request", why: 'the edge says it first: "is given twice"' },
  { begins: "maxMembers is 1 to", why: "the schema says it first" },
  { begins: "a drain timeout is 0 to", why: "the schema says it first" },
  { begins: "a share is 0 to 100", why: "the schema says it first" },
  { begins: "DIP ... is listed twice", why: "the schema says it first" },
  { begins: "a port is 0 to 65535", why: "the schema says it first" },
  { begins: "a port is 1 to 65535", why: "the schema says it first" },
  { begins: "a weight is 0 to", why: "the schema says it first" },
  { begins: "a weight is 1 to", why: "the schema says it first" },
  { begins: "ports wanted are 1 to", why: 'the edge says it first: "is not a number of ports"' },
  { begins: "a VIP has at most 1 to 1500 rules", why: "the schema says it first" },
  { begins: '"..." is not a prefix', why: "the schema says it first" },
  { begins: "two rules are named", why: "the schema says it first" },
  { begins: '"..." is not a range of ports; write', why: "the schema says it first" },
  { begins: "outbound names no pool", why: "the schema says it first" },
  { begins: 'outbound names pool "..." twice', why: "the schema says it first" },
  { begins: "maxPorts is a multiple of", why: "the schema says it first" },
];
