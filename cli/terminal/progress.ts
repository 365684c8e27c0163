/** A line on standard error that says what is being waited for, while it is waited for. Only for people: on a terminal. */
import type { Timer } from "../../runtime/env.js";
import type { Shell } from "./shell.js";

/** Quick commands stay quiet. */
const QUIET_MS = 600;
const REDRAW_MS = 1_000;

export interface Progress {
  /** Shows `text`, with the seconds since the program started, once that has taken long. Replaces the text before. */
  show(text: string): void;
  clear(): void;
}

const CLEAR_LINE = "\r\x1b[K";

export function createProgress({ env, err }: Pick<Shell, "env" | "err">): Progress {
  if (!err.isTty) return { show: () => undefined, clear: () => undefined };
  const { clock } = env;
  const startMs = clock.nowMs();
  let timer: Timer | null = null;
  let wanted = "";
  let isShown = false;
  const draw = (): void => {
    timer?.cancel();
    timer = clock.setTimer(REDRAW_MS, draw);
    isShown = true;
    err.write(`${CLEAR_LINE}${wanted} ... ${Math.floor((clock.nowMs() - startMs) / 1_000)} s`);
  };
  return {
    show: (text) => {
      wanted = text;
      if (isShown) draw();
      else timer ??= clock.setTimer(Math.max(0, startMs + QUIET_MS - clock.nowMs()), draw);
    },
    clear: () => {
      timer?.cancel();
      timer = null;
      if (isShown) err.write(CLEAR_LINE);
      isShown = false;
    },
  };
}
