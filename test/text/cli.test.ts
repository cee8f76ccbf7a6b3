import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { TARGETS } from '../../targets/index.ts';

/** The command line as users run it: the built package, in a process of its own. */
const BIN = join(import.meta.dirname, '../../bin/polarc.js');
const TARGET = TARGETS[0]!.id;
const CACHE = ['--head-dim', '96', '--bits', '4,2,2,2'];

vi.setConfig({ testTimeout: 60_000 });

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'polarc-cli-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

interface Result {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function polarc(args: readonly string[], cwd = folder): Result {
  const run = spawnSync(process.execPath, [BIN, ...args], { cwd, encoding: 'utf8' });
  return { code: run.status, out: run.stdout, err: run.stderr };
}

function tree(path: string): Record<string, string> {
  const names = readdirSync(path, { recursive: true, encoding: 'utf8' }).sort();
  const files = names.filter((name) => statSync(join(path, name)).isFile());
  return Object.fromEntries(files.map((name) => [name, readFileSync(join(path, name), 'latin1')]));
}

function spec(name: string, more = ''): string {
  return `import { codec, defineCache, polar } from 'polarc';
const half = codec({ headDim: 64, polar: polar({ bits: [4, 2] }) });
export default defineCache({ name: '${name}', key: half, value: half${more} });
`;
}

describe('wrong use is one line on stderr and exit code 2', () => {
  test.each([
    [['generat']],
    [['generate', '--bogus']],
    [['generate', '--out']],
    [['generate', '--check', '--dry-run', ...CACHE]],
    [['generate']],
    [['generate', 'none.polar.ts']],
    [['generate', '--head-dim', '96']],
    [['generate', 'a.polar.ts', '--bits', '4,2']],
    [['generate', ...CACHE, '--target', 'lattice']],
    [['generate', ...CACHE, '--layout', 'tile']],
    [['generate', ...CACHE, '--group', '17']],
    [['generate', ...CACHE, '--head-dim', 'many']],
    [['inspect', ...CACHE, '--cache', 'other']],
    [['inspect', 'none.plan.json']],
    [['init', 'spec.txt']],
    [['verify', ...CACHE, '--sanitize', '--target', 'wgsl']],
  ])('polarc %j', (args) => {
    const { code, out, err } = polarc(args);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toMatch(/^error\[P\d{3}\] .* → .*\n$/);
    expect(readdirSync(folder)).toEqual([]);
  });

  test('says what to write instead', () => {
    const errors = [
      ['generat'],
      ['generate', '--check', '--dry-run', ...CACHE],
      ['generate'],
      ['generate', '--head-dim', '96'],
      ['generate', ...CACHE, '--target', 'lattice'],
      ['generate', ...CACHE, '--group', '17', '--name', '3d'],
    ].map((args) => polarc(args).err);
    expect(
      errors.join('').replaceAll(TARGETS.map(({ id }) => id).join(', '), 'TARGETS'),
    ).toMatchInlineSnapshot(`
      "error[P210] there is no command 'generat' → did you mean 'generate'?
      error[P210] --check writes nothing, --dry-run does not go with it → give one
      error[P100] there is no polarc.config.ts in this folder, and no spec was named → name a spec file, describe a cache with --head-dim and --bits, or run \`polarc init\`
      error[P210] --bits is missing → a cache without a spec file needs both, for example --head-dim 96 --bits 4,2,2,2
      error[P060] there is no target 'lattice' → the targets are TARGETS
      error[P003] --name: '3d' begins with a digit → write an identifier, for example 'd'
      error[P050] --group: 17 query heads a KV head → write a whole number from 1 to 16
      "
    `);
  });

  test('with --json it is one object on stdout too', () => {
    const { code, out } = polarc(['generate', '--json', ...CACHE, '--group', '0']);
    expect(code).toBe(2);
    expect(JSON.parse(out)).toMatchObject({ ok: false, error: { code: 'P050' } });
  });
});

describe('generate', () => {
  test('writes kernels without a spec file, and nothing the second time', () => {
    const args = ['generate', ...CACHE, '--target', TARGET, '--out', 'kernels'];
    expect(polarc(args).code).toBe(0);
    const files = tree(join(folder, 'kernels'));
    expect(Object.keys(files)).toEqual(
      expect.arrayContaining([
        'manifest.json',
        'polar-d96.golden.safetensors',
        'polar-d96.plan.json',
      ]),
    );
    expect(Object.keys(files).some((path) => path.startsWith(`${TARGET}/`))).toBe(true);
    expect(polarc([...args, '--check']).code).toBe(0);
    const before = statSync(join(folder, 'kernels/manifest.json')).mtimeMs;
    expect(polarc(args)).toMatchObject({ code: 0, err: '' });
    expect(statSync(join(folder, 'kernels/manifest.json')).mtimeMs).toBe(before);
  });

  test('emits the same bytes from another folder, by another path', () => {
    for (const at of ['a', 'b/c']) {
      mkdirSync(join(folder, at), { recursive: true });
      writeFileSync(join(folder, at, 'my.polar.ts'), spec('my'));
    }
    expect(polarc(['generate', 'my.polar.ts'], join(folder, 'a')).code).toBe(0);
    const absolute = join(folder, 'b/c/my.polar.ts');
    expect(polarc(['generate', absolute, '--out', join(folder, 'out')]).code).toBe(0);
    expect(tree(join(folder, 'out'))).toEqual(tree(join(folder, 'a/generated')));
    const all = Object.values(tree(join(folder, 'out'))).join('');
    expect(all).not.toContain(folder);
  });

  test('--check tells what is stale, missing, edited and extra', () => {
    writeFileSync(join(folder, 'a.polar.ts'), spec('a'));
    expect(polarc(['generate', 'a.polar.ts', '--out', 'o']).code).toBe(0);
    const code = Object.keys(tree(join(folder, 'o'))).filter((path) => path.endsWith('.cpp'))[0]!;
    writeFileSync(join(folder, 'o', code), 'mine\n');
    rmSync(join(folder, 'o/a.plan.json'));
    const before = tree(join(folder, 'o'));
    const found = polarc(['generate', 'a.polar.ts', '--out', 'o', '--check']);
    expect(found.code).toBe(1);
    expect(found.out).toContain(`edited  ${code}`);
    expect(found.out).toContain('missing a.plan.json');
    writeFileSync(join(folder, 'a.polar.ts'), spec('b'));
    const renamed = polarc(['generate', 'a.polar.ts', '--out', 'o', '--check', '--json']);
    expect(renamed.code).toBe(1);
    const { ok, outputs } = JSON.parse(renamed.out);
    expect(ok).toBe(false);
    expect(outputs[0].files).toContainEqual({ path: 'b.plan.json', state: 'new' });
    expect(outputs[0].files).toContainEqual({ path: 'a.golden.safetensors', state: 'removed' });
    expect(tree(join(folder, 'o'))).toEqual(before);
  });

  test('--dry-run writes nothing', () => {
    const { code, out } = polarc(['generate', ...CACHE, '--dry-run']);
    expect(code).toBe(0);
    expect(out).toContain('write   polar-d96.plan.json');
    expect(readdirSync(folder)).toEqual([]);
  });

  test('refuses a file edited by hand, and takes --force', () => {
    const args = ['generate', ...CACHE, '--out', 'o'];
    polarc(args);
    const plan = join(folder, 'o/polar-d96.plan.json');
    const good = readFileSync(plan, 'utf8');
    writeFileSync(plan, 'mine\n');
    const { code, err } = polarc(args);
    expect(code).toBe(2);
    expect(err).toContain('edited by hand');
    expect(err).toContain('  - mine');
    expect(readFileSync(plan, 'utf8')).toBe('mine\n');
    expect(polarc([...args, '--force']).code).toBe(0);
    expect(readFileSync(plan, 'utf8')).toBe(good);
  });

  test('keeps caches of other names and of other specs in one folder', () => {
    writeFileSync(join(folder, 'a.polar.ts'), spec('a'));
    for (const args of [['a.polar.ts'], [...CACHE, '--name', 'b'], [...CACHE, '--name', 'c']]) {
      expect(polarc(['generate', ...args, '--out', 'o']).code).toBe(0);
    }
    const plans = readdirSync(join(folder, 'o')).filter((name) => name.endsWith('.plan.json'));
    expect(plans).toEqual(['a.plan.json', 'b.plan.json', 'c.plan.json']);
  });

  test('two specs of one run may not share a name', () => {
    writeFileSync(join(folder, 'a.polar.ts'), spec('same'));
    writeFileSync(join(folder, 'b.polar.ts'), spec('same'));
    const { code, err } = polarc(['generate', 'a.polar.ts', 'b.polar.ts']);
    expect(code).toBe(2);
    expect(err).toMatchInlineSnapshot(`
      "error[P005] 'same' is described by a.polar.ts and by b.polar.ts → give one of the caches another name
      "
    `);
    expect(existsSync(join(folder, 'generated'))).toBe(false);
  });

  test('takes polarc.config.ts and its folder', () => {
    writeFileSync(
      join(folder, 'polarc.config.ts'),
      spec('a').replace('export default', 'const a =') +
        "export default { caches: [a], out: 'made' };\n",
    );
    expect(polarc(['generate'])).toMatchObject({ code: 0, err: '' });
    expect(readdirSync(join(folder, 'made'))).toContain('a.plan.json');
    expect(polarc(['generate', '--check']).code).toBe(0);
  });

  test('names the file of a spec that is wrong', () => {
    writeFileSync(join(folder, 'a.polar.ts'), spec('a', ', queryGroup: 99'));
    const { code, err } = polarc(['generate', 'a.polar.ts']);
    expect(code).toBe(2);
    expect(err).toMatch(/^error\[P050\] a\.polar\.ts: queryGroup: /);
  });
});

describe('init', () => {
  test.each(['my-cache.polar.ts', 'polarc.config.ts'])('%s generates, and is kept', (file) => {
    expect(polarc(['init', file]).code).toBe(0);
    expect(polarc(['generate', file]).code).toBe(0);
    expect(readdirSync(join(folder, 'generated'))).toContain('my-cache.plan.json');
    const again = polarc(['init', file]);
    expect(again.code).toBe(2);
    expect(again.err).toContain(`${file} exists already`);
  });
});

describe('inspect', () => {
  test('draws the record and gives sizes and errors', () => {
    const { code, out } = polarc(['inspect', '--head-dim', '128', '--bits', '4,2,2,2']);
    expect(code).toBe(0);
    expect(out).toContain('3.875 bits a coordinate, 4.13× smaller than f16; stored 4, 4.00×');
    expect(out).toContain('byte   4  ccCCddaa aabbAAAA rrrrrrrr rrrrrrrr   these 8 times');
    expect(out).toMatch(/ all +3\.17e-2 /);
  });

  test('reads a plan as it reads the spec it came from', () => {
    writeFileSync(join(folder, 'a.polar.ts'), spec('a'));
    polarc(['generate', 'a.polar.ts', '--out', 'o']);
    const fromSpec = polarc(['inspect', 'a.polar.ts', '--json']);
    const fromPlan = polarc(['inspect', 'o/a.plan.json', '--json']);
    expect(fromPlan).toEqual(fromSpec);
    expect(JSON.parse(fromPlan.out).caches[0].key).toMatchObject({
      headDim: 64,
      informationBits: (64 / 2) * 4 + (64 / 4) * 2 + (64 / 4) * 16,
      bytesPerToken: 52,
    });
    const plan = polarc(['inspect', 'a.polar.ts', '--stage', 'plan']).out;
    expect(plan).toBe(readFileSync(join(folder, 'o/a.plan.json'), 'utf8'));
  });

  test.each(['spec', 'view', 'text'])('--stage %s prints it', (stage) => {
    const { code, out } = polarc(['inspect', ...CACHE, '--stage', stage, '--target', TARGET]);
    expect(code).toBe(0);
    if (stage === 'text') expect(out).toContain('// polarc · polar_d96 · ');
    else expect(() => JSON.parse(out)).not.toThrow();
  });

  test('--svg draws every field of the record once', () => {
    writeFileSync(join(folder, 'mine.svg'), '<svg/>');
    const args = ['inspect', ...CACHE, '--layout', 'tiles', '--svg'];
    expect(polarc([...args, 'mine.svg']).code).toBe(2);
    expect(readFileSync(join(folder, 'mine.svg'), 'utf8')).toBe('<svg/>');
    for (let again = 0; again < 2; again++) expect(polarc([...args, 'new.svg']).code).toBe(0);
    const svg = readFileSync(join(folder, 'new.svg'), 'utf8');
    for (const [level, nodes] of [
      [1, 48],
      [2, 24],
      [3, 12],
      [4, 6],
    ]) {
      const titles = new Set(svg.match(new RegExp(`<title>level ${level}, node \\d+`, 'g')));
      expect(titles.size).toBe(nodes);
    }
    expect(svg).toContain('prefers-color-scheme: dark');
  });
});

describe('what there is', () => {
  test('targets and doctor print one object', () => {
    const targets = JSON.parse(polarc(['targets', '--json']).out).targets;
    expect(targets.map(({ id }: { id: string }) => id)).toEqual(TARGETS.map(({ id }) => id));
    const { code, out } = polarc(['doctor', '--json']);
    const report = JSON.parse(out);
    expect(code).toBe(report.ok ? 0 : 1);
    expect(report.sections[0].checks[0]).toMatchObject({ what: 'Node.js', ok: true });
  });

  test('--help and --version', () => {
    expect(polarc(['--help'])).toMatchObject({ code: 0, err: '' });
    expect(polarc(['generate', '--help']).out).toContain('--head-dim');
    expect(polarc(['--version']).out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});
