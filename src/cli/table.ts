/** Rows for people: columns as wide as their widest cell. It does not know what is in them. */

/** `columns`: heading and how to show a row there. An empty list prints `nothing`. */
export function table<T>(
  rows: readonly T[],
  columns: Readonly<Record<string, (row: T) => string>>,
  nothing: string,
): string {
  if (rows.length === 0) return nothing;
  const headings = Object.keys(columns);
  const cells = [headings, ...rows.map((row) => Object.values(columns).map((show) => show(row)))];
  const widths = headings.map((_, at) => Math.max(...cells.map((line) => line[at]?.length ?? 0)));
  return cells
    .map((line) =>
      line
        .map((cell, at) => cell.padEnd(widths[at] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
