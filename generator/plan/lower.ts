/** Lowering: from a checked spec to everything that decides bytes. */

import { type Codec, hadamardOrder, type Precondition, type Spec } from '../spec/index.ts';
import { canonicalJson } from './canonical-json.ts';
import { analyticCodebook, customCodebook, radiusCodebook, roundingError } from './codebooks.ts';
import { hadamardMatrix, randomSigns } from './hadamard.ts';
import { sha256 } from './hash.ts';
import { LAYOUTS } from './layout.ts';
import { orthogonalHash } from './orthogonal.ts';
import {
  type CodecPlan,
  type LevelPlan,
  PLAN_VERSION,
  type Plan,
  type PreconditionPlan,
  type RadiusPlan,
} from './types.ts';

/** Bits of a stored number, and explicit bits of its significand. */
const FLOATS = {
  f16: { bits: 16, digits: 10 },
  bf16: { bits: 16, digits: 7 },
  f32: { bits: 32, digits: 23 },
} as const;

/** The plan of a spec: a pure function, the same bytes on every engine. */
export function lower(spec: Spec): Plan {
  const body = {
    planVersion: PLAN_VERSION,
    name: spec.name,
    key: lowerCodec(spec.key),
    value: lowerCodec(spec.value),
    queryGroup: spec.queryGroup,
    pageTokens: spec.pageTokens,
    dense: spec.dense,
    arithmetic: spec.arithmetic,
  };
  return { ...body, planHash: sha256(canonicalJson(body)) } as unknown as Plan;
}

/** The plan of one codec. */
export function lowerCodec(codec: Codec): CodecPlan {
  const { headDim, polar } = codec;
  const blocks = headDim / 2 ** polar.depth;
  // What a level loses is lost from the energy that the levels below it kept.
  let kept = 1;
  const levels = polar.bits.map((bits, i): LevelPlan => {
    const level = i + 1;
    const centroids = level === 1 ? undefined : polar.codebooks[level];
    const book =
      centroids === undefined ? analyticCodebook(level, bits) : customCodebook(level, centroids);
    const error = kept * book.error;
    kept -= error;
    return { level, bits, nodes: headDim / 2 ** level, ...book, error };
  });
  const radius = lowerRadius(codec, blocks, kept);
  const body = {
    headDim,
    depth: polar.depth,
    blocks,
    center: codec.center,
    precondition: lowerPrecondition(codec.precondition, headDim),
    scale: codec.precondition.kind === 'hadamard' ? Math.fround(1 / Math.sqrt(headDim)) : 1,
    levels,
    radius,
    layout: LAYOUTS[codec.layout.kind]({
      headDim,
      depth: polar.depth,
      bits: polar.bits,
      radiusBits: radius.bits,
      hasNorm: radius.kind === 'log',
    }),
    error: 1 - kept + radius.error,
  };
  return { ...body, formatHash: formatHash(body) };
}

function lowerPrecondition(precondition: Precondition, d: number): PreconditionPlan {
  switch (precondition.kind) {
    case 'hadamard': {
      const found = hadamardOrder(d);
      if (found === undefined) throw new Error(`a checked spec with no Hadamard matrix: ${d}`);
      return {
        kind: 'hadamard',
        seed: precondition.seed,
        order: found.order,
        log2: found.log2,
        signs: randomSigns(d, precondition.seed),
        matrix: hadamardMatrix(found.order),
      };
    }
    case 'orthogonal':
      return {
        kind: 'orthogonal',
        seed: precondition.seed,
        sha256: orthogonalHash(d, precondition.seed),
      };
    default:
      return { kind: precondition.kind };
  }
}

function lowerRadius({ radius, polar }: Codec, blocks: number, kept: number): RadiusPlan {
  if (typeof radius === 'string') {
    const { bits, digits } = FLOATS[radius];
    return { kind: radius, bits, error: kept * roundingError(digits) };
  }
  const book = radiusCodebook(polar.depth, blocks, radius.bits);
  return {
    kind: 'log',
    bits: radius.bits,
    levels: book.levels,
    thresholds: book.thresholds,
    error: kept * (book.error + roundingError(FLOATS.f16.digits)),
  };
}

/** SHA-256 over what decides bytes: the codec without `angles`, without `error`s and without the hash. */
export function formatHash(codec: Omit<CodecPlan, 'formatHash'>): string {
  const { error: _total, levels, radius, ...rest } = codec;
  const { error: _radius, ...radiusBytes } = radius;
  const levelBytes = levels.map(({ angles: _angles, error: _error, ...bytes }) => bytes);
  return sha256(canonicalJson({ ...rest, levels: levelBytes, radius: radiusBytes }));
}
