/**
 * Elections (Raft §5.2, §5.4.1), always with pre-vote (dissertation §9.6) and with votes refused while a leader is fresh
 * (§4.2.3). Steps: the timer runs out -> ask whether a quorum *would* vote (nobody's term or vote changes) -> only then
 * raise the term, vote for oneself, ask for real votes -> a quorum makes a leader, which at once appends a no-op (§8).
 *
 * (E1) One vote per term, durable before it is told; a candidate's own vote too counts only once it is on disk.
 * (E2) A pre-vote grant changes nothing here: neither term, nor vote, nor timer.
 * (E3) Two pre-candidates with equally good logs do not split the vote: the one with the higher id steps back, unless it
 *      has just got somebody's word.
 * (E4) A follower whose leader is still fresh does not refuse a pre-vote, it holds it back: if it learns within an election
 *      timeout that the leader is gone, the asker has its word at once instead of after another timeout. Whoever notices a
 *      death first may ask at once.
 * (E5) A follower gives its word to one asker at a time: the next one waits as in (E4) until the first has had the time to
 *      become a candidate. Else two of them win their pre-votes at once, and with an even number of voters left alive the
 *      votes can split, which costs a timeout.
 */
import { assert } from "../../../core/assert.js";
import type { NodeId, Term } from "../../../core/brands.js";
import { startRound } from "./heartbeat.js";
import type { PreVoteRequest, PreVoteResponse, TimeoutNow, VoteRequest, VoteResponse } from "./messages.js";
import { isVoter, membersOf } from "./membership.js";
import { silenceEnded } from "./patience.js";
import { Progress } from "./progress.js";
import { forgetAskedRead } from "./read-index.js";
import { voteOutcome } from "./quorum.js";
import {
  diskIsStalled,
  drawElectionTimeout,
  isInstalling,
  leaderIsFresh,
  note,
  send,
  sendAfterDurable,
  type State,
} from "./state.js";
import { entryBytes } from "./types.js";

function raiseTerm(s: State, term: Term): void {
  assert(term > s.term, "terms only rise");
  s.term = term;
  s.votedFor = null;
}

function restartElectionTimer(s: State): void {
  s.electionElapsed = 0;
  s.leaderIsGone = false;
  s.electionTimeoutTicks = drawElectionTimeout(s.config);
}

/** Every way to become a follower. `term` is the present one or higher. */
export function becomeFollower(s: State, term: Term, leader: NodeId | null, reason: string): void {
  if (term > s.term) raiseTerm(s, term);
  assert(s.role.kind !== "leader" || leader !== s.id, "a leader does not follow itself");
  const was = s.role.kind;
  s.role = { kind: "follower" };
  s.leader = leader;
  s.statusChanged = true;
  restartElectionTimer(s);
  forgetAskedRead(s);
  note(s, "info", "became follower", { term: s.term, leader, was, reason });
}

/** A message of this term's leader arrived: follow it and let the timer start over. */
export function leaderHeard(s: State, leader: NodeId): void {
  assert(s.role.kind !== "leader", "one leader per term: another leads in ours"); // Election Safety
  if (s.role.kind !== "follower") becomeFollower(s, s.term, leader, "leader heard");
  else if (s.leader !== leader) {
    assert(s.leader === null, "one leader per term: its name does not change");
    s.leader = leader;
    s.statusChanged = true;
    if (s.leaderIsGone) restartElectionTimer(s); // its connections broke, not its process
    note(s, "info", "leader found", { term: s.term, leader });
  }
  const { term, activeTick } = s;
  if (s.leaderHeard?.term === term) silenceEnded(s, activeTick - s.leaderHeard.activeTick);
  s.leaderHeard = { term, activeTick };
  s.electionElapsed = 0;
}

const mayCampaign = (s: State): boolean =>
  s.voting.kind === "full" && isVoter(s.membership, s.id) && !isInstalling(s) && !diskIsStalled(s);

/** The election timer ran out, or the leader is known to be dead. */
export function startPreVote(s: State, reason: string): void {
  assert(s.role.kind !== "leader", "a leader does not campaign");
  restartElectionTimer(s);
  if (!mayCampaign(s)) {
    if (s.leader !== null) {
      s.leader = null;
      s.statusChanged = true;
    }
    return;
  }
  s.leader = null;
  s.statusChanged = true;
  forgetAskedRead(s);
  const votes = new Map<NodeId, boolean>([[s.id, true]]);
  s.role = { kind: "pre-candidate", votes };
  note(s, "info", "asking for pre-votes", {
    term: s.term,
    lastIndex: s.log.lastIndex,
    lastTerm: s.log.lastTerm,
    reason,
  });
  const request: PreVoteRequest = {
    kind: "pre-vote-request",
    from: s.id,
    term: (s.term + 1) as Term,
    lastIndex: s.log.lastIndex,
    lastTerm: s.log.lastTerm,
  };
  for (const peer of membersOf(s.membership)) if (peer !== s.id && isVoter(s.membership, peer)) send(s, peer, request);
  if (voteOutcome(s.membership, votes) === "won") startElection(s, false);
}

/** Raises the term and asks for votes. The own vote is counted in `ownVoteIsDurable`. */
function startElection(s: State, force: boolean): void {
  raiseTerm(s, (s.term + 1) as Term);
  s.votedFor = s.id;
  s.leader = null;
  s.role = { kind: "candidate", votes: new Map() };
  s.statusChanged = true;
  restartElectionTimer(s);
  forgetAskedRead(s);
  note(s, "info", "became candidate", {
    term: s.term,
    lastIndex: s.log.lastIndex,
    lastTerm: s.log.lastTerm,
    transfer: force,
  });
  const request: VoteRequest = {
    kind: "vote-request",
    from: s.id,
    term: s.term,
    lastIndex: s.log.lastIndex,
    lastTerm: s.log.lastTerm,
    force,
  };
  // `send` holds these back until the new term is on disk: a candidate that forgot its term could ask twice in it.
  for (const peer of membersOf(s.membership)) if (peer !== s.id && isVoter(s.membership, peer)) send(s, peer, request);
}

/** (E1) Called when term and vote became durable. */
export function ownVoteIsDurable(s: State): void {
  if (s.role.kind !== "candidate" || s.durable.term !== s.term || s.durable.votedFor !== s.id) return;
  if (s.role.votes.get(s.id) === true) return;
  s.role.votes.set(s.id, true);
  if (voteOutcome(s.membership, s.role.votes) === "won") becomeLeader(s);
}

function becomeLeader(s: State): void {
  assert(s.role.kind === "candidate", "only a candidate becomes leader");
  const votes = [...s.role.votes.values()].filter((granted) => granted).length;
  const peers = new Map<NodeId, Progress>();
  const window = { appendsMax: s.config.inflightAppendsMax, bytesMax: s.config.inflightBytesMax };
  const noOpIndex = (s.log.lastIndex + 1) as typeof s.log.lastIndex;
  for (const peer of membersOf(s.membership)) if (peer !== s.id) peers.set(peer, new Progress(peer, noOpIndex, window));
  let uncommittedBytes = 0;
  for (let at = s.log.commitIndex + 1; at <= s.log.lastIndex; at++) uncommittedBytes += entryBytes(s.log.entryAt(at)!); // in the log
  const noOp = { index: noOpIndex, term: s.term, payload: new Uint8Array(0) };
  s.log.append([noOp]);
  s.role = {
    kind: "leader",
    peers,
    noOpIndex,
    heartbeatElapsed: 0,
    round: 0,
    roundsSent: new Map(),
    confirmedRound: 0,
    quorumActiveTick: s.activeTick,
    leaseTick: null,
    leaseVoid: false,
    earlyReads: [],
    nextReads: [],
    roundReads: [],
    transfer: null,
    offeredForStall: false,
    uncommittedBytes: uncommittedBytes + entryBytes(noOp),
    commitNoticeDue: false,
    lastAppend: null,
    lastHeartbeat: null,
  };
  s.leader = s.id;
  s.statusChanged = true;
  note(s, "info", "became leader", { term: s.term, votes, noOp: noOpIndex });
  startRound(s, s.role);
}

export function handlePreVoteRequest(s: State, m: PreVoteRequest): void {
  const fresh = leaderIsFresh(s);
  const upToDate = s.log.isUpToDate(m.lastIndex, m.lastTerm);
  // A request for a term in which we have voted already could not win our vote, so it does not get our word either.
  const free = m.term > s.term || (m.term === s.term && s.votedFor === m.from);
  const willing = free && upToDate && s.voting.kind === "full";
  const granted = willing && !fresh;
  s.heldPreVotes.delete(m.from);
  if (willing && s.role.kind !== "leader" && (fresh || isTaken(s, m))) {
    const reason = fresh ? "leader is fresh" : "word given";
    note(s, "debug", "held a pre-vote back", { for: m.from, term: m.term, reason });
    s.heldPreVotes.set(m.from, { request: m, since: s.activeTick }); // (E4)
    return;
  }
  note(s, "debug", granted ? "would vote" : "would not vote", {
    for: m.from,
    term: m.term,
    ...(granted ? {} : { reason: refusal(s, { fresh, upToDate, free }) }),
  });
  if (granted) s.wordGiven = { to: m.from, term: m.term, at: s.activeTick };
  // A refusal carries our own term: a pre-candidate that is behind learns it and catches up.
  send(s, m.from, { kind: "pre-vote-response", from: s.id, term: granted ? m.term : s.term, granted });
  if (granted && s.role.kind === "pre-candidate" && m.term === s.term + 1 && m.from < s.id) {
    becomeFollower(s, s.term, null, "stepped back for another pre-candidate"); // (E3)
  }
}

/**
 * (E5) A follower gave its word to somebody else for the same term, so lately that this one may be about to become a
 * candidate. A pre-candidate that has just got somebody's word is about to become one itself.
 */
function isTaken(s: State, m: PreVoteRequest): boolean {
  const { unreachableDelayMaxTicks: patience } = s.config;
  if (s.role.kind === "pre-candidate")
    return s.electionElapsed < patience && [...s.role.votes.values()].filter((granted) => granted).length > 1;
  if (s.role.kind !== "follower" || s.wordGiven === null) return false;
  const { to, term, at } = s.wordGiven;
  return to !== m.from && term === m.term && s.activeTick - at < patience;
}

/** (E4) Called when time passed, and when the leader is known to be gone. The lowest id comes first. */
export function answerHeldPreVotes(s: State): void {
  if (s.heldPreVotes.size === 0) return;
  const fresh = leaderIsFresh(s);
  const held = [...s.heldPreVotes.values()].sort((a, b) => a.request.from - b.request.from);
  for (const { request, since } of held) {
    if (request.term <= s.term || s.activeTick - since >= s.config.electionTimeoutMinTicks)
      s.heldPreVotes.delete(request.from);
    else if (!fresh && !isTaken(s, request)) handlePreVoteRequest(s, request); // from then on (E5) holds for the rest
  }
}

function refusal(
  s: State,
  why: { readonly fresh: boolean; readonly upToDate: boolean; readonly free: boolean },
): string {
  if (s.voting.kind !== "full") return "not voting";
  if (why.fresh) return "leader is fresh";
  if (!why.upToDate) return "its log is behind";
  return why.free ? "" : "vote given";
}

export function handlePreVoteResponse(s: State, m: PreVoteResponse): void {
  if (s.role.kind !== "pre-candidate" || (m.granted && m.term !== s.term + 1)) return;
  if (s.role.votes.has(m.from)) return;
  s.role.votes.set(m.from, m.granted);
  const outcome = voteOutcome(s.membership, s.role.votes);
  if (outcome === "won") startElection(s, false);
  else if (outcome === "lost") becomeFollower(s, s.term, null, "pre-vote lost");
}

/** `m.term` equals our term here: a higher one has been adopted before. */
export function handleVoteRequest(s: State, m: VoteRequest): void {
  const upToDate = s.log.isUpToDate(m.lastIndex, m.lastTerm);
  const free = s.votedFor === m.from || (s.votedFor === null && s.leader === null);
  const granted = free && upToDate && s.voting.kind === "full";
  note(s, "info", granted ? "voted" : "refused a vote", {
    for: m.from,
    term: s.term,
    ...(granted ? {} : { reason: refusal(s, { fresh: false, upToDate, free }) }),
  });
  if (granted) {
    s.votedFor = m.from;
    restartElectionTimer(s);
  }
  sendAfterDurable(s, m.from, { kind: "vote-response", from: s.id, term: s.term, granted }); // (E1)
}

export function handleVoteResponse(s: State, m: VoteResponse): void {
  if (s.role.kind !== "candidate" || s.role.votes.has(m.from)) return;
  s.role.votes.set(m.from, m.granted);
  const outcome = voteOutcome(s.membership, s.role.votes);
  if (outcome === "won") becomeLeader(s);
  else if (outcome === "lost") becomeFollower(s, s.term, null, "election lost");
}

/** Leadership transfer: the leader says that our log is complete, so no timeout and no pre-vote (dissertation §3.10). */
export function handleTimeoutNow(s: State, m: TimeoutNow): void {
  if (s.role.kind === "leader" || !mayCampaign(s)) return;
  note(s, "info", "asked to take over", { by: m.from, term: s.term });
  startElection(s, true);
}

/**
 * The driver knows that `peer`'s process is gone (all streams closed and connecting refused, or a new boot answers).
 * If it led, it is not fresh any more, and pre-vote starts by rank instead of after a timeout: the voter with the lowest id
 * at once, the others a little later each, so that they need not ask at all when it succeeds.
 */
export function leaderUnreachable(s: State, peer: NodeId): void {
  if (s.leader !== peer || s.role.kind !== "follower") return;
  if (s.config.leaseMarginTicks !== null) return; // a lease may outlast the connection that broke
  s.leader = null;
  s.statusChanged = true;
  forgetAskedRead(s);
  s.electionElapsed = 0;
  s.electionTimeoutTicks = delayByRank(s, peer);
  s.leaderIsGone = true;
  note(s, "info", "leader is gone", { leader: peer, term: s.term, preVoteInTicks: s.electionTimeoutTicks });
  answerHeldPreVotes(s);
  if (s.electionTimeoutTicks === 0) startPreVote(s, "leader is gone");
}

/** [0, max] ticks, evenly spread over the voters that are left. */
function delayByRank(s: State, gone: NodeId): number {
  const left = s.membership.voters.filter((voter) => voter !== gone);
  const rank = left.indexOf(s.id);
  const { unreachableDelayMaxTicks: max } = s.config;
  return rank < 0 ? max : Math.round((rank * max) / Math.max(1, left.length - 1));
}
