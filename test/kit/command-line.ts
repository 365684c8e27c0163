/** Options of the programs that `npm run` starts from the tests: help is answered, a mistake is told in a line. Both end the process. */
import { parseArgs, type ParseArgsConfig } from "node:util";

type Options = NonNullable<ParseArgsConfig["options"]>;

/** `usage`: what --help prints, and what a mistake points to. */
export function commandLine<const T extends Options>(usage: string, options: T) {
  try {
    const { values } = parseArgs({ options: { ...options, help: { type: "boolean", short: "h" } } });
    if ((values as { readonly help?: boolean }).help !== true) return values;
    process.stdout.write(`${usage}\n`);
    return process.exit(0);
  } catch (caught) {
    const [message = ""] = (caught as Error).message.split(". To specify"); // parseArgs goes on about positional arguments
    process.stderr.write(`ananta: ${message}; --help lists all options\n`);
    return process.exit(2);
  }
}
