/** The count of what a GPU executes, from the emitted text. */

import { expect, test } from 'vitest';
import { render } from '../../generator/emit/index.ts';
import { lower, type Plan } from '../../generator/plan/index.ts';
import { type CacheInput, type CodecInput, normalize } from '../../generator/spec/index.ts';
import { target } from '../../targets/wgsl/index.ts';
import { countOperations } from '../../targets/wgsl/operations.ts';

const planOf = (
  queryGroup: number,
  layout: 'rows' | 'tiles',
  polar: CodecInput['polar'] = { bits: [4, 2, 2, 2] },
): Plan => {
  const codec = {
    headDim: 128,
    polar,
    layout:
      layout === 'rows' ? ({ kind: 'rows' } as const) : ({ kind: 'tiles', tokens: 32 } as const),
  };
  const spec: CacheInput = {
    name: 'counted',
    key: codec,
    value: codec,
    queryGroup: queryGroup as 1,
    pageTokens: 64,
  };
  return lower(normalize(spec, { targets: [target] }));
};

const textOf = (plan: Plan, kernel = 'attend'): string =>
  String(
    render(plan, target, { name: 'test', command: 'generate' }).find(({ path }) =>
      path.endsWith(`/${kernel}.wgsl`),
    )!.content,
  );

const count = (plan: Plan, text = textOf(plan)) => countOperations('attend', text, plan);

test('counts of the paper format, rows', () => {
  expect(count(planOf(4, 'rows'))).toMatchInlineSnapshot(`
    [
      {
        "bytes": 0.5,
        "float": 5.25,
        "integer": 2.8125,
        "lookups": 1.5625,
        "loop": "attend, keys",
      },
      {
        "bytes": 0.5,
        "float": 5.25,
        "integer": 2.4375,
        "lookups": 0.625,
        "loop": "attend, values",
      },
    ]
  `);
});

test('counts of the dense kernel that it is compared with', () => {
  const plan = planOf(4, 'rows');
  expect(
    countOperations('attend_dense', textOf(plan, 'attend_dense'), plan),
  ).toMatchInlineSnapshot(`
    [
      {
        "bytes": 2,
        "float": 4,
        "integer": 4.5,
        "lookups": 1,
        "loop": "attend_dense, keys",
      },
      {
        "bytes": 2,
        "float": 4,
        "integer": 6,
        "lookups": 0.5,
        "loop": "attend_dense, values",
      },
    ]
  `);
});

test('counts grow with what is emitted', () => {
  const [keys, values] = count(planOf(4, 'rows'));
  const [keys1] = count(planOf(1, 'rows'));
  const [keys8] = count(planOf(8, 'rows'));
  const [tileKeys] = count(planOf(4, 'tiles'));
  const [deepKeys] = count(planOf(4, 'rows', { bits: [4, 2, 2, 2, 2, 2, 2] }));
  // A query costs a multiply-add a coordinate, and one for 16 of them to apply the radius.
  expect(keys!.float - keys1!.float).toBeCloseTo(3 + 3 / 16, 6);
  // Eight queries are two workgroups, each of which decodes.
  expect(keys8!.integer).toBe(2 * keys!.integer);
  expect(tileKeys!.integer).toBeGreaterThan(keys!.integer);
  expect(deepKeys!.lookups).toBeGreaterThan(keys!.lookups);
  expect(deepKeys!.bytes).toBeLessThan(keys!.bytes);
  expect(values!.float).toBe(keys!.float);
});

test('an operation more in the text is one more in the count', () => {
  const plan = planOf(1, 'rows');
  const text = textOf(plan);
  const [before] = count(plan);
  const more = text.replace('let codes_at = unit +', 'let codes_at = 1u + unit +');
  expect(more).not.toBe(text);
  expect((count(plan, more)[0]!.integer - before!.integer) * 16).toBeCloseTo(1, 6);
});
