/** Scores, weighted sums and attention in float64 over the bytes that the kernels read. */

import type {
  AttendCall,
  AttendDenseCall,
  Plan,
  Rows,
  ScoresCall,
  Transform,
  WeightedSumCall,
} from '../plan/index.ts';
import { type Coder, coderOf } from './coder.ts';
import { decodeVector } from './decode.ts';
import { type PoolView, unitAddress, viewPool } from './pool.ts';
import { loadRecord } from './record.ts';
import { meanOf, rotateVector } from './rotate.ts';
import { elementOf, readRow } from './rows.ts';
import { denseSequence, type Found, packedSequence, visibleTokens } from './sequences.ts';

export interface AttentionResult {
  /** [rows][q_heads][d_v]. */
  readonly out: Float64Array;
  /** [rows][q_heads]. */
  readonly lse: Float64Array;
  /**
   * [kv_heads]: A of docs/exactness.md, the greatest scale·(‖q'‖·‖k̂‖ + ‖q‖·‖μ‖) over seen tokens; q' and k̂ are query and
   * decoded key in the preconditioned space, k̂ without its mean μ.
   */
  readonly maxLogit: Float64Array;
  readonly flags: number;
}

export interface ScoresResult {
  /** [rows][q_heads][max_tokens]; −∞ for tokens that are not seen, or beyond the length. */
  readonly out: Float64Array;
  /**
   * Same shape: scale·(‖q'‖·‖ŷ‖ + ‖q‖·‖μ‖), the magnitude of the sums behind a score, where q' and ŷ are query and
   * key in the preconditioned space. 0 where nothing is seen.
   */
  readonly magnitude: Float64Array;
  readonly flags: number;
}

export interface WeightedSumResult {
  /** [rows][q_heads][d_v]. */
  readonly out: Float64Array;
  readonly flags: number;
}

/** One KV head's query, ready for dot products with decoded keys. */
interface Query {
  /** In the space of the decoded keys. */
  readonly vector: Float64Array;
  readonly norm: number;
  /** q·μ, and ‖q‖·‖μ‖. */
  readonly shift: number;
  readonly shiftNorm: number;
}

export function scores(plan: Plan, call: ScoresCall): ScoresResult {
  const coder = coderOf(plan.key);
  const { rows, kvHeads } = call;
  const qHeads = kvHeads * plan.queryGroup;
  const width = call.index.maxTokens;
  const pool = viewPool(call.keys, plan.key.layout, plan.pageTokens, kvHeads);
  const out = new Float64Array(rows * qHeads * width).fill(-Infinity);
  const magnitude = new Float64Array(out.length);
  const logit = logitOf(call.scale, call.softcap);
  const flags = eachSequence(
    call,
    (sequence) => packedSequence(call.index, sequence, plan.pageTokens, [pool]),
    (row) => out.fill(NaN, row * qHeads * width, (row + 1) * qHeads * width),
    (sequence, members) => {
      const sights = members.map((row) =>
        visibleTokens(sequence, call.rowPosition?.[row], call.window ?? 0),
      );
      for (let head = 0; head < kvHeads; head++) {
        const keys = decodeHead(coder, pool, sequence.pages, sequence.length, head);
        const norms = normsOf(keys, plan.key.headDim, sequence.length);
        const prepare = queries(coder, call.q, qHeads, call.basis, call.key, head);
        members.forEach((row, member) => {
          for (let i = 0; i < plan.queryGroup; i++) {
            const qHead = head * plan.queryGroup + i;
            const query = prepare(row, qHead);
            const at = (row * qHeads + qHead) * width;
            for (let token = 0; token < sequence.length; token++) {
              if (sights[member]![token] === 0) continue;
              out[at + token] = logit(dot(query.vector, keys, token) + query.shift);
              magnitude[at + token] =
                Math.abs(Math.fround(call.scale)) * (query.norm * norms[token]! + query.shiftNorm);
            }
          }
        });
      }
    },
  );
  return { out, magnitude, flags };
}

export function weightedSum(plan: Plan, call: WeightedSumCall): WeightedSumResult {
  const coder = coderOf(plan.value);
  const { rows, kvHeads } = call;
  const d = plan.value.headDim;
  const qHeads = kvHeads * plan.queryGroup;
  const headStride = call.weightsHeadStride ?? call.index.maxTokens;
  const rowStride = call.weightsRowStride ?? qHeads * headStride;
  const pool = viewPool(call.values, plan.value.layout, plan.pageTokens, kvHeads);
  const out = new Float64Array(rows * qHeads * d);
  const flags = eachSequence(
    call,
    (sequence) => packedSequence(call.index, sequence, plan.pageTokens, [pool]),
    (row) => out.fill(NaN, row * qHeads * d, (row + 1) * qHeads * d),
    (sequence, members) => {
      for (let head = 0; head < kvHeads; head++) {
        const values = decodeHead(coder, pool, sequence.pages, sequence.length, head);
        const finish = outputs(coder, call.basis, call.value, head);
        for (const row of members) {
          for (let i = 0; i < plan.queryGroup; i++) {
            const qHead = head * plan.queryGroup + i;
            const at = row * rowStride + qHead * headStride;
            const sum = new Float64Array(d);
            let total = 0;
            for (let token = 0; token < sequence.length; token++) {
              const weight = call.weights[at + token]!;
              total += weight;
              addScaled(sum, weight, values, token);
            }
            finish(sum, total);
            out.set(sum, (row * qHeads + qHead) * d);
          }
        }
      }
    },
  );
  return { out, flags };
}

export function attend(plan: Plan, call: AttendCall): AttentionResult {
  const keyCoder = coderOf(plan.key);
  const valueCoder = coderOf(plan.value);
  const { kvHeads } = call;
  const qHeads = kvHeads * plan.queryGroup;
  const keyPool = viewPool(call.keys, plan.key.layout, plan.pageTokens, kvHeads);
  const valuePool = viewPool(call.values, plan.value.layout, plan.pageTokens, kvHeads);
  return attention(
    plan,
    call,
    (sequence) => packedSequence(call.index, sequence, plan.pageTokens, [keyPool, valuePool]),
    {
      keys: (sequence, head) =>
        decodeHead(keyCoder, keyPool, sequence.pages, sequence.length, head),
      values: (sequence, head) =>
        decodeHead(valueCoder, valuePool, sequence.pages, sequence.length, head),
      queries: (head) => queries(keyCoder, call.q, qHeads, call.basis, call.key, head),
      outputs: (head) => outputs(valueCoder, call.basis, call.value, head),
    },
  );
}

export function attendDense(plan: Plan, call: AttendDenseCall): AttentionResult {
  const { kvHeads, maxTokens } = call;
  const qHeads = kvHeads * plan.queryGroup;
  const rowsOf = (side: 'key' | 'value') => {
    const d = plan[side].headDim;
    const data = side === 'key' ? call.keys : call.values;
    const headStride = call[`${side}HeadStride`] ?? d;
    const tokenStride = call[`${side}TokenStride`] ?? kvHeads * headStride;
    const sequenceStride = call[`${side}SequenceStride`] ?? maxTokens * tokenStride;
    return (sequence: ListedSequence, head: number): Float64Array => {
      const out = new Float64Array(sequence.length * d);
      for (let token = 0; token < sequence.length; token++) {
        const from = sequence.index * sequenceStride + token * tokenStride + head * headStride;
        for (let i = 0; i < d; i++) out[token * d + i] = elementOf(data, plan.dense, from + i);
      }
      return out;
    };
  };
  return attention(plan, call, (sequence) => denseSequence(call, sequence), {
    keys: rowsOf('key'),
    values: rowsOf('value'),
    queries: () => (row, qHead) => {
      const vector = new Float64Array(plan.key.headDim);
      readRow(call.q, qHeads, plan.key.headDim, row, qHead, vector);
      return { vector, norm: norm(vector), shift: 0, shiftNorm: 0 };
    },
    outputs: () => () => {},
  });
}

type ListedSequence = Exclude<Found, number> & { readonly index: number };

interface Parts {
  keys(sequence: ListedSequence, head: number): Float64Array;
  values(sequence: ListedSequence, head: number): Float64Array;
  queries(head: number): (row: number, qHead: number) => Query;
  outputs(head: number): (sum: Float64Array, total: number) => void;
}

function attention(
  plan: Plan,
  call: AttendCall | AttendDenseCall,
  find: (sequence: number) => Found,
  parts: Parts,
): AttentionResult {
  const { rows, kvHeads } = call;
  const d = plan.value.headDim;
  const qHeads = kvHeads * plan.queryGroup;
  const out = new Float64Array(rows * qHeads * d);
  const lse = new Float64Array(rows * qHeads).fill(-Infinity);
  const maxLogit = new Float64Array(kvHeads);
  const logit = logitOf(call.scale, call.softcap);
  const scale = Math.abs(Math.fround(call.scale));
  const flags = eachSequence(
    call,
    find,
    (row) => {
      out.fill(NaN, row * qHeads * d, (row + 1) * qHeads * d);
      lse.fill(NaN, row * qHeads, (row + 1) * qHeads);
    },
    (sequence, members) => {
      const sights = members.map((row) =>
        visibleTokens(sequence, call.rowPosition?.[row], call.window ?? 0),
      );
      const logits = new Float64Array(sequence.length);
      for (let head = 0; head < kvHeads; head++) {
        const keys = parts.keys(sequence, head);
        const values = parts.values(sequence, head);
        const norms = normsOf(keys, plan.key.headDim, sequence.length);
        const prepare = parts.queries(head);
        const finish = parts.outputs(head);
        members.forEach((row, member) => {
          const visible = sights[member]!;
          for (let i = 0; i < plan.queryGroup; i++) {
            const qHead = head * plan.queryGroup + i;
            const query = prepare(row, qHead);
            let peak = -Infinity;
            for (let token = 0; token < sequence.length; token++) {
              if (visible[token] === 0) continue;
              const value = logit(dot(query.vector, keys, token) + query.shift);
              logits[token] = value;
              if (!(value <= peak)) peak = Math.max(peak, value);
              const size = scale * (query.norm * norms[token]! + query.shiftNorm);
              if (size > maxLogit[head]!) maxLogit[head] = size;
            }
            if (peak === -Infinity) continue;
            const sum = new Float64Array(d);
            let total = 0;
            for (let token = 0; token < sequence.length; token++) {
              if (visible[token] === 0) continue;
              const weight = Math.exp(logits[token]! - peak);
              total += weight;
              addScaled(sum, weight, values, token);
            }
            for (let j = 0; j < d; j++) sum[j]! /= total;
            finish(sum, total / total);
            out.set(sum, (row * qHeads + qHead) * d);
            lse[row * qHeads + qHead] = peak + Math.log(total);
          }
        });
      }
    },
  );
  return { out, lse, maxLogit, flags };
}

/**
 * Calls `visit` once for every sequence that rows ask for, with those rows, and `lose` for rows whose sequence is out of
 * range. Returns the flags that were met.
 */
function eachSequence(
  call: { readonly rows: number; readonly rowSequence?: Int32Array },
  find: (sequence: number) => Found,
  lose: (row: number) => void,
  visit: (sequence: ListedSequence, members: readonly number[]) => void,
): number {
  const members = new Map<number, number[]>();
  for (let row = 0; row < call.rows; row++) {
    const index = call.rowSequence?.[row] ?? row;
    const list = members.get(index);
    if (list === undefined) members.set(index, [row]);
    else list.push(row);
  }
  let flags = 0;
  for (const [index, list] of members) {
    const found = find(index);
    if (typeof found === 'number') {
      flags |= found;
      for (const row of list) lose(row);
    } else {
      visit({ ...found, index }, list);
    }
  }
  return flags;
}

/** One head's tokens of a sequence, [token][d], in the preconditioned space without the mean. */
function decodeHead(
  coder: Coder,
  pool: PoolView,
  pages: Int32Array,
  length: number,
  head: number,
): Float64Array {
  const { layout } = coder.plan;
  const out = new Float64Array(length * coder.dim);
  for (let token = 0; token < length; token++) {
    const page = pages[Math.floor(token / pool.pageTokens)]!;
    const inPage = token % pool.pageTokens;
    const address = unitAddress(pool, page, head, inPage);
    loadRecord(layout, coder.record, pool.data, address, inPage % layout.unitTokens);
    decodeVector(coder, out, token * coder.dim);
  }
  return out;
}

/** Queries of one KV head: multiplied by the dual of S unless they come rotated, and their product with the mean. */
function queries(
  coder: Coder,
  rows: Rows,
  qHeads: number,
  basis: 'original' | 'rotated' | undefined,
  transform: Transform | undefined,
  head: number,
): (row: number, qHead: number) => Query {
  const mean = meanOf(coder, transform, head);
  if (mean !== null && basis === 'rotated') rotateVector(coder, 'forward', mean, transform, head);
  const meanNorm = mean === null ? 0 : norm(mean);
  return (row, qHead) => {
    const vector = new Float64Array(coder.dim);
    readRow(rows, qHeads, coder.dim, row, qHead, vector);
    const shift = mean === null ? 0 : dot(vector, mean, 0);
    const shiftNorm = mean === null ? 0 : norm(vector) * meanNorm;
    if (basis !== 'rotated') rotateVector(coder, 'dual', vector, transform, head);
    return { vector, norm: norm(vector), shift, shiftNorm };
  };
}

/** Turns a sum of decoded values whose weights add up to `total` into an output, in place. */
function outputs(
  coder: Coder,
  basis: 'original' | 'rotated' | undefined,
  transform: Transform | undefined,
  head: number,
): (sum: Float64Array, total: number) => void {
  const mean = meanOf(coder, transform, head);
  if (mean !== null && basis === 'rotated') rotateVector(coder, 'forward', mean, transform, head);
  return (sum, total) => {
    if (basis !== 'rotated') rotateVector(coder, 'inverse', sum, transform, head);
    if (mean !== null) for (let i = 0; i < sum.length; i++) sum[i]! += total * mean[i]!;
  };
}

/** scale·x, then the soft cap; both as the float32 that kernels are given. */
function logitOf(scale: number, softcap: number | undefined): (product: number) => number {
  const s = Math.fround(scale);
  const cap = Math.fround(softcap ?? 0);
  return cap > 0 ? (x) => cap * Math.tanh((s * x) / cap) : (x) => s * x;
}

/** x · the vector that stands at index `at` of a list of vectors. */
function dot(x: Float64Array, vectors: Float64Array, at: number): number {
  const from = at * x.length;
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i]! * vectors[from + i]!;
  return sum;
}

function addScaled(sum: Float64Array, weight: number, vectors: Float64Array, at: number): void {
  const from = at * sum.length;
  for (let i = 0; i < sum.length; i++) sum[i]! += weight * vectors[from + i]!;
}

function norm(x: Float64Array): number {
  return Math.sqrt(dot(x, x, 0));
}

function normsOf(vectors: Float64Array, d: number, count: number): Float64Array {
  const norms = new Float64Array(count);
  for (let token = 0; token < count; token++) {
    norms[token] = norm(vectors.subarray(token * d, (token + 1) * d));
  }
  return norms;
}
