/**
 * Objects, addons and programs stand in a folder (`POLARC_CACHE`, else `~/.cache/polarc`) under the hash of all that
 * decides them; parallel builds do not disturb each other.
 */

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { UserError } from '../../diagnostics/index.ts';
import { run } from './run.ts';
import type { Compiler } from './tools.ts';

export interface Unit {
  readonly source: string;
  readonly includes: readonly string[];
  readonly flags: readonly string[];
  /** Flags that say where files lie, and decide nothing. */
  readonly paths?: readonly string[];
}

export function cacheFolder(): string {
  return resolve(process.env.POLARC_CACHE ?? join(homedir(), '.cache', 'polarc'));
}

export function hash(parts: readonly string[]): string {
  const sum = createHash('sha256');
  for (const part of parts) sum.update(part).update('\0');
  return sum.digest('hex').slice(0, 32);
}

/** Path of a unit's object file, compiled if it is not there yet. */
export async function compileUnit(
  unit: Unit,
  compiler: Compiler,
  progress: (line: string) => void,
): Promise<string> {
  const texts = await Promise.all([unit.source, ...unit.includes].map(readEmitted));
  // The comment at the head of a file names spec and plan; what follows it may be the same for all caches.
  const bodies = texts.map((text) => text.replace(/^(\/\/.*\n)+/, ''));
  const key = hash([compiler.version, process.version, ...unit.flags, ...bodies]);
  const object = join(cacheFolder(), 'objects', `${key}.o`);
  if (!existsSync(object)) {
    progress(`compiling ${unit.source}`);
    await produce(object, (out) => [
      compiler.command,
      [...unit.flags, ...(unit.paths ?? []), '-c', unit.source, '-o', out],
    ]);
  }
  return object;
}

/** Lets a command write a file beside its place and moves it there, so that nobody sees half of it. */
export async function produce(
  path: string,
  command: (out: string) => readonly [string, readonly string[]],
): Promise<void> {
  const temporary = await beside(path);
  const [program, args] = command(temporary);
  const { code, stderr } = await run(program, args);
  if (code !== 0) {
    await rm(temporary, { force: true });
    const lines = stderr.split('\n').filter((line) => /error|undefined reference/i.test(line));
    const text = `${program} failed: ${(lines.length > 0 ? lines.slice(0, 3) : [stderr.trim()]).join('\n')}`;
    throw new UserError('P303', text, `to see it all: ${program} ${args.join(' ')}`);
  }
  await rename(temporary, path);
}

/** Path of a source file that holds `text`, for code that is put together for one build. */
export async function placeSource(name: string, text: string): Promise<string> {
  const path = join(cacheFolder(), 'sources', hash([text]), name);
  if (!existsSync(path)) {
    const temporary = await beside(path);
    await writeFile(temporary, text);
    await rename(temporary, path);
  }
  return path;
}

/** A name for this process alone, in the folder of `path`, which is there then. */
async function beside(path: string): Promise<string> {
  try {
    await mkdir(dirname(path), { recursive: true });
  } catch (error) {
    const text = `the build cache ${dirname(path)} cannot be written: ${(error as Error).message}`;
    throw new UserError('P302', text, 'name a folder in POLARC_CACHE');
  }
  return `${path}.${process.pid}.${++produced}.tmp`;
}
let produced = 0;

export async function readEmitted(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch {
    const text = `${path} is missing or cannot be read`;
    throw new UserError('P304', text, 'emit the cache first: npx polarc generate');
  }
}
