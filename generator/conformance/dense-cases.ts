/** Attention over full-precision rows, merging of parts, and the whole of a cache against plain float64 attention. */

import type { AttendDenseCall, KernelCalls } from '../plan/index.ts';
import { FLAGS, type Reference } from '../reference/index.ts';
import type { Dtype } from '../spec/index.ts';
import type { CaseContext, ConformanceCase } from './case.ts';
import { createJudge } from './judge.ts';
import type { Random } from './random.ts';
import { createRows, fillRows, type RowBuffer, readRow } from './row-buffer.ts';
import { csrIndex, type Scene } from './scene.ts';
import { attentionBound, lseTolerance } from './tolerances.ts';

interface DenseCase {
  readonly title: string;
  readonly kvHeads: number;
  readonly lengths: readonly number[];
  readonly maxTokens?: number;
  /** [row] → sequence, position; default one row a sequence. */
  readonly rows?: readonly { readonly sequence: number; readonly position: number }[];
  readonly window?: number;
  readonly softcap?: number;
  readonly gap?: number;
  readonly qDtype?: Dtype;
  readonly outDtype?: Dtype;
  readonly firstPosition?: readonly number[];
  /** Positions and tokens that every query sees. */
  readonly listed?: boolean;
  readonly splitTokens?: number;
  /** [sequence, token] of a NaN in the keys. */
  readonly nan?: readonly [number, number];
  readonly magnitude?: number;
  readonly flags?: number;
}

/** Rows [sequence][token][kv_head][d] with strides, as row buffers of one row a token. */
const drawDense = (
  random: Random,
  plan: { headDim: number },
  dtype: Dtype,
  count: number,
  kvHeads: number,
  gap: number,
): RowBuffer =>
  fillRows({ count, heads: kvHeads, dimension: plan.headDim, dtype, gap }, () =>
    Float32Array.from({ length: plan.headDim }, () => random.normal()),
  );

const strides = (
  side: 'key' | 'value',
  buffer: RowBuffer,
  maxTokens: number,
): Record<string, number> => {
  const { rowStride, headStride } = buffer.rows;
  return rowStride === undefined || headStride === undefined
    ? {}
    : {
        [`${side}SequenceStride`]: maxTokens * rowStride,
        [`${side}TokenStride`]: rowStride,
        [`${side}HeadStride`]: headStride,
      };
};

const denseCase = (context: CaseContext, options: DenseCase): ConformanceCase => {
  const { plan, bound } = context;
  const id = `attend_dense: ${options.title}`;
  return {
    id,
    kernel: 'attend_dense',
    run: async (calls, reference) => {
      const random = context.random(id);
      const judge = createJudge();
      const { kvHeads, lengths, gap = 0 } = options;
      const maxTokens = options.maxTokens ?? Math.max(1, ...lengths);
      const sequences = lengths.length;
      const rows = options.rows;
      const count = rows?.length ?? sequences;
      const heads = kvHeads * plan.queryGroup;
      const total = sequences * maxTokens;
      const keys = drawDense(random, plan.key, plan.dense, total, kvHeads, gap);
      const values = drawDense(random, plan.value, plan.dense, total, kvHeads, gap);
      if (options.nan) {
        const at = keys.at(options.nan[0] * maxTokens + options.nan[1], 0);
        keys.data[at] = plan.dense === 'f32' ? Number.NaN : plan.dense === 'f16' ? 0x7e01 : 0x7fc1;
      }
      const q = fillRows(
        { count, heads, dimension: plan.key.headDim, dtype: options.qDtype ?? 'f32', gap },
        () => Float32Array.from({ length: plan.key.headDim }, () => random.normal()),
      );
      const out = createRows({
        count,
        heads,
        dimension: plan.value.headDim,
        dtype: options.outDtype ?? 'f32',
        gap,
      });
      const positionsStride = maxTokens + 2;
      const listed = {
        positions: Int32Array.from({ length: sequences * positionsStride }, () =>
          random.integer(0, 3 * maxTokens),
        ),
        alwaysVisible: Uint8Array.from({ length: sequences * positionsStride }, () =>
          random.chance(0.2) ? random.integer(1, 255) : 0,
        ),
        positionsStride,
      };
      const callAt = (scale: number): AttendDenseCall => ({
        q: q.rows,
        out: out.rows,
        rows: count,
        kvHeads,
        scale,
        keys: keys.data.subarray(keys.at(0, 0)),
        values: values.data.subarray(values.at(0, 0)),
        ...strides('key', keys, maxTokens),
        ...strides('value', values, maxTokens),
        sequences,
        maxTokens,
        lengths: Int32Array.from(lengths),
        ...(rows && { rowSequence: Int32Array.from(rows, (row) => row.sequence) }),
        ...(rows && { rowPosition: Int32Array.from(rows, (row) => row.position) }),
        ...(options.window && { window: options.window }),
        ...(options.softcap && { softcap: options.softcap }),
        ...(options.firstPosition && { firstPosition: Int32Array.from(options.firstPosition) }),
        ...(options.listed && listed),
        ...(options.splitTokens && { splitTokens: options.splitTokens }),
      });
      let scale = Math.fround(1 / Math.sqrt(plan.key.headDim));
      if (options.magnitude !== undefined) {
        const atOne = Math.max(...reference.attendDense(callAt(1)).maxLogit);
        scale = Math.fround(options.magnitude / atOne);
      }
      const call = callAt(scale);
      const expected = reference.attendDense(call);
      if (expected.flags !== (options.flags ?? 0)) {
        judge.fail(`the reference sets flags ${expected.flags}`);
      }
      const lse = new Float32Array(count * heads);
      const flags = new Uint32Array(1);
      await calls.attendDense({ ...call, lse, flags });
      const bounds = Array.from(expected.maxLogit, (a) => attentionBound(bound, a));
      judge.rows('out', out, expected.out, plan.queryGroup, bounds);
      judge.lse('lse', lse, expected.lse, (at, want) => {
        const kvHead = Math.floor((at % heads) / plan.queryGroup);
        return lseTolerance(bound, expected.maxLogit[kvHead]!, want);
      });
      judge.words('flags', flags, Uint32Array.of(expected.flags));
      return judge.result();
    },
  };
};

interface MergeCase {
  readonly title: string;
  readonly parts: number;
  readonly sink?: boolean;
  readonly dtype?: Dtype;
  readonly gap?: number;
  readonly inPlace?: boolean;
  readonly withoutLse?: boolean;
  readonly nan?: boolean;
  /** Spread of the log-sum-exps. */
  readonly spread?: number;
}

const mergeCase = (context: CaseContext, options: MergeCase): ConformanceCase => {
  const { plan, bound } = context;
  const id = `merge: ${options.title}`;
  return {
    id,
    kernel: 'merge',
    run: async (calls, reference) => {
      const random = context.random(id);
      const judge = createJudge();
      const rows = 4;
      const qHeads = 2 * plan.queryGroup;
      const dimension = plan.value.headDim;
      const { dtype = 'f32', gap = 0, spread = 4 } = options;
      const shape = { count: rows, heads: qHeads, dimension, dtype, gap };
      const lseRowStride = qHeads + gap;
      const parts = Array.from({ length: options.parts }, (_, part) => {
        const lse = Float32Array.from(
          { length: rows * lseRowStride },
          () => spread * random.normal(),
        );
        for (let head = 0; head < qHeads; head++) {
          // Row 1 is seen by part 0 alone, row 2 by none: what stands in their rows must not matter.
          if (part > 0) lse[lseRowStride + head] = Number.NEGATIVE_INFINITY;
          lse[2 * lseRowStride + head] = Number.NEGATIVE_INFINITY;
        }
        if (options.nan && part === 0) lse[3 * lseRowStride] = Number.NaN;
        const buffer = fillRows(shape, (row) => {
          const unseen = row === 2 || (row === 1 && part > 0);
          return Float32Array.from({ length: dimension }, () =>
            unseen ? Number.NaN : random.normal(),
          );
        });
        return { buffer, part: { out: buffer.rows, lse, ...(gap > 0 && { lseRowStride }) } };
      });
      const out = options.inPlace ? parts[0]!.buffer : createRows(shape);
      const call = {
        parts: parts.map(({ part }) => part),
        rows,
        qHeads,
        out: out.rows,
        ...(options.sink && {
          sink: Float32Array.from({ length: qHeads }, (_, head) =>
            head === 1 ? Number.NEGATIVE_INFINITY : spread * random.normal(),
          ),
        }),
      };
      const expected = reference.merge(call);
      const lse = new Float32Array(rows * qHeads);
      await calls.merge({ ...call, ...(options.withoutLse ? {} : { lse }) });
      judge.rows('out', out, expected.out, plan.queryGroup, bound);
      if (!options.withoutLse) {
        judge.lse('lse', lse, expected.lse, (_at, want) => lseTolerance(bound, 0, want));
      }
      return judge.result();
    },
  };
};

/** softmax over every token, in float64, straight from its definition: nothing here is shared with the reference. */
const plainAttention = (
  tokens: readonly { readonly key: Float64Array; readonly value: Float64Array }[],
  query: Float64Array,
  scale: number,
  softcap: number,
  sink: number,
): Float64Array => {
  const logits = tokens.map(({ key }) => {
    let product = 0;
    key.forEach((x, i) => {
      product += x * query[i]!;
    });
    return softcap * Math.tanh((scale * product) / softcap);
  });
  const peak = Math.max(sink, ...logits);
  const weights = logits.map((logit) => Math.exp(logit - peak));
  const total = weights.reduce((sum, weight) => sum + weight, Math.exp(sink - peak));
  const out = new Float64Array(tokens[0]!.value.length);
  tokens.forEach(({ value }, token) => {
    value.forEach((x, i) => {
      out[i]! += (weights[token]! / total) * x;
    });
  });
  return out;
};

/** Packed tokens, a dense part and a sink logit through three kernels, against one softmax over all of it. */
const wholeCase = (context: CaseContext): ConformanceCase => {
  const { plan, bound } = context;
  const id = 'attend, attend_dense, merge: one softmax over packed and dense tokens and a sink';
  return {
    id,
    kernel: 'attend',
    run: async (calls, reference) => {
      const random = context.random(id);
      const judge = createJudge();
      const kvHeads = 2;
      const packed = 45;
      const denseTokens = 7;
      const scene = context.scene(reference, {
        kvHeads,
        lengths: [packed],
        order: 'heads',
        gaps: false,
      });
      const keys = drawDense(random, plan.key, plan.dense, denseTokens, kvHeads, 0);
      const values = drawDense(random, plan.value, plan.dense, denseTokens, kvHeads, 0);
      const heads = kvHeads * plan.queryGroup;
      const q = fillRows({ count: 1, heads, dimension: plan.key.headDim }, () =>
        Float32Array.from({ length: plan.key.headDim }, () => random.normal()),
      );
      const sink = Float32Array.from({ length: heads }, () => 2 + random.normal());
      const softcap = 5;
      const scale = Math.fround(1.5 / Math.sqrt(plan.key.headDim));
      const out = await attendBoth(calls, scene, { keys, values, q, sink, softcap, scale, heads });

      const tokens = decodedTokens(reference, scene);
      const expected = new Float64Array(heads * plan.value.headDim);
      for (let head = 0; head < heads; head++) {
        const kvHead = Math.floor(head / plan.queryGroup);
        const dense = Array.from({ length: denseTokens }, (_, token) => ({
          key: readRow(keys, token, kvHead),
          value: readRow(values, token, kvHead),
        }));
        expected.set(
          plainAttention(
            [...tokens[kvHead]!, ...dense],
            readRow(q, 0, head),
            scale,
            softcap,
            sink[head]!,
          ),
          head * plan.value.headDim,
        );
      }
      judge.rows('out', out, expected, plan.queryGroup, attentionBound(bound, 0));
      return judge.result();
    },
  };
};

const attendBoth = async (
  calls: KernelCalls,
  scene: Scene,
  dense: {
    keys: RowBuffer;
    values: RowBuffer;
    q: RowBuffer;
    sink: Float32Array;
    softcap: number;
    scale: number;
    heads: number;
  },
): Promise<RowBuffer> => {
  const { plan, kvHeads } = scene;
  const { q, heads, softcap, scale, sink } = dense;
  const shape = { count: 1, heads, dimension: plan.value.headDim };
  const outs = [createRows(shape), createRows(shape), createRows(shape)] as const;
  const lses = [new Float32Array(heads), new Float32Array(heads)] as const;
  const common = { q: q.rows, rows: 1, kvHeads, softcap, scale };
  await calls.attend({
    ...common,
    out: outs[0].rows,
    lse: lses[0],
    keys: scene.keys,
    values: scene.values,
    index: csrIndex(scene),
    ...(scene.key && { key: scene.key }),
    ...(scene.value && { value: scene.value }),
  });
  await calls.attendDense({
    ...common,
    out: outs[1].rows,
    lse: lses[1],
    keys: dense.keys.data,
    values: dense.values.data,
    sequences: 1,
    maxTokens: dense.keys.count,
    lengths: Int32Array.of(dense.keys.count),
  });
  await calls.merge({
    parts: [
      { out: outs[0].rows, lse: lses[0] },
      { out: outs[1].rows, lse: lses[1] },
    ],
    rows: 1,
    qHeads: heads,
    sink,
    out: outs[2].rows,
  });
  return outs[2];
};

/** [kv_head][token], decoded into the original basis. */
const decodedTokens = (
  reference: Reference,
  scene: Scene,
): { key: Float64Array; value: Float64Array }[][] => {
  const { plan, kvHeads, slots } = scene;
  const rows = { data: new Float32Array(0) };
  const decoded = {
    key: reference.decode('key', {
      cache: scene.keys,
      slots,
      count: slots.length,
      kvHeads,
      rows,
      ...(scene.key && { transform: scene.key }),
    }).out,
    value: reference.decode('value', {
      cache: scene.values,
      slots,
      count: slots.length,
      kvHeads,
      rows,
      ...(scene.value && { transform: scene.value }),
    }).out,
  };
  const vector = (role: 'key' | 'value', token: number, head: number): Float64Array => {
    const from = (token * kvHeads + head) * plan[role].headDim;
    return decoded[role].subarray(from, from + plan[role].headDim);
  };
  return Array.from({ length: kvHeads }, (_, head) =>
    Array.from(slots, (_slot, token) => ({
      key: vector('key', token, head),
      value: vector('value', token, head),
    })),
  );
};

export const denseCases = (context: CaseContext): ConformanceCase[] => {
  const dense = (options: DenseCase): ConformanceCase => denseCase(context, options);
  const merge = (options: MergeCase): ConformanceCase => mergeCase(context, options);
  return [
    dense({ title: 'ragged', kvHeads: 2, lengths: [33, 0, 1, 31, 32], gap: 3 }),
    dense({
      title: 'causal chunk, window, soft cap',
      kvHeads: 1,
      lengths: [40, 9],
      window: 7,
      softcap: 3,
      firstPosition: [5, 0],
      rows: [
        { sequence: 0, position: 43 },
        { sequence: 1, position: 2 },
        { sequence: 0, position: 44 },
        { sequence: 0, position: 4 },
      ],
    }),
    dense({
      title: 'positions, tokens always visible, f16 queries and outputs',
      kvHeads: 2,
      lengths: [20, 21],
      listed: true,
      rows: [
        { sequence: 1, position: 8 },
        { sequence: 0, position: 30 },
        { sequence: 1, position: -1 },
      ],
      window: 12,
      qDtype: 'f16',
      outDtype: 'f16',
      gap: 1,
    }),
    dense({
      title: 'positions, last by default, bf16',
      kvHeads: 1,
      lengths: [6, 17],
      listed: true,
      qDtype: 'bf16',
      outDtype: 'bf16',
    }),
    dense({ title: 'splits of 32', kvHeads: 1, lengths: [130, 64, 95], splitTokens: 32 }),
    dense({
      title: 'NaN key seen and not seen',
      kvHeads: 2,
      lengths: [12],
      nan: [0, 8],
      rows: [
        { sequence: 0, position: 7 },
        { sequence: 0, position: 8 },
      ],
    }),
    dense({ title: 'softmax on one token, A 4096', kvHeads: 1, lengths: [35], magnitude: 4096 }),
    dense({
      title: 'a length out of range',
      kvHeads: 1,
      lengths: [3, 90, 4],
      maxTokens: 8,
      flags: FLAGS.lengthOutOfRange,
    }),
    dense({
      title: 'a sequence out of range',
      kvHeads: 1,
      lengths: [3],
      rows: [
        { sequence: 7, position: 2 },
        { sequence: 0, position: 2 },
      ],
      flags: FLAGS.sequenceOutOfRange,
    }),
    merge({ title: 'two parts', parts: 2 }),
    merge({ title: 'three parts, sink, gaps', parts: 3, sink: true, gap: 3 }),
    merge({ title: 'five parts in place, far apart', parts: 5, inPlace: true, spread: 60 }),
    merge({
      title: 'one part and a sink, f16',
      parts: 1,
      sink: true,
      dtype: 'f16',
      withoutLse: true,
    }),
    merge({ title: 'two parts, NaN, bf16', parts: 2, nan: true, dtype: 'bf16' }),
    wholeCase(context),
  ];
};
