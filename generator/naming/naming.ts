/** The one place where identifiers and file names are made. `name` is the name of a cache, a valid C identifier. */

/** `llama_d128` → `llama-d128`: the first part of every file name of a cache. */
export function fileStem(name: string): string {
  return name.replaceAll('_', '-');
}

/** `llama_d128` → `LlamaD128`: the TypeScript class of a cache, and the first part of its types. */
export function className(name: string): string {
  return name
    .split('_')
    .map((word) => word.slice(0, 1).toUpperCase() + word.slice(1))
    .join('');
}

/** `llama_d128`, `lattice` → `llama_d128_lattice`: what every C symbol of a cache on a target begins with, before `_`. */
export function symbolPrefix(name: string, target: string): string {
  return `${name}_${target}`;
}

/** `llama_d128`, `lattice`, `attend` → `llama_d128_lattice_attend`. */
export function symbol(name: string, target: string, what: string): string {
  return `${symbolPrefix(name, target)}_${what}`;
}

/** `llama_d128`, `lattice`, `head_dim` → `LLAMA_D128_LATTICE_HEAD_DIM`: constants and macros in C. */
export function macro(name: string, target: string, what: string): string {
  return symbol(name, target, what).toUpperCase();
}

/** Include guard of a header: `LLAMA_D128_LATTICE_H`. */
export function includeGuard(name: string, target: string): string {
  return macro(name, target, 'h');
}

/** `encode_key` → `encodeKey`: ABI names in TypeScript. */
export function camelCase(snake: string): string {
  return snake.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

/** `encodeKey` → `encode_key`: the reverse. */
export function snakeCase(camel: string): string {
  return camel.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** `angle_l2`: the angle of level ℓ, wherever a level is named. */
export function angleName(level: number): string {
  return `angle_l${level}`;
}

/** `code_l2`: the code of level ℓ. */
export function codeName(level: number): string {
  return `code_l${level}`;
}

/** `LLAMA_…` aside: constants of a level within one emitted file, `KEY_COS_L2`. */
export function levelConstant(role: 'key' | 'value', what: string, level: number): string {
  return `${role}_${what}_l${level}`.toUpperCase();
}

/** The plan beside the kernels: `llama-d128.plan.json`. */
export function planFile(name: string): string {
  return `${fileStem(name)}.plan.json`;
}

/** The golden vectors beside the plan: `llama-d128.golden.safetensors`. */
export function goldenFile(name: string): string {
  return `${fileStem(name)}.golden.safetensors`;
}

/** The matrix of an `orthogonal` codec beside the plan: `llama-d128.orthogonal-key.safetensors`. */
export function matrixFile(name: string, role: 'key' | 'value'): string {
  return `${fileStem(name)}.orthogonal-${role}.safetensors`;
}
