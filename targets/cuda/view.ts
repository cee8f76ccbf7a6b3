/** Plan → the files of a cache for CUDA: a folder with device code, launchers, a header and what builds them. */

import { fileStem, includeGuard, symbolPrefix } from '../../generator/naming/index.ts';
import { type Plan, ROLES, type Role } from '../../generator/plan/index.ts';
import { bitMap, type FileView, summary, type View } from '../../generator/target/index.ts';
import { cellCodecView } from './attention-view.ts';
import { codecView } from './codec-view.ts';
import { coderView } from './coder-view.ts';
import { halfView } from './half-view.ts';
import { hostView } from './host-view.ts';
import { nodeFiles } from './node-view.ts';

export const ID = 'cuda';

const PLURAL: Readonly<Record<Role, string>> = { key: 'Keys', value: 'Values' };

/** Below the output folder: `cuda/llama-d128`. */
export function cacheFolder(name: string): string {
  return `${ID}/${fileStem(name)}`;
}

export function files(plan: Plan): readonly FileView[] {
  const view = cacheView(plan);
  const folder = cacheFolder(plan.name);
  const stem = fileStem(plan.name);
  const file = (name: string, template: string, part: string): FileView => ({
    path: `${folder}/${name}`,
    template: `cuda/${template}.hbs`,
    view,
    part,
  });
  return [
    file(`${stem}.h`, 'cache.h', 'C ABI'),
    file(`${stem}.cuh`, 'cache.cuh', 'device code'),
    file(`${stem}.cu`, 'cache.cu', 'launchers'),
    file('CMakeLists.txt', 'CMakeLists.txt', 'build of the shared library'),
    file('example.cu', 'example.cu', 'example'),
    ...nodeFiles(plan),
  ];
}

export function cacheView(plan: Plan): View {
  const prefix = `${symbolPrefix(plan.name, ID)}_`;
  const sameFormat = plan.key.formatHash === plan.value.formatHash;
  const distinct: readonly Role[] = sameFormat ? ['key'] : ROLES;
  // Parameters get a line of their own behind a long name.
  const open = prefix.length > 24 ? '\n    ' : '';
  return {
    name: plan.name,
    stem: fileStem(plan.name),
    guard: includeGuard(plan.name, ID),
    prefix,
    /** Namespace of the device code and of the launchers. */
    space: symbolPrefix(plan.name, ID),
    open,
    group: String(plan.queryGroup),
    pageTokens: String(plan.pageTokens),
    denseDtype: `POLARC_${plan.dense.toUpperCase()}`,
    keyHash: plan.key.formatHash,
    valueHash: plan.value.formatHash,
    planHash: plan.planHash,
    sameFormat,
    keySummary: summary('keys', plan.key),
    valueSummary: summary('values', plan.value),
    formats: distinct.map((role) => ({
      lines: bitMap(sameFormat ? 'Keys and values' : PLURAL[role], plan[role]).map((line) =>
        line === '' ? '//' : `// ${line}`,
      ),
    })),
    codecs: distinct.map((role) => ({
      prefix,
      open,
      ...codecView(role, plan[role]),
      ...coderView(role, plan[role]),
      ...cellCodecView(plan[role]),
    })),
    anyLog: distinct.some((role) => plan[role].radius.kind === 'log'),
    ...halfView(plan),
    ...hostView(plan),
  };
}
