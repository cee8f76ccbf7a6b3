/**
 * The emitted Node addon for GPUs, on machines without one: it builds and loads without CUDA and says what is missing; with
 * a driver that is a fake (test/fixtures/fake-libcuda.cpp) every call goes where a real one would.
 */

import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { conformanceCases, runCases } from '../../generator/conformance/index.ts';
import type { KernelCalls, Plan } from '../../generator/plan/index.ts';
import { matrix, tiles } from '../../generator/spec/index.ts';
import type { BuiltCache } from '../../generator/target/index.ts';
import { importTypeScript } from '../../generator/target/native/index.ts';
import { target } from '../../targets/cuda/index.ts';
import { buildOnCpu } from '../../targets/cuda/on-cpu.ts';
import { buildGpuAddon, buildOnGpu } from '../../targets/cuda/on-gpu.ts';
import { emitted } from '../fixtures/emitted.ts';
import { firstSlots, matrices, normals, planOf, poolOf } from '../fixtures/small-cache.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const FIXTURES = join(ROOT, 'test/fixtures');
const SHARED = ['-std=c++17', '-O1', '-shared', '-fPIC', '-fvisibility=hidden'];
const MODULE = ['-DPOLARC_ON_CPU', '-ffp-contract=off', '-fno-strict-aliasing'];
const HEADS = 2;
const D = 32;
const TOKENS = 50;

let plan: Plan;
let folder: string;
/** A "cubin" of the fake driver. */
let image: Uint8Array;

beforeAll(() => {
  plan = planOf({ layout: tiles({ tokens: 32 }), precondition: matrix() }, { radius: 'bf16' });
  folder = emitted(plan, target);
  const driver = join(folder, 'libcuda.so.1');
  execFileSync('g++', [
    ...[...SHARED, '-Wall', '-Wextra', join(FIXTURES, 'fake-libcuda.cpp'), '-o', driver, '-ldl'],
  ]);
  const module = join(folder, 'module.so');
  execFileSync('g++', [
    ...[...SHARED, ...MODULE, '-include', join(ROOT, 'templates/cuda/on_cpu/cuda_on_cpu.h')],
    `-DDEVICE_CODE="${join(folder, 'cuda/small/small.cuh')}"`,
    ...[join(FIXTURES, 'fake-cuda-module.cpp'), '-o', module],
  ]);
  image = new TextEncoder().encode(`fake module ${module}`);
  vi.stubEnv('POLARC_LIBCUDA', driver);
  vi.stubEnv('POLARC_LIBNVRTC', driver);
  vi.stubEnv('FAKE_CUDA_MODULE', module);
});

afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

interface DeviceBuffer {
  readonly bytes: number;
  readonly address: bigint;
  slice(begin: number, end?: number): DeviceBuffer;
  free(): void;
}

interface Stream {
  readonly handle: bigint;
  synchronize(): void;
  finished(): Promise<void>;
  destroy(): void;
}

interface Event {
  record(stream?: Stream): void;
  synchronize(): void;
  millisecondsSince(earlier: Event): number;
}

type Calls = Record<keyof KernelCalls, (call: object, stream?: Stream) => void>;

/** What an embedder has: the class of the emitted small.ts. */
interface Kernels extends Calls {
  alloc(bytes: number): DeviceBuffer;
  wrap(address: bigint, bytes: number): DeviceBuffer;
  upload(to: DeviceBuffer, from: ArrayBufferView, stream?: Stream): void;
  download(from: DeviceBuffer, to: ArrayBufferView, stream?: Stream): void;
  copy(to: DeviceBuffer, from: DeviceBuffer, stream?: Stream): void;
  clear(buffer: DeviceBuffer, stream?: Stream): void;
  attendWorkspace(call: object): number;
  createStream(): Stream;
  wrapStream(handle: bigint): Stream;
  createEvent(): Event;
  close(): void;
}

interface KernelsClass {
  new (addon: object, options?: object): Kernels;
  addon(file?: string): object;
  missing(addon: object): string;
  devices(addon: object): readonly object[];
  compile(capability: number, addon: object): Uint8Array;
}

interface Loaded {
  readonly Small: KernelsClass;
  readonly addon: object;
}

const load = async (): Promise<Loaded> => {
  const file = join(folder, 'cuda/small/node/small.ts');
  const { Small } = (await importTypeScript(file)) as { Small: KernelsClass };
  return { Small, addon: Small.addon(await buildGpuAddon({ folder, plan })) };
};

/** Error code and text of what a call throws. */
const thrown = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    const { code, message } = error as Error & { code?: string };
    return `${code} ${message}`;
  }
  return 'nothing was thrown';
};

/** Encodes and attends as an embedder does; `there` puts an array on the device, `back` reads it. */
function useCache(
  calls: Calls,
  there: (array: ArrayBufferView) => unknown,
  back: (thing: unknown, array: ArrayBufferView) => void,
  stream?: Stream,
): Uint8Array[] {
  const transform = matrices(D, HEADS, 5);
  const key = { matrix: there(transform.matrix!), dual: there(transform.dual!) };
  const pages = Math.ceil(TOKENS / plan.pageTokens);
  const pools = [poolOf(plan, 'key', pages, HEADS), poolOf(plan, 'value', pages, HEADS)];
  const [keys, values] = pools.map(({ data }) => there(data));
  const rows = { data: there(normals(TOKENS * HEADS * D, 1)) };
  const common = { rows, count: TOKENS, kvHeads: HEADS, slots: there(firstSlots(TOKENS)) };
  calls.encodeKey({ ...common, cache: { data: keys, pages }, transform: key }, stream);
  calls.encodeValue({ ...common, cache: { data: values, pages } }, stream);
  const result = new Float32Array(HEADS * 2 * D);
  const lse = new Float32Array(HEADS * 2);
  const [out, sums] = [there(result), there(lse)];
  calls.attend(
    {
      q: { data: there(normals(HEADS * 2 * D, 2)) },
      out: { data: out },
      lse: sums,
      keys: { data: keys, pages },
      values: { data: values, pages },
      index: { sequences: 1, maxTokens: TOKENS, lengths: there(Int32Array.of(TOKENS)) },
      key,
      rows: 1,
      kvHeads: HEADS,
      scale: 0.2,
      splitTokens: 32,
    },
    stream,
  );
  const arrays = [pools[0]!.data, pools[1]!.data, result, lse];
  [keys, values, out, sums].forEach((thing, i) => {
    back(thing, arrays[i]!);
  });
  return arrays.map((array) => new Uint8Array(array.buffer.slice(0)));
}

const uploaded =
  (kernels: Kernels) =>
  (array: ArrayBufferView): DeviceBuffer => {
    const buffer = kernels.alloc(array.byteLength);
    kernels.upload(buffer, array);
    return buffer;
  };

describe('where there is no driver', () => {
  it('builds with node-gyp, loads, and says what is missing', () => {
    const elsewhere = mkdtempSync(join(tmpdir(), 'polarc-embedder-'));
    cpSync(join(folder, 'cuda/small'), join(elsewhere, 'vendor'), { recursive: true });
    const copy = join(elsewhere, 'vendor/node');
    mkdirSync(join(copy, 'node_modules'));
    symlinkSync(
      join(ROOT, 'node_modules/node-addon-api'),
      join(copy, 'node_modules/node-addon-api'),
    );
    const gyp = join(ROOT, 'node_modules/node-gyp/bin/node-gyp.js');
    const prefix = [dirname(dirname(process.execPath)), '/usr'].find((path) =>
      existsSync(join(path, 'include/node/node_api.h')),
    );
    const env = { ...process.env, POLARC_LIBCUDA: '/nowhere/libcuda.so.1' };
    const options = { cwd: copy, encoding: 'utf8', stdio: 'pipe', env } as const;
    execFileSync(process.execPath, [gyp, 'rebuild', `--nodedir=${prefix}`], options);

    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
    const types = join(ROOT, 'node_modules/@types');
    const flags = ['--target', 'es2022', '--module', 'nodenext', '--strict', '--types', 'node'];
    execFileSync(process.execPath, [tsc, 'small.ts', ...flags, '--typeRoots', types], options);
    const program = [
      "import { Small } from './small.js';",
      'console.log(Small.missing());',
      'for (const use of [() => Small.devices(), () => Small.load()]) {',
      '  try { use(); } catch ({ code, message }) { console.log(code, message); }',
      '}',
      'console.log(Small.bytesPerToken);',
    ];
    writeFileSync(join(copy, 'use.js'), program.join('\n'));
    const printed = execFileSync(process.execPath, ['use.js'], options).trimEnd().split('\n');
    const missing = expect.stringMatching(/^there is no CUDA driver: .*\/nowhere\/libcuda.so.1/);
    const unsupported = expect.stringMatching(/^POLARC_UNSUPPORTED there is no CUDA driver: /);
    expect(printed).toEqual([missing, unsupported, unsupported, '31.5']);
    rmSync(elsewhere, { recursive: true });
  });
});

describe('with a driver', () => {
  let Small: KernelsClass;
  let addon: object;
  let kernels: Kernels;

  beforeAll(async () => {
    ({ Small, addon } = await load());
    kernels = new Small(addon, { code: image });
  });
  afterAll(() => kernels.close());
  afterEach(() => {
    for (const name of ['BYTES', 'CAPABILITY', 'FAILS', 'FAULT']) {
      vi.stubEnv(`FAKE_CUDA_${name}`, undefined);
    }
    vi.stubEnv('FAKE_NVRTC_LOG', undefined);
  });

  it('passes the suite, and times calls whose arrays stay there', async () => {
    const built = await buildOnGpu({ folder, plan }, async () => ({ code: image, by: 'hand' }));
    expect(built.device).toBe('Fake GPU, sm_90, compiled by hand');
    const { bound } = target.arithmetics.find(({ id }) => id === 'float')!;
    const cases = conformanceCases(plan, { seed: 1, bound, quick: true });
    const reports = await runCases({ plan, target: 'cuda', cases, calls: built.calls });
    const rows = { data: new Uint16Array(4 * D) };
    const rotation = { in: rows, out: rows, count: 4, heads: 1, rotation: 'forward' };
    const timed = await built.resident!('rotateValue', rotation);
    expect(await timed.run()).toBeGreaterThan(0);
    timed.close();
    built.close();
    expect(reports.filter(({ ok }) => !ok)).toEqual([]);
    expect(reports.length).toBeGreaterThan(50);
    expect(reports.reduce((sum, { differingBytes }) => sum + differingBytes, 0)).toBe(0);
  });

  it('computes the same bits as host launchers do, on a stream of its own', async () => {
    const stream = kernels.createStream();
    const there = uploaded(kernels);
    const back = (buffer: unknown, array: ArrayBufferView): void =>
      kernels.download(buffer as DeviceBuffer, array, stream);
    const found = useCache(kernels, there, back, stream);
    await stream.finished();
    stream.destroy();
    const onCpu: BuiltCache = await buildOnCpu({ folder, plan });
    const want = useCache(
      onCpu.calls as unknown as Calls,
      (array) => array,
      () => {},
    );
    onCpu.close();
    expect(found).toEqual(want);
  });

  it('compiles by NVRTC where no code is given, for the device or the newest that NVRTC knows', () => {
    const compiled = new Small(addon);
    const zero = compiled.alloc(4);
    compiled.clear(zero);
    const word = Uint32Array.of(7);
    compiled.download(zero, word);
    expect(word[0]).toBe(0);
    zero.free();
    compiled.close();

    expect(new TextDecoder().decode(Small.compile(121, addon))).toContain('fake module /');
    vi.stubEnv('FAKE_NVRTC_LOG', 'small.cuh(7): error: expected a ";"');
    expect(thrown(() => Small.compile(90, addon))).toBe(
      'NVRTC_ERROR_COMPILATION small.cuh cannot be compiled: NVRTC_ERROR_COMPILATION\n' +
        'small.cuh(7): error: expected a ";"',
    );
  });

  it('lists devices, and refuses what is none, or not made for it', () => {
    expect(Small.missing(addon)).toBe('');
    expect(Small.devices(addon)).toEqual([
      { name: 'Fake GPU', capability: 90, memoryBytes: 2 ** 30 },
    ]);
    expect([
      thrown(() => new Small(addon, { device: 1, code: image })),
      thrown(() => new Small(addon, { code: Uint8Array.of(1, 2, 3) })),
    ]).toEqual([
      'POLARC_INVALID_ARGUMENT there is no device 1: this machine has 1',
      'CUDA_ERROR_INVALID_IMAGE the kernels cannot be loaded: CUDA_ERROR_INVALID_IMAGE (device kernel image is invalid)',
    ]);
    vi.stubEnv('FAKE_CUDA_CAPABILITY', '70');
    const old = new Small(addon, { code: image });
    expect(thrown(() => useCache(old, uploaded(old), () => {}))).toBe(
      'POLARC_UNSUPPORTED encodeKey: device 0 has compute capability 7.0: the kernels need 7.5 or above',
    );
    old.close();
  });

  it('keeps memory until it is freed, and names what the driver refuses', () => {
    vi.stubEnv('FAKE_CUDA_BYTES', String(2 ** 20 + 4 * 2 ** 20));
    const large = kernels.alloc(2 ** 22);
    expect(thrown(() => kernels.alloc(2 ** 22))).toBe(
      'CUDA_ERROR_OUT_OF_MEMORY alloc of 4194304 bytes: CUDA_ERROR_OUT_OF_MEMORY (out of memory)',
    );
    const part = large.slice(2 ** 21);
    expect([large.bytes, part.bytes, part.address - large.address]).toEqual([
      2 ** 22,
      2 ** 21,
      2n ** 21n,
    ]);
    large.free();
    expect([large.bytes, part.bytes, part.address]).toEqual([0, 0, 0n]);
    expect(thrown(() => kernels.upload(part, Uint8Array.of(1)))).toBe(
      'POLARC_INVALID_ARGUMENT upload: the buffer was freed',
    );
    kernels.alloc(2 ** 22).free();
  });

  it('copies within bounds', () => {
    const buffer = kernels.alloc(16);
    kernels.upload(
      buffer,
      Uint8Array.from({ length: 16 }, (_, i) => i),
    );
    const view = kernels.wrap(buffer.address + 4n, 8);
    const other = kernels.alloc(8);
    kernels.copy(other, view);
    const copied = new Uint8Array(8);
    kernels.download(other, copied);
    expect([...copied]).toEqual([4, 5, 6, 7, 8, 9, 10, 11]);
    expect([
      thrown(() => kernels.upload(other, new Uint8Array(9))),
      thrown(() => kernels.download(other, new Float64Array(2))),
      thrown(() => buffer.slice(8, 17)),
      thrown(() => kernels.alloc(-1)),
      thrown(() => kernels.wrap(0n, 4)),
      thrown(() => kernels.upload({} as DeviceBuffer, copied)),
    ]).toEqual([
      'POLARC_INVALID_ARGUMENT upload: the array has 9 bytes, the buffer 8',
      'POLARC_INVALID_ARGUMENT download: the array has 16 bytes, the buffer 8',
      'POLARC_INVALID_ARGUMENT slice takes 0 <= begin <= end <= 16 bytes',
      'POLARC_INVALID_ARGUMENT alloc takes a whole number of bytes, 0 or more',
      'POLARC_INVALID_ARGUMENT wrap takes an address (a bigint, not 0n) and a number of bytes',
      'POLARC_INVALID_ARGUMENT upload: takes a DeviceBuffer',
    ]);
  });

  it('checks buffers against counts and strides before a launch', () => {
    const buffer = kernels.alloc(1024);
    const call = {
      in: { data: buffer },
      out: { data: buffer },
      count: 4,
      heads: 2,
      rotation: 'forward',
      transform: {
        matrix: kernels.alloc(HEADS * D * D * 4),
        dual: kernels.alloc(HEADS * D * D * 4),
      },
    };
    kernels.rotateKey(call);
    const stream = kernels.createStream();
    stream.destroy();
    expect([
      thrown(() => kernels.rotateKey({ ...call, count: 5 })),
      thrown(() => kernels.rotateKey({ ...call, in: { data: buffer, dtype: 'f16', offset: 257 } })),
      thrown(() => kernels.rotateKey({ ...call, in: { data: new Float32Array(256) } })),
      thrown(() => kernels.rotateKey({ ...call, in: undefined })),
      thrown(() => kernels.rotateKey({ ...call, rotation: 'twice' })),
      thrown(() => kernels.rotateKey({ ...call, transform: {} })),
      thrown(() => kernels.rotateKey(call, {} as Stream)),
      thrown(() => kernels.rotateKey(call, stream)),
    ]).toEqual([
      'POLARC_INVALID_ARGUMENT rotateKey: in.data has 256 elements; 320 are needed',
      'POLARC_INVALID_ARGUMENT rotateKey: in.data has 512 elements; 513 are needed',
      'POLARC_INVALID_ARGUMENT rotateKey: in.data must be a DeviceBuffer',
      'POLARC_INVALID_ARGUMENT rotateKey: in is missing',
      "POLARC_INVALID_ARGUMENT rotateKey: rotation must be one of 'forward', 'dual', 'inverse'",
      expect.stringMatching(/^POLARC_INVALID_ARGUMENT rotateKey: transform.matrix is null/),
      'POLARC_INVALID_ARGUMENT rotateKey: stream must be what createStream() returns',
      'POLARC_INVALID_ARGUMENT rotateKey: the stream was destroyed',
    ]);
  });

  it('has its own workspace, or takes one that is long enough', () => {
    const index = { sequences: 1, maxTokens: 64, lengths: uploaded(kernels)(Int32Array.of(0)) };
    const call = {
      q: { data: kernels.alloc(HEADS * 2 * D * 4) },
      out: { data: kernels.alloc(HEADS * 2 * D * 4) },
      keys: { data: kernels.alloc(0), pages: 0 },
      values: { data: kernels.alloc(0), pages: 0 },
      index,
      key: { matrix: kernels.alloc(HEADS * D * D * 4), dual: kernels.alloc(HEADS * D * D * 4) },
      rows: 1,
      kvHeads: HEADS,
      scale: 1,
    };
    const bytes = kernels.attendWorkspace(call);
    expect(bytes).toBeGreaterThan(0);
    kernels.attend(call);
    kernels.attend({ ...call, workspace: kernels.alloc(bytes) });
    expect(thrown(() => kernels.attend({ ...call, workspace: kernels.alloc(16) }))).toEqual(
      expect.stringMatching(
        `^POLARC_WORKSPACE_TOO_SMALL attend: workspace_bytes is 16: give ${bytes}`,
      ),
    );
  });

  it('says by CUDA’s names what went wrong at a launch, and after it', async () => {
    vi.stubEnv('FAKE_CUDA_FAILS', 'kernel_encode_key');
    const there = uploaded(kernels);
    expect(thrown(() => useCache(kernels, there, () => {}))).toBe(
      'CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES encodeKey: small_cuda_kernel_encode_key: ' +
        'CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES (too many resources requested for launch)',
    );
    vi.stubEnv('FAKE_CUDA_FAILS', undefined);
    vi.stubEnv('FAKE_CUDA_FAULT', 'kernel_combine_attend');
    const stream = kernels.createStream();
    useCache(kernels, there, () => {}, stream);
    await expect(stream.finished()).rejects.toMatchObject({
      code: 'CUDA_ERROR_LAUNCH_FAILED',
      message: 'stream: CUDA_ERROR_LAUNCH_FAILED (unspecified launch failure)',
    });
    stream.synchronize();
  });

  it('measures by events, and serves a runtime’s own stream', () => {
    const stream = kernels.createStream();
    const same = kernels.wrapStream(stream.handle);
    const [begin, end] = [kernels.createEvent(), kernels.createEvent()];
    begin.record(stream);
    useCache(kernels, uploaded(kernels), () => {}, same);
    end.record(same);
    end.synchronize();
    expect(end.millisecondsSince(begin)).toBeGreaterThan(0);
    expect(thrown(() => end.millisecondsSince(kernels.createEvent()))).toContain(
      'CUDA_ERROR_INVALID_HANDLE millisecondsSince: ',
    );
  });

  it('ends: calls after close are refused, others of the process go on', () => {
    const other = new Small(addon, { code: image });
    const buffer = other.alloc(16);
    other.close();
    expect([thrown(() => other.alloc(4)), thrown(() => other.merge({}))]).toEqual([
      'POLARC_INVALID_ARGUMENT alloc: the kernels are closed',
      'POLARC_INVALID_ARGUMENT merge: the kernels are closed',
    ]);
    buffer.free();
    useCache(kernels, uploaded(kernels), () => {});
  });
});
