import type { Options } from 'yargs';

/** The plain part of a command's arguments, as data. */
export interface QuickOptions {
  /** Name of the positional that takes all that are given. */
  readonly positional: string;
  readonly options: Readonly<Record<string, Options>>;
}

/**
 * The arguments of a plain command line, words and `--name value` alone, as yargs would give them: loading yargs
 * takes a quarter of the time of a small `generate`. Undefined for all that is not plain, mistakes and `--help` above all,
 * which are left to yargs.
 */
export function quickArguments(
  argv: readonly string[],
  { positional, options }: QuickOptions,
): Record<string, unknown> | undefined {
  const words: string[] = [];
  const args: Record<string, unknown> = {};
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i]!;
    if (!word.startsWith('-')) {
      words.push(word);
      continue;
    }
    const name = word.slice(2);
    const option =
      Object.hasOwn(options, name) && word.startsWith('--') ? options[name] : undefined;
    if (option === undefined || option.choices !== undefined) return undefined;
    const property = name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
    if (property in args) return undefined;
    if (option.type === 'boolean') {
      if (argv[i + 1] === 'true' || argv[i + 1] === 'false') return undefined;
      args[property] = true;
      continue;
    }
    const value = argv[++i];
    if (value === undefined || value === '' || value.startsWith('-')) return undefined;
    if (option.type === 'number') {
      if (!/^\d+$/.test(value)) return undefined;
      args[property] = Number(value);
    } else {
      args[property] = value;
    }
  }
  return words.length > 0 ? { ...args, [positional]: words } : args;
}
