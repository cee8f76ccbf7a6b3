/** Results as text for people, as one object for programs, as JUnit XML for CI. */

import type { CaseReport } from './run.ts';

export interface TargetReport {
  readonly id: string;
  /** What ran the kernels; null if nothing ran. */
  readonly device: string | null;
  /** Arithmetics met, with their bounds. */
  readonly arithmetic: Readonly<Record<string, number>>;
  readonly caches: number;
}

export interface VerifyReport {
  readonly ok: boolean;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly differingBytes: number;
  readonly certifiedCodes: number;
  readonly targets: readonly TargetReport[];
  readonly cases: readonly CaseReport[];
}

const sum = (cases: readonly CaseReport[], of: (report: CaseReport) => number): number =>
  cases.reduce((total, report) => total + of(report), 0);

export const summarize = (
  cases: readonly CaseReport[],
  targets: readonly TargetReport[],
): VerifyReport => {
  const count = (status: CaseReport['status']): number =>
    sum(cases, (report) => (report.status === status ? 1 : 0));
  const failed = count('failed');
  return {
    ok: failed === 0,
    passed: count('passed'),
    failed,
    skipped: count('skipped'),
    differingBytes: sum(cases, (report) => report.differingBytes),
    certifiedCodes: sum(cases, (report) => report.certifiedCodes),
    targets,
    cases,
  };
};

/** Failures shown in full; the others are counted. */
const SHOWN_FAILURES = 40;

/** Cache and target; what is found in files alone has no target. */
const placeOf = ({ cache, target }: CaseReport): string =>
  target === '' ? cache : `${cache} (${target})`;

const exponent = (value: number | null): string => (value === null ? '' : value.toExponential(1));

/** The report for a terminal; its last line is `N passed, N failed, N skipped`. */
export const reportText = (report: VerifyReport): string => {
  const lines: string[] = [];
  for (const target of report.targets) {
    const arithmetic = Object.entries(target.arithmetic)
      .map(([id, bound]) => `${id}, bound ${exponent(bound)}`)
      .join('; ');
    lines.push(
      `${target.id}: ${target.device ?? 'not run'}${arithmetic === '' ? '' : ` · arithmetic ${arithmetic}`}`,
    );
    lines.push(...kernelTable(report.cases.filter((each) => each.target === target.id)));
  }

  const failures = report.cases.filter((each) => each.status === 'failed');
  for (const failure of failures.slice(0, SHOWN_FAILURES)) {
    lines.push(`FAILED ${placeOf(failure)} ${failure.id}`);
    lines.push(`       ${failure.message}`);
  }
  if (failures.length > SHOWN_FAILURES) {
    lines.push(`… and ${failures.length - SHOWN_FAILURES} more failures`);
  }
  lines.push(...skipLines(report.cases));
  lines.push(
    `${report.differingBytes} differing bytes, ${report.certifiedCodes} certified codes`,
    lastLine(report),
  );
  return `${lines.join('\n')}\n`;
};

const kernelTable = (cases: readonly CaseReport[]): string[] => {
  const kernels = [...new Set(cases.map((each) => each.kernel))];
  const width = Math.max(0, ...kernels.map((kernel) => kernel.length));
  return kernels.flatMap((kernel) => {
    const its = cases.filter((each) => each.kernel === kernel && each.status !== 'skipped');
    if (its.length === 0) return [];
    const failed = its.filter((each) => !each.ok).length;
    // The case that came nearest to its bound, or went farthest beyond it.
    let worst: CaseReport | undefined;
    for (const each of its) {
      const ratio = (of: CaseReport): number => (of.error ?? 0) / (of.bound ?? 1);
      if (each.bound !== null && (worst === undefined || ratio(each) > ratio(worst))) worst = each;
    }
    const certified = sum(its, (each) => each.certifiedCodes);
    const measured =
      worst === undefined
        ? kernel.startsWith('encode')
          ? `${sum(its, (each) => each.differingBytes)} differing bytes${certified > 0 ? `, ${certified} certified codes` : ''}`
          : ''
        : `worst error ${exponent(worst.error)}, bound ${exponent(worst.bound)}`;
    const counted = `${its.length - failed}/${its.length} passed`;
    return [`  ${kernel.padEnd(width)}  ${counted.padEnd(16)}  ${measured}`.trimEnd()];
  });
};

/** One line a reason. */
const skipLines = (cases: readonly CaseReport[]): string[] => {
  const reasons = new Map<string, number>();
  for (const each of cases) {
    if (each.status !== 'skipped') continue;
    const reason = `${each.target}: ${each.capability ? `lacks ${each.capability}: ` : ''}${each.message}`;
    reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  }
  return [...reasons].map(([reason, count]) => `SKIPPED ${count} cases, ${reason}`);
};

const lastLine = (report: VerifyReport): string => {
  const line = `${report.passed} passed, ${report.failed} failed, ${report.skipped} skipped`;
  const ran = report.targets.some((target) => target.device !== null);
  return ran || report.skipped === 0 ? line : `${line}: every device test was skipped`;
};

const escapeXml = (text: string): string =>
  text
    .replace(/&/g, '&amp;')
    .replace(/</g, '&lt;')
    .replace(/>/g, '&gt;')
    .replace(/"/g, '&quot;')
    // Characters that XML cannot hold at all.
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what they are
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, '?');

/** One test suite a cache and target. */
export const junitXml = (report: VerifyReport): string => {
  const suites = new Map<string, CaseReport[]>();
  for (const each of report.cases) {
    const name = placeOf(each);
    suites.set(name, [...(suites.get(name) ?? []), each]);
  }
  const seconds = (milliseconds: number): string => (milliseconds / 1000).toFixed(3);
  const lines = [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="polarc verify" tests="${report.cases.length}" failures="${report.failed}" skipped="${report.skipped}">`,
  ];
  for (const [name, cases] of suites) {
    const count = (status: CaseReport['status']): number =>
      cases.filter((each) => each.status === status).length;
    const time = seconds(sum(cases, (each) => each.milliseconds));
    lines.push(
      `  <testsuite name="${escapeXml(name)}" tests="${cases.length}" failures="${count('failed')}" skipped="${count('skipped')}" time="${time}">`,
    );
    for (const each of cases) {
      const open = `    <testcase classname="${escapeXml(`${name}.${each.kernel}`)}" name="${escapeXml(each.id)}" time="${seconds(each.milliseconds)}"`;
      const message = `message="${escapeXml(each.message)}"`;
      if (each.status === 'passed') lines.push(`${open}/>`);
      else {
        const element = each.status === 'failed' ? 'failure' : 'skipped';
        lines.push(`${open}>`, `      <${element} ${message}/>`, '    </testcase>');
      }
    }
    lines.push('  </testsuite>');
  }
  lines.push('</testsuites>');
  return `${lines.join('\n')}\n`;
};
