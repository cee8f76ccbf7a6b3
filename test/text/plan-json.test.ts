import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { UserError } from '../../generator/diagnostics/index.ts';
import {
  canonicalJson,
  lower,
  lowerCodec,
  type Plan,
  parsePlan,
  planJson,
} from '../../generator/plan/index.ts';
import type { Codec, Spec } from '../../generator/spec/types.ts';

const CODEC: Codec = {
  headDim: 64,
  precondition: { kind: 'hadamard', seed: 1 },
  polar: { depth: 4, bits: [4, 2, 2, 2], codebooks: {} },
  radius: 'f16',
  center: false,
  layout: { kind: 'rows' },
};

const spec = (changes: Partial<Spec> = {}): Spec =>
  ({
    name: 'cache',
    key: CODEC,
    value: CODEC,
    queryGroup: 4,
    pageTokens: 64,
    dense: 'f16',
    arithmetic: {},
    ...changes,
  }) as Spec;

const hash = (text: string): string => createHash('sha256').update(text).digest('hex');

describe('canonical JSON', () => {
  // RFC 8785, sections 3.2.2 and 3.2.3, and appendix B.
  test.each<[unknown, string]>([
    [{ b: [1, 'x', null, true], a: {} }, '{"a":{},"b":[1,"x",null,true]}'],
    [
      [333333333.3333333, 1e30, 4.5, 2e-3, 1e-27, -0],
      '[333333333.3333333,1e+30,4.5,0.002,1e-27,0]',
    ],
    ['€$\u000f\nA\'B"\\\\"/', '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'],
    [
      { '\u20ac': 1, '\r': 2, '\ufb33': 3, '1': 4, '\ud83d\ude00': 5, '\u0080': 6, '\u00f6': 7 },
      '{"\\r":2,"1":4,"\u0080":6,"\u00f6":7,"\u20ac":1,"\ud83d\ude00":5,"\ufb33":3}',
    ],
  ])('%j', (value, want) => {
    expect(canonicalJson(value)).toBe(want);
  });

  test.each([
    Number.NaN,
    Number.POSITIVE_INFINITY,
    undefined,
    '\ud800',
    { a: undefined },
    [() => 1],
  ])('refuses %j', (value) => {
    expect(() => canonicalJson(value)).toThrow(TypeError);
  });
});

describe('a plan', () => {
  test('comes back from its text', () => {
    const plan = lower(spec());
    const text = planJson(plan);
    expect(text.endsWith('}\n')).toBe(true);
    expect(parsePlan(text)).toEqual(plan);
    expect(planJson(parsePlan(text))).toBe(text);
    expect(parsePlan(JSON.stringify(plan, null, 2))).toEqual(plan);
  });

  test('planHash is the hash of all the rest', () => {
    const { planHash, ...rest } = lower(spec());
    expect(planHash).toBe(hash(canonicalJson(rest)));
  });

  test('formatHash is the hash of what decides bytes', () => {
    const { formatHash, error: _, ...codec } = lowerCodec(CODEC);
    const { error: _error, ...radius } = codec.radius;
    const levels = codec.levels.map((l) => ({
      level: l.level,
      bits: l.bits,
      nodes: l.nodes,
      cos: l.cos,
      sin: l.sin,
      thresholds: l.thresholds,
    }));
    expect(formatHash).toBe(hash(canonicalJson({ ...codec, levels, radius })));
  });

  test('all floats but angles and errors are float32', () => {
    const { levels, radius, scale } = lowerCodec({ ...CODEC, radius: { kind: 'log', bits: 4 } });
    const numbers = levels.flatMap((l) => [...l.cos, ...l.sin, ...l.thresholds]);
    if (radius.kind === 'log') numbers.push(...radius.levels, ...radius.thresholds);
    for (const x of [...numbers, scale]) expect(Math.fround(x)).toBe(x);
  });

  test('hashes follow what they stand for', () => {
    const base = lower(spec());
    const renamed = lower(spec({ name: 'other' }));
    expect(renamed.key.formatHash).toBe(base.key.formatHash);
    expect(renamed.planHash).not.toBe(base.planHash);
    const changes: Partial<Codec>[] = [
      { precondition: { kind: 'hadamard', seed: 2 } },
      { precondition: { kind: 'none' } },
      { radius: 'bf16' },
      { radius: { kind: 'log', bits: 3 } },
      { center: true },
      { layout: { kind: 'tiles', tokens: 32 } },
      { polar: { depth: 3, bits: [4, 2, 2], codebooks: {} } },
      { polar: { depth: 4, bits: [4, 2, 2, 2], codebooks: { 3: [0.4, 0.6, 0.9, 1.1] } } },
    ];
    const formats = changes.map((change) => lowerCodec({ ...CODEC, ...change }).formatHash);
    expect(new Set([...formats, base.key.formatHash]).size).toBe(changes.length + 1);
  });

  test('the bytes of a format do not change unnoticed', () => {
    // Caches on disk carry these hashes: they change only with the version of the plan.
    const deep: Codec = {
      headDim: 512,
      precondition: { kind: 'orthogonal', seed: 11 },
      polar: { depth: 8, bits: [8, 6, 5, 4, 3, 2, 1, 6], codebooks: {} },
      radius: { kind: 'log', bits: 8 },
      center: true,
      layout: { kind: 'tiles', tokens: 32 },
    };
    const paley: Codec = { ...CODEC, headDim: 576, polar: { depth: 1, bits: [3], codebooks: {} } };
    expect(
      [CODEC, deep, paley].map((codec) => lowerCodec(codec).formatHash),
    ).toMatchInlineSnapshot(`
      [
        "5267fbf563e51631c83e03361995ded80ffc9dc986a873f4fc52ecb399525904",
        "8491137bce4df282d3de95a437db9fb3dc144fbf5a93900a2a3dba85bc3d5e32",
        "a384401ae5ce3211d6649ad0f4bc62fa39ff8c3aba92f7b5c7475a64ba21e9f4",
      ]
    `);
  });
});

describe('a text that is no plan', () => {
  const changed = (change: (plan: Record<string, unknown>) => void, rehash = false): string => {
    const plan = JSON.parse(planJson(lower(spec())));
    change(plan);
    if (rehash) {
      const { planHash: _, ...rest } = plan;
      plan.planHash = hash(canonicalJson(rest));
    }
    return JSON.stringify(plan);
  };

  test.each<[string, string, string, RegExp]>([
    ['no JSON', 'plan', 'P110', /not JSON/],
    ['other JSON', '[1]', 'P110', /no planVersion/],
    [
      'another version',
      changed((p) => {
        p.planVersion = 2;
      }),
      'P111',
      /has version 2; .* reads 1/,
    ],
    [
      'a change',
      changed((p) => {
        p.queryGroup = 8;
      }),
      'P112',
      /planHash is "/,
    ],
    [
      'a change below a new planHash',
      changed((p) => {
        (p.value as { center: boolean }).center = true;
      }, true),
      'P112',
      /value codec was changed .* formatHash is "/,
    ],
    [
      'no key',
      changed((p) => {
        delete p.key;
      }, true),
      'P110',
      /no key codec/,
    ],
  ])('%s', (_, text, code, message) => {
    let thrown: unknown;
    try {
      parsePlan(text);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(UserError);
    expect(thrown as UserError).toMatchObject({ code, hint: expect.stringContaining('polarc') });
    expect((thrown as UserError).message).toMatch(message);
  });
});

test('lowering twice gives the same text', () => {
  const of = (): Plan =>
    lower(spec({ value: { ...CODEC, precondition: { kind: 'orthogonal', seed: 4 } } }));
  expect(planJson(of())).toBe(planJson(of()));
});
