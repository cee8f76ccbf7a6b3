import { defineConfig } from 'vitest/config';

/** Tiers are named by what they need: nothing, a C++ compiler, a device to run kernels on. */
export default defineConfig({
  test: {
    projects: [
      { test: { name: 'text', include: ['test/text/**/*.test.ts'], testTimeout: 60_000 } },
      {
        test: {
          name: 'toolchain',
          include: ['test/toolchain/**/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
      {
        test: {
          name: 'device',
          include: ['test/device/**/*.test.ts'],
          pool: 'forks',
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
    ],
  },
});
