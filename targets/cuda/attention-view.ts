/** What attention reads of a codec: cells of packed coordinates, and the tables that decode them. */

import type { CodecPlan } from '../../generator/plan/index.ts';
import { cellShape, cellView, u32, type View } from '../../generator/target/index.ts';

/** Every coordinate of a cell as a product of what was looked up for it. */
function coordinates(codec: CodecPlan): View[] {
  const { size, levels, roots } = cellShape(codec);
  return Array.from({ length: size }, (_, i) => {
    const factors = [`pair_l1_${Math.floor(i / 2)}.${i % 2 === 0 ? 'x' : 'y'}`];
    if (levels > 1) factors.push(`pair_l2_${Math.floor(i / 4)}.${i % 4 < 2 ? 'x' : 'y'}`);
    if (roots > 1) factors.push(`root_${Math.floor(i / 2 ** levels)}`);
    return { index: String(i), value: factors.join(' * ') };
  });
}

/** Bytes of an array in shared memory: a multiple of 16. */
const roundUp = (bytes: number): number => Math.ceil(bytes / 16) * 16;

/** Fields of a codec that templates/cuda/partials/cell.cuh.hbs is filled from. */
export function cellCodecView(codec: CodecPlan): View {
  // Sixteen pairs of numbers fill the banks of shared memory once: lanes that look codes of up to four bits up never
  // wait for each other, as they do in a table of joint indices.
  const view = cellView(codec, 'cell', false);
  const tables = codec.levels.map(({ level, bits }) => ({ level, length: 2 ** bits }));
  const radii = codec.radius.kind === 'log' ? 2 ** codec.radius.bits : 0;
  const bytes = tables.reduce((sum, { length }) => sum + roundUp(8 * length), roundUp(4 * radii));
  return {
    cells: {
      ...view,
      coordinates: coordinates(codec),
      codesL1: (view.parts as readonly View[]).flatMap(({ codes }) => codes as readonly View[]),
      tables: tables.map(({ level, length }) => ({
        level: String(level),
        first: level === 1,
        length: String(length),
      })),
      radii: String(radii),
      tableBytes: String(bytes),
      radiusMask: u32(2 ** codec.radius.bits - 1),
    },
  };
}
