/** A line on standard error that says what is being waited for, while it is waited for. Only for people: on a terminal. */
import type { Timer } from "../runtime/env.js";
import type { Shell } from "./shell.js";

/** Quick commands stay quiet. */
const QUIET_MS = 600;

export interface Progress {
  /** Shows `text` once something has taken long; replaces the text shown before. */
  show(text: string): void;
  clear(): void;
}

const CLEAR_LINE = "\r\x1b[K";

export function createProgress({ env, err }: Shell): Progress {
  if (!err.isTty) return { show: () => undefined, clear: () => undefined };
  const startMs = env.clock.nowMs();
  let timer: Timer | null = null;
  let wanted = "";
  let isShown = false;
  const draw = (): void => {
    timer = null;
    isShown = true;
    err.write(`${CLEAR_LINE}${wanted} ...`);
  };
  return {
    show: (text) => {
      wanted = text;
      if (isShown) draw();
      else timer ??= env.clock.setTimer(Math.max(0, startMs + QUIET_MS - env.clock.nowMs()), draw);
    },
    clear: () => {
      timer?.cancel();
      timer = null;
      if (isShown) err.write(CLEAR_LINE);
      isShown = false;
    },
  };
}
