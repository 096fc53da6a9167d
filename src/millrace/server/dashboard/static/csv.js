// Reads CSV as RFC 4180 has it: commas, semicolons or tabs, whichever the first line uses most.

/**
 * The rows below the header, each as a record by the header's names (small letters).
 * @param {string} text
 * @returns {Record<string, string>[]}
 */
export function records(text) {
  const [head, ...rows] = cells(text.replace(/^\ufeff/, ""));
  if (!head) throw new Error("The CSV is empty.");
  const names = head.map((name) => name.trim().toLowerCase());
  return rows
    .filter((row) => row.some((cell) => cell.trim()))
    .map((row, n) => {
      if (row.length > names.length) throw new Error(`Line ${n + 2} has ${row.length} values for ${names.length} columns.`);
      return Object.fromEntries(names.map((name, column) => [name, (row[column] ?? "").trim()]));
    });
}

/**
 * @param {string} text
 * @returns {string[][]}
 */
function cells(text) {
  const first = text.split(/\r?\n/, 1)[0] ?? "";
  const counts = [",", ";", "\t"].map((mark) => first.split(mark).length);
  const mark = [",", ";", "\t"][counts.indexOf(Math.max(...counts))] ?? ",";
  /** @type {string[][]} */
  const rows = [];
  let row = [];
  let cell = "";
  let quoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const char = text[at];
    if (quoted) {
      if (char !== '"') cell += char;
      else if (text[at + 1] === '"') {
        cell += '"';
        at += 1;
      } else quoted = false;
    } else if (char === '"' && !cell) quoted = true;
    else if (char === mark) {
      row.push(cell);
      cell = "";
    } else if (char === "\n" || char === "\r") {
      if (char === "\r" && text[at + 1] === "\n") at += 1;
      rows.push([...row, cell]);
      row = [];
      cell = "";
    } else cell += char;
  }
  if (quoted) throw new Error("The CSV ends inside a quoted value.");
  if (cell || row.length) rows.push([...row, cell]);
  return rows;
}
