/** Certification on a device: kernels that round a little differently pass it, kernels that are wrong do not. */

import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { type CaseReport, conformanceCases, runCases } from '../../generator/conformance/index.ts';
import { none } from '../../generator/spec/index.ts';
import { checks } from '../../targets/wgsl/device.ts';
import { target } from '../../targets/wgsl/index.ts';
import { emitted } from '../fixtures/emitted.ts';
import { planOf } from '../fixtures/small-cache.ts';

const missing = (await checks()).filter(({ ok, required }) => required && !ok);
const reason = missing.map(({ what, detail }) => `${what}: ${detail}`).join('; ');
if (missing.length > 0) console.warn(`certification on a device is skipped: ${reason}`);

// Without preconditioning the suite can put vectors right at the thresholds.
const plan = planOf({ precondition: none() });

describe.skipIf(missing.length > 0)('certification on a device', () => {
  const folders: string[] = [];
  afterAll(() => {
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  });

  /** Reports of the encode cases of edited kernels. */
  const encode = async (
    place: RegExp,
    edit: string,
    certify: boolean,
  ): Promise<readonly CaseReport[]> => {
    const folder = emitted(plan, target);
    folders.push(folder);
    const file = join(folder, 'wgsl/small/small.js');
    const text = readFileSync(file, 'utf8');
    expect(text).toMatch(place);
    writeFileSync(file, text.replace(place, edit));
    const { calls } = await target.build({ folder, plan });
    const bound = target.arithmetics.find(({ id }) => id === 'float')!.bound;
    const cases = conformanceCases(plan, { seed: 1, bound, certify, quick: true });
    return await runCases({
      plan,
      target: target.id,
      calls,
      cases: cases.filter(({ kernel }) => kernel === 'encode_key'),
    });
  };

  const failures = (reports: readonly CaseReport[]): string[] =>
    reports.filter(({ ok }) => !ok).map(({ id, message }) => `${id}: ${message}`);

  // A unit in the last place: what another order of operations, or a fused one, does.
  const ROUNDING = [
    /return bitcast<f32>\(bitcast<u32>\(a \* b\) \^ params\.zero\);/g,
    'let p = bitcast<u32>(a * b);\n  return bitcast<f32>(p + (p & 1u));',
  ] as const;

  test('passes another rounding, which equality refuses', async () => {
    const certified = await encode(...ROUNDING, true);
    expect(failures(certified)).toEqual([]);
    expect(certified.reduce((sum, each) => sum + each.certifiedCodes, 0)).toBeGreaterThan(0);
    expect(failures(await encode(...ROUNDING, false))).not.toEqual([]);
  });

  test.each([
    ['level 1', /(thresholds_l1 = array<f32, \d+>\(\s*)[0-9.]+f/g],
    ['level 2', /(thresholds_l2 = array<f32, \d+>\(\s*)[0-9.]+f/g],
  ])('fails a wrong threshold of %s', async (level, place) => {
    const entry = plan.key.levels[level === 'level 1' ? 0 : 1]!.thresholds[0]!;
    const found = failures(await encode(place, `$1${(entry * 1.002).toFixed(6)}f`, true));
    expect(found.length).toBeGreaterThan(0);
    expect(found.join()).toMatch(/code|threshold|boundary/);
  });
});
