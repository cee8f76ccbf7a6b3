/** Numbers as text for the sources of kernels. Views hold such text only, never numbers. */

/**
 * The shortest decimal literal that is exactly this float32 value, for example `0.5f`, `1.0f`, `-2.5e-08f`.
 * Throws when `value` is not a finite float32.
 */
export function floatLiteral(value: number, suffix = 'f'): string {
  if (!Number.isFinite(value) || Math.fround(value) !== value) {
    throw new Error(`${value} is not a finite float32 value`);
  }
  if (Object.is(value, -0)) return `-0.0${suffix}`;
  if (value === 0) return `0.0${suffix}`;
  for (let digits = 1; digits <= 9; digits++) {
    const decimal = Number(value.toPrecision(digits));
    if (roundsTo(decimal, value)) return `${decimalText(decimal)}${suffix}`;
  }
  throw new Error(`no decimal of nine digits is ${value}`);
}

/**
 * Whether a compiler that rounds `decimal` to float32 once gets `value`, although the double nearest to it was rounded
 * here: so do the decimals a little below and above.
 */
function roundsTo(decimal: number, value: number): boolean {
  return [1 - 2 ** -50, 1, 1 + 2 ** -50].every((by) => Math.fround(decimal * by) === value);
}

function decimalText(decimal: number): string {
  const magnitude = Math.abs(decimal);
  if (magnitude >= 1e-4 && magnitude < 1e7) {
    const text = String(decimal);
    return text.includes('.') ? text : `${text}.0`;
  }
  const [mantissa, exponent] = decimal.toExponential().split('e') as [string, string];
  const sign = exponent.startsWith('-') ? '-' : '+';
  return `${mantissa}e${sign}${exponent.slice(1).padStart(2, '0')}`;
}

/** A whole number: `-12`. Throws for what is none or cannot be exact. */
export function intLiteral(value: number): string {
  if (!Number.isSafeInteger(value)) throw new Error(`${value} is not a whole number`);
  return String(value + 0);
}

/** `0x0000ffffu`: `digits` hexadecimal digits of a whole number from 0 to 2^32 − 1. */
export function hexLiteral(value: number, digits = 8, suffix = 'u'): string {
  if (!Number.isSafeInteger(value) || value < 0 || value >= 16 ** digits) {
    throw new Error(`${value} is not a whole number of ${digits} hexadecimal digits`);
  }
  return `0x${value.toString(16).padStart(digits, '0')}${suffix}`;
}

/**
 * Items as the body of an array: joined by commas, broken into lines of at most `width` columns, every line (the first
 * too) behind `indent`. The mustache that prints it stands at column 0.
 */
export function wrapList(items: readonly string[], indent = '  ', width = 100): string {
  const lines: string[] = [];
  let line = '';
  items.forEach((item, i) => {
    const text = i + 1 < items.length ? `${item},` : item;
    if (line !== '' && indent.length + line.length + 1 + text.length > width) {
      lines.push(indent + line);
      line = '';
    }
    line = line === '' ? text : `${line} ${text}`;
  });
  if (line !== '') lines.push(indent + line);
  return lines.join('\n');
}

/** `wrapList` over float literals. */
export function floatList(values: readonly number[], indent = '  ', width = 100): string {
  return wrapList(
    values.map((value) => floatLiteral(value)),
    indent,
    width,
  );
}

/** `wrapList` over whole numbers. */
export function intList(values: readonly number[], indent = '  ', width = 100): string {
  return wrapList(values.map(intLiteral), indent, width);
}

/** `12u`: an unsigned whole number. */
export const u32 = (value: number): string => `${value}u`;

/** `wrapList` over unsigned whole numbers. */
export const wordEntries = (values: readonly number[]): string => wrapList(values.map(u32));

/** A text of '0' and '1' as unsigned words: character i is bit i mod 32 of word ⌊i / 32⌋. */
export function bitWords(text: string): string {
  const words = new Array<number>(Math.ceil(text.length / 32)).fill(0);
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '1') words[i >> 5] = (words[i >> 5]! | (1 << (i & 31))) >>> 0;
  }
  return wordEntries(words);
}
