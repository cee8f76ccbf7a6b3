const SHOWN = 4;
const COLUMNS = 100;

/** Where a file on disk first and last differs from what would be written: at most four lines of each, numbered. */
export function shortDiff(disk: Uint8Array, content: string | Uint8Array): string {
  if (typeof content !== 'string')
    return `  ${disk.length} bytes on disk, ${content.length} generated`;
  const before = Buffer.from(disk).toString('utf8').split('\n');
  const after = content.split('\n');
  const least = Math.min(before.length, after.length);
  let start = 0;
  while (start < least && before[start] === after[start]) start++;
  let end = 0;
  while (end < least - start && before.at(-1 - end) === after.at(-1 - end)) end++;
  return [
    `  line ${start + 1}`,
    ...some('-', before.slice(start, before.length - end)),
    ...some('+', after.slice(start, after.length - end)),
  ].join('\n');
}

function some(mark: string, lines: readonly string[]): string[] {
  const shown = lines.slice(0, SHOWN).map((line) => `  ${mark} ${line.slice(0, COLUMNS)}`);
  const rest = lines.length - shown.length;
  return rest > 0 ? [...shown, `  ${mark} … ${rest} more`] : shown;
}
