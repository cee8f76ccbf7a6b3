/**
 * What GPUs do in a cycle. These are assumptions, from vendors' tables and others' measurements: none was checked on a
 * GPU yet. Every predicted figure rests on them; counts of instructions do not.
 */

/** Cycles that one instruction of a warp takes its pipe on one sub-partition, a quarter of a multiprocessor. */
export interface Rates {
  /** float32; shared with `half` and, the heavy half of the pipe alone, with `imad`. */
  readonly fma: number;
  readonly half: number;
  readonly imad: number;
  readonly alu: number;
  /** Of one parcel of 128 bytes: the four sub-partitions share one path of 128 bytes a cycle. */
  readonly wavefront: number;
  readonly xu: number;
  /** Of one 16 × 8 × 16 tile with float32 sums. */
  readonly tensor: number;
}

/** What bounds how many warps a multiprocessor holds. */
export interface Limits {
  readonly warps: number;
  readonly blocks: number;
  readonly registers: number;
  /** Bytes of shared memory of all its blocks. */
  readonly sharedBytes: number;
  /** Bytes of it that the system takes of every block. */
  readonly reservedBytes: number;
}

export interface Architecture {
  /** `sm_90`. */
  readonly name: string;
  readonly rates: Rates;
  readonly limits: Limits;
}

export interface Gpu {
  readonly name: string;
  readonly architecture: string;
  readonly multiprocessors: number;
  /** Under load. */
  readonly gigahertz: number;
  /** Gigabytes a second of its memory. */
  readonly bandwidth: number;
}

const LIMITS = { blocks: 32, registers: 65536, reservedBytes: 1024 };

export const ARCHITECTURES: readonly Architecture[] = [
  {
    name: 'sm_80',
    rates: { fma: 2, half: 1, imad: 2, alu: 2, wavefront: 4, xu: 8, tensor: 8 },
    limits: { ...LIMITS, warps: 64, sharedBytes: 164 * 1024 },
  },
  {
    name: 'sm_90',
    rates: { fma: 1, half: 1, imad: 2, alu: 2, wavefront: 4, xu: 8, tensor: 6.5 },
    limits: { ...LIMITS, warps: 64, sharedBytes: 228 * 1024 },
  },
  {
    name: 'sm_120',
    rates: { fma: 1, half: 2, imad: 2, alu: 2, wavefront: 4, xu: 8, tensor: 16 },
    limits: { ...LIMITS, warps: 48, blocks: 24, sharedBytes: 100 * 1024 },
  },
];

export const GPUS: readonly Gpu[] = [
  {
    name: 'A100-80',
    architecture: 'sm_80',
    multiprocessors: 108,
    gigahertz: 1.41,
    bandwidth: 2039,
  },
  { name: 'H100', architecture: 'sm_90', multiprocessors: 132, gigahertz: 1.755, bandwidth: 3350 },
  { name: 'H200', architecture: 'sm_90', multiprocessors: 132, gigahertz: 1.755, bandwidth: 4800 },
  {
    name: 'RTX 5090',
    architecture: 'sm_120',
    multiprocessors: 170,
    gigahertz: 2.41,
    bandwidth: 1792,
  },
];

/** Throws an `Error` for one whose rates are not known. */
export function architectureOf(name: string): Architecture {
  const found = ARCHITECTURES.find((architecture) => architecture.name === name);
  if (found === undefined) throw new Error(`the rates of ${name} are not known`);
  return found;
}

/** Cycles that a sub-partition has while memory delivers so many bytes to each of its warps' trips. */
export function cyclesOfBytes(gpu: Gpu, bytes: number): number {
  const bytesPerCycle = gpu.bandwidth / gpu.gigahertz / gpu.multiprocessors;
  return (4 * bytes) / bytesPerCycle;
}
