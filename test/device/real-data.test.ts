/** Kernels on keys, values and queries of a real model: the reference's bytes, its attention within the bound. */

import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AttendCall, KernelCalls, Plan, Role, Transform } from '../../generator/plan/index.ts';
import { createReference } from '../../generator/reference/index.ts';
import { arrayOf, floatsOf, readSafetensors, tensorOf } from '../../generator/safetensors/index.ts';
import { hadamard, log, matrix, none, polar, rows, tiles } from '../../generator/spec/index.ts';
import { TARGETS } from '../../targets/index.ts';
import { emitted } from '../fixtures/emitted.ts';
import { firstSlots, matrices, planOf, poolOf } from '../fixtures/small-cache.ts';

/** `float` (docs/exactness.md). */
const BOUND = 1e-10;

// Another capture of the same layout may be named, to run the same checks on all of a model.
const file = readSafetensors(
  readFileSync(process.env.POLARC_CAPTURE ?? 'test/fixtures/kv-slice.safetensors'),
);
const layers = [...file.tensors.keys()].flatMap(
  (name) => /^layer\.(\d+)\.key$/.exec(name)?.[1] ?? [],
);
const [heads, tokens, d] = tensorOf(file, `layer.${layers[0]}.key`).shape as [
  number,
  number,
  number,
];
const [qHeads, positions] = tensorOf(file, `layer.${layers[0]}.query`).shape as [number, number];
const group = (qHeads / heads) as 3; // of the DSL any number from 1 to 16

const base = { headDim: d, layout: tiles({ tokens: 32 }), precondition: hadamard({ seed: 1 }) };
const paper = polar({ bits: [4, 2, 2, 2] });
const FORMATS: [string, Plan][] = [
  ['the paper, tiles', planOf({ ...base, polar: paper }, undefined, { queryGroup: group })],
  [
    'no preconditioning, rows',
    planOf(
      {
        headDim: d,
        layout: rows(),
        precondition: none(),
        polar: polar({ bits: [5, 3, 3, 3, 3, 3] }),
      },
      undefined,
      { queryGroup: group },
    ),
  ],
  [
    'centred, keys finer than values, log radii',
    planOf(
      { ...base, polar: polar({ bits: [5, 3, 3] }), center: true },
      { ...base, polar: paper, radius: log({ bits: 4 }), center: true },
      { queryGroup: group },
    ),
  ],
  [
    'matrices',
    planOf({ ...base, polar: paper, precondition: matrix() }, undefined, { queryGroup: group }),
  ],
];

/** [head][row][d] to [row][head][d]. */
function rowsFirst(x: Float32Array, count: number, n: number): Float32Array {
  const out = new Float32Array(x.length);
  for (let head = 0; head < count; head++) {
    for (let row = 0; row < n; row++) {
      out.set(x.subarray((head * n + row) * d, (head * n + row + 1) * d), (row * count + head) * d);
    }
  }
  return out;
}

const tensor = (name: string): Float32Array => Float32Array.from(floatsOf(tensorOf(file, name)));

for (const entry of TARGETS) {
  const target = await entry.load();
  const missing = (await target.check()).filter(({ ok, required }) => required && !ok);
  const reason = missing.map(({ what, detail }) => `${what}: ${detail}`).join('; ');
  if (missing.length > 0) console.warn(`real data on ${target.id} is skipped: ${reason}`);

  const title = `${target.id}: %s`;
  describe.skipIf(missing.length > 0).each(FORMATS)(title, (_, plan) => {
    let calls: KernelCalls & { close?(): void };
    let close: () => void;
    beforeAll(async () => {
      const built = await target.build({ folder: emitted(plan, target), plan });
      calls = built.calls;
      close = () => built.close();
    });
    afterAll(() => close?.());

    it.each(layers)('layer %s', async (layer) => {
      const reference = createReference(plan);
      const pages = tokens / plan.pageTokens;
      const transformOf = (role: Role): Transform => ({
        ...(plan[role].center && { mean: tensor(`layer.${layer}.${role}_mean`) }),
        ...(plan[role].precondition.kind === 'matrix' && matrices(d, heads, 5)),
      });
      const packed = {
        key: poolOf(plan, 'key', pages, heads),
        value: poolOf(plan, 'value', pages, heads),
      };
      for (const role of ['key', 'value'] as const) {
        const call = {
          rows: { data: rowsFirst(tensor(`layer.${layer}.${role}`), heads, tokens) },
          count: tokens,
          kvHeads: heads,
          slots: firstSlots(tokens),
          cache: packed[role],
          transform: transformOf(role),
          errors: new Float32Array(tokens * heads),
        };
        await (role === 'key' ? calls.encodeKey(call) : calls.encodeValue(call));
        const want = {
          ...call,
          cache: poolOf(plan, role, pages, heads),
          errors: call.errors.slice(),
        };
        reference.encode(role, want);
        expect(Buffer.compare(packed[role].data, want.cache.data)).toBe(0);
        expect(call.errors).toEqual(want.errors);
      }

      const out = new Float32Array(positions * qHeads * d);
      const lse = new Float32Array(positions * qHeads);
      const call: AttendCall = {
        q: { data: rowsFirst(tensor(`layer.${layer}.query`), qHeads, positions) },
        out: { data: out },
        lse,
        rows: positions,
        kvHeads: heads,
        rowSequence: new Int32Array(positions),
        rowPosition: Int32Array.from(arrayOf(tensorOf(file, 'query_positions')) as Int32Array),
        scale: d ** -0.5,
        keys: packed.key,
        values: packed.value,
        index: { sequences: 1, maxTokens: tokens, lengths: Int32Array.of(tokens) },
        key: transformOf('key'),
        value: transformOf('value'),
      };
      await calls.attend(call);
      const want = reference.attend(call);
      for (let head = 0; head < heads; head++) {
        let lost = 0;
        let energy = 0;
        for (let row = 0; row < positions; row++) {
          const from = (row * qHeads + head * group) * d;
          for (let i = from; i < from + group * d; i++) {
            lost += (out[i]! - want.out[i]!) ** 2;
            energy += want.out[i]! ** 2;
          }
        }
        const bound = BOUND * Math.max(1, (want.maxLogit[head]! / 32) ** 2);
        expect(lost / energy).toBeLessThanOrEqual(bound);
      }
      for (const [i, x] of lse.entries()) expect(Math.abs(x - want.lse[i]!)).toBeLessThan(1e-3);
    });
  });
}
