import { TARGETS } from '../../targets/index.ts';
import { nearestWord, show, UserError } from '../diagnostics/index.ts';
import type { Target } from '../target/index.ts';

/** `a,b` or a list → ids; undefined: every target there is. Throws a UserError for a target that does not exist. */
export function targetIds(list: string | readonly string[] | undefined): readonly string[] {
  const known = TARGETS.map(({ id }) => id);
  if (list === undefined) return known;
  const ids = (typeof list === 'string' ? list.split(',') : list).map((id) => id.trim());
  for (const id of ids) {
    if (known.includes(id)) continue;
    const near = nearestWord(id, known);
    const hint =
      near === undefined ? `the targets are ${known.join(', ')}` : `did you mean '${near}'?`;
    throw new UserError('P060', `there is no target ${show(id)}`, hint);
  }
  return [...new Set(ids)];
}

export async function loadTargets(ids: readonly string[]): Promise<readonly Target[]> {
  return await Promise.all(
    TARGETS.filter(({ id }) => ids.includes(id)).map((entry) => entry.load()),
  );
}

/** All targets: what the rules of names and arithmetics of a spec depend on. */
export async function allTargets(): Promise<readonly Target[]> {
  return await loadTargets(targetIds(undefined));
}
