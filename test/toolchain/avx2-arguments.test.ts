/** Wrong calls through the C ABI: a status and a message that names the field, nothing written, no crash. */

import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { matrix, polar, tiles } from '../../generator/spec/index.ts';
import { target } from '../../targets/avx2/index.ts';
import { emitted } from '../fixtures/emitted.ts';
import { planOf } from '../fixtures/small-cache.ts';

const PROBE = fileURLToPath(new URL('../fixtures/bad-arguments.cpp', import.meta.url));
const FLAGS = '-std=c++17 -O1 -mavx2 -mfma -mf16c -ffp-contract=off -Wall -Wextra -pthread'.split(
  ' ',
);

const INVALID = 1;
const WORKSPACE_TOO_SMALL = 2;
const VERSION_MISMATCH = 4;

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
  const printed = execFileSync(program, { encoding: 'utf8' }).trimEnd().split('\n');
  lines = new Map(printed.map((line) => line.split(/: (.*)/s).slice(0, 2) as [string, string]));
}, 120_000);

afterAll(() => {
  rmSync(folder, { recursive: true });
});

describe('arguments', () => {
  it.each([
    ['null', INVALID, 'params is null'],
    ['stream', INVALID, 'stream is not null'],
    ['version', VERSION_MISMATCH, 'version 9'],
    ['size', VERSION_MISMATCH, 'this kernel has size'],
    ['count', INVALID, 'count is -1: give 0 or more'],
    ['kv_heads', INVALID, 'kv_heads is 0: give 1 or more'],
    ['head range', INVALID, 'head_begin is 1 and head_end 3'],
    ['rows null', INVALID, 'rows.data is null'],
    ['rows misaligned', INVALID, 'rows.data is not aligned: give a multiple of 4 bytes'],
    ['rows dtype', INVALID, 'rows.dtype is 7: give POLARC_F32 (0)'],
    ['row stride', INVALID, 'rows.row_stride is 31: give 32 or more'],
    ['head stride', INVALID, 'rows.head_stride is 1: give 32 or more'],
    ['slots null', INVALID, 'slots is null'],
    ['slots misaligned', INVALID, 'slots is not aligned'],
    ['pages', INVALID, 'cache.pages is -2'],
    ['pool null', INVALID, 'cache.data is null'],
    ['pool misaligned', INVALID, 'cache.data is not aligned: give a multiple of 16 bytes'],
    ['unit stride', INVALID, 'cache.unit_stride is'],
    ['pool head stride', INVALID, 'cache.head_stride is 0'],
    ['page stride', INVALID, 'cache.page_stride is 16'],
    ['mean', INVALID, 'transform.mean is null: this format needs it'],
    ['matrix', INVALID, 'transform.matrix is null: this format needs it'],
    ['errors misaligned', INVALID, 'errors is not aligned'],
    ['basis', INVALID, 'basis is 2: give POLARC_ORIGINAL (0) or POLARC_ROTATED (1)'],
    ['dual', INVALID, 'transform.dual is null: this format needs it'],
    ['rotation', INVALID, 'rotation is 3'],
    ['heads per kv', INVALID, 'heads_per_kv is 3 for 2 heads'],
    ['parts null', INVALID, 'parts is null'],
    ['part count', INVALID, 'part_count is 0: give 1 or more'],
    ['q null', INVALID, 'q.data is null'],
    ['out dtype', INVALID, 'out.dtype is -1'],
    ['scale', INVALID, 'scale is not finite'],
    ['softcap', INVALID, 'softcap is -1: give 0 (none)'],
    ['window', INVALID, 'window is -1: give 0 or more'],
    ['lengths null', INVALID, 'index.lengths is null'],
    ['two tables', INVALID, 'index.block_table and index.indptr are both given'],
    ['keys misaligned', INVALID, 'keys.data is not aligned: give a multiple of 16 bytes'],
    ['values stride', INVALID, 'values.unit_stride is 16'],
    ['key dual', INVALID, 'key.dual is null: this format needs it'],
    ['value mean', INVALID, 'value.mean is null: this format needs it'],
    ['split', INVALID, 'split_tokens is 48: give a multiple of 32'],
    ['phase', INVALID, 'phase is 3'],
    ['units', INVALID, '0 <= unit_begin <= unit_end <= 2'],
    ['workspace small', WORKSPACE_TOO_SMALL, 'workspace_bytes is 64: give '],
    ['workspace misaligned', INVALID, 'workspace is not aligned'],
    ['dense keys null', INVALID, 'keys is null'],
    ['dense values misaligned', INVALID, 'values is not aligned: give a multiple of 4 bytes'],
    ['dense token stride', INVALID, 'key_token_stride is 31: give 32 or more'],
    ['dense lengths null', INVALID, 'lengths is null'],
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
