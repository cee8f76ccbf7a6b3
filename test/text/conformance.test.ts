import { expect, test } from 'vitest';
import {
  type CaseReport,
  conformanceCases,
  junitXml,
  randomSpecs,
  reportText,
  runCases,
  skippedReports,
  summarize,
} from '../../generator/conformance/index.ts';
import { type KernelCalls, lower, type Plan } from '../../generator/plan/index.ts';
import { type CacheInput, normalize } from '../../generator/spec/index.ts';
import { referenceKernels } from '../fixtures/reference-kernels.ts';

const SMALL: CacheInput = {
  name: 'small',
  key: {
    headDim: 32,
    polar: { bits: [4, 2, 2, 2] },
    center: true,
    layout: { kind: 'tiles', tokens: 32 },
  },
  value: { headDim: 16, polar: { bits: [3, 2] }, radius: { kind: 'log', bits: 3 } },
  queryGroup: 2,
  pageTokens: 32,
};
const plan = lower(normalize(SMALL));

const run = (calls: KernelCalls, of: Plan = plan, bound = 1e-10): Promise<CaseReport[]> =>
  runCases({ plan: of, target: 'host', cases: conformanceCases(of, { seed: 1, bound }), calls });

const failedKernels = (reports: readonly CaseReport[]): string[] => [
  ...new Set(reports.filter(({ ok }) => !ok).map(({ kernel }) => kernel)),
];

test('kernels that round the reference to float32 pass every case', async () => {
  const reports = await run(referenceKernels(plan));
  expect(reports.filter(({ ok }) => !ok)).toEqual([]);
  expect(reports.length).toBeGreaterThan(80);
});

test('they do for random formats too', { timeout: 60_000 }, async () => {
  for (const spec of randomSpecs({ count: 5, seed: 11 })) {
    if (spec.key.headDim > 128 || spec.value.headDim > 128) continue;
    const drawn = lower(normalize(spec));
    const reports = await run(referenceKernels(drawn), drawn);
    expect(reports.filter(({ ok }) => !ok)).toEqual([]);
  }
});

/** The kernels of a plan in which one number of the key codec is another. */
const kernelsWith = (change: (level: Plan['key']['levels'][number]) => object): KernelCalls =>
  referenceKernels({
    ...plan,
    key: {
      ...plan.key,
      levels: plan.key.levels.map((level) =>
        level.level === 2 ? { ...level, ...change(level) } : level,
      ),
    },
  } as Plan);

test('a threshold off by 0.1 % changes bytes of encode alone', async () => {
  const wrong = kernelsWith(({ thresholds }) => ({
    thresholds: thresholds.map((t, i) => (i === 1 ? Math.fround(t * 1.001) : t)),
  }));
  const reports = await run(wrong);
  expect(failedKernels(reports)).toEqual(['encode_key']);
  expect(summarize(reports, []).differingBytes).toBeGreaterThan(0);
});

test('a table entry off by 0.1 % is beyond the bound of decode and attention', async () => {
  const wrong = kernelsWith(({ cos }) => ({
    cos: cos.map((c, i) => (i === 1 ? Math.fround(c * 1.001) : c)),
  }));
  const failed = failedKernels(await run({ ...wrong, ...onlyEncode(referenceKernels(plan)) }));
  expect(failed).toEqual(expect.arrayContaining(['decode_key', 'scores', 'attend']));
  expect(failed).not.toContain('encode_key');
  expect(failed).not.toContain('decode_value');
});

const onlyEncode = ({ encodeKey, encodeValue }: KernelCalls): Partial<KernelCalls> => ({
  encodeKey,
  encodeValue,
});

type Fault = {
  readonly what: string;
  readonly kernel: string;
  /** Others that use it. */
  readonly users?: readonly string[];
  readonly make: (right: KernelCalls) => Partial<KernelCalls>;
};

const FAULTS: readonly Fault[] = [
  {
    what: 'the last of several rows is not encoded',
    kernel: 'encode_value',
    make: (right) => ({
      encodeValue: (call) =>
        right.encodeValue({ ...call, count: call.count > 8 ? call.count - 1 : call.count }),
    }),
  },
  {
    what: 'a neighbour in the tile is overwritten',
    kernel: 'encode_key',
    make: (right) => ({
      encodeKey: (call) => {
        right.encodeKey(call);
        if (call.count > 0 && call.slots[0]! >= 0n)
          call.cache.data[call.cache.data.length - 1]! ^= 1;
      },
    }),
  },
  {
    what: 'the window is one token short',
    kernel: 'attend',
    make: (right) => ({
      attend: (call) => right.attend(call.window ? { ...call, window: call.window - 1 } : call),
    }),
  },
  {
    what: 'a NaN is shown as zero',
    kernel: 'attend',
    make: (right) => ({
      attend: (call) => {
        right.attend(call);
        if (call.out.data instanceof Float32Array) {
          call.out.data.forEach((x, i) => {
            if (Number.isNaN(x)) call.out.data[i] = 0;
          });
        }
      },
    }),
  },
  {
    what: 'flags are not set',
    kernel: 'attend',
    make: (right) => ({ attend: ({ flags: _flags, ...call }) => right.attend(call) }),
  },
  {
    what: 'the sink counts twice',
    kernel: 'merge',
    users: ['attend'],
    make: (right) => ({
      merge: (call) =>
        right.merge(call.sink ? { ...call, sink: call.sink.map((s) => s + Math.LN2) } : call),
    }),
  },
  {
    what: 'tokens that are always visible are not',
    kernel: 'attend_dense',
    make: (right) => ({
      attendDense: ({ alwaysVisible: _always, ...call }) => right.attendDense(call),
    }),
  },
  {
    what: 'dual and forward are confused',
    kernel: 'rotate_key',
    make: (right) => ({
      rotateKey: (call) =>
        right.rotateKey(call.rotation === 'inverse' ? { ...call, rotation: 'dual' } : call),
    }),
  },
  {
    what: 'gaps between rows are written',
    kernel: 'decode_key',
    make: (right) => ({
      decodeKey: (call) => {
        right.decodeKey(call);
        if (call.rows.offset) call.rows.data[0] = 0;
      },
    }),
  },
];

test.each(FAULTS)('found: $what', async ({ kernel, users = [], make }) => {
  const right = referenceKernels(plan);
  expect(failedKernels(await run({ ...right, ...make(right) }))).toEqual([kernel, ...users]);
});

test('a kernel that throws fails its cases, the others still run', async () => {
  const wrong = {
    ...referenceKernels(plan),
    scores: () => {
      throw new Error('q: the pointer is null');
    },
  };
  const reports = await run(wrong);
  expect(failedKernels(reports)).toEqual(['scores']);
  expect(reports.find(({ ok }) => !ok)?.message).toContain('q: the pointer is null');
});

test('every variant of a kernel is held against the reference, and named', async () => {
  const exact = referenceKernels(plan);
  let used = 'fast';
  const calls: KernelCalls = {
    ...exact,
    scores: (call) => {
      exact.scores(call);
      if (used === 'slow') call.scores[0]! += 1;
    },
  };
  const variants = {
    names: ['fast', 'slow'],
    kernels: ['scores', 'attend'],
    use: (name: string) => {
      used = name;
    },
  };
  const cases = conformanceCases(plan, { seed: 1, bound: 1e-10 });
  const reports = await runCases({ plan, target: 'host', cases, calls, variants });
  const again = cases.filter(({ kernel }) => variants.kernels.includes(kernel));
  expect(reports.map(({ id }) => id)).toEqual([
    ...cases.map(({ id }) => id),
    ...again.map(({ id }) => `${id} (slow)`),
  ]);
  const failed = reports.filter(({ ok }) => !ok);
  expect(failed.length).toBeGreaterThan(0);
  expect(failed.every(({ id }) => /^scores.* \(slow\)$/.test(id))).toBe(true);
  expect(used).toBe('fast');
});

test('a case draws the same numbers alone and among all', async () => {
  const cases = conformanceCases(plan, { seed: 5, bound: 1e-10 });
  const calls = referenceKernels(plan);
  const all = await runCases({ plan, target: 'host', cases, calls });
  const one = await runCases({ plan, target: 'host', cases: [cases.at(-3)!], calls });
  expect(one[0]!.error).toBe(all.at(-3)!.error);
});

test('the report ends in its counts, and says when nothing ran', async () => {
  const reports = await run(referenceKernels(plan));
  const target = { id: 'host', device: 'this machine', arithmetic: { float: 1e-10 }, caches: 1 };
  const text = reportText(summarize(reports, [target]));
  expect(text.trimEnd().split('\n').at(-1)).toBe(`${reports.length} passed, 0 failed, 0 skipped`);

  const cases = conformanceCases(plan, { seed: 1, bound: 1e-10 });
  const skipped = skippedReports(plan, 'host', cases, 'no compiler: install g++', 'layout.tiles');
  const none = summarize(skipped, [{ ...target, device: null }]);
  expect(none.ok).toBe(true);
  expect(reportText(none)).toContain('lacks layout.tiles: no compiler: install g++');
  expect(reportText(none).trimEnd().split('\n').at(-1)).toBe(
    `0 passed, 0 failed, ${cases.length} skipped: every device test was skipped`,
  );
});

test('JUnit names failures and escapes what XML reserves', () => {
  const report = summarize(
    [
      {
        id: 'attend: <a & "b">',
        kernel: 'attend',
        cache: 'small',
        target: 'host',
        status: 'failed',
        ok: false,
        error: 1,
        bound: 1e-10,
        differingBytes: 0,
        certifiedCodes: 0,
        message: 'out < want',
        milliseconds: 12,
      },
    ],
    [],
  );
  const xml = junitXml(report);
  expect(xml).toContain('name="attend: &lt;a &amp; &quot;b&quot;&gt;" time="0.012"');
  expect(xml).toContain('<failure message="out &lt; want"/>');
  expect(xml).toContain('tests="1" failures="1" skipped="0"');
});
