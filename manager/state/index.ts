/** What the rest of the Manager builds from this folder; types are imported from the files that define them. */
export { type InspectableStateMachine, createStateMachine } from "./create-state-machine.js";
export { decodeBatch, encodeBatch } from "./commands/command-codec.js";
