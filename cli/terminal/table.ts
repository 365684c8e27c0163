/** Borderless columns as kubectl writes them: padded by the widest cell, three spaces apart, nothing after the last. */

export type Style = "good" | "bad" | "dim" | "bold";
export type Cell = string | number | { readonly text: string; readonly style: Style };
export type Paint = (style: Style, text: string) => string;

const GAP = "   ";

const textOf = (cell: Cell): string => {
  const text = typeof cell === "object" ? cell.text : String(cell);
  return text === "" ? "<none>" : text;
};

export interface Table {
  /** Lines with their line ends, header first unless `header` is false. */
  render(rows: readonly (readonly Cell[])[], options?: { readonly header?: boolean }): string;
}

/** Keeps the widths of earlier calls, so that rows written later still line up (`get --watch`). */
export function createTable(header: readonly string[], paint: Paint): Table {
  const widths = header.map((title) => title.length);
  const line = (cells: readonly Cell[]): string => {
    const padded = cells.map((cell, column) => {
      const text = textOf(cell);
      const painted = typeof cell === "object" ? paint(cell.style, text) : text;
      return column === cells.length - 1
        ? painted
        : painted + " ".repeat(Math.max(0, (widths[column] ?? 0) - text.length));
    });
    return `${padded.join(GAP).trimEnd()}\n`;
  };
  return {
    render: (rows, options = {}) => {
      for (const row of rows)
        row.forEach((cell, column) => (widths[column] = Math.max(widths[column] ?? 0, textOf(cell).length)));
      return (options.header === false ? "" : line(header)) + rows.map(line).join("");
    },
  };
}

/** "Name:   web", values in one column. */
export function renderFields(fields: readonly (readonly [string, Cell])[], paint: Paint): string {
  const width = Math.max(...fields.map(([title]) => title.length)) + 1;
  return fields
    .map(([title, cell]) => {
      const text = textOf(cell);
      return `${`${title}:`.padEnd(width)}  ${typeof cell === "object" ? paint(cell.style, text) : text}\n`;
    })
    .join("");
}

export const indent = (text: string): string => text.replaceAll(/^(?=.)/gm, "  ");
