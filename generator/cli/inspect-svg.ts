import { type CodecPlan, type LevelPlan, type Plan, ROLES } from '../plan/index.ts';
import { type BitField, bitFields, recordBits } from './bit-fields.ts';
import { preconditionText, sizeText } from './inspect-text.ts';

/** Geometry, in pixels. */
const WIDTH = 860;
const MARGIN = 24;
const BITS_A_ROW = 64;
const CELL = { width: 12, height: 14 } as const;
const PLOT = { width: 260, height: 90, gap: 16 } as const;
const PLOTS_A_ROW = 3;

/** Levels 1 to 9, told apart on light and on dark paper. */
const LEVEL_COLOURS = [
  '#2f81d7',
  '#1a9c85',
  '#d98c00',
  '#a25ddc',
  '#d6537f',
  '#5b8c2a',
  '#c4562b',
  '#4f6bd8',
  '#8a7a1f',
] as const;

/** Plain rules, no variables: drawings are also read by viewers that know only simple CSS. */
const STYLE = `
    text { font: 12px ui-sans-serif, system-ui, sans-serif; fill: #1b1f24; }
    .title { font-size: 16px; font-weight: 600; }
    .faint { fill: #57606a; }
    .paper { fill: #ffffff; }
    .axis { stroke: #afb8c1; }
    .density { stroke: #57606a; stroke-width: 1.5; fill: none; }
    .threshold { stroke: #afb8c1; stroke-dasharray: 2 2; }
    .padding { fill: none; stroke: #afb8c1; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .faint { fill: #9198a1; }
      .paper { fill: #0d1117; }
      .axis, .threshold, .padding { stroke: #4b535d; }
      .density { stroke: #9198a1; }
    }
    .centroid { stroke-width: 2; }
${LEVEL_COLOURS.map((colour, i) => `    .l${i + 1} { fill: ${colour}; stroke: ${colour}; }`).join('\n')}
    .radius { fill: #8b949e; } .norm { fill: #5f6873; }
    .bit { stroke: none; }`;

/** A drawing of the records and codebooks of caches; readable on light and dark backgrounds. */
export function inspectSvg(plans: readonly Plan[]): string {
  const parts: string[] = [];
  let y = MARGIN;
  for (const plan of plans) {
    const same = plan.key.formatHash === plan.value.formatHash;
    for (const role of same ? (['key'] as const) : ROLES) {
      const section = codecSection(
        `${plan.name} · ${same ? 'keys and values' : `${role}s`}`,
        plan[role],
        y,
      );
      parts.push(...section.parts);
      y = section.bottom + MARGIN;
    }
  }
  return `<!-- Drawn by polarc inspect -->
<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" viewBox="0 0 ${WIDTH} ${y}">
  <style>${STYLE}
  </style>
  <rect class="paper" width="${WIDTH}" height="${y}"/>
${parts.map((part) => `  ${part}`).join('\n')}
</svg>
`;
}

function codecSection(
  title: string,
  codec: CodecPlan,
  top: number,
): { parts: string[]; bottom: number } {
  const parts = [text(MARGIN, top + 14, title, 'title')];
  const center = codec.center ? ', centred' : '';
  const facts = `d = ${codec.headDim}, ${preconditionText(codec)}${center}; ${sizeText(codec)}`;
  parts.push(text(MARGIN, top + 34, facts, 'faint'));
  let y = top + 52;
  parts.push(
    text(MARGIN, y, `A token’s record (${codec.layout.id}), ${BITS_A_ROW} bits a row, bit 0 first`),
  );
  y += 10;
  for (const field of bitFields(codec)) parts.push(...fieldCells(field, y));
  y += Math.ceil(recordBits(codec) / BITS_A_ROW) * (CELL.height + 2) + 18;
  parts.push(...legend(codec, y));
  y += 30;
  parts.push(text(MARGIN, y, 'Codebooks over the densities of the angles; dashed: thresholds'));
  y += 14;
  codec.levels.forEach((level, i) => {
    const column = i % PLOTS_A_ROW;
    const x = MARGIN + column * (PLOT.width + PLOT.gap);
    parts.push(...plot(level, x, y + Math.floor(i / PLOTS_A_ROW) * (PLOT.height + 44)));
  });
  y += Math.ceil(codec.levels.length / PLOTS_A_ROW) * (PLOT.height + 44);
  return { parts, bottom: y };
}

/** A field as boxes: one a row of the drawing that it touches. */
function fieldCells(field: BitField, top: number): string[] {
  const cells: string[] = [];
  const end = field.first + field.bits;
  for (let at = field.first; at < end; ) {
    const row = Math.floor(at / BITS_A_ROW);
    const stop = Math.min(end, (row + 1) * BITS_A_ROW);
    const x = MARGIN + (at % BITS_A_ROW) * CELL.width;
    const y = top + row * (CELL.height + 2);
    const width = (stop - at) * CELL.width - 1;
    const shape = `x="${x}" y="${y}" width="${width}" height="${CELL.height}"`;
    const kind = field.kind === 'code' ? `l${field.level}` : field.kind;
    cells.push(
      `<rect class="${field.kind === 'padding' ? kind : `${kind} bit`}" ${shape}><title>${fieldName(field)}</title></rect>`,
    );
    at = stop;
  }
  return cells;
}

function fieldName({ kind, level, index, first, bits }: BitField): string {
  const where = `bits ${first} to ${first + bits - 1}`;
  if (kind === 'code') return `level ${level}, node ${index}: ${where}`;
  return kind === 'radius' ? `radius ${index}: ${where}` : `${kind}: ${where}`;
}

function legend(codec: CodecPlan, y: number): string[] {
  const { layout, levels, radius, blocks } = codec;
  const items: [string, string][] = levels.map(({ level, nodes, bits }) => [
    `l${level}`,
    `level ${level}: ${nodes} × ${bits}`,
  ]);
  items.push(['radius', `radius: ${blocks} × ${radius.bits}`]);
  if (layout.norm !== null) items.push(['norm', 'norm: 16']);
  const padding = layout.storedBits - layout.informationBits;
  if (padding > 0) items.push(['padding', `padding: ${padding}`]);
  const step = Math.min(130, (WIDTH - 2 * MARGIN) / items.length);
  return items.flatMap(([kind, label], i) => {
    const x = MARGIN + i * step;
    return [
      `<rect class="${kind === 'padding' ? kind : `${kind} bit`}" x="${x}" y="${y - 10}" width="10" height="10"/>`,
      text(x + 15, y, label, 'faint'),
    ];
  });
}

/** The density of a level's angle, its thresholds dashed, its centroids as ticks up to the curve. */
function plot({ level, bits, angles, error }: LevelPlan, x: number, y: number): string[] {
  const range = level === 1 ? 2 * Math.PI : Math.PI / 2;
  const sine = (angle: number): number => Math.sin(2 * angle) ** (2 ** (level - 1) - 1);
  const density = level === 1 ? (): number => 0.7 : sine;
  const base = y + PLOT.height;
  const at = (angle: number): number => x + (angle / range) * PLOT.width;
  const height = (angle: number): number => base - density(angle) * (PLOT.height - 20);
  const points: string[] = [];
  for (let i = 0; i <= 80; i++) {
    const angle = (i / 80) * range;
    points.push(`${at(angle).toFixed(1)},${height(angle).toFixed(1)}`);
  }
  const all = level === 1 ? fullCircle(bits) : angles;
  const thresholds = all.slice(1).map((angle, i) => (angle + all[i]!) / 2);
  const line = (angle: number, kind: string): string =>
    `<line class="${kind}" x1="${at(angle).toFixed(1)}" x2="${at(angle).toFixed(1)}" y1="${base}" y2="${height(angle).toFixed(1)}"/>`;
  return [
    text(x, y + 8, `level ${level}: ${bits} bits, error ${error.toExponential(2)}`, 'faint'),
    `<line class="axis" x1="${x}" x2="${x + PLOT.width}" y1="${base}" y2="${base}"/>`,
    ...thresholds.map((angle) => line(angle, 'threshold')),
    ...all.map((angle) => line(angle, `centroid l${level}`)),
    `<polyline class="density" points="${points.join(' ')}"/>`,
    text(x, base + 15, '0', 'faint'),
    `<text class="faint" x="${x + PLOT.width}" y="${base + 15}" text-anchor="end">${level === 1 ? '2π' : 'π/2'}</text>`,
  ];
}

/** The uniform codebook of level 1; with one bit it is the sign of y alone. */
function fullCircle(bits: number): number[] {
  const count = 2 ** bits;
  return Array.from({ length: count }, (_, i) => ((i + 0.5) * 2 * Math.PI) / count);
}

function text(x: number, y: number, content: string, kind = ''): string {
  const attribute = kind === '' ? '' : `class="${kind}" `;
  return `<text ${attribute}x="${x}" y="${y}">${content}</text>`;
}
