import { expect, test } from 'vitest';
import {
  camelCase,
  className,
  fileStem,
  includeGuard,
  macro,
  planFile,
  snakeCase,
  symbol,
} from '../../generator/naming/index.ts';

test('names of a cache', () => {
  expect(fileStem('llama_d128')).toBe('llama-d128');
  expect(planFile('llama_d128')).toBe('llama-d128.plan.json');
  expect(symbol('llama_d128', 'lattice', 'attend')).toBe('llama_d128_lattice_attend');
  expect(macro('llama_d128', 'lattice', 'head_dim')).toBe('LLAMA_D128_LATTICE_HEAD_DIM');
  expect(includeGuard('llama_d128', 'lattice')).toBe('LLAMA_D128_LATTICE_H');
});

test('class names', () => {
  const cases = [
    { given: 'llama_d128', want: 'LlamaD128' },
    { given: 'polar', want: 'Polar' },
    { given: 'kvCache_2', want: 'KvCache2' },
  ];
  for (const { given, want } of cases) expect(className(given)).toBe(want);
});

test('the ABI in TypeScript and back', () => {
  const cases = ['encode_key', 'q', 'kv_heads', 'always_visible', 'key_sequence_stride'];
  for (const name of cases) expect(snakeCase(camelCase(name))).toBe(name);
  expect(camelCase('weighted_sum')).toBe('weightedSum');
});
