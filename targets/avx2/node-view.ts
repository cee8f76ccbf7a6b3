/** Plan → the files of the Node addon: a folder of its own for each cache, an npm package that builds by itself. */

import { bindingView, type SharedMatrix, sharedMatrix } from '../../generator/bindings/index.ts';
import { fileStem, symbolPrefix } from '../../generator/naming/index.ts';
import type { Plan } from '../../generator/plan/index.ts';
import type { FileView, View } from '../../generator/target/index.ts';

const ID = 'avx2';

/** Below the output folder: `avx2/node/llama-d128`. */
export function nodeFolder(name: string): string {
  return `${ID}/node/${fileStem(name)}`;
}

export function nodeFiles(plan: Plan): readonly FileView[] {
  const folder = nodeFolder(plan.name);
  const stem = fileStem(plan.name);
  const view: View = {
    stem,
    prefix: symbolPrefix(plan.name, ID),
    sharedKeyMatrix: flag(sharedMatrix(plan.key)),
    sharedValueMatrix: flag(sharedMatrix(plan.value)),
  };
  return [
    {
      path: `${folder}/${stem}.ts`,
      template: 'shared/binding.ts.hbs',
      view: bindingView(plan),
      part: 'TypeScript class',
    },
    file(`${stem}_node.cc`, 'avx2/node/cache_node.cc', view, 'Node addon'),
    file('polarc_node.cc', 'shared/node/polarc_node.cc', {}, 'Node addon'),
    { path: `${folder}/polarc_abi.h`, template: 'shared/abi.h.hbs', view: {}, part: 'ABI' },
    file('binding.gyp', 'avx2/node/binding.gyp', view, 'build of the Node addon'),
    file('package.json', 'avx2/node/package.json', view, 'package of the Node addon'),
  ];

  function file(name: string, template: string, fields: View, part: string): FileView {
    return { path: `${folder}/${name}`, template: `${template}.hbs`, view: fields, part };
  }
}

function flag(shared: SharedMatrix): string {
  return shared === 'shared' ? '1' : '0';
}
