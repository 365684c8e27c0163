/** [pure] Which MUX of the pool a packet is relayed to that nobody here has the port of. */

/** The pool's MUXes by place, in the same order on all of them. */
interface Places {
  readonly count: number;
  muxIdAt(place: number): number;
}

/**
 * Place of a peer by the flow's hash: among those that said of late that their lease is held, because grants wait for them; where nobody
 * said so, among all. -1: there is no peer.
 */
export function relayTarget(
  places: Places,
  self: number,
  hash: number,
  isLeased: (muxId: number, nowMs: number) => boolean,
  nowMs: number,
): number {
  let leased = 0;
  for (let place = 0; place < places.count; place++)
    if (place !== self && isLeased(places.muxIdAt(place), nowMs)) leased++;
  const choices = leased > 0 ? leased : places.count - 1;
  if (choices < 1) return -1;
  let left = (hash >>> 0) % choices;
  for (let place = 0; place < places.count; place++) {
    if (place === self || (leased > 0 && !isLeased(places.muxIdAt(place), nowMs))) continue;
    if (left-- === 0) return place;
  }
  return -1;
}
