/**
 * Random cache descriptions over the whole space of the DSL, stratified: each draw is bound to one corner of the space
 * and free elsewhere, and the corners come in a random order, so that any 50 draws touch all of them.
 */

import {
  type CacheInput,
  type CodecInput,
  HADAMARD_ORDERS,
  hadamardOrder,
  type LayoutInput,
  LEAST_HEAD_DIM,
  MOST_HEAD_DIM,
  type Precondition,
  type Radius,
} from '../spec/index.ts';
import { createRandom, type Random } from './random.ts';

const GREATEST_DEPTH = 9;

/** What a corner fixes of one codec; the rest is drawn. */
interface CodecCorner {
  readonly headDim?: number;
  readonly precondition?: Precondition['kind'];
  readonly hadamardOrder?: number;
  readonly depth?: number;
  readonly radius?: 'f16' | 'bf16' | 'f32' | 'log';
  readonly layout?: LayoutInput['kind'];
  readonly firstBits?: number;
  readonly upperBits?: number;
  readonly codebooks?: boolean;
  readonly center?: boolean;
}

interface Corner {
  readonly key?: CodecCorner;
  readonly value?: CodecCorner;
  readonly unequalDimensions?: boolean;
  readonly queryGroup?: number;
  readonly pageTokens?: number;
  readonly dense?: 'f16' | 'bf16' | 'f32';
}

const CORNERS: readonly Corner[] = [
  { key: { precondition: 'none' } },
  { value: { precondition: 'none', center: true } },
  { key: { precondition: 'matrix', center: true } },
  { value: { precondition: 'matrix' } },
  { key: { precondition: 'orthogonal' } },
  { value: { precondition: 'orthogonal' } },
  { key: { hadamardOrder: 1 }, value: { hadamardOrder: 12 } },
  { key: { hadamardOrder: 12 }, value: { hadamardOrder: 20 } },
  { key: { hadamardOrder: 20 }, value: { hadamardOrder: 28 } },
  { key: { hadamardOrder: 28 }, value: { hadamardOrder: 36 } },
  { key: { hadamardOrder: 36 }, value: { hadamardOrder: 1 } },
  { key: { radius: 'bf16', layout: 'rows' }, value: { radius: 'f32', layout: 'rows' } },
  { key: { radius: 'f16', layout: 'rows' }, value: { radius: 'log', layout: 'tiles' } },
  { key: { radius: 'log', layout: 'tiles' }, value: { radius: 'f16', layout: 'rows' } },
  { key: { radius: 'f32', layout: 'tiles' }, value: { radius: 'bf16', layout: 'tiles' } },
  { key: { radius: 'log', layout: 'rows' }, value: { radius: 'log', layout: 'tiles' } },
  { key: { depth: 1 } },
  { value: { depth: 1, layout: 'tiles' } },
  { key: { headDim: 512, depth: GREATEST_DEPTH } },
  { value: { headDim: 512, depth: GREATEST_DEPTH, layout: 'tiles' } },
  { key: { headDim: 64, depth: 6, layout: 'tiles' }, value: { headDim: 32, depth: 5 } },
  { key: { firstBits: 1, upperBits: 1 } },
  { value: { firstBits: 1, upperBits: 1 } },
  { key: { firstBits: 8, upperBits: 6 } },
  { value: { firstBits: 8, upperBits: 6 } },
  { queryGroup: 1 },
  { queryGroup: 16, key: { layout: 'tiles' } },
  { queryGroup: 16, key: { layout: 'rows' } },
  { unequalDimensions: true },
  { key: { headDim: 18, depth: 1 } },
  { value: { headDim: 36, layout: 'tiles' } },
  { key: { headDim: 100, layout: 'tiles' }, value: { headDim: 100, layout: 'rows' } },
  { key: { headDim: MOST_HEAD_DIM, precondition: 'hadamard' } },
  { value: { headDim: LEAST_HEAD_DIM } },
  { key: { headDim: 576 }, value: { headDim: 512 } },
  { key: { codebooks: true } },
  { value: { codebooks: true } },
  { key: { center: true, layout: 'tiles' } },
  { value: { center: true, layout: 'rows' } },
  { dense: 'f32' },
  { dense: 'bf16' },
  { dense: 'f16' },
  { pageTokens: 1, key: { layout: 'rows' }, value: { layout: 'rows' } },
  { pageTokens: 100, key: { layout: 'rows' }, value: { layout: 'rows' } },
  { pageTokens: 32, key: { layout: 'tiles' } },
];

const isHadamard = (dimension: number, order?: number): boolean => {
  const found = hadamardOrder(dimension);
  return found !== undefined && (order === undefined || found.order === order);
};

const hadamardDimensions = (
  order: number | undefined,
  multiple: number,
  most: number,
): number[] => {
  const found: number[] = [];
  for (let d = LEAST_HEAD_DIM; d <= most; d++) {
    if (d % multiple === 0 && isHadamard(d, order)) found.push(d);
  }
  return found;
};

/** Codes above level 1 need a level above it. */
const leastDepth = (corner: CodecCorner): number =>
  corner.upperBits !== undefined || corner.codebooks === true ? 2 : 1;

/** Small dimensions mostly: the large ones, which cost most, stand in corners of their own and in one draw of twelve. */
const drawDimension = (random: Random, corner: CodecCorner, kind: Precondition['kind']): number => {
  if (corner.headDim !== undefined) return corner.headDim;
  const multiple = 2 ** (corner.depth ?? leastDepth(corner));
  const most = random.chance(1 / 12) ? MOST_HEAD_DIM : 192;
  if (kind === 'hadamard') {
    const allowed = hadamardDimensions(corner.hadamardOrder, multiple, most);
    return random.pick(
      allowed.length > 0 ? allowed : hadamardDimensions(undefined, multiple, most),
    );
  }
  const steps = Math.floor((Math.min(most, 256) - LEAST_HEAD_DIM) / multiple);
  return LEAST_HEAD_DIM + multiple * random.integer(0, steps);
};

/** Ascending angles between 0 and π/2, no two nearer than a third of their mean distance. */
const drawCodebook = (random: Random, entries: number): number[] => {
  const gaps = Array.from({ length: entries + 1 }, () => 0.5 + random.uniform());
  const total = gaps.reduce((sum, gap) => sum + gap, 0);
  let angle = 0;
  return gaps.slice(0, entries).map((gap) => {
    angle += gap;
    return (angle / total) * (Math.PI / 2);
  });
};

const drawCodec = (random: Random, corner: CodecCorner): CodecInput => {
  let kind: Precondition['kind'] =
    corner.precondition ??
    (corner.hadamardOrder !== undefined
      ? 'hadamard'
      : random.pick(['hadamard', 'hadamard', 'hadamard', 'orthogonal', 'matrix', 'none']));
  const headDim = drawDimension(random, corner, kind);
  if (kind === 'hadamard' && !isHadamard(headDim)) kind = random.pick(['matrix', 'none']);
  // A dense matrix of a large dimension is a large part of a run and adds nothing that a small one lacks.
  if (
    corner.precondition === undefined &&
    headDim > 256 &&
    (kind === 'orthogonal' || kind === 'matrix')
  ) {
    kind = isHadamard(headDim) ? 'hadamard' : 'none';
  }

  let deepest = 0;
  while (deepest < GREATEST_DEPTH && headDim % 2 ** (deepest + 1) === 0) deepest++;
  const radiusKind = corner.radius ?? random.pick(['f16', 'f16', 'bf16', 'f32', 'log'] as const);
  const wantsTwo = corner.radius === 'log' && headDim / 2 ** deepest < 2;
  const depth =
    corner.depth ??
    random.integer(Math.min(leastDepth(corner), deepest), wantsTwo ? deepest - 1 : deepest);
  const canLog = headDim / 2 ** depth >= 2;
  const radius: Radius =
    radiusKind !== 'log'
      ? radiusKind
      : canLog
        ? { kind: 'log', bits: random.integer(1, 8) }
        : 'f16';

  const first = corner.firstBits ?? random.pick([1, 2, 3, 4, 4, 5, 6, 7, 8]);
  const upper = Array.from(
    { length: depth - 1 },
    () => corner.upperBits ?? random.pick([1, 2, 2, 2, 3, 3, 4, 5, 6]),
  );
  const bits = [first, ...upper] as unknown as CodecInput['polar']['bits'];
  const codebooks: Record<number, number[]> = {};
  if (corner.codebooks ?? random.chance(0.1)) {
    for (let level = 2; level <= depth; level++) {
      if (level === 2 || random.chance(0.5)) {
        codebooks[level] = drawCodebook(random, 2 ** upper[level - 2]!);
      }
    }
  }

  const layout = corner.layout ?? random.pick(['rows', 'tiles'] as const);
  return {
    headDim,
    precondition:
      kind === 'hadamard' || kind === 'orthogonal'
        ? { kind, seed: random.integer(0, 2 ** 31) }
        : { kind },
    polar: { depth, bits, ...(Object.keys(codebooks).length > 0 ? { codebooks } : {}) },
    radius,
    center: corner.center ?? random.chance(0.25),
    layout: layout === 'tiles' ? { kind: 'tiles', tokens: 32 } : { kind: 'rows' },
  };
};

const drawCache = (random: Random, corner: Corner, name: string): CacheInput => {
  const key = drawCodec(random, corner.key ?? {});
  const differs = corner.unequalDimensions ?? random.chance(0.3);
  const value = drawCodec(
    random,
    differs || corner.value?.headDim !== undefined || corner.value?.hadamardOrder !== undefined
      ? (corner.value ?? {})
      : sameDimension(corner.value ?? {}, key.headDim),
  );
  const unequal = corner.unequalDimensions === true && value.headDim === key.headDim;
  const tiled = key.layout?.kind === 'tiles' || value.layout?.kind === 'tiles';
  return {
    name,
    key,
    value: unequal ? drawCodec(random, { headDim: key.headDim === 48 ? 80 : 48 }) : value,
    queryGroup: (corner.queryGroup ?? random.pick([1, 2, 3, 4, 4, 5, 7, 8])) as 1,
    pageTokens:
      corner.pageTokens ??
      (tiled || unequal ? 32 * random.pick([1, 2, 3, 8]) : random.pick([1, 7, 16, 32, 64, 100])),
    dense: corner.dense ?? random.pick(['f16', 'f16', 'bf16', 'f32'] as const),
  };
};

/** The key's dimension for the values too, where the corner's depth allows it. */
const sameDimension = (corner: CodecCorner, headDim: number): CodecCorner =>
  corner.depth !== undefined && headDim % 2 ** corner.depth !== 0 ? corner : { ...corner, headDim };

export interface RandomSpecsOptions {
  readonly count: number;
  readonly seed: number;
  /** Arithmetics to draw from, by target. Default: none is named. */
  readonly arithmetics?: Readonly<Record<string, readonly string[]>>;
}

/** `count` cache descriptions, named `random_SEED_I`; any 50 of one seed cover `COVERAGE`. */
export const randomSpecs = (options: RandomSpecsOptions): CacheInput[] => {
  const random = createRandom(options.seed).fork('specs');
  const specs: CacheInput[] = [];
  while (specs.length < options.count) {
    for (const corner of random.shuffle(CORNERS)) {
      if (specs.length === options.count) break;
      const name = `random_${options.seed}_${specs.length}`;
      const spec = drawCache(random.fork(name), corner, name);
      // Drawn apart, so that the rest of a spec does not depend on the targets at hand.
      const drawn = random.fork(`${name} arithmetic`);
      const arithmetic = Object.fromEntries(
        Object.entries(options.arithmetics ?? {}).map(([id, names]) => [id, drawn.pick(names)]),
      );
      specs.push(Object.keys(arithmetic).length === 0 ? spec : { ...spec, arithmetic });
    }
  }
  return specs;
};

const anyCodec =
  (holds: (codec: CodecInput) => boolean) =>
  (cache: CacheInput): boolean =>
    holds(cache.key) || holds(cache.value);

const radiusKind = (codec: CodecInput): string =>
  typeof codec.radius === 'object' ? codec.radius.kind : (codec.radius ?? 'f16');

const layoutPair = (cache: CacheInput): string =>
  `${cache.key.layout?.kind ?? 'rows'} and ${cache.value.layout?.kind ?? 'rows'}`;

/** What any 50 random specs must include, each with the test whether a spec has it. */
export const COVERAGE: readonly { readonly what: string; has(cache: CacheInput): boolean }[] = [
  ...(['hadamard', 'orthogonal', 'matrix', 'none'] as const).map((kind) => ({
    what: `precondition ${kind}`,
    has: anyCodec((codec) => codec.precondition?.kind === kind),
  })),
  ...HADAMARD_ORDERS.map((order) => ({
    what: `hadamard order ${order}`,
    has: anyCodec(
      (codec) => codec.precondition?.kind === 'hadamard' && isHadamard(codec.headDim, order),
    ),
  })),
  ...['f16', 'bf16', 'f32', 'log'].map((kind) => ({
    what: `radius ${kind}`,
    has: anyCodec((codec) => radiusKind(codec) === kind),
  })),
  ...['rows and rows', 'rows and tiles', 'tiles and rows', 'tiles and tiles'].map((pair) => ({
    what: `layouts ${pair}`,
    has: (cache: CacheInput) => layoutPair(cache) === pair,
  })),
  { what: 'depth 1', has: anyCodec((codec) => codec.polar.bits.length === 1) },
  {
    what: `depth ${GREATEST_DEPTH}`,
    has: anyCodec((codec) => codec.polar.bits.length === GREATEST_DEPTH),
  },
  {
    what: 'one radius a vector',
    has: anyCodec((codec) => 2 ** codec.polar.bits.length === codec.headDim),
  },
  { what: '1 bit at level 1', has: anyCodec((codec) => codec.polar.bits[0] === 1) },
  { what: '8 bits at level 1', has: anyCodec((codec) => codec.polar.bits[0] === 8) },
  { what: '1 bit above', has: anyCodec((codec) => codec.polar.bits.slice(1).includes(1)) },
  { what: '6 bits above', has: anyCodec((codec) => codec.polar.bits.slice(1).includes(6)) },
  { what: 'query group 1', has: (cache) => cache.queryGroup === 1 },
  { what: 'query group 16', has: (cache) => cache.queryGroup === 16 },
  {
    what: 'key dimension unlike value dimension',
    has: (cache) => cache.key.headDim !== cache.value.headDim,
  },
  { what: 'a dimension that 8 does not divide', has: anyCodec((codec) => codec.headDim % 8 !== 0) },
  {
    what: `dimension ${LEAST_HEAD_DIM}`,
    has: anyCodec((codec) => codec.headDim === LEAST_HEAD_DIM),
  },
  { what: `dimension ${MOST_HEAD_DIM}`, has: anyCodec((codec) => codec.headDim === MOST_HEAD_DIM) },
  { what: 'codebooks of their own', has: anyCodec((codec) => codec.polar.codebooks !== undefined) },
  { what: 'centred keys', has: (cache) => cache.key.center === true },
  { what: 'centred values', has: (cache) => cache.value.center === true },
  ...(['f16', 'bf16', 'f32'] as const).map((dense) => ({
    what: `dense rows ${dense}`,
    has: (cache: CacheInput) => cache.dense === dense,
  })),
  { what: 'pages of one token', has: (cache) => cache.pageTokens === 1 },
  { what: 'pages that 32 does not divide', has: (cache) => (cache.pageTokens ?? 64) % 32 !== 0 },
];

/** How many of the specs have each thing of `COVERAGE`. */
export const coverage = (specs: readonly CacheInput[]): { what: string; count: number }[] =>
  COVERAGE.map(({ what, has }) => ({ what, count: specs.filter(has).length }));
