import { goldenFile, matrixFile, planFile } from '../naming/index.ts';
import { orthogonalMatrix, type Plan, planJson, ROLES } from '../plan/index.ts';
import { goldenVectors } from '../reference/index.ts';
import { writeSafetensors } from '../safetensors/index.ts';
import type { Target } from '../target/index.ts';
import type { OutputCache, OutputFile } from './changes.ts';
import type { Source } from './header.ts';
import { type RenderedFile, render } from './render.ts';

/**
 * Every file of one cache: its plan, the golden vectors and the matrices of `orthogonal` codecs, and the files of each
 * target. Pure: same plan, targets and source, same bytes.
 */
export function emitCache(plan: Plan, targets: readonly Target[], source: Source): OutputCache {
  const files: OutputFile[] = sharedFiles(plan).map((file) => ({ ...file, target: null }));
  for (const target of targets) {
    for (const file of render(plan, target, source)) files.push({ ...file, target: target.id });
  }
  return { name: plan.name, source: source.name, planHash: plan.planHash, files };
}

/** What all targets share. */
export function sharedFiles(plan: Plan): RenderedFile[] {
  return [
    { path: planFile(plan.name), content: planJson(plan) },
    { path: goldenFile(plan.name), content: goldenVectors(plan) },
    ...matrixFiles(plan),
  ];
}

/** The tensor `matrix`, [d][d] float32, of each `orthogonal` codec. */
function matrixFiles(plan: Plan): RenderedFile[] {
  return ROLES.flatMap((role) => {
    const { headDim, precondition, formatHash } = plan[role];
    if (precondition.kind !== 'orthogonal') return [];
    const data = orthogonalMatrix(headDim, precondition.seed);
    const matrix = { dtype: 'F32', shape: [headDim, headDim], data } as const;
    const metadata = { formatHash, seed: String(precondition.seed) };
    return [{ path: matrixFile(plan.name, role), content: writeSafetensors({ matrix }, metadata) }];
  });
}
