/** Encode: every byte of the pool, every row error and flag as the reference has them. */

import type { CodecPlan, Pool, Role } from '../plan/index.ts';
import { ROLES } from '../plan/index.ts';
import { FLAGS } from '../reference/index.ts';
import type { Dtype } from '../spec/index.ts';
import type { CaseContext, ConformanceCase } from './case.ts';
import { codesOf } from './certify.ts';
import { isOrdinary, makeRow, ROW_KINDS, type RowKind } from './inputs.ts';
import { createJudge } from './judge.ts';
import { ENOUGH_CODES, judgeEncoded } from './judge-encoded.ts';
import type { Random } from './random.ts';
import { kernelsOf } from './role-calls.ts';
import { fillRows, type RowBuffer } from './row-buffer.ts';
import { createPool, type PoolOrder } from './scene.ts';
import { drawTransform } from './transforms.ts';

/** What errors hold before a call: rows that are skipped must keep it. */
const UNTOUCHED = -77.25;

interface EncodeCase {
  readonly title: string;
  readonly count: number;
  readonly kvHeads?: number;
  readonly dtype?: Dtype;
  readonly kind?: (row: number) => RowKind;
  /** A row in place of one of a kind. */
  readonly row?: (random: Random, plan: CodecPlan) => Float32Array;
  readonly order?: PoolOrder;
  readonly gaps?: boolean;
  /** Default: distinct random slots, some rows skipped, some out of range. */
  readonly slots?: 'random' | 'ascending';
  /** One call a row instead of one for all. */
  readonly single?: boolean;
  readonly withoutErrors?: boolean;
  /** Called around the kernel's call. */
  readonly around?: (on: boolean) => void;
}

/** Distinct slots in random order; one row in six is skipped and one in sixteen lies beyond the pool. */
const drawSlots = (random: Random, count: number, capacity: number): BigInt64Array => {
  const taken = new Set<number>();
  return BigInt64Array.from({ length: count }, () => {
    if (random.chance(1 / 6)) return random.pick([-1n, -5n, -(2n ** 40n)]);
    if (random.chance(1 / 16)) return BigInt(capacity) * random.pick([1n, 3n, 2n ** 30n]);
    let slot = random.integer(0, capacity - 1);
    while (taken.has(slot)) slot = (slot + 1) % capacity;
    taken.add(slot);
    return BigInt(slot);
  });
};

const whereInPool =
  (plan: CodecPlan, pool: Pool, kvHeads: number, pageTokens: number) =>
  (at: number): string => {
    const { unitBytes, unitTokens } = plan.layout;
    const unitStride = pool.unitStride ?? unitBytes;
    const headStride = pool.headStride ?? (pageTokens / unitTokens) * unitBytes;
    const pageStride = pool.pageStride ?? kvHeads * headStride;
    const inPool = at - (pool.offset ?? 0);
    const page = Math.floor(inPool / pageStride);
    for (let head = 0; head < kvHeads; head++) {
      const inHead = inPool - page * pageStride - head * headStride;
      const unit = Math.floor(inHead / unitStride);
      const inUnit = inHead - unit * unitStride;
      if (unit >= 0 && unit < pageTokens / unitTokens && inUnit < unitBytes) {
        return `(page ${page}, head ${head}, unit ${unit}, byte ${inUnit})`;
      }
    }
    return `(between units, byte ${at} of the pool)`;
  };

const encodeCase = (context: CaseContext, role: Role, options: EncodeCase): ConformanceCase => {
  const { plan } = context;
  const codec = plan[role];
  const id = `encode_${role}: ${options.title}`;
  return {
    id,
    kernel: `encode_${role}`,
    run: async (calls, reference) => {
      const random = context.random(id);
      const judge = createJudge();
      const { count, kvHeads = 1, dtype = 'f32', order = 'heads', gaps = false } = options;
      const pages = Math.ceil((count + 1) / plan.pageTokens) + 1;
      const pool = createPool(plan, role, { pages, kvHeads, order, gaps }, random);
      const expected: Pool = { ...pool, data: pool.data.slice() };
      const transform = drawTransform(codec, kvHeads, random);
      const capacity = pages * plan.pageTokens;
      const slots =
        options.slots === 'ascending'
          ? BigInt64Array.from({ length: count }, (_, row) => BigInt(row))
          : drawSlots(random, count, capacity);
      const kindOf = (row: number): RowKind => options.kind?.(row) ?? 'gaussian';
      const input = fillRows(
        { count, heads: kvHeads, dimension: codec.headDim, dtype, gap: gaps ? 3 : 0 },
        (row) => options.row?.(random, codec) ?? makeRow(random, kindOf(row), codec.headDim),
      );
      const before = input.data.slice();

      const outputs = () => ({
        errors: new Float32Array(count * kvHeads).fill(UNTOUCHED),
        flags: new Uint32Array(1),
      });
      const wanted = outputs();
      const got = outputs();
      const common = { rows: input.rows, count, kvHeads, slots, ...(transform && { transform }) };
      reference.encode(role, { ...common, cache: expected, ...wanted });

      const { encode } = kernelsOf(calls, role);
      if (options.single) {
        for (let row = 0; row < count; row++) {
          await encode({
            ...common,
            rows: oneRow(input, row),
            count: 1,
            slots: slots.subarray(row, row + 1),
            cache: pool,
            errors: got.errors.subarray(row * kvHeads, (row + 1) * kvHeads),
            flags: got.flags,
          });
        }
      } else if (options.withoutErrors) {
        await encode({ ...common, cache: pool });
      } else {
        options.around?.(true);
        try {
          await encode({ ...common, cache: pool, ...got });
        } finally {
          options.around?.(false);
        }
      }

      const errors = options.withoutErrors ? {} : { errors: got.errors };
      judgeEncoded(judge, {
        plan,
        role,
        call: { ...common, cache: pool, ...errors },
        expected: { cache: expected, errors: wanted.errors },
        where: whereInPool(codec, pool, kvHeads, plan.pageTokens),
        certify: context.certify,
        ordinary: (row) => options.row === undefined && isOrdinary(kindOf(row)),
      });
      if (!options.withoutErrors) {
        const beyond = slots.some((slot) => slot >= BigInt(capacity));
        const flags = Uint32Array.of(beyond ? FLAGS.slotOutOfRange : 0);
        judge.words('flags', got.flags, flags);
      }
      if (!sameBits(input.data, before)) judge.fail('rows: the input was changed');
      return judge.result();
    },
  };
};

const oneRow = (input: RowBuffer, row: number): RowBuffer['rows'] => ({
  ...input.rows,
  offset: input.at(row, 0),
});

const bytesOf = (array: Float32Array | Uint16Array): Uint8Array =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

const sameBits = (a: Float32Array | Uint16Array, b: Float32Array | Uint16Array): boolean =>
  Buffer.compare(bytesOf(a), bytesOf(b)) === 0;

/**
 * Pairs whose decision at level 1 is a tie or one step beside it: v = fl(t·u) and its neighbours. Only without
 * preconditioning do coordinates reach level 1 as they are.
 */
const atThresholds = (random: Random, plan: CodecPlan): Float32Array => {
  const { thresholds } = plan.levels[0]!;
  const row = new Float32Array(plan.headDim);
  const step = new Uint32Array(1);
  const value = new Float32Array(step.buffer);
  for (let i = 0; i < plan.headDim; i += 2) {
    const u = Math.fround(0.5 + random.uniform());
    value[0] = thresholds.length > 0 ? random.pick(thresholds) * u : random.normal();
    step[0]! += random.integer(-1, 1);
    row[i] = random.chance(0.5) ? u : -u;
    row[i + 1] = random.chance(0.5) ? value[0]! : -value[0]!;
  }
  return row;
};

/** Counts around the widths that kernels unroll to. */
const COUNTS = [0, 1, 7, 8, 9, 33];

const everyKind = (row: number): RowKind => ROW_KINDS[row % ROW_KINDS.length]!;

export const encodeCases = (context: CaseContext): ConformanceCase[] =>
  ROLES.flatMap((role) => {
    const { plan, quick } = context;
    const codec = plan[role];
    const make = (options: EncodeCase): ConformanceCase => encodeCase(context, role, options);
    const many = codec.headDim > 256 ? 64 : 192;
    const cases = [
      make({ title: 'random slots, two heads, gaps', count: 33, kvHeads: 2, gaps: true }),
      make({
        title: 'adversarial rows',
        count: 2 * ROW_KINDS.length,
        kvHeads: 2,
        kind: everyKind,
        slots: 'ascending',
        order: 'tokens',
      }),
      make({
        title: 'adversarial rows, f16',
        count: 2 * ROW_KINDS.length,
        dtype: 'f16',
        kind: everyKind,
      }),
      make({
        title: 'adversarial rows, bf16',
        count: 2 * ROW_KINDS.length,
        dtype: 'bf16',
        kind: everyKind,
        gaps: true,
        order: 'tokens',
      }),
      make({
        title: 'one row a call',
        count: 33,
        slots: 'ascending',
        single: true,
        kind: (row) => (row % 5 === 4 ? everyKind(row) : 'gaussian'),
      }),
      make({ title: 'without errors and flags', count: 9, withoutErrors: true, dtype: 'bf16' }),
      make({ title: 'channels of different scale', count: 33, kind: () => 'channels' }),
    ];
    if (context.flushToZero) {
      cases.push(
        make({
          title: 'adversarial rows under flush-to-zero',
          count: 2 * ROW_KINDS.length,
          kind: everyKind,
          slots: 'ascending',
          around: context.flushToZero,
        }),
      );
    }
    if (codec.precondition.kind === 'none' && !codec.center) {
      cases.push(
        make({ title: 'at thresholds', count: 16, row: atThresholds, slots: 'ascending' }),
      );
    }
    if (context.certify) {
      cases.push(
        make({
          title: 'codes enough for the share of them that may differ',
          count: Math.ceil(ENOUGH_CODES / codesOf(codec)),
          slots: 'ascending',
        }),
      );
    }
    if (quick) return cases;
    return [
      ...cases,
      ...COUNTS.map((count) =>
        make({ title: `${count} rows`, count, kvHeads: count === 9 ? 3 : 1 }),
      ),
      make({
        title: 'many rows',
        count: many,
        kind: (row) => (row % 4 === 3 ? 'ties' : 'gaussian'),
        slots: 'ascending',
      }),
    ];
  });
