/** NVIDIA's programs are found wherever they are, and what is missing is named with what to install. */

import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeEach, expect, test, vi } from 'vitest';
import { renderError } from '../../generator/diagnostics/index.ts';
import { dump, findTool, nvccChecks, requireTool } from '../../targets/cuda/tools.ts';

const root = mkdtempSync(join(tmpdir(), 'polarc-tools-'));
let empty = '';
beforeEach(() => {
  empty = mkdtempSync(join(root, 'empty-'));
  vi.stubEnv('PATH', empty);
  vi.stubEnv('CUDA_PATH', undefined);
  vi.stubEnv('CUDA_HOME', undefined);
  vi.stubEnv('POLARC_CACHE', join(empty, 'cache'));
});
afterEach(() => {
  vi.unstubAllEnvs();
});
afterAll(() => rmSync(root, { recursive: true }));

/** A program that says its version, as NVIDIA's do. */
function program(path: string, version = '13.5.37', more = ''): string {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(
    path,
    `#!/bin/sh\n${more}\necho "Cuda compilation tools, release 13.5, V${version}"\n`,
  );
  chmodSync(path, 0o755);
  return path;
}

test.each([
  ['on PATH', () => join(empty, 'cuobjdump')],
  [
    'where doctor has it installed',
    () => join(empty, 'cache/cuda-tools/lib/python3.12/site-packages/nvidia/cu13/bin/cuobjdump'),
  ],
])('found %s', async (_, place) => {
  const path = program(place());
  expect(await findTool('cuobjdump')).toEqual({ path, version: '13.5.37' });
});

test.each(['CUDA_HOME', 'CUDA_PATH'])('found in %s', async (variable) => {
  const home = mkdtempSync(join(root, 'cuda-'));
  vi.stubEnv(variable, home);
  const path = program(join(home, 'bin', 'cuobjdump'), '12.9.1');
  expect(await findTool('cuobjdump')).toEqual({ path, version: '12.9.1' });
});

test('found in the packages of python3', async () => {
  const packages = mkdtempSync(join(root, 'python-'));
  program(join(empty, 'python3'), '0.0.0', `echo ${packages}`);
  const path = program(join(packages, 'nvidia/cu13/bin/nvdisasm'));
  expect(await findTool('nvdisasm')).toEqual({ path, version: '13.5.37' });
});

test('one that does not answer is passed over', async () => {
  program(join(empty, 'cuobjdump'), '1.0.0', 'exit 1');
  expect((await findTool('cuobjdump'))?.version).not.toBe('1.0.0');
});

test('what is missing is named, with the versions of requirements.txt', async ({ skip }) => {
  skip((await findTool('cuobjdump')) !== null, 'cuobjdump stands in /usr/local/cuda');
  const message = await requireTool('cuobjdump').then(() => '', renderError);
  const pins = readFileSync(
    join(import.meta.dirname, '../../targets/cuda/requirements.txt'),
    'utf8',
  )
    .split('\n')
    .filter((line) => /^nvidia-cuda-(cuobjdump|nvdisasm)/.test(line));
  expect(message.replaceAll(empty, 'EMPTY')).toBe(
    `error[P301] there is no cuobjdump → only for counting instructions: python3 -m venv EMPTY/cache/cuda-tools && EMPTY/cache/cuda-tools/bin/pip install ${pins.join(' ')}`,
  );
});

test('cuobjdump is told where nvdisasm is', async () => {
  vi.stubEnv('PATH', `${empty}:/usr/bin:/bin`);
  program(join(empty, 'cuobjdump'), '13.5.37', 'echo "$NVDISASM_PATH: $@"');
  program(join(empty, 'nvdisasm'));
  expect((await dump('some.cubin', ['-sass'])).split('\n')[0]).toBe(`${empty}: -sass some.cubin`);
});

test('doctor needs none of them', async () => {
  const checks = await nvccChecks();
  expect(checks.map(({ what }) => what)).toEqual(['nvcc', 'cuobjdump', 'nvdisasm', 'NVIDIA GPU']);
  for (const { required, ok, detail } of checks) {
    expect(required).toBe(false);
    if (!ok) expect(detail).toMatch(/install|CPU stand-in/);
  }
});
