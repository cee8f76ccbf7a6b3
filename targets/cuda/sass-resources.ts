/** What a kernel takes of a multiprocessor: the text of `cuobjdump -res-usage`. */

import type { Limits } from './sass-rates.ts';

export interface Resources {
  readonly name: string;
  readonly registers: number;
  /** Bytes of a thread's stack: arrays in thread-local memory and spilled registers. */
  readonly stackBytes: number;
  /** Bytes of shared memory that the kernel declares; what a launch adds is not among them. */
  readonly sharedBytes: number;
}

export function parseResources(text: string): readonly Resources[] {
  const found = text.matchAll(
    /^\s*Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)/gm,
  );
  return [...found].map(([, name, registers, stack, shared, local]) => ({
    name: name!,
    registers: Number(registers),
    stackBytes: Number(stack) + Number(local),
    sharedBytes: Number(shared),
  }));
}

/** Warps of a kernel that a multiprocessor holds at once. */
export function residentWarps(
  use: { readonly registers: number; readonly threads: number; readonly sharedBytes: number },
  limits: Limits,
): number {
  const warps = Math.ceil(use.threads / 32);
  // Registers are given out to warps in pieces of 256, shared memory in pieces of 128 bytes.
  const registers = warps * Math.ceil((use.registers * 32) / 256) * 256;
  const shared = Math.ceil((use.sharedBytes + limits.reservedBytes) / 128) * 128;
  const blocks = Math.min(
    limits.blocks,
    Math.floor(limits.warps / warps),
    Math.floor(limits.registers / registers),
    Math.floor(limits.sharedBytes / shared),
  );
  return blocks * warps;
}
