/** What a target is: a record that says what it can do, turns plans into views, and runs what was emitted. */

import type { KernelCalls, Plan, Role } from '../plan/index.ts';

/** Views hold text, truth and lists: no numbers (handlebars adds adjacent ones) and no logic left for a template. */
export type View = { readonly [key: string]: ViewValue };
export type ViewValue = string | boolean | readonly ViewValue[] | View;

/** One file to emit: a template and what fills it. */
export interface FileView {
  /** Path below the output folder, with forward slashes. */
  readonly path: string;
  /** Template below templates/, for example `lattice/attend.cpp.hbs`. */
  readonly template: string;
  readonly view: View;
  /** The kernel or part that the file holds, for its header line. */
  readonly part: string;
}

/** A capability that a plan needs and the target lacks. */
export interface Unsupported {
  /** Name in the capability table, for example `layout.tiles32/1`. */
  readonly capability: string;
  /** Path in the spec, for example `key.layout`. */
  readonly path: string;
  readonly message: string;
}

export interface Capability {
  readonly name: string;
  readonly supported: boolean;
  readonly note: string;
}

/** One line of `polarc doctor`. */
export interface Check {
  readonly what: string;
  readonly ok: boolean;
  /** Version or path found, or how to install what is missing. */
  readonly detail: string;
  /** Without it the target's kernels cannot be built or run here. */
  readonly required: boolean;
}

export interface BuildOptions {
  /** Folder that holds the emitted files of this target (the folder given to `generate --out`). */
  readonly folder: string;
  readonly plan: Plan;
  /** Sanitizers to build with. */
  readonly sanitize?: boolean;
  /** Optimisation of the kernels, 3 unless sanitizers are on: 1 compiles sooner. The results are the same. */
  readonly optimize?: 1 | 2 | 3;
  /** Threads that work on one call, where the target runs on the CPU. Default 1. */
  readonly threads?: number;
  /** Called with a line for each build step. */
  readonly progress?: (line: string) => void;
}

/** Versions of some kernels that a build holds and chooses from when it runs: speed differs, bounds do not. */
export interface Variants {
  /** Those that this machine can run, the one that is chosen by itself first. */
  readonly names: readonly string[];
  /** The kernels that they differ in. */
  readonly kernels: readonly string[];
  /** Uses one of `names` from now on. */
  use(name: string): void;
}

/** A call whose arrays lie where kernels read them, to be timed again and again. */
export interface ResidentCall {
  /** Runs it; nanoseconds by the best clock there is. */
  run(): Promise<number>;
  close(): void;
}

/** Operations of the loops over tokens, counted in the emitted code: of one coordinate, for all queries of a group. */
export interface OperationCount {
  /** `attend, keys`: the kernel and its loop. */
  readonly loop: string;
  /** Packed bytes of memory. */
  readonly bytes: number;
  /** Look-ups in tables, and numbers read from memory that a workgroup shares. */
  readonly lookups: number;
  readonly integer: number;
  readonly float: number;
}

/**
 * What machines that are not at hand would make of a kernel's loop over tokens, counted in code compiled for them, with
 * assumed rates.
 */
export interface Prediction {
  readonly kernel: string;
  /** What it was compiled for. */
  readonly architecture: string;
  /** Of a thread. */
  readonly registers: number;
  /** Bytes of memory that a group of threads shares. */
  readonly sharedBytes: number;
  /** Groups of lanes in lockstep that one multiprocessor holds at once. */
  readonly warps: number;
  /** Instructions that read or write memory of a thread's own: none, unless registers do not suffice. */
  readonly spills: number;
  /** Instructions of a lane for each coordinate. */
  readonly instructions: number;
  /** Cycles that each kind of unit is busy while every lane of a warp decodes 16 coordinates. */
  readonly cycles: Readonly<Record<string, number>>;
  /** The unit that is busy longest. */
  readonly bound: string;
  readonly machines: readonly {
    readonly name: string;
    /** Time that memory needs for what the loop reads over time that the busiest unit needs; memory binds from 1 on. */
    readonly headroom: number;
  }[];
  /** What the count leaves out or guesses. */
  readonly notes: readonly string[];
}

/** An emitted cache, built and loaded. */
export interface BuiltCache {
  readonly calls: KernelCalls;
  /** Left out: the kernels have one version. */
  readonly variants?: Variants;
  /** Its float arithmetic cannot be pinned: bytes of this device are certified, not equal (docs/exactness.md). */
  readonly certify?: boolean;
  /** Zeroed memory where kernels read fastest, for pools and rows. Left out: any array is as good. */
  readonly bytes?: (length: number) => Uint8Array;
  /** Copies a call's arrays to where kernels read them. Left out: they are there already. */
  readonly resident?: (kernel: keyof KernelCalls, call: unknown) => Promise<ResidentCall>;
  /** Bytes that a timed call reads at least, so that no cache holds them. Default 160 MiB. */
  readonly coldBytes?: number;
  /** What its loops over tokens execute, where the machine that runs it says little about others. */
  readonly operations?: readonly OperationCount[];
  /** What runs it, for reports: "AMD EPYC 9B14, 2 threads". */
  readonly device: string;
  close(): void;
}

/** A normalised squared error the kernels of one arithmetic keep to (docs/exactness.md). */
export interface Arithmetic {
  readonly id: string;
  readonly bound: number;
  /**
   * What a logit may be off by, relative to A = ‖q‖·‖k̂‖·scale, where keys are multiplied in a type whose roundings
   * exceed √bound / 32; the log-sum-exp moves as much. Default 0.
   */
  readonly logitError?: number;
  /** What some devices lack for it. Left out: every device of the target has it. */
  readonly needs?: string;
}

/** Something that a target decides by the plan: rows of a table, their cells by column. */
export interface Choice {
  readonly what: string;
  readonly rows: readonly Readonly<Record<string, string>>[];
  readonly note?: string;
}

export interface Target {
  readonly id: string;
  readonly title: string;
  /** Words that no identifier may be, beside those of TypeScript. */
  readonly reservedWords: readonly string[];
  readonly arithmetics: readonly Arithmetic[];
  readonly capabilities: readonly Capability[];
  /** What of the plan this target cannot do; empty when it can do all. */
  unsupported(plan: Plan): readonly Unsupported[];
  /** The files of a cache, paths beginning with the target's id. */
  files(plan: Plan): readonly FileView[];
  /** What it decides by the plan beside that, for `inspect`. Left out: nothing. */
  choices?(plan: Plan): readonly Choice[];
  /** What this machine can build and run. */
  check(): Promise<readonly Check[]>;
  /**
   * What Node's environment must hold to load kernels built with sanitizers, whose first finding ends the process; throws
   * a `UserError` that names what is missing. Left out: the target has no sanitizers.
   */
  sanitizerEnvironment?(): Promise<Readonly<Record<string, string>>>;
  /**
   * Bytes a second that `threads` threads read from memory here, measured now: what memory-bound kernels are held
   * against. Left out: the target cannot measure it.
   */
  readBandwidth?(threads: number): Promise<number>;
  /**
   * A switch for flush-to-zero and denormals-are-zero of this thread, where kernels run on it: they must give the same
   * bytes with either. Left out: the target has no such switch.
   */
  flushToZero?(): Promise<(on: boolean) => void>;
  /**
   * Why nothing that runs here is worth timing: kernels run on something that stands in for their machine. Null: they do
   * not. Left out: they never do.
   */
  standIn?(): Promise<string | null>;
  /**
   * What an emitted folder would do on machines that are not at hand; throws a `UserError` that names what is missing to
   * compile and count. Left out: the target's kernels are timed where they run.
   */
  predict?(options: BuildOptions): Promise<readonly Prediction[]>;
  /** Build and load an emitted folder; throws a `UserError` that names what is missing. */
  build(options: BuildOptions): Promise<BuiltCache>;
}

export type { KernelCalls, Role };
