/** The software driver from npm, and WebGPU on it: what `polarc` needs to run WGSL on a machine without a GPU. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { renderError } from '../../generator/diagnostics/index.ts';
import { checks, openAdapter, openDevice, openNullDevice } from '../../targets/wgsl/device.ts';
import { driverArchive, unpackDriver } from '../../targets/wgsl/driver.ts';

const PLATFORM = `${process.platform}-${process.arch}`;
const SKIP = PLATFORM === 'linux-x64' ? false : `the software driver is for linux-x64`;
const FILES = ['libvk_swiftshader.so', 'libvulkan.so.1', 'vk_swiftshader_icd.json'];

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'polarc-driver-'));
});
beforeEach(() => {
  vi.stubEnv('POLARC_CACHE', mkdtempSync(join(folder, 'cache-')));
  vi.stubEnv('POLARC_WGSL_ADAPTER', 'software');
});
afterEach(() => {
  vi.unstubAllEnvs();
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** The message of what a promise is rejected with, without the paths of this run. */
async function messageOf(promise: Promise<unknown>): Promise<string> {
  const message = await promise.then(() => 'nothing was thrown', renderError);
  return message.replaceAll(/\/\S*?cache-\w+/g, 'CACHE').replaceAll(folder, 'FOLDER');
}

describe.skipIf(SKIP)(`the software driver${SKIP ? ` (${SKIP})` : ''}`, () => {
  test('is unpacked once', async () => {
    const lines: string[] = [];
    const driver = await unpackDriver((line) => lines.push(line));
    const place = dirname(driver.loader);
    expect(lines).toEqual([`unpacking the software driver to ${place}`]);
    expect(readdirSync(place).sort()).toEqual(FILES);
    expect(readdirSync(dirname(place))).toHaveLength(1);

    const gone = { missing: { text: 'must not be needed' } };
    expect(await unpackDriver((line) => lines.push(line), gone)).toEqual(driver);
    expect(lines).toHaveLength(1);
  });

  test.each(FILES)('is repaired where %s is damaged or lost', async (name) => {
    const place = dirname((await unpackDriver()).loader);
    const whole = readFileSync(join(place, name));
    writeFileSync(join(place, name), whole.subarray(1));
    await unpackDriver();
    expect(readFileSync(join(place, name)).equals(whole)).toBe(true);
    rmSync(join(place, name));
    await unpackDriver();
    expect(readFileSync(join(place, name)).equals(whole)).toBe(true);
  });

  test('is the same for calls at once', async () => {
    const drivers = await Promise.all(Array.from({ length: 4 }, () => unpackDriver()));
    expect(new Set(drivers.map(({ loader }) => loader)).size).toBe(1);
    const place = dirname(drivers[0]!.loader);
    expect(readdirSync(place).sort()).toEqual(FILES);
    expect(readdirSync(dirname(place))).toHaveLength(1);
  });

  test('is not taken from another version of the package', async () => {
    const path = join(folder, 'swiftshader.tar.br');
    writeFileSync(path, 'another archive');
    expect(await messageOf(unpackDriver(() => {}, { path }))).toMatchInlineSnapshot(
      `"error[P301] FOLDER/swiftshader.tar.br is not the software driver of @sparticuz/chromium 147.0.0: its SHA-256 is 2c69436dc18e5782410cdfa0e5e728985a4e51939a2ba73998e933e9921fed02, not f957ea867313f9815b71dc2ed30cce301e01db4f3973fbdb31ffa5391b0ec45a → npm install --save-dev @sparticuz/chromium@147.0.0"`,
    );
    expect(readdirSync(process.env.POLARC_CACHE!)).toEqual([]);
  });

  test('needs a cache folder that can be written', async () => {
    const file = join(process.env.POLARC_CACHE!, 'file');
    writeFileSync(file, '');
    vi.stubEnv('POLARC_CACHE', file);
    expect(await messageOf(unpackDriver())).toMatchInlineSnapshot(
      `"error[P302] the build cache CACHE/file/swiftshader cannot be written: ENOTDIR: not a directory, mkdir 'CACHE/file/swiftshader/f957ea867313f9815b71dc2ed30cce30' → name a folder in POLARC_CACHE"`,
    );
  });
});

describe('without the software driver', () => {
  test('says why', async () => {
    expect(driverArchive('darwin-arm64').path).toBeUndefined();
    const elsewhere = unpackDriver(() => {}, driverArchive('darwin-arm64'));
    expect(await messageOf(elsewhere)).toMatchInlineSnapshot(
      `"error[P301] the software driver is for linux-x64, this is darwin-arm64"`,
    );
  });
});

const DOUBLE = `
  @group(0) @binding(0) var<storage, read_write> data: array<u32>;
  @compute @workgroup_size(4)
  fn main(@builtin(global_invocation_id) id: vec3u) { data[id.x] *= 2u; }
`;

describe.skipIf(SKIP)(`WebGPU on the software driver${SKIP ? ` (${SKIP})` : ''}`, () => {
  test('runs a shader', async () => {
    const opened = await openDevice();
    const { device } = opened;
    expect(opened.software).toBe(true);
    expect(opened.name).toContain('SwiftShader');
    const { maxStorageBufferBindingSize, maxBufferSize } = opened.adapter.limits;
    expect(device.limits).toMatchObject({ maxStorageBufferBindingSize, maxBufferSize });
    expect(device.features.has('subgroups')).toBe(true);

    const STORAGE = 0x80 | 0x04 | 0x08;
    const READ = 0x01 | 0x08;
    const data = device.createBuffer({ size: 16, usage: STORAGE });
    const read = device.createBuffer({ size: 16, usage: READ });
    device.queue.writeBuffer(data, 0, new Uint32Array([1, 2, 3, 2 ** 31 + 4]));
    const module = device.createShaderModule({ code: DOUBLE });
    const pipeline = await device.createComputePipelineAsync({
      layout: 'auto',
      compute: { module },
    });
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    const layout = pipeline.getBindGroupLayout(0);
    const entries = [{ binding: 0, resource: { buffer: data } }];
    pass.setBindGroup(0, device.createBindGroup({ layout, entries }));
    pass.dispatchWorkgroups(1);
    pass.end();
    encoder.copyBufferToBuffer(data, 0, read, 0, 16);
    device.queue.submit([encoder.finish()]);
    await read.mapAsync(0x01);
    expect([...new Uint32Array(read.getMappedRange())]).toEqual([2, 4, 6, 8]);

    opened.close();
    expect((await device.lost).reason).toBe('destroyed');
  });

  test('gives devices that do not end with each other, and leaves the environment alone', async () => {
    const [first, second] = await Promise.all([openDevice(), openDevice()]);
    first.close();
    await second.device.queue.onSubmittedWorkDone();
    second.close();
    expect(process.env.VK_DRIVER_FILES).toBeUndefined();
    expect(process.env.VK_ICD_FILENAMES).toBeUndefined();
  });

  test('refuses an adapter that it does not know', async () => {
    vi.stubEnv('POLARC_WGSL_ADAPTER', 'gpu');
    expect(await messageOf(openAdapter())).toMatchInlineSnapshot(
      `"error[P300] POLARC_WGSL_ADAPTER is 'gpu' → set it to 'software', or not at all"`,
    );
  });

  test('is what doctor reports', async () => {
    expect(await checks()).toMatchInlineSnapshot(`
      [
        {
          "detail": "0.6.2",
          "ok": true,
          "required": true,
          "what": "webgpu (Dawn)",
        },
        {
          "detail": "SwiftShader driver 5.0.0",
          "ok": true,
          "required": true,
          "what": "WebGPU adapter",
        },
        {
          "detail": "subgroups of 4: the subgroups variant runs",
          "ok": true,
          "required": false,
          "what": "subgroups",
        },
        {
          "detail": "without it the f16 variant is validated, not run",
          "ok": false,
          "required": false,
          "what": "shader-f16",
        },
      ]
    `);
  });

  // A Vulkan loader of the system that is there first: it has no driver, or one that is not to be used.
  test.each([
    ['no driver', false],
    ['a driver for the CPU', true],
  ])('is found where the system has a loader and %s', async (_, withDriver) => {
    const { loader, manifest } = await unpackDriver();
    const device = new URL('../../targets/wgsl/device.ts', import.meta.url).pathname;
    const script = `
      const { createJiti } = await import('jiti');
      const { openDevice } = await createJiti(${JSON.stringify(import.meta.url)}, { fsCache: false }).import(${JSON.stringify(device)});
      const { name, software } = await openDevice();
      console.log(software, name, process.env.VK_ICD_FILENAMES);
    `;
    const own = withDriver ? { VK_ICD_FILENAMES: manifest } : {};
    const cache = mkdtempSync(join(folder, 'cache-'));
    const { status, stdout } = spawnSync(
      process.execPath,
      ['--input-type=module', '--eval', script],
      {
        cwd: join(import.meta.dirname, '../..'),
        encoding: 'utf8',
        timeout: 60_000,
        env: {
          ...process.env,
          ...own,
          POLARC_WGSL_ADAPTER: '',
          POLARC_CACHE: cache,
          LD_LIBRARY_PATH: dirname(loader),
        },
      },
    );
    // It was not content with the driver of the system.
    expect(readdirSync(cache)).toEqual(['swiftshader']);
    // The process ends by itself, with a device that nobody closed.
    expect(status).toBe(0);
    expect(stdout.trim()).toBe(
      `true SwiftShader driver 5.0.0 ${withDriver ? manifest : 'undefined'}`,
    );
  });
});

describe('WebGPU without a device', () => {
  test('accepts a shader, and says what is wrong with another', async () => {
    const { device, close } = await openNullDevice();
    expect([...device.features]).toEqual(
      expect.arrayContaining(['subgroups', 'shader-f16', 'timestamp-query']),
    );
    const messages = async (code: string) => {
      device.pushErrorScope('validation');
      const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
      expect((await device.popErrorScope()) === null).toBe(messages.length === 0);
      return messages.map(
        ({ type, lineNum, message }) => `${type} ${lineNum}: ${message.split('\n')[0]}`,
      );
    };
    expect(await messages(`enable f16; enable subgroups; ${DOUBLE}`)).toEqual([]);
    expect(await messages(DOUBLE.replace('*= 2u', '*= 2.5'))).toMatchInlineSnapshot(`
      [
        "error 4: no matching overload for 'operator *= (u32, abstract-float)'",
      ]
    `);
    close();
  });
});
