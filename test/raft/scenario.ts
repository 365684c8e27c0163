/**
 * The language of `scenarios/*.txt`. A file is a story: comments with "#" say which situation it stands for; commands, one a
 * line or several with ";"; then "----" and the expected trace, which is the cores' own log lines. After a blank line the
 * story may go on with more commands.
 *
 *   nodes 5 [seed 3]              size of the cluster (first command); default 5, seed 1
 *   trace debug | info            how much the cores tell; default info
 *   log 1 = 1 1 4 4 [term 6]      terms of the entries on node 1's disk before it starts
 *   start                         boots every node that is down (implied by the first command that needs it)
 *   elect 1                       node 1 campaigns and wins, untold
 *   campaign 1                    node 1's election timer runs out
 *   propose 1 x [* 3]             one or more entries
 *   propose-large 1 20000 [* 3]   entries of so many bytes
 *   read 2                        asks for a read index
 *   transfer 1 3                  leader 1 hands over to 3
 *   lease reads                   leaders answer reads under a lease (before the first command that boots)
 *   add 6 ; join 6 ; name 6       the leader takes node 6 on as a learner; its process starts with an empty folder;
 *                                 the leader hears of that folder
 *   promote 6 [replacing 2] [at 1] ; remove 2 [at 1]    asked of the leader, or of the node named
 *   crash 3 ; restart 3 [lost | damaged [keep 4]]
 *   gone 1                        all others (gone 1 at 2 3: only these) learn that node 1's process has ended
 *   snapshot 1 [keep 5]           node 1 compacts its log
 *   stall disk 1 ; free disk 1    syncs do not end until freed
 *   partition 1 2 | 3 4 5 ; cut 1 > 2 ; heal
 *   lose append-response [from 2] [to 1] ; lose nothing
 *   repeat append-response [from 2] [to 1] [after 30ms] ; repeat nothing    such messages arrive once more, that much later;
 *                                 "repeat everything" takes all kinds
 *   dropped 1 2                   node 1 hears that what it sent to 2 was lost on a broken connection
 *   same timeouts                 every election timeout is 200 ms, on every node (before the first command that boots)
 *   settle                        until all is quiet, without ticks
 *   elapse 300ms                  with ticks
 *   stall 1 300ms                 node 1 stands still that long and then learns of it (others go on)
 *   status                        one line per node
 */
import { nodeId, type NodeId } from "../../core/brands.js";
import type { Message } from "../../manager/raft/core/messages.js";
import { CoreCluster, TICK_MS } from "./core-cluster.js";

export class Scenario {
  #lines: string[] = [];
  #cluster: CoreCluster | null = null;
  #size = 5;
  #seed = 1;
  #debug = false;
  #leases = false;
  #sameTimeouts = false;
  readonly #prepared: { readonly id: NodeId; readonly terms: readonly number[]; readonly term: number | undefined }[] =
    [];

  /** Runs the commands; the lines they made. */
  run(commands: readonly string[]): readonly string[] {
    this.#lines = [];
    for (const line of commands)
      for (const command of line.split(";")) if (command.trim() !== "") this.#command(command.trim());
    return this.#lines;
  }

  get #running(): CoreCluster {
    if (this.#cluster === null) {
      this.#cluster = new CoreCluster({
        size: this.#size,
        seed: this.#seed,
        trace: (line) => this.#lines.push(line),
        traceDebug: this.#debug,
        config: {
          ...(this.#leases ? { leaseMarginTicks: 3 } : {}),
          ...(this.#sameTimeouts ? { electionTimeoutMinTicks: 20, electionTimeoutMaxTicks: 20 } : {}),
        },
      });
      for (const { id, terms, term } of this.#prepared) this.#cluster.prepare(id, terms, term);
      this.#cluster.start();
    }
    return this.#cluster;
  }

  #command(text: string): void {
    const [verb = "", ...words] = text.split(/\s+/);
    const numberAfter = (word: string): number | undefined => {
      const at = words.indexOf(word);
      return at < 0 ? undefined : Number(words[at + 1]);
    };
    const id = Number(words[0]);
    switch (verb) {
      case "nodes":
        this.#size = id;
        this.#seed = numberAfter("seed") ?? 1;
        return;
      case "trace":
        this.#debug = words[0] === "debug";
        if (this.#cluster !== null) this.#cluster.traceDebug = this.#debug;
        return;
      case "log": {
        const end = words.indexOf("term");
        const terms = words.slice(2, end < 0 ? undefined : end).map(Number);
        this.#prepared.push({ id: nodeId(id), terms, term: numberAfter("term") });
        return;
      }
      case "start": {
        this.#running.start();
        return;
      }
      case "elect": {
        const before = this.#lines.length;
        this.#running.campaign(id);
        this.#running.settle();
        this.#lines.length = before;
        if (this.#running.leader !== id) throw new Error(`node ${id} was not elected`);
        return;
      }
      case "campaign": {
        this.#running.campaign(id);
        return;
      }
      case "propose": {
        const times = numberAfter("*") ?? 1;
        for (let at = 1; at <= times; at++) this.#running.propose(id, times === 1 ? words[1]! : `${words[1]!}${at}`);
        return;
      }
      case "propose-large": {
        const text = "x".repeat(Number(words[1]));
        for (let at = numberAfter("*") ?? 1; at > 0; at--) this.#running.propose(id, text);
        return;
      }
      case "read": {
        this.#running.read(id);
        return;
      }
      case "transfer": {
        this.#running.act(id, (core) => {
          const result = core.transferLeadership(nodeId(Number(words[1])));
          if (result !== "started") this.#running.note(`${id} > transfer refused: ${result}`);
        });
        return;
      }
      case "lease":
        this.#leases = true;
        return;
      case "add":
      case "promote":
      case "remove":
        this.#change(verb, nodeId(id), numberAfter("replacing"), numberAfter("at"));
        return;
      case "join": {
        this.#running.join(nodeId(id));
        return;
      }
      case "name": {
        this.#running.nameFolder(id);
        return;
      }
      case "crash": {
        this.#running.crash(id);
        return;
      }
      case "restart": {
        this.#restart(id, words.slice(1), numberAfter("keep"));
        return;
      }
      case "gone":
        for (const member of this.#running.running)
          if (member.id !== id && (words[1] !== "at" || words.includes(String(member.id), 2)))
            this.#running.act(member.id, (core) => core.leaderUnreachable(nodeId(id)));
        return;
      case "snapshot": {
        this.#running.snapshot(id, numberAfter("keep"));
        return;
      }
      case "stall":
        if (words[0] === "disk") {
          this.#running.stallDisk(Number(words[1]));
          return;
        }
        {
          this.#stall(id, parseInt(words[1]!, 10));
          return;
        }
      case "free": {
        this.#running.freeDisk(Number(words[1]));
        return;
      }
      case "partition": {
        this.#running.partition(
          words
            .join(" ")
            .split("|")
            .map((group) => group.trim().split(/\s+/).map(Number)),
        );
        return;
      }
      case "cut":
        this.#running.cuts.add(`${words[0]!}>${words[2]!}`);
        return;
      case "heal":
        this.#running.cuts.clear();
        return;
      case "lose": {
        const [kind] = words;
        const from = numberAfter("from");
        const to = numberAfter("to");
        this.#running.drop =
          kind === "nothing"
            ? null
            : (a, b, m) => m.kind === kind && (from === undefined || a === from) && (to === undefined || b === to);
        return;
      }
      case "repeat": {
        const [kind] = words;
        const from = numberAfter("from");
        const to = numberAfter("to");
        const after = parseInt(words[words.indexOf("after") + 1] ?? "0", 10) || 0;
        const meant = (a: NodeId, b: NodeId, m: Message): boolean =>
          (kind === "everything" || m.kind === kind) &&
          (from === undefined || a === from) &&
          (to === undefined || b === to);
        this.#running.repeat = kind === "nothing" ? null : (a, b, m) => (meant(a, b, m) ? after : null);
        return;
      }
      case "dropped": {
        this.#running.act(id, (core) => core.peerUnreachable(nodeId(Number(words[1]))));
        return;
      }
      case "same":
        this.#sameTimeouts = true;
        return;
      case "settle": {
        this.#running.settle();
        return;
      }
      case "elapse": {
        this.#running.elapse(parseInt(words[0]!, 10));
        return;
      }
      case "status":
        for (const line of this.#running.describe()) this.#running.note(line);
        return;
      default:
        throw new Error(`there is no command "${text}"`);
    }
  }

  #change(verb: "add" | "promote" | "remove", id: NodeId, replacing: number | undefined, at: number | undefined): void {
    const cluster = this.#running;
    const asked = at ?? cluster.leader;
    if (asked === null) throw new Error("nobody leads; say at which node");
    if (verb === "add") {
      const member = { id, address: `m${id}:7001`, service: `m${id}:7002` };
      cluster.change(asked, { kind: "add-learner", member });
    } else if (verb === "remove") cluster.change(asked, { kind: "remove", id });
    else cluster.change(asked, { kind: "promote", id, replacing: replacing === undefined ? null : nodeId(replacing) });
  }

  #restart(id: number, how: readonly string[], keep: number | undefined): void {
    const { disk } = this.#running.member(id);
    if (how[0] === "lost") {
      disk.hardState = { term: 0 as never, votedFor: null };
      disk.entries = [];
      disk.snapshot = null;
      this.#running.boot(nodeId(id), { kind: "never", reason: "lost" });
    } else if (how[0] === "damaged") {
      if (keep !== undefined) disk.entries = disk.entries.slice(0, keep);
      this.#running.boot(nodeId(id), { kind: "until-caught-up", reason: "damaged" });
    } else this.#running.boot(nodeId(id));
    // Leaders learn it from the new boot id.
    for (const member of this.#running.running)
      if (member.id !== id) this.#running.act(member.id, (core) => core.peerRestarted(nodeId(id)));
  }

  /** The others' time passes while `id` sees nothing; then its waiting input is handled before it hears of the time. */
  #stall(id: number, ms: number): void {
    const cluster = this.#running;
    const member = cluster.member(id);
    const core = member.core;
    const others = cluster.running.filter((one) => one !== member).map((one) => one.id);
    const held: string[] = [];
    for (const other of others)
      for (const cut of [`${id}>${other}`, `${other}>${id}`]) if (!cluster.cuts.has(cut)) held.push(cut);
    for (const cut of held) cluster.cuts.add(cut);
    member.core = null;
    cluster.elapse(ms);
    member.core = core;
    for (const cut of held) cluster.cuts.delete(cut);
    cluster.act(id, (one) => one.tick(Math.floor(ms / TICK_MS)));
  }
}

export interface Part {
  readonly head: readonly string[];
  readonly commands: readonly string[];
  readonly expected: readonly string[];
}

/** Parts of a file in order; `head` is the comment and blank lines before the commands. */
export function parseScenario(text: string): readonly Part[] {
  const parts: { head: string[]; commands: string[]; expected: string[] }[] = [];
  let part = { head: [] as string[], commands: [] as string[], expected: [] as string[] };
  let inTrace = false;
  for (const line of text.replace(/\n+$/, "").split("\n")) {
    if (inTrace) {
      if (line.trim() === "") {
        parts.push(part);
        part = { head: [line], commands: [], expected: [] };
        inTrace = false;
      } else part.expected.push(line);
    } else if (line.trim() === "----") inTrace = true;
    else if (line.startsWith("#") || line.trim() === "") part.head.push(line);
    else part.commands.push(line);
  }
  if (part.commands.length > 0) parts.push(part);
  return parts;
}

export const formatScenario = (parts: readonly Part[]): string =>
  parts.map((part) => [...part.head, ...part.commands, "----", ...part.expected].join("\n")).join("\n") + "\n";
