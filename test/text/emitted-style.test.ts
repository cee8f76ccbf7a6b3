/** What every emitted file keeps to, for every target, over the presets and random formats of the whole DSL. */

import { expect, test } from 'vitest';
import { randomSpecs } from '../../generator/conformance/index.ts';
import { lint, render } from '../../generator/emit/index.ts';
import { lower } from '../../generator/plan/index.ts';
import { type CacheInput, normalize } from '../../generator/spec/index.ts';
import presets from '../../polarc.config.ts';
import { TARGETS } from '../../targets/index.ts';
import { FORMATS } from '../fixtures/half-formats.ts';

const SOURCE = { name: 'my-cache.polar.ts', command: 'generate my-cache.polar.ts' };

const cases: [string, CacheInput][] = [
  ...presets.caches.map((spec): [string, CacheInput] => [`preset ${spec.name}`, spec]),
  ...presets.caches.map((spec): [string, CacheInput] => [
    `preset ${spec.name} in f16`,
    { ...spec, arithmetic: { wgsl: 'half' } },
  ]),
  ...FORMATS.map((spec): [string, CacheInput] => [
    `${spec.name} in f16`,
    { ...spec, arithmetic: { cuda: 'half', wgsl: 'half' } },
  ]),
  ...randomSpecs({ count: 50, seed: 11, arithmetics: { cuda: ['float', 'half'] } }).map(
    (spec): [string, CacheInput] => [spec.name, spec],
  ),
];

test.each(cases)('%s is emitted without a style fault, the same twice', async (_, spec) => {
  const plan = lower(normalize(spec));
  for (const entry of TARGETS) {
    const target = await entry.load();
    const files = render(plan, target, SOURCE);
    expect(files.length).toBeGreaterThan(0);
    for (const { path, content } of files) {
      if (typeof content === 'string') lint(path, content, plan.name);
    }
    expect(render(plan, target, SOURCE)).toEqual(files);
  }
});
