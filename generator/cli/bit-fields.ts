import type { CodecPlan } from '../plan/index.ts';

/** A code, a radius, the norm or padding, as consecutive bits of a token's record. */
export interface BitField {
  readonly kind: 'code' | 'radius' | 'norm' | 'padding';
  /** Level of a code; 0 for the others. */
  readonly level: number;
  /** Node of the level, or block of the radius. */
  readonly index: number;
  readonly first: number;
  readonly bits: number;
}

/** Bits of a token's record, padding included. */
export function recordBits(codec: CodecPlan): number {
  return (codec.layout.unitBytes * 8) / codec.layout.unitTokens;
}

/** Every bit of a token's record exactly once, in order. Throws if two fields overlap. */
export function bitFields(codec: CodecPlan): readonly BitField[] {
  const { layout, levels, radius } = codec;
  const fields: BitField[] = levels.flatMap(({ level, bits }) =>
    layout.codes[level - 1]!.map(
      (first, index): BitField => ({ kind: 'code', level, index, first, bits }),
    ),
  );
  layout.radii.forEach((first, index) => {
    fields.push({ kind: 'radius', level: 0, index, first, bits: radius.bits });
  });
  if (layout.norm !== null) {
    fields.push({ kind: 'norm', level: 0, index: 0, first: layout.norm, bits: 16 });
  }
  return withPadding(fields, recordBits(codec));
}

function withPadding(fields: BitField[], end: number): BitField[] {
  fields.sort((a, b) => a.first - b.first);
  const all: BitField[] = [];
  let at = 0;
  for (const field of fields) {
    if (field.first < at) throw new Error(`bit ${field.first} of the record stands in two fields`);
    if (field.first > at) all.push(padding(at, field.first));
    all.push(field);
    at = field.first + field.bits;
  }
  if (at < end) all.push(padding(at, end));
  return all;
}

function padding(first: number, end: number): BitField {
  return { kind: 'padding', level: 0, index: 0, first, bits: end - first };
}
