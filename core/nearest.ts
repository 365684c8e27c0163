/** "Did you mean": for words that people type. */

/**
 * The name that was probably meant, or null when none is near: at most two edits, and fewer than half of the letters. The
 * beginning of a name, "prot", is as near as one edit.
 */
export function nearest(word: string, names: readonly string[]): string | null {
  const plain = (text: string): string => text.toLowerCase().replaceAll(/[-_ ]/g, "");
  let best: string | null = null;
  let bestEdits = Math.min(3, Math.ceil(plain(word).length / 2));
  for (const name of names) {
    const isBeginning = word.length >= 3 && plain(name).startsWith(plain(word));
    const edits = Math.min(isBeginning ? 1 : Infinity, editDistance(plain(word), plain(name)));
    if (edits < bestEdits) {
      best = name;
      bestEdits = edits;
    }
  }
  return best;
}

/** Insertions, deletions, replacements and swaps of neighbours (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const isSame = a[row - 1] === b[column - 1];
      let edits = Math.min(last[column]! + 1, current[column - 1]! + 1, last[column - 1]! + (isSame ? 0 : 1)); // filled above
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]) {
        edits = Math.min(edits, beforeLast[column - 2]! + 1);
      }
      current.push(edits);
    }
    beforeLast = last;
    last = current;
  }
  return last[b.length] ?? 0;
}
