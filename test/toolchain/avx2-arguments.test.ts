/** Wrong calls through the C ABI: a status and a message that names the field, nothing written, no crash. */

import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { matrix, polar, tiles } from '../../generator/spec/index.ts';
import { target } from '../../targets/avx2/index.ts';
import { BAD_ARGUMENTS, INVALID, printedLines } from '../fixtures/bad-arguments.ts';
import { emitted } from '../fixtures/emitted.ts';
import { planOf } from '../fixtures/small-cache.ts';

const PROBE = fileURLToPath(new URL('../fixtures/bad-arguments.cpp', import.meta.url));
const FLAGS = '-std=c++17 -O1 -mavx2 -mfma -mf16c -ffp-contract=off -Wall -Wextra -pthread'.split(
  ' ',
);

let folder: string;
let lines: Map<string, string>;

beforeAll(() => {
  // One bit at level 4: the last bits of a record share bytes with those of other tokens.
  const codec = {
    precondition: matrix(),
    center: true,
    polar: polar({ depth: 4, bits: [4, 2, 2, 1] }),
    radius: 'f16',
    layout: tiles({ tokens: 32 }),
  } as const;
  const plan = planOf(codec, codec, { pageTokens: 32 });
  expect(((plan.key.layout.unitBytes * 8) / 32) % 8).not.toBe(0);
  folder = emitted(plan, target);
  const program = join(folder, 'probe');
  const sources = [PROBE, join(folder, 'avx2/small.cpp')];
  execFileSync('g++', [...FLAGS, '-I', join(folder, 'avx2'), ...sources, '-o', program]);
  lines = printedLines(execFileSync(program, { encoding: 'utf8' }));
}, 120_000);

afterAll(() => {
  rmSync(folder, { recursive: true });
});

describe('arguments', () => {
  it.each([...BAD_ARGUMENTS, ['stream', INVALID, 'stream is not null']])(
    '%s',
    (name, status, message) => {
      expect(lines.get(name)).toContain(`${status} `);
      expect(lines.get(name)).toContain(message);
    },
  );

  it('writes nothing when it refuses', () => {
    expect(lines.get('untouched')).toBe('1');
  });

  it('takes no rows, and a pool without pages', () => {
    expect(lines.get('none')).toBe('0 ');
    expect(lines.get('no pages')).toBe('0 ');
    expect(lines.get('flags')).toBe('8');
  });
});

describe('encode', () => {
  it('does not depend on the floating-point state, and gives it back', () => {
    expect(lines.get('state')).toBe('0 1 same bytes 1, nothing beyond 1');
  });

  it('gives the same bytes for all rows at once, row by row, and head by head', () => {
    expect(lines.get('row by row')).toBe('same bytes 1');
    expect(lines.get('head by head')).toBe('same bytes 1');
  });

  it('lets threads write neighbouring tokens of a tile', () => {
    expect(lines.get('threads')).toBe('same bytes 1');
  });

  it('reaches pages beyond 4 GiB', () => {
    expect(lines.get('far')).toBe('same bytes 1');
    expect(lines.get('far attend')).toBe('same bits 1');
  });
});
