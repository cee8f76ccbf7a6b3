/** Every emitted module, over the presets and random formats, through a real validator: Dawn's, on a device that runs nothing. */

import { afterAll, describe, expect, test } from 'vitest';
import { randomSpecs } from '../../generator/conformance/index.ts';
import { render } from '../../generator/emit/index.ts';
import { lower, type Plan } from '../../generator/plan/index.ts';
import { type CacheInput, type CodecInput, normalize } from '../../generator/spec/index.ts';
import presets from '../../polarc.config.ts';
import { type OpenedDevice, openNullDevice } from '../../targets/wgsl/device.ts';
import { target } from '../../targets/wgsl/index.ts';
import { ATTENTION, CODERS } from '../../targets/wgsl/kernels.ts';

const SOURCE = { name: 'test', command: 'generate' };

const half = (spec: CacheInput): CacheInput => ({
  ...spec,
  name: `${spec.name}_half`,
  arithmetic: { wgsl: 'half' },
});

/** The most that a workgroup can be asked to hold: the greatest dimension, the most bits, vectors of every kind. */
const EXTREMES: readonly CacheInput[] = (
  [
    ['f32', [8, 6, 6, 6, 6, 6, 6]],
    ['bf16', [4, 6, 6, 6, 6, 6, 6]],
    [{ kind: 'log', bits: 8 }, [4, 6, 6, 6, 6, 6]],
    [{ kind: 'log', bits: 8 }, [8]],
    ['f16', [4, 2, 2, 2]],
  ] as const
).flatMap(([radius, bits], i) =>
  ([1, 2, 16] as const).map((queryGroup): CacheInput => {
    const codec: CodecInput = {
      headDim: 640,
      polar: { bits },
      radius,
      precondition: { kind: 'matrix' },
      center: true,
      layout: i % 2 === 0 ? { kind: 'tiles', tokens: 32 } : { kind: 'rows' },
    };
    // Another format of values, so that no tables are shared.
    const value: CodecInput = { ...codec, center: false };
    return { name: `extreme_${i}_${queryGroup}`, key: codec, value, queryGroup, pageTokens: 64 };
  }),
);

const random = randomSpecs({ count: 50, seed: 21 });
const SPECS: readonly CacheInput[] = [
  ...presets.caches,
  ...EXTREMES,
  ...random,
  ...[...presets.caches, ...random.slice(0, 20)].map(half),
];

/** Modules of a plan by name, as their .wgsl files hold them. */
const modulesOf = (plan: Plan): [string, string][] =>
  render(plan, target, SOURCE)
    .filter(({ path }) => path.endsWith('.wgsl'))
    .map(({ path, content }) => [path.split('/').at(-1)!.replace('.wgsl', ''), String(content)]);

describe('emitted WGSL', () => {
  const devices = new Map<string, OpenedDevice>();
  afterAll(() => {
    for (const opened of devices.values()) opened.close();
  });

  /** A device with the core limits and no more features than are named. */
  const deviceWith = async (features: readonly GPUFeatureName[]): Promise<GPUDevice> => {
    const key = features.join();
    const opened = devices.get(key) ?? (await openNullDevice(features));
    devices.set(key, opened);
    return opened.device;
  };

  test.each(SPECS.map((spec) => [spec.name, spec] as const))(
    '%s is valid within the core limits',
    async (_, spec) => {
      const plan = lower(normalize(spec));
      const isHalf = plan.arithmetic.wgsl === 'half';
      const problems: string[] = [];
      for (const [name, code] of modulesOf(plan)) {
        const features: GPUFeatureName[] = [
          ...(name.endsWith('_subgroups') ? (['subgroups'] as const) : []),
          ...(isHalf && /^attend(_subgroups)?$/.test(name) ? (['shader-f16'] as const) : []),
        ];
        const device = await deviceWith(features);
        const kernel = [...CODERS, ...ATTENTION]
          .filter((each) => name === each.name || name.startsWith(`${each.name}_`))
          .sort((a, b) => b.name.length - a.name.length)[0]!;
        const module = device.createShaderModule({ code });
        for (const entryPoint of kernel.entries) {
          const compute = { module, entryPoint };
          await device.createComputePipelineAsync({ layout: 'auto', compute }).catch((error) => {
            problems.push(`${name}: ${(error as Error).message}`);
          });
        }
      }
      expect(problems).toEqual([]);
    },
  );

  test('a wrong module is found', async () => {
    const device = await deviceWith([]);
    const [spec] = presets.caches;
    const plan = lower(normalize(spec!));
    const code = new Map(modulesOf(plan)).get('attend')!.replace('keys[', 'kyes[');
    const compute = { module: device.createShaderModule({ code }), entryPoint: 'attend' };
    await expect(
      device.createComputePipelineAsync({ layout: 'auto', compute }),
    ).rejects.toThrowError(/kyes|Invalid ShaderModule/);
  });
});
