/** Reading .safetensors: 8 bytes of header length, a JSON header, the data, all little-endian. */

import { Problem } from './problem.js';

/**
 * @typedef {object} Tensor
 * @property {string} dtype
 * @property {number[]} shape
 * @property {ArrayBuffer} bytes
 */

/**
 * @param {ArrayBuffer} file
 * @returns {{ tensors: Map<string, Tensor>, metadata: Record<string, string> }}
 */
export function readSafetensors(file) {
  const broken = (why) =>
    new Problem('The captured keys and values cannot be read', `kv-slice.safetensors: ${why}.`, [
      'Restore the file from the repository: `git checkout test/fixtures/kv-slice.safetensors`.',
    ]);
  if (file.byteLength < 8) throw broken('it is cut off');
  const length = Number(new DataView(file).getBigUint64(0, true));
  if (8 + length > file.byteLength) throw broken('it is cut off, or is no .safetensors file');
  let header;
  try {
    header = JSON.parse(new TextDecoder().decode(new Uint8Array(file, 8, length)));
  } catch {
    throw broken('its header is not JSON');
  }
  const { __metadata__: metadata = {}, ...entries } = header;
  const tensors = new Map();
  for (const [name, { dtype, shape, data_offsets: offsets }] of Object.entries(entries)) {
    const [begin, end] = offsets.map((offset) => 8 + length + offset);
    if (end > file.byteLength) throw broken(`${name} is cut off`);
    // A copy, because the data may not be aligned to the width of its numbers.
    tensors.set(name, { dtype, shape, bytes: file.slice(begin, end) });
  }
  return { tensors, metadata };
}

/** Numbers of an F32, F16 or I32 tensor. */
export function numbersOf({ dtype, bytes }) {
  if (dtype === 'F32') return new Float32Array(bytes);
  if (dtype === 'I32') return new Int32Array(bytes);
  if (dtype === 'F16') return Float32Array.from(new Uint16Array(bytes), fromHalf);
  throw new Error(`a tensor of ${dtype} is not read here`);
}

const half = new Float32Array(1);
const halfBits = new Uint32Array(half.buffer);

/** Shifted into a float32 its exponent is 112 too small; multiplying corrects that, denormals included. */
function fromHalf(pattern) {
  halfBits[0] = ((pattern & 0x8000) << 16) | ((pattern & 0x7fff) << 13);
  return half[0] * 2 ** 112;
}
