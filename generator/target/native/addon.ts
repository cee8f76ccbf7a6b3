/** Node addons: compiled, linked, and the TypeScript beside them loaded. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { cacheFolder, compileUnit, hash, produce, readEmitted, type Unit } from './build-cache.ts';
import { requirePreload, SANITIZER_FLAGS } from './sanitizers.ts';
import { requireCompiler, requireNodeAddonApi, requireNodeHeaders } from './tools.ts';

const COMMON_FLAGS = ['-std=c++17', '-fPIC', '-fvisibility=hidden'];
const ADDON_FLAGS = ['-O2', '-DNAPI_VERSION=8', '-DNAPI_CPP_EXCEPTIONS'];

export interface AddonSources {
  /** Of the addon file: `llama-d128`. */
  readonly stem: string;
  /** Kernels: compiled with their own flags. */
  readonly kernels: readonly Unit[];
  /** Uses Node: compiled with exceptions and the headers that this takes. */
  readonly binding: readonly Unit[];
  readonly libraries?: readonly string[];
  readonly sanitize: boolean;
  readonly progress: (line: string) => void;
}

/** Path of the addon, built if it is not there yet. Throws a `UserError` that names what is missing. */
export async function buildAddon(sources: AddonSources): Promise<string> {
  const { stem, sanitize, progress, libraries = [] } = sources;
  if (sanitize) requirePreload();
  const compiler = await requireCompiler();
  const headers = requireNodeHeaders();
  const addonApi = requireNodeAddonApi();
  const common = sanitize ? [...COMMON_FLAGS, ...SANITIZER_FLAGS] : COMMON_FLAGS;
  const addonFlags = [...common, ...ADDON_FLAGS, `-I${headers}`, `-I${addonApi}`];
  const units = [
    ...sources.kernels.map((unit) => ({ ...unit, flags: [...common, ...unit.flags] })),
    ...sources.binding.map((unit) => ({ ...unit, flags: [...addonFlags, ...unit.flags] })),
  ];
  const objects = await Promise.all(units.map((unit) => compileUnit(unit, compiler, progress)));

  const key = hash([...objects, compiler.version, String(sanitize), ...libraries]);
  const addon = join(cacheFolder(), 'addons', key, `${stem}.node`);
  if (!existsSync(addon)) {
    progress(`linking ${stem}.node`);
    const flags = sanitize ? SANITIZER_FLAGS : [];
    await produce(addon, (out) => [
      compiler.command,
      ['-shared', '-pthread', ...flags, ...objects, ...libraries, '-o', out],
    ]);
  }
  return addon;
}

/** Path of a program of one C++ file, compiled with these flags if it is not there yet. */
export function buildProgram(source: string, flags: readonly string[]): Promise<string> {
  return buildOne(source, 'program', flags);
}

/** Path of a Node addon of one C++ file that uses Node's C interface alone. */
export async function buildPlainAddon(source: string): Promise<string> {
  const flags = [...COMMON_FLAGS, '-O1', '-shared', `-I${requireNodeHeaders()}`];
  return buildOne(source, 'plain.node', flags);
}

async function buildOne(source: string, name: string, flags: readonly string[]): Promise<string> {
  const compiler = await requireCompiler();
  const key = hash([name, compiler.version, ...flags, await readEmitted(source)]);
  const path = join(cacheFolder(), 'programs', key, name);
  if (!existsSync(path)) {
    await produce(path, (out) => [compiler.command, [...flags, source, '-o', out]]);
  }
  return path;
}

/** The exports of an emitted TypeScript file; Node 20 cannot import it by itself. */
export async function importTypeScript(path: string): Promise<Readonly<Record<string, unknown>>> {
  await readEmitted(path);
  const { createJiti } = await import('jiti');
  const jiti = createJiti(import.meta.url, {
    moduleCache: false,
    fsCache: join(cacheFolder(), 'classes'),
  });
  return jiti.import(pathToFileURL(path).href);
}
