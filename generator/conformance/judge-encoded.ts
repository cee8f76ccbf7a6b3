/** What an encode call wrote: bytes and row errors of the reference, or certified ones. */

import type { EncodeCall, Plan, Pool, Role } from '../plan/index.ts';
import {
  coderOf,
  loadRecord,
  type PoolView,
  readRow,
  storeRecord,
  unitAddress,
  viewPool,
} from '../reference/index.ts';
import { certifyToken } from './certify.ts';
import type { Judge } from './judge.ts';

/** Of the codes of ordinary rows so many may differ in one case, or `FEWEST` where that is less. */
const SHARE = 1e-4;
const FEWEST = 2;

/** Codes of a case in which `SHARE` alone decides. */
export const ENOUGH_CODES = 100_000;

export interface EncodedCall {
  readonly plan: Plan;
  readonly role: Role;
  /** The target's call, after it. */
  readonly call: EncodeCall;
  /** What the reference wrote in its place. */
  readonly expected: { readonly cache: Pool; readonly errors?: Float32Array };
  /** A byte of the pool, in words. */
  readonly where: (at: number) => string;
  /** Certify what differs. */
  readonly certify: boolean;
  /** Whether a row is drawn such that hardly any of its codes lie at a boundary. */
  readonly ordinary: (row: number) => boolean;
}

const bitsOf = (array: Float32Array): Uint32Array =>
  new Uint32Array(array.buffer, array.byteOffset, array.length);

export const judgeEncoded = (judge: Judge, encoded: EncodedCall): void => {
  const { call, expected, where, certify } = encoded;
  const { data } = call.cache;
  const left = certify ? certifyCache(encoded) : undefined;
  for (const failure of left?.failures ?? []) judge.fail(`cache: ${failure}`);
  judge.certified(left?.certified ?? 0);
  judge.bytes('cache', data, expected.cache.data, where, left?.data);
  if (call.errors !== undefined && expected.errors !== undefined) {
    judge.words('errors', bitsOf(left?.errors ?? call.errors), bitsOf(expected.errors));
  }
};

/** What is left to compare once tokens are certified. */
interface CertifiedCache {
  /** The pool, and the row errors, with the reference's in place of what is certified: the rest must be equal. */
  readonly data: Uint8Array;
  readonly errors: Float32Array | undefined;
  /** Codes that differ and are certified. */
  readonly certified: number;
  readonly failures: readonly string[];
}

/** Certifies every token that an encode call has written. */
const certifyCache = ({ plan, role, call, expected, ordinary }: EncodedCall): CertifiedCache => {
  const codec = plan[role];
  const { kvHeads, rows } = call;
  const data = call.cache.data.slice();
  const errors = call.errors?.slice();
  const view = (pool: Pool): PoolView => viewPool(pool, codec.layout, plan.pageTokens, kvHeads);
  const actualPool = view({ ...call.cache, data });
  const expectedPool = view(expected.cache);
  const got = new Uint8Array(coderOf(codec).record.length);
  const want = new Uint8Array(got.length);
  const row = new Float32Array(codec.headDim);
  const refused: string[] = [];
  let certified = 0;
  const counted = { codes: 0, differing: 0 };
  for (let index = 0; index < call.count; index++) {
    const slot = Number(call.slots[index]!);
    if (slot < 0 || slot >= actualPool.pages * plan.pageTokens) continue;
    const page = Math.floor(slot / plan.pageTokens);
    const inPage = slot % plan.pageTokens;
    const inUnit = inPage % codec.layout.unitTokens;
    for (let head = 0; head < kvHeads; head++) {
      readRow(rows, kvHeads, codec.headDim, index, head, row);
      const source = { codec, row, transform: call.transform, head };
      const address = unitAddress(actualPool, page, head, inPage);
      loadRecord(codec.layout, got, data, address, inUnit);
      const at = unitAddress(expectedPool, page, head, inPage);
      loadRecord(codec.layout, want, expectedPool.data, at, inUnit);
      const output = index * kvHeads + head;
      // Without errors of the target's there are none to compare.
      const wanted = errors && expected.errors?.[output];
      const certificate = certifyToken(
        source,
        { record: got, error: errors?.[output] },
        { record: want, error: wanted },
      );
      if (ordinary(index)) {
        counted.codes += certificate.codes;
        counted.differing += certificate.differing;
      }
      if (certificate.reason === '') {
        certified += certificate.differing;
        storeRecord(codec.layout, want, data, address, inUnit);
      } else {
        refused.push(`row ${index}, head ${head}: ${certificate.reason}`);
      }
      if (errors && wanted !== undefined && certificate.errorHolds) errors[output] = wanted;
    }
  }
  const failures: string[] = [];
  if (refused.length > 0) {
    failures.push(`${refused.length} tokens are not certified, the first ${refused[0]}`);
  }
  const allowed = Math.max(FEWEST, Math.floor(SHARE * counted.codes));
  if (counted.differing > allowed) {
    failures.push(
      `${counted.differing} of ${counted.codes} codes of ordinary rows differ, more than ${allowed}`,
    );
  }
  return { data, errors, certified, failures };
};
