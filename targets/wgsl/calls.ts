/// <reference types="@webgpu/types" />
/**
 * Calls over typed arrays by kernels over GPU buffers: every array goes to a buffer of its own, what a kernel writes comes
 * back. For tests and verification; a runtime keeps its arrays on the device.
 */

import type {
  CacheIndex,
  DecodeCall,
  EncodeCall,
  KernelCalls,
  Pool,
  Role,
  RotateCall,
  Rows,
  Transform,
} from '../../generator/plan/index.ts';
import type { ResidentCall } from '../../generator/target/index.ts';

export interface EmittedPrepared {
  record(target: GPUCommandEncoder | GPUComputePassEncoder): void;
  destroy(): void;
}

type Call = Readonly<Record<string, unknown>>;
type Prepare = (call: Call) => EmittedPrepared;

/** What is used here of the class in an emitted NAME.d.ts. */
export interface EmittedKernels {
  readonly variant: string;
  encodeKey: Prepare;
  encodeValue: Prepare;
  decodeKey: Prepare;
  decodeValue: Prepare;
  rotateKey: Prepare;
  rotateValue: Prepare;
  scores: Prepare;
  weightedSum: Prepare;
  attend: Prepare;
  attendDense: Prepare;
  merge: Prepare;
  scoresWorkspace(shape: Call): number;
  weightedSumWorkspace(shape: Call): number;
  attendWorkspace(shape: Call): number;
  attendDenseWorkspace(shape: Call): number;
  mergeWorkspace(shape: Call): number;
  destroy(): void;
}

export interface EmittedClass {
  create(
    device: GPUDevice,
    options?: { readonly variant?: string; readonly kernels?: readonly string[] },
  ): Promise<EmittedKernels>;
}

type Data = Float32Array | Uint16Array | Int32Array | Uint32Array | Uint8Array;

/** GPUBufferUsage and GPUMapMode, which Node does not define. */
const STORAGE = 0x80;
const COPY_SRC = 0x4;
const COPY_DST = 0x8;
const MAP_READ = 0x1;

const padded = (bytes: number): number => Math.max(4, Math.ceil(bytes / 4) * 4);

/** The buffers of one call. */
export class Arrays {
  readonly #device: GPUDevice;
  readonly #buffers = new Map<Data, GPUBuffer>();
  readonly #written = new Set<Data>();
  readonly #scratch: GPUBuffer[] = [];

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** The array's buffer: the same one each time. */
  read(data: Data): GPUBuffer {
    let buffer = this.#buffers.get(data);
    if (buffer === undefined) {
      const usage = STORAGE | COPY_SRC | COPY_DST;
      const size = padded(data.byteLength);
      buffer = this.#device.createBuffer({ size, usage, mappedAtCreation: true });
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      new Uint8Array(buffer.getMappedRange()).set(bytes);
      buffer.unmap();
      this.#buffers.set(data, buffer);
    }
    return buffer;
  }

  write(data: Data): GPUBuffer {
    this.#written.add(data);
    return this.read(data);
  }

  scratch(bytes: number): GPUBuffer {
    const buffer = this.#device.createBuffer({ size: padded(bytes), usage: STORAGE });
    this.#scratch.push(buffer);
    return buffer;
  }

  /** Submits what was prepared; what comes back copies what it wrote into the arrays. */
  submit(prepared: EmittedPrepared): () => Promise<void> {
    const encoder = this.#device.createCommandEncoder();
    prepared.record(encoder);
    const back = [...this.#written].map((data) => {
      const size = padded(data.byteLength);
      const copy = this.#device.createBuffer({ size, usage: MAP_READ | COPY_DST });
      encoder.copyBufferToBuffer(this.#buffers.get(data)!, 0, copy, 0, size);
      return { data, copy };
    });
    this.#device.queue.submit([encoder.finish()]);
    return async () => {
      for (const { data, copy } of back) {
        await copy.mapAsync(MAP_READ);
        const bytes = new Uint8Array(copy.getMappedRange(), 0, data.byteLength);
        new Uint8Array(data.buffer, data.byteOffset, data.byteLength).set(bytes);
        copy.destroy();
      }
    };
  }

  destroy(): void {
    for (const buffer of [...this.#buffers.values(), ...this.#scratch]) buffer.destroy();
  }
}

/** Arrays one behind the other, each with the index of its first number. */
class Packed<T extends Int32Array | Float32Array> {
  readonly #parts: T[] = [];
  #length = 0;

  add(array: T | undefined): number | undefined {
    if (array === undefined) return undefined;
    this.#parts.push(array);
    this.#length += array.length;
    return this.#length - array.length;
  }

  into(make: (length: number) => T): T {
    const all = make(Math.max(1, this.#length));
    let at = 0;
    for (const part of this.#parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }
}

/** What `prepareCall` makes of a call: the emitted call, on the device. */
export function prepareCall(
  kernels: EmittedKernels,
  arrays: Arrays,
  name: keyof KernelCalls,
  call: unknown,
): EmittedPrepared {
  const tables = new Packed<Int32Array>();
  const transforms = new Packed<Float32Array>();
  const given = call as Readonly<Record<string, unknown>>;
  const own = translate(arrays, name, given, tables, transforms);
  const finished: Record<string, unknown> = {
    ...own,
    tables: arrays.read(tables.into((length) => new Int32Array(length))),
    transforms: arrays.read(transforms.into((length) => new Float32Array(length))),
  };
  const workspace = `${name}Workspace` as keyof EmittedKernels;
  if (workspace in kernels) {
    const { rows, kvHeads, qHeads, splitTokens } = given;
    const maxTokens = (given.index as CacheIndex | undefined)?.maxTokens ?? given.maxTokens;
    const shape = { rows, kvHeads, qHeads, splitTokens, maxTokens };
    const bytes = (kernels[workspace] as (shape: Call) => number).call(kernels, shape);
    finished.workspace = { buffer: arrays.scratch(bytes) };
  }
  return (kernels[name as keyof EmittedKernels] as Prepare).call(kernels, finished);
}

/** Kernels that write the pools, rows, sums of a call under these names. */
const WRITES: ReadonlySet<string> = new Set(['out', 'scores', 'lse', 'errors', 'flags']);

function translate(
  arrays: Arrays,
  name: keyof KernelCalls,
  call: Readonly<Record<string, unknown>>,
  tables: Packed<Int32Array>,
  transforms: Packed<Float32Array>,
): Record<string, unknown> {
  const encodes = name === 'encodeKey' || name === 'encodeValue';
  const decodes = name === 'decodeKey' || name === 'decodeValue';
  const rows = (value: Rows, writes: boolean): Call => {
    const { data, ...rest } = value;
    const dtype = rest.dtype ?? (data instanceof Float32Array ? 'f32' : 'f16');
    return { ...rest, dtype, buffer: writes ? arrays.write(data) : arrays.read(data) };
  };
  const pool = ({ data, ...rest }: Pool, writes: boolean): Call => {
    return { ...rest, buffer: writes ? arrays.write(data) : arrays.read(data) };
  };
  const out: Record<string, unknown> = {};
  for (const [field, value] of Object.entries(call)) {
    if (value === undefined) continue;
    if (field === 'q' || field === 'in') out[field] = rows(value as Rows, false);
    else if (field === 'out') out[field] = rows(value as Rows, true);
    else if (field === 'rows' && (encodes || decodes)) out[field] = rows(value as Rows, decodes);
    else if (field === 'cache') out[field] = pool(value as Pool, encodes);
    else if ((field === 'keys' || field === 'values') && name !== 'attendDense') {
      out[field] = pool(value as Pool, false);
    } else if (field === 'slots') out[field] = tables.add(slotsOf(value as BigInt64Array));
    else if (field === 'index') out[field] = indexOf(value as CacheIndex, tables);
    else if (field === 'transform' || field === 'key' || field === 'value') {
      out[field] = transformOf(value as Transform, transforms);
    } else if (field === 'parts') {
      out[field] = (value as readonly Call[]).map((part) => ({
        out: rows(part.out as Rows, false),
        lse: { buffer: arrays.read(part.lse as Float32Array), ...strideOf(part, 'lse') },
      }));
    } else if (field === 'alwaysVisible') {
      out[field] = tables.add(Int32Array.from(value as Uint8Array));
    } else if (value instanceof Int32Array) out[field] = tables.add(value);
    else if (ArrayBuffer.isView(value)) {
      const data = value as Data;
      const buffer = WRITES.has(field) ? arrays.write(data) : arrays.read(data);
      out[field] = { buffer, ...strideOf(call, field) };
    } else if (!field.endsWith('Stride') || field === 'positionsStride') out[field] = value;
  }
  if (name === 'attendDense') {
    for (const [field, role] of [
      ['keys', 'key'],
      ['values', 'value'],
    ] as const) {
      out[field] = { buffer: arrays.read(call[field] as Data), ...denseStrides(call, role) };
    }
  }
  return out;
}

/** `lseRowStride` and such, as the emitted call has them beside the buffer. */
function strideOf(call: Call, field: string): Call {
  const rowStride = call[`${field}RowStride`];
  const headStride = call[`${field}HeadStride`];
  return {
    ...(rowStride === undefined ? {} : { rowStride }),
    ...(headStride === undefined ? {} : { headStride }),
  };
}

function denseStrides(call: Call, role: Role): Call {
  const strides: Record<string, unknown> = {};
  for (const what of ['Sequence', 'Token', 'Head']) {
    const stride = call[`${role}${what}Stride`];
    if (stride !== undefined) strides[`${what.toLowerCase()}Stride`] = stride;
  }
  return strides;
}

/** Slots are 32 bits on a GPU; what does not fit is beyond every pool, or skipped. */
function slotsOf(slots: BigInt64Array): Int32Array {
  const most = 2n ** 31n - 1n;
  return Int32Array.from(slots, (slot) => (slot < 0n ? -1 : Number(slot > most ? most : slot)));
}

function indexOf(index: CacheIndex, tables: Packed<Int32Array>): Call {
  const out: Record<string, unknown> = {};
  for (const [field, value] of Object.entries(index)) {
    out[field] = value instanceof Int32Array ? tables.add(value) : value;
  }
  if (index.indices !== undefined) out.indicesCount = index.indices.length;
  return out;
}

function transformOf(transform: Transform, transforms: Packed<Float32Array>): Call {
  const out: Record<string, unknown> = {};
  for (const [field, value] of Object.entries(transform)) {
    if (value !== undefined) out[field] = transforms.add(value as Float32Array);
  }
  return out;
}

/** Timestamps in nanoseconds around one pass. */
interface Clock {
  readonly timestampWrites: GPUComputePassTimestampWrites;
  resolve(encoder: GPUCommandEncoder): void;
  read(): Promise<number>;
  destroy(): void;
}

const QUERY_RESOLVE = 0x200;

function clockOf(device: GPUDevice): Clock {
  const querySet = device.createQuerySet({ type: 'timestamp', count: 2 });
  const times = device.createBuffer({ size: 16, usage: QUERY_RESOLVE | COPY_SRC });
  const copy = device.createBuffer({ size: 16, usage: MAP_READ | COPY_DST });
  return {
    timestampWrites: { querySet, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 },
    resolve: (encoder) => {
      encoder.resolveQuerySet(querySet, 0, 2, times, 0);
      encoder.copyBufferToBuffer(times, 0, copy, 0, 16);
    },
    read: async () => {
      await copy.mapAsync(MAP_READ);
      const [begin, end] = new BigUint64Array(copy.getMappedRange().slice(0));
      copy.unmap();
      return Number(end! - begin!);
    },
    destroy: () => {
      querySet.destroy();
      times.destroy();
      copy.destroy();
    },
  };
}

/** A call on the device, to be timed: by timestamps of the device where it has some, else until its queue is done. */
export function residentCall(
  device: GPUDevice,
  kernels: EmittedKernels,
  name: keyof KernelCalls,
  call: unknown,
): ResidentCall {
  const arrays = new Arrays(device);
  const prepared = prepareCall(kernels, arrays, name, call);
  const clock = device.features.has('timestamp-query') ? clockOf(device) : null;
  return {
    run: async () => {
      const encoder = device.createCommandEncoder();
      const started = performance.now();
      const pass = encoder.beginComputePass(
        clock === null ? {} : { timestampWrites: clock.timestampWrites },
      );
      prepared.record(pass);
      pass.end();
      clock?.resolve(encoder);
      device.queue.submit([encoder.finish()]);
      await device.queue.onSubmittedWorkDone();
      return clock === null ? (performance.now() - started) * 1e6 : await clock.read();
    },
    close: () => {
      prepared.destroy();
      arrays.destroy();
      clock?.destroy();
    },
  };
}

/** The kernels as the suite calls them. `kernels` gives the variant in use. */
export function kernelCalls(device: GPUDevice, kernels: () => EmittedKernels): KernelCalls {
  const run = async (name: keyof KernelCalls, call: unknown): Promise<void> => {
    const arrays = new Arrays(device);
    try {
      // Nothing waits between the two: the scope holds the errors of this call and of no other.
      device.pushErrorScope('validation');
      let readBack: (() => Promise<void>) | undefined;
      let prepared: EmittedPrepared | undefined;
      let scope: Promise<GPUError | null>;
      try {
        prepared = prepareCall(kernels(), arrays, name, call);
        readBack = arrays.submit(prepared);
      } finally {
        scope = device.popErrorScope();
      }
      const error = await scope;
      if (error !== null) throw new Error(`WebGPU: ${error.message}`);
      await readBack();
      prepared.destroy();
    } finally {
      arrays.destroy();
    }
  };
  return {
    encodeKey: (call: EncodeCall) => run('encodeKey', call),
    encodeValue: (call: EncodeCall) => run('encodeValue', call),
    decodeKey: (call: DecodeCall) => run('decodeKey', call),
    decodeValue: (call: DecodeCall) => run('decodeValue', call),
    rotateKey: (call: RotateCall) => run('rotateKey', call),
    rotateValue: (call: RotateCall) => run('rotateValue', call),
    scores: (call) => run('scores', call),
    weightedSum: (call) => run('weightedSum', call),
    attend: (call) => run('attend', call),
    attendDense: (call) => run('attendDense', call),
    merge: (call) => run('merge', call),
  };
}
