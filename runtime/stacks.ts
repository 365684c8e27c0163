/**
 * Stack traces in terms of the sources, but only for those that somebody reads.
 *
 * With --enable-source-maps Node maps every stack whose text is asked for, and reads and parses the source map of each file in
 * it the first time. grpc-js asks for the text of one stack for each call that fails, and throws it away: the first failed
 * calls of a process then cost 50 ms of its only thread, in the very moment in which a leader has died. So mapping is off,
 * and switched on for the one stack that is printed: V8 puts a stack into words when it is first read.
 */

/** Call once, at the start of a process. */
export function mapStacksOnDemand(): void {
  if (mapped) process.setSourceMapsEnabled(false);
}

/** The stack of an error that goes to a log or a terminal. */
export function stackOf(error: Error): string | undefined {
  if (!mapped) return error.stack;
  process.setSourceMapsEnabled(true);
  try {
    return error.stack;
  } finally {
    process.setSourceMapsEnabled(false);
  }
}

/** Without the flag no source map was kept when modules were loaded, and there is nothing to switch on. */
const mapped = process.execArgv.includes("--enable-source-maps");
