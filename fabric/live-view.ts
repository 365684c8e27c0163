/**
 * What `npm start` shows: the site at a glance, redrawn in place twice a second. `renderView` is a function from what is known
 * to lines of text; `Screen` puts lines on a terminal. Without a terminal: events as they happen, and a summary every 5 s.
 */
import { assertNever } from "../core/assert.js";
import type { Clock, Timer } from "../runtime/env.js";
import { countsText } from "./data-path.js";
import type { FlowStatistics } from "./flow-generator.js";
import type { NextHop, RouterDropReason, RouterEvent } from "./router-model.js";
import { connectedHosts, leaderOf, muxesOf, portsByDip, type SiteStatus } from "./site-status.js";

export interface SiteEvent {
  /** Since the site started. */
  readonly atMs: number;
  readonly text: string;
}

export interface ViewModel {
  readonly elapsedMs: number;
  readonly status: SiteStatus;
  /** Name, pid or null when it is down. */
  readonly children: readonly { readonly name: string; readonly role: string; readonly pid: number | null }[];
  readonly routes: readonly NextHop[];
  readonly routerDrops: ReadonlyMap<RouterDropReason, number>;
  readonly inbound: FlowStatistics;
  readonly outbound: FlowStatistics;
  readonly badPackets: number;
  readonly retransmissions: number;
  /** Newest last. */
  readonly events: readonly SiteEvent[];
  readonly dataFolder: string;
  /** "host:port" of Managers that the command line has to be told of; empty: it finds them by itself. */
  readonly endpoints: readonly string[];
}

export interface ViewSize {
  readonly columns: number;
  readonly rows: number;
  readonly colour: boolean;
}

/** What the command line reads; three of five fit into 80 columns, and each of them knows the others. */
const exportText = (endpoints: readonly string[]): string =>
  `export ANANTA_ENDPOINTS=${endpoints.slice(0, 3).join(",")}`;

const COMMANDS: readonly (readonly [command: string, what: string])[] = [
  ["npx ananta status", "replicas, MUXes, hosts"],
  ["npx ananta get vips -o wide", "VIPs and their rules"],
  ["npx ananta snat list", "who owns which ports"],
  ["npx ananta flow explain tcp 198.51.100.10:40000 203.0.113.10:80", "which MUX, rule and DIP, and why"],
];

type Paint = (text: string) => string;
interface Palette {
  readonly title: Paint;
  readonly good: Paint;
  readonly bad: Paint;
  readonly dim: Paint;
}

const sgr =
  (code: number): Paint =>
  (text) =>
    `\u001b[${code}m${text}\u001b[0m`;
const same: Paint = (text) => text;
const PLAIN: Palette = { title: same, good: same, bad: same, dim: same };
const COLOURED: Palette = { title: sgr(1), good: sgr(32), bad: sgr(31), dim: sgr(2) };

/** At most `rows` lines of at most `columns` visible characters. What matters least is left out first. */
export function renderView(view: ViewModel, size: ViewSize): readonly string[] {
  const palette = size.colour ? COLOURED : PLAIN;
  const { title, dim } = palette;
  const head = title(`ananta   up ${duration(view.elapsedMs)}   data in ${view.dataFolder}   Ctrl-C ends everything`);
  const sections = [
    [head],
    replicaLines(view, palette),
    muxLines(view, palette),
    hostLines(view, palette),
    vipLines(view, palette),
    trafficLines(view, palette),
    dataPathLines(view, palette),
  ];
  const spaced = sections.flatMap((section) => [...section, ""]);
  const roomy = spaced.length + COMMANDS.length + 6 <= size.rows;
  const footer = roomy ? commandLines(view, size.columns, palette) : commandsInShort(view, palette);
  const lines = roomy ? spaced : sections.flat();
  const eventRoom = size.rows - footer.length - lines.length - (roomy ? 2 : 0);
  // Two events are always worth a line of the body: one may be the command that starts a dead child.
  const eventCount = Math.min(view.events.length, Math.max(2, Math.min(6, eventRoom)));
  const events = view.events
    .slice(view.events.length - eventCount)
    .map((event) => `  ${dim(clockText(event.atMs))}  ${event.text}`);
  const eventLines = roomy ? [title("Events"), ...events, ""] : events;
  const body = lines.slice(0, Math.max(1, size.rows - footer.length - eventLines.length));
  return [...body, ...eventLines, ...footer].slice(0, size.rows).map((line) => clip(line, size.columns));
}

function commandLines({ endpoints }: ViewModel, columns: number, { title, dim }: Palette): readonly string[] {
  const width = Math.max(...COMMANDS.map(([command]) => command.length));
  const fits = (what: string): boolean => width + what.length + 5 <= columns;
  return [
    title("Try next, in another terminal"),
    ...(endpoints.length === 0 ? [] : [`  ${exportText(endpoints)}`]),
    ...COMMANDS.map(([command, what]) => (fits(what) ? `  ${command.padEnd(width)}   ${dim(what)}` : `  ${command}`)),
  ];
}

/** All commands in two lines of at most 80 characters; a third one where they have to be told of the Managers. */
function commandsInShort({ endpoints }: ViewModel, { title }: Palette): readonly string[] {
  const commands = COMMANDS.map(([command]) => command);
  return [
    ...(endpoints.length === 0 ? [] : [`     ${exportText(endpoints)}`]),
    `${title("Try")}  ${commands.slice(0, -1).join("; ")}`,
    `     ${commands.at(-1) ?? ""}`,
  ];
}

function replicaLines(view: ViewModel, { title, good, bad }: Palette): readonly string[] {
  const managers = view.children.filter((child) => child.role === "manager");
  const leader = leaderOf(view.status);
  const rows = managers.map(({ name, pid }, index) => {
    const replica = view.status.replicas[index] ?? null;
    // One that was started by hand answers too, and tells its pid.
    const start = `  ${name.padEnd(11)} ${String(pid ?? replica?.pid ?? "-").padStart(8)}  `;
    if (replica === null) return `${start}${bad(pid === null ? "down" : "no answer")}`;
    const role = replica === leader ? good(replica.role.padEnd(10)) : replica.role.padEnd(10);
    const behind = leader === null ? "" : String(Math.max(0, leader.commitIndex - replica.appliedIndex));
    const numbers = [replica.term, replica.commitIndex, replica.muxSafeIndex].map((value) => String(value).padStart(9));
    return `${start}${role}${numbers.join("")}${behind.padStart(8)}${replica.notVoting === "" ? "" : `  ${bad(replica.notVoting)}`}`;
  });
  return [title("  MANAGER          pid  role           term   commit  in force  behind"), ...rows];
}

function muxLines(view: ViewModel, { title, bad }: Palette): readonly string[] {
  const known = new Map(muxesOf(view.status).map((mux) => [mux.name, mux]));
  const routes = new Map(view.routes.map((route) => [route.mux, route]));
  const rows = view.children
    .filter((child) => child.role === "mux")
    .map(({ name, pid }) => {
      const mux = known.get(name);
      const route = routes.get(name);
      const state = pid === null && route === undefined ? bad("down".padEnd(9)) : (mux?.state ?? "starting").padEnd(9);
      const drops = mux === undefined ? 0 : [...mux.drops.values()].reduce((sum, count) => sum + count, 0);
      const numbers = [mux?.packets ?? 0, mux?.flows ?? 0, drops].map((value) => count(value).padStart(9));
      const heard =
        route === undefined
          ? "no routes"
          : `${route.vips.length} VIP${route.vips.length === 1 ? "" : "s"}, ${Math.round(route.heardMsAgo)} ms ago`;
      return `  ${name.padEnd(11)} ${String(pid ?? "-").padStart(8)}  ${state}${numbers.join("")}   ${heard}`;
    });
  return [title("  MUX              pid  state      packets    flows    drops   routes announced"), ...rows];
}

function hostLines(view: ViewModel, { title, bad }: Palette): readonly string[] {
  const connected = connectedHosts(view.status);
  const ports = portsByDip(view.status.snat);
  const rows = view.children
    .filter((child) => child.role === "agent")
    .map(({ name, pid }) => {
      const down = pid === null && !connected.has(name);
      const state = down ? bad("down".padEnd(10)) : (connected.has(name) ? "connected" : "alone").padEnd(10);
      const owned = ports
        .filter((row) => row.host === name)
        .map((row) => `${row.dip} ${row.tcpPorts}${row.udpPorts > 0 ? `+${row.udpPorts}u` : ""}`);
      return `  ${name.padEnd(11)} ${String(pid ?? "-").padStart(8)}  ${state}  ${owned.join("   ") || "-"}`;
    });
  return [title("  HOST             pid  agent       SNAT ports by DIP (TCP, +u UDP)"), ...rows];
}

function vipLines(view: ViewModel, { title }: Palette): readonly string[] {
  const rows = view.status.vips.map(
    (vip) =>
      `  ${vip.name.padEnd(11)} ${vip.address.padEnd(15)} ${vip.phase.padEnd(9)} ${String(vip.ownedRanges).padStart(6)} /${String(vip.ownedRanges + vip.freeRanges + vip.quarantinedRanges).padStart(6)}   ${vip.rules.join(", ")}`,
  );
  return [
    title("  VIP         address         phase     SNAT ranges      rules"),
    ...(rows.length === 0 ? ["  none yet"] : rows),
  ];
}

function trafficLines(view: ViewModel, { title, bad }: Palette): readonly string[] {
  const row = (name: string, flows: FlowStatistics): string => {
    const numbers = [flows.open, flows.opened, flows.answers].map((value) => count(value).padStart(9));
    const broken = count(flows.brokenCount).padStart(9);
    const stall = `${count(Math.round(flows.longestStallMs))} ms`.padStart(15);
    return `  ${name.padEnd(10)}${numbers.join("")}${flows.brokenCount > 0 ? bad(broken) : broken}${stall}`;
  };
  const dropped = [...view.routerDrops].map(([reason, drops]) => `${reason} ${drops}`).join(", ");
  return [
    title("  TRAFFIC        open   opened  answers   broken  longest stall"),
    row("inbound", view.inbound),
    row("outbound", view.outbound),
    `  wrong checksums ${view.badPackets}, repeated segments ${count(view.retransmissions)}, dropped by the router: ${dropped || "none"}`,
  ];
}

/** What MUXes and Host Agents count on their packets' ways. */
function dataPathLines(view: ViewModel, { title }: Palette): readonly string[] {
  const rows = [...view.status.dataPaths].map(([name, { counts, drops }]) => {
    const dropped = drops.size === 0 ? "" : `; dropped: ${countsText(drops)}`;
    return `  ${name.padEnd(11)} ${countsText(counts)}${dropped}`;
  });
  return rows.length === 0 ? [] : [title("  DATA PATH   since its process started"), ...rows];
}

/** One line that says how things are, for logs. */
export function summaryLine(view: ViewModel): string {
  const { status, inbound, outbound } = view;
  const leader = leaderOf(status);
  const answering = status.replicas.filter((replica) => replica !== null).length;
  const live = muxesOf(status).filter((mux) => mux.state === "live").length;
  const ports = portsByDip(status.snat).reduce((sum, row) => sum + row.tcpPorts + row.udpPorts, 0);
  return [
    `managers ${answering}/${status.replicas.length}`,
    leader === null
      ? "no leader"
      : `leader ${leader.nodeId} (pid ${leader.pid}), term ${leader.term}, commit ${leader.commitIndex}`,
    `muxes live ${live}, announcing ${view.routes.length}`,
    `hosts ${connectedHosts(status).size}`,
    `vips ${status.vips.length}`,
    `snat ports ${ports}`,
    flowsText("inbound", inbound),
    flowsText("outbound", outbound),
  ].join(" | ");
}

const flowsText = (name: string, { open, answers, brokenCount }: FlowStatistics): string =>
  `${name}: ${count(open)} open, ${count(answers)} answers, ${count(brokenCount)} broken`;

/** Visible characters only count: colour codes are passed on whole. */
function clip(line: string, columns: number): string {
  let visible = 0;
  let out = "";
  for (const part of line.split(/(\u001b\[[0-9;]*m)/)) {
    if (part.startsWith("\u001b")) out += part;
    else {
      const room = columns - visible;
      out += part.length > room ? part.slice(0, Math.max(0, room)) : part;
      visible += Math.min(part.length, Math.max(0, room));
    }
  }
  return out;
}

const count = (value: number): string => value.toLocaleString("en-US");

function duration(ms: number): string {
  const seconds = Math.floor(ms / 1_000);
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

export const clockText = (ms: number): string => `${(ms / 1_000).toFixed(1).padStart(6)} s`;

export interface Output {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
}

/** A terminal that is redrawn from its top-left corner; leaves what stood there before as it was. */
export class Screen {
  private readonly output: Output;
  private open = false;

  constructor(output: Output) {
    this.output = output;
  }

  draw(lines: readonly string[]): void {
    const enter = this.open ? "" : "\u001b[?1049h\u001b[?25l";
    this.open = true;
    // Each line clears its own rest and the last one the rest below: no flicker, and a smaller window leaves nothing over.
    this.output.write(`${enter}\u001b[H${lines.map((line) => `${line}\u001b[K`).join("\r\n")}\u001b[J`);
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    this.output.write("\u001b[?25h\u001b[?1049l");
  }
}

const REDRAW_MS = 500;
const SUMMARY_MS = 5_000;

/** Draws `view()` twice a second on a terminal; elsewhere prints events at once and a summary every 5 s. */
export class LiveView {
  private readonly clock: Clock;
  private readonly output: Output;
  private readonly view: () => ViewModel;
  private readonly screen: Screen | null;
  private readonly colour: boolean;
  private timer: Timer | null = null;

  constructor(clock: Clock, output: Output, options: { readonly colour: boolean; readonly view: () => ViewModel }) {
    this.clock = clock;
    this.output = output;
    this.view = options.view;
    this.colour = options.colour;
    this.screen = output.isTTY === true ? new Screen(output) : null;
  }

  start(): void {
    this.redraw();
  }

  /** Also when the terminal has changed its size. */
  redraw(): void {
    this.timer?.cancel();
    const view = this.view();
    if (this.screen !== null) {
      this.screen.draw(
        renderView(view, { columns: this.output.columns || 80, rows: this.output.rows || 24, colour: this.colour }),
      );
    } else {
      this.output.write(`${clockText(view.elapsedMs)}  ${summaryLine(view)}\n`);
    }
    this.timer = this.clock.setTimer(this.screen === null ? SUMMARY_MS : REDRAW_MS, () => this.redraw());
  }

  event(event: SiteEvent): void {
    if (this.screen === null) this.output.write(`${clockText(event.atMs)}  ${event.text}\n`);
  }

  stop(): void {
    this.timer?.cancel();
    this.screen?.close();
  }
}

/** "router: mux-1 announces 203.0.113.10" */
export function routerEventText(event: RouterEvent): string {
  switch (event.kind) {
    case "route-added":
      return `router: ${event.mux} announces ${event.vip}`;
    case "route-withdrawn":
      return `router: ${event.mux} withdraws ${event.vip}`;
    case "hold-expired":
      return `router: ${event.mux} silent for the hold time, ${event.routes} routes removed`;
    default:
      return assertNever(event);
  }
}
