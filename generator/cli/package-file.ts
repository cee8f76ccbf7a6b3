import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A file of this package, from a checkout as well as from an installed package. */
export function packageFile(path: string): string {
  const here = dirname(fileURLToPath(import.meta.url)).replaceAll('\\', '/');
  // Sources stand in generator/cli, compiled files in dist/generator/cli.
  const root = here.split('/').at(-3) === 'dist' ? '../../..' : '../..';
  return join(here, root, path);
}
