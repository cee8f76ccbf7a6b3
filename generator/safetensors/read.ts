/** Reading .safetensors: 8 bytes of header length, a JSON header, the data. */

import { nearestWord, show, UserError } from '../diagnostics/index.ts';
import { DTYPE_BYTES, type Safetensors, type Tensor, type TensorDtype } from './types.ts';

/** What the format allows a header to take. */
const LONGEST_HEADER = 100_000_000;

/**
 * Reads a file's bytes. Tensors are views into them.
 *
 * @param name how errors call the file
 * @throws UserError P120 for a file that is cut off or is something else, P121 for a header that contradicts itself
 */
export function readSafetensors(bytes: Uint8Array, name = 'the file'): Safetensors {
  const broken = (message: string): UserError =>
    new UserError('P120', `${name}: ${message}`, 'download or write the file again');
  if (bytes.length < 8) throw broken(`${bytes.length} bytes are too few for a .safetensors file`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = Number(view.getBigUint64(0, true));
  if (length > LONGEST_HEADER) {
    throw broken('it is no .safetensors file: it does not begin with the length of a header');
  }
  if (8 + length > bytes.length) {
    throw broken(
      `its header needs ${8 + length} bytes, the file has ${bytes.length}: it is cut off`,
    );
  }
  let header: unknown;
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(8, 8 + length));
    header = JSON.parse(text);
  } catch (error) {
    throw broken(`its header is not JSON: ${(error as Error).message}`);
  }
  if (!isRecord(header)) throw broken('its header is not a JSON object');

  const data = bytes.subarray(8 + length);
  const tensors = new Map<string, Tensor>();
  const spans: Span[] = [];
  let metadata: Record<string, string> = {};
  for (const [key, value] of Object.entries(header)) {
    if (key === '__metadata__') {
      metadata = readMetadata(value, name);
      continue;
    }
    const { tensor, span } = readTensor(key, value, data, name);
    tensors.set(key, tensor);
    spans.push(span);
  }
  refuseOverlaps(spans, name);
  return { tensors, metadata };
}

/**
 * A tensor by name.
 *
 * @throws UserError P122 if it is missing or, with `dtypes` or `shape` given, of another dtype or shape (−1 stands for
 * any size)
 */
export function tensorOf(
  file: Safetensors,
  key: string,
  expected: { readonly dtypes?: readonly TensorDtype[]; readonly shape?: readonly number[] } = {},
  name = 'the file',
): Tensor {
  const tensor = file.tensors.get(key);
  if (tensor === undefined) {
    const near = nearestWord(key, file.tensors.keys());
    const hint =
      near === undefined ? `it has ${file.tensors.size} tensors` : `did you mean ${show(near)}?`;
    throw new UserError('P122', `${name} has no tensor ${show(key)}`, hint);
  }
  const { dtypes, shape } = expected;
  if (dtypes !== undefined && !dtypes.includes(tensor.dtype)) {
    throw new UserError(
      'P122',
      `${name}: tensor ${show(key)} is ${tensor.dtype}`,
      `store it as ${dtypes.join(' or ')}`,
    );
  }
  const fits =
    shape === undefined ||
    (shape.length === tensor.shape.length &&
      shape.every((size, axis) => size === -1 || size === tensor.shape[axis]));
  if (!fits) {
    const wanted = shape.map((size) => (size === -1 ? 'n' : size)).join(', ');
    throw new UserError(
      'P122',
      `${name}: tensor ${show(key)} has shape [${tensor.shape.join(', ')}]`,
      `its shape must be [${wanted}]`,
    );
  }
  return tensor;
}

interface Span {
  readonly key: string;
  readonly begin: number;
  readonly end: number;
}

function readTensor(
  key: string,
  value: unknown,
  data: Uint8Array,
  name: string,
): { readonly tensor: Tensor; readonly span: Span } {
  const wrong = (message: string): UserError => wrongHeader(name, `tensor ${show(key)} ${message}`);
  if (!isRecord(value)) throw wrong('is not described by an object');
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string' || !Object.hasOwn(DTYPE_BYTES, dtype)) {
    throw wrong(`has the unknown dtype ${show(dtype)}`);
  }
  if (!Array.isArray(shape) || !shape.every(isSize)) {
    throw wrong(`has no list of sizes as its shape: ${show(shape)}`);
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    throw wrong(`has no pair of offsets: ${show(offsets)}`);
  }
  const [begin, end] = offsets as [number, number];
  if (begin > end) throw wrong(`ends at byte ${end}, before it begins at ${begin}`);
  if (end > data.length) {
    throw wrong(`ends at byte ${end} of the data, which has ${data.length}: the file is cut off`);
  }
  const bytes = shape.reduce((product, size) => product * size, DTYPE_BYTES[dtype as TensorDtype]);
  if (bytes !== end - begin) {
    throw wrong(
      `of shape [${shape.join(', ')}] in ${dtype} takes ${bytes} bytes, not ${end - begin}`,
    );
  }
  return {
    tensor: { dtype: dtype as TensorDtype, shape, data: data.subarray(begin, end) },
    span: { key, begin, end },
  };
}

function refuseOverlaps(spans: readonly Span[], name: string): void {
  const filled = spans.filter((span) => span.end > span.begin).sort((a, b) => a.begin - b.begin);
  for (let i = 1; i < filled.length; i++) {
    const [before, after] = [filled[i - 1]!, filled[i]!];
    if (after.begin < before.end) {
      throw wrongHeader(name, `tensors ${show(before.key)} and ${show(after.key)} overlap`);
    }
  }
}

function readMetadata(value: unknown, name: string): Record<string, string> {
  if (!isRecord(value) || !Object.values(value).every((text) => typeof text === 'string')) {
    throw wrongHeader(name, '__metadata__ is not an object of texts');
  }
  return value as Record<string, string>;
}

function wrongHeader(name: string, message: string): UserError {
  return new UserError('P121', `${name}: ${message}`, 'write the file again');
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isSize(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
