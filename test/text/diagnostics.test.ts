import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  CODES,
  nearestWord,
  renderError,
  SpecError,
  show,
  UserError,
} from '../../generator/diagnostics/index.ts';

const INTRODUCTION = [
  '# Errors',
  '',
  'Every mistake has a code; the text beside it says what is wrong and, after the arrow, what to write instead. All mistakes of a',
  'spec are reported at once. Exit status 2 is a mistake in use, 1 a check that does not hold.',
  '',
];
const ROOT = join(import.meta.dirname, '../..');

describe('codes', () => {
  test('stand in docs/errors.md', async () => {
    const rows = Object.entries(CODES).map(([code, meaning]) => `| ${code} | ${meaning} |`);
    const page = [...INTRODUCTION, '| code | meaning |', '|---|---|', ...rows, ''].join('\n');
    await expect(page).toMatchFileSnapshot('../../docs/errors.md');
  });

  test('are all that the compiler throws, and all are thrown', () => {
    const used = new Set<string>();
    for (const folder of ['generator', 'targets']) {
      for (const entry of readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })) {
        if (!entry.endsWith('.ts') || entry.endsWith('codes.ts')) continue;
        const text = readFileSync(join(ROOT, folder, entry), 'utf8');
        for (const match of text.matchAll(/'(P\d{3})'/g)) used.add(match[1]!);
      }
    }
    expect([...used].sort()).toEqual(Object.keys(CODES).sort());
  });
});

describe('errors', () => {
  test('are one line a mistake', () => {
    const hinted = new UserError('P104', "--bits: '4,x' is no list of bits", 'write numbers');
    expect(renderError(hinted)).toBe(
      "error[P104] --bits: '4,x' is no list of bits → write numbers",
    );
    expect(renderError(new UserError('P100', 'a.ts: cannot be read'))).toBe(
      'error[P100] a.ts: cannot be read',
    );
    const error = new SpecError([
      { code: 'P012', path: 'key.polar.bits', value: [4], message: '1 entry', fix: 'write 2' },
      { code: 'P001', path: '', value: 7, message: '7 is no record', fix: 'write one' },
    ]);
    expect(error).toBeInstanceOf(UserError);
    expect(error.code).toBe('P012');
    expect(renderError(error)).toBe(
      'error[P012] key.polar.bits: 1 entry → write 2\nerror[P001] spec: 7 is no record → write one',
    );
  });

  test('show values as they are written', () => {
    const cases = [
      { given: 'a\n"b"', want: `'a "b"'` },
      { given: -0, want: '-0' },
      { given: Number.NaN, want: 'NaN' },
      { given: 12n, want: '12n' },
      {
        given: { a: [1, { b: null }], c: undefined },
        want: '{ a: [1, { b: null }], c: undefined }',
      },
      { given: () => 1, want: 'a function' },
    ];
    for (const { given, want } of cases) expect(show(given)).toBe(want);
    expect(show('x'.repeat(100))).toHaveLength(60);
    const circle: unknown[] = [];
    circle.push(circle);
    expect(show(circle)).toBe('[[[[…]]]]');
  });

  test('find the word that was meant', () => {
    const words = ['headDim', 'precondition', 'polar', 'radius'];
    const cases = [
      { given: 'headdim', want: 'headDim' },
      { given: 'haedDim', want: 'headDim' },
      { given: 'preconditioner', want: 'precondition' },
      { given: 'radiuses', want: 'radius' },
      { given: 'layout', want: undefined },
      { given: 'x', want: undefined },
    ];
    for (const { given, want } of cases) expect(nearestWord(given, words)).toBe(want);
  });
});
