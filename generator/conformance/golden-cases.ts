/** The golden vectors that stand beside a plan, through its kernels. */

import { UserError } from '../diagnostics/index.ts';
import { type Plan, ROLES, type Role, type Transform } from '../plan/index.ts';
import {
  arrayOf,
  floatsOf,
  readSafetensors,
  type Safetensors,
  tensorOf,
} from '../safetensors/index.ts';
import type { ConformanceCase } from './case.ts';
import { createJudge } from './judge.ts';
import { judgeEncoded } from './judge-encoded.ts';
import { kernelsOf } from './role-calls.ts';
import { createRows } from './row-buffer.ts';
import { attentionBound, lseTolerance } from './tolerances.ts';

/** Of the rows the first so many are nearly normal numbers (docs/format.md). */
const NORMAL_ROWS = 16;

export interface GoldenOptions {
  /** B of the kernels' arithmetic. */
  readonly bound: number;
  /** `Arithmetic.logitError`. */
  readonly logitError?: number;
  /** `SuiteOptions.certify`. */
  readonly certify?: boolean;
}

/**
 * Cases of one golden file: kernels encode its rows to its bytes and decode its bytes to its vectors, and attend over
 * them. Throws a `UserError` if the file is broken or belongs to another format.
 */
export const goldenCases = (
  plan: Plan,
  bytes: Uint8Array,
  where: string,
  { bound, logitError = 0, certify = false }: GoldenOptions,
): ConformanceCase[] => {
  const file = readSafetensors(bytes, where);
  for (const role of ROLES) {
    if (file.metadata[`${role}.formatHash`] !== plan[role].formatHash) {
      throw new UserError(
        'P122',
        `${where}: its ${role} vectors are of another format than the plan`,
        'write both again with `polarc generate`',
      );
    }
  }
  return [
    ...ROLES.flatMap((role) => [
      encodeGolden(plan, role, file, certify),
      decodeGolden(plan, role, file, bound),
    ]),
    attendGolden(plan, file, bound, logitError),
  ];
};

const transformOf = (file: Safetensors, role: Role): Transform => {
  const part = (name: 'mean' | 'matrix' | 'dual'): Partial<Transform> =>
    file.tensors.has(`${role}.${name}`)
      ? { [name]: floatsOf(tensorOf(file, `${role}.${name}`)) }
      : {};
  return { ...part('mean'), ...part('matrix'), ...part('dual') };
};

interface GoldenPool {
  readonly data: Uint8Array;
  readonly pages: number;
}

/** The packed units at the front of whole pages of zeros. */
const poolOf = (plan: Plan, role: Role, file: Safetensors): GoldenPool => {
  const packed = tensorOf(file, `${role}.packed`);
  const { unitTokens, unitBytes } = plan[role].layout;
  const pageBytes = (plan.pageTokens / unitTokens) * unitBytes;
  const pages = Math.max(1, Math.ceil(packed.data.length / pageBytes));
  const data = new Uint8Array(pages * pageBytes);
  data.set(packed.data);
  return { data, pages };
};

const encodeGolden = (
  plan: Plan,
  role: Role,
  file: Safetensors,
  certify: boolean,
): ConformanceCase => ({
  id: `encode_${role}: golden vectors`,
  kernel: `encode_${role}`,
  run: async (calls) => {
    const judge = createJudge();
    const rows = floatsOf(tensorOf(file, `${role}.rows`));
    const count = rows.length / plan[role].headDim;
    const expected = poolOf(plan, role, file);
    const cache = { data: new Uint8Array(expected.data.length), pages: expected.pages };
    const call = {
      rows: { data: rows },
      count,
      kvHeads: 1,
      slots: slotsOf(file, role),
      cache,
      transform: transformOf(file, role),
      errors: new Float32Array(count),
    };
    await kernelsOf(calls, role).encode(call);
    judgeEncoded(judge, {
      plan,
      role,
      call,
      expected: { cache: expected, errors: floatsOf(tensorOf(file, `${role}.errors`)) },
      where: (at) => `(byte ${at} of the pool)`,
      certify,
      ordinary: (row) => row < NORMAL_ROWS,
    });
    return judge.result();
  },
});

const slotsOf = (file: Safetensors, role: Role): BigInt64Array =>
  arrayOf(tensorOf(file, `${role}.slots`)) as BigInt64Array;

const decodeGolden = (
  plan: Plan,
  role: Role,
  file: Safetensors,
  bound: number,
): ConformanceCase => ({
  id: `decode_${role}: golden vectors`,
  kernel: `decode_${role}`,
  run: async (calls) => {
    const judge = createJudge();
    const cache = poolOf(plan, role, file);
    const slots = slotsOf(file, role);
    for (const basis of ['original', 'rotated'] as const) {
      const out = createRows({ count: slots.length, heads: 1, dimension: plan[role].headDim });
      await kernelsOf(calls, role).decode({
        cache,
        slots,
        count: slots.length,
        kvHeads: 1,
        basis,
        rows: out.rows,
        transform: transformOf(file, role),
      });
      const tensor = basis === 'original' ? 'decoded' : 'rotated';
      judge.rows(tensor, out, floatsOf(tensorOf(file, `${role}.${tensor}`)), 1, bound);
    }
    return judge.result();
  },
});

const attendGolden = (
  plan: Plan,
  file: Safetensors,
  bound: number,
  logitError: number,
): ConformanceCase => ({
  id: 'attend: golden vectors',
  kernel: 'attend',
  run: async (calls, reference) => {
    const judge = createJudge();
    const lengths = arrayOf(tensorOf(file, 'attend.length')) as Int32Array;
    const heads = plan.queryGroup;
    const out = createRows({ count: 1, heads, dimension: plan.value.headDim });
    const lse = new Float32Array(heads);
    const call = {
      q: { data: floatsOf(tensorOf(file, 'attend.q')) },
      out: out.rows,
      rows: 1,
      kvHeads: 1,
      scale: floatsOf(tensorOf(file, 'attend.scale'))[0]!,
      keys: poolOf(plan, 'key', file),
      values: poolOf(plan, 'value', file),
      key: transformOf(file, 'key'),
      value: transformOf(file, 'value'),
      index: { sequences: 1, maxTokens: lengths[0]!, lengths },
    };
    const [magnitude = 0] = reference.attend(call).maxLogit;
    await calls.attend({ ...call, lse });
    judge.rows(
      'out',
      out,
      floatsOf(tensorOf(file, 'attend.out')),
      heads,
      attentionBound(bound, magnitude),
    );
    judge.lse('lse', lse, floatsOf(tensorOf(file, 'attend.lse')), (_at, want) =>
      lseTolerance(bound, magnitude, want, logitError),
    );
    return judge.result();
  },
});
