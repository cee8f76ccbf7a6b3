import fc from 'fast-check';
import { expect, test } from 'vitest';
import yargs from 'yargs';
import { command, quick } from '../../generator/cli/generate.ts';
import { quickArguments } from '../../generator/cli/quick-arguments.ts';

async function byYargs(argv: readonly string[]): Promise<Record<string, unknown>> {
  let found: Record<string, unknown> = {};
  await yargs([...argv])
    .command({
      ...command,
      command: '$0 [specs..]',
      handler: (args) => {
        found = args;
      },
    })
    .strict()
    .exitProcess(false)
    .fail(false)
    .parseAsync();
  const kept = Object.entries(found).filter(
    ([name, value]) => !name.includes('-') && !['_', '$0'].includes(name) && value !== undefined,
  );
  return Object.fromEntries(kept);
}

const word = fc.stringMatching(/^[a-z0-9][a-z0-9./,_-]{0,8}$/);
const options = fc.constantFrom(...Object.entries(quick.options));
const argument = options.chain(([name, { type }]): fc.Arbitrary<string[]> => {
  if (type === 'boolean') return fc.constant([`--${name}`]);
  const value = type === 'number' ? fc.nat().map(String) : word;
  return value.map((text) => [`--${name}`, text]);
});
const line = fc
  .uniqueArray(
    fc.oneof(
      argument,
      word.map((text) => [text]),
    ),
    {
      selector: ([first]) => first!,
      maxLength: 6,
    },
  )
  .map((parts) => parts.flat());

test('a plain command line means what yargs says it means', async () => {
  let plain = 0;
  await fc.assert(
    fc.asyncProperty(line, async (argv) => {
      const args = quickArguments(argv, quick);
      if (args === undefined) return;
      plain++;
      expect(args).toEqual(await byYargs(argv));
    }),
    { numRuns: 200 },
  );
  expect(plain).toBeGreaterThan(150);
});

test.each([
  [['--help']],
  [['-h']],
  [['--bogus']],
  [['--out']],
  [['--out', '--check']],
  [['--out=x']],
  [['--no-center']],
  [['--seed', '-1']],
  [['--seed', 'many']],
  [['--check', 'false']],
  [['--name', 'a', '--name', 'b']],
  [['--toString', 'x']],
])('%j is left to yargs', (argv) => {
  expect(quickArguments(argv, quick)).toBeUndefined();
});
