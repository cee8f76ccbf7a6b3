import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { renderError, type UserError } from '../../generator/diagnostics/index.ts';
import { compare, type OutputCache, type Scope, write } from '../../generator/emit/index.ts';

let root: string;
let out: string;
beforeEach(() => {
  root = fs.mkdtempSync(join(tmpdir(), 'polarc-write-'));
  out = join(root, 'out');
});
afterEach(() => {
  vi.restoreAllMocks();
  fs.rmSync(root, { recursive: true, force: true });
});

/** A cache of `text` for each path; the first segment is the target, a path without one is shared. */
function cache(name: string, files: Record<string, string | Uint8Array>, source = 'a.polar.ts') {
  return {
    name,
    source,
    planHash: 'f'.repeat(64),
    files: Object.entries(files).map(([path, content]) => ({
      path,
      content,
      target: path.includes('/') ? path.split('/')[0]! : null,
    })),
  } satisfies OutputCache;
}

function run(
  caches: OutputCache[],
  scope: Partial<Scope> = {},
  options: { force?: boolean } = {},
): void {
  const sources = caches.map(({ source }) => source);
  write(compare(out, caches, { sources, targets: null, ...scope }), options);
}

/** Path → text of everything below a folder. */
function tree(folder = out): Record<string, string> {
  const paths = fs.readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort();
  const files = paths.filter((path) => fs.statSync(join(folder, path)).isFile());
  return Object.fromEntries(
    files.map((path) => [path, fs.readFileSync(join(folder, path), 'utf8')]),
  );
}

function message(action: () => void): string {
  try {
    action();
  } catch (error) {
    return renderError(error as UserError).replaceAll(root, 'ROOT');
  }
  return 'nothing was thrown';
}

describe('a run', () => {
  test('writes files and a manifest, and nothing the second time', () => {
    const caches = [cache('k', { 'x/k.h': 'one\n', 'k.plan.json': '{}\n' })];
    run(caches);
    expect(Object.keys(tree())).toEqual(['k.plan.json', 'manifest.json', 'x/k.h']);
    const before = fs.statSync(join(out, 'x/k.h')).mtimeMs;
    const manifest = fs.statSync(join(out, 'manifest.json')).mtimeMs;
    fs.utimesSync(out, 1, 1);
    run(caches);
    expect(fs.statSync(join(out, 'x/k.h')).mtimeMs).toBe(before);
    expect(fs.statSync(join(out, 'manifest.json')).mtimeMs).toBe(manifest);
    expect(fs.statSync(out).mtimeMs).toBe(1000);
  });

  test('replaces what changed and leaves the rest untouched', () => {
    run([cache('k', { 'x/a.h': 'a\n', 'x/b.h': 'b\n' })]);
    fs.utimesSync(join(out, 'x/a.h'), 1, 1);
    run([cache('k', { 'x/a.h': 'a\n', 'x/b.h': 'B\n' })]);
    expect(tree()).toMatchObject({ 'x/a.h': 'a\n', 'x/b.h': 'B\n' });
    expect(fs.statSync(join(out, 'x/a.h')).mtimeMs).toBe(1000);
  });

  test('writes the same bytes into two folders', () => {
    const caches = [cache('k', { 'x/k.h': 'one\n' }), cache('a', { 'x/a.h': 'two\n' })];
    run(caches);
    const first = tree();
    out = join(root, 'another', 'place');
    run([...caches].reverse());
    expect(tree()).toEqual(first);
  });

  test('removes the files of a cache that left its spec, folders too, and no others', () => {
    run([cache('k', { 'x/k.h': '1\n' }), cache('old', { 'x/deep/old.h': '2\n' })]);
    fs.writeFileSync(join(out, 'x', 'mine.txt'), 'mine');
    run([cache('k', { 'x/k.h': '1\n' })]);
    expect(Object.keys(tree())).toEqual(['manifest.json', 'x/k.h', 'x/mine.txt']);
    expect(fs.existsSync(join(out, 'x/deep'))).toBe(false);
  });

  test('keeps the caches of other specs and the files of other targets', () => {
    run([cache('k', { 'x/k.h': '1\n', 'y/k.h': '2\n' })]);
    run([cache('m', { 'x/m.h': '3\n' }, 'b.polar.ts')]);
    run([cache('k', { 'x/k.h': '4\n' })], { targets: ['x'] });
    expect(tree()).toMatchObject({ 'x/k.h': '4\n', 'y/k.h': '2\n', 'x/m.h': '3\n' });
    run([cache('k', { 'x/k.h': '4\n' })]);
    expect(Object.keys(tree())).toEqual(['manifest.json', 'x/k.h', 'x/m.h']);
  });

  test('keeps a file that another cache needs too', () => {
    run([cache('k', { 'x/shared.h': '1\n' })]);
    run([cache('m', { 'x/shared.h': '2\n' }, 'b.polar.ts')]);
    run([cache('n', { 'x/n.h': '3\n' })]);
    expect(tree()).toMatchObject({ 'x/shared.h': '2\n', 'x/n.h': '3\n' });
    run([cache('n', { 'x/n.h': '3\n' }, 'b.polar.ts')], { sources: ['b.polar.ts', 'a.polar.ts'] });
    expect(Object.keys(tree())).toEqual(['manifest.json', 'x/n.h']);
  });

  test('makes a file again that was deleted', () => {
    const caches = [cache('k', { 'x/k.h': '1\n' })];
    run(caches);
    fs.rmSync(join(out, 'x'), { recursive: true });
    expect(compare(out, caches, { sources: [], targets: null, takeOver: true }).files).toEqual([
      { path: 'x/k.h', state: 'missing', content: '1\n' },
    ]);
    run(caches);
    expect(tree()).toMatchObject({ 'x/k.h': '1\n' });
  });
});

describe('a refused run changes nothing', () => {
  test('a file edited by hand, unless forced', () => {
    run([cache('k', { 'x/k.h': 'a\nb\nc\n' })]);
    fs.writeFileSync(join(out, 'x/k.h'), 'a\nmine\nc\n');
    const before = tree();
    const next = [cache('k', { 'x/k.h': 'a\nB\nc\n', 'x/new.h': 'n\n' })];
    expect(message(() => run(next))).toMatchInlineSnapshot(`
      "error[P202] a generated file was edited by hand; nothing was written
        ROOT/out/x/k.h
        line 2
        - mine
        + B
       → undo the edit and change the spec, or discard the edit with --force"
    `);
    expect(tree()).toEqual(before);
    run(next, {}, { force: true });
    expect(tree()).toMatchObject({ 'x/k.h': 'a\nB\nc\n', 'x/new.h': 'n\n' });
  });

  test('a file edited by hand that would be removed', () => {
    run([cache('k', { 'x/k.h': '1\n', 'x/l.h': '1\n' })]);
    fs.writeFileSync(join(out, 'x/l.h'), 'mine\n');
    expect(message(() => run([cache('k', { 'x/k.h': '2\n' })]))).toContain('edited by hand');
    expect(tree()).toMatchObject({ 'x/k.h': '1\n', 'x/l.h': 'mine\n' });
    run([cache('k', { 'x/k.h': '2\n' })], {}, { force: true });
    expect(Object.keys(tree())).toEqual(['manifest.json', 'x/k.h']);
  });

  test('a file that polarc did not write, even when forced', () => {
    fs.mkdirSync(join(out, 'x'), { recursive: true });
    fs.writeFileSync(join(out, 'x/k.h'), 'mine\n');
    const caches = [cache('k', { 'x/k.h': '1\n', 'x/a.h': '2\n' })];
    expect(message(() => run(caches, {}, { force: true }))).toMatchInlineSnapshot(
      `"error[P201] ROOT/out/x/k.h stands in the way and was not written by polarc → move it away or choose another --out"`,
    );
    expect(tree()).toEqual({ 'x/k.h': 'mine\n' });
  });

  test('a cache of that name from another spec, unless taken over', () => {
    run([cache('k', { 'x/k.h': '1\n' })]);
    const next = [cache('k', { 'x/k.h': '2\n' }, 'b.polar.ts')];
    expect(message(() => run(next))).toMatchInlineSnapshot(
      `"error[P204] 'k' in ROOT/out was generated from a.polar.ts, not from b.polar.ts → give the cache another name, choose another --out, or take it over with --force"`,
    );
    run(next, { takeOver: true });
    expect(tree()).toMatchObject({ 'x/k.h': '2\n' });
  });

  test.each([
    ['not JSON', '{'],
    ['of something else', '{"name":"app","icons":[]}'],
    ['of another version', '{"manifestVersion":99,"caches":[]}'],
    [
      'with a path outside',
      '{"manifestVersion":1,"caches":[{"name":"k","source":"a.polar.ts","planHash":"0","files":[{"path":"../../victim","sha256":"0","target":null}]}]}',
    ],
  ])('a manifest %s', (_, text) => {
    fs.mkdirSync(out);
    fs.writeFileSync(join(out, 'manifest.json'), text);
    fs.writeFileSync(join(root, 'victim'), 'alive');
    expect(message(() => run([cache('k', { 'x/k.h': '1\n' })]))).toMatch(/^error\[P203\]/);
    expect(tree()).toEqual({ 'manifest.json': text });
    expect(tree(root)).toMatchObject({ victim: 'alive' });
  });

  test('a symbolic link on the way', () => {
    fs.mkdirSync(join(root, 'elsewhere'));
    fs.mkdirSync(out);
    fs.symlinkSync(join(root, 'elsewhere'), join(out, 'x'));
    expect(message(() => run([cache('k', { 'x/k.h': '1\n' })]))).toMatchInlineSnapshot(
      `"error[P206] ROOT/out/x is a symbolic link → polarc writes through none below its output folder: move it away"`,
    );
    expect(fs.readdirSync(join(root, 'elsewhere'))).toEqual([]);
  });

  test('a file in place of the folder, or of one above it', () => {
    fs.writeFileSync(out, 'mine');
    const caches = [cache('k', { 'x/k.h': '1\n' })];
    expect(message(() => run(caches))).toMatchInlineSnapshot(
      `"error[P200] ROOT/out/manifest.json cannot be written: a file stands where a folder is needed → move it away or choose another --out"`,
    );
    out = join(out, 'deeper');
    expect(message(() => run(caches))).toContain('a file stands where a folder is needed');
    expect(fs.readFileSync(join(root, 'out'), 'utf8')).toBe('mine');
  });

  test('names that a disk may not tell apart', () => {
    const caches = [cache('k', { 'x/k.h': '1\n' }), cache('K', { 'x/K.h': '2\n' })];
    expect(message(() => run(caches))).toMatchInlineSnapshot(
      `"error[P005] 'x/k.h' and 'x/K.h' are one file on disks that ignore case → give one of the caches another name"`,
    );
  });
});

describe('a failure half-way leaves the folder as it was', () => {
  const before = [cache('k', { 'x/a.h': '1\n', 'x/b.h': '1\n', 'x/gone.h': '1\n' })];
  const after = [cache('k', { 'x/a.h': '2\n', 'x/b.h': '2\n', 'z/new/c.h': '2\n' })];

  /** Makes the call of `method` whose argument holds `part` fail. */
  function failing(method: 'renameSync' | 'writeFileSync', part: string, code: string): void {
    const original = fs[method] as (...args: unknown[]) => unknown;
    vi.spyOn(fs, method).mockImplementation((...args: unknown[]) => {
      if (args.some((arg) => typeof arg === 'string' && arg.endsWith(part))) {
        throw Object.assign(new Error(code), { code, path: String(args[0]) });
      }
      return original(...args) as never;
    });
  }

  test.each([
    ['x/b.h', 'EACCES', 'error[P200]'],
    ['z/new/c.h', 'EPERM', 'error[P200]'],
    ['manifest.json', 'EIO', 'error[P200]'],
  ])('renaming %s fails with %s', (part, code, expected) => {
    run(before);
    const files = tree();
    failing('renameSync', part, code);
    expect(message(() => run(after))).toContain(expected);
    vi.restoreAllMocks();
    expect(tree()).toEqual(files);
    expect(fs.readdirSync(out)).toEqual(['manifest.json', 'x']);
    run(after);
    expect(tree()).toMatchObject({ 'x/a.h': '2\n', 'x/b.h': '2\n', 'z/new/c.h': '2\n' });
  });

  test('the disk is full', () => {
    failing('writeFileSync', 'new-1', 'ENOSPC');
    expect(message(() => run(after))).toMatchInlineSnapshot(
      `"error[P205] no space left to write ROOT/out; nothing was changed → free some space, or choose another --out"`,
    );
    expect(fs.readdirSync(root)).toEqual([]);
  });

  test('another run wrote in between', () => {
    run(before);
    const changes = compare(out, after, { sources: ['a.polar.ts'], targets: null });
    run([cache('k', { 'x/a.h': '3\n' })]);
    const files = tree();
    expect(message(() => write(changes))).toContain('another run wrote');
    expect(tree()).toEqual(files);
  });
});
