/** What the cost model of the cuda target chooses, as `inspect` shows it. */

import { expect, test } from 'vitest';
import { lower } from '../../generator/plan/index.ts';
import { type CacheInput, normalize } from '../../generator/spec/index.ts';
import { choices } from '../../targets/cuda/choices.ts';
import { VERSIONS, versionsOf } from '../../targets/cuda/half-view.ts';

const planOf = (codec: object, cache: object = {}) => {
  const format = { headDim: 128, polar: { bits: [4, 2, 2, 2] }, ...codec };
  const spec = { name: 'chosen', key: format, value: format, queryGroup: 4, ...cache };
  return lower(normalize(spec as unknown as CacheInput));
};
const half = { arithmetic: { cuda: 'half' } };

const on = (plan: ReturnType<typeof planOf>): Record<string, string> =>
  Object.fromEntries(choices(plan)[0]!.rows.map((row) => [row.version!, row.on!]));

test('devices take the largest tables that fit', () => {
  expect(choices(planOf({}, half))[0]!.what).toBe(
    'attend in half precision, 16 warps a block, by tables of joint codes',
  );
  expect(on(planOf({}, half))).toEqual({
    joint10: 'sm_90, sm_100, sm_103, sm_80, sm_87',
    joint8: 'sm_86, sm_89, sm_120, sm_121, sm_75',
  });
  expect(on(planOf({ polar: { bits: [5, 3, 3, 3] } }, half))).toEqual({
    joint10: 'sm_90, sm_100, sm_103, sm_80, sm_87',
    joint9: 'sm_86, sm_89, sm_120, sm_121',
    joint8: 'sm_75',
  });
});

test('every device has a version for codes of at most 6 bits, roles that differ included', () => {
  for (const queryGroup of [1, 4, 8, 16]) {
    for (const bits of [[4], [6, 5], [5, 3, 3, 3], [4, 2, 2, 2, 2, 2, 2]]) {
      for (const layout of [{ kind: 'rows' }, { kind: 'tiles', tokens: 32 }]) {
        const value = { headDim: 128, polar: { bits: [4, 2, 2, 2] } };
        const plan = planOf({ polar: { bits }, layout }, { ...half, queryGroup, value });
        const devices = Object.values(on(plan)).join(', ');
        expect(devices, `${bits} ${layout.kind}, group ${queryGroup}`).toContain('sm_75');
      }
    }
  }
});

test('tables that are not worth their memory are left out', () => {
  const tiles = planOf({ layout: { kind: 'tiles', tokens: 32 } }, half);
  const names = versionsOf(tiles).map(({ name }) => name);
  expect(names.length).toBeLessThan(VERSIONS.length);
  expect(names.at(-1)).toBe('joint8');
});

test.each([
  { codec: { radius: 'bf16' }, cache: {}, why: 'key: bf16 radii exceed the range of f16' },
  { codec: { radius: 'f32' }, cache: {}, why: 'key: f32 radii exceed the range of f16' },
  { codec: { headDim: 32 }, cache: {}, why: 'key: head dimension 32 is below 48' },
  {
    codec: { headDim: 100, polar: { bits: [4, 2] }, precondition: { kind: 'none' } },
    cache: {},
    why: 'key: 16 does not divide head dimension 100',
  },
  { codec: {}, cache: { pageTokens: 100 }, why: '16 does not divide the 100 tokens of a page' },
])('float32 where half precision is not for a format: $why', ({ codec, cache, why }) => {
  expect(choices(planOf(codec, { ...cache, ...half }))).toEqual([
    { what: `attend in float32; half precision is not for this format: ${why}`, rows: [] },
  ]);
});

test('a plan that does not ask for it is told what it would be', () => {
  expect(choices(planOf({}))[0]!.what).toMatch(
    /^attend in float32; with arithmetic: \{ cuda: 'half' \}/,
  );
});
