const COLUMNS = 100;

/** A cache's name counts as this long: the user chooses it, the template does not. */
const NAME = 10;

/**
 * What every emitted text keeps to: LF, no tab, no space at the end of a line, one line break at the end of the file,
 * at most 100 columns. Throws an Error that names the template's fault; a test calls it over the spec space.
 */
export function lint(path: string, text: string, name: string): void {
  const fail = (line: number, what: string): never => {
    throw new Error(`emitted ${path}, line ${line}: ${what}`);
  };
  const lines = text.split('\n');
  if (!text.endsWith('\n')) fail(lines.length, 'no line break at the end');
  if (text.endsWith('\n\n')) fail(lines.length - 1, 'an empty line at the end');
  lines.forEach((line, i) => {
    if (line.includes('\r')) fail(i + 1, 'a carriage return');
    if (line.includes('\t')) fail(i + 1, 'a tab');
    if (/\s$/.test(line)) fail(i + 1, 'a space at the end');
    const columns = [...line.replaceAll(name, name.slice(0, NAME))].length;
    if (columns > COLUMNS) fail(i + 1, `${columns} columns: ${line}`);
  });
}
