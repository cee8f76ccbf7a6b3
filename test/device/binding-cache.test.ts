import { afterAll, beforeAll } from 'vitest';
import type { BuiltCache } from '../../generator/target/index.ts';
import { target } from '../../targets/avx2/index.ts';
import { describeCache, type Subject } from '../fixtures/cache-suite.ts';
import { emitted, emittedCacheClass } from '../fixtures/emitted.ts';
import { planOf } from '../fixtures/small-cache.ts';

let subject: Subject;
let built: BuiltCache;

beforeAll(async () => {
  const plan = planOf();
  const folder = emitted(plan, target);
  built = await target.build({ folder, plan, optimize: 1, threads: 2 });
  subject = { plan, kernels: built.calls, Cache: await emittedCacheClass(plan, folder) };
});

afterAll(() => built.close());

describeCache('AVX2', () => subject);
