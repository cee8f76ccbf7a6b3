/** Times of kernels, each beside its baseline of the same run. */

import type { KernelCalls, Plan, Role } from '../plan/index.ts';
import type { BuiltCache, OperationCount, Prediction, ResidentCall } from '../target/index.ts';
import { interleaved, median, timed } from './median.ts';
import { createEncode, createWorkload } from './workload.ts';

/** One line of `bench`; times are medians. */
export interface BenchRow {
  readonly target: string;
  readonly cache: string;
  readonly kernel: string;
  readonly layout: string;
  readonly arithmetic: string;
  /** Of the kernel, where it has several; else null. */
  readonly variant: string | null;
  readonly headDim: number;
  readonly queryGroup: number;
  /** Of the sequence; for encode the rows of a call. */
  readonly tokens: number;
  readonly threads: number;
  /** Keys and values of one token in one KV head, all query heads of its group; for encode one vector. */
  readonly nsPerTokenHead: number;
  /** What it is compared with, null for nothing. */
  readonly baseline: string | null;
  readonly baselineNsPerTokenHead: number | null;
  /** Baseline time over ours. */
  readonly ratio: number | null;
  /** Bytes read a second over those that memory delivers; null where memory is not the limit. */
  readonly bandwidthShare: number | null;
}

export interface BenchContext {
  readonly target: string;
  readonly plan: Plan;
  readonly built: BuiltCache;
  readonly threads: number;
  /** Bytes a second; null if the target cannot measure it. */
  readonly bandwidth: number | null;
  readonly repeats: number;
}

/** A call to be timed where its arrays are fastest: on the device, or where they are. */
const residentOf = async (
  { calls, resident }: BuiltCache,
  kernel: keyof KernelCalls,
  call: unknown,
): Promise<ResidentCall> =>
  (await resident?.(kernel, call)) ?? {
    run: () => timed(() => (calls[kernel] as (call: unknown) => void | Promise<void>)(call)),
    close: () => {},
  };

const SHORT: Readonly<Record<string, string>> = { 'rows/2': 'rows', 'tiles32/1': 'tiles' };

const layoutOf = (plan: Plan): string => {
  const [key, value] = [plan.key, plan.value].map(({ layout }) => SHORT[layout.id] ?? layout.id);
  return key === value ? key! : `${key}, ${value}`;
};

/** What a loop over tokens executes, of which cache. */
export interface CountedRow extends OperationCount {
  readonly target: string;
  readonly cache: string;
  readonly layout: string;
  readonly headDim: number;
  readonly queryGroup: number;
}

export const countedOf = (target: string, plan: Plan, built: BuiltCache): CountedRow[] =>
  (built.operations ?? []).map((count) => ({
    target,
    cache: plan.name,
    layout: layoutOf(plan),
    headDim: plan.key.headDim,
    queryGroup: plan.queryGroup,
    ...count,
  }));

/** What machines that are not at hand would do, of which cache. */
export interface PredictedRow extends Prediction {
  readonly target: string;
  readonly cache: string;
  readonly layout: string;
  readonly headDim: number;
  readonly queryGroup: number;
}

export const predictedOf = (
  target: string,
  plan: Plan,
  predictions: readonly Prediction[],
): PredictedRow[] =>
  predictions.map((prediction) => ({
    target,
    cache: plan.name,
    layout: layoutOf(plan),
    headDim: plan.key.headDim,
    queryGroup: plan.queryGroup,
    ...prediction,
  }));

/** `attend`, in every variant, against `attend_dense`, and that against the memory it reads. */
export const benchAttention = async (
  context: BenchContext,
  tokens: number,
): Promise<BenchRow[]> => {
  const { target, plan, built, threads, bandwidth, repeats } = context;
  const { variants } = built;
  const work = await createWorkload(plan, built, tokens);
  const each = tokens * work.kvHeads;
  const common = {
    target,
    cache: plan.name,
    headDim: plan.key.headDim,
    queryGroup: plan.queryGroup,
    tokens,
    threads,
  };
  const memory = bandwidth === null ? null : (work.denseBytes / bandwidth) * 1e9;
  const share = (bytes: number, ns: number): number | null =>
    bandwidth === null ? null : (bytes * 1e9) / ns / bandwidth;

  const rows: BenchRow[] = [];
  const varied = variants?.kernels.includes('attend') ? variants : undefined;
  const names = varied && varied.names.length > 1 ? varied.names : [null];
  for (const variant of names) {
    if (variant !== null) varied!.use(variant);
    const [denseCall, packedCall] = [
      await residentOf(built, 'attendDense', work.dense),
      await residentOf(built, 'attend', work.packed),
    ];
    const measured = await interleaved(repeats, denseCall.run, packedCall.run);
    denseCall.close();
    packedCall.close();
    const dense = measured.a / each;
    const packed = measured.b / each;
    if (rows.length === 0) {
      rows.push({
        ...common,
        kernel: 'attend_dense',
        layout: plan.dense,
        arithmetic: 'float',
        variant: null,
        nsPerTokenHead: dense,
        baseline: memory === null ? null : 'memory read',
        baselineNsPerTokenHead: memory,
        ratio: memory === null ? null : memory / dense,
        bandwidthShare: share(work.denseBytes, dense),
      });
    }
    rows.push({
      ...common,
      kernel: 'attend',
      layout: layoutOf(plan),
      arithmetic: plan.arithmetic[target] ?? 'float',
      variant,
      nsPerTokenHead: packed,
      baseline: `attend_dense ${plan.dense}`,
      baselineNsPerTokenHead: dense,
      ratio: measured.ratio,
      bandwidthShare: share(work.packedBytes, packed),
    });
  }
  if (names[0] !== null) varied!.use(names[0]!);
  return rows;
};

/** Vectors from cache, one thread. */
export const benchEncode = async (
  context: Pick<BenchContext, 'target' | 'plan' | 'built' | 'repeats'>,
  role: Role,
): Promise<BenchRow> => {
  const { target, plan, built, repeats } = context;
  const call = createEncode(plan, role);
  const encode = await residentOf(built, role === 'key' ? 'encodeKey' : 'encodeValue', call);
  // So many calls a measurement that the clock's resolution does not count.
  const once = median([await encode.run(), await encode.run()]);
  const calling = Math.max(1, Math.round(2e7 / once));
  const times: number[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    let total = 0;
    for (let i = 0; i < calling; i++) total += await encode.run();
    times.push(total);
  }
  encode.close();
  const codec = plan[role];
  return {
    target,
    cache: plan.name,
    kernel: `encode_${role}`,
    layout: SHORT[codec.layout.id] ?? codec.layout.id,
    arithmetic: codec.precondition.kind,
    variant: null,
    headDim: codec.headDim,
    queryGroup: plan.queryGroup,
    tokens: call.count,
    threads: 1,
    nsPerTokenHead: median(times) / calling / call.count,
    baseline: null,
    baselineNsPerTokenHead: null,
    ratio: null,
    bandwidthShare: null,
  };
};
