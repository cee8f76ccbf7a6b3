import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { VerifyReport } from '../../generator/conformance/index.ts';
import { TARGETS, type TargetEntry } from '../../targets/index.ts';

const BIN = join(import.meta.dirname, '../../bin/polarc.js');

/** A fault as a hand would make it: one edit of an emitted kernel. */
interface Fault {
  readonly what: string;
  /** Kernels that must fail, and one that must not. */
  readonly found: readonly string[];
  readonly innocent: string;
  /** The place, and what stands there instead. */
  readonly place: RegExp;
  readonly edit: (...match: string[]) => string;
}

/** Times 1.01, as a float literal. */
const larger = (literal: string): string =>
  `${(Number.parseFloat(literal) * 1.01).toFixed(6)}${literal.endsWith('f') ? 'f' : ''}`;

/** Where the kernels of a target stand, and what is planted there. */
interface Subject {
  readonly file: string;
  readonly faults: readonly Fault[];
}

const SUBJECTS: Readonly<Record<string, Subject>> = {
  avx2: {
    file: 'avx2/faulty.cpp',
    faults: [
      {
        what: 'a threshold',
        found: ['encode_key'],
        innocent: 'attend',
        place: /(threshold_l2\[\] = \{[^,]+, )([0-9.]+f)/g,
        edit: (_whole, before, literal) => `${before}${larger(literal!)}`,
      },
      {
        what: 'a table entry',
        found: ['encode_key', 'decode_key', 'scores', 'attend'],
        innocent: 'merge',
        place: /(cos_l2\[\] = \{\s*)([0-9.]+f)/g,
        edit: (_whole, before, literal) => `${before}${larger(literal!)}`,
      },
      {
        what: 'a tail: tokens beyond the last are seen',
        found: ['scores', 'attend'],
        innocent: 'encode_key',
        place: /first \+ tiles \* tile_tokens <= sight\.end/g,
        edit: () => 'first <= sight.end',
      },
      {
        what: 'a stride: every head reads the first',
        found: ['scores', 'weighted_sum', 'attend'],
        innocent: 'attend_dense',
        place: /(static_cast<const uint8_t \*>\(pool\.data\) \+ head) \* pool\.head_stride/g,
        edit: (_whole, before) => `${before} * 0`,
      },
      {
        what: 'a sign',
        found: ['encode_key', 'encode_value'],
        innocent: 'decode_key',
        place: /const __m256 difference = _mm256_sub_ps\(a, b\)/g,
        edit: () => 'const __m256 difference = _mm256_sub_ps(b, a)',
      },
    ],
  },
  cuda: {
    file: 'cuda/faulty/faulty.cuh',
    faults: [
      {
        what: 'a threshold',
        found: ['encode_key'],
        innocent: 'attend',
        // The first argument is the one in the middle: 1, by which nothing is multiplied.
        place: /(nearest<entries_l2>\([0-9.]+f, )([0-9.]+f)/g,
        edit: (_whole, before, literal) => `${before}${larger(literal!)}`,
      },
      {
        what: 'a table entry',
        found: ['encode_key', 'decode_key', 'scores', 'attend'],
        innocent: 'merge',
        place: /(cos_l2\[\d+\] = \{\s*)([0-9.]+f)/g,
        edit: (_whole, before, literal) => `${before}${larger(literal!)}`,
      },
      {
        what: 'a tail: the last token is not seen',
        found: ['scores', 'weighted_sum', 'attend'],
        innocent: 'encode_key',
        place: /to < end \? static_cast<int32_t>\(to\) : end\};/g,
        edit: () => 'to < end ? static_cast<int32_t>(to) : end > from ? end - 1 : end};',
      },
      {
        what: 'a stride: every head reads the first',
        found: ['scores', 'weighted_sum', 'attend'],
        innocent: 'attend_dense',
        place: /\+ head \* pool\.head_stride/g,
        edit: () => '+ 0 * head * pool.head_stride',
      },
      {
        what: 'a sign',
        found: ['encode_key', 'encode_value'],
        innocent: 'merge',
        place: /x\[i \+ stride\] = sub_rn\(a, b\)/g,
        edit: () => 'x[i + stride] = sub_rn(b, a)',
      },
    ],
  },
  wgsl: {
    file: 'wgsl/faulty/faulty.js',
    faults: [
      {
        what: 'a threshold',
        found: ['encode_key'],
        innocent: 'attend',
        place: /(thresholds_l2 = array<f32, \d+>\(\s*[0-9.]+f, )([0-9.]+f)/g,
        edit: (_whole, before, literal) => `${before}${larger(literal!)}`,
      },
      {
        what: 'a table entry',
        found: ['decode_key', 'scores', 'attend'],
        innocent: 'encode_key',
        place: /(_directions_l2 = array<vec2f, \d+>\(\s*vec2f\()([0-9.]+)/g,
        edit: (_whole, before, literal) => `${before}${larger(literal!)}`,
      },
      {
        what: 'a tail: tokens beyond the last are seen',
        found: ['weighted_sum', 'attend'],
        innocent: 'encode_key',
        place: /let end = min\(sight\.end, start \+ params\.split_tokens\)/g,
        edit: () => 'let end = start + min(params.split_tokens, 64u)',
      },
      {
        what: 'a stride: every head reads the first',
        found: ['scores', 'weighted_sum', 'attend'],
        innocent: 'attend_dense',
        place: /(_offset \+ head) (\* params)/g,
        edit: (_whole, before, after) => `${before} * 0u ${after}`,
      },
      {
        what: 'a sign',
        found: ['encode_key', 'encode_value'],
        innocent: 'merge',
        place: /vector\[i \+ stride\] = a - b/g,
        edit: () => 'vector[i + stride] = b - a',
      },
    ],
  },
};

interface Run {
  readonly code: number | null;
  readonly report: VerifyReport;
  readonly errors: string;
}

const polarc = (
  args: readonly string[],
): Promise<{ code: number | null; out: string; err: string }> =>
  new Promise((done, fail) => {
    const child = spawn(process.execPath, [BIN, ...args]);
    let out = '';
    let err = '';
    child.stdout.on('data', (text) => {
      out += text;
    });
    child.stderr.on('data', (text) => {
      err += text;
    });
    child.on('error', fail);
    child.on('close', (code) => done({ code, out, err }));
  });

const verify = async (folder: string): Promise<Run> => {
  const { code, out, err } = await polarc(['verify', '--out', folder, '--json', '--quick']);
  expect(out, err).not.toBe('');
  return { code, report: JSON.parse(out) as VerifyReport, errors: err };
};

const failed = ({ report }: Run): string[] => [
  ...new Set(report.cases.filter(({ ok }) => !ok).map(({ kernel }) => kernel)),
];

/** A folder with the kernels of a target. */
const generate = async (target: string): Promise<string> => {
  const folder = mkdtempSync(join(tmpdir(), 'polarc-faults-'));
  const { code, err } = await polarc([
    ...['generate', '--head-dim', '32', '--bits', '4,2,2', '--group', '2', '--name', 'faulty'],
    ...['--layout', 'tiles', '--page-tokens', '32', '--target', target],
    ...['--out', join(folder, 'sound')],
  ]);
  expect(code, err).toBe(0);
  return folder;
};

const isMissing = async (entry: TargetEntry): Promise<boolean> => {
  const missing = (await (await entry.load()).check()).filter((each) => each.required && !each.ok);
  const reason = missing.map(({ what, detail }) => `${what}: ${detail}`).join('; ');
  if (missing.length > 0) console.warn(`planted faults of ${entry.id} are skipped: ${reason}`);
  return missing.length > 0;
};

for (const entry of TARGETS) {
  const { file, faults } = SUBJECTS[entry.id]!;
  describe.skipIf(await isMissing(entry))(`verify of an emitted folder, ${entry.id}`, () => {
    let folder: string;
    beforeAll(async () => {
      folder = await generate(entry.id);
    });
    afterAll(() => rmSync(folder, { recursive: true, force: true }));

    test('passes as it was emitted', async () => {
      const run = await verify(join(folder, 'sound'));
      expect(run.report.cases.filter(({ ok }) => !ok)).toEqual([]);
      expect(run.code).toBe(0);
      expect(run.report).toMatchObject({ ok: true, failed: 0, skipped: 0, differingBytes: 0 });
      expect(run.report.passed).toBe(run.report.cases.length);
    });

    test.each(faults)('finds $what by what the kernels do', async (fault) => {
      const copy = mkdtempSync(join(folder, 'faulty-'));
      cpSync(join(folder, 'sound'), copy, { recursive: true });
      const kernel = join(copy, file);
      const text = readFileSync(kernel, 'utf8');
      expect(text).toMatch(fault.place);
      writeFileSync(kernel, text.replace(fault.place, fault.edit));

      const run = await verify(copy);
      expect(run.code).toBe(1);
      expect(run.report.ok).toBe(false);
      expect(failed(run)).toEqual(expect.arrayContaining([...fault.found, 'files']));
      expect(failed(run)).not.toContain(fault.innocent);
      const files = run.report.cases.find(({ kernel }) => kernel === 'files');
      expect(files?.message).toContain(file);
    });
  });
}

const native = TARGETS.find(({ id }) => id === 'avx2')!;
describe.skipIf(await isMissing(native))('verify of a folder', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await generate(native.id);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('names the case in which a kernel crashed', async () => {
    const copy = mkdtempSync(join(folder, 'crashing-'));
    cpSync(join(folder, 'sound'), copy, { recursive: true });
    const kernel = join(copy, SUBJECTS.avx2!.file);
    const text = readFileSync(kernel, 'utf8');
    const start = 'int merge(const polarc_merge_params &p) {\n';
    expect(text).toContain(start);
    writeFileSync(
      kernel,
      text.replace(start, `${start}  *reinterpret_cast<volatile int *>(8) = 1;\n`),
    );
    const junit = join(copy, 'report.xml');
    const { code, out, err } = await polarc([
      ...['verify', '--out', copy, '--quick', '--json', '--junit', junit],
    ]);
    expect(code).toBe(1);
    expect(JSON.parse(out)).toMatchObject({ ok: false, failed: 1, passed: 0 });
    expect(readFileSync(junit, 'utf8')).toContain('SIGSEGV ended the run');
    expect(err).toMatch(
      /^SIGSEGV ended the run; it was in faulty \(avx2\) merge: .*, alone: --only faulty$/m,
    );
  });

  test('says what is wrong with a folder that polarc did not write', async () => {
    const { code, err } = await polarc(['verify', '--out', join(folder, 'nowhere')]);
    expect(code).toBe(2);
    expect(err).toContain('polarc generate --out');
  });

  test('refuses a plan that was changed', async () => {
    const copy = mkdtempSync(join(folder, 'changed-'));
    cpSync(join(folder, 'sound'), copy, { recursive: true });
    const plan = join(copy, 'faulty.plan.json');
    writeFileSync(plan, readFileSync(plan, 'utf8').replace('"queryGroup":2', '"queryGroup":3'));
    const { code, err } = await polarc(['verify', '--out', copy]);
    expect(code).toBe(2);
    expect(err).toContain('P112');
  });
});
