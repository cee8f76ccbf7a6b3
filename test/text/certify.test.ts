/** Certified bytes: what rounding may change in a record, and that nothing else passes. */

import { describe, expect, test } from 'vitest';
import { certifyToken } from '../../generator/conformance/certify.ts';
import {
  type CaseReport,
  conformanceCases,
  goldenCases,
  reportText,
  runCases,
  summarize,
} from '../../generator/conformance/index.ts';
import { createRandom } from '../../generator/conformance/random.ts';
import { drawTransform } from '../../generator/conformance/transforms.ts';
import type {
  CodecPlan,
  EncodeCall,
  KernelCalls,
  Plan,
  Transform,
} from '../../generator/plan/index.ts';
import { coderOf } from '../../generator/reference/coder.ts';
import { createReference, goldenVectors, loadRecord } from '../../generator/reference/index.ts';
import {
  hadamard,
  log,
  matrix,
  none,
  orthogonal,
  polar,
  tiles,
} from '../../generator/spec/index.ts';
import { otherKernels } from '../fixtures/other-arithmetic.ts';
import { referenceKernels } from '../fixtures/reference-kernels.ts';
import { firstSlots, normals, planOf, poolOf } from '../fixtures/small-cache.ts';

const tile = tiles({ tokens: 32 });

/** Every kind of radius, layout and preconditioning. */
const FORMATS: readonly { readonly name: string; readonly plan: Plan }[] = [
  {
    name: 'f16, rows, hadamard; bf16, tiles, none',
    plan: planOf({}, { radius: 'bf16', layout: tile, precondition: none() }),
  },
  {
    name: 'f32, tiles, hadamard of order 12, centred; f16, rows, none',
    plan: planOf(
      { headDim: 48, radius: 'f32', layout: tile, center: true },
      { precondition: none() },
    ),
  },
  {
    name: 'bf16, rows, orthogonal; log, tiles, none',
    plan: planOf(
      { radius: 'bf16', precondition: orthogonal({ seed: 4 }) },
      { radius: log({ bits: 4 }), layout: tile, precondition: none() },
    ),
  },
  {
    name: 'log, rows, hadamard, one bit at level 1; f32, rows, matrix',
    plan: planOf(
      { radius: log({ bits: 3 }), polar: polar({ depth: 3, bits: [1, 3, 2] }) },
      { radius: 'f32', precondition: matrix(), center: true },
    ),
  },
  {
    name: 'f16, tiles, signs alone; f32, rows, fine angles, none',
    plan: planOf(
      { layout: tile, polar: polar({ depth: 1, bits: [2] }) },
      { radius: 'f32', precondition: none(), polar: polar({ depth: 2, bits: [8, 6] }) },
    ),
  },
];
const BARE = FORMATS[0]!.plan;

/** The encode cases of the suite, and the golden vectors. */
const run = async (calls: KernelCalls, plan: Plan, certify: boolean): Promise<CaseReport[]> => {
  const options = { bound: 1e-10, certify };
  const cases = [
    ...goldenCases(plan, goldenVectors(plan), 'golden', options),
    ...conformanceCases(plan, { ...options, seed: 1 }),
  ].filter(({ kernel }) => kernel.startsWith('encode'));
  return runCases({ plan, target: 'device', cases, calls });
};

const failed = (reports: readonly CaseReport[]): CaseReport[] => reports.filter(({ ok }) => !ok);
const failedKernels = (reports: readonly CaseReport[]): string[] =>
  [...new Set(failed(reports).map(({ kernel }) => kernel))].sort();

describe.each(FORMATS)('a device that rounds otherwise: $name', ({ plan }) => {
  test.each([0, 3])('is certified, and has not the same bytes; noise %d', async (noise) => {
    const calls = otherKernels(plan, { noise });
    const certified = await run(calls, plan, true);
    expect(failed(certified)).toEqual([]);
    const { differingBytes } = summarize(certified, []);
    expect(differingBytes).toBeGreaterThan(0);
    const equal = await run(calls, plan, false);
    expect(failedKernels(equal)).toEqual(['encode_key', 'encode_value']);
    expect(summarize(equal, []).certifiedCodes).toBe(0);
  });

  test('the reference itself needs no certificate', async () => {
    const reports = await run(referenceKernels(plan), plan, true);
    expect(failed(reports)).toEqual([]);
    expect(summarize(reports, [])).toMatchObject({ differingBytes: 0, certifiedCodes: 0 });
  });
});

test('codes at thresholds differ, are certified and counted in the report', async () => {
  const reports = await run(otherKernels(BARE), BARE, true);
  const tied = reports.find(({ id }) => id === 'encode_value: at thresholds')!;
  expect(tied.ok).toBe(true);
  expect(tied.certifiedCodes).toBeGreaterThan(10);
  expect(tied.differingBytes).toBeGreaterThan(10);
  const [without] = failed(await run(otherKernels(BARE), BARE, false)).filter(
    ({ id }) => id === tied.id,
  );
  expect(without).toMatchObject({ ok: false, differingBytes: tied.differingBytes });

  const target = { id: 'device', device: 'a device', arithmetic: {}, caches: 1 };
  const report = summarize(reports, [target]);
  const text = reportText(report);
  const ofValues = reports.filter(({ kernel }) => kernel === 'encode_value');
  const count = ofValues.reduce((sum, each) => sum + each.certifiedCodes, 0);
  expect(text).toMatch(
    new RegExp(`encode_value +\\S+ passed +\\d+ differing bytes, ${count} cert`),
  );
  expect(text).toContain(
    `${report.differingBytes} differing bytes, ${report.certifiedCodes} certified codes`,
  );
});

/** A plan in which a threshold of a level of both codecs is another. */
const withThreshold = (plan: Plan, wanted: number, change: (t: number) => number): Plan => {
  const changed = (codec: CodecPlan): CodecPlan => ({
    ...codec,
    levels: codec.levels.map((level) => ({
      ...level,
      thresholds: level.thresholds.map((t, i) =>
        level.level === wanted && i === 0 ? Math.fround(change(t)) : t,
      ),
    })),
  });
  return { ...plan, key: changed(plan.key), value: changed(plan.value) };
};

test.each(
  FORMATS.flatMap(({ name, plan }) =>
    [1, 2].flatMap((level) =>
      [plan.key, plan.value].every(({ levels }) => levels[level - 1]?.thresholds.length)
        ? [1.01, 1.001].map((factor) => ({ name, plan, level, factor }))
        : [],
    ),
  ),
)('a threshold × $factor at level $level is found: $name', async ({ plan, level, factor }) => {
  const reports = await run(
    otherKernels(withThreshold(plan, level, (t) => t * factor)),
    plan,
    true,
  );
  expect(failedKernels(reports)).toEqual(['encode_key', 'encode_value']);
  const messages = failed(reports).map(({ message }) => message);
  expect(messages.join('\n')).toMatch(new RegExp(`level ${level}, node \\d+: code \\d+ is`));
});

test('a wrong threshold of a logarithmic radius is found', async () => {
  const { plan } = FORMATS[2]!;
  const { radius } = plan.value;
  if (radius.kind !== 'log') throw new Error('the format has no logarithmic radius');
  const thresholds = radius.thresholds.map((t, i) => (i === 7 ? Math.fround(t * 1.01) : t));
  const wrong = { ...plan, value: { ...plan.value, radius: { ...radius, thresholds } } };
  const reports = await run(otherKernels(wrong), plan, true);
  expect(failedKernels(reports)).toEqual(['encode_value']);
  expect(failed(reports)[0]!.message).toMatch(/radius code \d+ for/);
});

type Fault = {
  readonly what: string;
  readonly make: (call: EncodeCall) => void;
  readonly message: RegExp;
};

const FAULTS: readonly Fault[] = [
  {
    what: 'a byte of the pool that no token of the call owns',
    make: ({ cache }) => {
      cache.data[cache.data.length - 1]! ^= 16;
    },
    message: /cache: 1 bytes differ, the first/,
  },
  {
    what: 'a row error off by 0.1 %',
    make: ({ errors, count }) => {
      if (errors && count > 0) for (let i = 0; i < errors.length; i++) errors[i]! *= 1.001;
    },
    message: /errors\[\d+\] is 0x/,
  },
  {
    what: 'the error of a row that is skipped',
    make: ({ errors, slots }) => {
      const skipped = slots.findIndex((slot) => slot < 0n);
      if (errors && skipped >= 0) errors[skipped] = Math.fround(errors[skipped]! * (1 + 2 ** -20));
    },
    message: /errors\[\d+\] is 0x/,
  },
];

test.each(FAULTS)('found: $what', async ({ make, message }) => {
  const plan = FORMATS[0]!.plan;
  const right = otherKernels(plan);
  const wrong = {
    ...right,
    encodeKey: (call: EncodeCall) => {
      right.encodeKey(call);
      make(call);
    },
  };
  const reports = await run(wrong, plan, true);
  expect(failedKernels(reports)).toEqual(['encode_key']);
  for (const report of failed(reports)) expect(report.message).toMatch(message);
});

test('more codes at boundaries than chance puts there are too many', async () => {
  // Coordinates so far off that all of ten or twenty codes in a hundred thousand may be certified.
  const plan = planOf({ headDim: 512, polar: polar({ depth: 2, bits: [8, 6] }) });
  const reports = await run(otherKernels(plan, { noise: 200 }), plan, true);
  const share = reports.find(({ id }) => /encode_key: codes enough/.test(id))!;
  expect(share.message).toMatch(
    /^cache: 1\d of 100224 codes of ordinary rows differ, more than 10;/,
  );
  expect(share.certifiedCodes).toBeGreaterThan(10);
});

/** One row through the reference: its record, and what certification is told of it. */
const encoded = (codec: CodecPlan, plan: Plan, row: Float32Array, drawn?: Transform) => {
  const transform = drawn ?? drawTransform(codec, 1, createRandom(7));
  const cache = poolOf(plan, 'key', 1);
  const errors = new Float32Array(1);
  createReference(plan).encode('key', {
    rows: { data: row },
    count: 1,
    kvHeads: 1,
    slots: firstSlots(1),
    cache,
    errors,
    ...(transform && { transform }),
  });
  const record = new Uint8Array(coderOf(codec).record.length);
  loadRecord(codec.layout, record, cache.data, 0, 0);
  return { source: { codec, row, transform, head: 0 }, record, error: errors[0]! };
};

const setBits = (record: Uint8Array, position: number, bits: number, value: number): void => {
  for (let i = 0; i < bits; i++) {
    const [byte, bit] = [(position + i) >>> 3, (position + i) & 7];
    record[byte] = (record[byte]! & ~(1 << bit)) | (((value / 2 ** i) & 1) << bit);
  }
};

const readBits = (record: Uint8Array, position: number, bits: number): number => {
  let value = 0;
  for (let i = 0; i < bits; i++) {
    value += ((record[(position + i) >>> 3]! >>> ((position + i) & 7)) & 1) * 2 ** i;
  }
  return value;
};

/** The record with a field another, as its certificate has it. */
const changed = (
  { source, record }: ReturnType<typeof encoded>,
  position: number,
  bits: number,
  change: (value: number) => number,
) => {
  const copy = record.slice();
  setBits(copy, position, bits, change(readBits(record, position, bits)));
  return certifyToken(source, { record: copy }, { record });
};

describe('the certificate of a record', () => {
  const kinds = [
    { radius: 'f16' as const, layout: undefined },
    { radius: 'bf16' as const, layout: tile },
    { radius: 'f16' as const, layout: tile },
    { radius: 'bf16' as const, layout: undefined },
  ];
  test.each(kinds)('refuses a radius two units off: $radius', ({ radius, layout }) => {
    for (const precondition of [none(), hadamard({ seed: 1 }), orthogonal({ seed: 4 }), matrix()]) {
      const plan = planOf({ radius, precondition, ...(layout && { layout }) });
      const token = encoded(plan.key, plan, normals(32, 5));
      for (const position of plan.key.layout.radii) {
        for (const step of [-2, 2]) {
          const { differing, reason } = changed(token, position, 16, (bits) => bits + step);
          expect(differing).toBe(0);
          expect(reason).toMatch(/^block \d: radius/);
        }
        const steps = [-1, 1].map(
          (step) => changed(token, position, 16, (bits) => bits + step).reason,
        );
        // One of both neighbours is less than a unit away, unless the radius itself was exact.
        expect(steps).toContain('');
      }
    }
  });

  test('refuses a radius of 32 bits beyond 2⁻²⁰ of the norm, and takes one within', () => {
    const plan = planOf({ radius: 'f32' });
    const token = encoded(plan.key, plan, normals(32, 5));
    const position = plan.key.layout.radii[1]!;
    // A unit of a radius near 4 is 2⁻²¹; the norm is about √32.
    expect(changed(token, position, 32, (bits) => bits + 4).reason).toBe('');
    expect(changed(token, position, 32, (bits) => bits + 100).reason).toMatch(/^block 1: radius/);
    expect(changed(token, position, 32, (bits) => bits + 2 ** 31).reason).toMatch(/^block 1/);
  });

  test('refuses a norm two units off, and a code of a radius that is not at its threshold', () => {
    const plan = planOf({ radius: log({ bits: 4 }), layout: tile });
    const token = encoded(plan.key, plan, normals(32, 5));
    const { norm, radii } = plan.key.layout;
    for (const step of [-2, 2]) {
      expect(changed(token, norm!, 16, (bits) => bits + step).reason).toMatch(/^norm/);
    }
    for (const step of [-1, 1]) {
      const { differing, reason } = changed(token, radii[0]!, 4, (code) => code + step);
      expect(differing).toBe(1);
      expect(reason).toMatch(/^block 0: radius code/);
    }
  });

  test('refuses every other code of a node that is not at a boundary, signs too', () => {
    const plan = planOf({ precondition: none() });
    const token = encoded(plan.key, plan, normals(32, 6));
    plan.key.levels.forEach(({ bits, level }, index) => {
      plan.key.layout.codes[index]!.forEach((position, node) => {
        for (let flip = 1; flip < 2 ** bits; flip++) {
          const { differing, reason } = changed(token, position, bits, (code) => code ^ flip);
          expect(differing).toBe(1);
          expect(reason).toMatch(new RegExp(`^level ${level}, node ${node}: code`));
        }
      });
    });
  });

  test('takes either sign of a coordinate that rounding may have moved across zero', () => {
    const plan = planOf({ precondition: none() });
    const row = normals(32, 6);
    row[4] = 2 ** -24;
    row[7] = -(2 ** -16);
    const token = encoded(plan.key, plan, row);
    const [small, large] = [plan.key.layout.codes[0]![2]!, plan.key.layout.codes[0]![3]!];
    expect(changed(token, small, 1, (sign) => 1 - sign).reason).toBe('');
    expect(changed(token, large + 3, 1, (sign) => 1 - sign).reason).toMatch(/^level 1, node 3/);
  });

  test('takes what rounding does in a small block no farther than that block, if nothing mixes', () => {
    const plan = planOf({ precondition: none() });
    const row = normals(32, 6).map((x, i) => (i < 16 ? x * 1e6 : x));
    const token = encoded(plan.key, plan, row);
    const last = plan.key.layout.codes[0]!.at(-1)!;
    expect(changed(token, last, 4, (code) => code ^ 2).reason).toMatch(/^level 1, node 15/);
  });

  test('refuses anything in padding', () => {
    const plan = planOf({
      headDim: 16,
      polar: polar({ depth: 2, bits: [3, 2] }),
      radius: log({ bits: 3 }),
    });
    const { layout } = plan.key;
    const used = new Set<number>();
    const use = (position: number, bits: number): void => {
      for (let i = 0; i < bits; i++) used.add(position + i);
    };
    layout.codes.forEach((positions, index) => {
      for (const position of positions) use(position, plan.key.levels[index]!.bits);
    });
    for (const position of layout.radii) use(position, 3);
    use(layout.norm!, 16);
    const free = Array.from({ length: layout.storedBits }, (_, i) => i).filter((i) => !used.has(i));
    expect(free.length).toBeGreaterThan(0);
    const token = encoded(plan.key, plan, normals(16, 5));
    for (const position of free) {
      expect(changed(token, position, 1, () => 1).reason).toBe(
        'bits of the record that hold nothing differ',
      );
    }
  });

  test.each([
    ['f16', {}],
    ['log', { radius: log({ bits: 4 }) }],
  ])('wants blocks that are not finite, or zero, as the reference has them: %s', (_, input) => {
    const plan = planOf({ ...input, precondition: none() });
    const { codes, radii } = plan.key.layout;
    const row = normals(32, 6);
    row[3] = Number.NaN;
    row.fill(0, 16);
    const token = encoded(plan.key, plan, row);
    for (const [position, bits] of [
      [codes[0]![0]!, 1],
      [codes[3]![0]!, 2],
      [codes[0]![15]!, 1],
      [radii[0]!, 1],
      [radii[1]!, 1],
    ] as const) {
      expect(changed(token, position, bits, (value) => value ^ 1).reason).toMatch(
        /not finite|is zero/,
      );
    }
    const zero = encoded(plan.key, plan, new Float32Array(32));
    expect(changed(zero, radii[1]!, 1, () => 1).reason).toMatch(/is zero/);
  });

  test('takes a finite block where a sum overflowed in the reference alone, never a clamped one', () => {
    const plan = planOf({
      radius: 'f32',
      precondition: matrix(),
      polar: polar({ depth: 1, bits: [4] }),
    });
    // y₀ = x₀ + x₁ − x₂ and y_i = x_i else; in the other order of terms nothing overflows.
    const [one, other] = [1, -1].map((sign) => {
      const entries = new Float32Array(32 * 32);
      for (let i = 0; i < 32; i++) entries[i * 32 + i] = 1;
      entries[1] = sign;
      entries[2] = -sign;
      return { matrix: entries };
    });
    const row = normals(32, 6);
    row.fill(2e38, 0, 3);
    const { source, record } = encoded(plan.key, plan, row, one);
    const finite = encoded(plan.key, plan, row, other).record;
    const [radius] = plan.key.layout.radii;
    expect(readBits(record, radius!, 32)).toBe(0x7fc00000);
    expect(readBits(finite, radius!, 32)).toBeLessThan(0x7f800000);
    expect(certifyToken(source, { record: finite }, { record }).reason).toBe('');

    row.fill(3.3e38, 0, 3);
    const beyond = encoded(plan.key, plan, row, one);
    const clamped = finite.slice();
    setBits(clamped, radius!, 32, 0x7f7fffff);
    expect(
      certifyToken(beyond.source, { record: clamped }, { record: beyond.record }).reason,
    ).toMatch(/^block 0 is not finite/);
  });

  test('refuses NaN and infinity where the reference is finite', () => {
    const plan = planOf();
    const token = encoded(plan.key, plan, normals(32, 5));
    for (const bits of [0x7e00, 0x7c00, 0x8000]) {
      expect(changed(token, plan.key.layout.radii[0]!, 16, () => bits).reason).toMatch(/^block 0/);
    }
  });

  test('takes a radius beyond its type clamped', () => {
    const plan = planOf();
    const token = encoded(
      plan.key,
      plan,
      normals(32, 5).map((x) => x * 1e6),
    );
    const position = plan.key.layout.radii[0]!;
    expect(readBits(token.record, position, 16)).toBe(0x7bff);
    expect(changed(token, position, 16, (bits) => bits - 2).reason).toMatch(/^block 0: radius/);
    // The code beside it is another token's fault: clamping does not hide it.
    const code = plan.key.layout.codes[3]![0]!;
    expect(changed(token, code, 2, (value) => value ^ 3).reason).toMatch(/^level 4, node 0/);
  });
});

describe('the certificate of a row error', () => {
  const plan = planOf();
  const { source, record, error } = encoded(plan.key, plan, normals(32, 5));
  const holds = (got: number, want: number): boolean =>
    certifyToken(source, { record, error: got }, { record, error: want }).errorHolds;

  test.each([
    [1, true],
    [1 + 5e-5, true],
    [1 - 5e-5, true],
    [1 + 1e-3, false],
    [1 - 1e-3, false],
    [-1, false],
    [Number.NaN, false],
    [Infinity, false],
  ])('an error × %d: %s', (factor, expected) => {
    expect(holds(error * factor, error)).toBe(expected);
  });

  test('infinite errors must be infinite', () => {
    expect(holds(Infinity, Infinity)).toBe(true);
    expect(holds(3e38, Infinity)).toBe(false);
    expect(holds(Number.NaN, Infinity)).toBe(false);
  });

  test('the error is that of the norm that stands in the record', () => {
    // A norm one unit off changes the error by far more than summing does.
    const plan = planOf({ radius: log({ bits: 2 }), polar: polar({ depth: 2, bits: [8, 6] }) });
    const rows = Array.from({ length: 20 }, (_, seed) => normals(32, seed));
    const moved = rows.flatMap((row) => {
      const { source, record, error } = encoded(plan.key, plan, row);
      return [-1, 1].flatMap((step) => {
        const copy = record.slice();
        const { norm } = plan.key.layout;
        setBits(copy, norm!, 16, readBits(record, norm!, 16) + step);
        const got = { record: copy, error };
        const { reason, errorHolds } = certifyToken(source, got, { record, error });
        return reason === '' ? [errorHolds] : [];
      });
    });
    expect(moved.length).toBeGreaterThan(10);
    expect(moved.filter((holds) => holds).length).toBeLessThan(moved.length / 4);
  });
});
