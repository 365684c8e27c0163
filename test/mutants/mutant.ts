/** A planted mistake: one text of one source file replaced by another. */
export interface Mutant {
  /** Short, unique, kebab-case. */
  readonly name: string;
  readonly file: string;
  /** There exactly once. */
  readonly find: string;
  readonly replace: string;
  /** What is promised no more. */
  readonly breaks: string;
  /** Who is asked, in this order, until one finds it: "sim", or test files. */
  readonly killers: readonly ("sim" | `test/${string}.test.ts`)[];
}

/** The source with the mistake in it; throws when it no longer finds its place. */
export function planted({ name, file, find, replace }: Mutant, source: string): string {
  const at = source.indexOf(find);
  const again = at < 0 ? -1 : source.indexOf(find, at + 1);
  if (at < 0 || again >= 0)
    throw new Error(
      `mutant ${name}: what it replaces in ${file} is there ${at < 0 ? "no more" : "more than once"}; write it anew`,
    );
  return source.slice(0, at) + replace + source.slice(at + find.length);
}
