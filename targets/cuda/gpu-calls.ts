/**
 * Calls over typed arrays by kernels over memory of a device: every array is copied there, what a kernel writes comes back.
 * For tests and verification; a runtime keeps its arrays on the device.
 */

import type { KernelCalls } from '../../generator/plan/index.ts';
import type { ResidentCall } from '../../generator/target/index.ts';

interface DeviceBuffer {
  free(): void;
}

interface Stream {
  synchronize(): void;
  destroy(): void;
}

interface Event {
  record(stream: Stream): void;
  synchronize(): void;
  millisecondsSince(earlier: Event): number;
  destroy(): void;
}

type Call = Readonly<Record<string, unknown>>;

/** What is used here of the class in an emitted NAME.ts. */
export type EmittedKernels = Readonly<
  Record<keyof KernelCalls, (call: Call, stream?: Stream) => void>
> & {
  alloc(bytes: number): DeviceBuffer;
  upload(to: DeviceBuffer, from: ArrayBufferView): void;
  download(from: DeviceBuffer, to: ArrayBufferView): void;
  createStream(): Stream;
  createEvent(): Event;
  close(): void;
};

const KERNELS: readonly (keyof KernelCalls)[] = [
  'encodeKey',
  'encodeValue',
  'decodeKey',
  'decodeValue',
  'rotateKey',
  'rotateValue',
  'scores',
  'weightedSum',
  'attend',
  'attendDense',
  'merge',
];

/** Fields of a call that kernels write, beside the pool of encode and the rows of decode. */
const WRITTEN: ReadonlySet<string> = new Set(['out', 'scores', 'lse', 'errors', 'flags']);

/** The arrays of one call on the device: the same array is the same memory there. */
class Arrays {
  readonly #kernels: EmittedKernels;
  readonly #buffers = new Map<ArrayBufferView, DeviceBuffer>();
  readonly #written = new Set<ArrayBufferView>();

  constructor(kernels: EmittedKernels) {
    this.#kernels = kernels;
  }

  /** The call with buffers in place of arrays. */
  call(name: keyof KernelCalls, call: unknown): Call {
    const written = new Set(WRITTEN);
    if (name.startsWith('encode')) written.add('cache');
    if (name.startsWith('decode')) written.add('rows');
    return Object.fromEntries(
      Object.entries(call as Call).map(([field, value]) => [
        field,
        this.#value(value, written.has(field)),
      ]),
    );
  }

  bringBack(): void {
    for (const array of this.#written) this.#kernels.download(this.#buffers.get(array)!, array);
  }

  free(): void {
    for (const buffer of this.#buffers.values()) buffer.free();
  }

  #value(value: unknown, written: boolean): unknown {
    if (ArrayBuffer.isView(value)) return this.#buffer(value, written);
    if (Array.isArray(value)) return value.map((item) => this.#value(item, false));
    if (typeof value !== 'object' || value === null) return value;
    const fields = Object.entries(value).map(([name, item]) => [name, this.#value(item, written)]);
    // Of rows the array says the type, which memory of a device does not.
    const short = (value as { readonly data?: unknown }).data instanceof Uint16Array;
    return { ...(short && { dtype: 'f16' }), ...Object.fromEntries(fields) };
  }

  #buffer(array: ArrayBufferView, written: boolean): DeviceBuffer {
    if (written) this.#written.add(array);
    let buffer = this.#buffers.get(array);
    if (buffer === undefined) {
      buffer = this.#kernels.alloc(array.byteLength);
      this.#buffers.set(array, buffer);
      this.#kernels.upload(buffer, array);
    }
    return buffer;
  }
}

/** The kernels as the suite calls them. */
export function kernelCalls(kernels: EmittedKernels): KernelCalls {
  const run = (name: keyof KernelCalls) => (call: unknown) => {
    const arrays = new Arrays(kernels);
    try {
      kernels[name](arrays.call(name, call));
      arrays.bringBack();
    } finally {
      arrays.free();
    }
  };
  return Object.fromEntries(KERNELS.map((name) => [name, run(name)])) as unknown as KernelCalls;
}

/** A call whose arrays stay on the device, timed by events in its stream. */
export function residentCall(
  kernels: EmittedKernels,
  name: keyof KernelCalls,
  call: unknown,
): ResidentCall {
  const arrays = new Arrays(kernels);
  const there = arrays.call(name, call);
  const stream = kernels.createStream();
  const [begin, end] = [kernels.createEvent(), kernels.createEvent()];
  return {
    run: async () => {
      begin.record(stream);
      kernels[name](there, stream);
      end.record(stream);
      end.synchronize();
      return end.millisecondsSince(begin) * 1e6;
    },
    close: () => {
      stream.synchronize();
      begin.destroy();
      end.destroy();
      stream.destroy();
      arrays.free();
    },
  };
}
