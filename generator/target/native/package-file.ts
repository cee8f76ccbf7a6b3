import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** A file of the package by its path there: from here in the repository, from dist/ in the package. */
export function packageFile(path: string): string {
  const places = ['../../../', '../../../../'].map((up) =>
    fileURLToPath(new URL(up + path, import.meta.url)),
  );
  const found = places.find((place) => existsSync(place));
  if (found === undefined) throw new Error(`${places[0]} is missing`);
  return found;
}
