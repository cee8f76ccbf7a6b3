/** Charts as inline SVG; colours come from the style sheet. */

import { BINS, density } from './figures.js';

const SVG = 'http://www.w3.org/2000/svg';

function draw(name, attributes, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
  node.append(...children);
  return node;
}

const WIDTH = 320;
const LEFT = 1;
const RIGHT = WIDTH - 1;
const TOP = 6;
const BASE = 112;
const HEIGHT = 146;
const STEPS = 192;

const round = (x) => Math.round(x * 100) / 100;

/**
 * Measured angles as bars, the density that the codebook assumes as a line over them, the codebook's angles as ticks
 * below.
 */
export function histogramChart({ level, range, counts, total }, angles, label) {
  const expected = density(level);
  const width = range / BINS;
  const measured = [...counts].map((count) => count / total / width);
  const curve = Array.from({ length: STEPS + 1 }, (_, i) => (range * i) / STEPS);
  const most = Math.max(...measured, ...curve.map(expected)) * (level === 1 ? 1.3 : 1.04);
  const x = (angle) => round(LEFT + ((RIGHT - LEFT) * angle) / range);
  const y = (value) => round(BASE - ((BASE - TOP) * value) / most);

  const bars = draw('g', { class: 'bars' });
  measured.forEach((value, bin) => {
    if (value === 0) return;
    const from = x(bin * width);
    bars.append(
      draw('rect', {
        x: round(from + 0.5),
        y: y(value),
        width: round(x((bin + 1) * width) - from - 1),
        height: round(BASE - y(value)),
      }),
    );
  });
  const line = curve.map((angle, i) => `${i === 0 ? 'M' : 'L'}${x(angle)} ${y(expected(angle))}`);
  const ticks = angles.map((angle) => `M${x(angle)} ${BASE + 4}v7`);
  const marks = level === 1 ? ['0', 'π', '2π'] : ['0', 'π/4', 'π/2'];
  const anchors = ['start', 'middle', 'end'];
  return draw(
    'svg',
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': label, class: 'histogram' },
    bars,
    draw('path', { class: 'axis', d: `M${LEFT} ${BASE}H${RIGHT}` }),
    draw('path', { class: 'density', d: line.join('') }),
    draw('path', { class: 'codebook', d: ticks.join('') }),
    ...marks.map((text, i) =>
      draw('text', { x: x((range * i) / 2), y: BASE + 29, 'text-anchor': anchors[i] }, text),
    ),
  );
}

/** A bar of the share that a number is of the greatest one. */
export function bar(share, kind) {
  return draw(
    'svg',
    {
      class: `bar ${kind}`,
      viewBox: '0 0 100 8',
      preserveAspectRatio: 'none',
      'aria-hidden': 'true',
    },
    draw('rect', { class: 'track', width: 100, height: 8 }),
    draw('rect', { class: 'fill', width: round(100 * Math.min(1, share)), height: 8 }),
  );
}
