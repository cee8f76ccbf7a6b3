/** The emitted ES module and its types, alone in a strict project that has `@webgpu/types` and nothing else. */

import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { render } from '../../generator/emit/index.ts';
import type { Plan } from '../../generator/plan/index.ts';
import { matrix, orthogonal, tiles } from '../../generator/spec/index.ts';
import { target } from '../../targets/wgsl/index.ts';
import { emitted } from '../fixtures/emitted.ts';
import { planOf } from '../fixtures/small-cache.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

const PLANS: Record<string, Plan> = {
  plain: planOf(),
  full: planOf(
    { precondition: matrix(), center: true, layout: tiles({ tokens: 32 }) },
    { precondition: orthogonal({ seed: 1 }), radius: 'bf16' },
    { name: 'full', dense: 'f16', queryGroup: 16 },
  ),
};

const OPTIONS = {
  target: 'es2022',
  lib: ['es2022'],
  module: 'nodenext',
  types: ['@webgpu/types'],
  strict: true,
  noUncheckedIndexedAccess: true,
  exactOptionalPropertyTypes: true,
  noUnusedLocals: true,
  noUnusedParameters: true,
  verbatimModuleSyntax: true,
  // @webgpu/types names types of the DOM, which an empty project does not have.
  skipLibCheck: true,
  noEmit: true,
};

const USE = `import { CLASS, type AttendCall, type PreparedCall } from './FILE.js';

export async function decodeStep(adapter: GPUAdapter, buffers: GPUBuffer[]): Promise<PreparedCall> {
  const device = await adapter.requestDevice({ requiredFeatures: CLASS.features(adapter) });
  const kernels = await CLASS.create(device);
  const [q, out, keys, values, tables, scratch] = buffers as [
    GPUBuffer, GPUBuffer, GPUBuffer, GPUBuffer, GPUBuffer, GPUBuffer,
  ];
  const shape = { rows: 1, kvHeads: 2, maxTokens: 4096 };
  const call: AttendCall = {
    ...shape,
    q: { buffer: q },
    out: { buffer: out, dtype: 'f16' },
    keys: { buffer: keys, pages: 128 },
    values: { buffer: values, pages: 128 },
    tables,
    index: { sequences: 1, maxTokens: 4096, lengths: 0, blockTable: 4 },
    scale: CLASS.key.headDim ** -0.5,
    workspace: { buffer: scratch },
  };
  const bytes: number = kernels.attendWorkspace(shape);
  if (bytes > scratch.size) throw new Error(kernels.variant);
  const prepared = kernels.attend(call);
  const encoder = device.createCommandEncoder();
  prepared.record(encoder);
  prepared.record(encoder.beginComputePass());
  // @ts-expect-error rows are buffers, not arrays
  kernels.attend({ ...call, q: { buffer: new Float32Array(4) } });
  // @ts-expect-error the workspace is the caller's
  kernels.attend({ ...call, workspace: undefined });
  // @ts-expect-error there are two variants
  await CLASS.create(device, { variant: 'fast' });
  return prepared;
}
`;

/** The emitted folder alone, with a file that uses it. */
function project(plan: Plan, name: string, options: object = OPTIONS): string {
  const folder = mkdtempSync(join(tmpdir(), 'polarc-wgsl-types-'));
  const stem = plan.name.replaceAll('_', '-');
  cpSync(join(emitted(plan, target), 'wgsl', stem), folder, { recursive: true });
  mkdirSync(join(folder, 'node_modules/@webgpu'), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules/@webgpu/types'), join(folder, 'node_modules/@webgpu/types'));
  writeFileSync(join(folder, 'use.ts'), USE.replaceAll('CLASS', name).replaceAll('FILE', stem));
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({ compilerOptions: options, include: ['*.ts'] }),
  );
  return folder;
}

function tsc(folder: string): string {
  try {
    const program = join(ROOT, 'node_modules/typescript/bin/tsc');
    execFileSync(process.execPath, [program, '-p', folder], { encoding: 'utf8' });
    return '';
  } catch (error) {
    return (error as { stdout: string }).stdout;
  }
}

describe('types of the ES module', () => {
  it.each([
    ['plain', 'Small'],
    ['full', 'Full'],
  ])('are strict-clean, and used as documented: %s', (plan, name) => {
    expect(tsc(project(PLANS[plan]!, name))).toBe('');
  });

  it('are strict-clean with the WebGPU types of the DOM library, themselves checked', () => {
    const options = { ...OPTIONS, lib: ['es2022', 'dom'], types: [], skipLibCheck: false };
    expect(tsc(project(PLANS.plain!, 'Small', options))).toBe('');
  });

  it('hold no any, and the module imports nothing', () => {
    const files = new Map(
      render(PLANS.full!, target, { name: 'test', command: 'generate' }).map((file) => [
        file.path.split('/').at(-1)!,
        String(file.content),
      ]),
    );
    expect(files.get('full.d.ts')).not.toMatch(/\bany\b/);
    expect(files.get('full.js')).not.toMatch(/^\s*import\b|\brequire\(/m);
    expect(files.get('full.js')).not.toContain('fetch(');
  });

  it('declare every member that the class has, and no other', () => {
    const folder = project(PLANS.plain!, 'Small');
    const script = readFileSync(join(folder, 'small.js'), 'utf8');
    const types = readFileSync(join(folder, 'small.d.ts'), 'utf8');
    const declared = types.slice(types.indexOf('export declare class Small'));
    const names = (text: string, pattern: RegExp): string[] =>
      [...text.matchAll(pattern)].map(([, name]) => name!).sort();
    const methods = names(
      script.slice(script.indexOf('export class Small')),
      /^ {2}(?:static )?(?:async )?(?!constructor)([a-z]\w+)\(.*\{$/gm,
    );
    const known = names(declared, /^ {2}(?:static )?(?!constructor)([a-z]\w+)\(/gm);
    expect(known).toEqual(methods);
  });

  it('stands as text in the files beside the module', () => {
    const files = render(PLANS.full!, target, { name: 'test', command: 'generate' });
    const script = String(files.find(({ path }) => path.endsWith('.js'))!.content);
    const modules = files.filter(({ path }) => path.endsWith('.wgsl'));
    expect(modules.length).toBeGreaterThan(12);
    for (const { content } of modules) {
      const body = String(content).replace(/^(\/\/.*\n)+/, '');
      expect(script).toContain(body.trimEnd());
    }
  });
});
