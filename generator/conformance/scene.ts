/** Packed caches to attend over: sequences of given lengths in shuffled pages of pools full of other bits. */

import type { CacheIndex, Plan, Pool, Role, Transform } from '../plan/index.ts';
import type { Reference } from '../reference/index.ts';
import { FINITE_KINDS, makeRow, type RowKind } from './inputs.ts';
import type { Random } from './random.ts';
import { fillRows } from './row-buffer.ts';
import { drawTransform } from './transforms.ts';

/** How the units of a pool lie: whole heads one after another, or the heads of a unit side by side. */
export type PoolOrder = 'heads' | 'tokens';

/** Bytes that belong to nobody, between pages and units; a multiple of 4, not of 16. */
const POOL_GAP = 12;

/** A pool whose every byte is random: what no kernel may change, and what no token may read. */
export const createPool = (
  plan: Plan,
  role: Role,
  options: { pages: number; kvHeads: number; order: PoolOrder; gaps: boolean },
  random: Random,
): Pool => {
  const { layout } = plan[role];
  const { pages, kvHeads, order } = options;
  const gap = options.gaps ? POOL_GAP : 0;
  const units = plan.pageTokens / layout.unitTokens;
  const unitStride = order === 'heads' ? layout.unitBytes : kvHeads * (layout.unitBytes + gap);
  const headStride = order === 'heads' ? units * layout.unitBytes + gap : layout.unitBytes + gap;
  const pageStride = (order === 'heads' ? kvHeads * headStride : units * unitStride) + gap;
  const offset = options.gaps ? 16 : 0;
  const data = new Uint8Array(offset + pages * pageStride + gap);
  fillRandom(data, random);
  const contiguous = order === 'heads' && !options.gaps;
  return {
    data,
    pages,
    ...(contiguous ? {} : { offset, pageStride, headStride, unitStride }),
  };
};

/** A block of random bytes again and again, with a length that no stride shares. */
const fillRandom = (data: Uint8Array, random: Random): void => {
  const block = Math.min(data.length, 65_521);
  for (let i = 0; i < block; i++) data[i] = random.integer(0, 255);
  for (let at = block; at < data.length; at += block) {
    data.copyWithin(at, 0, Math.min(block, data.length - at));
  }
};

/** Where tokens are not Gaussian. */
export type TokenKinds =
  /** Every finite kind in turn in sequence 0, channels of different scale in the others. */
  | { readonly adversarial: true }
  /** One kind after another in every sequence. */
  | { readonly each: readonly RowKind[] }
  /** One token of one part that is not finite. */
  | { readonly nan: Role; readonly sequence: number; readonly token: number };

const kindOf = (
  kinds: TokenKinds | undefined,
  role: Role,
  sequence: number,
  token: number,
): RowKind => {
  if (kinds === undefined) return 'gaussian';
  if ('each' in kinds) return kinds.each[token % kinds.each.length]!;
  if ('nan' in kinds) {
    const here = kinds.nan === role && kinds.sequence === sequence && kinds.token === token;
    return here ? 'NaN' : 'gaussian';
  }
  return sequence === 0 ? FINITE_KINDS[token % FINITE_KINDS.length]! : 'channels';
};

export interface SceneOptions {
  readonly kvHeads: number;
  readonly lengths: readonly number[];
  readonly order: PoolOrder;
  readonly gaps: boolean;
  /** Pages of a sequence stand next to each other, as an index without tables needs it. Default false. */
  readonly contiguous?: boolean;
  /** Kinds of the tokens' rows; default Gaussian. */
  readonly kinds?: TokenKinds;
}

export interface Scene {
  readonly plan: Plan;
  readonly kvHeads: number;
  readonly lengths: readonly number[];
  readonly maxTokens: number;
  readonly keys: Pool;
  readonly values: Pool;
  readonly key: Transform | undefined;
  readonly value: Transform | undefined;
  /** Pages of every sequence, in order. */
  readonly pages: readonly (readonly number[])[];
  /** Pages a sequence has room for without a table. */
  readonly pagesPerSequence: number;
  /** Slots of all tokens, sequence after sequence. */
  readonly slots: BigInt64Array;
  /** Where a sequence's tokens begin in `slots`. */
  readonly starts: readonly number[];
}

/** Tokens are encoded by the reference, so that a wrong encoder cannot hide behind a wrong decoder. */
export const createScene = (
  plan: Plan,
  reference: Reference,
  options: SceneOptions,
  random: Random,
): Scene => {
  const { kvHeads, lengths } = options;
  const pageCounts = lengths.map((length) => Math.ceil(length / plan.pageTokens));
  const pagesPerSequence = Math.max(1, ...pageCounts);
  const spare = 2;
  const count = options.contiguous
    ? lengths.length * pagesPerSequence
    : pageCounts.reduce((sum, pages) => sum + pages, 0) + spare;
  const shuffled = random.shuffle(Array.from({ length: count }, (_, page) => page));
  let taken = 0;
  const pages = pageCounts.map((needed, sequence) => {
    const first = taken;
    taken += needed;
    return options.contiguous
      ? Array.from({ length: needed }, (_, i) => sequence * pagesPerSequence + i)
      : shuffled.slice(first, taken);
  });

  const starts: number[] = [];
  const slots: bigint[] = [];
  lengths.forEach((length, sequence) => {
    starts.push(slots.length);
    for (let token = 0; token < length; token++) {
      const page = pages[sequence]![Math.floor(token / plan.pageTokens)]!;
      slots.push(BigInt(page * plan.pageTokens + (token % plan.pageTokens)));
    }
  });
  const slotArray = BigInt64Array.from(slots);

  const part = (role: Role): { pool: Pool; transform: Transform | undefined } => {
    const drawn = random.fork(role);
    const pool = createPool(plan, role, { ...options, pages: count }, drawn);
    const transform = drawTransform(plan[role], kvHeads, drawn);
    const dimension = plan[role].headDim;
    const owner = lengths.flatMap((length, sequence) =>
      Array.from({ length }, (_, token) => ({ sequence, token })),
    );
    const rows = fillRows({ count: slots.length, heads: kvHeads, dimension }, (row, head) => {
      const { sequence, token } = owner[row]!;
      const kind = kindOf(options.kinds, role, sequence, token);
      const vector = makeRow(drawn, kind, dimension);
      const mean = transform?.mean;
      return mean ? vector.map((x, i) => x + mean[head * dimension + i]!) : vector;
    });
    reference.encode(role, {
      rows: rows.rows,
      count: slots.length,
      kvHeads,
      slots: slotArray,
      cache: pool,
      ...(transform && { transform }),
    });
    return { pool, transform };
  };
  const key = part('key');
  const value = part('value');
  return {
    plan,
    kvHeads,
    lengths,
    maxTokens: Math.max(1, ...lengths),
    keys: key.pool,
    values: value.pool,
    key: key.transform,
    value: value.transform,
    pages,
    pagesPerSequence,
    slots: slotArray,
    starts,
  };
};

/** Where no token of a sequence lies, its table may hold anything: this is no page of any pool. */
const NO_PAGE = 0x7fffffff;

export const blockTableIndex = (scene: Scene): CacheIndex => {
  const blockTableStride = scene.pagesPerSequence + 1;
  const blockTable = new Int32Array(scene.lengths.length * blockTableStride).fill(NO_PAGE);
  scene.pages.forEach((pages, sequence) => {
    blockTable.set(pages, sequence * blockTableStride);
  });
  return {
    sequences: scene.lengths.length,
    maxTokens: scene.maxTokens,
    lengths: Int32Array.from(scene.lengths),
    blockTable,
    blockTableStride,
  };
};

export const csrIndex = (scene: Scene): CacheIndex => {
  const indptr = [0];
  for (const pages of scene.pages) indptr.push(indptr.at(-1)! + pages.length);
  const { pageTokens } = scene.plan;
  return {
    sequences: scene.lengths.length,
    maxTokens: scene.maxTokens,
    indptr: Int32Array.from(indptr),
    indices: Int32Array.from(scene.pages.flat()),
    lastPageLen: Int32Array.from(scene.lengths, (length) =>
      length === 0 ? 0 : ((length - 1) % pageTokens) + 1,
    ),
  };
};

/** Only for scenes made `contiguous`. */
export const contiguousIndex = (scene: Scene): CacheIndex => ({
  sequences: scene.lengths.length,
  maxTokens: scene.maxTokens,
  lengths: Int32Array.from(scene.lengths),
  pagesPerSequence: scene.pagesPerSequence,
});
