import { nearestWord, show } from '../diagnostics/index.ts';
import { hadamardOrder, nearestHadamardDimensions } from './hadamard-orders.ts';
import { fieldsOf, type Problems } from './problems.ts';
import type { Codec, Dtype, Layout, Polar, Precondition, Radius } from './types.ts';

export const LEAST_HEAD_DIM = 16;
export const MOST_HEAD_DIM = 640;
const MOST_BITS = { levelOne: 8, above: 6, logRadius: 8 };
const CODEC_FIELDS = ['headDim', 'precondition', 'polar', 'radius', 'center', 'layout'] as const;
const PRECONDITIONS = ['hadamard', 'orthogonal', 'matrix', 'none'];
const DTYPES: readonly Dtype[] = ['f16', 'bf16', 'f32'];

export function isWhole(value: unknown, least: number, most: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most;
}

/** A codec with its defaults; whatever is wrong is added to `problems`, and the result must then not be used. */
export function normalizeCodec(
  input: unknown,
  path: string,
  problems: Problems,
): Partial<Codec> | undefined {
  const fields = fieldsOf(
    input,
    CODEC_FIELDS,
    path,
    problems,
    'codec({ headDim: 128, polar: polar({ bits: [4, 2, 2, 2] }) })',
  );
  if (fields === undefined) return undefined;

  const headDim = fields.headDim;
  const known = isWhole(headDim, LEAST_HEAD_DIM, MOST_HEAD_DIM) ? headDim : undefined;
  if (known === undefined) {
    problems.add('P010', `${path}.headDim`, headDim, {
      message: headDim === undefined ? 'missing' : `${show(headDim)} is no head dimension`,
      fix: `write a whole number from ${LEAST_HEAD_DIM} to ${MOST_HEAD_DIM}`,
    });
  }

  const precondition = normalizePrecondition(
    fields.precondition,
    known,
    `${path}.precondition`,
    problems,
  );
  const polar = normalizePolar(fields.polar, known, `${path}.polar`, problems);
  const radius = normalizeRadius(fields.radius, known, polar?.depth, `${path}.radius`, problems);

  const center = fields.center ?? false;
  if (typeof center !== 'boolean') {
    problems.add('P032', `${path}.center`, center, {
      message: `${show(center)} is neither true nor false`,
      fix: 'write true to subtract a run-time mean, or leave it out',
    });
  }

  const layout = normalizeLayout(fields.layout, `${path}.layout`, problems);
  return Object.freeze({
    headDim,
    precondition,
    polar,
    radius,
    center,
    layout,
  }) as Partial<Codec>;
}

function normalizePrecondition(
  input: unknown,
  headDim: number | undefined,
  path: string,
  problems: Problems,
): Precondition | undefined {
  const given = input ?? { kind: 'hadamard', seed: 0 };
  const kind = (given as { kind?: unknown }).kind;
  if (typeof kind !== 'string' || !PRECONDITIONS.includes(kind)) {
    const near =
      typeof given === 'string'
        ? nearestWord(given, PRECONDITIONS)
        : nearestWord(String(kind), PRECONDITIONS);
    const call = near === 'none' || near === 'matrix' ? `${near}()` : undefined;
    problems.add('P020', path, input, {
      message: `${show(input)} is no preconditioner`,
      fix: `write ${call ?? (near === undefined ? 'hadamard({ seed: 0 }), orthogonal({ seed: 0 }), matrix() or none()' : `${near}({ seed: 0 })`)}`,
    });
    return undefined;
  }
  if (kind === 'none' || kind === 'matrix') {
    fieldsOf(given, ['kind'], path, problems, `${kind}()`);
    return Object.freeze({ kind });
  }
  const fields = fieldsOf(given, ['kind', 'seed'], path, problems, `${kind}({ seed: 0 })`)!;
  const seed = fields.seed;
  if (!isWhole(seed, 0, 2 ** 32 - 1)) {
    problems.add('P022', `${path}.seed`, seed, {
      message: seed === undefined ? 'missing' : `${show(seed)} is no seed`,
      fix: 'write a whole number from 0 to 4294967295',
    });
  }
  if (kind === 'hadamard' && headDim !== undefined && hadamardOrder(headDim) === undefined) {
    const near = nearestHadamardDimensions(headDim, LEAST_HEAD_DIM, MOST_HEAD_DIM);
    problems.add('P021', path, input ?? given, {
      message: `no Hadamard matrix of order ${headDim} = m·2^k with m one of 1, 12, 20, 28, 36`,
      fix: `write orthogonal({ seed: ${isWhole(seed, 0, 2 ** 32 - 1) ? seed : 0} }), which any head dimension has; the nearest with a Hadamard matrix ${near.length === 1 ? 'is' : 'are'} ${near.join(' and ')}`,
    });
  }
  return Object.freeze({ kind, seed }) as Precondition;
}

function normalizePolar(
  input: unknown,
  headDim: number | undefined,
  path: string,
  problems: Problems,
): Polar | undefined {
  const fields = fieldsOf(
    input,
    ['depth', 'bits', 'codebooks'],
    path,
    problems,
    'polar({ bits: [4, 2, 2, 2] })',
  );
  if (fields === undefined) return undefined;
  const bits = fields.bits;
  const isList = Array.isArray(bits) && bits.length > 0;
  const depth = fields.depth ?? (isList ? bits.length : undefined);
  if (!isList) {
    problems.add('P012', `${path}.bits`, bits, {
      message: bits === undefined ? 'missing' : `${show(bits)} is no list of bits`,
      fix: 'write one entry a level, for example [4, 2, 2, 2]',
    });
  }

  const depthIsRight = checkDepth(depth, headDim, `${path}.depth`, problems);
  if (isList) checkBits(bits, depthIsRight ? (depth as number) : undefined, path, problems);
  const codebooks = normalizeCodebooks(
    fields.codebooks,
    isList ? bits : [],
    `${path}.codebooks`,
    problems,
  );
  if (!isList || !isWhole(depth, 1, Number.MAX_SAFE_INTEGER)) return undefined;
  return Object.freeze({ depth, bits: Object.freeze([...bits]), codebooks }) as Polar;
}

function checkDepth(
  depth: unknown,
  headDim: number | undefined,
  path: string,
  problems: Problems,
): boolean {
  if (depth === undefined) return false;
  const most = Math.floor(Math.log2(headDim ?? MOST_HEAD_DIM));
  if (!isWhole(depth, 1, most)) {
    problems.add('P011', path, depth, {
      message: `depth ${show(depth)}${headDim === undefined ? '' : ` for head dimension ${headDim}`}`,
      fix: `write a whole number from 1 to ${headDim === undefined ? most : deepest(headDim)}`,
    });
    return false;
  }
  if (headDim !== undefined && headDim % 2 ** depth !== 0) {
    const deep = deepest(headDim);
    const block = 2 ** depth;
    const below = Math.floor(headDim / block) * block;
    const near = [below, below + block].filter((d) => d >= LEAST_HEAD_DIM && d <= MOST_HEAD_DIM);
    problems.add('P011', path, depth, {
      message: `2^${depth} = ${block} does not divide head dimension ${headDim}`,
      fix:
        deep === 0
          ? `write an even head dimension, for example ${near.join(' or ')}`
          : `write ${deep === 1 ? 'depth 1' : `a depth from 1 to ${deep}`}, with as many bits`,
    });
    // The number of bits can still be compared with it.
    return true;
  }
  return true;
}

/** The greatest depth of a head dimension: how often 2 divides it. */
function deepest(headDim: number): number {
  let depth = 0;
  while (headDim % 2 ** (depth + 1) === 0) depth++;
  return depth;
}

function checkBits(
  bits: readonly unknown[],
  depth: number | undefined,
  path: string,
  problems: Problems,
): void {
  if (depth !== undefined && bits.length !== depth) {
    const example = Array.from({ length: depth }, (_, i) => (i === 0 ? 4 : 2));
    problems.add('P012', `${path}.bits`, bits, {
      message: `${bits.length} ${bits.length === 1 ? 'entry' : 'entries'} for depth ${depth}`,
      fix: `write one a level, for example ${show(example)}`,
    });
  }
  for (const [i, b] of bits.entries()) {
    const most = i === 0 ? MOST_BITS.levelOne : MOST_BITS.above;
    if (isWhole(b, 1, most)) continue;
    problems.add('P013', `${path}.bits[${i}]`, b, {
      message: `${show(b)} bits at level ${i + 1}`,
      fix: `write a whole number from 1 to ${most}`,
    });
  }
}

function normalizeCodebooks(
  input: unknown,
  bits: readonly unknown[],
  path: string,
  problems: Problems,
): Polar['codebooks'] {
  if (input === undefined) return Object.freeze({});
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    problems.add('P001', path, input, {
      message: `${show(input)} is no record of codebooks`,
      fix: 'write a list of angles a level, for example { 2: [0.3, 0.6, 0.9, 1.2] }',
    });
    return Object.freeze({});
  }
  const codebooks: Record<number, readonly number[]> = {};
  for (const [name, angles] of Object.entries(input)) {
    if (angles === undefined) continue;
    const level = Number(name);
    if (!isWhole(level, 2, Math.max(bits.length, 1)) || String(level) !== name) {
      problems.add('P014', `${path}.${name}`, angles, {
        message:
          level === 1
            ? 'level 1 is uniform and has no codebook of its own'
            : `there is no level ${show(name)} with a codebook of its own`,
        fix: bits.length < 2 ? 'leave it out' : `use levels 2 to ${bits.length}`,
      });
      continue;
    }
    const levelBits = bits[level - 1];
    if (!isWhole(levelBits, 1, MOST_BITS.above)) continue;
    const fault = codebookFault(angles, 2 ** levelBits);
    if (fault !== undefined) {
      problems.add('P015', `${path}.${level}`, angles, {
        message: `${show(angles)} ${fault}`,
        fix: `write ${2 ** levelBits} angles in radians, ascending, each above 0 and below π/2`,
      });
      continue;
    }
    codebooks[level] = Object.freeze([...(angles as readonly number[])]);
  }
  return Object.freeze(codebooks);
}

function codebookFault(angles: unknown, entries: number): string | undefined {
  if (!Array.isArray(angles)) return 'is no list of angles';
  if (angles.length !== entries) return `has ${angles.length} entries instead of ${entries}`;
  for (const [i, angle] of angles.entries()) {
    if (typeof angle !== 'number' || !(angle > 0 && angle < Math.PI / 2)) {
      return `has ${show(angle)} at index ${i}, not between 0 and π/2`;
    }
    if (i > 0 && angle <= angles[i - 1]) return `does not ascend at index ${i}`;
  }
  return undefined;
}

function normalizeRadius(
  input: unknown,
  headDim: number | undefined,
  depth: number | undefined,
  path: string,
  problems: Problems,
): Radius | undefined {
  const given = input ?? 'f16';
  if (DTYPES.includes(given as Dtype)) return given as Dtype;
  if (typeof given !== 'object' || (given as { kind?: unknown }).kind !== 'log') {
    problems.add('P030', path, given, {
      message: `${show(given)} is no radius format`,
      fix: `write 'f16', 'bf16', 'f32' or log({ bits: 4 })`,
    });
    return undefined;
  }
  const fields = fieldsOf(given, ['kind', 'bits'], path, problems, 'log({ bits: 4 })')!;
  const bits = fields.bits;
  if (!isWhole(bits, 1, MOST_BITS.logRadius)) {
    problems.add('P031', `${path}.bits`, bits, {
      message: bits === undefined ? 'missing' : `${show(bits)} bits for a log radius`,
      fix: `write a whole number from 1 to ${MOST_BITS.logRadius}`,
    });
  }
  if (headDim !== undefined && depth !== undefined && headDim === 2 ** depth) {
    problems.add('P031', path, given, {
      message: `depth ${depth} leaves one radius, and a log radius is relative to others`,
      fix: `write 'f16', or a depth below ${depth}`,
    });
  }
  return Object.freeze({ kind: 'log', bits }) as Radius;
}

function normalizeLayout(input: unknown, path: string, problems: Problems): Layout | undefined {
  const given = input ?? { kind: 'rows' };
  const kind = (given as { kind?: unknown }).kind;
  if (kind === 'rows') {
    fieldsOf(given, ['kind'], path, problems, 'rows()');
    return Object.freeze({ kind });
  }
  if (kind !== 'tiles') {
    problems.add('P040', path, given, {
      message: `${show(given)} is no layout`,
      fix: 'write rows() or tiles({ tokens: 32 })',
    });
    return undefined;
  }
  const fields = fieldsOf(given, ['kind', 'tokens'], path, problems, 'tiles({ tokens: 32 })')!;
  const tokens = fields.tokens;
  if (tokens !== 32) {
    problems.add('P041', `${path}.tokens`, tokens, {
      message: tokens === undefined ? 'missing' : `a tile of ${show(tokens)} tokens`,
      fix: 'write tiles({ tokens: 32 })',
    });
  }
  return Object.freeze({ kind, tokens }) as Layout;
}
