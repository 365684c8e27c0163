// Lets Node run the sources as they are: `node --import ./scripts/run-ts.mjs test/sim/main.ts`. Types are taken off while a
// file is loaded; the result is kept under .ananta/ by content, so that the next start costs nothing.
//
// ANANTA_MUTANT names a JSON file of replacements ([{file, find, replace}]) made in memory before that: planted mistakes
// for testing the tests. The sources on disk never change, and nothing of the product knows of it.
import { register } from "node:module";

register("./run-ts-hooks.mjs", import.meta.url);
