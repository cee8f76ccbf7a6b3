/** `polarc bench` on every target: it measures, compares and counts; how fast anything is, no test says. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { TARGETS, type TargetEntry } from '../../targets/index.ts';

const BIN = join(import.meta.dirname, '../../bin/polarc.js');

interface Row {
  readonly kernel: string;
  readonly variant: string | null;
  readonly nsPerTokenHead: number;
  readonly baselineNsPerTokenHead: number | null;
  readonly ratio: number | null;
}

describe('bench and verify of a folder', () => {
  const folder = mkdtempSync(join(tmpdir(), 'polarc-bench-test-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const polarc = (...args: readonly string[]) =>
    spawnSync(process.execPath, [BIN, ...args], { encoding: 'utf8' });

  test('take the targets that it has kernels of, and no other', async () => {
    const [first, second] = TARGETS as readonly [TargetEntry, TargetEntry];
    const cache = ['--head-dim', '32', '--bits', '4,2', '--target', first.id, '--out', folder];
    expect(polarc('generate', ...cache).status).toBe(0);
    const wrong = polarc('bench', '--out', folder, '--target', second.id);
    expect(wrong.status).toBe(2);
    expect(wrong.stderr).toBe(
      `error[P210] ${folder} has no kernels for ${second.id} → generate them: --target ${second.id}\n`,
    );
    expect(polarc('verify', '--out', folder, '--target', second.id)).toMatchObject({
      status: 2,
      stderr: wrong.stderr,
    });
    const missing = (await (await first.load()).check()).filter((c) => c.required && !c.ok);
    if (missing.length > 0) return;
    const run = polarc('bench', '--out', folder, '--tokens', '64', '--repeats', '1', '--json');
    expect(run.status, run.stderr).toBe(0);
    const { rows } = JSON.parse(run.stdout) as { rows: { target: string }[] };
    expect(new Set(rows.map(({ target }) => target))).toEqual(new Set([first.id]));
    const verified = polarc('verify', '--out', folder, '--quick', '--json');
    expect(verified.status, verified.stderr).toBe(0);
    const { targets } = JSON.parse(verified.stdout) as { targets: { id: string }[] };
    expect(targets.map(({ id }) => id)).toEqual([first.id]);
  });
});

for (const entry of TARGETS) {
  const target = await entry.load();
  const checks = await target.check();
  const missing = checks.filter((each) => each.required && !each.ok);
  const reason = missing.map(({ what, detail }) => `${what}: ${detail}`).join('; ');
  if (missing.length > 0) console.warn(`bench of ${entry.id} is skipped: ${reason}`);
  const standIn = (await target.standIn?.()) ?? null;

  const timed = standIn === null ? ' (none: they are timed where they run)' : '';
  describe.skipIf(missing.length > 0 || standIn === null)(
    `predictions of ${entry.id}${timed}`,
    () => {
      test('predicts where nothing that runs here is worth timing, or says what is missing', () => {
        const { stdout, stderr, status } = spawnSync(
          process.execPath,
          [
            ...[BIN, 'bench', '--target', entry.id, '--head-dim', '64', '--bits', '4,2,2,2'],
            ...['--group', '4', '--json'],
          ],
          { encoding: 'utf8' },
        );
        if (checks.some(({ ok, detail }) => !ok && detail.includes('install'))) {
          expect([status, stderr]).toEqual([
            2,
            expect.stringContaining('error[P301] there is no '),
          ]);
          return;
        }
        expect(status, stderr).toBe(0);
        const { rows, predicted, machine } = JSON.parse(stdout) as {
          rows: Row[];
          predicted: { kernel: string; registers: number; machines: { headroom: number }[] }[];
          machine: { notTimed: Record<string, string> };
        };
        expect(rows).toEqual([]);
        expect(machine.notTimed).toEqual({ [entry.id]: standIn });
        expect(predicted.length).toBeGreaterThan(0);
        for (const { registers, machines } of predicted) {
          expect(registers).toBeGreaterThan(16);
          for (const { headroom } of machines) expect(headroom).toBeGreaterThan(0);
        }
      });
    },
  );

  const untimed = standIn === null ? '' : ` (${standIn})`;
  describe.skipIf(missing.length > 0 || standIn !== null)(`bench of ${entry.id}${untimed}`, () => {
    test('times attention against the dense kernel, in every variant, and encode', () => {
      const { stdout, stderr, status } = spawnSync(
        process.execPath,
        [
          ...[BIN, 'bench', '--target', entry.id, '--head-dim', '32', '--bits', '4,2,2'],
          ...['--layout', 'tiles', '--group', '2', '--tokens', '64', '--repeats', '1', '--json'],
        ],
        { encoding: 'utf8' },
      );
      expect(status, stderr).toBe(0);
      const { rows, counted, machine } = JSON.parse(stdout) as {
        rows: Row[];
        counted: { loop: string; float: number }[];
        machine: { devices: Record<string, string> };
      };
      expect(machine.devices[entry.id]).not.toBe('');
      const kernels = rows.map(({ kernel }) => kernel);
      expect(kernels).toEqual(expect.arrayContaining(['attend_dense', 'attend', 'encode_key']));
      for (const row of rows) expect(row.nsPerTokenHead).toBeGreaterThan(0);
      for (const row of rows.filter(({ kernel }) => kernel === 'attend')) {
        expect(row.ratio).toBeCloseTo(row.baselineNsPerTokenHead! / row.nsPerTokenHead, 5);
      }
      // What runs on another kind of machine than this one is counted as well.
      expect(counted.map(({ loop }) => loop)).toEqual(
        entry.id === 'wgsl'
          ? ['attend, keys', 'attend, values', 'attend_dense, keys', 'attend_dense, values']
          : [],
      );
      for (const { float } of counted) expect(float).toBeGreaterThanOrEqual(2);
    });
  });
}
