/** Scores, weighted sums and attention over packed tokens, against float64 on the same bytes. */

import type { AttendCall, Basis, CacheIndex, KernelCalls, Role, Rows } from '../plan/index.ts';
import { FLAGS, type Reference } from '../reference/index.ts';
import type { Dtype } from '../spec/index.ts';
import type { CaseContext, ConformanceCase } from './case.ts';
import { createJudge, type Judge } from './judge.ts';
import type { Random } from './random.ts';
import { createRows, fillRows, type RowBuffer } from './row-buffer.ts';
import {
  blockTableIndex,
  contiguousIndex,
  csrIndex,
  type Scene,
  type SceneOptions,
} from './scene.ts';
import { attentionBound, lseTolerance } from './tolerances.ts';

type Addressing = 'block table' | 'csr' | 'contiguous';

/** Where a query row stands: its sequence, and its position unless that is the sequence's last. */
interface QueryRow {
  readonly sequence: number;
  readonly position?: number;
}

interface AttentionCase {
  readonly title: string;
  readonly scene: SceneOptions;
  readonly addressing: Addressing;
  /** Default: one row a sequence, in order, without positions. */
  readonly rows?: readonly QueryRow[];
  readonly basis?: Basis;
  readonly window?: number;
  readonly softcap?: number;
  /** A = max ‖q'‖·‖k̂‖·scale that the scale is chosen for; default scale 1/√d. */
  readonly magnitude?: number;
  readonly qDtype?: Dtype;
  readonly outDtype?: Dtype;
  readonly gap?: number;
  /** Tokens before a sequence's first: [sequence]. */
  readonly firstPosition?: readonly number[];
  /** Positions in no order, with holes. */
  readonly shuffledPositions?: boolean;
  /** Makes tables wrong; returns which flags must come. */
  readonly damage?: (index: CacheIndex, scene: Scene) => { index: CacheIndex; flags: number };
}

interface AttendCase extends AttentionCase {
  readonly withoutLse?: boolean;
  readonly splitTokens?: number;
  /** Rows one by one must give the same bits as together. */
  readonly alone?: boolean;
}

const indexOf = (scene: Scene, addressing: Addressing): CacheIndex =>
  addressing === 'csr'
    ? csrIndex(scene)
    : addressing === 'contiguous'
      ? contiguousIndex(scene)
      : blockTableIndex(scene);

/** Distinct positions in random order, some left out. */
const drawPositions = (
  scene: Scene,
  random: Random,
): Pick<CacheIndex, 'positions' | 'positionsStride'> => {
  const stride = scene.maxTokens + 3;
  const positions = new Int32Array(scene.lengths.length * stride).fill(-1);
  scene.lengths.forEach((length, sequence) => {
    const possible = Array.from({ length: length + 4 }, (_, i) => i);
    positions.set(random.shuffle(possible).slice(0, length), sequence * stride);
  });
  return { positions, positionsStride: stride };
};

/** What the three kernels are called with alike. */
interface Prepared {
  readonly scene: Scene;
  readonly index: CacheIndex;
  readonly flags: number;
  readonly count: number;
  readonly q: RowBuffer;
  readonly rowSequence: Int32Array | undefined;
  readonly rowPosition: Int32Array | undefined;
  readonly random: Random;
}

const prepare = (
  context: CaseContext,
  reference: Reference,
  options: AttentionCase,
  id: string,
): Prepared => {
  const { plan } = context;
  const random = context.random(id);
  const scene = context.scene(reference, options.scene);
  const listed = options.rows;
  const count = listed?.length ?? scene.lengths.length;
  const qHeads = scene.kvHeads * plan.queryGroup;
  const q = fillRows(
    {
      count,
      heads: qHeads,
      dimension: plan.key.headDim,
      dtype: options.qDtype ?? 'f32',
      gap: options.gap ?? 0,
    },
    () => Float32Array.from({ length: plan.key.headDim }, () => random.normal()),
  );
  const positions = {
    ...(options.firstPosition && { firstPosition: Int32Array.from(options.firstPosition) }),
    ...(options.shuffledPositions && drawPositions(scene, random)),
  };
  const whole: CacheIndex = { ...indexOf(scene, options.addressing), ...positions };
  const { index, flags } = options.damage?.(whole, scene) ?? { index: whole, flags: 0 };
  const rowSequence = listed && Int32Array.from(listed, (row) => row.sequence);
  const last = ({ sequence }: QueryRow): number =>
    (options.firstPosition?.[sequence] ?? 0) + (scene.lengths[sequence] ?? 0) - 1;
  const rowPosition = listed?.some((row) => row.position !== undefined)
    ? Int32Array.from(listed, (row) => row.position ?? last(row))
    : undefined;
  return { scene, index, flags, count, q, rowSequence, rowPosition, random };
};

const attendCall = (
  prepared: Prepared,
  options: AttendCase,
  scale: number,
  out: Rows,
): AttendCall => {
  const { scene, index, count, q, rowSequence, rowPosition } = prepared;
  return {
    q: q.rows,
    out,
    rows: count,
    kvHeads: scene.kvHeads,
    scale,
    keys: scene.keys,
    values: scene.values,
    index,
    ...(scene.key && { key: scene.key }),
    ...(scene.value && { value: scene.value }),
    ...(rowSequence && { rowSequence }),
    ...(rowPosition && { rowPosition }),
    ...(options.basis && { basis: options.basis }),
    ...(options.window && { window: options.window }),
    ...(options.softcap && { softcap: options.softcap }),
    ...(options.splitTokens && { splitTokens: options.splitTokens }),
  };
};

/** The scale that makes A what the case wants, from A at scale 1. */
const scaleFor = (
  wanted: number | undefined,
  dimension: number,
  atOne: ArrayLike<number>,
): number =>
  wanted === undefined
    ? Math.fround(1 / Math.sqrt(dimension))
    : Math.fround(wanted / Math.max(2 ** -100, ...Array.from(atOne)));

const sameArray = (a: ArrayBufferView, b: ArrayBufferView): boolean =>
  Buffer.compare(
    new Uint8Array(a.buffer, a.byteOffset, a.byteLength),
    new Uint8Array(b.buffer, b.byteOffset, b.byteLength),
  ) === 0;

const attendCase = (context: CaseContext, options: AttendCase): ConformanceCase => {
  const { plan, bound, logitError } = context;
  const id = `attend: ${options.title}`;
  return {
    id,
    kernel: 'attend',
    run: async (calls, reference) => {
      const prepared = prepare(context, reference, options, id);
      const { scene, count } = prepared;
      const judge = createJudge();
      const qHeads = scene.kvHeads * plan.queryGroup;
      const shape = {
        count,
        heads: qHeads,
        dimension: plan.value.headDim,
        dtype: options.outDtype ?? ('f32' as const),
        gap: options.gap ?? 0,
      };
      const out = createRows(shape);
      const unscaled =
        options.magnitude === undefined
          ? []
          : reference.attend(attendCall(prepared, options, 1, out.rows)).maxLogit;
      const scale = scaleFor(options.magnitude, plan.key.headDim, unscaled);
      const call = attendCall(prepared, options, scale, out.rows);
      const expected = reference.attend(call);
      if (expected.flags !== prepared.flags) {
        judge.fail(
          `the reference sets flags ${expected.flags}, the case expects ${prepared.flags}`,
        );
      }

      const before = [scene.keys.data.slice(), scene.values.data.slice()];
      const lse = new Float32Array(count * qHeads);
      const flags = new Uint32Array(1);
      await calls.attend({ ...call, flags, ...(options.withoutLse ? {} : { lse }) });

      const bounds = Array.from(expected.maxLogit, (a) => attentionBound(bound, a));
      judge.rows('out', out, expected.out, plan.queryGroup, bounds);
      if (!options.withoutLse) {
        judge.lse('lse', lse, expected.lse, (at, want) => {
          const kvHead = Math.floor((at % qHeads) / plan.queryGroup);
          return lseTolerance(bound, expected.maxLogit[kvHead]!, want, logitError);
        });
      }
      judge.words('flags', flags, Uint32Array.of(expected.flags));
      if (!sameArray(before[0]!, scene.keys.data) || !sameArray(before[1]!, scene.values.data)) {
        judge.fail('a pool was changed');
      }
      await sameAgain('a second call', calls, judge, call, shape, out);
      if (context.threaded) {
        await sameAgain('a call on several threads', context.threaded, judge, call, shape, out);
      }
      if (options.alone) await sameAlone(calls, judge, prepared, call, out);
      return judge.result();
    },
  };
};

/** Another call gives the same bits. */
const sameAgain = async (
  which: string,
  calls: KernelCalls,
  judge: Judge,
  call: AttendCall,
  shape: Parameters<typeof createRows>[0],
  out: RowBuffer,
): Promise<void> => {
  const again = createRows(shape);
  await calls.attend({ ...call, out: again.rows });
  if (!sameArray(again.data, out.data)) judge.fail(`${which} gives other bits`);
};

/** With a split given, a row's result depends on nothing else in the batch. */
const sameAlone = async (
  calls: KernelCalls,
  judge: Judge,
  prepared: Prepared,
  call: AttendCall,
  out: RowBuffer,
): Promise<void> => {
  const { q, count, rowSequence, rowPosition } = prepared;
  for (let row = 0; row < count; row++) {
    const single = createRows({ ...out, count: 1, gap: 0 });
    await calls.attend({
      ...call,
      q: { ...q.rows, offset: q.at(row, 0) },
      out: single.rows,
      rows: 1,
      rowSequence: Int32Array.of(rowSequence?.[row] ?? row),
      ...(rowPosition && { rowPosition: Int32Array.of(rowPosition[row]!) }),
    });
    for (let head = 0; head < out.heads; head++) {
      const at = out.at(row, head);
      const from = single.at(0, head);
      const together = out.data.slice(at, at + out.dimension);
      if (!sameArray(together, single.data.slice(from, from + out.dimension))) {
        judge.fail(`row ${row}, head ${head} has other bits when it is alone`);
        return;
      }
    }
  }
};

const scoresCase = (context: CaseContext, options: AttentionCase): ConformanceCase => {
  const { plan, bound } = context;
  const id = `scores: ${options.title}`;
  return {
    id,
    kernel: 'scores',
    run: async (calls, reference) => {
      const prepared = prepare(context, reference, options, id);
      const { scene, index, count, q, rowSequence, rowPosition } = prepared;
      const judge = createJudge();
      const heads = scene.kvHeads * plan.queryGroup;
      const width = index.maxTokens;
      const out = createRows({ count, heads, dimension: width, gap: options.gap ?? 0 });
      const { rowStride, headStride, offset = 0 } = out.rows;
      const call = {
        q: q.rows,
        scores: (out.data as Float32Array).subarray(offset),
        ...(rowStride !== undefined && { scoresRowStride: rowStride }),
        ...(headStride !== undefined && { scoresHeadStride: headStride }),
        rows: count,
        kvHeads: scene.kvHeads,
        scale: Math.fround(1 / Math.sqrt(plan.key.headDim)),
        keys: scene.keys,
        index,
        ...(scene.key && { key: scene.key }),
        ...(rowSequence && { rowSequence }),
        ...(rowPosition && { rowPosition }),
        ...(options.basis && { basis: options.basis }),
        ...(options.window && { window: options.window }),
        ...(options.softcap && { softcap: options.softcap }),
      };
      const expected = reference.scores(call);
      const flags = new Uint32Array(1);
      await calls.scores({ ...call, flags });
      const energies = new Float64Array(scene.kvHeads);
      expected.magnitude.forEach((magnitude, at) => {
        const kvHead = Math.floor((Math.floor(at / width) % heads) / plan.queryGroup);
        if (Number.isFinite(magnitude)) energies[kvHead]! += magnitude ** 2;
      });
      judge.rows('scores', out, expected.out, plan.queryGroup, bound, energies);
      judge.words('flags', flags, Uint32Array.of(expected.flags));
      return judge.result();
    },
  };
};

const weightedSumCase = (context: CaseContext, options: AttentionCase): ConformanceCase => {
  const { plan, bound } = context;
  const id = `weighted_sum: ${options.title}`;
  return {
    id,
    kernel: 'weighted_sum',
    run: async (calls, reference) => {
      const prepared = prepare(context, reference, options, id);
      const { scene, index, count, rowSequence, random } = prepared;
      const judge = createJudge();
      const heads = scene.kvHeads * plan.queryGroup;
      const gap = options.gap ?? 0;
      // Weights beyond a sequence's length are NaN: they must not be read into any sum.
      const weights = fillRows({ count, heads, dimension: index.maxTokens, gap }, (row) => {
        const length = scene.lengths[rowSequence?.[row] ?? row] ?? 0;
        return Float32Array.from({ length: index.maxTokens }, (_, token) =>
          token < length ? random.normal() : Number.NaN,
        );
      });
      const out = createRows({
        count,
        heads,
        dimension: plan.value.headDim,
        dtype: options.outDtype ?? 'f32',
        gap,
      });
      const { rowStride, headStride, offset = 0 } = weights.rows;
      const call = {
        weights: (weights.data as Float32Array).subarray(offset),
        ...(rowStride !== undefined && { weightsRowStride: rowStride }),
        ...(headStride !== undefined && { weightsHeadStride: headStride }),
        out: out.rows,
        rows: count,
        kvHeads: scene.kvHeads,
        values: scene.values,
        index,
        ...(scene.value && { value: scene.value }),
        ...(rowSequence && { rowSequence }),
        ...(options.basis && { basis: options.basis }),
      };
      const expected = reference.weightedSum(call);
      const flags = new Uint32Array(1);
      await calls.weightedSum({ ...call, flags });
      judge.rows('out', out, expected.out, plan.queryGroup, bound);
      judge.words('flags', flags, Uint32Array.of(expected.flags));
      return judge.result();
    },
  };
};

const setEntry = (array: Int32Array, at: number, value: number): Int32Array => {
  const copy = array.slice();
  copy[at] = value;
  return copy;
};

const damagedTable =
  (page: number, sequence: number) =>
  (index: CacheIndex): { index: CacheIndex; flags: number } => ({
    index: {
      ...index,
      blockTable: setEntry(index.blockTable!, sequence * index.blockTableStride!, page),
    },
    flags: FLAGS.pageOutOfRange,
  });

const damagedLength =
  (length: number, sequence: number) =>
  (index: CacheIndex): { index: CacheIndex; flags: number } => ({
    index: { ...index, lengths: setEntry(index.lengths!, sequence, length) },
    flags: FLAGS.lengthOutOfRange,
  });

const damagedLastPage =
  (length: number, sequence: number) =>
  (index: CacheIndex): { index: CacheIndex; flags: number } => ({
    index: { ...index, lastPageLen: setEntry(index.lastPageLen!, sequence, length) },
    flags: FLAGS.lengthOutOfRange,
  });

/** Lengths at the edges of tiles and pages. */
const raggedLengths = (pageTokens: number): number[] =>
  pageTokens <= 100 ? [33, 0, 1, 31, 32, pageTokens, pageTokens + 1] : [33, 0, 1, 31, 32, 65];

export const attentionCases = (context: CaseContext): ConformanceCase[] => {
  const { plan, quick } = context;
  const lengths = raggedLengths(plan.pageTokens);
  const ragged: SceneOptions = { kvHeads: 2, lengths, order: 'heads', gaps: true };
  const small: SceneOptions = { kvHeads: 1, lengths: [21, 40], order: 'tokens', gaps: false };
  const contiguous: SceneOptions = {
    kvHeads: 3,
    lengths: [37, 5],
    order: 'tokens',
    gaps: true,
    contiguous: true,
  };
  const plain: SceneOptions = {
    kvHeads: 1,
    lengths: [12, 0, 34],
    order: 'heads',
    gaps: false,
    contiguous: true,
  };
  const long: SceneOptions = { kvHeads: 1, lengths: [200, 97], order: 'heads', gaps: false };

  // A causal chunk of the last sequence between rows of others, not in order.
  const chunk: QueryRow[] = [
    { sequence: 4, position: 29 },
    { sequence: 0, position: 32 },
    { sequence: 4, position: 30 },
    { sequence: 4, position: 31 },
    { sequence: 0, position: 0 },
    { sequence: 1, position: 5 },
    { sequence: 3 },
  ];
  const shifted = {
    firstPosition: [100, 7],
    rows: [
      { sequence: 1, position: 30 },
      { sequence: 0, position: 99 },
      { sequence: 0, position: 110 },
      { sequence: 1 },
    ],
  };

  const withNan = (nan: Role, token: number): SceneOptions => ({
    ...small,
    kinds: { nan, sequence: 1, token },
  });
  const nanRows: QueryRow[] = [
    { sequence: 1, position: 24 },
    { sequence: 1, position: 25 },
    { sequence: 1, position: 39 },
    { sequence: 0 },
  ];
  const adversarial: SceneOptions = { ...small, kinds: { adversarial: true } };

  const attend = (options: AttendCase): ConformanceCase => attendCase(context, options);
  const scores = (options: AttentionCase): ConformanceCase => scoresCase(context, options);
  const weightedSum = (options: AttentionCase): ConformanceCase =>
    weightedSumCase(context, options);

  const cases = [
    scores({ title: 'block table, ragged', scene: ragged, addressing: 'block table', gap: 3 }),
    scores({
      title: 'csr, rotated basis, window, causal chunk',
      scene: ragged,
      addressing: 'csr',
      rows: chunk,
      window: 5,
      basis: 'rotated',
    }),
    scores({
      title: 'contiguous, soft cap, f16 queries',
      scene: contiguous,
      addressing: 'contiguous',
      softcap: 3,
      qDtype: 'f16',
    }),
    scores({
      title: 'NaN token, bf16 queries',
      scene: withNan('key', 25),
      addressing: 'block table',
      rows: nanRows,
      qDtype: 'bf16',
    }),
    scores({ title: 'positions', scene: small, addressing: 'csr', ...shifted }),

    weightedSum({ title: 'block table, ragged', scene: ragged, addressing: 'block table', gap: 3 }),
    weightedSum({
      title: 'csr, rotated basis, rows of sequences',
      scene: ragged,
      addressing: 'csr',
      rows: chunk,
      basis: 'rotated',
    }),
    weightedSum({
      title: 'contiguous, f16 outputs',
      scene: contiguous,
      addressing: 'contiguous',
      outDtype: 'f16',
    }),
    weightedSum({
      title: 'NaN token, bf16 outputs',
      scene: withNan('value', 3),
      addressing: 'block table',
      outDtype: 'bf16',
      basis: 'rotated',
    }),

    attend({ title: 'block table, ragged', scene: ragged, addressing: 'block table', gap: 5 }),
    attend({
      title: 'csr, causal chunk, window',
      scene: ragged,
      addressing: 'csr',
      rows: chunk,
      window: 9,
    }),
    attend({ title: 'contiguous, no gaps', scene: plain, addressing: 'contiguous' }),
    attend({
      title: 'contiguous, f16 queries, bf16 outputs, soft cap',
      scene: contiguous,
      addressing: 'contiguous',
      qDtype: 'f16',
      outDtype: 'bf16',
      softcap: 4,
      withoutLse: true,
    }),
    attend({
      title: 'first positions, window, soft cap',
      scene: small,
      addressing: 'block table',
      ...shifted,
      window: 17,
      softcap: 2.5,
    }),
    attend({
      title: 'explicit positions in no order',
      scene: small,
      addressing: 'csr',
      shuffledPositions: true,
      rows: [
        { sequence: 1, position: 11 },
        { sequence: 0, position: 0 },
        { sequence: 1, position: 43 },
      ],
    }),
    attend({
      title: 'explicit positions, last by default, window',
      scene: small,
      addressing: 'block table',
      shuffledPositions: true,
      window: 6,
    }),
    attend({
      title: 'rotated basis, bf16 queries, f16 outputs',
      scene: ragged,
      addressing: 'csr',
      basis: 'rotated',
      qDtype: 'bf16',
      outDtype: 'f16',
    }),
    attend({
      title: 'splits of 32',
      scene: long,
      addressing: 'block table',
      splitTokens: 32,
      rows: [{ sequence: 1, position: 40 }, { sequence: 0 }, { sequence: 0, position: 131 }],
      alone: true,
    }),
    attend({
      title: 'NaN key seen and not seen',
      scene: withNan('key', 25),
      addressing: 'block table',
      rows: nanRows,
    }),
    attend({
      title: 'NaN value seen and not seen',
      scene: withNan('value', 25),
      addressing: 'csr',
      rows: nanRows,
      basis: 'rotated',
    }),
    attend({
      title: 'a page out of range',
      scene: small,
      addressing: 'block table',
      damage: damagedTable(2 ** 20, 1),
    }),
    attend({
      title: 'a length out of range',
      scene: small,
      addressing: 'block table',
      damage: damagedLength(1000, 0),
    }),
    attend({
      title: 'a sequence out of range',
      scene: small,
      addressing: 'csr',
      rows: [{ sequence: 1 }, { sequence: 2 }, { sequence: 0 }],
      damage: (index) => ({ index, flags: FLAGS.sequenceOutOfRange }),
    }),
    attend({
      title: 'adversarial tokens, A 32',
      scene: adversarial,
      addressing: 'block table',
      magnitude: 32,
    }),
    attend({
      title: 'softmax on one token, A 4096',
      scene: small,
      addressing: 'csr',
      magnitude: 4096,
    }),
  ];
  if (quick) return cases;
  return [
    ...cases,
    scores({
      title: 'a page out of range',
      scene: small,
      addressing: 'block table',
      damage: damagedTable(-1, 0),
    }),
    weightedSum({
      title: 'a length out of range',
      scene: small,
      addressing: 'block table',
      damage: damagedLength(-1, 1),
    }),
    attend({
      title: 'a negative page',
      scene: small,
      addressing: 'block table',
      damage: damagedTable(-3, 0),
    }),
    attend({
      title: 'a negative length',
      scene: small,
      addressing: 'block table',
      damage: damagedLength(-(2 ** 31), 1),
    }),
    attend({
      title: 'a last page too long',
      scene: small,
      addressing: 'csr',
      damage: damagedLastPage(plan.pageTokens + 1, 0),
    }),
    attend({
      title: 'a negative sequence',
      scene: small,
      addressing: 'block table',
      rows: [{ sequence: -1 }, { sequence: 0 }],
      damage: (index) => ({ index, flags: FLAGS.sequenceOutOfRange }),
    }),
    attend({
      title: 'splits of 64',
      scene: long,
      addressing: 'csr',
      splitTokens: 64,
      alone: true,
      basis: 'rotated',
    }),
    attend({
      title: 'splits of the kernel',
      scene: { ...long, contiguous: true },
      addressing: 'contiguous',
    }),
    attend({
      title: 'adversarial tokens, A 512, two rows of one sequence',
      scene: adversarial,
      addressing: 'csr',
      rows: [{ sequence: 0 }, { sequence: 1 }, { sequence: 0, position: 9 }],
      magnitude: 512,
      window: 12,
    }),
    attend({
      title: 'no rows',
      scene: { ...small, lengths: [3] },
      addressing: 'block table',
      rows: [],
    }),
    attend({
      title: 'queries before every token',
      scene: small,
      addressing: 'block table',
      firstPosition: [10, 10],
      rows: [
        { sequence: 0, position: 9 },
        { sequence: 1, position: 10 },
      ],
    }),
  ];
};
