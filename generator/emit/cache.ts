import { planFile } from '../naming/index.ts';
import { type Plan, planJson } from '../plan/index.ts';
import type { Target } from '../target/index.ts';
import type { OutputCache, OutputFile } from './changes.ts';
import type { Source } from './header.ts';
import { render } from './render.ts';

/**
 * Every file of one cache: the plan, what is computed from it alone, and the files of each target. Pure: same plan,
 * targets and source, same bytes.
 */
export function emitCache(plan: Plan, targets: readonly Target[], source: Source): OutputCache {
  const files: OutputFile[] = [
    { path: planFile(plan.name), content: planJson(plan), target: null },
  ];
  for (const target of targets) {
    for (const file of render(plan, target, source)) files.push({ ...file, target: target.id });
  }
  return { name: plan.name, source: source.name, planHash: plan.planHash, files };
}
