import fs from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { UserError } from '../diagnostics/index.ts';
import type { Changes } from './changes.ts';
import { MANIFEST } from './manifest.ts';

const STAGING = '.polarc-';

export interface WriteOptions {
  /** Replace and remove files that were edited by hand. */
  readonly force?: boolean;
}

/**
 * Makes a folder what `changes` says, or leaves it as it was: everything is first written to a temporary folder inside
 * it, then renamed into place, and renamed back if that fails. Touches nothing when nothing changed. Throws a
 * UserError: P202 for files edited by hand, P205 for a full disk, P200 for what else the system refuses.
 */
export function write(changes: Changes, { force = false }: WriteOptions = {}): void {
  if (!force) refuseEdited(changes);
  const written = changes.files.filter(({ content }) => content !== undefined);
  const removed = changes.files.filter(
    ({ state, content }) => state === 'removed' || (state === 'edited' && content === undefined),
  );
  if (written.length + removed.length === 0 && changes.manifest === changes.manifestBefore) return;

  const { folder } = changes;
  const moves: (() => void)[] = [];
  const folders: (() => void)[] = [];
  let staging: string | undefined;
  try {
    makeFolder(folder, folders);
    staging = fs.mkdtempSync(join(folder, STAGING));
    const files = [
      ...written.map(({ path, content }) => ({ path, content: content! })),
      { path: MANIFEST, content: changes.manifest },
    ];
    files.forEach(({ content }, i) => {
      fs.writeFileSync(join(staging!, `new-${i}`), content);
    });
    refuseConcurrentRun(changes);
    removed.forEach(({ path }, i) => {
      moveAway(join(folder, path), join(staging!, `removed-${i}`), moves);
    });
    files.forEach(({ path }, i) => {
      const to = join(folder, path);
      makeFolder(dirname(to), folders);
      moveAway(to, join(staging!, `old-${i}`), moves);
      fs.renameSync(join(staging!, `new-${i}`), to);
      moves.push(() => fs.rmSync(to));
    });
    removeEmptyFolders(
      folder,
      removed.map(({ path }) => path),
    );
  } catch (error) {
    for (const step of moves.reverse()) attempt(step);
    removeStaging(staging);
    for (const step of folders.reverse()) attempt(step);
    throw explain(folder, error);
  }
  removeStaging(staging);
}

function removeStaging(staging: string | undefined): void {
  if (staging !== undefined) attempt(() => fs.rmSync(staging, { recursive: true, force: true }));
}

function refuseEdited({ folder, files }: Changes): void {
  const edited = files.filter(({ state }) => state === 'edited');
  if (edited.length === 0) return;
  const list = edited.map(({ path, diff }) => `  ${join(folder, path)}\n${diff}`).join('\n');
  const what =
    edited.length === 1 ? 'a generated file was' : `${edited.length} generated files were`;
  throw new UserError(
    'P202',
    `${what} edited by hand; nothing was written\n${list}\n`,
    'undo the edit and change the spec, or discard the edit with --force',
  );
}

function refuseConcurrentRun({ folder, manifestBefore }: Changes): void {
  let now: string | null = null;
  try {
    now = fs.readFileSync(join(folder, MANIFEST), 'utf8');
  } catch {
    // None stands there.
  }
  if (now !== manifestBefore) {
    throw new UserError('P200', `another run wrote to ${folder} in the meantime`, 'run it again');
  }
}

/** Makes a folder and those above it; each that was made is removed again by `undo`. */
function makeFolder(folder: string, undo: (() => void)[]): void {
  const first = fs.mkdirSync(folder, { recursive: true });
  if (first === undefined) return;
  const made = [first];
  for (const part of relative(first, folder).split(sep).filter(Boolean)) {
    made.push(join(made.at(-1)!, part));
  }
  for (const path of made) undo.push(() => fs.rmdirSync(path));
}

/** Renames a file to `to` if there is one; `undo` brings it back. */
function moveAway(from: string, to: string, undo: (() => void)[]): void {
  try {
    fs.renameSync(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  undo.push(() => fs.renameSync(to, from));
}

/** Removes folders that held removed files and now hold nothing. */
function removeEmptyFolders(folder: string, paths: readonly string[]): void {
  for (const path of paths) {
    for (let at = dirname(path); at !== '.'; at = dirname(at)) {
      try {
        fs.rmdirSync(join(folder, at));
      } catch {
        break;
      }
    }
  }
}

function attempt(step: () => void): void {
  try {
    step();
  } catch {
    // The first error is the one to report; what cannot be undone stays.
  }
}

/** An error of the file system as one line for the user; other errors are bugs and stay what they are. */
function explain(folder: string, error: unknown): unknown {
  if (error instanceof UserError || !(error instanceof Error)) return error;
  const { code, path = folder } = error as NodeJS.ErrnoException;
  if (code === undefined) return error;
  const nothing = 'nothing was changed';
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new UserError(
        'P205',
        `no space left to write ${folder}; ${nothing}`,
        'free some space, or choose another --out',
      );
    case 'EEXIST':
    case 'ENOTDIR':
      return new UserError(
        'P200',
        `${folder} cannot be written: a file stands where a folder is needed; ${nothing}`,
        'move it away or choose another --out',
      );
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new UserError(
        'P200',
        `${path} cannot be written (${code}); ${nothing}`,
        'allow writing there or choose another --out',
      );
    default:
      return new UserError('P200', `${path} cannot be written (${code}); ${nothing}`);
  }
}
