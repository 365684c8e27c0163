/** Ports as operators write them: "8080", or "50000-50099" with both ends. */

export interface PortSpan {
  readonly first: number;
  readonly last: number;
  readonly count: number;
}

/** Null when `text` is no port or range of ports in 1..65535. */
export function parsePorts(text: string): PortSpan | null {
  const match = /^([1-9][0-9]{0,4})(?:-([1-9][0-9]{0,4}))?$/.exec(text);
  if (match === null) return null;
  const first = Number(match[1]);
  const last = Number(match[2] ?? match[1]);
  return last > 65_535 || first > last ? null : { first, last, count: last - first + 1 };
}

/** For what was checked before it was stored. */
export function portsIn(text: string): PortSpan {
  return parsePorts(text) ?? { first: 0, last: -1, count: 0 };
}
