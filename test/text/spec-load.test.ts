import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { renderError, UserError } from '../../generator/diagnostics/index.ts';
import {
  findConfig,
  loadSpecs,
  normalize,
  normalizeAll,
  specFromFlags,
} from '../../generator/spec/index.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'polarc-load-'));
  vi.stubEnv('XDG_CACHE_HOME', join(folder, 'cache'));
});
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

const CACHE = `
import { codec, defineCache, type PolarInput, polar } from 'polarc';
const shape: PolarInput = polar({ bits: [4, 2, 2, 2] });
const half = codec({ headDim: 64, polar: shape });
`;

function write(name: string, text: string): string {
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
}

/** The error of loading a file, with the folder of this test left out. */
async function fault(path: string): Promise<string> {
  try {
    await loadSpecs(path);
  } catch (error) {
    expect(error).toBeInstanceOf(UserError);
    return renderError(error as UserError).replaceAll(`${folder}/`, '');
  }
  return 'loaded';
}

describe('a spec file', () => {
  test('exports a cache', async () => {
    const file = write(
      'one.polar.ts',
      `${CACHE}export default defineCache({ name: 'one', key: half, value: half });`,
    );
    const loaded = await loadSpecs(file);
    expect(loaded).toMatchObject({ source: 'one.polar.ts', file });
    expect(normalizeAll(loaded.caches).map((spec) => spec.name)).toEqual(['one']);
    expect(normalize(loaded.caches[0]).key.polar.bits).toEqual([4, 2, 2, 2]);
  });

  test('exports a list of caches, in JavaScript', async () => {
    const file = write(
      'two.mjs',
      `import { codec, polar } from 'polarc';
       const half = codec({ headDim: 64, polar: polar({ bits: [3, 2] }) });
       export default ['a', 'b'].map((name) => ({ name, key: half, value: half }));`,
    );
    const { caches } = await loadSpecs(file);
    expect(normalizeAll(caches).map((spec) => spec.name)).toEqual(['a', 'b']);
  });

  test('exports a config, which a folder is searched for', async () => {
    const below = join(folder, 'project');
    mkdirSync(below);
    const file = write(
      'project/polarc.config.ts',
      `${CACHE}import { defineConfig } from 'polarc';
       export default defineConfig({
         caches: [defineCache({ name: 'one', key: half, value: half })],
         targets: ['lattice'],
         out: 'kernels',
       });`,
    );
    expect(findConfig(below)).toBe(file);
    const loaded = await loadSpecs(below);
    expect(loaded.targets).toEqual(['lattice']);
    expect(loaded.out).toBe(join(below, 'kernels'));
    expect(loaded.caches).toHaveLength(1);
  });

  test('is read anew after every change', async () => {
    const spec = (name: string) =>
      write(
        'again.polar.ts',
        `${CACHE}export default defineCache({ name: '${name}', key: half, value: half });`,
      );
    expect((await loadSpecs(spec('before'))).caches).toMatchObject([{ name: 'before' }]);
    expect((await loadSpecs(spec('after'))).caches).toMatchObject([{ name: 'after' }]);
  });

  test('imports what it is given beside the DSL', async () => {
    const file = write(
      'given.polar.ts',
      `import { bits } from 'shapes';\nexport default { name: 'g', bits };`,
    );
    const { caches } = await loadSpecs(file, { shapes: { bits: [1, 1] } });
    expect(caches).toEqual([{ name: 'g', bits: [1, 1] }]);
  });

  test('loads where nothing can be kept', async () => {
    vi.stubEnv('XDG_CACHE_HOME', write('no-folder', ''));
    const file = write(
      'kept.polar.ts',
      `${CACHE}export default defineCache({ name: 'kept', key: half, value: half });`,
    );
    expect((await loadSpecs(file)).caches).toMatchObject([{ name: 'kept' }]);
    vi.stubEnv('XDG_CACHE_HOME', join(folder, 'cache'));
  });
});

describe('a file that cannot be loaded gives one error', () => {
  test('no file, no config, no module', async () => {
    mkdirSync(join(folder, 'empty'));
    write('notes.md', '# notes');
    expect(await fault(join(folder, 'absent.polar.ts'))).toMatchInlineSnapshot(
      `"error[P100] absent.polar.ts: there is no such file → name a .polar.ts file, or run \`polarc init\` to write one"`,
    );
    expect(await fault(join(folder, 'empty'))).toMatchInlineSnapshot(
      `"error[P100] empty: a folder without polarc.config.ts → name a .polar.ts file, or run \`polarc init\` to write one"`,
    );
    expect(await fault(join(folder, 'notes.md'))).toMatchInlineSnapshot(
      `"error[P100] notes.md: no TypeScript or JavaScript file → name a .polar.ts file, or run \`polarc init\` to write one"`,
    );
  });

  test('syntax', async () => {
    const typescript = write(
      'syntax.polar.ts',
      `import { codec } from 'polarc';\n\nconst half = {;\n`,
    );
    expect(await fault(typescript)).toMatchInlineSnapshot(
      `"error[P101] syntax.polar.ts:3:15: Unexpected token → correct the syntax there"`,
    );
    const javascript = write('syntax.polar.js', `const half = codec(]);\n`);
    expect(await fault(javascript)).toMatchInlineSnapshot(
      `"error[P101] syntax.polar.js:1:20: Unexpected token → correct the syntax there"`,
    );
  });

  test('a throw', async () => {
    const thrown = write(
      'throws.polar.ts',
      `interface Model {\n  layers: number;\n}\nconst model = undefined as unknown as Model;\nexport default model.layers;\n`,
    );
    expect(await fault(thrown)).toMatchInlineSnapshot(
      `"error[P102] throws.polar.ts:5: threw TypeError: Cannot read properties of undefined (reading 'layers') → the file must run to its end"`,
    );
    const text = write('text.polar.ts', `throw 'no model';\n`);
    expect(await fault(text)).toMatchInlineSnapshot(
      `"error[P102] text.polar.ts: threw 'no model' → the file must run to its end"`,
    );
    const missing = write(
      'missing.polar.ts',
      `\nimport { x } from './absent.ts';\nexport default x;\n`,
    );
    expect(await fault(missing)).toMatchInlineSnapshot(
      `"error[P102] missing.polar.ts:2: Cannot find module './absent.ts' → install it, or correct the import"`,
    );
  });

  test('an export of something else', async () => {
    expect(await fault(write('none.polar.ts', `export const a = 1;\n`))).toMatchInlineSnapshot(
      `"error[P103] none.polar.ts: no default export → write \`export default defineCache({ … })\`, a list of caches, or \`defineConfig({ caches: [ … ] })\`"`,
    );
    expect(await fault(write('number.polar.ts', `export default 7;\n`))).toMatchInlineSnapshot(
      `"error[P103] number.polar.ts: the default export is 7 → write \`export default defineCache({ … })\`, a list of caches, or \`defineConfig({ caches: [ … ] })\`"`,
    );
    expect(await fault(write('empty.polar.ts', `export default [];\n`))).toMatchInlineSnapshot(
      `"error[P103] empty.polar.ts: the default export is [] → write \`export default defineCache({ … })\`, a list of caches, or \`defineConfig({ caches: [ … ] })\`"`,
    );
    const config = `export default { caches: [], targets: 'lattice', out: 3, outDir: 'x' };\n`;
    expect(await fault(write('config.polar.ts', config))).toMatchInlineSnapshot(`
      "error[P002] outDir: there is no 'outDir' here → did you mean 'out'?
      error[P001] caches: [] is no list of caches → write at least one defineCache({ … })
      error[P060] targets: 'lattice' is no list of targets → write names in quotes; \`polarc targets\` lists them
      error[P100] out: 3 is no folder → write a path relative to the config file"
    `);
  });
});

describe('flags', () => {
  const flagFault = (flags: object) => {
    try {
      normalize(specFromFlags({ headDim: 96, bits: '4,2,2,2', ...flags }));
    } catch (error) {
      return renderError(error as UserError);
    }
    return 'valid';
  };

  test('describe a cache', () => {
    const spec = normalize(specFromFlags({ headDim: 96, bits: '4,2,2,2' }));
    expect(spec.name).toBe('polar_d96');
    expect(spec.value).toEqual(spec.key);
    expect(spec.key).toMatchObject({
      headDim: 96,
      precondition: { kind: 'hadamard', seed: 0 },
      polar: { depth: 4, bits: [4, 2, 2, 2] },
      layout: { kind: 'rows' },
    });
    const other = normalize(
      specFromFlags({
        name: 'other',
        headDim: 192,
        valueDim: 128,
        bits: [5, 3],
        valueBits: '4, 2',
        precondition: 'none',
        radius: 'log4',
        layout: 'tiles',
        queryGroup: 4,
        dense: 'f32',
      }),
    );
    expect([other.key.headDim, other.value.headDim]).toEqual([192, 128]);
    expect([other.key.polar.bits, other.value.polar.bits]).toEqual([
      [5, 3],
      [4, 2],
    ]);
    expect(other.key.radius).toEqual({ kind: 'log', bits: 4 });
    expect(other.value.layout).toEqual({ kind: 'tiles', tokens: 32 });
    expect([other.queryGroup, other.dense]).toEqual([4, 'f32']);
  });

  test('that do not parse are named', () => {
    expect(flagFault({ bits: '4,x,2' })).toMatchInlineSnapshot(
      `"error[P104] --bits: '4,x,2' is no list of bits → write one number a level, for example --bits 4,2,2,2"`,
    );
    expect(flagFault({ bits: '' })).toMatchInlineSnapshot(
      `"error[P104] --bits: '' is no list of bits → write one number a level, for example --bits 4,2,2,2"`,
    );
    expect(flagFault({ bits: '4,2,2', depth: 4 })).toMatchInlineSnapshot(`
      "error[P012] key.polar.bits: 3 entries for depth 4 → write one a level, for example [4, 2, 2, 2]
      error[P012] value.polar.bits: 3 entries for depth 4 → write one a level, for example [4, 2, 2, 2]"
    `);
    expect(flagFault({ precondition: 'hadamar' })).toMatchInlineSnapshot(
      `"error[P104] --precondition: 'hadamar' is none of its values → did you mean 'hadamard'?"`,
    );
    expect(flagFault({ radius: 'f8' })).toMatchInlineSnapshot(
      `"error[P104] --radius: 'f8' is none of its values → write f16, bf16, f32, log4"`,
    );
    expect(flagFault({ layout: 'columns' })).toMatchInlineSnapshot(
      `"error[P104] --layout: 'columns' is none of its values → write rows, tiles"`,
    );
    expect(flagFault({ headDim: 1.5 })).toMatchInlineSnapshot(`
      "error[P010] key.headDim: 1.5 is no head dimension → write a whole number from 16 to 640
      error[P010] value.headDim: 1.5 is no head dimension → write a whole number from 16 to 640
      error[P003] name: 'polar_d1.5' has characters other than letters, digits and _ → write an identifier, for example 'polar_d1_5'"
    `);
  });
});
