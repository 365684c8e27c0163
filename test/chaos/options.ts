/** The arguments of `npm run chaos`. */
export interface Options {
  readonly minutes: number;
  readonly seed: number;
  /** Where the history and the pages are written. */
  readonly out: string;
  readonly portsFrom: number;
}

export function parseOptions(
  args: readonly string[],
  drawnSeed: number,
): Options | "help" | { readonly problem: string } {
  let options: Options = { minutes: 3, seed: drawnSeed, out: ".ananta/chaos", portsFrom: 24_000 };
  for (let at = 0; at < args.length; at++) {
    const [name = "", inline] = (args[at] ?? "").split(/=(.*)/s);
    if (name === "--help" || name === "-h") return "help";
    if (!["--minutes", "--seed", "--out", "--ports-from"].includes(name))
      return { problem: `unknown option ${name}; --help lists all` };
    const text = inline ?? args[++at] ?? "";
    const value = Number(text);
    if (name === "--out") {
      if (text === "") return { problem: "--out needs a folder, for example --out /tmp/chaos" };
      options = { ...options, out: text };
    } else if (name === "--minutes") {
      if (!/^[0-9]+(\.[0-9]+)?$/.test(text) || value < 0.1 || value > 1_440)
        return { problem: `--minutes needs a number in 0.1..1440, not "${text}"` };
      options = { ...options, minutes: value };
    } else {
      const [min, max] = name === "--seed" ? [0, 0xffffffff] : [1_024, 32_000];
      if (!/^[0-9]+$/.test(text) || value < min || value > max)
        return { problem: `${name} needs a whole number in ${min}..${max}, not "${text}"` };
      options = name === "--seed" ? { ...options, seed: value } : { ...options, portsFrom: value };
    }
  }
  return options;
}
