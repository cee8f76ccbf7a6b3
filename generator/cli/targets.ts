import type { CommandModule } from 'yargs';
import type { Target } from '../target/index.ts';
import { allTargets } from './catalog.ts';

interface Arguments {
  readonly json?: boolean | undefined;
}

export const command: CommandModule<object, Arguments> = {
  command: 'targets',
  describe: 'show what each target can do',
  builder: (yargs) =>
    yargs.option('json', {
      type: 'boolean',
      describe: 'print one JSON object',
    }),
  handler: async ({ json }) => {
    const targets = await allTargets();
    if (json) {
      const rows = targets.map(({ id, title, arithmetics, capabilities }) => ({
        id,
        title,
        arithmetics,
        capabilities,
      }));
      process.stdout.write(`${JSON.stringify({ targets: rows })}\n`);
    } else {
      process.stdout.write(table(targets));
    }
  },
};

/** A line a capability, a column a target, the notes below. */
function table(targets: readonly Target[]): string {
  const names = [...new Set(targets.flatMap((t) => t.capabilities.map((c) => c.name)))];
  const width = Math.max(...names.map((name) => name.length));
  const cell = (target: Target, name: string): string => {
    const capability = target.capabilities.find((c) => c.name === name);
    return (capability?.supported ? 'yes' : 'no').padEnd(target.id.length);
  };
  const lines = [`${' '.repeat(width)}  ${targets.map(({ id }) => id).join('  ')}`.trimEnd()];
  for (const name of names) {
    const cells = targets.map((target) => cell(target, name)).join('  ');
    const note = noteOf(targets, name);
    lines.push(`${name.padEnd(width)}  ${cells}  ${note}`.trimEnd());
  }
  const titles = targets.map(({ id, title, arithmetics }) => {
    const kinds = arithmetics.map((a) => `${a.id} (error ≤ ${a.bound})`).join(', ');
    return `${id}: ${title}; arithmetic ${kinds}`;
  });
  return `${[...titles, '', ...lines].join('\n')}\n`;
}

/** What targets say of a capability: once where they agree, else each for itself. */
function noteOf(targets: readonly Target[], name: string): string {
  const notes = targets.flatMap((target) => {
    const note = target.capabilities.find((c) => c.name === name)?.note ?? '';
    return note === '' ? [] : [{ id: target.id, note }];
  });
  const distinct = new Set(notes.map(({ note }) => note));
  if (distinct.size <= 1) return notes[0]?.note ?? '';
  return notes.map(({ id, note }) => `${id}: ${note}`).join('; ');
}
