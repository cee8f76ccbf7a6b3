/** Writing .safetensors: the same tensors give the same bytes. */

import { DTYPE_BYTES, type TensorDtype } from './types.ts';

/** A tensor to write. Typed arrays are written little-endian; f16 and bf16 as their patterns in a Uint16Array. */
export interface TensorInput {
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  readonly data: ArrayBufferView;
}

/**
 * The bytes of a file. Header keys are sorted; data is ordered by element size, largest first, then by name, so that
 * every tensor is aligned to its element; the header is padded with spaces to a multiple of 8 bytes.
 */
export function writeSafetensors(
  tensors: Readonly<Record<string, TensorInput>>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const names = Object.keys(tensors).sort();
  const order = [...names].sort(
    (a, b) => DTYPE_BYTES[tensors[b]!.dtype] - DTYPE_BYTES[tensors[a]!.dtype],
  );
  const begins = new Map<string, number>();
  let size = 0;
  for (const name of order) {
    const { dtype, shape, data } = tensors[name]!;
    const bytes = shape.reduce((product, length) => product * length, DTYPE_BYTES[dtype]);
    if (bytes !== data.byteLength) {
      throw new Error(
        `tensor ${name}: [${shape.join(', ')}] ${dtype} is not ${data.byteLength} bytes`,
      );
    }
    begins.set(name, size);
    size += bytes;
  }
  const header: Record<string, unknown> = {};
  const texts = Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1));
  if (texts.length > 0) header.__metadata__ = Object.fromEntries(texts);
  for (const name of names) {
    const { dtype, shape, data } = tensors[name]!;
    const begin = begins.get(name)!;
    header[name] = { dtype, shape, data_offsets: [begin, begin + data.byteLength] };
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const start = 8 + Math.ceil(text.length / 8) * 8;
  const bytes = new Uint8Array(start + size).fill(0x20, 8, start);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(start - 8), true);
  bytes.set(text, 8);
  for (const name of order) {
    const { dtype, data } = tensors[name]!;
    const source = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    bytes.set(littleEndian(source, DTYPE_BYTES[dtype]), start + begins.get(name)!);
  }
  return bytes;
}

const LITTLE = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** `bytes` in the machine's order, elements of `width` bytes, as little-endian bytes. */
export function littleEndian(bytes: Uint8Array, width: number): Uint8Array {
  if (LITTLE || width === 1) return bytes;
  const out = Uint8Array.from(bytes);
  for (let at = 0; at < out.length; at += width) out.subarray(at, at + width).reverse();
  return out;
}
