import { extname } from 'node:path';

/** Where a plan came from, as the head of every emitted file says it. Holds no path, so that files do not depend on one. */
export interface Source {
  /** `llama-d128.polar.ts`, or `the command line`. */
  readonly name: string;
  /** What follows `npx polarc` to emit the same again. */
  readonly command: string;
}

export interface HeaderFields {
  readonly cache: string;
  /** The kernel or part that the file holds. */
  readonly part: string;
  readonly target: string;
  readonly planHash: string;
  readonly template: string;
  readonly source: Source;
}

/** Formats whose comments do not begin with `//`; those without comments have no mark. */
const MARKS: Readonly<Record<string, string | undefined>> = {
  '.cmake': '#',
  '.gyp': '#',
  '.gypi': '#',
  '.json': undefined,
  '.py': '#',
  '.sh': '#',
  '.txt': '#',
};

function markOf(path: string): string | undefined {
  const extension = extname(path);
  return extension in MARKS ? MARKS[extension] : '//';
}

/**
 * The comment at the head of an emitted file, without a line break at its end: what it is, from which spec and plan,
 * through which template, how to make it again, its licence. Empty for formats that have no comments (JSON).
 */
export function header(path: string, fields: HeaderFields): string {
  const mark = markOf(path);
  if (mark === undefined) return '';
  const { cache, part, target, planHash, template, source } = fields;
  return [
    `polarc · ${cache} · ${part} · ${target}`,
    `Generated from ${source.name} (plan ${planHash.slice(0, 16)})`,
    `through templates/${template}. Do not edit: change the spec, then`,
    `  npx polarc ${source.command} --target ${target}`,
    'SPDX-License-Identifier: Apache-2.0 OR MIT',
  ]
    .map((line) => `${mark} ${line}`)
    .join('\n');
}

/** Header and body as one file: one comment if the body begins with one, else apart by an empty line. */
export function withHeader(path: string, head: string, body: string): string {
  if (head === '') return body;
  const mark = markOf(path)!;
  if (body.startsWith(`${mark}\n`)) return `${head}\n${body}`;
  return body.startsWith(`${mark} `) ? `${head}\n${mark}\n${body}` : `${head}\n\n${body}`;
}
