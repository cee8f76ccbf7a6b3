/** Angle histograms as a drawing: a row of panels for keys and one for values, a panel a level. */

import { ROLES, type Role } from '../plan/index.ts';
import {
  type AngleHistogram,
  BINS,
  distance,
  expectedShares,
  observedShares,
} from './histogram.ts';

const PANEL = { width: 180, height: 110, gapX: 24, gapY: 56 };
const MARGIN = { left: 64, top: 64, right: 24, bottom: 36 };

const STYLE = `
    .page { fill: #ffffff; }
    .measured { fill: #7aa6d8; }
    .density { fill: none; stroke: #b3541e; stroke-width: 1.5; }
    .axis { stroke: #8a8a8a; stroke-width: 1; }
    text { fill: #24292f; font: 11px system-ui, sans-serif; }
    .title { font-size: 14px; font-weight: 600; }
    .note { fill: #57606a; }
    @media (prefers-color-scheme: dark) {
      .page { fill: #0d1117; }
      .measured { fill: #3f6ea5; }
      .density { stroke: #f0a35e; }
      .axis { stroke: #6e7681; }
      text { fill: #e6edf3; }
      .note { fill: #9da7b3; }
    }
`;

/**
 * @param title what was measured, one line
 * @param histograms of keys and of values, a level each
 * @returns a complete SVG document, legible on light and dark grounds
 */
export function histogramSvg(
  title: string,
  histograms: Readonly<Record<Role, readonly AngleHistogram[]>>,
): string {
  const levels = Math.max(...ROLES.map((role) => histograms[role].length));
  const width = MARGIN.left + levels * (PANEL.width + PANEL.gapX) - PANEL.gapX + MARGIN.right;
  const height =
    MARGIN.top + ROLES.length * (PANEL.height + PANEL.gapY) - PANEL.gapY + MARGIN.bottom;
  const panels = ROLES.flatMap((role, row) => {
    const y = MARGIN.top + row * (PANEL.height + PANEL.gapY);
    const label = `<text x="12" y="${y + PANEL.height / 2}">${role}s</text>`;
    return [
      label,
      ...histograms[role].map((histogram, column) =>
        panel(histogram, MARGIN.left + column * (PANEL.width + PANEL.gapX), y),
      ),
    ];
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">
  <title>${escapeText(title)}</title>
  <style>${STYLE}  </style>
  <rect class="page" width="${width}" height="${height}"/>
  <text class="title" x="12" y="24">${escapeText(title)}</text>
  <text class="note" x="12" y="42">bars: measured angles · line: the density that the codebook assumes</text>
${panels.map((line) => `  ${line}`).join('\n')}
</svg>
`;
}

function panel(histogram: AngleHistogram, x: number, y: number): string {
  const measured = observedShares(histogram);
  const expected = expectedShares(histogram.level);
  const most = Math.max(...measured, ...expected);
  const step = PANEL.width / BINS;
  const top = (share: number) => y + PANEL.height * (1 - share / most);
  const base = y + PANEL.height;
  const bars = Array.from(measured, (share, bin) => {
    const left = (x + bin * step).toFixed(2);
    return `M${left} ${base}V${top(share).toFixed(2)}h${step.toFixed(2)}V${base}`;
  }).join('');
  const line = Array.from(expected, (share, bin) => {
    const centre = (x + (bin + 0.5) * step).toFixed(2);
    return `${bin === 0 ? 'M' : 'L'}${centre} ${top(share).toFixed(2)}`;
  }).join('');
  const end = histogram.level === 1 ? '2π' : 'π/2';
  const apart = (100 * distance(measured, expected)).toFixed(1);
  return [
    `<path class="measured" d="${bars}"/>`,
    `<path class="density" d="${line}"/>`,
    `<path class="axis" d="M${x} ${base}h${PANEL.width}"/>`,
    `<text x="${x}" y="${y - 6}">level ${histogram.level}</text>`,
    `<text class="note" x="${x + PANEL.width}" y="${y - 6}" text-anchor="end">${apart} % apart</text>`,
    `<text class="note" x="${x}" y="${base + 14}">0</text>`,
    `<text class="note" x="${x + PANEL.width}" y="${base + 14}" text-anchor="end">${end}</text>`,
  ].join('\n  ');
}

function escapeText(text: string): string {
  return text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
}
