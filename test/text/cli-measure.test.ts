import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { main } from '../../generator/cli/main.ts';
import {
  arrayOf,
  readSafetensors,
  type TensorInput,
  writeSafetensors,
} from '../../generator/safetensors/index.ts';

const SLICE = join(import.meta.dirname, '../fixtures/kv-slice.safetensors');
const MATRIX_NAMES = ['key_matrix', 'key_dual', 'value_matrix', 'value_dual'];

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'polarc-measure-'));
});
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
});

/** Runs `polarc measure` in this process. */
async function measure(...args: readonly string[]) {
  const out: string[] = [];
  const err: string[] = [];
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => out.push(String(text)) > 0);
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => err.push(String(text)) > 0);
  process.exitCode = 0;
  await main(['measure', ...args]);
  const code = process.exitCode;
  vi.restoreAllMocks();
  return { code, out: out.join(''), err: err.join('').replaceAll(/\/\S*\/(?=[\w-]+\.)/g, '') };
}

/** The slice with some tensors replaced; null removes one. */
function changed(name: string, changes: Readonly<Record<string, TensorInput | null>>): string {
  const file = readSafetensors(readFileSync(SLICE));
  const tensors: Record<string, TensorInput> = {};
  for (const [key, tensor] of file.tensors) tensors[key] = { ...tensor, data: arrayOf(tensor) };
  for (const [key, tensor] of Object.entries(changes)) {
    if (tensor === null) delete tensors[key];
    else tensors[key] = tensor;
  }
  const path = join(folder, name);
  writeFileSync(path, writeSafetensors(tensors, file.metadata));
  return path;
}

describe('polarc measure', () => {
  test('prints exactly one object with --json', async () => {
    const run = await measure(SLICE, '--bits', '4,2,2,2', '--precondition', 'none', '--json');
    expect(run.code).toBe(0);
    const { rows, ...rest } = JSON.parse(run.out) as { rows: Record<string, unknown>[] };
    expect(rest).toEqual({});
    expect(rows).toHaveLength(2);
    expect(rows[0]).toEqual({
      layer: 4,
      bits: [4, 2, 2, 2],
      precondition: 'none',
      bitsPerCoordinate: 3.875,
      keyError: expect.closeTo(0.049705, 5),
      valueError: expect.closeTo(0.035316, 5),
      scoreMse: expect.closeTo(0.6614, 3),
      outputError: expect.closeTo(0.2957, 2),
    });
  });

  test('prints a table and histograms, and draws them', async () => {
    const svg = join(folder, 'angles.svg');
    const run = await measure(
      ...[SLICE, '--bits', '5,3', '--layers', '20', '--seeds', '2', '--center', '--svg', svg],
    );
    expect(run.code).toBe(0);
    const [title, , head, row] = run.out.split('\n');
    expect(title).toBe(
      'bits 5,3 · radius f16 · hadamard, centred · 7.25 bits a coordinate · mean of 2 seeds ± deviation',
    );
    expect(head).toMatch(/^layer +key error +value error +score MSE +output error$/);
    expect(row).toMatch(/^ +20( +[\d.e-]+ ±[\d.]+%){4}$/);
    expect(run.out).toContain('angles of preconditioned keys');
    expect(readFileSync(svg, 'utf8')).toContain('<svg');
  });

  test('takes any preconditioner', async () => {
    const identity = Float32Array.from({ length: 3 * 64 * 64 }, (_, at) =>
      Math.floor(at / 64) % 64 === at % 64 ? 1 : 0,
    );
    const names = MATRIX_NAMES.map((name) => `layer.4.${name}`);
    const tensor = { dtype: 'F32', shape: [3, 64, 64], data: identity } as const;
    const file = changed('matrix.safetensors', Object.fromEntries(names.map((n) => [n, tensor])));
    const rowOf = async (...args: string[]) => {
      const run = await measure(SLICE, '--bits', '4,2', '--layers', '4', '--json', ...args);
      return (JSON.parse(run.out) as { rows: { keyError: number; precondition: string }[] })
        .rows[0]!;
    };
    const none = await rowOf('--precondition', 'none');
    expect(await rowOf('--matrix', file)).toEqual({ ...none, precondition: 'matrix' });
    const hadamard = await rowOf();
    const orthogonal = await rowOf('--precondition', 'orthogonal');
    expect(orthogonal.keyError / hadamard.keyError).toBeCloseTo(1, 1);
    expect(orthogonal.keyError).toBeLessThan(none.keyError);
  });
});

describe('mistakes give one error and exit code 2', () => {
  const bits = ['--bits', '4,2,2,2'];
  const fault = async (...args: readonly string[]) => {
    const { code, out, err } = await measure(...args);
    expect(code).toBe(2);
    expect(out).toBe('');
    return err.trimEnd();
  };

  test('options', async () => {
    expect(await fault(SLICE, '--bits', '4,y')).toMatchInlineSnapshot(
      `"error[P104] --bits: '4,y' is no list of bits → write one number a level, for example --bits 4,2,2,2"`,
    );
    expect(await fault(SLICE, '--bits', '4,2,2,2,2,2,2')).toMatchInlineSnapshot(`
      "error[P011] key.polar.depth: depth 7 for head dimension 64 → write a whole number from 1 to 6
      error[P011] value.polar.depth: depth 7 for head dimension 64 → write a whole number from 1 to 6"
    `);
    expect(await fault(SLICE, ...bits, '--depth', '3')).toMatchInlineSnapshot(`
      "error[P012] key.polar.bits: 4 entries for depth 3 → write one a level, for example [4, 2, 2]
      error[P012] value.polar.bits: 4 entries for depth 3 → write one a level, for example [4, 2, 2]"
    `);
    expect(await fault(SLICE, ...bits, '--layers', '4,x')).toMatchInlineSnapshot(
      `"error[P104] --layers: '4,x' is no list of layers → write numbers separated by commas, for example --layers 0,4"`,
    );
    expect(await fault(SLICE, ...bits, '--layers', '5')).toMatchInlineSnapshot(
      `"error[P130] kv-slice.safetensors: there is no layer 5 → it has 4, 20"`,
    );
    expect(await fault(SLICE, ...bits, '--seeds', '0')).toMatchInlineSnapshot(
      `"error[P104] --seeds: 0 is out of range → write a whole number from 1"`,
    );
    expect(await fault(SLICE, ...bits, '--sinks', 'all')).toMatchInlineSnapshot(
      `"error[P104] --sinks: NaN is out of range → write a whole number from 0"`,
    );
    expect(await fault(SLICE, ...bits, '--moments', SLICE)).toMatchInlineSnapshot(
      `"error[P210] --moments without --center → add --center to subtract its means"`,
    );
    expect(await fault(SLICE, ...bits, '--precondition', 'matrix')).toMatchInlineSnapshot(
      `"error[P210] --precondition matrix without its matrices → name a file with --matrix"`,
    );
    expect(
      await fault(SLICE, ...bits, '--matrix', SLICE, '--precondition', 'none'),
    ).toMatchInlineSnapshot(
      `"error[P210] --matrix and --precondition none exclude each other → leave one of them out"`,
    );
  });

  test('files', async () => {
    expect(await fault(join(folder, 'absent.safetensors'), ...bits)).toMatchInlineSnapshot(
      `"error[P131] absent.safetensors cannot be read: no such file or directory → name a .safetensors file"`,
    );
    const text = join(folder, 'text.safetensors');
    writeFileSync(text, 'not a file of tensors');
    expect(await fault(text, ...bits)).toMatchInlineSnapshot(
      `"error[P120] text.safetensors: it is no .safetensors file: it does not begin with the length of a header → download or write the file again"`,
    );
    const cut = join(folder, 'cut.safetensors');
    writeFileSync(cut, readFileSync(SLICE).subarray(0, 5000));
    expect(await fault(cut, ...bits)).toMatchInlineSnapshot(
      `"error[P121] cut.safetensors: tensor 'layer.20.key' ends at byte 201792 of the data, which has 3800: the file is cut off → write the file again"`,
    );
    expect(await fault(SLICE, ...bits, '--svg', join(folder, 'none/a.svg'))).toMatchInlineSnapshot(
      `"error[P131] a.svg cannot be written: no such file or directory → name a file that can be written"`,
    );
  });

  test('captures', async () => {
    const keys = ['layer.4.key', 'layer.20.key'].map((key) => [key, null] as const);
    const cases: Record<string, Readonly<Record<string, TensorInput | null>>> = {
      'no-keys': Object.fromEntries(keys),
      'no-values': { 'layer.4.value': null },
      'no-positions': { query_positions: null },
      tokens: { 'layer.4.value': { dtype: 'F16', shape: [3, 1, 64], data: new Uint16Array(192) } },
      heads: { 'layer.4.query': { dtype: 'F16', shape: [4, 16, 64], data: new Uint16Array(4096) } },
      dtype: { 'layer.4.key': { dtype: 'U8', shape: [3, 512, 64], data: new Uint8Array(98304) } },
      infinite: {
        'layer.4.key': {
          dtype: 'F32',
          shape: [3, 512, 64],
          data: new Float32Array(98304).fill(Infinity, 7),
        },
      },
      empty: { 'layer.4.key': { dtype: 'F16', shape: [3, 0, 64], data: new Uint16Array(0) } },
      positions: {
        query_positions: { dtype: 'I64', shape: [16], data: new BigInt64Array(16).fill(512n) },
      },
    };
    const faults = [];
    for (const [name, changes] of Object.entries(cases)) {
      faults.push(await fault(changed(`${name}.safetensors`, changes), ...bits));
    }
    expect(faults.join('\n')).toMatchInlineSnapshot(`
      "error[P130] no-keys.safetensors: there is no tensor layer.N.key → a capture holds layer.N.key and layer.N.value [kv_head, token, d], layer.N.query [q_head, position, d], query_positions [position]
      error[P122] no-values.safetensors has no tensor 'layer.4.value' → did you mean 'layer.20.value'?
      error[P122] no-positions.safetensors has no tensor 'query_positions' → it has 11 tensors
      error[P122] tokens.safetensors: tensor 'layer.4.value' has shape [3, 1, 64] → its shape must be [3, 512, n]
      error[P130] heads.safetensors: layer.4.query has 4 heads, layer.4.key 3 → the number of query heads is a multiple of the number of KV heads
      error[P122] dtype.safetensors: tensor 'layer.4.key' is U8 → store it as F32 or F16 or BF16
      error[P130] infinite.safetensors: layer.4.key holds Infinity at element 7 → figures need finite numbers: look at the run that captured them
      error[P130] empty.safetensors: layer.4.key of shape [3, 0, 64] is empty → capture at least one token and one query
      error[P130] positions.safetensors: query_positions holds 512, and there are 512 tokens → a position is the index of the last token that the query sees"
    `);
  });

  test('means and matrices', async () => {
    const means = changed('means.safetensors', {
      'layer.4.key_mean': { dtype: 'F32', shape: [3, 32], data: new Float32Array(96) },
    });
    expect(await fault(SLICE, ...bits, '--center', '--moments', means)).toMatchInlineSnapshot(
      `"error[P122] means.safetensors: tensor 'layer.4.key_mean' has shape [3, 32] → its shape must be [3, 64]"`,
    );
    expect(await fault(SLICE, ...bits, '--matrix', SLICE)).toMatchInlineSnapshot(
      `"error[P122] kv-slice.safetensors has no tensor 'layer.4.key_matrix' → did you mean 'layer.4.key_mean'?"`,
    );
    const ones = {
      dtype: 'F32',
      shape: [3, 64, 64],
      data: new Float32Array(12288).fill(1),
    } as const;
    const wrong = changed(
      'wrong.safetensors',
      Object.fromEntries(MATRIX_NAMES.map((name) => [`layer.4.${name}`, ones])),
    );
    expect(await fault(SLICE, ...bits, '--matrix', wrong)).toMatchInlineSnapshot(
      `"error[P130] wrong.safetensors: layer.4.key_dual is not the transposed inverse of its matrix: row 0 of head 0 times that of the matrix is 64.0, not 1 → invert the matrix in float64 and transpose it"`,
    );
  });
});
