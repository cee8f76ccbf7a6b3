/** Which pipe of a multiprocessor executes an instruction, and how much of it that takes. */

import { type Instruction, mnemonic } from './sass.ts';

/**
 * `alu` whole numbers, bits, comparisons, conversions to f16 · `fma` float32 · `half` two f16 · `imad` whole products ·
 * `lsu` memory of all kinds, shuffles · `xu` exponentials, reciprocals, rarer conversions · `tensor` products of
 * matrices · `uniform` what a warp computes once, constants · `control` branches, barriers, and what never executes.
 */
export const PIPES = [
  'alu',
  'fma',
  'half',
  'imad',
  'lsu',
  'xu',
  'tensor',
  'uniform',
  'control',
] as const;
export type Pipe = (typeof PIPES)[number];

const words = (text: string): readonly string[] => text.trim().split(/\s+/);

const OPCODES: Readonly<Record<Pipe, readonly string[]>> = {
  alu: words(`
    LOP3 LOP LOP32I SHF PRMT IADD3 IADD LEA ISETP FSETP FMNMX FMNMX3 SEL FSEL MOV VIADD VIADDMNMX VIMNMX VIMNMX3
    VHMNMX IMNMX PLOP3 F2FP I2FP IABS BMSK SGXT VOTE VOTEU P2R R2P FLO HSETP2 HSET2 HMNMX2 CS2R FSET ISET FCHK`),
  fma: words('FFMA FADD FMUL FFMA2 FADD2 FMUL2 FFMA32I FADD32I FMUL32I FSWZADD'),
  half: words('HFMA2 HADD2 HMUL2 HFMA2_32I'),
  imad: words('IMAD IDP IMUL'),
  lsu: words(`
    LDS STS LDG STG LD ST SHFL LDSM STSM ATOM ATOMS ATOMG RED REDG LDL STL LDGSTS LDGDEPBAR MOVM MATCH CCTL`),
  xu: words('MUFU F2F I2F F2I POPC BREV FRND'),
  tensor: words('HMMA IMMA QMMA BMMA DMMA OMMA'),
  uniform: words('R2UR S2R S2UR LDC LDCU REDUX CREDUX'),
  control: words(`
    BRA BRX JMP JMX BSSY BSYNC BREAK BMOV WARPSYNC EXIT RET CALL NOP BAR DEPBAR YIELD NANOSLEEP MEMBAR ERRBAR ELECT
    KILL BPT PMTRIG ACQBULK PREEXIT FENCE`),
};

const PIPE_OF: ReadonlyMap<string, Pipe> = new Map(
  PIPES.flatMap((pipe) => OPCODES[pipe].map((opcode): [string, Pipe] => [opcode, pipe])),
);

/** Null: no known opcode; who counts says so, and takes it for `alu`. */
export function pipeOf({ opcode, predicate }: Instruction): Pipe | null {
  // Such instructions stand there for errata of the hardware; they are issued and end there.
  if (predicate === '!PT') return 'control';
  return PIPE_OF.get(opcode) ?? (opcode.startsWith('U') ? 'uniform' : null);
}

/**
 * Parcels of 128 bytes between a warp's registers and shared memory or the first-level cache, without conflicts of
 * banks: two for 64 bits a lane, four for 128. Lanes that read one and the same place need fewer: not looked at.
 */
export function wavefronts(instruction: Instruction): number {
  if (pipeOf(instruction) !== 'lsu') return 0;
  const { opcode, modifiers } = instruction;
  if (opcode === 'LDSM' || opcode === 'STSM') {
    // One for each matrix of 8 × 8: `LDSM.16.M88.4`.
    return modifiers.includes('4') ? 4 : modifiers.includes('2') ? 2 : 1;
  }
  if (opcode === 'LDGDEPBAR') return 0;
  return modifiers.includes('128') ? 4 : modifiers.includes('64') ? 2 : 1;
}

/** Products of a 16 × 8 × 16 tile of f16, or what takes as long. */
export function tensorTiles(instruction: Instruction): number {
  if (pipeOf(instruction) !== 'tensor') return 0;
  const shape = instruction.modifiers.find((modifier) => /^\d{4,}$/.test(modifier));
  return shape === '1688' ? 0.5 : 1;
}

/** Thread-local memory in the kernel: spills, and arrays whose index is not known when it is compiled. */
export const isLocalAccess = ({ opcode }: Instruction): boolean =>
  opcode === 'LDL' || opcode === 'STL';

/** What a lane's own work should not hold: moves and reads of special registers that belong in front of the loop. */
export const isOverhead = (instruction: Instruction): boolean =>
  ['MOV', 'S2R'].includes(instruction.opcode) || mnemonic(instruction).startsWith('IMAD.MOV');
