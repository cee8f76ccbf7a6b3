/**
 * What the loops over packed tokens execute, counted in the emitted text: a GPU is not at hand everywhere,
 * and a compiler's own count differs from device to device.
 */

import type { Plan } from '../../generator/plan/index.ts';
import type { OperationCount } from '../../generator/target/index.ts';
import { cellShape } from '../../generator/target/index.ts';

interface Tally {
  lookups: number;
  integer: number;
  float: number;
}

/** Statements of a function, and of the loop in it that runs for every token or cell. */
type Functions = ReadonlyMap<string, string>;

/** Operators of whole numbers. */
const INTEGER = /<<|>>|[+\-*/%&|^](?!=)/g;

/** Arrays of a workgroup; what is read from storage is counted in bytes. */
const SHARED = /_table_\w+$|^query$|^weights$/;

/** Counts of an attention kernel from its text, for one coordinate and all queries of a KV head. */
export function countOperations(
  kernel: 'attend' | 'attend_dense',
  text: string,
  plan: Plan,
): readonly OperationCount[] {
  const functions = functionsOf(text);
  const width = Number(/const group_width = (\d+)u/.exec(text)![1]);
  const parts = Number(/const group_parts = (\d+)u/.exec(text)![1]);
  const count = (loop: string, within: string, role: 'key' | 'value'): OperationCount => {
    const tally = tallyOf(loopOf(functions.get(within)!), functions, width);
    const { headDim, layout } = plan[role];
    const dense = kernel === 'attend_dense';
    const size = dense ? 2 : cellShape(plan[role]).size;
    const each = (value: number): number => (value * parts) / size;
    return {
      loop: `${kernel}, ${loop}`,
      bytes: dense ? DENSE_BYTES[plan.dense] : layout.unitBytes / layout.unitTokens / headDim,
      lookups: each(tally.lookups),
      integer: each(tally.integer),
      float: each(tally.float),
    };
  };
  return [count('keys', 'key_products', 'key'), count('values', 'add_values', 'value')];
}

const DENSE_BYTES = { f32: 4, f16: 2, bf16: 2 } as const;

function functionsOf(text: string): Functions {
  const plain = text.replace(/\/\/.*$/gm, '');
  const functions = new Map<string, string>();
  for (const [, name, body] of plain.matchAll(/^fn (\w+)\([^{]*\{\n([\s\S]*?)^\}/gm)) {
    functions.set(name!, body!);
  }
  return functions;
}

/** The body of the first loop. */
function loopOf(body: string): string {
  const start = body.indexOf('{', body.indexOf('for ('));
  let depth = 0;
  for (let at = start; at < body.length; at++) {
    if (body[at] === '{') depth++;
    if (body[at] === '}' && --depth === 0) return body.slice(start + 1, at);
  }
  throw new Error('a loop without an end');
}

function tallyOf(body: string, functions: Functions, width: number): Tally {
  const sum: Tally = { lookups: 0, integer: 0, float: 0 };
  for (const statement of body.split(/;|\n\s*\n/)) addStatement(sum, statement, functions, width);
  return sum;
}

function addStatement(sum: Tally, statement: string, functions: Functions, width: number): void {
  for (const [, name] of statement.matchAll(/\b(\w+)\(/g)) {
    const callee = functions.get(name!);
    if (callee === undefined) continue;
    const inner = tallyOf(callee, functions, width);
    sum.lookups += inner.lookups;
    sum.integer += inner.integer;
    sum.float += inner.float;
  }
  // From the innermost index outwards: what stands in brackets are whole numbers.
  let rest = statement;
  for (;;) {
    const index = /(\w+)?\[([^[\]]*)\]/.exec(rest);
    if (index === null) break;
    if (index[1] !== undefined && SHARED.test(index[1])) sum.lookups++;
    sum.integer += (index[2]!.match(INTEGER) ?? []).length;
    rest = rest.replace(index[0], `${index[1] ?? ''} `);
  }
  const value = rest.replace(/^[^=]*=(?!=)/, '').replace(/->/g, '');
  if (/\bfma\(/.test(value)) sum.float += width;
  else if (/\bpair_\d+\b/.test(value)) sum.float += 4 * (value.match(/\*/g) ?? []).length;
  else if (/\bradius_l\d+_\d+ \*/.test(value)) sum.float += 2;
  else if (/\bweight \* decoded/.test(value)) sum.float += width;
  else if (/decoded *\.radius *\*?=|\* norm/.test(rest)) sum.float += Number(/\*/.test(rest));
  else sum.integer += (value.match(INTEGER) ?? []).length;
  // Selections and conversions are one instruction each.
  sum.integer += (value.match(/\bselect\(|\bunpack2x16float\(/g) ?? []).length;
}
