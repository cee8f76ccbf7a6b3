/** Tensors of a captured file as checked arrays. */

import { UserError } from '../diagnostics/index.ts';
import {
  arrayOf,
  floatsOf,
  type Safetensors,
  type Tensor,
  type TensorDtype,
  tensorOf,
} from '../safetensors/index.ts';

/** A .safetensors file that was read; `path` names it in errors. */
export interface CapturedFile extends Safetensors {
  readonly path: string;
}

const FLOATS: readonly TensorDtype[] = ['F32', 'F16', 'BF16'];

/** A tensor of floats whose sizes are positive and match `shape`; −1 stands for any size. */
export function floatTensor(file: CapturedFile, key: string, shape: readonly number[]): Tensor {
  return filled(file, key, tensorOf(file, key, { dtypes: FLOATS, shape }, file.path));
}

/** The numbers of a tensor of floats, exactly; all must be finite. */
export function finiteNumbers(
  file: CapturedFile,
  key: string,
  shape: readonly number[],
): Float32Array {
  const numbers = floatsOf(floatTensor(file, key, shape));
  const at = numbers.findIndex((number) => !Number.isFinite(number));
  if (at < 0) return numbers;
  throw new UserError(
    'P130',
    `${file.path}: ${key} holds ${numbers[at]} at element ${at}`,
    'figures need finite numbers: look at the run that captured them',
  );
}

/** A list of whole numbers. */
export function wholeNumbers(file: CapturedFile, key: string): Int32Array {
  const tensor = tensorOf(file, key, { dtypes: ['I32', 'I64'], shape: [-1] }, file.path);
  return Int32Array.from(arrayOf(filled(file, key, tensor)), Number);
}

function filled(file: CapturedFile, key: string, tensor: Tensor): Tensor {
  if (!tensor.shape.includes(0)) return tensor;
  throw new UserError(
    'P130',
    `${file.path}: ${key} of shape [${tensor.shape.join(', ')}] is empty`,
    'capture at least one token and one query',
  );
}
