/** Machine code of NVIDIA GPUs: the text of `cuobjdump -sass` as instructions. */

/** One instruction. A branch and what it jumps to are numbers: the addresses that the text shows. */
export interface Instruction {
  readonly address: number;
  /** `P0`, `!P0`, `UP1`; null: it always executes. `!PT`: it never does. */
  readonly predicate: string | null;
  /** `IMAD`: without modifiers. */
  readonly opcode: string;
  /** `['WIDE', 'U32']` of `IMAD.WIDE.U32`. */
  readonly modifiers: readonly string[];
  readonly operands: string;
  /** Where a branch jumps to; null for anything else, and for a jump through a register. */
  readonly target: number | null;
}

export interface SassKernel {
  readonly name: string;
  readonly instructions: readonly Instruction[];
}

export interface Sass {
  /** `sm_90`. */
  readonly architecture: string;
  readonly kernels: readonly SassKernel[];
}

const ARCHITECTURE = /^\s*(?:code for|\.target|arch =)\s*(sm_\d+)/;
const FUNCTION = /^\s*Function\s*:\s*(\S+)/;
const INSTRUCTION =
  /^\s*\/\*([0-9a-f]{4,})\*\/\s+(?:@(!?U?P(?:\d+|T))\s+)?([A-Z][A-Z0-9_]*)((?:\.\w+)*)\s*([^;]*?)\s*;/;

/** Instructions that jump to an address in their text. */
const JUMPS = new Set(['BRA', 'JMP', 'CALL']);

/** Throws an `Error` where the text is of something else. */
export function parseSass(text: string): Sass {
  let architecture: string | null = null;
  const kernels: { name: string; instructions: Instruction[] }[] = [];
  for (const line of text.split('\n')) {
    const instruction = INSTRUCTION.exec(line);
    if (instruction !== null) {
      const kernel = kernels.at(-1);
      if (kernel === undefined) throw new Error(`an instruction outside of a function: ${line}`);
      kernel.instructions.push(instructionOf(instruction));
      continue;
    }
    architecture ??= ARCHITECTURE.exec(line)?.[1] ?? null;
    const name = FUNCTION.exec(line)?.[1];
    if (name !== undefined) kernels.push({ name, instructions: [] });
  }
  if (architecture === null) throw new Error('the text names no architecture: it is no SASS');
  return { architecture, kernels };
}

function instructionOf(match: RegExpExecArray): Instruction {
  const [, address, predicate, opcode, modifiers, operands] = match;
  const target = JUMPS.has(opcode!) ? /0x([0-9a-f]+)\s*$/.exec(operands!)?.[1] : undefined;
  return {
    address: Number.parseInt(address!, 16),
    predicate: predicate ?? null,
    opcode: opcode!,
    modifiers: modifiers!.split('.').slice(1),
    operands: operands!,
    target: target === undefined ? null : Number.parseInt(target, 16),
  };
}

/** `IMAD.WIDE.U32`. */
export const mnemonic = ({ opcode, modifiers }: Instruction): string =>
  [opcode, ...modifiers].join('.');
