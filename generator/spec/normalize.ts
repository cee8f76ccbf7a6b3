/** From what a user wrote to a Spec: fills in the defaults, checks every rule, reports all broken ones at once. */

import { nearestWord, SpecError, show } from '../diagnostics/index.ts';
import { checkName, nameKeys } from './name-rules.ts';
import { isWhole, normalizeCodec } from './normalize-codec.ts';
import { fieldsOf, Problems } from './problems.ts';
import type { Arithmetic, Dtype, Spec } from './types.ts';

/** What a spec needs to know of a target. */
export interface TargetFacts {
  readonly id: string;
  /** Words that no identifier may be on this target. */
  readonly reservedWords?: readonly string[];
  readonly arithmetics: readonly { readonly id: string }[];
}

export interface SpecContext {
  /** Words that no cache may be named, beside those of TypeScript and of the targets. */
  readonly reservedWords?: readonly string[];
  /** The targets that exist. Left out: `arithmetic` is taken as written. */
  readonly targets?: readonly TargetFacts[];
}

export const DTYPES: readonly Dtype[] = ['f32', 'f16', 'bf16'];
const CACHE_FIELDS = [
  'name',
  'key',
  'value',
  'queryGroup',
  'pageTokens',
  'dense',
  'arithmetic',
] as const;

/** Throws a `SpecError` with every broken rule. */
export function normalize(input: unknown, context: SpecContext = {}): Spec {
  return normalizeAll([input], context)[0]!;
}

/** The same for the caches of a config, whose names must differ; throws one `SpecError` for all of them. */
export function normalizeAll(inputs: readonly unknown[], context: SpecContext = {}): Spec[] {
  const problems = new Problems();
  const specs = inputs.map((input, i) => {
    const path = inputs.length === 1 ? '' : `caches[${i}]`;
    return normalizeCache(input, context, problems, path);
  });
  checkNamesDiffer(inputs, problems);
  if (problems.list.length > 0) throw new SpecError(problems.list);
  return specs.map((spec) => spec as Spec);
}

function normalizeCache(
  input: unknown,
  context: SpecContext,
  problems: Problems,
  path: string,
): Spec | undefined {
  const fields = fieldsOf(input, CACHE_FIELDS, path, problems, 'defineCache({ name, key, value })');
  if (fields === undefined) return undefined;
  const at = (field: string) => (path === '' ? field : `${path}.${field}`);
  const key = normalizeCodec(fields.key, at('key'), problems);
  const value = normalizeCodec(fields.value, at('value'), problems);
  const name = checkName(fields.name, at('name'), reservedWords(context), problems);

  const queryGroup = fields.queryGroup ?? 1;
  if (!isWhole(queryGroup, 1, 16)) {
    problems.add('P050', at('queryGroup'), queryGroup, {
      message: `${show(queryGroup)} query heads a KV head`,
      fix: 'write a whole number from 1 to 16',
    });
  }

  const tiled = [key, value].some((codec) => codec?.layout?.kind === 'tiles');
  const pageTokens = fields.pageTokens ?? 64;
  if (!isWhole(pageTokens, 1, 65536)) {
    problems.add('P051', at('pageTokens'), pageTokens, {
      message: `${show(pageTokens)} tokens a page`,
      fix: `write a whole number from 1 to 65536${tiled ? ', a multiple of 32' : ''}`,
    });
  } else if (tiled && pageTokens % 32 !== 0) {
    const near = Math.max(32, Math.round(pageTokens / 32) * 32);
    problems.add('P051', at('pageTokens'), pageTokens, {
      message: `${pageTokens} tokens a page are no whole number of tiles of 32 tokens`,
      fix: `write a multiple of 32, for example ${near}`,
    });
  }

  const dense = fields.dense ?? 'f16';
  if (!DTYPES.includes(dense as Dtype)) {
    problems.add('P052', at('dense'), dense, {
      message: `${show(dense)} is no dtype`,
      fix: `write 'f16', 'bf16' or 'f32'`,
    });
  }

  const arithmetic = normalizeArithmetic(fields.arithmetic, context, at('arithmetic'), problems);
  // The only place where a Spec comes into being: callers throw when there is any problem.
  return Object.freeze({
    name,
    key,
    value,
    queryGroup,
    pageTokens,
    dense,
    arithmetic,
  }) as unknown as Spec;
}

function reservedWords(context: SpecContext): readonly string[] {
  return [
    ...(context.reservedWords ?? []),
    ...(context.targets ?? []).flatMap((target) => target.reservedWords ?? []),
  ];
}

function normalizeArithmetic(
  input: unknown,
  context: SpecContext,
  path: string,
  problems: Problems,
): Arithmetic {
  if (input === undefined) return Object.freeze({});
  const ids = context.targets?.map((target) => target.id);
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    problems.add('P001', path, input, {
      message: `${show(input)} is no record of arithmetics`,
      fix: `write one arithmetic a target, for example { ${ids?.[0] ?? 'target'}: 'float' }`,
    });
    return Object.freeze({});
  }
  const chosen: [string, string][] = [];
  for (const [id, value] of Object.entries(input)) {
    if (value === undefined) continue;
    const target = context.targets?.find((t) => t.id === id);
    if (ids !== undefined && target === undefined) {
      const near = nearestWord(id, ids);
      problems.add('P060', `${path}.${id}`, value, {
        message: `there is no target ${show(id)}${near === undefined ? '' : `; did you mean '${near}'?`}`,
        fix: `write one of ${ids.map(show).join(', ')}`,
      });
      continue;
    }
    const known = target?.arithmetics.map((a) => a.id);
    if (typeof value !== 'string' || (known !== undefined && !known.includes(value))) {
      problems.add('P061', `${path}.${id}`, value, {
        message: `${show(value)} is no arithmetic of target '${id}'`,
        fix: `write ${known === undefined ? 'a string' : known.map(show).join(' or ')}`,
      });
      continue;
    }
    chosen.push([id, value]);
  }
  return Object.freeze(Object.fromEntries(chosen.sort(([a], [b]) => (a < b ? -1 : 1))));
}

function checkNamesDiffer(inputs: readonly unknown[], problems: Problems): void {
  const seen = new Map<string, { readonly name: string; readonly index: number }>();
  for (const [index, input] of inputs.entries()) {
    const name = (input as { name?: unknown } | null | undefined)?.name;
    if (typeof name !== 'string') continue;
    const keys = nameKeys(name);
    const other = keys.map((key) => seen.get(key)).find((entry) => entry !== undefined);
    if (other !== undefined) {
      const same = other.name === name ? 'is' : `differs too little from '${other.name}', the`;
      problems.add('P005', `caches[${index}].name`, name, {
        message: `'${name}' ${same}${other.name === name ? ' the' : ''} name of caches[${other.index}]`,
        fix: 'give every cache a name of its own: files and classes are named after it',
      });
      continue;
    }
    for (const key of keys) seen.set(key, { name, index });
  }
}
