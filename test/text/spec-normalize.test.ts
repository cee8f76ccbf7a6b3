import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SpecError } from '../../generator/diagnostics/index.ts';
import {
  codec,
  defineCache,
  hadamard,
  hadamardOrder,
  log,
  normalize,
  normalizeAll,
  orthogonal,
  polar,
  type SpecContext,
  tiles,
} from '../../generator/spec/index.ts';

const paper = codec({ headDim: 128, polar: polar({ bits: [4, 2, 2, 2] }) });
const cache = defineCache({ name: 'llama_d128', key: paper, value: paper });
const TARGETS = [
  { id: 'lattice', reservedWords: ['kernel'], arithmetics: [{ id: 'float' }, { id: 'int8' }] },
  { id: 'vector', arithmetics: [{ id: 'float' }] },
];

/** The rendered mistakes of a spec, one a line. */
function mistakes(input: unknown, context: SpecContext = { targets: TARGETS }): string {
  return mistakesOf([input], context);
}

function mistakesOf(inputs: readonly unknown[], context: SpecContext = { targets: TARGETS }) {
  try {
    normalizeAll(inputs, context);
  } catch (error) {
    expect(error).toBeInstanceOf(SpecError);
    return (error as SpecError).message;
  }
  return 'valid';
}

const withKey = (fields: object) => mistakes({ ...cache, key: { ...paper, ...fields } });
const withPolar = (fields: object) => withKey({ polar: { bits: [4, 2, 2, 2], ...fields } });
const withCache = (fields: object) => mistakes({ ...cache, ...fields });

describe('a valid spec', () => {
  test('gets every default', () => {
    const filled = {
      headDim: 128,
      precondition: { kind: 'hadamard', seed: 0 },
      polar: { depth: 4, bits: [4, 2, 2, 2], codebooks: {} },
      radius: 'f16',
      center: false,
      layout: { kind: 'rows' },
    };
    expect(normalize(cache)).toEqual({
      name: 'llama_d128',
      key: filled,
      value: filled,
      queryGroup: 1,
      pageTokens: 64,
      dense: 'f16',
      arithmetic: {},
    });
  });

  test('keeps what it was given, and key and value apart', () => {
    const spec = normalize(
      defineCache({
        name: 'mixed',
        key: codec({
          headDim: 192,
          precondition: orthogonal({ seed: 4294967295 }),
          polar: polar({ depth: 2, bits: [3, 1], codebooks: { 2: [0.5, 1.1] } }),
          radius: log({ bits: 4 }),
          center: true,
          layout: tiles({ tokens: 32 }),
        }),
        value: codec({
          headDim: 128,
          precondition: hadamard({ seed: 7 }),
          polar: polar({ bits: [8] }),
        }),
        queryGroup: 16,
        pageTokens: 96,
        dense: 'bf16',
        arithmetic: { vector: 'float', lattice: 'int8' },
      }),
      { targets: TARGETS },
    );
    expect(spec.key).toEqual({
      headDim: 192,
      precondition: { kind: 'orthogonal', seed: 4294967295 },
      polar: { depth: 2, bits: [3, 1], codebooks: { 2: [0.5, 1.1] } },
      radius: { kind: 'log', bits: 4 },
      center: true,
      layout: { kind: 'tiles', tokens: 32 },
    });
    expect(spec.value.headDim).toBe(128);
    expect(spec.arithmetic).toEqual({ lattice: 'int8', vector: 'float' });
    expect([spec.queryGroup, spec.pageTokens, spec.dense]).toEqual([16, 96, 'bf16']);
  });

  test('cannot be changed afterwards, nor through what it was made from', () => {
    const bits: [4, 2, 2, 2] = [4, 2, 2, 2];
    const spec = normalize({ ...cache, key: { ...paper, polar: { bits } } });
    (bits as number[])[1] = 6;
    expect(spec.key.polar.bits).toEqual([4, 2, 2, 2]);
    expect(() => {
      (spec.key.polar.bits as number[])[0] = 1;
    }).toThrow(TypeError);
  });

  test('any draw from the whole space of the rules is one', () => {
    const drawnCodec = fc
      .record({
        headDim: fc.integer({ min: 8, max: 320 }).map((half) => 2 * half),
        cut: fc.nat(),
        levelOne: fc.integer({ min: 1, max: 8 }),
        upper: fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 9, maxLength: 9 }),
        seed: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
        kind: fc.constantFrom('hadamard', 'orthogonal', 'matrix', 'none'),
        radius: fc.constantFrom('f16', 'bf16', 'f32', 'log'),
        center: fc.boolean(),
        tiled: fc.boolean(),
      })
      .map((draw) => {
        const deepest = Math.log2(draw.headDim & -draw.headDim);
        const depth = 1 + (draw.cut % deepest);
        const kind =
          draw.kind === 'hadamard' && hadamardOrder(draw.headDim) === undefined
            ? 'none'
            : draw.kind;
        return {
          headDim: draw.headDim,
          precondition:
            kind === 'hadamard' || kind === 'orthogonal' ? { kind, seed: draw.seed } : { kind },
          polar: { bits: [draw.levelOne, ...draw.upper].slice(0, depth) },
          radius:
            draw.radius !== 'log'
              ? draw.radius
              : draw.headDim > 2 ** depth
                ? { kind: 'log', bits: draw.levelOne }
                : 'f32',
          center: draw.center,
          layout: draw.tiled ? { kind: 'tiles', tokens: 32 } : { kind: 'rows' },
        };
      });
    fc.assert(
      fc.property(
        drawnCodec,
        drawnCodec,
        fc.integer({ min: 1, max: 16 }),
        fc.integer({ min: 1, max: 2048 }),
        (key, value, queryGroup, tilesAPage) => {
          const input = { name: 'drawn', key, value, queryGroup, pageTokens: 32 * tilesAPage };
          const spec = normalize(input);
          expect(spec.key).toMatchObject(key);
          expect(spec.value).toMatchObject(value);
          expect(spec.key.headDim % 2 ** spec.key.polar.depth).toBe(0);
        },
      ),
    );
  });
});

describe('mistakes are named', () => {
  test('no record', () => {
    expect(mistakes(undefined)).toMatchInlineSnapshot(
      `"error[P001] spec: missing → write defineCache({ name, key, value })"`,
    );
    expect(mistakes([])).toMatchInlineSnapshot(
      `"error[P001] spec: [] is no record → write defineCache({ name, key, value })"`,
    );
    expect(mistakes({ name: 'a' })).toMatchInlineSnapshot(`
      "error[P001] key: missing → write codec({ headDim: 128, polar: polar({ bits: [4, 2, 2, 2] }) })
      error[P001] value: missing → write codec({ headDim: 128, polar: polar({ bits: [4, 2, 2, 2] }) })"
    `);
    expect(withKey({ polar: 'deep' })).toMatchInlineSnapshot(
      `"error[P001] key.polar: 'deep' is no record → write polar({ bits: [4, 2, 2, 2] })"`,
    );
    expect(withPolar({ codebooks: [1] })).toMatchInlineSnapshot(
      `"error[P001] key.polar.codebooks: [1] is no record of codebooks → write a list of angles a level, for example { 2: [0.3, 0.6, 0.9, 1.2] }"`,
    );
    expect(withCache({ arithmetic: 'int8' })).toMatchInlineSnapshot(
      `"error[P001] arithmetic: 'int8' is no record of arithmetics → write one arithmetic a target, for example { lattice: 'float' }"`,
    );
  });

  test('unknown properties', () => {
    expect(withCache({ queryGroups: 4 })).toMatchInlineSnapshot(
      `"error[P002] queryGroups: there is no 'queryGroups' here → did you mean 'queryGroup'?"`,
    );
    expect(withKey({ headDimension: 64, colour: 'red' })).toMatchInlineSnapshot(`
      "error[P002] key.headDimension: there is no 'headDimension' here → did you mean 'headDim'?
      error[P002] key.colour: there is no 'colour' here → use headDim, precondition, polar, radius, center, layout"
    `);
    expect(withPolar({ bit: [4] })).toMatchInlineSnapshot(
      `"error[P002] key.polar.bit: there is no 'bit' here → did you mean 'bits'?"`,
    );
    expect(withKey({ precondition: { kind: 'none', seed: 3 } })).toMatchInlineSnapshot(
      `"error[P002] key.precondition.seed: there is no 'seed' here → use kind"`,
    );
    expect(withKey({ layout: { kind: 'rows', token: 32 } })).toMatchInlineSnapshot(
      `"error[P002] key.layout.token: there is no 'token' here → use kind"`,
    );
  });

  test('names', () => {
    const names = [
      undefined,
      '',
      7,
      '../escape',
      '9lives',
      '_x',
      'x_',
      'a__b',
      'class',
      'KERNEL',
      'con',
      'polarc_d64',
      'a'.repeat(65),
      'llama-d128',
      'ключ',
    ];
    expect(names.map((name) => withCache({ name })).join('\n')).toMatchInlineSnapshot(`
      "error[P003] name: missing → write an identifier, for example 'llama_d128'
      error[P003] name: '' is no identifier → write an identifier, for example 'llama_d128'
      error[P003] name: 7 is no identifier → write an identifier, for example 'llama_d128'
      error[P003] name: '../escape' has characters other than letters, digits and _ → write an identifier, for example 'escape'
      error[P003] name: '9lives' begins with a digit → write an identifier, for example 'lives'
      error[P003] name: '_x' begins with _ → write an identifier, for example 'x'
      error[P003] name: 'x_' ends with _ → write an identifier, for example 'x'
      error[P003] name: 'a__b' has two _ in a row → write an identifier, for example 'a_b'
      error[P004] name: 'class' is a reserved word → add to it, for example 'class_cache'
      error[P004] name: 'KERNEL' is a reserved word → add to it, for example 'KERNEL_cache'
      error[P004] name: 'con' is a reserved word → add to it, for example 'con_cache'
      error[P004] name: 'polarc_d64' begins like the names of the ABI → do not begin with 'polarc', for example 'd64'
      error[P003] name: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa… has 65 characters, more than 64 → write an identifier, for example 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'
      error[P003] name: 'llama-d128' has characters other than letters, digits and _ → write an identifier, for example 'llama_d128'
      error[P003] name: 'ключ' has characters other than letters, digits and _ → write an identifier, for example 'llama_d128'"
    `);
  });

  test('names that clash', () => {
    const named = (...names: string[]) => mistakesOf(names.map((name) => ({ ...cache, name })));
    expect(named('a', 'b', 'a')).toMatchInlineSnapshot(
      `"error[P005] caches[2].name: 'a' is the name of caches[0] → give every cache a name of its own: files and classes are named after it"`,
    );
    expect(named('Llama', 'llama')).toMatchInlineSnapshot(
      `"error[P005] caches[1].name: 'llama' differs too little from 'Llama', the name of caches[0] → give every cache a name of its own: files and classes are named after it"`,
    );
    expect(named('a_1', 'a1')).toMatchInlineSnapshot(
      `"error[P005] caches[1].name: 'a1' differs too little from 'a_1', the name of caches[0] → give every cache a name of its own: files and classes are named after it"`,
    );
    expect(named('a_b', 'ab')).toBe('valid');
  });

  test('head dimensions', () => {
    const dims = [undefined, '128', 15, 641, 64.5, Number.NaN, 0, -128];
    expect(dims.map((headDim) => withKey({ headDim })).join('\n')).toMatchInlineSnapshot(`
      "error[P010] key.headDim: missing → write a whole number from 16 to 640
      error[P010] key.headDim: '128' is no head dimension → write a whole number from 16 to 640
      error[P010] key.headDim: 15 is no head dimension → write a whole number from 16 to 640
      error[P010] key.headDim: 641 is no head dimension → write a whole number from 16 to 640
      error[P010] key.headDim: 64.5 is no head dimension → write a whole number from 16 to 640
      error[P010] key.headDim: NaN is no head dimension → write a whole number from 16 to 640
      error[P010] key.headDim: 0 is no head dimension → write a whole number from 16 to 640
      error[P010] key.headDim: -128 is no head dimension → write a whole number from 16 to 640"
    `);
  });

  test('depths', () => {
    expect(withPolar({ depth: 0 })).toMatchInlineSnapshot(
      `"error[P011] key.polar.depth: depth 0 for head dimension 128 → write a whole number from 1 to 7"`,
    );
    expect(withPolar({ depth: 8, bits: [4, 2, 2, 2, 2, 2, 2, 2] })).toMatchInlineSnapshot(
      `"error[P011] key.polar.depth: depth 8 for head dimension 128 → write a whole number from 1 to 7"`,
    );
    expect(withPolar({ depth: '4' })).toMatchInlineSnapshot(
      `"error[P011] key.polar.depth: depth '4' for head dimension 128 → write a whole number from 1 to 7"`,
    );
    expect(withKey({ headDim: 80, polar: { bits: [4, 2, 2, 2, 2] } })).toMatchInlineSnapshot(
      `"error[P011] key.polar.depth: 2^5 = 32 does not divide head dimension 80 → write a depth from 1 to 4, with as many bits"`,
    );
    expect(withKey({ headDim: 18, precondition: { kind: 'none' } })).toMatchInlineSnapshot(
      `"error[P011] key.polar.depth: 2^4 = 16 does not divide head dimension 18 → write depth 1, with as many bits"`,
    );
    expect(withKey({ headDim: 65, precondition: { kind: 'none' } })).toMatchInlineSnapshot(
      `"error[P011] key.polar.depth: 2^4 = 16 does not divide head dimension 65 → write an even head dimension, for example 64 or 80"`,
    );
  });

  test('bits', () => {
    expect(withPolar({ depth: 4, bits: [4, 2, 2] })).toMatchInlineSnapshot(
      `"error[P012] key.polar.bits: 3 entries for depth 4 → write one a level, for example [4, 2, 2, 2]"`,
    );
    expect(withPolar({ bits: undefined })).toMatchInlineSnapshot(
      `"error[P012] key.polar.bits: missing → write one entry a level, for example [4, 2, 2, 2]"`,
    );
    expect(withPolar({ bits: '4,2,2,2' })).toMatchInlineSnapshot(
      `"error[P012] key.polar.bits: '4,2,2,2' is no list of bits → write one entry a level, for example [4, 2, 2, 2]"`,
    );
    expect(withPolar({ bits: [] })).toMatchInlineSnapshot(
      `"error[P012] key.polar.bits: [] is no list of bits → write one entry a level, for example [4, 2, 2, 2]"`,
    );
    expect(withPolar({ bits: [0, 2, 7, 1.5] })).toMatchInlineSnapshot(`
      "error[P013] key.polar.bits[0]: 0 bits at level 1 → write a whole number from 1 to 8
      error[P013] key.polar.bits[2]: 7 bits at level 3 → write a whole number from 1 to 6
      error[P013] key.polar.bits[3]: 1.5 bits at level 4 → write a whole number from 1 to 6"
    `);
    expect(withPolar({ bits: [9, 2, '2', null] })).toMatchInlineSnapshot(`
      "error[P013] key.polar.bits[0]: 9 bits at level 1 → write a whole number from 1 to 8
      error[P013] key.polar.bits[2]: '2' bits at level 3 → write a whole number from 1 to 6
      error[P013] key.polar.bits[3]: null bits at level 4 → write a whole number from 1 to 6"
    `);
  });

  test('codebooks', () => {
    expect(withPolar({ codebooks: { 1: [0.1], 5: [0.1], two: [] } })).toMatchInlineSnapshot(`
      "error[P014] key.polar.codebooks.1: level 1 is uniform and has no codebook of its own → use levels 2 to 4
      error[P014] key.polar.codebooks.5: there is no level '5' with a codebook of its own → use levels 2 to 4
      error[P014] key.polar.codebooks.two: there is no level 'two' with a codebook of its own → use levels 2 to 4"
    `);
    expect(withPolar({ bits: [4], codebooks: { 2: [0.1, 0.2] } })).toMatchInlineSnapshot(
      `"error[P014] key.polar.codebooks.2: there is no level '2' with a codebook of its own → leave it out"`,
    );
    expect(
      withPolar({ codebooks: { 2: [0.1, 0.2], 3: [0.1, 0.3, 0.2, 0.4], 4: [0, 0.5, 1, 1.2] } }),
    ).toMatchInlineSnapshot(`
      "error[P015] key.polar.codebooks.2: [0.1, 0.2] has 2 entries instead of 4 → write 4 angles in radians, ascending, each above 0 and below π/2
      error[P015] key.polar.codebooks.3: [0.1, 0.3, 0.2, 0.4] does not ascend at index 2 → write 4 angles in radians, ascending, each above 0 and below π/2
      error[P015] key.polar.codebooks.4: [0, 0.5, 1, 1.2] has 0 at index 0, not between 0 and π/2 → write 4 angles in radians, ascending, each above 0 and below π/2"
    `);
    expect(
      withPolar({ codebooks: { 2: 0.1, 3: [0.1, 0.3, 0.3, 0.4], 4: [0.2, 0.5, 1, Math.PI / 2] } }),
    ).toMatchInlineSnapshot(`
      "error[P015] key.polar.codebooks.2: 0.1 is no list of angles → write 4 angles in radians, ascending, each above 0 and below π/2
      error[P015] key.polar.codebooks.3: [0.1, 0.3, 0.3, 0.4] does not ascend at index 2 → write 4 angles in radians, ascending, each above 0 and below π/2
      error[P015] key.polar.codebooks.4: [0.2, 0.5, 1, 1.5707963267948966] has 1.5707963267948966 at index 3, not between 0 and π/2 → write 4 angles in radians, ascending, each above 0 and below π/2"
    `);
  });

  test('preconditioners', () => {
    expect(withKey({ precondition: 'hadamrd' })).toMatchInlineSnapshot(
      `"error[P020] key.precondition: 'hadamrd' is no preconditioner → write hadamard({ seed: 0 })"`,
    );
    expect(withKey({ precondition: 'none' })).toMatchInlineSnapshot(
      `"error[P020] key.precondition: 'none' is no preconditioner → write none()"`,
    );
    expect(withKey({ precondition: { kind: 'fourier' } })).toMatchInlineSnapshot(
      `"error[P020] key.precondition: { kind: 'fourier' } is no preconditioner → write hadamard({ seed: 0 }), orthogonal({ seed: 0 }), matrix() or none()"`,
    );
    expect(withKey({ precondition: { kind: 'hadamard' } })).toMatchInlineSnapshot(
      `"error[P022] key.precondition.seed: missing → write a whole number from 0 to 4294967295"`,
    );
    expect(withKey({ precondition: { kind: 'orthogonal', seed: -1 } })).toMatchInlineSnapshot(
      `"error[P022] key.precondition.seed: -1 is no seed → write a whole number from 0 to 4294967295"`,
    );
    expect(withKey({ precondition: { kind: 'hadamard', seed: 2 ** 32 } })).toMatchInlineSnapshot(
      `"error[P022] key.precondition.seed: 4294967296 is no seed → write a whole number from 0 to 4294967295"`,
    );
    expect(
      withKey({ headDim: 176, precondition: { kind: 'hadamard', seed: 5 } }),
    ).toMatchInlineSnapshot(
      `"error[P021] key.precondition: no Hadamard matrix of order 176 = m·2^k with m one of 1, 12, 20, 28, 36 → write orthogonal({ seed: 5 }), which any head dimension has; the nearest with a Hadamard matrix are 160 and 192"`,
    );
    expect(withKey({ headDim: 208 })).toMatchInlineSnapshot(
      `"error[P021] key.precondition: no Hadamard matrix of order 208 = m·2^k with m one of 1, 12, 20, 28, 36 → write orthogonal({ seed: 0 }), which any head dimension has; the nearest with a Hadamard matrix are 192 and 224"`,
    );
  });

  test('radii', () => {
    expect(withKey({ radius: 'f8' })).toMatchInlineSnapshot(
      `"error[P030] key.radius: 'f8' is no radius format → write 'f16', 'bf16', 'f32' or log({ bits: 4 })"`,
    );
    expect(withKey({ radius: 16 })).toMatchInlineSnapshot(
      `"error[P030] key.radius: 16 is no radius format → write 'f16', 'bf16', 'f32' or log({ bits: 4 })"`,
    );
    expect(withKey({ radius: { kind: 'log', bits: 9 } })).toMatchInlineSnapshot(
      `"error[P031] key.radius.bits: 9 bits for a log radius → write a whole number from 1 to 8"`,
    );
    expect(withKey({ radius: { kind: 'log' } })).toMatchInlineSnapshot(
      `"error[P031] key.radius.bits: missing → write a whole number from 1 to 8"`,
    );
    expect(withKey({ headDim: 16, radius: { kind: 'log', bits: 4 } })).toMatchInlineSnapshot(
      `"error[P031] key.radius: depth 4 leaves one radius, and a log radius is relative to others → write 'f16', or a depth below 4"`,
    );
    expect(withKey({ center: 'yes' })).toMatchInlineSnapshot(
      `"error[P032] key.center: 'yes' is neither true nor false → write true to subtract a run-time mean, or leave it out"`,
    );
  });

  test('layouts and pages', () => {
    const tiled = { ...paper, layout: { kind: 'tiles', tokens: 32 } };
    expect(withKey({ layout: 'tiles' })).toMatchInlineSnapshot(
      `"error[P040] key.layout: 'tiles' is no layout → write rows() or tiles({ tokens: 32 })"`,
    );
    expect(withKey({ layout: { kind: 'tiles', tokens: 16 } })).toMatchInlineSnapshot(
      `"error[P041] key.layout.tokens: a tile of 16 tokens → write tiles({ tokens: 32 })"`,
    );
    expect(withKey({ layout: { kind: 'tiles' } })).toMatchInlineSnapshot(
      `"error[P041] key.layout.tokens: missing → write tiles({ tokens: 32 })"`,
    );
    expect(withCache({ pageTokens: 0 })).toMatchInlineSnapshot(
      `"error[P051] pageTokens: 0 tokens a page → write a whole number from 1 to 65536"`,
    );
    expect(withCache({ pageTokens: 65537, value: tiled })).toMatchInlineSnapshot(
      `"error[P051] pageTokens: 65537 tokens a page → write a whole number from 1 to 65536, a multiple of 32"`,
    );
    expect(withCache({ pageTokens: 48, value: tiled })).toMatchInlineSnapshot(
      `"error[P051] pageTokens: 48 tokens a page are no whole number of tiles of 32 tokens → write a multiple of 32, for example 64"`,
    );
    expect(withCache({ pageTokens: 16, key: tiled })).toMatchInlineSnapshot(
      `"error[P051] pageTokens: 16 tokens a page are no whole number of tiles of 32 tokens → write a multiple of 32, for example 32"`,
    );
    expect(withCache({ pageTokens: 48 })).toBe('valid');
  });

  test('groups, dense rows, arithmetics', () => {
    expect(withCache({ queryGroup: 0 })).toMatchInlineSnapshot(
      `"error[P050] queryGroup: 0 query heads a KV head → write a whole number from 1 to 16"`,
    );
    expect(withCache({ queryGroup: 17 })).toMatchInlineSnapshot(
      `"error[P050] queryGroup: 17 query heads a KV head → write a whole number from 1 to 16"`,
    );
    expect(withCache({ dense: 'f64' })).toMatchInlineSnapshot(
      `"error[P052] dense: 'f64' is no dtype → write 'f16', 'bf16' or 'f32'"`,
    );
    expect(withCache({ arithmetic: { latice: 'float' } })).toMatchInlineSnapshot(
      `"error[P060] arithmetic.latice: there is no target 'latice'; did you mean 'lattice'? → write one of 'lattice', 'vector'"`,
    );
    expect(withCache({ arithmetic: { abacus: 'float' } })).toMatchInlineSnapshot(
      `"error[P060] arithmetic.abacus: there is no target 'abacus' → write one of 'lattice', 'vector'"`,
    );
    expect(withCache({ arithmetic: { lattice: 'int4', vector: 8 } })).toMatchInlineSnapshot(`
      "error[P061] arithmetic.lattice: 'int4' is no arithmetic of target 'lattice' → write 'float' or 'int8'
      error[P061] arithmetic.vector: 8 is no arithmetic of target 'vector' → write 'float'"
    `);
  });

  test('all at once, with the place of each in a config', () => {
    expect(
      mistakesOf([
        cache,
        {
          name: 'for',
          key: { headDim: 100, polar: { depth: 3, bits: [0, 2] } },
          value: { headDim: 128, polar: { bits: [4, 2, 2, 2] }, radius: 'f12' },
          queryGroup: 0,
        },
      ]),
    ).toMatchInlineSnapshot(`
      "error[P021] caches[1].key.precondition: no Hadamard matrix of order 100 = m·2^k with m one of 1, 12, 20, 28, 36 → write orthogonal({ seed: 0 }), which any head dimension has; the nearest with a Hadamard matrix are 96 and 112
      error[P011] caches[1].key.polar.depth: 2^3 = 8 does not divide head dimension 100 → write a depth from 1 to 2, with as many bits
      error[P012] caches[1].key.polar.bits: 2 entries for depth 3 → write one a level, for example [4, 2, 2]
      error[P013] caches[1].key.polar.bits[0]: 0 bits at level 1 → write a whole number from 1 to 8
      error[P030] caches[1].value.radius: 'f12' is no radius format → write 'f16', 'bf16', 'f32' or log({ bits: 4 })
      error[P004] caches[1].name: 'for' is a reserved word → add to it, for example 'for_cache'
      error[P050] caches[1].queryGroup: 0 query heads a KV head → write a whole number from 1 to 16"
    `);
  });

  test('with the value itself beside the text', () => {
    try {
      normalize({ ...cache, queryGroup: 99 });
      expect.unreachable();
    } catch (error) {
      expect((error as SpecError).diagnostics).toEqual([
        {
          code: 'P050',
          path: 'queryGroup',
          value: 99,
          message: '99 query heads a KV head',
          fix: 'write a whole number from 1 to 16',
        },
      ]);
    }
  });
});
