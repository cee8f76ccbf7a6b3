import type { Plan } from '../plan/index.ts';
import type { FileView, Target } from '../target/index.ts';
import { packageTemplates, type Templates } from './environment.ts';
import { header, type Source, withHeader } from './header.ts';

/** A file of a cache, not yet written. */
export interface RenderedFile {
  /** Below the output folder, with forward slashes. */
  readonly path: string;
  /** Text, or bytes of a binary file. */
  readonly content: string | Uint8Array;
}

/** The files of one cache for one target, pure: same plan and source, same text. */
export function render(
  plan: Plan,
  target: Target,
  source: Source,
  templates: Templates = packageTemplates(),
): RenderedFile[] {
  return target.files(plan).map((file) => ({
    path: file.path,
    content: renderFile(plan, target.id, file, source, templates),
  }));
}

function renderFile(
  plan: Plan,
  target: string,
  file: FileView,
  source: Source,
  templates: Templates,
): string {
  const body = templates.render(file.template, file.view);
  const head = header(file.path, {
    cache: plan.name,
    part: file.part,
    target,
    planHash: plan.planHash,
    template: file.template,
    source,
  });
  return withHeader(file.path, head, body);
}
