/** C++ literals and initialisers as text: exact, and wrapped at 100 columns. */

/** The shortest decimal that reads back as the same float32, with its suffix. */
export function floatLiteral(value: number): string {
  if (Math.fround(value) !== value) throw new Error(`${value} is not a float32`);
  for (let digits = 1; digits <= 9; digits++) {
    const text = String(Number(value.toPrecision(digits)));
    if (Math.fround(Number(text)) === value) return /[.e]/.test(text) ? `${text}f` : `${text}.0f`;
  }
  throw new Error(`${value} has no decimal of nine digits`);
}

/** `{a, b, c}`; more than one line's worth goes to lines of its own. `lead` is the width of what stands before. */
export function initialiser(items: readonly string[], lead = 44): string {
  const flat = `{${items.join(', ')}}`;
  if (flat.length + lead < 98) return flat;
  const lines: string[] = [];
  let line = '   ';
  for (const item of items) {
    if (line.length + item.length + 2 > 98) {
      lines.push(line);
      line = '   ';
    }
    line += ` ${item},`;
  }
  lines.push(line);
  return `{\n${lines.join('\n')}\n}`;
}

/** A table of floats, repeated until it fills a register of eight. */
export function floatTable(values: readonly number[]): string {
  const items = values.map(floatLiteral);
  const filled = items.length >= 8 ? items : Array.from({ length: 8 }, (_, i) => items[i % items.length]!);
  return initialiser(filled);
}

/** Sorted thresholds in the order a binary search visits them: its step s compares with entry 2^s − 1 + (codes so far). */
export function searchOrder<T>(sorted: readonly T[]): T[] {
  const order: T[] = [];
  for (let step = 1; step <= sorted.length; step *= 2) {
    const half = (sorted.length + 1) / (2 * step);
    for (let i = 0; i < step; i++) order.push(sorted[half * (2 * i + 1) - 1]!);
  }
  return order;
}
