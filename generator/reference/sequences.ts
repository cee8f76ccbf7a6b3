/** Which tokens a sequence has and which of them a query sees (docs/abi.md, "Arrays" and "Visibility"). */

import type { AttendDenseCall, CacheIndex } from '../plan/index.ts';
import type { PoolView } from './pool.ts';

/** Bits of the status word, as in the ABI. */
export const FLAGS = {
  pageOutOfRange: 1,
  lengthOutOfRange: 2,
  sequenceOutOfRange: 4,
  slotOutOfRange: 8,
} as const;

export interface Sequence {
  readonly length: number;
  /** Page of every `pageTokens` tokens; empty for dense rows. */
  readonly pages: Int32Array;
  position(token: number): number;
  /** Dense tokens that every query sees. */
  always(token: number): boolean;
}

/** A sequence, or the flag that says why it has none; rows that depend on it become NaN. */
export type Found = Sequence | number;

const NEVER = (): boolean => false;

export function packedSequence(
  index: CacheIndex,
  sequence: number,
  pageTokens: number,
  pools: readonly PoolView[],
): Found {
  if (sequence < 0 || sequence >= index.sequences) return FLAGS.sequenceOutOfRange;
  const { maxTokens, blockTable, indptr, indices } = index;
  let length: number;
  let capacity: number;
  let pageAt: (page: number) => number;
  if (indptr !== undefined) {
    const first = indptr[sequence]!;
    const count = indptr[sequence + 1]! - first;
    if (first < 0 || count < 0 || first + count > (indices?.length ?? 0))
      return FLAGS.lengthOutOfRange;
    const last = count === 0 ? 0 : index.lastPageLen![sequence]!;
    if (count > 0 && (last < 1 || last > pageTokens)) return FLAGS.lengthOutOfRange;
    length = count === 0 ? 0 : (count - 1) * pageTokens + last;
    capacity = length;
    pageAt = (page) => indices![first + page]!;
  } else {
    const needed = Math.ceil(maxTokens / pageTokens);
    length = index.lengths![sequence]!;
    if (blockTable !== undefined) {
      const stride = index.blockTableStride ?? needed;
      capacity = stride * pageTokens;
      pageAt = (page) => blockTable[sequence * stride + page]!;
    } else {
      const stride = index.pagesPerSequence ?? needed;
      capacity = stride * pageTokens;
      pageAt = (page) => sequence * stride + page;
    }
  }
  if (length < 0 || length > maxTokens || length > capacity) return FLAGS.lengthOutOfRange;
  const stride = index.positionsStride ?? maxTokens;
  if (index.positions !== undefined && length > stride) return FLAGS.lengthOutOfRange;

  const pages = new Int32Array(Math.ceil(length / pageTokens));
  for (let page = 0; page < pages.length; page++) {
    const at = pageAt(page);
    if (at < 0 || pools.some((pool) => at >= pool.pages)) return FLAGS.pageOutOfRange;
    pages[page] = at;
  }
  return { length, pages, position: positionsOf(index, sequence, stride), always: NEVER };
}

export function denseSequence(call: AttendDenseCall, sequence: number): Found {
  if (sequence < 0 || sequence >= call.sequences) return FLAGS.sequenceOutOfRange;
  const length = call.lengths[sequence]!;
  const stride = call.positionsStride ?? call.maxTokens;
  const listed = call.positions !== undefined || call.alwaysVisible !== undefined;
  if (length < 0 || length > call.maxTokens || (listed && length > stride)) {
    return FLAGS.lengthOutOfRange;
  }
  const flags = call.alwaysVisible;
  return {
    length,
    pages: new Int32Array(0),
    position: positionsOf(call, sequence, stride),
    always: flags === undefined ? NEVER : (token) => flags[sequence * stride + token] !== 0,
  };
}

function positionsOf(
  tables: { readonly positions?: Int32Array; readonly firstPosition?: Int32Array },
  sequence: number,
  stride: number,
): (token: number) => number {
  const { positions } = tables;
  if (positions !== undefined) return (token) => positions[sequence * stride + token]!;
  const first = tables.firstPosition?.[sequence] ?? 0;
  return (token) => first + token;
}

/** For every token of a sequence 1 if a query at `at` (undefined: the last position) sees it. */
export function visibleTokens(
  sequence: Sequence,
  at: number | undefined,
  window: number,
): Uint8Array {
  const visible = new Uint8Array(sequence.length);
  let position = at ?? -Infinity;
  if (at === undefined) {
    for (let token = 0; token < sequence.length; token++) {
      position = Math.max(position, sequence.position(token));
    }
  }
  const oldest = window > 0 ? position - window : -Infinity;
  for (let token = 0; token < sequence.length; token++) {
    const p = sequence.position(token);
    if (sequence.always(token) || (p <= position && p > oldest)) visible[token] = 1;
  }
  return visible;
}
