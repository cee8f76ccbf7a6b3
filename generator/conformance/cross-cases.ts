/** Caches that one target wrote, read by another. */

import { type KernelCalls, type Plan, type Pool, ROLES, type Role } from '../plan/index.ts';
import type { ConformanceCase } from './case.ts';
import { createJudge } from './judge.ts';
import { createRandom, type Random } from './random.ts';
import { kernelsOf } from './role-calls.ts';
import { createRows, fillRows } from './row-buffer.ts';
import { createPool } from './scene.ts';
import { attentionBound, lseTolerance } from './tolerances.ts';
import { drawTransform } from './transforms.ts';

/** Kernels of another target that encode the same format. */
export interface Writer {
  readonly target: string;
  readonly calls: KernelCalls;
}

const TOKENS = 45;
const KV_HEADS = 2;

/**
 * For each writer: it encodes keys and values in two calls, as a cache grows, and the reader's `attend` and `decode` are
 * compared with the reference on those very bytes.
 */
export const crossCases = (
  plan: Plan,
  writers: readonly Writer[],
  {
    seed,
    bound,
    logitError,
  }: { readonly seed: number; readonly bound: number; readonly logitError?: number },
): ConformanceCase[] =>
  writers.map((writer) => ({
    id: `attend, decode: a cache that ${writer.target} wrote`,
    kernel: 'attend',
    run: async (calls, reference) => {
      const random = createRandom(seed).fork(`a cache of ${writer.target}`);
      const judge = createJudge();
      const part = async (role: Role) => {
        const transform = drawTransform(plan[role], KV_HEADS, random);
        const pool = await written(plan, role, writer.calls, random.fork(role), transform);
        return { pool, ...(transform && { transform }) };
      };
      const key = await part('key');
      const value = await part('value');

      const heads = KV_HEADS * plan.queryGroup;
      const q = fillRows({ count: 1, heads, dimension: plan.key.headDim }, () =>
        Float32Array.from({ length: plan.key.headDim }, () => random.normal()),
      );
      const out = createRows({ count: 1, heads, dimension: plan.value.headDim });
      const lse = new Float32Array(heads);
      const call = {
        q: q.rows,
        out: out.rows,
        lse,
        rows: 1,
        kvHeads: KV_HEADS,
        scale: Math.fround(1 / Math.sqrt(plan.key.headDim)),
        keys: key.pool,
        values: value.pool,
        index: { sequences: 1, maxTokens: TOKENS, lengths: Int32Array.of(TOKENS) },
        ...(key.transform && { key: key.transform }),
        ...(value.transform && { value: value.transform }),
      };
      const expected = reference.attend(call);
      await calls.attend(call);
      const bounds = Array.from(expected.maxLogit, (a) => attentionBound(bound, a));
      judge.rows('out', out, expected.out, plan.queryGroup, bounds);
      judge.lse('lse', lse, expected.lse, (at, want) =>
        lseTolerance(bound, expected.maxLogit[Math.floor(at / plan.queryGroup)]!, want, logitError),
      );

      for (const role of ROLES) {
        const { pool, transform } = role === 'key' ? key : value;
        const rows = createRows({
          count: TOKENS,
          heads: KV_HEADS,
          dimension: plan[role].headDim,
        });
        const decode = {
          cache: pool,
          slots: slotsFrom(0, TOKENS),
          count: TOKENS,
          kvHeads: KV_HEADS,
          rows: rows.rows,
          ...(transform && { transform }),
        };
        await kernelsOf(calls, role).decode(decode);
        judge.rows(`${role} rows`, rows, reference.decode(role, decode).out, 1, bound);
      }
      return judge.result();
    },
  }));

const slotsFrom = (first: number, count: number): BigInt64Array =>
  BigInt64Array.from({ length: count }, (_, i) => BigInt(first + i));

const written = async (
  plan: Plan,
  role: Role,
  calls: KernelCalls,
  random: Random,
  transform: ReturnType<typeof drawTransform>,
): Promise<Pool> => {
  const pages = Math.ceil(TOKENS / plan.pageTokens);
  const options = { pages, kvHeads: KV_HEADS, order: 'heads', gaps: false } as const;
  const pool = createPool(plan, role, options, random);
  const first = 17;
  for (const [from, to] of [
    [0, first],
    [first, TOKENS],
  ] as const) {
    const count = to - from;
    const dimension = plan[role].headDim;
    const rows = fillRows({ count, heads: KV_HEADS, dimension }, () =>
      Float32Array.from({ length: dimension }, () => random.normal()),
    );
    await kernelsOf(calls, role).encode({
      rows: rows.rows,
      count,
      kvHeads: KV_HEADS,
      slots: slotsFrom(from, count),
      cache: pool,
      ...(transform && { transform }),
    });
  }
  return pool;
};
