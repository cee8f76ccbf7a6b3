import type { LevelPlan } from '../plan/index.ts';

/** [cos, sin] of a code: of level 1 with the signs of both coordinates. */
export function directions(level: LevelPlan): [number, number][] {
  const { cos, sin, bits } = level;
  if (level.level > 1) return cos.map((c, i) => [c, sin[i]!]);
  if (bits === 1) {
    return [
      [0, sin[0]!],
      [0, -sin[0]!],
    ];
  }
  return Array.from({ length: 2 ** bits }, (_, code): [number, number] => {
    const magnitude = (code >> 1) & (2 ** (bits - 2) - 1);
    const c = cos[magnitude]!;
    const s = sin[magnitude]!;
    return [(code & 1) === 1 ? -c : c, code >> (bits - 1) === 1 ? -s : s];
  });
}
