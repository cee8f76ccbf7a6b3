/** Where tokens stand in a packed pool (docs/abi.md, "Arrays"). */

import type { LayoutPlan, Pool } from '../plan/index.ts';

/** A pool with every stride filled in. */
export interface PoolView {
  readonly data: Uint8Array;
  readonly offset: number;
  readonly pages: number;
  readonly pageStride: number;
  readonly headStride: number;
  readonly unitStride: number;
  readonly unitTokens: number;
  readonly pageTokens: number;
}

export function viewPool(
  pool: Pool,
  layout: LayoutPlan,
  pageTokens: number,
  kvHeads: number,
): PoolView {
  const unitStride = pool.unitStride ?? layout.unitBytes;
  const headStride = pool.headStride ?? (pageTokens / layout.unitTokens) * unitStride;
  return {
    data: pool.data,
    offset: pool.offset ?? 0,
    pages: pool.pages,
    pageStride: pool.pageStride ?? kvHeads * headStride,
    headStride,
    unitStride,
    unitTokens: layout.unitTokens,
    pageTokens,
  };
}

/** Byte at which the unit begins that holds token `token` of a page, for one KV head. */
export function unitAddress(pool: PoolView, page: number, head: number, token: number): number {
  return (
    pool.offset +
    page * pool.pageStride +
    head * pool.headStride +
    Math.floor(token / pool.unitTokens) * pool.unitStride
  );
}
