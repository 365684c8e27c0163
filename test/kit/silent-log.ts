/** A log that nobody reads. */
import type { Log } from "../../runtime/env.js";

const nothing = (): void => undefined;

export const silentLog: Log = { debug: nothing, info: nothing, warn: nothing, error: nothing, with: () => silentLog };
