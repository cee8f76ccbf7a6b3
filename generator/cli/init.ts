import { existsSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import type { CommandModule } from 'yargs';
import { UserError } from '../diagnostics/index.ts';
import { packageTemplates } from '../emit/index.ts';

interface Arguments {
  readonly file: string;
}

export const command: CommandModule<object, Arguments> = {
  command: 'init [file]',
  describe: 'write a commented starter spec',
  builder: (yargs) =>
    yargs.positional('file', {
      type: 'string',
      default: 'my-cache.polar.ts',
      describe: 'a .polar.ts file that does not exist yet, or polarc.config.ts',
    }),
  handler: ({ file }) => {
    if (!/\.[cm]?ts$/.test(file)) {
      throw new UserError(
        'P100',
        `'${file}' is no name of a spec file`,
        'give it the extension .polar.ts',
      );
    }
    const name = cacheName(file);
    const text = packageTemplates().render('shared/starter.polar.ts.hbs', {
      name,
      file,
      config: basename(file).startsWith('polarc.config.'),
    });
    writeNew(file, text);
    process.stdout.write(`${file} written; now run\n  npx polarc generate ${file}\n`);
  },
};

/** `specs/my-cache.polar.ts` → `my_cache`. */
function cacheName(file: string): string {
  const stem = basename(file).replace(/(\.polar|\.config)?\.[cm]?ts$/, '');
  const name = stem.replace(/[^A-Za-z0-9]+/g, '_').replace(/^_+|_+$/g, '');
  return stem === 'polarc' || !/^[A-Za-z]/.test(name) ? 'my_cache' : name;
}

function writeNew(file: string, text: string): void {
  if (existsSync(file)) {
    throw new UserError('P201', `${file} exists already`, 'name a file that does not exist yet');
  }
  try {
    writeFileSync(file, text, { flag: 'wx' });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new UserError('P200', `${file} cannot be written (${code})`, 'choose another place');
  }
}
