/** C++ initialisers as text. */

import { floatLiteral } from '../../generator/target/index.ts';

const COLUMNS = 98;
/** The longest declaration that stands before an initialiser on its line. */
const LEAD = 64;

/** `{a, b, c}`, over several lines of its own when one does not hold it behind a declaration. */
export function initialiser(items: readonly string[]): string {
  const flat = `{${items.join(', ')}}`;
  if (LEAD + flat.length < COLUMNS) return flat;
  const lines: string[] = [];
  let line = '   ';
  for (const item of items) {
    if (line.length + item.length + 2 > COLUMNS) {
      lines.push(line);
      line = '   ';
    }
    line += ` ${item},`;
  }
  lines.push(line);
  return `{\n${lines.join('\n')}\n}`;
}

/** Floats as they are. */
export function floats(values: readonly number[]): string {
  return initialiser(values.map((value) => floatLiteral(value)));
}

/** Floats of a look-up table, repeated until they fill a register of eight. */
export function floatTable(values: readonly number[]): string {
  const length = Math.max(8, values.length);
  return floats(Array.from({ length }, (_, i) => values[i % values.length]!));
}

/**
 * Sorted thresholds, 2^k − 1 of them, in the order in which a binary search meets them: its step s compares with entry
 * 2^s − 1 + (the number found so far).
 */
export function searchOrder(sorted: readonly number[]): number[] {
  const order: number[] = [];
  for (let step = 1; step <= sorted.length; step *= 2) {
    const span = (sorted.length + 1) / step;
    for (let i = 0; i < step; i++) order.push(sorted[span * i + span / 2 - 1]!);
  }
  return order;
}
