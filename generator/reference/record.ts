/** A token's record as bits, and where a record stands in its unit of storage (docs/format.md, "Where the bits stand"). */

import type { LayoutPlan } from '../plan/index.ts';

/** Sets a field of at most 8 bits in a record whose bits there are still zero. */
export function putBits(record: Uint8Array, position: number, value: number): void {
  const byte = position >>> 3;
  const shift = position & 7;
  record[byte]! |= value << shift;
  record[byte + 1]! |= value >>> (8 - shift);
}

/** Sets a field of whole bytes, for radii and norms. */
export function putBytes(record: Uint8Array, position: number, bits: number, value: number): void {
  for (let done = 0; done < bits; done += 8) {
    putBits(record, position + done, (value >>> done) & 255);
  }
}

/** A field of at most 16 bits. The record has two readable bytes after its last. */
export function getBits(record: Uint8Array, position: number, bits: number): number {
  const byte = position >>> 3;
  const window = record[byte]! | (record[byte + 1]! << 8) | (record[byte + 2]! << 16);
  return (window >>> (position & 7)) & ((1 << bits) - 1);
}

/** A field of 32 bits, unsigned. */
export function getWord(record: Uint8Array, position: number): number {
  return (getBits(record, position, 16) | (getBits(record, position + 16, 16) << 16)) >>> 0;
}

/** Planes of the bits beyond a record's last whole byte: their widths, in storage order. */
const PLANES = [4, 2, 1] as const;

/** Writes token `token` (0 … unitTokens − 1) of the unit at `address`: its own bits and no others. */
export function storeRecord(
  layout: LayoutPlan,
  record: Uint8Array,
  pool: Uint8Array,
  address: number,
  token: number,
): void {
  if (layout.unitTokens === 1) {
    for (let byte = 0; byte < layout.unitBytes; byte++) pool[address + byte] = record[byte]!;
    return;
  }
  const bytes = layout.storedBits >>> 3;
  for (let byte = 0; byte < bytes; byte++) pool[address + 32 * byte + token] = record[byte]!;
  const rest = layout.storedBits & 7;
  let bits = record[bytes]!;
  let plane = address + 32 * bytes;
  for (const width of PLANES) {
    if ((rest & width) === 0) continue;
    const columns = 4 * width;
    const mask = (1 << width) - 1;
    const at = plane + (token % columns);
    const shift = width * Math.floor(token / columns);
    pool[at] = (pool[at]! & ~(mask << shift)) | ((bits & mask) << shift);
    bits >>>= width;
    plane += columns;
  }
}

/** The inverse of `storeRecord`. */
export function loadRecord(
  layout: LayoutPlan,
  record: Uint8Array,
  pool: Uint8Array,
  address: number,
  token: number,
): void {
  if (layout.unitTokens === 1) {
    for (let byte = 0; byte < layout.unitBytes; byte++) record[byte] = pool[address + byte]!;
    return;
  }
  const bytes = layout.storedBits >>> 3;
  for (let byte = 0; byte < bytes; byte++) record[byte] = pool[address + 32 * byte + token]!;
  const rest = layout.storedBits & 7;
  let plane = address + 32 * bytes;
  let bits = 0;
  let done = 0;
  for (const width of PLANES) {
    if ((rest & width) === 0) continue;
    const columns = 4 * width;
    const value = pool[plane + (token % columns)]! >>> (width * Math.floor(token / columns));
    bits |= (value & ((1 << width) - 1)) << done;
    done += width;
    plane += columns;
  }
  if (rest > 0) record[bytes] = bits;
}
