/** The emitted TypeScript in an empty project: strict, no dependency on polarc, the calls that targets share. */

import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { Plan } from '../../generator/plan/index.ts';
import { matrix, none, orthogonal, tiles } from '../../generator/spec/index.ts';
import { target } from '../../targets/avx2/index.ts';
import { emitted } from '../fixtures/emitted.ts';
import { planOf } from '../fixtures/small-cache.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const LONG = `a${'b'.repeat(63)}`;

const PLANS: Record<string, Plan> = {
  f32: planOf(),
  f16: planOf(
    { precondition: matrix(), center: true, layout: tiles({ tokens: 32 }) },
    { precondition: orthogonal({ seed: 1 }), radius: 'bf16' },
    { name: LONG, dense: 'f16', queryGroup: 16 },
  ),
  bf16: planOf({ precondition: none() }, {}, { dense: 'bf16', name: 'b' }),
};

const STRICT = {
  target: 'es2022',
  lib: ['es2023'],
  module: 'nodenext',
  types: ['node'],
  typeRoots: [join(ROOT, 'node_modules/@types')],
  strict: true,
  noUncheckedIndexedAccess: true,
  exactOptionalPropertyTypes: true,
  noImplicitOverride: true,
  noUnusedLocals: true,
  noUnusedParameters: true,
  verbatimModuleSyntax: true,
  isolatedModules: true,
  erasableSyntaxOnly: true,
  allowImportingTsExtensions: true,
  noEmit: true,
};

/** The emitted class file of a plan, alone in a folder; returns the folder and the file's name. */
function project(plan: Plan): { folder: string; file: string } {
  const node = { ...target, files: (p: Plan) => target.files(p).filter(isClass) };
  const out = emitted(plan, node);
  const folder = mkdtempSync(join(tmpdir(), 'polarc-types-'));
  const file = `${plan.name.replaceAll('_', '-')}.ts`;
  cpSync(join(out, 'avx2/node', file.slice(0, -3), file), join(folder, file));
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({ compilerOptions: STRICT, include: ['*.ts'] }),
  );
  return { folder, file };
}

const isClass = ({ path }: { path: string }): boolean => path.endsWith('.ts');

function tsc(folder: string): string {
  try {
    const program = join(ROOT, 'node_modules/typescript/bin/tsc');
    execFileSync(process.execPath, [program, '-p', folder], { encoding: 'utf8' });
    return '';
  } catch (error) {
    return (error as { stdout: string }).stdout;
  }
}

describe('emitted TypeScript', () => {
  it.each(Object.keys(PLANS))('is strict-clean by itself, dense %s', (dtype) => {
    expect(tsc(project(PLANS[dtype]!).folder)).toBe('');
  });

  it('imports nothing but Node, and has no any', () => {
    const { folder, file } = project(PLANS.f32!);
    const text = readFileSync(join(folder, file), 'utf8');
    expect([...text.matchAll(/from '([^']+)'/g)].map((match) => match[1])).toEqual([
      'node:crypto',
      'node:module',
      'node:url',
    ]);
    expect(text).not.toMatch(/: any\b|as any\b|<any\b/);
  });

  it('takes exactly the calls that every target takes', () => {
    const { folder, file } = project(PLANS.f32!);
    const uses = `
      import type { KernelCalls } from '${ROOT}/generator/plan/calls.ts';
      import type { Small } from './${file}';
      type Others = 'close' | 'variant' | 'bytes' | \`\${string}Async\` | \`\${string}Workspace\`;
      type Names = Exclude<keyof Small, Others>;
      type Calls<T, K extends keyof T> = T[K] extends (call: infer C) => unknown ? C : never;
      type Same<A, B> = [A, B] extends [B, A] ? true : never;
      export const names: Same<Names, keyof KernelCalls> = true;
      export const calls: { [K in keyof KernelCalls]:
        Same<Required<Calls<Small, K>>, Required<Calls<KernelCalls, K>>> } = {
        encodeKey: true, encodeValue: true, decodeKey: true, decodeValue: true, rotateKey: true,
        rotateValue: true, scores: true, weightedSum: true, attend: true, attendDense: true,
        merge: true,
      };
      export const assign = (kernels: Small): KernelCalls => kernels;
    `;
    writeFileSync(join(folder, 'uses.ts'), uses);
    expect(tsc(folder)).toBe('');
    writeFileSync(join(folder, 'uses.ts'), uses.replace('encodeKey: true,', ''));
    expect(tsc(folder)).toContain("'encodeKey' is missing");
  });

  it('says the sizes of its cache', () => {
    const { folder, file } = project(PLANS.f16!);
    const text = readFileSync(join(folder, file), 'utf8');
    expect(text).toContain("needsMatrix: 'per head'");
    expect(text).toContain("needsMatrix: 'shared'");
    expect(text).toContain('Logits of queries `[rows][kvHeads·16][32]` against packed keys');
  });
});
