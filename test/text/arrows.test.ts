import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { describe, expect, test } from 'vitest';
import { TARGETS } from '../../targets/index.ts';

const ROOT = join(import.meta.dirname, '../..');

/** Folders of generator/ that each folder may import; all may import naming and diagnostics. */
const ARROWS: Readonly<Record<string, readonly string[]>> = {
  diagnostics: [],
  naming: [],
  safetensors: [],
  spec: [],
  plan: ['spec'],
  reference: ['plan', 'safetensors', 'spec'],
  target: ['plan'],
  bindings: ['plan', 'target'],
  emit: ['plan', 'reference', 'safetensors', 'target'],
  bench: ['conformance', 'plan', 'reference', 'spec', 'target'],
  measure: ['plan', 'reference', 'safetensors', 'spec'],
  conformance: [
    'bindings',
    'emit',
    'measure',
    'plan',
    'reference',
    'safetensors',
    'spec',
    'target',
  ],
};
const SERVE_ALL = ['diagnostics', 'naming'];
/** What a target may import of generator/: what it is, what it is given, and the TypeScript beside its kernels. */
const FOR_TARGETS = ['plan', 'target', 'bindings', ...SERVE_ALL];

interface Import {
  /** Path from the root, with forward slashes. */
  readonly from: string;
  readonly to: string;
}

function sources(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .map((path) => join(folder, path).replaceAll('\\', '/'));
}

/** Relative imports and exports, `import()` and types too. */
function imports(folder: string): Import[] {
  return sources(folder).flatMap((from) => {
    const text = readFileSync(join(ROOT, from), 'utf8');
    const found = text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']*)'/g);
    return [...found].map(([, to]) => ({
      from,
      to: normalize(join(dirname(from), to!)).replaceAll('\\', '/'),
    }));
  });
}

const folderOf = (path: string): string => path.split('/').slice(0, 2).join('/');
const compiler = imports('generator');
const targets = imports('targets');
const show = ({ from, to }: Import): string => `${from} → ${to}`;

describe('dependencies point one way', () => {
  test('there are imports to look at', () => {
    expect(compiler.length).toBeGreaterThan(100);
    expect(compiler.map(show)).toContain('generator/plan/lower.ts → generator/spec/index.ts');
  });

  test.each(Object.keys(ARROWS))('generator/%s', (name) => {
    const allowed = [name, ...SERVE_ALL, ...ARROWS[name]!].map((folder) => `generator/${folder}`);
    const wrong = compiler.filter(
      ({ from, to }) => folderOf(from) === `generator/${name}` && !allowed.includes(folderOf(to)),
    );
    expect(wrong.map(show)).toEqual([]);
  });

  test('every folder of generator/ has its arrows', () => {
    const folders = new Set(sources('generator').map((path) => path.split('/')[1]!));
    const files = ['index.ts', 'cli'];
    expect([...folders].filter((name) => !(name in ARROWS) && !files.includes(name))).toEqual([]);
  });

  test('only the command line knows the list of targets', () => {
    const wrong = compiler.filter(
      ({ from, to }) =>
        to.startsWith('targets/') &&
        !(folderOf(from) === 'generator/cli' && to === 'targets/index.ts'),
    );
    expect(wrong.map(show)).toEqual([]);
  });

  test('targets import their own folder, what a target is, and plans', () => {
    const allowed = FOR_TARGETS.map((folder) => `generator/${folder}`);
    const wrong = targets.filter(
      ({ from, to }) =>
        from !== 'targets/index.ts' &&
        folderOf(to) !== folderOf(from) &&
        !allowed.includes(folderOf(to)),
    );
    expect(wrong.map(show)).toEqual([]);
  });

  test('folders are entered through their door', () => {
    const wrong = [...compiler, ...targets].filter(
      ({ from, to }) => folderOf(from) !== folderOf(to) && !to.endsWith('/index.ts'),
    );
    const inside = wrong.filter(({ from, to }) => dirname(from) !== dirname(to));
    expect(inside.map(show)).toEqual([]);
  });
});

describe('the compiler names no target', () => {
  const files = sources('generator');

  test.each(TARGETS.map(({ id }) => id))('%s', (id) => {
    const word = new RegExp(`(?<![a-z0-9])${id}(?![a-z0-9])`, 'i');
    const naming = files.filter((path) => word.test(readFileSync(join(ROOT, path), 'utf8')));
    expect(naming.map((path) => relative('.', path))).toEqual([]);
  });

  test('templates are found by the path that a target gives', () => {
    const ids = TARGETS.map(({ id }) => id);
    const folders = readdirSync(join(ROOT, 'templates')).sort();
    expect(folders).toEqual([...ids, 'shared'].sort());
  });
});
