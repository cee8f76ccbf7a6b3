/** A plan as the text that stands beside the kernels. */

import { UserError } from '../diagnostics/index.ts';
import { canonicalJson } from './canonical-json.ts';
import { sha256 } from './hash.ts';
import { formatHash } from './lower.ts';
import { type CodecPlan, PLAN_VERSION, type Plan, ROLES } from './types.ts';

/** Canonical JSON (RFC 8785) and a newline. */
export function planJson(plan: Plan): string {
  return `${canonicalJson(plan)}\n`;
}

const HINT = 'write the plan again with "polarc generate"';

/** The plan that `planJson` wrote; a `UserError` if the text is no plan, of another version or changed. */
export function parsePlan(text: string): Plan {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new UserError('P110', `the plan is not JSON: ${(error as Error).message}`, HINT);
  }
  if (!isRecord(parsed) || !('planVersion' in parsed)) {
    throw new UserError('P110', 'the JSON is no plan: it has no planVersion', HINT);
  }
  if (parsed.planVersion !== PLAN_VERSION) {
    throw new UserError(
      'P111',
      `the plan has version ${JSON.stringify(parsed.planVersion)}; this polarc reads ${PLAN_VERSION}`,
      'use the polarc that wrote the plan, or write it again with "polarc generate"',
    );
  }
  const { planHash, ...body } = parsed;
  const found = sha256(canonicalJson(body));
  if (planHash !== found) {
    throw new UserError(
      'P112',
      `the plan was changed after it was written: its planHash is ${JSON.stringify(planHash)}, its content hashes to "${found}"`,
      HINT,
    );
  }
  for (const role of ROLES) {
    const codec = parsed[role];
    if (!isCodec(codec)) throw new UserError('P110', `the plan has no ${role} codec`, HINT);
    const { formatHash: written, ...rest } = codec;
    const format = formatHash(rest);
    if (written !== format) {
      throw new UserError(
        'P112',
        `the ${role} codec was changed after it was written: its formatHash is ${JSON.stringify(written)}, its content hashes to "${format}"`,
        HINT,
      );
    }
  }
  return parsed as unknown as Plan;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCodec(value: unknown): value is CodecPlan {
  return isRecord(value) && Array.isArray(value.levels) && isRecord(value.radius);
}
