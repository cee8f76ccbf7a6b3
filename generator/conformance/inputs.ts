/** Rows to encode: what caches meet, and what breaks encoders. */

import type { Random } from './random.ts';

export type RowKind =
  | 'gaussian'
  | 'channels'
  | 'huge coordinate'
  | 'tiny beside large'
  | 'denormal'
  | 'near the cleaning threshold'
  | 'zero'
  | 'negative zero'
  | 'ties'
  | 'sparse'
  | 'unit vector'
  | 'constant'
  | 'beyond f16'
  | 'overflow'
  | 'NaN'
  | 'infinite';

/** Rows whose encoding is finite. */
export const FINITE_KINDS: readonly RowKind[] = [
  'gaussian',
  'channels',
  'huge coordinate',
  'tiny beside large',
  'denormal',
  'near the cleaning threshold',
  'zero',
  'negative zero',
  'ties',
  'sparse',
  'unit vector',
  'constant',
  'beyond f16',
];

/** Every kind: the last three make blocks that no code can represent. */
export const ROW_KINDS: readonly RowKind[] = [...FINITE_KINDS, 'overflow', 'NaN', 'infinite'];

/**
 * Rows whose codes lie near a boundary by chance alone. The others were made to have ties, or have them once they are
 * preconditioned.
 */
export const isOrdinary = (kind: RowKind): boolean => kind === 'gaussian' || kind === 'channels';

/** Quiet and signalling NaN of both signs would all read as NaN here; the pattern is set where rows are stored. */
export const makeRow = (random: Random, kind: RowKind, dimension: number): Float32Array => {
  const row = new Float32Array(dimension);
  const fill = (value: (i: number) => number): Float32Array => {
    for (let i = 0; i < dimension; i++) row[i] = value(i);
    return row;
  };
  const somewhere = (): number => random.integer(0, dimension - 1);
  const sign = (): number => (random.chance(0.5) ? 1 : -1);
  switch (kind) {
    case 'gaussian':
      return fill(() => random.normal());
    case 'channels': {
      // As keys of language models: channels of very different scale, some with a large constant offset.
      const channels = random.fork('channels');
      return fill(() => {
        const scale = 2 ** (2 * channels.normal());
        const offset = channels.chance(0.05) ? 20 * channels.normal() : 0;
        return offset + scale * random.normal();
      });
    }
    case 'huge coordinate':
      fill(() => random.normal());
      row[somewhere()] = sign() * 2 ** random.integer(8, 14);
      return row;
    case 'tiny beside large':
      return fill((i) => random.normal() * (Math.floor(i / 4) % 3 === 1 ? 2 ** -18 : 8));
    case 'denormal':
      return fill(() => sign() * random.integer(0, 2 ** 20) * 2 ** -149);
    case 'near the cleaning threshold':
      return fill(() => sign() * (1 + random.normal() * 2 ** -20) * 2 ** -64);
    case 'zero':
      return row;
    case 'negative zero':
      return fill(() => (random.chance(0.5) ? -0 : random.integer(0, 1)));
    case 'ties':
      return fill(() => random.integer(-2, 2));
    case 'sparse':
      return fill(() => (random.chance(0.1) ? random.normal() : sign() * 0));
    case 'unit vector':
      row[somewhere()] = sign();
      return row;
    case 'constant':
      row.fill(sign() * 2 ** random.integer(-6, 6));
      return row;
    case 'beyond f16':
      return fill(() => random.normal() * 2 ** 22);
    case 'overflow':
      fill(() => random.normal());
      for (let i = 0; i < 3; i++) row[somewhere()] = sign() * 3.4e38;
      return row;
    case 'NaN':
      fill(() => random.normal());
      row[somewhere()] = Number.NaN;
      return row;
    case 'infinite':
      fill(() => random.normal());
      row[somewhere()] = sign() * Number.POSITIVE_INFINITY;
      return row;
  }
};
