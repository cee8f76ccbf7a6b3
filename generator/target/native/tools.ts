/** The compiler and the headers that native code is built with here. */

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { UserError } from '../../diagnostics/index.ts';
import type { Check } from '../types.ts';
import { run } from './run.ts';

const COMPILER_HINT = 'install g++ (apt-get install g++) or clang++, or name one in CXX';
const HEADERS_HINT =
  'install a Node with headers (nodejs.org archives and the nodejs package have them), or libnode-dev';
const ADDON_API_HINT = 'npm install node-addon-api';

export interface Compiler {
  readonly command: string;
  readonly version: string;
}

/** The first of $CXX, g++ and clang++ that answers. */
export async function findCompiler(): Promise<Compiler | null> {
  const named = process.env.CXX;
  for (const command of named ? [named] : ['g++', 'clang++']) {
    const { code, stdout } = await run(command, ['--version']);
    if (code === 0) return { command, version: stdout.split('\n')[0]!.trim() };
  }
  return null;
}

export async function requireCompiler(): Promise<Compiler> {
  const compiler = await findCompiler();
  if (compiler === null) throw new UserError('P301', 'there is no C++ compiler', COMPILER_HINT);
  return compiler;
}

/** The folder that holds `node_api.h` of this Node. */
export function requireNodeHeaders(): string {
  const headers = nodeHeaders();
  if (headers === null) throw new UserError('P301', 'there are no Node headers', HEADERS_HINT);
  return headers;
}

/** The folder that holds `napi.h`. */
export function requireNodeAddonApi(): string {
  const addonApi = nodeAddonApi();
  if (addonApi === null) throw new UserError('P301', 'there is no node-addon-api', ADDON_API_HINT);
  return addonApi;
}

/** Lines of `doctor`: what addons are built with. */
export async function checkTools(): Promise<readonly Check[]> {
  const compiler = await findCompiler();
  const headers = nodeHeaders();
  const addonApi = nodeAddonApi();
  const gyp = resolvable('node-gyp/package.json');
  return [
    {
      what: 'C++ compiler',
      ok: compiler !== null,
      detail: compiler === null ? COMPILER_HINT : `${compiler.version} (${compiler.command})`,
      required: true,
    },
    {
      what: 'Node headers',
      ok: headers !== null,
      detail: headers ?? HEADERS_HINT,
      required: true,
    },
    {
      what: 'node-addon-api',
      ok: addonApi !== null,
      detail: addonApi ?? ADDON_API_HINT,
      required: true,
    },
    {
      what: 'node-gyp',
      ok: gyp !== null,
      detail: gyp ?? 'only for building an emitted folder by itself: npm install node-gyp',
      required: false,
    },
  ];
}

export function cpuName(): string {
  return cpus()[0]?.model.trim().replace(/\s+/g, ' ') ?? 'an unknown CPU';
}

function nodeHeaders(): string | null {
  const prefixes = [dirname(dirname(process.execPath)), '/usr', '/usr/local'];
  const folders = prefixes.map((prefix) => join(prefix, 'include', 'node'));
  return folders.find((folder) => existsSync(join(folder, 'node_api.h'))) ?? null;
}

function nodeAddonApi(): string | null {
  const file = resolvable('node-addon-api/package.json');
  return file === null ? null : dirname(file);
}

function resolvable(module: string): string | null {
  try {
    return createRequire(import.meta.url).resolve(module);
  } catch {
    return null;
  }
}
