/** Wrong calls of the CUDA launchers: a status and a message before any launch. The CPU stands in for the GPU. */

import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { matrix, polar, tiles } from '../../generator/spec/index.ts';
import { target } from '../../targets/cuda/index.ts';
import { BAD_ARGUMENTS, INVALID, printedLines, UNSUPPORTED } from '../fixtures/bad-arguments.ts';
import { emitted } from '../fixtures/emitted.ts';
import { planOf } from '../fixtures/small-cache.ts';

const PROBE = fileURLToPath(new URL('../fixtures/bad-arguments.cpp', import.meta.url));
const STAND_IN = fileURLToPath(new URL('../../templates/cuda/on_cpu', import.meta.url));
const FLAGS = [
  ...[
    '-std=c++17',
    '-O1',
    '-pthread',
    '-Wall',
    '-Wextra',
    '-Wno-unknown-pragmas',
    '-fvisibility=hidden',
    '-DPOLARC_ON_CPU',
  ],
  ...['-ffp-contract=off', '-fno-strict-aliasing', '-include', join(STAND_IN, 'cuda_on_cpu.h')],
];

let folder: string;
let program: string;
let lines: Map<string, string>;

const printed = (environment: NodeJS.ProcessEnv): Map<string, string> =>
  printedLines(
    execFileSync(program, { encoding: 'utf8', env: { ...process.env, ...environment } }),
  );

beforeAll(() => {
  const codec = {
    precondition: matrix(),
    center: true,
    polar: polar({ depth: 4, bits: [4, 2, 2, 1] }),
    radius: 'f16',
    layout: tiles({ tokens: 32 }),
  } as const;
  folder = emitted(planOf(codec, codec, { pageTokens: 32 }), target);
  program = join(folder, 'probe');
  const include = join(folder, 'cuda/small');
  execFileSync('g++', [
    ...FLAGS,
    '-I',
    include,
    '-x',
    'c++',
    PROBE,
    join(include, 'small.cu'),
    '-o',
    program,
  ]);
  lines = printed({});
}, 120_000);

afterAll(() => {
  rmSync(folder, { recursive: true });
});

describe('arguments', () => {
  it.each([
    ...BAD_ARGUMENTS,
    ['many parts', INVALID, 'part_count is 65: give 64 parts or fewer'] as const,
    ['unit stride of bytes', INVALID, 'give a multiple of 4 bytes'] as const,
    ['page stride of bytes', INVALID, 'keys.page_stride is'] as const,
  ])('%s', (name, status, message) => {
    expect(lines.get(name)).toContain(`${status} `);
    expect(lines.get(name)).toContain(message);
  });

  it('writes nothing when it refuses', () => {
    expect(lines.get('untouched')).toBe('1');
  });

  it('takes no rows, and a pool without pages', () => {
    expect(lines.get('none')).toBe('0 ');
    expect(lines.get('no pages')).toBe('0 ');
    expect(lines.get('flags')).toBe('8');
  });
});

describe('calls', () => {
  it('encode the same bytes for all rows at once, row by row, head by head, and two at once', () => {
    expect(lines.get('row by row')).toBe('same bytes 1');
    expect(lines.get('head by head')).toBe('same bytes 1');
    expect(lines.get('threads')).toBe('same bytes 1');
  });

  it('reach pages beyond 4 GiB', () => {
    expect(lines.get('far')).toBe('same bytes 1');
    expect(lines.get('far attend')).toBe('same bits 1');
  });
});

describe('splits', () => {
  it('fill a device once when a sequence is long, and are few when it is short', () => {
    expect(lines.get('short units')).toBe('2');
    const units = Number(lines.get('long units'));
    expect(units).toBeGreaterThan(0.9 * 4 * 132);
    expect(units).toBeLessThanOrEqual(4 * 132);
    expect(printed({ POLARC_CUDA_SMS: '1' }).get('long units')).toBe('4');
  });

  it('are those of the call where it names them', () => {
    const units = String(2 * (2 ** 20 / 4096));
    expect(lines.get('fixed units')).toBe(units);
    expect(printed({ POLARC_CUDA_SMS: '1' }).get('fixed units')).toBe(units);
  });

  it('have as many tokens as an int32 holds at most', () => {
    const units = printed({ POLARC_CUDA_SMS: '1' }).get('longest units');
    expect(Number(units)).toBeGreaterThanOrEqual(2 * 2);
  });

  it('give the workspace query and the call the same size', () => {
    for (const name of ['short', 'long', 'fixed', 'longest']) {
      expect(lines.get(name)).toMatch(/^2 workspace_bytes is \d+: give \d+/);
    }
    expect(lines.get('exact')).toBe('0 ');
  });
});

describe('a device', () => {
  it('below the least compute capability is refused by every call, with its own', () => {
    const refused = printed({ POLARC_CUDA_CAPABILITY: '7.0' });
    for (const call of [
      'plain',
      'none',
      'basis',
      'rotation',
      'part count',
      'phase',
      'dense keys null',
    ]) {
      expect(refused.get(call)).toBe(
        `${UNSUPPORTED} device 0 has compute capability 7.0: the kernels need 7.5 or above`,
      );
    }
    expect(refused.get('untouched')).toBe('1');
    expect(refused.get('null')).toContain('params is null');
  });

  it('of the least compute capability is not', () => {
    expect(printed({ POLARC_CUDA_CAPABILITY: '7.5' })).toEqual(lines);
  });
});
