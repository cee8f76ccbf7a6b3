/** The emitted ES module as an embedder uses it: calls that are wrong, devices that are lost, steps that allocate nothing. */

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Plan } from '../../generator/plan/index.ts';
import { createReference } from '../../generator/reference/index.ts';
import { matrix, normalize, tiles } from '../../generator/spec/index.ts';
import type { EmittedClass, EmittedKernels } from '../../targets/wgsl/calls.ts';
import { checks, type OpenedDevice, openAdapter, openDevice } from '../../targets/wgsl/device.ts';
import { target } from '../../targets/wgsl/index.ts';
import { emitted } from '../fixtures/emitted.ts';
import { firstSlots, normals, planOf, poolOf } from '../fixtures/small-cache.ts';

const STORAGE = 0x80;
const COPY_SRC = 0x4;
const COPY_DST = 0x8;
const MAP_READ = 0x1;
const UNIFORM = 0x40;

const missing = (await checks()).filter(({ ok, required }) => required && !ok);
const reason = missing.map(({ what, detail }) => `${what}: ${detail}`).join('; ');
if (missing.length > 0) console.warn(`the ES module is not tested: ${reason}`);

const D = 32;
const HEADS = 2;
const TOKENS = 40;

/** Another device, with the core limits and no feature. */
const freshDevice = async (): Promise<GPUDevice> => (await openAdapter()).adapter.requestDevice();

async function load(plan: Plan): Promise<EmittedClass & { features(adapter: unknown): string[] }> {
  const stem = plan.name.replaceAll('_', '-');
  const path = join(emitted(plan, target), 'wgsl', stem, `${stem}.js`);
  const module = (await import(pathToFileURL(path).href)) as Record<string, never>;
  return Object.values(module)[0]!;
}

describe.skipIf(missing.length > 0)('the ES module', () => {
  const plan = planOf({ layout: tiles({ tokens: 32 }) });
  let opened: OpenedDevice;
  let device: GPUDevice;
  let kernels: EmittedKernels;
  let uncaptured: string[];

  beforeAll(async () => {
    opened = await openDevice();
    device = opened.device;
    uncaptured = [];
    device.onuncapturederror = ({ error }) => uncaptured.push(error.message);
    kernels = await (await load(plan)).create(device, { kernels: ['attend', 'merge'] });
  });
  afterAll(() => opened.close());

  const buffer = (size: number, usage = STORAGE | COPY_SRC | COPY_DST): GPUBuffer =>
    device.createBuffer({ size, usage });

  const upload = (data: Float32Array | Int32Array | Uint8Array): GPUBuffer => {
    const made = buffer(Math.ceil(data.byteLength / 4) * 4);
    device.queue.writeBuffer(made, 0, data as Uint8Array<ArrayBuffer>);
    return made;
  };

  const download = async (source: GPUBuffer): Promise<Float32Array> => {
    const copy = buffer(source.size, MAP_READ | COPY_DST);
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(source, 0, copy, 0, source.size);
    device.queue.submit([encoder.finish()]);
    await copy.mapAsync(MAP_READ);
    return new Float32Array(copy.getMappedRange().slice(0));
  };

  /** A cache of one sequence, written by the reference, and a call over it. */
  const sound = () => {
    const reference = createReference(plan);
    const slots = firstSlots(TOKENS);
    const pages = 2;
    const part = (role: 'key' | 'value', seed: number) => {
      const cache = poolOf(plan, role, pages, HEADS);
      const rows = { data: normals(TOKENS * HEADS * D, seed) };
      reference.encode(role, { rows, count: TOKENS, kvHeads: HEADS, slots, cache });
      return cache;
    };
    const [keys, values] = [part('key', 1), part('value', 2)];
    const heads = HEADS * plan.queryGroup;
    const q = normals(heads * D, 3);
    const shape = { rows: 1, kvHeads: HEADS, maxTokens: TOKENS };
    const expected = reference.attend({
      q: { data: q },
      out: { data: new Float32Array(heads * D) },
      ...shape,
      scale: 1,
      keys,
      values,
      index: { sequences: 1, maxTokens: TOKENS, lengths: Int32Array.of(TOKENS) },
    }).out;
    const call = {
      ...shape,
      q: { buffer: upload(q) },
      out: { buffer: buffer(heads * D * 4) },
      scale: 1,
      keys: { buffer: upload(keys.data), pages },
      values: { buffer: upload(values.data), pages },
      tables: upload(Int32Array.of(TOKENS, 0, 1)),
      index: { sequences: 1, maxTokens: TOKENS, lengths: 0, blockTable: 1 },
      workspace: { buffer: buffer(kernels.attendWorkspace(shape)) },
    };
    return { call, expected };
  };

  /** Runs the sound call and says how far it is from the reference. */
  const distance = async (): Promise<number> => {
    const { call, expected } = sound();
    const prepared = kernels.attend(call);
    const encoder = device.createCommandEncoder();
    prepared.record(encoder);
    device.queue.submit([encoder.finish()]);
    const out = await download(call.out.buffer);
    prepared.destroy();
    return Math.max(...expected.map((value, i) => Math.abs(value - out[i]!)));
  };

  const message = (act: () => unknown): string => {
    try {
      act();
    } catch (error) {
      return `${(error as { code?: string }).code} ${(error as Error).message}`;
    }
    return 'accepted';
  };

  test('names what is wrong with a call, and leaves the device as it was', async () => {
    const { call } = sound();
    const mapped = device.createBuffer({ size: 64, usage: STORAGE, mappedAtCreation: true });
    const with_ = (part: object) => message(() => kernels.attend({ ...call, ...part }));
    const index = (part: object) => with_({ index: { ...call.index, ...part } });
    expect([
      with_({ q: undefined }),
      with_({ q: { buffer: new Float32Array(256) } }),
      with_({ q: { buffer: buffer(64) } }),
      with_({ q: { buffer: call.q.buffer, dtype: 'f64' } }),
      with_({ q: { buffer: call.q.buffer, offset: -1 } }),
      with_({ out: { buffer: buffer(4096, UNIFORM) } }),
      with_({ out: { buffer: call.q.buffer } }),
      with_({ out: { buffer: mapped } }),
      with_({ keys: { buffer: call.keys.buffer, pages: 3 } }),
      with_({ keys: { buffer: call.keys.buffer, pages: 2, pageStride: 1022 } }),
      with_({ keys: { buffer: call.keys.buffer, pages: 2, unitStride: 4 } }),
      with_({ keys: { buffer: call.keys.buffer } }),
      with_({ scale: Number.NaN }),
      with_({ splitTokens: 48 }),
      with_({ basis: 'rotate' }),
      with_({ workspace: undefined }),
      with_({ workspace: { buffer: buffer(16) } }),
      with_({ workspace: { buffer: call.workspace.buffer, offset: 2 } }),
      with_({ tables: undefined }),
      with_({ kvHeads: 0 }),
      with_({ rows: 1.5 }),
      with_({ rowPosition: 3 }),
      with_({ lse: { buffer: call.out.buffer } }),
      index({ lengths: undefined }),
      index({ indptr: 0 }),
      index({ blockTable: 100 }),
      message(() => kernels.attend(undefined as never)),
      message(() => kernels.merge({ parts: [{}], rows: 1, qHeads: 1 })),
      message(() => kernels.attendWorkspace({ rows: 1, kvHeads: 1 })),
      message(() => kernels.attend(call).record({} as never)),
      message(() => kernels.scores({ ...call, scores: { buffer: buffer(4096) } })),
    ]).toMatchInlineSnapshot(`
      [
        "POLARC_INVALID_ARGUMENT attend: q is missing",
        "POLARC_INVALID_ARGUMENT attend: q.buffer is no GPUBuffer",
        "POLARC_INVALID_ARGUMENT attend: q.buffer has 64 bytes; 512 are needed",
        "POLARC_INVALID_ARGUMENT attend: q.dtype must be 'f32' or 'f16' or 'bf16', not f64",
        "POLARC_INVALID_ARGUMENT attend: q.offset must be a whole number from 0 to 4294967295, not -1",
        "POLARC_INVALID_ARGUMENT attend: out.buffer was created without GPUBufferUsage.STORAGE",
        "accepted",
        "POLARC_INVALID_ARGUMENT attend: out.buffer is mapped: unmap it before the call",
        "POLARC_INVALID_ARGUMENT attend: keys.buffer has 1984 bytes; 2976 are needed",
        "POLARC_INVALID_ARGUMENT attend: keys.pageStride is 1022: it must be a multiple of 4 bytes",
        "POLARC_INVALID_ARGUMENT attend: keys.unitStride must be a whole number from 496 to 17179869180, not 4",
        "POLARC_INVALID_ARGUMENT attend: keys.pages must be a whole number from 0 to 2147483647, not undefined",
        "POLARC_INVALID_ARGUMENT attend: scale must be a finite number, not NaN",
        "POLARC_INVALID_ARGUMENT attend: splitTokens is 48: it must be a multiple of 32, or 0",
        "POLARC_INVALID_ARGUMENT attend: basis must be 'original' or 'rotated', not rotate",
        "POLARC_INVALID_ARGUMENT attend: workspace is missing",
        "POLARC_INVALID_ARGUMENT attend: workspace.buffer has 16 bytes; 1120 are needed",
        "POLARC_INVALID_ARGUMENT attend: workspace.offset is 2: it must be a multiple of 4 bytes",
        "POLARC_INVALID_ARGUMENT attend: tables is missing",
        "POLARC_INVALID_ARGUMENT attend: kvHeads must be a whole number from 1 to 2147483647, not 0",
        "POLARC_INVALID_ARGUMENT attend: rows must be a whole number from 0 to 2147483647, not 1.5",
        "POLARC_INVALID_ARGUMENT attend: tables has 12 bytes; 16 are needed",
        "POLARC_INVALID_ARGUMENT attend: out.buffer and lse.buffer are in one buffer, which the kernel writes: WebGPU lets no dispatch do so; use two buffers",
        "POLARC_INVALID_ARGUMENT attend: index.lengths is missing",
        "POLARC_INVALID_ARGUMENT attend: index.blockTable and index.indptr are both given: give one of them",
        "POLARC_INVALID_ARGUMENT attend: tables has 12 bytes; 408 are needed",
        "POLARC_INVALID_ARGUMENT attend takes an object",
        "POLARC_INVALID_ARGUMENT merge: workspace is missing",
        "POLARC_INVALID_ARGUMENT attendWorkspace: maxTokens must be a whole number from 0 to 2147483647, not undefined",
        "POLARC_INVALID_ARGUMENT Small: record takes a GPUCommandEncoder or a GPUComputePassEncoder",
        "POLARC_INVALID_ARGUMENT scores was not compiled: name it among the kernels of Small.create",
      ]
    `);
    mapped.destroy();
    expect(await distance()).toBeLessThan(1e-5);
    expect(uncaptured).toEqual([]);
  });

  test('says which vectors and matrices a format needs', async () => {
    const full = planOf({ precondition: matrix(), center: true }, {}, { name: 'full' });
    const own = await (await load(full)).create(device, {
      kernels: ['encodeKey', 'rotateKey', 'rotateValue'],
    });
    const rows = { buffer: buffer(D * 4) };
    const call = {
      rows,
      count: 1,
      kvHeads: 1,
      tables: upload(Int32Array.of(0)),
      slots: 0,
      cache: { buffer: buffer(4096), pages: 1 },
      transforms: buffer(4096),
    };
    const with_ = (part: object) => message(() => own.encodeKey({ ...call, ...part }));
    expect([
      with_({}),
      with_({ transform: { mean: 0 } }),
      with_({ transform: { mean: 0, matrix: D } }),
      with_({ transform: { mean: 0, matrix: D }, transforms: undefined }),
      message(() =>
        own.rotateKey({
          in: rows,
          out: { ...rows, offset: 1 },
          count: 1,
          heads: 1,
          rotation: 'dual',
        }),
      ),
      message(() => own.rotateValue({ in: rows, out: rows, count: 1, heads: 1, rotation: 'up' })),
    ]).toMatchInlineSnapshot(`
      [
        "POLARC_INVALID_ARGUMENT encodeKey: transform.mean is missing",
        "POLARC_INVALID_ARGUMENT encodeKey: transform.matrix is missing",
        "POLARC_INVALID_ARGUMENT encodeKey: transforms has 4096 bytes; 4224 are needed",
        "POLARC_INVALID_ARGUMENT encodeKey: transforms is missing",
        "POLARC_INVALID_ARGUMENT rotateKey: out.buffer has 128 bytes; 132 are needed",
        "POLARC_INVALID_ARGUMENT rotateValue: rotation must be 'forward' or 'dual' or 'inverse', not up",
      ]
    `);
    own.destroy();
    expect(uncaptured).toEqual([]);
  });

  test('names the limit that a large pool exceeds', async () => {
    const small = await freshDevice();
    const limit = small.limits.maxStorageBufferBindingSize;
    const own = await (await load(plan)).create(small, { kernels: ['encodeKey'] });
    const size = limit + 4096;
    const pool = small.createBuffer({ size, usage: STORAGE });
    const table = small.createBuffer({ size: 4, usage: STORAGE });
    const unit = plan.key.layout.unitBytes;
    const call = {
      rows: { buffer: small.createBuffer({ size: D * 4, usage: STORAGE }) },
      count: 1,
      kvHeads: 1,
      tables: table,
      slots: 0,
    };
    const beyond = { buffer: pool, pages: Math.floor(size / unit) };
    expect(message(() => own.encodeKey({ ...call, cache: beyond }))).toBe(
      `POLARC_INVALID_ARGUMENT encodeKey: cache.buffer: ${beyond.pages * unit} bytes in one binding; ` +
        `this device binds at most ${limit}: request a greater maxStorageBufferBindingSize with ` +
        'the device, or call for fewer pages, heads or rows at a time',
    );
    // A range behind the limit is no problem: only what a call touches is bound.
    const behind = { buffer: pool, pages: 1, offset: limit };
    expect(message(() => own.encodeKey({ ...call, cache: behind }))).toBe('accepted');
    small.destroy();
  });

  test('says which feature a device lacks', async () => {
    const halfPlan = planOf({}, {}, { name: 'half', arithmetic: { wgsl: 'half' } });
    const Half = await load(halfPlan);
    const plain = await freshDevice();
    const rejected = async (act: Promise<unknown>): Promise<string> =>
      await act.then(
        () => 'accepted',
        (error) => `${error.code} ${error.message}`,
      );
    const Core = await load(plan);
    expect([
      await rejected(Half.create(plain)),
      await rejected(Core.create(plain, { variant: 'subgroups' })),
      await rejected(Core.create(plain, { variant: 'fast' })),
      await rejected(Core.create({} as never)),
      await rejected(Core.create(plain, { kernels: ['attend', 'all'] })),
    ]).toMatchInlineSnapshot(`
      [
        "POLARC_UNSUPPORTED Half computes in f16: create the device with requiredFeatures: ['shader-f16'], or generate the cache without arithmetic wgsl: 'half'",
        "POLARC_UNSUPPORTED Small: the device lacks subgroups: create it with requiredFeatures: ['subgroups'], or leave variant out",
        "POLARC_INVALID_ARGUMENT Small.create: variant must be 'subgroups' or 'core', not fast",
        "POLARC_INVALID_ARGUMENT Small.create takes a GPUDevice",
        "POLARC_INVALID_ARGUMENT Small.create: kernels must be 'encodeKey' or 'encodeValue' or 'decodeKey' or 'decodeValue' or 'rotateKey' or 'rotateValue' or 'scores' or 'weightedSum' or 'attend' or 'attendDense' or 'merge', not all",
      ]
    `);
    expect((await Core.create(plain, { kernels: ['merge'] })).variant).toBe('core');
    plain.destroy();
  });

  test('records a call again and again without allocating', async () => {
    const { call, expected } = sound();
    const prepared = kernels.attend(call);
    const made: string[] = [];
    const methods = ['createBuffer', 'createBindGroup', 'createComputePipeline'] as const;
    const restore = methods.map((name) => {
      const original = device[name];
      Object.defineProperty(device, name, {
        configurable: true,
        value: (...args: unknown[]) => {
          made.push(name);
          return (original as (...args: unknown[]) => unknown).apply(device, args);
        },
      });
      return () => Reflect.deleteProperty(device, name);
    });
    const encoder = device.createCommandEncoder();
    prepared.record(encoder);
    const pass = encoder.beginComputePass();
    prepared.record(pass);
    prepared.record(pass);
    pass.end();
    device.queue.submit([encoder.finish()]);
    for (const undo of restore) undo();
    expect(made).toEqual([]);
    const out = await download(call.out.buffer);
    expect(Math.max(...expected.map((value, i) => Math.abs(value - out[i]!)))).toBeLessThan(1e-5);
    prepared.destroy();
    expect(message(() => prepared.record(encoder))).toMatch(/was destroyed/);
    expect(uncaptured).toEqual([]);
  });

  test('follows lengths that change on the device', async () => {
    const { call } = sound();
    const prepared = kernels.attend(call);
    const run = async (length: number): Promise<Float32Array> => {
      device.queue.writeBuffer(call.tables, 0, Int32Array.of(length));
      const encoder = device.createCommandEncoder();
      prepared.record(encoder);
      device.queue.submit([encoder.finish()]);
      return await download(call.out.buffer);
    };
    const [whole, shorter, none] = [await run(TOKENS), await run(7), await run(0)];
    expect(shorter).not.toEqual(whole);
    expect([...none].every((value) => value === 0)).toBe(true);
    expect(await run(TOKENS)).toEqual(whole);
    prepared.destroy();
  });

  test('says that the device was lost', async () => {
    const other = await freshDevice();
    const own = await (await load(plan)).create(other, { kernels: ['merge'] });
    const prepared = own.merge({
      parts: [],
      rows: 1,
      qHeads: 1,
      out: { buffer: other.createBuffer({ size: D * 4, usage: STORAGE }) },
      workspace: {
        buffer: other.createBuffer({
          size: own.mergeWorkspace({ rows: 1, qHeads: 1 }),
          usage: STORAGE,
        }),
      },
    });
    const encoder = other.createCommandEncoder();
    other.destroy();
    await other.lost;
    expect(message(() => prepared.record(encoder))).toMatchInlineSnapshot(
      `"POLARC_DEVICE_LOST Small: the device was lost (device was destroyed): create a device, then the kernels again"`,
    );
    expect(message(() => own.attend({}))).toMatch(/^POLARC_DEVICE_LOST/);
    // The other device and its kernels go on.
    expect(await distance()).toBeLessThan(1e-5);
  });

  test('a spec with an arithmetic that there is not is refused', () => {
    expect(() =>
      normalize(
        {
          name: 'fast',
          queryGroup: 1,
          arithmetic: { wgsl: 'int8' },
          key: { headDim: 32, polar: { bits: [4, 2] } },
          value: { headDim: 32, polar: { bits: [4, 2] } },
        },
        { targets: [target] },
      ),
    ).toThrowError(/wgsl/);
  });
});
