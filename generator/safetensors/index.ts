export { arrayOf, floatsOf } from './arrays.ts';
export { readSafetensors, tensorOf } from './read.ts';
export { DTYPE_BYTES, type Safetensors, type Tensor, type TensorDtype } from './types.ts';
export { type TensorInput, writeSafetensors } from './write.ts';
