import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { CommandModule } from 'yargs';
import { UserError } from '../diagnostics/index.ts';
import type { Source } from '../emit/index.ts';
import { type Plan, parsePlan, planJson } from '../plan/index.ts';
import type { Spec } from '../spec/index.ts';
import type { Choice, Target } from '../target/index.ts';
import { allTargets, loadTargets, targetIds } from './catalog.ts';
import { choicesText, inspectFigures, inspectText } from './inspect-text.ts';
import { readInputs, SPEC_OPTIONS, type SpecArguments } from './spec-options.ts';

const STAGES = ['spec', 'plan', 'view', 'text'] as const;
type Stage = (typeof STAGES)[number];

interface Arguments extends SpecArguments {
  readonly cache?: string | undefined;
  readonly stage?: Stage | undefined;
  readonly target?: string | undefined;
  readonly svg?: string | undefined;
  readonly json?: boolean | undefined;
}

export const command: CommandModule<object, Arguments> = {
  command: 'inspect [specs..]',
  describe: 'show a format: where its bits stand, its size, its expected error, its codebooks',
  builder: (yargs) =>
    yargs
      .positional('specs', {
        type: 'string',
        array: true,
        describe:
          'spec files or .plan.json files; without any, the flags below, else polarc.config.ts',
      })
      .options({
        cache: { type: 'string', describe: 'only the cache of this name', requiresArg: true },
        stage: {
          choices: STAGES,
          describe: 'print what stands after a stage of the compiler',
          requiresArg: true,
        },
        target: {
          type: 'string',
          describe: 'targets whose choices are shown, or of --stage view and text [all]',
          requiresArg: true,
        },
        svg: {
          type: 'string',
          describe: 'draw the bit map and the codebooks to this file',
          requiresArg: true,
        },
        json: { type: 'boolean', describe: 'print one JSON object' },
      })
      .options(SPEC_OPTIONS)
      .group(Object.keys(SPEC_OPTIONS), 'A cache without a spec file:')
      .conflicts('stage', ['svg', 'json']),
  handler: async (args) => {
    const subjects = select(await read(args), args.cache);
    if (args.stage !== undefined) {
      process.stdout.write(await stageText(args.stage, subjects, args.target));
      return;
    }
    if (args.svg !== undefined) {
      const { inspectSvg } = await import('./inspect-svg.ts');
      writeSvg(args.svg, inspectSvg(subjects.map(({ plan }) => plan)));
    }
    const targets = await loadTargets(targetIds(args.target));
    if (args.json === true) {
      const caches = subjects.map(({ plan }) => ({
        name: plan.name,
        planHash: plan.planHash,
        queryGroup: plan.queryGroup,
        pageTokens: plan.pageTokens,
        dense: plan.dense,
        key: inspectFigures(plan.key),
        value: inspectFigures(plan.value),
        choices: choicesOf(plan, targets),
      }));
      process.stdout.write(`${JSON.stringify({ caches })}\n`);
    } else {
      process.stdout.write(
        subjects
          .map(({ plan }) => `${inspectText(plan)}${choicesText(choicesOf(plan, targets))}`)
          .join('\n'),
      );
      if (args.svg !== undefined) process.stdout.write(`\n${args.svg} drawn\n`);
    }
  },
};

/** What each target decides by the plan, those that decide something. */
function choicesOf(
  plan: Plan,
  targets: readonly Target[],
): Readonly<Record<string, readonly Choice[]>> {
  const made = targets.map((target) => [target.id, target.choices?.(plan) ?? []] as const);
  return Object.fromEntries(made.filter(([, choices]) => choices.length > 0));
}

/** A cache to look at; one that was read from a plan has no spec. */
interface Subject {
  readonly plan: Plan;
  readonly spec: Spec | undefined;
  readonly source: Source;
}

async function read(args: Arguments): Promise<readonly Subject[]> {
  const files = args.specs ?? [];
  const plans = files.filter((file) => file.endsWith('.json'));
  const specs = files.filter((file) => !file.endsWith('.json'));
  const subjects: Subject[] = plans.map((file) => ({
    plan: readPlan(file),
    spec: undefined,
    source: { name: file, command: `inspect ${file}` },
  }));
  if (plans.length > 0 && specs.length === 0) return subjects;
  for (const { specs: read, plans, source } of await readInputs(
    { ...args, specs },
    await allTargets(),
  )) {
    plans.forEach((plan, i) => {
      subjects.push({ plan, spec: read[i], source });
    });
  }
  return subjects;
}

function readPlan(file: string): Plan {
  try {
    return parsePlan(readFileSync(resolve(file), 'utf8'));
  } catch (error) {
    if (error instanceof UserError) {
      throw new UserError(error.code, `${file}: ${error.message}`, error.hint);
    }
    const { code } = error as NodeJS.ErrnoException;
    throw new UserError('P100', `${file} cannot be read (${code})`, 'name a .plan.json file');
  }
}

function select(subjects: readonly Subject[], name: string | undefined): readonly Subject[] {
  if (name === undefined) return subjects;
  const found = subjects.filter(({ plan }) => plan.name === name);
  if (found.length > 0) return found;
  const names = subjects.map(({ plan }) => plan.name).join(', ');
  throw new UserError('P210', `there is no cache '${name}'`, `the caches are ${names}`);
}

async function stageText(
  stage: Stage,
  subjects: readonly Subject[],
  target: string | undefined,
): Promise<string> {
  if (stage === 'plan') return subjects.map(({ plan }) => planJson(plan)).join('');
  if (stage === 'spec') {
    return subjects
      .map(({ spec, plan }) => {
        if (spec !== undefined) return `${JSON.stringify(spec, null, 2)}\n`;
        throw new UserError(
          'P210',
          `'${plan.name}' was read from a plan, which does not hold its spec`,
          'name the spec file instead',
        );
      })
      .join('');
  }
  const targets = await loadTargets(targetIds(target));
  if (stage === 'view') {
    const files = subjects.flatMap(({ plan }) => targets.flatMap((each) => each.files(plan)));
    return `${JSON.stringify(files, null, 2)}\n`;
  }
  const { render } = await import('../emit/index.ts');
  return subjects
    .flatMap(({ plan, source }) => targets.flatMap((each) => render(plan, each, source)))
    .map(({ path, content }) => `==> ${path} <==\n${content}`)
    .join('\n');
}

/** Writes a drawing; replaces an earlier one, nothing else. */
function writeSvg(file: string, text: string): void {
  try {
    if (existsSync(file) && !readFileSync(file, 'utf8').startsWith(text.split('\n')[0]!)) {
      throw new UserError(
        'P201',
        `${file} stands in the way and was not drawn by polarc`,
        'name another file',
      );
    }
    writeFileSync(file, text);
  } catch (error) {
    if (error instanceof UserError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    throw new UserError('P200', `${file} cannot be written (${code})`, 'name another file');
  }
}
