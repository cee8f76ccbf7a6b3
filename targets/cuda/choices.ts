/** What the cost model chose for a plan, for `inspect`. */

import { type Plan, ROLES } from '../../generator/plan/index.ts';
import type { Choice } from '../../generator/target/index.ts';
import {
  blockOf,
  cyclesOfVersion,
  noHalf,
  tableBytesOf,
  type Version,
  versionsOf,
} from './half-view.ts';

/** Shared memory that a block can have, in KiB. */
const SHARED: readonly { readonly architectures: readonly string[]; readonly kib: number }[] = [
  { architectures: ['sm_90', 'sm_100', 'sm_103'], kib: 227 },
  { architectures: ['sm_80', 'sm_87'], kib: 163 },
  { architectures: ['sm_86', 'sm_89', 'sm_120', 'sm_121'], kib: 99 },
  { architectures: ['sm_75'], kib: 64 },
];

/** Bytes of shared memory of a block of a version. */
const bytesOf = (version: Version, plan: Plan): number =>
  tableBytesOf(version, plan) + blockOf(plan).sumBytes;

/** Architectures whose launchers take each of the versions. */
export function architecturesOf(
  plan: Plan,
  versions: readonly Version[],
): readonly (readonly string[])[] {
  return versions.map((version, i) => {
    const on = SHARED.filter(({ kib }) => {
      const fits = (v: Version): boolean => bytesOf(v, plan) <= kib * 1024;
      return fits(version) && !versions.slice(0, i).some(fits);
    });
    return on.flatMap(({ architectures }) => architectures);
  });
}

export function choices(plan: Plan): readonly Choice[] {
  const reason = noHalf(plan);
  const asked = plan.arithmetic.cuda === 'half';
  if (reason !== null) {
    return [
      { what: `attend in float32; half precision is not for this format: ${reason}`, rows: [] },
    ];
  }
  const versions = versionsOf(plan);
  const on = architecturesOf(plan, versions);
  const what = asked
    ? 'attend in half precision'
    : "attend in float32; with arithmetic: { cuda: 'half' } it would be";
  return [
    {
      what: `${what}, ${blockOf(plan).warps} warps a block, by tables of joint codes`,
      rows: versions.map((version, i) => {
        const of = (figure: 'lookups' | 'wavefronts' | 'instructions'): string =>
          ROLES.map((role) => String(version.strategies[role][figure])).join(' and ');
        return {
          version: version.name,
          'shared KiB': (bytesOf(version, plan) / 1024).toFixed(1),
          'look-ups': of('lookups'),
          wavefronts: of('wavefronts'),
          instructions: of('instructions'),
          cycles: cyclesOfVersion(version, plan).toFixed(0),
          on: on[i]!.length === 0 ? 'none' : on[i]!.join(', '),
        };
      }),
      note: 'of a cell of 16 coordinates of keys and of values; cycles of a quarter of a multiprocessor for both',
    },
  ];
}
