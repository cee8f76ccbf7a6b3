/** Figures and angle histograms as text for a terminal. */

import type { Role } from '../plan/index.ts';
import { type AngleHistogram, distance, expectedShares, observedShares } from './histogram.ts';
import type { Figures } from './types.ts';

export interface ReportRow {
  readonly layer: number;
  readonly mean: Figures;
  /** Standard deviation over seeds relative to the mean. */
  readonly spread: Figures;
}

const COLUMNS = [
  { title: 'key error', of: (f: Figures) => f.keyError },
  { title: 'value error', of: (f: Figures) => f.valueError },
  { title: 'score MSE', of: (f: Figures) => f.scoreMse },
  { title: 'output error', of: (f: Figures) => f.outputError },
] as const;

/** One line a layer; with several seeds each figure is followed by its relative spread. */
export function figuresTable(rows: readonly ReportRow[], seeds: number): string {
  const head = ['layer', ...COLUMNS.map((column) => column.title)];
  const body = rows.map(({ layer, mean, spread }) => [
    String(layer),
    ...COLUMNS.map(({ of }) => {
      const figure = of(mean).toPrecision(4);
      return seeds === 1 ? figure : `${figure} ±${(100 * of(spread)).toFixed(1)}%`;
    }),
  ]);
  const lines = [head, ...body];
  const widths = head.map((_, i) => Math.max(...lines.map((line) => line[i]!.length)));
  return lines
    .map((line) => line.map((cell, i) => cell.padStart(widths[i]!)).join('  '))
    .join('\n');
}

const BARS = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'] as const;

/** Two lines a level: the measured angles and the density that the codebook assumes, to one scale. */
export function histogramText(role: Role, histograms: readonly AngleHistogram[]): string {
  const lines = [`angles of preconditioned ${role}s: measured, and the density assumed`];
  for (const histogram of histograms) {
    const measured = observedShares(histogram);
    const expected = expectedShares(histogram.level);
    const most = Math.max(...measured, ...expected);
    const apart = (100 * distance(measured, expected)).toFixed(1);
    lines.push(`  level ${histogram.level}  ${bars(measured, most)}  ${apart} % apart`);
    lines.push(`           ${bars(expected, most)}`);
  }
  return lines.join('\n');
}

function bars(shares: Float64Array, most: number): string {
  return Array.from(shares, (share) => {
    const step = Math.min(BARS.length - 1, Math.floor((share / most) * BARS.length));
    return share === 0 ? ' ' : BARS[step]!;
  }).join('');
}
