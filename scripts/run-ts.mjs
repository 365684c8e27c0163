// Lets Node run the sources as they are: `node --import ./scripts/run-ts.mjs test/sim/main.ts`. Types are taken off while a
// file is loaded; the result is kept under .ananta/ by content, so that the next start costs nothing.
import { register } from "node:module";

register("./run-ts-hooks.mjs", import.meta.url);
