/** The emitted files of a preset, alone in a folder: both compilers, every warning, the C program of docs/. */

import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const FLAGS = ['-mavx2', '-mfma', '-mf16c', '-ffp-contract=off'];
const WARNINGS = ['-Wall', '-Wextra', '-Wpedantic', '-Werror'];

const found = (compiler: string): boolean => spawnSync(compiler, ['--version']).status === 0;

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'polarc-embed-'));
  for (const file of [
    'llama-d128.h',
    'llama-d128.cpp',
    'llama-d128-rows.h',
    'llama-d128-rows.cpp',
  ]) {
    copyFileSync(join('generated/avx2', file), join(folder, file));
  }
  copyFileSync('docs/example.c', join(folder, 'example.c'));
});

afterAll(() => rmSync(folder, { recursive: true }));

for (const compiler of ['g++', 'clang++']) {
  describe.skipIf(!found(compiler))(
    `${compiler}${found(compiler) ? '' : ' is not installed'}`,
    () => {
      const compile = (stem: string, object: string, ...more: readonly string[]): void => {
        const flags = ['-std=c++17', ...FLAGS, ...WARNINGS, ...more];
        execFileSync(compiler, [...flags, '-c', `${stem}.cpp`, '-o', object], { cwd: folder });
      };

      test.each(['llama-d128', 'llama-d128-rows'])('compiles %s without a warning', (stem) => {
        compile(stem, `${stem}-${compiler}.o`, '-O3');
      });

      test('compiles llama-d128 without AVX-512', () => {
        compile('llama-d128', 'narrow.o', '-O1', '-DPOLARC_NO_AVX512');
      });

      test('links the C program of the docs, which attends', () => {
        const c = compiler === 'g++' ? 'gcc' : 'clang';
        const object = `llama-d128-${compiler}.o`;
        execFileSync(
          c,
          ['-std=c11', ...WARNINGS, 'example.c', object, '-lstdc++', '-lm', '-o', `example-${c}`],
          { cwd: folder },
        );
        const lines = execFileSync(join(folder, `example-${c}`), { encoding: 'utf8' })
          .trim()
          .split('\n');
        expect(lines).toHaveLength(4);
        for (const line of lines) {
          const cosine = Number(/cosine of output and row ([0-9.]+)$/.exec(line)?.[1]);
          expect(cosine).toBeGreaterThan(0.95);
          expect(cosine).toBeLessThan(1);
        }
      });
    },
  );
}
