/** Runs the suite over one built cache and keeps the results. */

import type { KernelCalls, Plan } from '../plan/index.ts';
import { createReference, type Reference } from '../reference/index.ts';
import type { Variants } from '../target/index.ts';
import type { ConformanceCase } from './case.ts';

/** A case on one cache and target, as reports and `--json` have it. */
export interface CaseReport {
  readonly id: string;
  readonly kernel: string;
  readonly cache: string;
  readonly target: string;
  readonly status: 'passed' | 'failed' | 'skipped';
  readonly ok: boolean;
  /** Normalised squared error, and what it must not exceed; null where only bytes are compared, or nothing ran. */
  readonly error: number | null;
  readonly bound: number | null;
  readonly differingBytes: number;
  readonly certifiedCodes: number;
  /** Capability that the target lacks, for cases skipped over one. */
  readonly capability?: string;
  /** What is wrong, or why it was skipped; empty for what passed. */
  readonly message: string;
  readonly milliseconds: number;
}

export interface RunOptions {
  readonly plan: Plan;
  readonly target: string;
  readonly cases: readonly ConformanceCase[];
  readonly calls: KernelCalls;
  /** Cases of kernels that have variants run on each of them. */
  readonly variants?: Variants;
  /** Called before every case. */
  readonly starting?: (each: ConformanceCase) => void;
  /** Called after every case. */
  readonly progress?: (report: CaseReport) => void;
}

/** Infinity is no JSON number: the greatest stands for it. */
const finite = (value: number): number => Math.min(value, Number.MAX_VALUE);

/**
 * One report a case, in order, then one for every further variant of its kernel. An exception of a kernel is a failure
 * of its case; the others still run.
 */
export const runCases = async (options: RunOptions): Promise<CaseReport[]> => {
  const { cases, variants } = options;
  const reference = createReference(options.plan);
  const reports = await runEach(options, reference, cases);
  const [first, ...others] = variants?.names ?? [];
  const varied = cases.filter(({ kernel }) => variants?.kernels.includes(kernel));
  try {
    for (const name of others) {
      variants!.use(name);
      const named = varied.map((each) => ({ ...each, id: `${each.id} (${name})` }));
      reports.push(...(await runEach(options, reference, named)));
    }
  } finally {
    if (others.length > 0) variants!.use(first!);
  }
  return reports;
};

const runEach = async (
  { plan, target, calls, starting, progress }: RunOptions,
  reference: Reference,
  cases: readonly ConformanceCase[],
): Promise<CaseReport[]> => {
  const reports: CaseReport[] = [];
  for (const each of cases) {
    starting?.(each);
    const started = performance.now();
    const common = { id: each.id, kernel: each.kernel, cache: plan.name, target };
    let report: CaseReport;
    try {
      const result = await each.run(calls, reference);
      report = {
        ...common,
        status: result.ok ? 'passed' : 'failed',
        ok: result.ok,
        error: result.bound > 0 ? finite(result.error) : null,
        bound: result.bound > 0 ? result.bound : null,
        differingBytes: result.differingBytes ?? 0,
        certifiedCodes: result.certified ?? 0,
        message: result.message,
        milliseconds: performance.now() - started,
      };
    } catch (error) {
      report = failedReport(common, `threw: ${(error as Error).message}`);
    }
    reports.push(report);
    progress?.(report);
  }
  return reports;
};

export const failedReport = (
  of: Pick<CaseReport, 'id' | 'kernel' | 'cache' | 'target'>,
  message: string,
): CaseReport => ({
  ...of,
  status: 'failed',
  ok: false,
  error: null,
  bound: null,
  differingBytes: 0,
  certifiedCodes: 0,
  message,
  milliseconds: 0,
});

export const passedReport = (
  of: Pick<CaseReport, 'id' | 'kernel' | 'cache' | 'target'>,
): CaseReport => ({ ...failedReport(of, ''), status: 'passed', ok: true });

export const skippedReports = (
  plan: Plan,
  target: string,
  cases: readonly ConformanceCase[],
  message: string,
  capability?: string,
): CaseReport[] =>
  cases.map(({ id, kernel }) => ({
    ...failedReport({ id, kernel, cache: plan.name, target }, message),
    status: 'skipped',
    ok: true,
    ...(capability === undefined ? {} : { capability }),
  }));
