import { createHash } from 'node:crypto';
import { UserError } from '../diagnostics/index.ts';

export const MANIFEST = 'manifest.json';
export const MANIFEST_VERSION = 1;

/** What polarc wrote into a folder: only these files does it ever replace or remove. */
export interface Manifest {
  readonly manifestVersion: typeof MANIFEST_VERSION;
  /** Sorted by name. */
  readonly caches: readonly ManifestCache[];
}

export interface ManifestCache {
  readonly name: string;
  /** The spec's file name, or what stands for the command line. */
  readonly source: string;
  readonly planHash: string;
  /** Sorted by path. */
  readonly files: readonly ManifestFile[];
}

export interface ManifestFile {
  readonly path: string;
  readonly sha256: string;
  /** Id of the target; null for what all targets share (plan, golden vectors, matrices). */
  readonly target: string | null;
}

export const EMPTY_MANIFEST: Manifest = { manifestVersion: MANIFEST_VERSION, caches: [] };

export function sha256(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}

/** Keys and entries sorted, one property a line: equal manifests have equal bytes, and merge well. */
export function manifestText(manifest: Manifest): string {
  const byKey = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
  const sorted = {
    caches: [...manifest.caches]
      .sort((a, b) => byKey(a.name, b.name))
      .map(({ name, source, planHash, files }) => ({
        files: [...files]
          .sort((a, b) => byKey(a.path, b.path))
          .map(({ path, sha256, target }) => ({ path, sha256, target })),
        name,
        planHash,
        source,
      })),
    manifestVersion: manifest.manifestVersion,
  };
  return `${JSON.stringify(sorted, null, 2)}\n`;
}

/** `where` is shown in the error. Throws a UserError for what is not a manifest of polarc. */
export function parseManifest(text: string, where: string): Manifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw broken(where, 'is not JSON');
  }
  if (!isRecord(value) || !Array.isArray(value.caches)) {
    throw broken(where, 'was not written by polarc');
  }
  if (value.manifestVersion !== MANIFEST_VERSION) {
    throw broken(where, `has version ${String(value.manifestVersion)}, not ${MANIFEST_VERSION}`);
  }
  for (const cache of value.caches) {
    const ok =
      isRecord(cache) &&
      [cache.name, cache.source, cache.planHash].every((text) => typeof text === 'string') &&
      Array.isArray(cache.files) &&
      cache.files.every(isFile);
    if (!ok) throw broken(where, 'has an entry that polarc did not write');
    for (const { path } of cache.files as ManifestFile[]) {
      if (!isInside(path)) throw broken(where, `lists '${path}', which is outside of the folder`);
    }
  }
  return value as unknown as Manifest;
}

/** A relative path with forward slashes that cannot leave the folder. */
export function isInside(path: string): boolean {
  const segments = path.split('/');
  return (
    !/[\\:\0]/.test(path) && segments.every((part) => part !== '' && part !== '.' && part !== '..')
  );
}

function isFile(value: unknown): boolean {
  return (
    isRecord(value) &&
    typeof value.path === 'string' &&
    typeof value.sha256 === 'string' &&
    (value.target === null || typeof value.target === 'string')
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function broken(where: string, what: string): UserError {
  return new UserError(
    'P203',
    `${where} ${what}`,
    'choose another --out, restore the file, or move it away: polarc will not touch the files it listed',
  );
}
