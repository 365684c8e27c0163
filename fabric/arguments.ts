/** [pure] The arguments of `npm start`: few, so they are read here without a library. */
import { type LocatorFamily, PORT_BASE_DEFAULT, PORT_SPAN } from "./site.js";
import type { EcmpMode } from "./router-model.js";

export interface Arguments {
  readonly demo: boolean;
  readonly restart: boolean;
  readonly portBase: number;
  /** Null: `.ananta` here, or for the demo a fresh folder that is removed afterwards. */
  readonly dataFolder: string | null;
  readonly ecmp: EcmpMode;
  /** Of the outer headers between MUXes and hosts. */
  readonly locators: LocatorFamily;
  /** Flows per direction of the demo. */
  readonly flows: number;
}

/** A problem is one line for the user. */
export function parseArguments(args: readonly string[]): Arguments | "help" | { readonly problem: string } {
  let demo = false;
  let restart = true;
  let portBase = PORT_BASE_DEFAULT;
  let dataFolder: string | null = null;
  let ecmp: EcmpMode = "plain";
  let locators: LocatorFamily = "ipv4";
  let flows = 1_000;
  for (let at = 0; at < args.length; at++) {
    const [name = "", inline] = (args[at] ?? "").split(/=(.*)/s);
    const value = (): string | undefined => inline ?? args[++at];
    const number = (min: number, max: number): number | null => {
      const text = value() ?? "";
      return /^[0-9]+$/.test(text) && Number(text) >= min && Number(text) <= max ? Number(text) : null;
    };
    if (name === "--help" || name === "-h") return "help";
    if (name === "--demo") demo = true;
    else if (name === "--no-restart") restart = false;
    else if (name === "--data") {
      const folder = value();
      if (folder === undefined || folder === "")
        return { problem: "--data needs a folder, for example --data /tmp/ananta" };
      dataFolder = folder;
    } else if (name === "--port-base") {
      const base = number(1_024, 65_535 - PORT_SPAN);
      if (base === null)
        return {
          problem: `--port-base needs a number in 1024..${65_535 - PORT_SPAN}, for example --port-base ${PORT_BASE_DEFAULT}`,
        };
      portBase = base;
    } else if (name === "--flows") {
      const count = number(1, 10_000);
      if (count === null) return { problem: "--flows needs a number in 1..10000, for example --flows 1000" };
      flows = count;
    } else if (name === "--ecmp") {
      const mode = value();
      if (mode !== "plain" && mode !== "resilient") return { problem: "--ecmp needs plain or resilient" };
      ecmp = mode;
    } else if (name === "--locators") {
      const family = value();
      if (family !== "ipv4" && family !== "ipv6") return { problem: "--locators needs ipv4 or ipv6" };
      locators = family;
    } else return { problem: `unknown option ${name}; --help lists all` };
  }
  return { demo, restart, portBase, dataFolder, ecmp, locators, flows };
}
