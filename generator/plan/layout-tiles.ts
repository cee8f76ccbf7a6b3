import type { Positions, RecordFields } from './layout.ts';
import { informationBits, NORM_BITS } from './layout.ts';
import type { LayoutPlan } from './types.ts';

/**
 * tiles32/1: the norm or the radii, the level-1 codes in pair order, the codes above in in-order of
 * the tree, tree after tree, the codes of the radii. No padding.
 */
export function layoutTiles(fields: RecordFields): LayoutPlan {
  const bits = informationBits(fields);
  return {
    id: 'tiles32/1',
    unitTokens: 32,
    unitBytes: 4 * bits,
    informationBits: bits,
    storedBits: bits,
    ...positions(fields),
  };
}

function positions({ headDim, depth, bits, radiusBits, hasNorm }: RecordFields): Positions {
  const blocks = headDim / 2 ** depth;
  let next = 0;
  const take = (width: number): number => {
    next += width;
    return next - width;
  };
  const takeRadii = () => Array.from({ length: blocks }, () => take(radiusBits));

  const norm = hasNorm ? take(NORM_BITS) : null;
  const leading = hasNorm ? null : takeRadii();
  const codes: number[][] = bits.map(() => []);
  for (let j = 0; j < headDim / 2; j++) codes[0]!.push(take(bits[0]!));
  const placeTree = (level: number, node: number): void => {
    if (level < 2) return;
    placeTree(level - 1, 2 * node);
    codes[level - 1]![node] = take(bits[level - 1]!);
    placeTree(level - 1, 2 * node + 1);
  };
  for (let tree = 0; tree < blocks; tree++) placeTree(depth, tree);
  return { codes, radii: leading ?? takeRadii(), norm };
}
