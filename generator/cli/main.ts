import { readFileSync } from 'node:fs';
import type { ArgumentsCamelCase, CommandModule } from 'yargs';
import { nearestWord, renderError, UserError } from '../diagnostics/index.ts';
import { packageFile } from './package-file.ts';
import { type QuickOptions, quickArguments } from './quick-arguments.ts';

/** A command as the overview shows it; its module is loaded only to run it. */
interface CommandEntry {
  readonly name: string;
  readonly describe: string;
  load(): Promise<{ readonly command: Command; readonly quick?: QuickOptions }>;
}

/** A command module, whatever its arguments are. */
interface Command extends Pick<CommandModule, 'command' | 'describe'> {
  readonly builder?: unknown;
  readonly handler: (args: never) => void | Promise<void>;
}

const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'init',
    describe: 'write a commented starter spec',
    load: () => import('./init.ts'),
  },
  {
    name: 'generate',
    describe: 'turn specs into kernels, bindings, plans and golden vectors',
    load: () => import('./generate.ts'),
  },
  {
    name: 'verify',
    describe: 'build kernels and prove that they compute what the reference computes',
    load: () => import('./verify.ts'),
  },
  {
    name: 'inspect',
    describe: 'show a format: where its bits stand, its size, its expected error, its codebooks',
    load: () => import('./inspect.ts'),
  },
  {
    name: 'measure',
    describe: 'measure a format on captured keys, values and queries',
    load: () => import('./measure.ts'),
  },
  {
    name: 'bench',
    describe: 'time kernels here, each beside its baseline of the same run',
    load: () => import('./bench.ts'),
  },
  {
    name: 'targets',
    describe: 'show what each target can do',
    load: () => import('./targets.ts'),
  },
  {
    name: 'doctor',
    describe: 'show what this machine can build and run, and what to install for the rest',
    load: () => import('./doctor.ts'),
  },
];

/**
 * Runs one command line and sets `process.exitCode`: 0 what was asked for holds or was done, 1 it does not hold (or
 * polarc has a bug, shown with its stack), 2 wrong use, shown in one line.
 */
export async function main(argv: readonly string[]): Promise<void> {
  try {
    const [first] = argv;
    if (first === undefined || first === '--help' || first === '-h' || first === 'help') {
      process.stdout.write(overview());
      process.exitCode = first === undefined ? 2 : 0;
    } else if (first === '--version' || first === '-v') {
      process.stdout.write(`${version()}\n`);
    } else {
      await run(commandOf(first), argv);
    }
  } catch (error) {
    report(error, argv.includes('--json'));
  }
}

async function run(entry: CommandEntry, argv: readonly string[]): Promise<void> {
  const { command, quick } = await entry.load();
  const given = argv.slice(1);
  const args = quick === undefined ? undefined : quickArguments(given, quick);
  const accepted = args ?? (await parse(entry.name, command, given));
  // Not run by yargs: what it throws is about the command line, what a command throws is not.
  if (accepted !== undefined) await command.handler(accepted as never);
}

/** The arguments of a command; undefined when its help was asked for and shown. */
async function parse(
  name: string,
  command: Command,
  argv: readonly string[],
): Promise<ArgumentsCamelCase | undefined> {
  const { default: yargs } = await import('yargs');
  let accepted: ArgumentsCamelCase | undefined;
  try {
    // As the default command, because yargs lays out the help of all others on every run.
    await yargs([...argv])
      .scriptName(`polarc ${name}`)
      .locale('en')
      .parserConfiguration({ 'duplicate-arguments-array': false })
      .version(false)
      .command({
        ...command,
        command: String(command.command).replace(name, '$0'),
        handler: (args: ArgumentsCamelCase) => {
          accepted = args;
        },
      } as CommandModule)
      .strict()
      .exitProcess(false)
      .fail(false)
      .wrap(100)
      .parseAsync();
  } catch (error) {
    if (error instanceof UserError) throw error;
    const message = (error as Error).message.replace(/\s+/g, ' ').trim();
    throw new UserError('P210', message, `see \`polarc ${name} --help\``);
  }
  return accepted;
}

function commandOf(name: string): CommandEntry {
  const entry = COMMANDS.find((command) => command.name === name);
  if (entry !== undefined) return entry;
  const names = COMMANDS.map((command) => command.name);
  const near = nearestWord(name, names);
  throw new UserError(
    'P210',
    name.startsWith('-') ? `${name} stands before a command` : `there is no command '${name}'`,
    near === undefined ? `the commands are ${names.join(', ')}` : `did you mean '${near}'?`,
  );
}

function overview(): string {
  const width = Math.max(...COMMANDS.map(({ name }) => name.length));
  return `polarc ${version()}: a kernel compiler for polar-quantized KV caches

  npx polarc generate --head-dim 96 --bits 4,2,2,2 --out kernels   kernels without a spec file
  npx polarc init my-cache.polar.ts                                a spec file to start from
  npx polarc generate my-cache.polar.ts                            kernels from a spec file

${COMMANDS.map(({ name, describe }) => `  ${name.padEnd(width)}  ${describe}`).join('\n')}

polarc <command> --help lists the options of a command.
`;
}

function version(): string {
  const { version } = JSON.parse(readFileSync(packageFile('package.json'), 'utf8')) as {
    version: string;
  };
  return version;
}

function report(error: unknown, json: boolean): void {
  if (error instanceof UserError) {
    const { code, message, hint } = error;
    if (json) printJson({ ok: false, error: { code, message, hint: hint ?? null } });
    process.stderr.write(`${renderError(error)}\n`);
    process.exitCode = 2;
  } else {
    const text = error instanceof Error ? error.stack : String(error);
    process.stderr.write(`This is a bug of polarc, not a mistake of yours.\n${text}\n`);
    process.exitCode = 1;
  }
}

function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
