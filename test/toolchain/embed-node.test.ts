/** What an embedder does with an emitted folder: copies it, builds it with node-gyp, imports the class, calls it. */

import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Plan } from '../../generator/plan/index.ts';
import { matrix, tiles } from '../../generator/spec/index.ts';
import { target } from '../../targets/avx2/index.ts';
import { emitted } from '../fixtures/emitted.ts';
import { planOf } from '../fixtures/small-cache.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const COUNT = 40;
const HEADS = 2;

/** Encodes rows and attends over them; prints the packed bytes and outputs. Also run here, on `calls`. */
const PROGRAM = `
export async function use(calls) {
  const rows = (n) => ({ data: Float32Array.from({ length: n }, (_, i) => Math.sin(i * 12.9898)) });
  const pool = (bytes) => ({ data: new Uint8Array(2 * ${HEADS} * bytes), pages: 2 });
  const eye = new Float32Array(${HEADS} * 32 * 32);
  for (let i = 0; i < ${HEADS} * 32; i++) eye[i * 32 + (i % 32)] = 1;
  const key = { matrix: eye, dual: eye };
  const keys = pool(calls.constructor.key.unitBytes * (32 / calls.constructor.key.unitTokens));
  const values = pool(calls.constructor.value.unitBytes * (32 / calls.constructor.value.unitTokens));
  const slots = BigInt64Array.from({ length: ${COUNT} }, (_, i) => BigInt(i));
  const common = { rows: rows(${COUNT * HEADS * 32}), count: ${COUNT}, kvHeads: ${HEADS}, slots };
  calls.encodeKey({ ...common, cache: keys, transform: key });
  await calls.encodeValueAsync({ ...common, cache: values });
  const out = { data: new Float32Array(${HEADS * 2} * 32) };
  const index = { sequences: 1, maxTokens: ${COUNT}, lengths: Int32Array.of(${COUNT}) };
  const q = rows(${HEADS * 2} * 32);
  calls.attend({ q, out, keys, values, index, key, rows: 1, kvHeads: ${HEADS}, scale: 0.2 });
  return [keys.data, values.data, out.data].map((x) => Buffer.from(x.buffer).toString('hex'));
}
`;

let plan: Plan;
let folder: string;
let copy: string;

beforeAll(() => {
  plan = planOf(
    { layout: tiles({ tokens: 32 }), precondition: matrix() },
    { layout: tiles({ tokens: 32 }) },
  );
  folder = emitted(plan, target);
  const elsewhere = mkdtempSync(join(tmpdir(), 'polarc-embedder-'));
  cpSync(join(folder, 'avx2'), join(elsewhere, 'vendor'), { recursive: true });
  copy = join(elsewhere, 'vendor/node/small');
});

/** What `npm install` would fetch: the one dependency that the emitted package.json names. */
function install(): void {
  mkdirSync(join(copy, 'node_modules'), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules/node-addon-api'), join(copy, 'node_modules/node-addon-api'));
}

describe('an emitted folder, copied out of the repository', () => {
  it('builds with node-gyp, and computes the same bits as the build of polarc', async () => {
    install();
    const gyp = join(ROOT, 'node_modules/node-gyp/bin/node-gyp.js');
    const prefix = [dirname(dirname(process.execPath)), '/usr'].find((path) =>
      existsSync(join(path, 'include/node/node_api.h')),
    );
    const options = { cwd: copy, encoding: 'utf8', stdio: 'pipe' } as const;
    execFileSync(process.execPath, [gyp, 'rebuild', `--nodedir=${prefix}`], options);
    expect(existsSync(join(copy, 'build/Release/small.node'))).toBe(true);

    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
    const types = join(ROOT, 'node_modules/@types');
    const flags = ['--target', 'es2022', '--module', 'nodenext', '--strict', '--types', 'node'];
    execFileSync(process.execPath, [tsc, 'small.ts', ...flags, '--typeRoots', types], options);
    writeFileSync(join(copy, 'use.js'), PROGRAM);
    const main = [
      "import { Small } from './small.js';",
      "import { use } from './use.js';",
      'console.log(JSON.stringify(await use(Small.load(undefined, { threads: 2 }))));',
    ];
    writeFileSync(join(copy, 'main.js'), main.join('\n'));
    const theirs = execFileSync(process.execPath, ['main.js'], options);

    const program = [
      "import { createRequire } from 'node:module';",
      "import { Small } from './small.js';",
      "const { bytesToPage } = createRequire(import.meta.url)('./build/Release/small.node');",
      'const kernels = Small.load();',
      'const all = [0, 1, 100, 4096, 1e6].map((length) => kernels.bytes(length));',
      'console.log(JSON.stringify(all.map((a) => [a.length, a.length && bytesToPage(a)])));',
    ];
    writeFileSync(join(copy, 'pages.js'), program.join('\n'));
    const arrays = execFileSync(process.execPath, ['pages.js'], options);
    expect(JSON.parse(arrays)).toEqual([0, 1, 100, 4096, 1e6].map((length) => [length, 0]));

    const built = await target.build({ folder, plan });
    const { use } = (await import(join(copy, 'use.js'))) as {
      use(calls: object): Promise<string[]>;
    };
    expect(JSON.parse(theirs)).toEqual(await use(built.calls));
    built.close();
  });

  it('outlives workers that are ended with calls under way', () => {
    const worker = [
      "import { parentPort } from 'node:worker_threads';",
      "import { Small } from './small.js';",
      'const kernels = Small.load(undefined, { threads: 2 });',
      'const tokens = 4096;',
      'const call = {',
      '  q: { data: new Float32Array(2 * 32).fill(0.1) },',
      '  out: { data: new Float32Array(2 * 32) },',
      '  keys: { data: kernels.bytes(tokens * Small.key.bytesPerToken), pages: tokens / 32 },',
      '  values: { data: kernels.bytes(tokens * Small.value.bytesPerToken), pages: tokens / 32 },',
      '  index: { sequences: 1, maxTokens: tokens, lengths: Int32Array.of(tokens) },',
      '  key: { matrix: new Float32Array(1024), dual: new Float32Array(1024) },',
      '  rows: 1, kvHeads: 1, scale: 0.2,',
      '};',
      'const all = Array.from({ length: 500 }, () => kernels.attendAsync(call));',
      "parentPort.postMessage('under way');",
      'await Promise.all(all);',
    ];
    const main = [
      "import { once } from 'node:events';",
      "import { Worker } from 'node:worker_threads';",
      'for (let i = 0; i < 8; i++) {',
      "  const worker = new Worker(new URL('./worker.js', import.meta.url));",
      "  await once(worker, 'message');",
      '  await worker.terminate();',
      '}',
      "console.log('outlived');",
    ];
    writeFileSync(join(copy, 'worker.js'), worker.join('\n'));
    writeFileSync(join(copy, 'workers.js'), main.join('\n'));
    const options = { cwd: copy, encoding: 'utf8', stdio: 'pipe' } as const;
    expect(execFileSync(process.execPath, ['workers.js'], options)).toBe('outlived\n');
  });

  it('refuses an addon of another plan', async () => {
    const other = planOf({}, {}, { queryGroup: 3 });
    const files = emitted(other, target);
    cpSync(join(files, 'avx2/node/small/small.ts'), join(folder, 'avx2/node/small/small.ts'));
    await expect(target.build({ folder, plan })).rejects.toThrow(
      /^the addon holds small, plan [0-9a-f]{16}; this class is of plan [0-9a-f]{16}: build the addon from the files beside it$/,
    );
  });
});
