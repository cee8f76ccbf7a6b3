/** Plan → the files of a cache for AVX2. */

import { fileStem, includeGuard, symbolPrefix } from '../../generator/naming/index.ts';
import { type CodecPlan, type Plan, ROLES, type Role } from '../../generator/plan/index.ts';
import { bitMap, type FileView, summary, type View } from '../../generator/target/index.ts';
import { codecView } from './codec-view.ts';
import { wideView } from './wide-view.ts';
import { windowView } from './window-view.ts';

const ID = 'avx2';

/** Kernels that read packed or dense tokens, with what the header says of them. */
const ATTENTION: readonly { kernel: string; units: boolean; what: string }[] = [
  { kernel: 'scores', units: false, what: 'Logits of queries against packed keys.' },
  { kernel: 'weighted_sum', units: false, what: 'Sums of packed values by given weights.' },
  {
    kernel: 'attend',
    units: true,
    what: 'Softmax attention over packed keys and values, and its log-sum-exp.',
  },
  { kernel: 'attend_dense', units: true, what: 'The same over rows of full precision.' },
];

const PLURAL: Readonly<Record<Role, string>> = { key: 'Keys', value: 'Values' };

/** `NAME.h` and `NAME.cpp`. */
export function kernelFiles(plan: Plan): readonly FileView[] {
  const view = cacheView(plan);
  const stem = `${ID}/${fileStem(plan.name)}`;
  return [
    { path: `${stem}.h`, template: 'avx2/cache.h.hbs', view, part: 'kernels' },
    { path: `${stem}.cpp`, template: 'avx2/cache.cpp.hbs', view, part: 'kernels' },
  ];
}

function cacheView(plan: Plan): View {
  const prefix = `${symbolPrefix(plan.name, ID)}_`;
  // Parameters get a line of their own behind a long name.
  const open = prefix.length > 24 ? '\n    ' : '';
  const sameFormat = plan.key.formatHash === plan.value.formatHash;
  const distinct: readonly Role[] = sameFormat ? ['key'] : ROLES;
  return {
    name: plan.name,
    stem: fileStem(plan.name),
    guard: includeGuard(plan.name, ID),
    prefix,
    open,
    wrap: prefix.length > 60 ? '\n' : '',
    group: String(plan.queryGroup),
    pageTokens: String(plan.pageTokens),
    dense: { f32: plan.dense === 'f32', f16: plan.dense === 'f16', bf16: plan.dense === 'bf16' },
    denseDtype: `POLARC_${plan.dense.toUpperCase()}`,
    keyHash: plan.key.formatHash,
    valueHash: plan.value.formatHash,
    planHash: plan.planHash,
    sameFormat,
    anyTiles: distinct.some((role) => plan[role].layout.id === 'tiles32/1'),
    keySummary: summary('keys', plan.key),
    valueSummary: summary('values', plan.value),
    formats: distinct.map((role) => ({
      lines: mapLines(sameFormat ? 'Keys and values' : PLURAL[role], plan[role]),
    })),
    codecs: distinct.map((role) => ({
      ...codecView(role, plan[role]),
      ...windowView(plan[role]),
      ...(plan[role].layout.id === 'tiles32/1' ? wideView(plan[role]) : {}),
    })),
    roles: ROLES.map((role) => ({ role, prefix, open })),
    attention: ATTENTION.map(({ kernel, units, what }) => ({ kernel, units, what, prefix, open })),
  };
}

/** Lines of a comment: an empty one stays without a space at its end. */
function mapLines(what: string, codec: CodecPlan): readonly string[] {
  return bitMap(what, codec).map((line) => (line === '' ? '//' : `// ${line}`));
}
