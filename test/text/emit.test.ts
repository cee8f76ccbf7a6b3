import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createTemplates, lint, render, type Templates } from '../../generator/emit/index.ts';
import { lower } from '../../generator/plan/index.ts';
import { normalize, specFromFlags } from '../../generator/spec/index.ts';
import {
  type FileView,
  floatLiteral,
  hexLiteral,
  intLiteral,
  type Target,
  type View,
  wrapList,
} from '../../generator/target/index.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'polarc-emit-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

function templates(files: Record<string, string>): Templates {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
  return createTemplates(folder);
}

function rendered(text: string, view: View): string {
  return templates({ 'x/a.h.hbs': text }).render('x/a.h.hbs', view);
}

describe('templates', () => {
  test('print what the view holds, unescaped, with the index as text', () => {
    const text =
      '{{#each list}}{{@index}}{{@index}}:{{this}}{{#unless @last}}, {{/unless}}{{/each}}';
    expect(rendered(text, { list: ['<a>', '"b"'] })).toBe('00:<a>, 11:"b"');
  });

  test('find partials by their path, with their own extension', () => {
    const all = templates({
      'shared/abi.h.hbs': 'abi {{x}}\n',
      'x/partials/one.cpp.hbs': 'one {{x}}\n',
      'x/a.h.hbs': '{{> shared/abi.h}}\n{{> x/partials/one.cpp}}\n',
    });
    expect(all.render('x/a.h.hbs', { x: 'X' })).toBe('abi X\none X\n');
  });

  test.each([
    ['{{nme}}', '"nme" not defined'],
    ['{{#if nme}}{{/if}}', '{{#if}} of a name that the view lacks, line 1, column 0'],
    [
      '\n  {{#unless nme}}{{/unless}}',
      '{{#unless}} of a name that the view lacks, line 2, column 2',
    ],
    ['{{#each nme}}{{/each}}', '{{#each}} of a name that the view lacks'],
    ['{{#each name}}{{/each}}', '{{#each}} of what is no list'],
    ['{{lookup name 0}}', 'unknown helper lookup'],
    ['{{> nothing}}', 'nothing could not be found'],
  ])('%j is an error that says where', (text, message) => {
    expect(() => rendered(text, { name: 'n' })).toThrow(`templates/x/a.h.hbs: `);
    expect(() => rendered(text, { name: 'n' })).toThrow(message);
  });

  test('an error in a partial names the partial', () => {
    const all = templates({ 'x/partials/p.hbs': '{{nme}}', 'x/a.hbs': '{{> x/partials/p}}' });
    expect(() => all.render('x/a.hbs', {})).toThrow(/^templates\/x\/partials\/p\.hbs: "nme"/);
  });

  test.each([
    [{ a: 1 }, 'view.a is a number'],
    [{ a: [{ b: undefined }] }, 'view.a[0].b is a undefined'],
    [{ a: null }, 'view.a is null'],
  ])('a view of %j is refused', (view, message) => {
    expect(() => rendered('x', view as unknown as View)).toThrow(message);
  });
});

describe('an emitted file', () => {
  const plan = lower(normalize(specFromFlags({ headDim: 32, bits: '4,2', name: 'tiny' })));
  const source = { name: 'tiny.polar.ts', command: 'generate tiny.polar.ts' };
  function emitted(path: string, text: string): string {
    const files: FileView[] = [{ path, template: 'x/f.hbs', view: {}, part: 'encode' }];
    const target = { id: 'x', files: () => files } as unknown as Target;
    return render(plan, target, source, templates({ 'x/f.hbs': text }))[0]!.content as string;
  }

  test('says what it is and how to make it again', () => {
    const head = emitted('x/tiny.cpp', '// Rows to slots.\nint x;\n');
    expect(head.replace(plan.planHash.slice(0, 16), 'HASH')).toMatchInlineSnapshot(`
      "// polarc · tiny · encode · x
      // Generated from tiny.polar.ts (plan HASH)
      // through templates/x/f.hbs. Do not edit: change the spec, then
      //   npx polarc generate tiny.polar.ts --target x
      // SPDX-License-Identifier: Apache-2.0 OR MIT
      //
      // Rows to slots.
      int x;
      "
    `);
  });

  test('has the comments of its language, or none', () => {
    expect(emitted('x/binding.gyp', '{}\n')).toMatch(/^# polarc .*\n(# .*\n){4}\n\{\}\n$/);
    expect(emitted('x/package.json', '{}\n')).toBe('{}\n');
  });

  test.each([
    ['a  \n', 'line 1: a space at the end'],
    ['a\n\tb\n', 'line 2: a tab'],
    ['a\r\n', 'line 1: a carriage return'],
    ['a', 'no line break at the end'],
    ['a\n\n', 'an empty line at the end'],
    [`${'x'.repeat(101)}\n`, '101 columns'],
  ])('%j is a fault of its template', (text, message) => {
    expect(() => lint('x/a.h', text, 'tiny')).toThrow(message);
  });
});

describe('literals', () => {
  test.each([
    [0.5, '0.5f'],
    [1, '1.0f'],
    [0, '0.0f'],
    [-0, '-0.0f'],
    [16777216, '1.6777216e+07f'],
    [Math.fround(0.1), '0.1f'],
    [Math.fround(1e-10), '1e-10f'],
    [2 ** -149, '1e-45f'],
    [Math.fround(3.4028234663852886e38), '3.4028235e+38f'],
    [Math.fround(Math.PI), '3.1415927f'],
  ])('%d is %s', (value, text) => {
    expect(floatLiteral(value)).toBe(text);
  });

  test('read back as the same float32, from any bits', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffffffff }), (bits) => {
        const value = new Float32Array(Uint32Array.of(bits).buffer)[0]!;
        if (!Number.isFinite(value)) return;
        const text = floatLiteral(value);
        expect(text).toMatch(/^-?\d+\.?\d*(e[+-]\d\d)?f$/);
        expect(Object.is(Math.fround(Number.parseFloat(text)), value)).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });

  test('what is no float32, or no whole number, is refused', () => {
    expect(() => floatLiteral(0.1)).toThrow('not a finite float32');
    expect(() => floatLiteral(Number.NaN)).toThrow('not a finite float32');
    expect(() => intLiteral(0.5)).toThrow('not a whole number');
    expect(() => hexLiteral(256, 2)).toThrow('2 hexadecimal digits');
    expect([intLiteral(-0), hexLiteral(255, 2)]).toEqual(['0', '0xffu']);
  });

  test('lists keep to the columns', () => {
    const items = Array.from({ length: 60 }, (_, i) => `${i}.5f`);
    const text = wrapList(items, '  ', 40);
    expect(Math.max(...text.split('\n').map((line) => line.length))).toBeLessThanOrEqual(40);
    expect(text.split(/,\s+/).map((item) => item.trim())).toEqual(items);
    expect(text.startsWith('  0.5f, 1.5f,')).toBe(true);
  });
});
