/** Plan → the files of the Node addon over the driver: an npm package that builds by itself, without CUDA. */

import { bindingView, sharedMatrix } from '../../generator/bindings/index.ts';
import { fileStem, symbolPrefix } from '../../generator/naming/index.ts';
import type { CodecPlan, Plan } from '../../generator/plan/index.ts';
import type { FileView, View } from '../../generator/target/index.ts';

const ID = 'cuda';

/** Below the output folder: `cuda/llama-d128/node`. */
export function nodeFolder(name: string): string {
  return `${ID}/${fileStem(name)}/node`;
}

export function nodeFiles(plan: Plan): readonly FileView[] {
  const folder = nodeFolder(plan.name);
  const stem = fileStem(plan.name);
  const view: View = {
    stem,
    prefix: symbolPrefix(plan.name, ID),
    sharedKeyMatrix: String(sharedFlag(plan.key)),
    sharedValueMatrix: String(sharedFlag(plan.value)),
  };
  return [
    file(`${stem}.ts`, 'cuda/node/binding.ts', bindingView(plan, 'device'), 'TypeScript class'),
    file(`${stem}_node.cc`, 'cuda/node/cache_node.cc', view, 'Node addon'),
    file('polarc_cuda_node.cc', 'cuda/node/polarc_cuda_node.cc', {}, 'Node addon'),
    file('polarc_cuda_driver.h', 'cuda/node/polarc_cuda_driver.h', {}, 'Node addon'),
    file('polarc_abi.h', 'shared/abi.h', {}, 'ABI'),
    file('binding.gyp', 'cuda/node/binding.gyp', view, 'build of the Node addon'),
    file('package.json', 'cuda/node/package.json', view, 'package of the Node addon'),
  ];

  function file(name: string, template: string, fields: View, part: string): FileView {
    return { path: `${folder}/${name}`, template: `${template}.hbs`, view: fields, part };
  }
}

/** 1: one matrix serves all KV heads. */
export function sharedFlag(codec: CodecPlan): 0 | 1 {
  return sharedMatrix(codec) === 'shared' ? 1 : 0;
}
