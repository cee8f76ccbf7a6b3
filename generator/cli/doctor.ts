import { readFileSync } from 'node:fs';
import type { CommandModule } from 'yargs';
import type { Check } from '../target/index.ts';
import { loadTargets, targetIds } from './catalog.ts';
import { packageFile } from './package-file.ts';

interface Arguments {
  readonly target?: string | undefined;
  readonly json?: boolean | undefined;
}

interface Section {
  readonly name: string;
  readonly ok: boolean;
  readonly checks: readonly Check[];
}

export const command: CommandModule<object, Arguments> = {
  command: 'doctor',
  describe: 'show what this machine can build and run, and what to install for the rest',
  builder: (yargs) =>
    yargs.options({
      target: {
        type: 'string',
        describe: 'targets, separated by commas [all]',
        requiresArg: true,
      },
      json: { type: 'boolean', describe: 'print one JSON object' },
    }),
  handler: async ({ target, json }) => {
    const targets = await loadTargets(targetIds(target));
    const sections: Section[] = [section('polarc', [nodeVersion()])];
    for (const each of targets) sections.push(section(each.id, await each.check()));
    const ok = sections.every((each) => each.ok);
    if (json) process.stdout.write(`${JSON.stringify({ ok, sections })}\n`);
    else process.stdout.write(sections.map(asText).join('\n'));
    if (!ok) process.exitCode = 1;
  },
};

function section(name: string, checks: readonly Check[]): Section {
  return { name, ok: checks.every(({ ok, required }) => ok || !required), checks };
}

/** The least version stands in package.json. */
function nodeVersion(): Check {
  const { engines } = JSON.parse(readFileSync(packageFile('package.json'), 'utf8')) as {
    engines: { node: string };
  };
  const least = engines.node.replace(/^>=/, '');
  const found = process.versions.node;
  const ok = atLeast(found, least);
  return {
    what: 'Node.js',
    ok,
    detail: ok ? found : `${found}; install ${least} or later`,
    required: true,
  };
}

function atLeast(found: string, least: string): boolean {
  const [a, b] = [found, least].map((version) => version.split('.').map(Number)) as [
    number[],
    number[],
  ];
  for (let i = 0; i < b.length; i++) {
    if (a[i] !== b[i]) return (a[i] ?? 0) > b[i]!;
  }
  return true;
}

function asText({ name, ok, checks }: Section): string {
  const width = Math.max(...checks.map(({ what }) => what.length));
  const lines = checks.map((check) => {
    const mark = check.ok ? 'ok     ' : check.required ? 'missing' : 'without';
    return `  ${mark}  ${check.what.padEnd(width)}  ${check.detail}`.trimEnd();
  });
  return `${name}: ${ok ? 'ready' : 'not ready'}\n${lines.join('\n')}\n`;
}
