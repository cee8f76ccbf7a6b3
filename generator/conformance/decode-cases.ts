/** Decode and rotate, against float64. */

import { type Basis, ROLES, type Role, type Rotation } from '../plan/index.ts';
import type { Dtype } from '../spec/index.ts';
import type { CaseContext, ConformanceCase } from './case.ts';
import { FINITE_KINDS, makeRow, ROW_KINDS } from './inputs.ts';
import { createJudge } from './judge.ts';
import { kernelsOf } from './role-calls.ts';
import { createRows, fillRows, isUntouched } from './row-buffer.ts';
import type { SceneOptions } from './scene.ts';
import { drawTransform } from './transforms.ts';

interface DecodeCase {
  readonly title: string;
  readonly basis: Basis;
  readonly dtype: Dtype;
  readonly scene: SceneOptions;
  readonly gap?: number;
}

const decodeCase = (context: CaseContext, role: Role, options: DecodeCase): ConformanceCase => {
  const { plan, bound } = context;
  const id = `decode_${role}: ${options.title}`;
  return {
    id,
    kernel: `decode_${role}`,
    run: async (calls, reference) => {
      const random = context.random(id);
      const judge = createJudge();
      const scene = context.scene(reference, options.scene);
      const { kvHeads } = scene;
      const pool = role === 'key' ? scene.keys : scene.values;
      const transform = role === 'key' ? scene.key : scene.value;
      const beyond = BigInt(pool.pages * plan.pageTokens);
      const slots = BigInt64Array.from([...random.shuffle([...scene.slots]), -1n, beyond, -9n]);
      const before = pool.data.slice();
      const flags = new Uint32Array(1);
      const out = createRows({
        count: slots.length,
        heads: kvHeads,
        dimension: plan[role].headDim,
        dtype: options.dtype,
        gap: options.gap ?? 0,
      });
      const call = {
        cache: pool,
        slots,
        count: slots.length,
        kvHeads,
        basis: options.basis,
        rows: out.rows,
        ...(transform && { transform }),
      };
      await kernelsOf(calls, role).decode({ ...call, flags });
      const expected = reference.decode(role, call);

      for (let row = scene.slots.length; row < slots.length; row++) {
        for (let head = 0; head < kvHeads; head++) {
          if (!isUntouched(out, row, head)) judge.fail(`row ${row} should have been skipped`);
        }
      }
      judge.rows('rows', out, expected.out, 1, bound, undefined, scene.slots.length);
      judge.words('flags', flags, Uint32Array.of(expected.flags));
      if (Buffer.compare(before, pool.data) !== 0) judge.fail('the pool was changed');
      return judge.result();
    },
  };
};

interface RotateCase {
  readonly rotation: Rotation;
  readonly dtype: Dtype;
  readonly count: number;
  readonly kvHeads: number;
  readonly headsPerKv: number;
  readonly inPlace?: boolean;
  readonly gap?: number;
}

const rotateCase = (context: CaseContext, role: Role, options: RotateCase): ConformanceCase => {
  const { plan, bound } = context;
  const { rotation, dtype, count, kvHeads, headsPerKv, inPlace = false, gap = 0 } = options;
  const id = `rotate_${role}: ${rotation}, ${dtype}${inPlace ? ', in place' : ''}${headsPerKv > 1 ? ', query heads' : ''}`;
  return {
    id,
    kernel: `rotate_${role}`,
    run: async (calls, reference) => {
      const random = context.random(id);
      const judge = createJudge();
      const transform = drawTransform(plan[role], kvHeads, random);
      const heads = kvHeads * headsPerKv;
      const dimension = plan[role].headDim;
      const shape = { count, heads, dimension, dtype, gap };
      const input = fillRows(shape, (row) =>
        makeRow(random, row % 3 === 2 ? 'huge coordinate' : 'gaussian', dimension),
      );
      const call = {
        in: input.rows,
        out: input.rows,
        count,
        heads,
        headsPerKv,
        rotation,
        ...(transform && { transform }),
      };
      const expected = reference.rotate(role, call);
      const out = inPlace ? input : createRows(shape);
      await kernelsOf(calls, role).rotate({ ...call, out: out.rows });
      judge.rows('out', out, expected, headsPerKv, bound);
      return judge.result();
    },
  };
};

export const decodeCases = (context: CaseContext): ConformanceCase[] =>
  ROLES.flatMap((role) => [
    decodeCase(context, role, {
      title: 'original basis',
      basis: 'original',
      dtype: 'f32',
      scene: { kvHeads: 2, lengths: [33, 9], order: 'heads', gaps: true },
      gap: 5,
    }),
    decodeCase(context, role, {
      title: 'rotated basis',
      basis: 'rotated',
      dtype: 'f32',
      scene: { kvHeads: 1, lengths: [40], order: 'tokens', gaps: false },
    }),
    decodeCase(context, role, {
      title: 'f16 rows',
      basis: 'original',
      dtype: 'f16',
      scene: { kvHeads: 1, lengths: [7], order: 'heads', gaps: false },
    }),
    decodeCase(context, role, {
      title: 'bf16 rows',
      basis: 'rotated',
      dtype: 'bf16',
      scene: { kvHeads: 1, lengths: [8], order: 'heads', gaps: false },
      gap: 2,
    }),
    decodeCase(context, role, {
      title: 'adversarial rows',
      basis: 'rotated',
      dtype: 'f32',
      scene: {
        kvHeads: 2,
        lengths: [ROW_KINDS.length],
        order: 'tokens',
        gaps: true,
        kinds: { each: ROW_KINDS },
      },
    }),
    decodeCase(context, role, {
      title: 'adversarial rows, original basis',
      basis: 'original',
      dtype: 'f32',
      scene: {
        kvHeads: 1,
        lengths: [FINITE_KINDS.length],
        order: 'heads',
        gaps: false,
        kinds: { each: FINITE_KINDS },
      },
    }),
  ]);

export const rotateCases = (context: CaseContext): ConformanceCase[] =>
  ROLES.flatMap((role) => {
    const group = role === 'key' ? context.plan.queryGroup : 1;
    const make = (options: RotateCase): ConformanceCase => rotateCase(context, role, options);
    return [
      make({ rotation: 'forward', dtype: 'f32', count: 5, kvHeads: 2, headsPerKv: 1, gap: 3 }),
      make({ rotation: 'dual', dtype: 'f32', count: 3, kvHeads: 2, headsPerKv: group }),
      make({
        rotation: 'inverse',
        dtype: 'f32',
        count: 5,
        kvHeads: 2,
        headsPerKv: 1,
        inPlace: true,
      }),
      make({ rotation: 'dual', dtype: 'f16', count: 2, kvHeads: 1, headsPerKv: group, gap: 1 }),
      make({ rotation: 'inverse', dtype: 'bf16', count: 2, kvHeads: 2, headsPerKv: 1 }),
    ];
  });
