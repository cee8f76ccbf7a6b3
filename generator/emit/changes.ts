import fs from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../diagnostics/index.ts';
import { shortDiff } from './diff.ts';
import {
  EMPTY_MANIFEST,
  isInside,
  MANIFEST,
  MANIFEST_VERSION,
  type Manifest,
  type ManifestCache,
  manifestText,
  parseManifest,
  sha256,
} from './manifest.ts';
import type { RenderedFile } from './render.ts';

/** A cache as one run emits it. */
export interface OutputCache {
  readonly name: string;
  readonly source: string;
  readonly planHash: string;
  readonly files: readonly OutputFile[];
}

export interface OutputFile extends RenderedFile {
  /** Id of the target; null for what all targets share. */
  readonly target: string | null;
}

/** What a run answers for: it replaces and removes nothing else. */
export interface Scope {
  /** Specs of this run: a cache that such a spec no longer holds is removed. */
  readonly sources: readonly string[];
  /** Targets of this run; files of other targets stay. Null: all. */
  readonly targets: readonly string[] | null;
  /** Replace caches of the same name that came from another spec. */
  readonly takeOver?: boolean;
}

export type State = 'new' | 'changed' | 'missing' | 'edited' | 'unchanged' | 'removed';

export interface Change {
  readonly path: string;
  readonly state: State;
  /** What is written; undefined for `unchanged` and `removed`. */
  readonly content?: string | Uint8Array;
  /** For `edited`: how the file on disk differs from what would be written, a few lines. */
  readonly diff?: string;
}

/** All that a run would do to a folder; `write.ts` does it. */
export interface Changes {
  readonly folder: string;
  /** Files of this run, sorted by path, the manifest not among them. */
  readonly files: readonly Change[];
  readonly manifest: string;
  /** The manifest as it stands on disk: null without one. */
  readonly manifestBefore: string | null;
}

/**
 * Compares what a run emits with what stands in the folder. Reads only. Throws a UserError if a file that polarc did
 * not write stands in the way (P201), a cache of that name came from another spec (P204), a path would leave the
 * folder or goes through a link (P206), or the manifest is not polarc's (P203).
 */
export function compare(folder: string, caches: readonly OutputCache[], scope: Scope): Changes {
  const manifestBefore = readText(folder, MANIFEST);
  const before =
    manifestBefore === null
      ? EMPTY_MANIFEST
      : parseManifest(manifestBefore, join(folder, MANIFEST));
  refuseForeignCaches(folder, before, caches, scope);

  const emitted = collect(caches);
  const kept = keptCaches(before, caches, scope, emitted);
  const listed = new Map(before.caches.flatMap((c) => c.files.map((f) => [f.path, f.sha256])));
  const files: Change[] = [];
  for (const [path, content] of emitted) {
    files.push(compareFile(folder, path, content, listed.get(path)));
  }
  const stays = new Set([...emitted.keys(), ...kept.flatMap((c) => c.files.map((f) => f.path))]);
  for (const [path, hash] of listed) {
    if (!stays.has(path)) files.push(compareRemoved(folder, path, hash));
  }
  files.sort((a, b) => (a.path < b.path ? -1 : 1));
  const manifest = manifestText({ manifestVersion: MANIFEST_VERSION, caches: kept });
  return { folder, files, manifest, manifestBefore };
}

/** Path → content over all caches; caches may share a file only if they agree on it. */
function collect(caches: readonly OutputCache[]): Map<string, string | Uint8Array> {
  const emitted = new Map<string, string | Uint8Array>();
  const folded = new Map<string, string>();
  for (const { path, content } of caches.flatMap((cache) => cache.files)) {
    if (!isInside(path) || path === MANIFEST) throw new Error(`emitted path ${path}`);
    const same = folded.get(path.toLowerCase());
    if (same !== undefined && same !== path) {
      throw new UserError(
        'P005',
        `'${same}' and '${path}' are one file on disks that ignore case`,
        'give one of the caches another name',
      );
    }
    const other = emitted.get(path);
    if (other !== undefined && sha256(other) !== sha256(content)) {
      throw new UserError(
        'P005',
        `two caches of this run would write '${path}'`,
        'give one of them another name',
      );
    }
    folded.set(path.toLowerCase(), path);
    emitted.set(path, content);
  }
  return emitted;
}

function refuseForeignCaches(
  folder: string,
  before: Manifest,
  caches: readonly OutputCache[],
  scope: Scope,
): void {
  if (scope.takeOver === true) return;
  for (const cache of caches) {
    const owner = before.caches.find(({ name }) => name === cache.name)?.source;
    if (owner !== undefined && !scope.sources.includes(owner)) {
      throw new UserError(
        'P204',
        `'${cache.name}' in ${folder} was generated from ${owner}, not from ${cache.source}`,
        'give the cache another name, choose another --out, or take it over with --force',
      );
    }
  }
}

/** The manifest's caches after the run. */
function keptCaches(
  before: Manifest,
  caches: readonly OutputCache[],
  scope: Scope,
  emitted: ReadonlyMap<string, string | Uint8Array>,
): ManifestCache[] {
  const inScope = (target: string | null): boolean =>
    scope.targets === null || target === null || scope.targets.includes(target);
  const result: ManifestCache[] = [];
  for (const cache of before.caches) {
    if (caches.some(({ name }) => name === cache.name)) continue;
    if (!scope.sources.includes(cache.source)) {
      // A file shared with a cache of this run is what this run makes of it.
      const files = cache.files.map((file) => {
        const content = emitted.get(file.path);
        return content === undefined ? file : { ...file, sha256: sha256(content) };
      });
      result.push({ ...cache, files });
      continue;
    }
    const others = cache.files.filter(({ target }) => target !== null && !inScope(target));
    if (others.length > 0) {
      const shared = cache.files.filter(({ target }) => target === null);
      result.push({ ...cache, files: [...shared, ...others] });
    }
  }
  for (const { name, source, planHash, files } of caches) {
    const old = before.caches.find((cache) => cache.name === name)?.files ?? [];
    const others = old.filter(({ path, target }) => !inScope(target) && !emitted.has(path));
    result.push({
      name,
      source,
      planHash,
      files: [
        ...files.map((f) => ({ path: f.path, sha256: sha256(f.content), target: f.target })),
        ...others,
      ],
    });
  }
  return result;
}

function compareFile(
  folder: string,
  path: string,
  content: string | Uint8Array,
  listed: string | undefined,
): Change {
  const disk = readBytes(folder, path);
  const after = sha256(content);
  if (disk === null) return { path, state: listed === undefined ? 'new' : 'missing', content };
  const now = sha256(disk);
  if (now === after) return { path, state: 'unchanged' };
  if (listed === undefined) {
    throw new UserError(
      'P201',
      `${join(folder, path)} stands in the way and was not written by polarc`,
      'move it away or choose another --out',
    );
  }
  if (now === listed) return { path, state: 'changed', content };
  return { path, state: 'edited', content, diff: shortDiff(disk, content) };
}

function compareRemoved(folder: string, path: string, listed: string): Change {
  const disk = readBytes(folder, path);
  if (disk === null || sha256(disk) === listed) return { path, state: 'removed' };
  return { path, state: 'edited', diff: '  (it would be removed: its cache or target is gone)' };
}

/** Bytes of a file below the folder; null when there is none. */
function readBytes(folder: string, path: string): Uint8Array | null {
  let at = folder;
  for (const part of path.split('/')) {
    at = join(at, part);
    const stat = statIfAny(at);
    if (stat === null) return null;
    if (stat.isSymbolicLink()) {
      throw new UserError(
        'P206',
        `${at} is a symbolic link`,
        'polarc writes through none below its output folder: move it away',
      );
    }
  }
  const stat = fs.lstatSync(at);
  if (!stat.isFile()) {
    throw new UserError(
      'P201',
      `${at} stands in the way: it is ${stat.isDirectory() ? 'a folder' : 'no regular file'}`,
      'move it away or choose another --out',
    );
  }
  return readOrExplain(at);
}

function readText(folder: string, path: string): string | null {
  const bytes = readBytes(folder, path);
  return bytes === null ? null : Buffer.from(bytes).toString('utf8');
}

function statIfAny(path: string): fs.Stats | null {
  try {
    return fs.lstatSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return null;
    if (code === 'ENOTDIR') {
      throw new UserError(
        'P200',
        `${path} cannot be written: a file stands where a folder is needed`,
        'move it away or choose another --out',
      );
    }
    throw unreadable(path, error);
  }
}

function readOrExplain(path: string): Uint8Array {
  try {
    return fs.readFileSync(path);
  } catch (error) {
    throw unreadable(path, error);
  }
}

function unreadable(path: string, error: unknown): UserError {
  return new UserError('P200', `${path} cannot be read (${(error as NodeJS.ErrnoException).code})`);
}
