import { describe, expect, it } from 'vitest';
import { UserError } from '../../generator/diagnostics/index.ts';
import {
  arrayOf,
  floatsOf,
  readSafetensors,
  tensorOf,
  writeSafetensors,
} from '../../generator/safetensors/index.ts';

/** A file with a header as given. */
function file(header: string | object, data = new Uint8Array(0), length?: number): Uint8Array {
  const text = new TextEncoder().encode(
    typeof header === 'string' ? header : JSON.stringify(header),
  );
  const bytes = new Uint8Array(8 + text.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length ?? text.length), true);
  bytes.set(text, 8);
  bytes.set(data, 8 + text.length);
  return bytes;
}

function refusal(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof UserError) return `${error.code} ${error.message}`;
    throw error;
  }
  return 'accepted';
}

const pair = (dtype: string, shape: unknown, offsets: unknown) => ({
  dtype,
  shape,
  data_offsets: offsets,
});

describe('writing', () => {
  const tensors = {
    bytes: { dtype: 'U8', shape: [3], data: Uint8Array.of(1, 2, 3) },
    doubles: { dtype: 'F64', shape: [1, 2], data: Float64Array.of(0.1, -0) },
    halves: { dtype: 'F16', shape: [2], data: Uint16Array.of(0x3c00, 0x7e00) },
    longs: { dtype: 'I64', shape: [1], data: BigInt64Array.of(-5n) },
    nothing: { dtype: 'F32', shape: [0, 4], data: new Float32Array(0) },
  } as const;

  it('gives back what was written', () => {
    const read = readSafetensors(writeSafetensors(tensors, { b: 'two', a: 'one' }));
    expect(read.metadata).toEqual({ a: 'one', b: 'two' });
    expect([...read.tensors.keys()]).toEqual(['bytes', 'doubles', 'halves', 'longs', 'nothing']);
    expect(arrayOf(read.tensors.get('bytes')!)).toEqual(tensors.bytes.data);
    expect(arrayOf(read.tensors.get('doubles')!)).toEqual(tensors.doubles.data);
    expect(arrayOf(read.tensors.get('halves')!)).toEqual(tensors.halves.data);
    expect(arrayOf(read.tensors.get('longs')!)).toEqual(tensors.longs.data);
    expect(read.tensors.get('nothing')!.shape).toEqual([0, 4]);
  });

  it('aligns every tensor to its element', () => {
    const bytes = writeSafetensors(tensors);
    for (const { dtype, data } of readSafetensors(bytes).tensors.values()) {
      const width = { U8: 1, F16: 2, F32: 4, F64: 8, I64: 8 }[dtype as 'U8']!;
      expect((data.byteOffset - bytes.byteOffset) % width).toBe(0);
    }
  });

  it('does not depend on the order of tensors and metadata', () => {
    const reversed = Object.fromEntries(Object.entries(tensors).reverse());
    expect(writeSafetensors(reversed, { a: 'one', b: 'two' })).toEqual(
      writeSafetensors(tensors, { b: 'two', a: 'one' }),
    );
  });
});

describe('floats', () => {
  it('come exactly from 16 bits', () => {
    const f16 = Uint16Array.of(0x0001, 0x8000, 0x03ff, 0x3555, 0x7bff, 0xfc00, 0x7e00);
    const bf16 = Uint16Array.of(0x0001, 0x8000, 0x3f80, 0x7f7f, 0xff80, 0x7fc0, 0x4049);
    const read = readSafetensors(
      writeSafetensors({
        f16: { dtype: 'F16', shape: [7], data: f16 },
        bf16: { dtype: 'BF16', shape: [7], data: bf16 },
      }),
    );
    expect([...floatsOf(tensorOf(read, 'f16'))]).toEqual([
      2 ** -24,
      -0,
      1023 * 2 ** -24,
      1365 * 2 ** -12,
      65504,
      -Infinity,
      NaN,
    ]);
    expect([...floatsOf(tensorOf(read, 'bf16'))]).toEqual([
      2 ** -133,
      -0,
      1,
      255 * 2 ** 120,
      -Infinity,
      NaN,
      3.140625,
    ]);
  });
});

describe('a broken file', () => {
  const eight = new Uint8Array(8);
  it.each([
    ['too short', Uint8Array.of(1, 2), 'P120 x: 2 bytes are too few for a .safetensors file'],
    [
      'something else',
      new TextEncoder().encode('GGUF is another format'),
      'P120 x: it is no .safetensors file: it does not begin with the length of a header',
    ],
    [
      'cut off in the header',
      file('{}', undefined, 50),
      'P120 x: its header needs 58 bytes, the file has 10: it is cut off',
    ],
    ['a list as header', file('[]'), 'P120 x: its header is not a JSON object'],
    [
      'cut off in the data',
      file({ a: pair('F32', [4], [0, 16]) }, eight),
      "P121 x: tensor 'a' ends at byte 16 of the data, which has 8: the file is cut off",
    ],
    [
      'an unknown dtype',
      file({ a: pair('F4', [4], [0, 2]) }, eight),
      "P121 x: tensor 'a' has the unknown dtype 'F4'",
    ],
    [
      'a dtype that is a property of every object',
      file({ a: pair('constructor', [4], [0, 4]) }, eight),
      "P121 x: tensor 'a' has the unknown dtype 'constructor'",
    ],
    [
      'a shape that does not fit',
      file({ a: pair('F32', [3], [0, 8]) }, eight),
      "P121 x: tensor 'a' of shape [3] in F32 takes 12 bytes, not 8",
    ],
    [
      'a negative size',
      file({ a: pair('F32', [-2], [0, 8]) }, eight),
      "P121 x: tensor 'a' has no list of sizes as its shape: [-2]",
    ],
    [
      'no offsets',
      file({ a: pair('F32', [2], [0]) }, eight),
      "P121 x: tensor 'a' has no pair of offsets: [0]",
    ],
    [
      'reversed offsets',
      file({ a: pair('F32', [2], [8, 0]) }, eight),
      "P121 x: tensor 'a' ends at byte 0, before it begins at 8",
    ],
    [
      'overlapping tensors',
      file({ b: pair('F32', [1], [2, 6]), a: pair('F32', [1], [0, 4]) }, eight),
      "P121 x: tensors 'a' and 'b' overlap",
    ],
    [
      'a tensor that is a number',
      file({ a: 1 }),
      "P121 x: tensor 'a' is not described by an object",
    ],
    [
      'metadata that is no text',
      file({ __metadata__: { a: 1 } }),
      'P121 x: __metadata__ is not an object of texts',
    ],
  ])('%s', (_, bytes, message) => {
    expect(refusal(() => readSafetensors(bytes, 'x'))).toBe(message);
  });

  it('not JSON', () => {
    expect(refusal(() => readSafetensors(file('{"a":'), 'x'))).toMatch(
      /^P120 x: its header is not JSON: /,
    );
  });
});

describe('a tensor by name', () => {
  const read = readSafetensors(
    writeSafetensors({ 'layer.0.key': { dtype: 'F32', shape: [2, 3], data: new Float32Array(6) } }),
  );
  it('is found', () => {
    expect(tensorOf(read, 'layer.0.key', { dtypes: ['F32'], shape: [-1, 3] }).shape).toEqual([
      2, 3,
    ]);
  });
  it('is refused', () => {
    expect(refusal(() => tensorOf(read, 'layer.1.key', {}, 'x'))).toBe(
      "P122 x has no tensor 'layer.1.key'",
    );
    expect(refusal(() => tensorOf(read, 'layer.0.key', { dtypes: ['F16'] }, 'x'))).toBe(
      "P122 x: tensor 'layer.0.key' is F32",
    );
    expect(refusal(() => tensorOf(read, 'layer.0.key', { shape: [2, 4] }, 'x'))).toBe(
      "P122 x: tensor 'layer.0.key' has shape [2, 3]",
    );
  });
});
