import { beforeAll } from 'vitest';
import type { KernelCalls } from '../../generator/plan/index.ts';
import { target } from '../../targets/avx2/index.ts';
import { describeCache, type Subject } from '../fixtures/cache-suite.ts';
import { emitted, emittedCacheClass } from '../fixtures/emitted.ts';
import { referenceKernels } from '../fixtures/reference-kernels.ts';
import { planOf } from '../fixtures/small-cache.ts';

let subject: Subject;

beforeAll(async () => {
  const plan = planOf();
  // Of the files, only the class is used here.
  const folder = emitted(plan, { ...target, files: (p) => target.files(p).filter(isClass) });
  const Cache = await emittedCacheClass(plan, folder);
  const bytes = (length: number) => new Uint8Array(length);
  subject = { plan, kernels: { ...referenceKernels(plan), bytes } as KernelCalls, Cache };
});

const isClass = ({ path }: { path: string }): boolean => path.endsWith('.ts');

describeCache('the reference', () => subject);
