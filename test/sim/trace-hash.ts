/** FNV-1a, 32 bits: enough to see that two runs of a seed differ. */
export function hashText(text: string, from = 0x811c9dc5): number {
  let hash = from;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  return hash >>> 0;
}

/** The same over a plain value: its fields in the order in which they were made, bytes, numbers and texts. */
export function hashValue(value: unknown, from = 0x811c9dc5): number {
  switch (typeof value) {
    case "string":
      return hashText(value, from ^ 1);
    case "number":
      return Number.isInteger(value) && Math.abs(value) < 2 ** 31
        ? Math.imul(from ^ value, 0x01000193)
        : hashText(String(value), from ^ 2);
    case "object": {
      if (value === null) return Math.imul(from ^ 3, 0x01000193);
      let hash = Math.imul(from ^ 4, 0x01000193);
      if (value instanceof Uint8Array) {
        for (const byte of value) hash = Math.imul(hash ^ byte, 0x01000193);
      } else if (Array.isArray(value)) {
        for (const item of value) hash = hashValue(item, hash);
      } else for (const key in value) hash = hashValue((value as Record<string, unknown>)[key], hashText(key, hash));
      return Math.imul(hash ^ 5, 0x01000193) >>> 0;
    }
    default:
      return hashText(String(value), from ^ 6);
  }
}
