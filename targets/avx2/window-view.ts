/** Where the codes of a record lie in the 32-bit windows that the attention kernels load. */

import type { CodecPlan } from '../../generator/plan/index.ts';
import type { View } from '../../generator/target/index.ts';
import { floats, initialiser } from './literals.ts';

const numbers = (values: readonly number[]): string => initialiser(values.map(String));

interface Field {
  readonly bit: number;
  readonly width: number;
  readonly list: number[];
  readonly index: number;
}

interface Windows {
  /** First byte in the record of each window of four bytes. */
  readonly bytes: readonly number[];
  /** codes[ℓ−1][j]: 32·window + shift. */
  readonly codes: readonly (readonly number[])[];
  /** The same for codes of a `log` radius. */
  readonly radii: readonly number[];
}

/**
 * Windows in ascending order of the bits they cover: a new one begins where a field does not fit into the last. Rows
 * begin them at whole words if that holds the field, so that eight of them are a transposition of eight records.
 */
function windowsOf(codec: CodecPlan): Windows {
  const { layout } = codec;
  const codes = layout.codes.map((list) => new Array<number>(list.length).fill(0));
  const radii: number[] = [];
  const fields: Field[] = layout.codes.flatMap((list, i) =>
    list.map((bit, index) => ({ bit, width: codec.levels[i]!.bits, list: codes[i]!, index })),
  );
  if (codec.radius.kind === 'log') {
    const width = codec.radius.bits;
    fields.push(...layout.radii.map((bit, index) => ({ bit, width, list: radii, index })));
  }
  fields.sort((a, b) => a.bit - b.bit);

  const recordBits = (layout.unitBytes * 8) / layout.unitTokens;
  const lastByte = Math.ceil(recordBits / 8) - 4;
  const bytes: number[] = [];
  for (const { bit, width, list, index } of fields) {
    let first = bytes.at(-1);
    if (first === undefined || bit + width > first * 8 + 32) {
      const word = (bit >> 5) * 4;
      const aligned = layout.id === 'rows/2' && bit + width <= word * 8 + 32;
      first = Math.min(aligned ? word : bit >> 3, lastByte);
      bytes.push(first);
    }
    list[index] = (bytes.length - 1) * 32 + bit - first * 8;
  }
  return { bytes, codes, radii };
}

/** Magnitudes with the sign of their coordinate in front or behind: entry [m, sx] of cos, [sy, m] of sin. */
function signedTables(codec: CodecPlan): { cos: number[]; sin: number[] } {
  const { cos, sin, bits } = codec.levels[0]!;
  const entry = (i: number): { cos: number; sin: number } => {
    if (bits === 1) return { cos: 0, sin: (i & 1) === 1 ? -sin[0]! : sin[0]! };
    const n = cos.length;
    const c = cos[(i >> 1) % n]!;
    const s = sin[i % n]!;
    return { cos: (i & 1) === 1 ? -c : c, sin: ((i / n) & 1) === 1 ? -s : s };
  };
  const list = Array.from({ length: 8 }, (_, i) => entry(i));
  return { cos: list.map((e) => e.cos), sin: list.map((e) => e.sin) };
}

/** Scratch for values: as many tiles at once as keep it near the first-level cache. */
function tilesAtOnce(codec: CodecPlan, windows: number): number {
  const unitDim = 2 ** Math.min(codec.depth, 4);
  const units = codec.headDim / unitDim;
  const bytesPerTile = (windows + units + unitDim / 2) * 32 * 4;
  let tiles = 8;
  while (tiles > 1 && tiles * bytesPerTile > 40960) tiles /= 2;
  return tiles;
}

function nibbles(codec: CodecPlan): boolean {
  const places = codec.layout.codes[0]!;
  const evenUnits = codec.depth > 1;
  return (
    evenUnits &&
    codec.levels[0]!.bits === 4 &&
    places.every((bit, pair) => bit % 8 === 4 * (pair % 2) && bit === places[0]! + 4 * pair)
  );
}

/** What templates/avx2/partials/unpack.cpp.hbs and the kernels above it are filled from. */
export function windowView(codec: CodecPlan): View {
  const { bytes, codes, radii } = windowsOf(codec);
  const { layout, radius } = codec;
  const signed = signedTables(codec);
  return {
    windows: String(bytes.length),
    windowBytes: numbers(bytes),
    windowLevels: codes.map((list, i) => ({ level: String(i + 1), bits: numbers(list) })),
    windowList: initialiser(['nullptr', ...codes.map((_, i) => `window_bit_l${i + 1}`)]),
    windowRadii: radius.kind === 'log' ? numbers(radii) : '',
    radiusBytes: numbers(
      radius.kind === 'log' ? [layout.norm! / 8] : layout.radii.map((b) => b / 8),
    ),
    tilesAtOnce: String(tilesAtOnce(codec, bytes.length)),
    signedCos: floats(signed.cos),
    signedSin: floats(signed.sin),
    upperUnits: codec.depth > 4,
    /** Level-1 codes are the two halves of whole bytes: one look-up a code serves a query's products. */
    pairTables: layout.id === 'tiles32/1' && nibbles(codec),
    restPlanes: layout.id === 'tiles32/1' && ((layout.unitBytes * 8) / layout.unitTokens) % 8 !== 0,
  };
}
