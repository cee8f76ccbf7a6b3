/** Tensors as typed arrays. */

import type { Tensor } from './types.ts';
import { littleEndian } from './write.ts';

/** The elements of a tensor as a typed array of its own: an aligned copy in the machine's byte order. */
export function arrayOf(tensor: Tensor) {
  switch (tensor.dtype) {
    case 'F64':
      return new Float64Array(aligned(tensor, 8));
    case 'F32':
      return new Float32Array(aligned(tensor, 4));
    case 'I64':
      return new BigInt64Array(aligned(tensor, 8));
    case 'U64':
      return new BigUint64Array(aligned(tensor, 8));
    case 'I32':
      return new Int32Array(aligned(tensor, 4));
    case 'U32':
      return new Uint32Array(aligned(tensor, 4));
    case 'I16':
      return new Int16Array(aligned(tensor, 2));
    case 'F16':
    case 'BF16':
    case 'U16':
      return new Uint16Array(aligned(tensor, 2));
    case 'I8':
      return new Int8Array(aligned(tensor, 1));
    default:
      return new Uint8Array(aligned(tensor, 1));
  }
}

const half = new Float32Array(1);
const halfBits = new Uint32Array(half.buffer);

/** The elements of an F64, F32, F16 or BF16 tensor as float32; 16-bit floats exactly. */
export function floatsOf(tensor: Tensor): Float32Array {
  const elements = arrayOf(tensor);
  if (elements instanceof Float32Array) return elements;
  if (elements instanceof Float64Array) return Float32Array.from(elements);
  if (!(elements instanceof Uint16Array) || tensor.dtype === 'U16') {
    throw new Error(`a tensor of ${tensor.dtype} has no floats`);
  }
  const out = new Float32Array(elements.length);
  const value = tensor.dtype === 'F16' ? fromF16 : fromBf16;
  for (let i = 0; i < out.length; i++) out[i] = value(elements[i]!);
  return out;
}

function fromBf16(pattern: number): number {
  halfBits[0] = pattern << 16;
  return half[0]!;
}

/** Shifted into a float32 its exponent is 112 too small; multiplying corrects that, denormals included. */
function fromF16(pattern: number): number {
  const magnitude = pattern & 0x7fff;
  const sign = (pattern & 0x8000) << 16;
  if (magnitude >= 0x7c00) {
    halfBits[0] = sign | 0x7f800000 | ((magnitude & 0x3ff) << 13);
    return half[0]!;
  }
  halfBits[0] = sign | (magnitude << 13);
  return half[0]! * 2 ** 112;
}

function aligned(tensor: Tensor, width: number): ArrayBuffer {
  const copy = Uint8Array.from(tensor.data);
  return littleEndian(copy, width).buffer as ArrayBuffer;
}
