import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { conformanceCases, runCases } from '../../generator/conformance/index.ts';
import { compare, emitCache, write } from '../../generator/emit/index.ts';
import { lower } from '../../generator/plan/index.ts';
import { type CacheInput, log, normalizeAll } from '../../generator/spec/index.ts';
import type { BuiltCache, Target } from '../../generator/target/index.ts';
import { TARGETS } from '../../targets/index.ts';
import { cache, FORMATS, PAPER, TILES } from '../fixtures/half-formats.ts';

const hadamard = (seed: number) => ({ kind: 'hadamard', seed }) as const;

/** Presets, then every head dimension that the issue names, each with another format. */
const CACHES: readonly CacheInput[] = [
  cache('llama_d128_rows', 4, { headDim: 128, polar: PAPER }),
  cache('llama_d128_tiles', 4, { headDim: 128, polar: PAPER, layout: TILES }),
  cache('phi_d96', 1, { headDim: 96, polar: PAPER, layout: TILES }),
  cache('small_d64', 3, { headDim: 64, polar: PAPER }),
  // Windows of rows that overlap: the record's words are not read in steps of four bytes.
  cache('d128_depth3', 2, { headDim: 128, polar: { bits: [4, 2, 2] } }),
  cache(
    'mixed_d64',
    8,
    {
      headDim: 64,
      polar: { bits: [5, 3, 3, 3, 3, 3] },
      precondition: { kind: 'matrix' },
      center: true,
    },
    { headDim: 64, polar: { bits: [4, 2, 2, 2, 2, 2] }, layout: TILES, center: true },
  ),
  cache('d80', 4, {
    headDim: 80,
    polar: { bits: [3, 2, 2] },
    radius: log({ bits: 4 }),
    layout: TILES,
  }),
  cache(
    'd96_key_d64_value',
    2,
    {
      headDim: 96,
      polar: { bits: [6, 4, 3, 2, 1] },
      precondition: { kind: 'orthogonal', seed: 7 },
    },
    { headDim: 64, polar: { bits: [1, 1, 1] }, radius: 'bf16', layout: TILES },
    { dense: 'bf16' },
  ),
  cache('d112', 7, {
    headDim: 112,
    polar: { bits: [4, 3] },
    precondition: hadamard(3),
    radius: 'f32',
  }),
  cache('d160', 5, { headDim: 160, polar: PAPER, layout: TILES, precondition: { kind: 'none' } }),
  cache('d192', 16, { headDim: 192, polar: { bits: [8, 6] }, radius: 'bf16' }, undefined, {
    pageTokens: 24,
    dense: 'f32',
  }),
  cache('d224', 1, { headDim: 224, polar: { bits: [4, 2, 2, 2, 2] }, layout: TILES }),
  cache('gemma_d256', 2, { headDim: 256, polar: PAPER, layout: TILES }),
  cache('d320', 4, { headDim: 320, polar: { bits: [4, 2, 2, 2, 2, 2] }, center: true }),
  cache('d512', 2, { headDim: 512, polar: { bits: [4, 2, 2, 2, 2, 2, 2, 2, 2] }, layout: TILES }),
  cache(
    'latent_d576',
    8,
    { headDim: 576, polar: PAPER },
    { headDim: 512, polar: PAPER, radius: log({ bits: 3 }) },
  ),
];

/** Compilers at once. */
const BUILDS = 2;

for (const entry of TARGETS) {
  const target: Target = await entry.load();
  const missing = (await target.check()).filter(({ ok, required }) => required && !ok);
  const reason = missing.map(({ what, detail }) => `${what}: ${detail}`).join('; ');
  if (missing.length > 0) console.warn(`${target.id} is skipped: ${reason}`);

  describe.skipIf(missing.length > 0)(`conformance of ${target.id}`, () => {
    const folders: string[] = [];
    const built = new Map<string, Promise<BuiltCache>>();
    // Those that every device of the target has.
    const others = target.arithmetics.slice(1).filter(({ needs }) => needs === undefined);
    const caches = [
      ...CACHES,
      ...others.flatMap(({ id }) =>
        FORMATS.map((input) => ({
          ...input,
          name: `${input.name}_${id}`,
          arithmetic: { [target.id]: id },
        })),
      ),
    ];
    const plans = normalizeAll(caches, { targets: [target] }).map(lower);

    beforeAll(() => {
      let lanes: Promise<unknown>[] = Array.from({ length: BUILDS }, async () => {});
      for (const plan of plans) {
        const folder = mkdtempSync(join(tmpdir(), 'polarc-test-'));
        folders.push(folder);
        const emitted = emitCache(plan, [target], { name: 'test', command: 'verify' });
        write(compare(folder, [emitted], { sources: ['test'], targets: null }));
        const [first, ...others] = lanes;
        const build = first!.then(() => target.build({ folder, plan }));
        built.set(plan.name, build);
        lanes = [...others, build.catch(() => {})];
      }
    });
    afterAll(async () => {
      for (const each of await Promise.allSettled(built.values())) {
        if (each.status === 'fulfilled') each.value.close();
      }
      for (const folder of folders) rmSync(folder, { recursive: true, force: true });
    });

    test.each(plans.map((plan) => [plan.name, plan] as const))('%s', async (name, plan) => {
      expect(target.unsupported(plan)).toEqual([]);
      const { calls, variants } = await built.get(name)!;
      const used = plan.arithmetic[target.id] ?? 'float';
      const { bound, logitError } = target.arithmetics.find(({ id }) => id === used)!;
      const cases = conformanceCases(plan, { seed: 1, bound, ...(logitError && { logitError }) });
      const reports = await runCases({
        plan,
        target: target.id,
        cases,
        calls,
        ...(variants && { variants }),
      });
      const failures = reports
        .filter(({ ok }) => !ok)
        .map(({ id, message }) => `${id}: ${message}`);
      expect(failures).toEqual([]);
      expect(reports.reduce((sum, { differingBytes }) => sum + differingBytes, 0)).toBe(0);
    });
  });
}
