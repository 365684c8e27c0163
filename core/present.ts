/** Records with fields that may be absent: absent is absent, never present with undefined or null. */

type Given<Fields> = { [Name in keyof Fields]?: NonNullable<Fields[Name]> };

/** The fields that have a value. Fixed order: that of `fields`. */
export function given<const Fields extends Readonly<Record<string, unknown>>>(fields: Fields): Given<Fields> {
  const out: Record<string, unknown> = {};
  for (const name of Object.keys(fields)) {
    const value = fields[name];
    if (value !== undefined && value !== null) out[name] = value;
  }
  return out as Given<Fields>;
}
