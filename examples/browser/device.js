/** The GPU of the page: adapter, device, buffers, and the time that recorded calls take. */

import { median } from './figures.js';
import { Problem } from './problem.js';

const BROWSERS =
  'Chrome or Edge 113 or later (Windows, macOS, ChromeOS; Android from 121), Safari 26 or later, ' +
  'Firefox 141 or later (Windows; macOS from 145).';
const LINUX =
  'Chromium on Linux may need flags: `--enable-unsafe-webgpu --enable-features=Vulkan`, or ' +
  'chrome://flags/#enable-unsafe-webgpu.';
const SOFTWARE =
  'On a machine without a GPU, start Chromium with ' +
  '`--enable-unsafe-webgpu --use-webgpu-adapter=swiftshader`: slow, and the same results.';

/**
 * @typedef {object} Opened
 * @property {GPUDevice} device
 * @property {string} name of the adapter
 * @property {boolean} software whether it computes on the CPU
 * @property {boolean} timestamps whether the device tells the time itself
 */

/** @returns {Promise<GPUAdapter>} */
export async function openAdapter() {
  if (!globalThis.isSecureContext) {
    throw new Problem(
      'WebGPU is off on this address',
      'Browsers offer WebGPU only over https, or on this machine itself.',
      ['Open the page as http://localhost:…, the address that serve.js prints.'],
    );
  }
  if (navigator.gpu === undefined) {
    throw new Problem(
      'This browser has no WebGPU',
      'The kernels of this page are WebGPU compute shaders; the browser does not offer ' +
        '`navigator.gpu`, so nothing could be computed.',
      [`Use a browser that has it: ${BROWSERS}`, LINUX],
    );
  }
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (adapter !== null) return adapter;
  throw new Problem(
    'This browser found no GPU for WebGPU',
    'It has WebGPU, but `requestAdapter()` gave no adapter: there is no GPU, its driver is too ' +
      'old, or the browser does not trust it.',
    ['Look at chrome://gpu (in Firefox about:support) for the reason.', LINUX, SOFTWARE],
  );
}

/** @returns {Promise<Opened>} */
export async function openDevice(adapter, features) {
  const timestamps = adapter.features.has('timestamp-query');
  let device;
  try {
    device = await adapter.requestDevice({
      requiredFeatures: [...features, ...(timestamps ? ['timestamp-query'] : [])],
    });
  } catch (error) {
    throw new Problem('The GPU gave no device', String(error.message ?? error), [
      'Reload the page; close other pages that use the GPU.',
      SOFTWARE,
    ]);
  }
  return { device, timestamps, ...nameOf(adapter) };
}

function nameOf({ info, isFallbackAdapter }) {
  const { vendor = '', architecture = '', description = '' } = info ?? {};
  const software =
    (info?.isFallbackAdapter ?? isFallbackAdapter ?? false) ||
    /swiftshader|llvmpipe|warp/i.test(`${architecture} ${description}`);
  const words = description === '' ? `${vendor} ${architecture}`.trim() : description;
  return { software, name: words === '' ? 'a GPU that the browser does not name' : words };
}

/** Buffers that live as long as one experiment. */
export class Buffers {
  #device;
  #all = [];

  constructor(device) {
    this.#device = device;
  }

  empty(bytes) {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const size = Math.max(4, Math.ceil(bytes / 4) * 4);
    const buffer = this.#device.createBuffer({ size, usage });
    this.#all.push(buffer);
    return buffer;
  }

  /** The array, `copies` times one behind the other. */
  of(array, copies = 1) {
    const buffer = this.empty(array.byteLength * copies);
    for (let i = 0; i < copies; i++) {
      this.#device.queue.writeBuffer(buffer, i * array.byteLength, array);
    }
    return buffer;
  }

  /** Records and submits the calls, then reads buffers back: an array of the class given for each. */
  async run(calls, reads) {
    const encoder = this.#device.createCommandEncoder();
    for (const call of calls) call.record(encoder);
    const copies = reads.map(([buffer]) => {
      const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
      const copy = this.#device.createBuffer({ size: buffer.size, usage });
      encoder.copyBufferToBuffer(buffer, 0, copy, 0, buffer.size);
      return copy;
    });
    this.#device.queue.submit([encoder.finish()]);
    const arrays = [];
    for (const [i, copy] of copies.entries()) {
      await copy.mapAsync(GPUMapMode.READ);
      arrays.push(new reads[i][1](copy.getMappedRange().slice(0)));
      copy.destroy();
    }
    return arrays;
  }

  destroy() {
    for (const buffer of this.#all) buffer.destroy();
    this.#all = [];
  }
}

/** Browsers round timestamps to 0.1 ms: a round lasts long enough for that to be little. */
const ROUND_MS = 8;
const MOST_REPEATS = 256;
/** Rounds of a call: fewer where it is slow, so that a software adapter is done in time. */
const MOST_ROUNDS = 7;
export const LEAST_ROUNDS = 3;
const BUDGET_MS = 400;

/**
 * Milliseconds of each call: the median of rounds in which every call has its turn, so that a clock that changes
 * changes for all.
 *
 * @param {Opened} opened
 * @param {Record<string, { record(target: GPUComputePassEncoder): void }>} calls
 * @returns {Promise<Record<string, number>>}
 */
export async function timesOf({ device, timestamps }, calls) {
  const clock = timestamps ? new Timestamps(device) : null;
  const round = async (call, repeats) => {
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass(clock === null ? {} : clock.pass);
    for (let i = 0; i < repeats; i++) call.record(pass);
    pass.end();
    clock?.resolve(encoder);
    const commands = encoder.finish();
    const start = performance.now();
    device.queue.submit([commands]);
    await device.queue.onSubmittedWorkDone();
    const waited = performance.now() - start;
    return (clock === null ? waited : await clock.read()) / repeats;
  };
  const plans = [];
  for (const [name, call] of Object.entries(calls)) {
    const first = await round(call, 1); // warms up
    const once = Math.max(0.02, first > ROUND_MS ? first : await round(call, 4));
    const repeats = Math.max(1, Math.min(MOST_REPEATS, Math.ceil(ROUND_MS / once)));
    const rounds = Math.floor(BUDGET_MS / (once * repeats));
    plans.push({
      name,
      call,
      repeats,
      rounds: Math.max(LEAST_ROUNDS, Math.min(MOST_ROUNDS, rounds)),
      times: [],
    });
  }
  for (let i = 0; i < MOST_ROUNDS; i++) {
    for (const { call, repeats, rounds, times } of plans) {
      if (i < rounds) times.push(await round(call, repeats));
    }
  }
  clock?.destroy();
  return Object.fromEntries(plans.map(({ name, times }) => [name, median(times)]));
}

/** The device's own clock before and behind a pass. */
class Timestamps {
  #set;
  #resolved;
  #copy;

  constructor(device) {
    this.#set = device.createQuerySet({ type: 'timestamp', count: 2 });
    this.#resolved = device.createBuffer({
      size: 16,
      usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    });
    this.#copy = device.createBuffer({
      size: 16,
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    });
  }

  get pass() {
    return {
      timestampWrites: {
        querySet: this.#set,
        beginningOfPassWriteIndex: 0,
        endOfPassWriteIndex: 1,
      },
    };
  }

  resolve(encoder) {
    encoder.resolveQuerySet(this.#set, 0, 2, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, this.#copy, 0, 16);
  }

  /** Milliseconds. */
  async read() {
    await this.#copy.mapAsync(GPUMapMode.READ);
    const [begin, end] = new BigUint64Array(this.#copy.getMappedRange());
    const ms = Number(end - begin) / 1e6;
    this.#copy.unmap();
    return ms;
  }

  destroy() {
    this.#set.destroy();
    this.#resolved.destroy();
    this.#copy.destroy();
  }
}
