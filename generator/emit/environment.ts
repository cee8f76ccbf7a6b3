import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type Handlebars from 'handlebars';
import type { View, ViewValue } from '../target/index.ts';

/**
 * A handlebars environment in which a template cannot be wrong silently: a name that the view lacks throws wherever it
 * stands, `if`, `unless` and `each` included, and no helper exists beside these three.
 *
 * Partials are the files of `templates/shared` and of every `partials` folder below `templates`, named by their path
 * without `.hbs`: `{{> lattice/partials/constants}}`, `{{> shared/abi.h}}`.
 */
export interface Templates {
  /** `template` is a path below the folder; throws an Error with template, line and column. */
  render(template: string, view: View): string;
}

const EXTENSION = '.hbs';

/** The one-file build loads in a third of the time of the modules. */
const handlebars: typeof Handlebars = createRequire(import.meta.url)(
  'handlebars/dist/handlebars.js',
);

/** The templates of the package, read once. */
export function packageTemplates(): Templates {
  loaded ??= createTemplates(join(packageRoot(), 'templates'));
  return loaded;
}
let loaded: Templates | undefined;

/** The folder that holds package.json, from a checkout as well as from an installed package. */
function packageRoot(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  // Sources stand in generator/emit, compiled files in dist/generator/emit.
  const parts = here.replaceAll('\\', '/').split('/');
  return join(here, parts.at(-3) === 'dist' ? '../../..' : '../..');
}

export function createTemplates(folder: string): Templates {
  const engine = handlebars.create();
  registerHelpers(engine);
  const compile = (path: string): Handlebars.TemplateDelegate => {
    let run: Handlebars.TemplateDelegate | undefined;
    return (view, options) => {
      run ??= parse(engine, read(folder, path));
      try {
        return run(view, options);
      } catch (error) {
        if (error instanceof TemplateError) throw error;
        throw new TemplateError(`templates/${path}: ${(error as Error).message}`, { cause: error });
      }
    };
  };
  for (const path of partials(folder)) {
    engine.registerPartial(path.slice(0, -EXTENSION.length), compile(path));
  }
  const compiled = new Map<string, Handlebars.TemplateDelegate>();
  return {
    render(template, view) {
      checkView(view, 'view');
      const run = compiled.get(template) ?? compile(template);
      compiled.set(template, run);
      return run(view);
    },
  };
}

function parse(engine: typeof Handlebars, text: string): Handlebars.TemplateDelegate {
  // Much of a kernel is the same for every format: parsing it would take most of the time of a run.
  if (!text.includes('{{')) return () => text;
  return engine.compile(text, {
    noEscape: true,
    strict: true,
    knownHelpersOnly: true,
    knownHelpers: { with: false, lookup: false, log: false },
  });
}

/** An error that names its template already: the innermost partial's. */
class TemplateError extends Error {}

/** The three helpers there are: their argument must exist, and `@index` is text like everything else. */
function registerHelpers(engine: typeof Handlebars): void {
  for (const name of ['if', 'unless'] as const) {
    const builtIn = engine.helpers[name] as Handlebars.HelperDelegate;
    engine.registerHelper(name, function (this: unknown, value: unknown, options: HelperOptions) {
      requireValue(name, value, options);
      return builtIn.call(this, value, options);
    });
  }
  engine.registerHelper('each', function (this: unknown, list: unknown, options: HelperOptions) {
    requireValue('each', list, options);
    if (!Array.isArray(list)) throw new Error(`{{#each}} of what is no list, ${at(options)}`);
    if (list.length === 0) return options.inverse(this);
    const frame = handlebars.createFrame(options.data ?? {});
    return list
      .map((item, i) => {
        const data = { ...frame, index: String(i), first: i === 0, last: i + 1 === list.length };
        return options.fn(item, { data, blockParams: [item, String(i)] });
      })
      .join('');
  });
}

function requireValue(helper: string, value: unknown, options: HelperOptions): void {
  if (value === undefined) {
    throw new Error(`{{#${helper}}} of a name that the view lacks, ${at(options)}`);
  }
}

function at(options: HelperOptions): string {
  return `line ${options.loc.start.line}, column ${options.loc.start.column}`;
}

interface HelperOptions extends Handlebars.HelperOptions {
  readonly loc: { readonly start: { readonly line: number; readonly column: number } };
}

/** Views hold text, truth, lists and records of these: handlebars would add two numbers that stand side by side. */
function checkView(value: ViewValue, path: string): void {
  if (typeof value === 'string' || typeof value === 'boolean') return;
  if (Array.isArray(value)) {
    value.forEach((item, i) => {
      checkView(item, `${path}[${i}]`);
    });
  } else if (typeof value === 'object' && value !== null) {
    for (const [name, item] of Object.entries(value)) checkView(item, `${path}.${name}`);
  } else {
    throw new Error(`${path} is ${value === null ? 'null' : `a ${typeof value}`}: format it first`);
  }
}

function partials(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((path) => path.replaceAll('\\', '/'))
    .filter((path) => path.endsWith(EXTENSION))
    .filter(
      (path) => path.startsWith('shared/') || path.split('/').slice(0, -1).includes('partials'),
    )
    .sort();
}

function read(folder: string, path: string): string {
  return readFileSync(join(folder, path), 'utf8');
}
