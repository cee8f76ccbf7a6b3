import { spawnSync } from 'node:child_process';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

/** The package as users get it: packed, installed into an empty project, run there. */
const ROOT = join(import.meta.dirname, '../..');
const MEBIBYTE = 2 ** 20;

let folder: string;
let tarball: string;
let app: string;

function run(command: string, args: readonly string[], cwd: string): { code: number; out: string } {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  return { code: status ?? -1, out: `${stdout}${stderr}` };
}

function bin(name: string): string {
  return join(ROOT, 'node_modules/.bin', name);
}

function sizeOf(path: string): number {
  return readdirSync(path, { recursive: true, encoding: 'utf8' })
    .map((name) => lstatSync(join(path, name)))
    .reduce((sum, stat) => sum + (stat.isFile() ? stat.size : 0), 0);
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'polarc-package-'));
  const packed = run('npm', ['pack', '--ignore-scripts', '--pack-destination', folder], ROOT);
  expect(packed, packed.out).toMatchObject({ code: 0 });
  tarball = join(folder, readdirSync(folder).find((name) => name.endsWith('.tgz'))!);
  app = join(folder, 'app');
  mkdirSync(app);
  writeFileSync(
    join(app, 'package.json'),
    '{ "name": "app", "private": true, "type": "module" }\n',
  );
  const flags = ['--prefer-offline', '--ignore-scripts', '--no-audit', '--no-fund'];
  const installed = run('npm', ['install', ...flags, tarball], app);
  expect(installed, installed.out).toMatchObject({ code: 0 });
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe('the installed package', () => {
  test('generates kernels with npx polarc', () => {
    const args = [
      'polarc',
      'generate',
      '--head-dim',
      '96',
      '--bits',
      '4,2,2,2',
      '--out',
      'kernels',
    ];
    const made = run('npx', ['--no-install', ...args], app);
    expect(made, made.out).toMatchObject({ code: 0 });
    expect(readdirSync(join(app, 'kernels'))).toContain('polar-d96.plan.json');
    expect(run('npx', ['--no-install', ...args, '--check'], app)).toMatchObject({ code: 0 });
  });

  test('loads the starter spec, which its types accept, and which they refuse when misspelt', () => {
    expect(run('npx', ['--no-install', 'polarc', 'init', 'my.polar.ts'], app).code).toBe(0);
    expect(run('npx', ['--no-install', 'polarc', 'generate', 'my.polar.ts'], app).code).toBe(0);
    const check = (file: string) =>
      run(
        process.execPath,
        [
          join(ROOT, 'node_modules/typescript/bin/tsc'),
          ...['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2023'],
          ...['--types', '', '--ignoreConfig', file],
        ],
        app,
      );
    const good = check('my.polar.ts');
    expect(good, good.out).toMatchObject({ code: 0 });
    const text = readFileSync(join(app, 'my.polar.ts'), 'utf8');
    for (const [from, to] of [
      ['headDim:', 'headDimension:'],
      ["radius: 'f16'", "radius: 'f8'"],
      ['bits: [4, 2, 2, 2]', 'bits: [4, 2, 2, 9]'],
      ['queryGroup: 4', 'queryGroup: 17'],
    ]) {
      writeFileSync(join(app, 'wrong.polar.ts'), text.replace(from!, to!));
      const wrong = check('wrong.polar.ts');
      expect(wrong.code, `${to}: ${wrong.out}`).not.toBe(0);
      expect(wrong.out).toContain('wrong.polar.ts');
    }
  });

  test('takes at most 40 MB and runs nothing when it is installed', () => {
    expect(sizeOf(join(app, 'node_modules'))).toBeLessThan(40 * MEBIBYTE);
    const lock = JSON.parse(readFileSync(join(app, 'package-lock.json'), 'utf8'));
    const entries = Object.entries(lock.packages as Record<string, { hasInstallScript?: true }>);
    expect(entries.length).toBeGreaterThan(3);
    expect(entries.filter(([, { hasInstallScript }]) => hasInstallScript)).toEqual([]);
    const { scripts } = JSON.parse(
      readFileSync(join(app, 'node_modules/polarc/package.json'), 'utf8'),
    );
    for (const name of ['preinstall', 'install', 'postinstall']) {
      expect(scripts).not.toHaveProperty(name);
    }
  });

  test('holds its licence, its documents and every template, and no tests', () => {
    const installed = join(app, 'node_modules/polarc');
    expect(readFileSync(join(installed, 'LICENSE'), 'utf8')).toContain('Apache License');
    expect(readdirSync(installed).sort()).toEqual(
      expect.arrayContaining(['LICENSE', 'bin', 'dist', 'docs', 'package.json', 'templates']),
    );
    const templates = (path: string) =>
      readdirSync(path, { recursive: true, encoding: 'utf8' }).sort();
    expect(templates(join(installed, 'templates'))).toEqual(templates(join(ROOT, 'templates')));
    expect(readdirSync(installed)).not.toContain('test');
  });
});

describe('the tarball', () => {
  test('publint finds nothing', () => {
    const { code, out } = run(bin('publint'), ['--strict', tarball], ROOT);
    expect({ code, out }, out).toMatchObject({ code: 0 });
    expect(out).toContain('All good');
  });

  test('attw finds types for every importer of ES modules', () => {
    const found = run(bin('attw'), [tarball, '--profile', 'esm-only', '--no-emoji'], ROOT);
    expect(found, found.out).toMatchObject({ code: 0 });
  });
});
