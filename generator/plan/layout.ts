/** Where every bit of a token stands: the layouts rows/2 and tiles32/1 of docs/format.md. */

import { layoutRows } from './layout-rows.ts';
import { layoutTiles } from './layout-tiles.ts';
import type { LayoutPlan } from './types.ts';

/** What a layout has to place. */
export interface RecordFields {
  readonly headDim: number;
  readonly depth: number;
  /** Bits of a code at levels 1 … depth. */
  readonly bits: readonly number[];
  /** Bits of a stored radius, or of its code with a norm. */
  readonly radiusBits: number;
  /** Whether radii are codes relative to an f16 norm. */
  readonly hasNorm: boolean;
}

export const NORM_BITS = 16;

export type Positions = Pick<LayoutPlan, 'codes' | 'radii' | 'norm'>;

/** Bits of a token that carry information. */
export function informationBits(fields: RecordFields): number {
  let bits = (fields.headDim / 2 ** fields.depth) * fields.radiusBits;
  if (fields.hasNorm) bits += NORM_BITS;
  fields.bits.forEach((width, i) => {
    bits += (fields.headDim / 2 ** (i + 1)) * width;
  });
  return bits;
}

export const LAYOUTS = { rows: layoutRows, tiles: layoutTiles } as const;

export interface BitAddress {
  /** Byte within the unit of storage. */
  readonly byte: number;
  /** Bit of that byte, 0 the least significant. */
  readonly bit: number;
}

/** Where bit `index` of the record of token `token` of a unit stands (0 ≤ token < `unitTokens`). */
export function bitAddress(
  layout: Pick<LayoutPlan, 'id' | 'storedBits'>,
  token: number,
  index: number,
): BitAddress {
  if (layout.id === 'rows/2') return { byte: Math.floor(index / 8), bit: index % 8 };
  const bytes = Math.floor(layout.storedBits / 8);
  if (index < 8 * bytes) return { byte: 32 * Math.floor(index / 8) + token, bit: index % 8 };
  let start = 32 * bytes;
  let rest = index - 8 * bytes;
  for (const width of [4, 2, 1]) {
    if ((layout.storedBits & width) === 0) continue;
    // A plane of `width` bits for each of 32 tokens: 4·width bytes, token t in byte t mod (4·width).
    const plane = 4 * width;
    if (rest < width) {
      return { byte: start + (token % plane), bit: width * Math.floor(token / plane) + rest };
    }
    start += plane;
    rest -= width;
  }
  throw new RangeError(`bit ${index} of a record of ${layout.storedBits}`);
}
