/** The example page in a browser: what it states is what the reference says, and without WebGPU it says what is missing. */

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import {
  angleHistograms,
  attention,
  countAngles,
  distance,
  exactAttention,
  expectedShares,
  type LayerData,
  measureLayer,
  observedShares,
  preconditionRows,
  quantizeRows,
  readLayer,
  readMeans,
  relativeError,
} from '../../generator/measure/index.ts';
import { parsePlan, type Role } from '../../generator/plan/index.ts';
import { readSafetensors } from '../../generator/safetensors/index.ts';
import { openChromium } from '../fixtures/chromium.ts';

const ROOT = join(import.meta.dirname, '../..');
/** A folder for screenshots, to look at. */
const SCREENSHOTS = process.env.POLARC_SCREENSHOTS;

const plan = parsePlan(readFileSync(join(ROOT, 'generated/small-d64.plan.json'), 'utf8'));
const path = join(ROOT, 'test/fixtures/kv-slice.safetensors');
const slice = { ...readSafetensors(readFileSync(path)), path };
const ROLES: readonly Role[] = ['key', 'value'];

const { browser, missing, close } = await openChromium();
afterAll(close);

interface Served {
  readonly url: string;
  readonly process: ChildProcess;
}

/** As a user starts it, on a port that is free. */
async function serve(): Promise<Served> {
  const server = spawn(process.execPath, ['examples/browser/serve.js', '--port', '0'], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const url = await new Promise<string>((resolve, reject) => {
    server.stdout.once('data', (line) => resolve(String(line).trim()));
    server.once('exit', (code) => reject(new Error(`serve.js ended with ${code}`)));
  });
  return { url, process: server };
}

let server: Served;
beforeAll(async () => {
  server = await serve();
});
afterAll(() => {
  server?.process.kill();
});

/** Status of a path as it stands, which `fetch` would tidy up. */
function statusOf(path: string): Promise<number> {
  const { hostname, port } = new URL(server.url);
  return new Promise((resolve, reject) => {
    get({ hostname, port, path }, (response) => {
      response.resume();
      resolve(response.statusCode!);
    }).on('error', reject);
  });
}

describe('serve.js', () => {
  test('leads to the page', async () => {
    const response = await fetch(new URL('/', server.url));
    expect(response.url).toBe(server.url);
    expect(response.headers.get('content-type')).toBe('text/html; charset=utf-8');
  });

  test.each([
    '/package.json',
    '/examples/browser/../../package.json',
    '/examples/browser/..%2f..%2fpackage.json',
    '/generated/%2e%2e/package.json',
    '/generated/..%5c..%5cpackage.json',
    '/generated/wgsl/',
    '/%',
    '//',
  ])('gives out nothing else: %s', async (path) => {
    expect(await statusOf(path)).toBe(404);
  });
});

/** Numbers of the page by name, exactly. */
async function numbersOf(page: Page): Promise<Record<string, number>> {
  return page.evaluate(`Object.fromEntries(
    [...document.querySelectorAll('data')].map((data) => [data.dataset.name, Number(data.value)]),
  )`);
}

const state = (page: Page, name: string): Promise<void> =>
  page.locator(`html[data-state=${name}]`).waitFor({ timeout: 120_000 });

async function screenshot(page: Page, name: string): Promise<void> {
  if (SCREENSHOTS === undefined) return;
  mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), fullPage: true });
}

/** Contrast of text with the page's background (WCAG 2). */
async function contrastOf(page: Page, selector: string): Promise<number> {
  const [text, paper] = await page.evaluate<[string, string]>(`[
    getComputedStyle(document.querySelector('${selector}')).color,
    getComputedStyle(document.body).backgroundColor,
  ]`);
  const luminance = (color: string): number => {
    const [r, g, b] = [...color.matchAll(/[\d.]+/g)].map(([part]) => {
      const x = Number(part) / 255;
      return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!;
  };
  const [dark, light] = [luminance(text), luminance(paper)].sort((a, b) => a - b);
  return (light! + 0.05) / (dark! + 0.05);
}

/** The error of attention where the first 4 tokens and a query's latest 32 are those of the capture. */
function joinedError(data: LayerData): number {
  const { keys, values, kvHeads, qHeads, tokens, keyDim: d, positions, queries } = data;
  const means = readMeans(slice, data);
  const keysBack = quantizeRows(plan, 'key', keys, kvHeads, tokens, means.key);
  const valuesBack = quantizeRows(plan, 'value', values, kvHeads, tokens, means.value);
  const exact: number[] = [];
  const found: number[] = [];
  for (const [row, position] of positions.entries()) {
    const keep = (packed: Float64Array, rows: Float32Array): Float64Array =>
      packed.map((x, i) => {
        const token = Math.floor(i / d) % tokens;
        return token < 4 || token > position - 32 ? rows[i]! : x;
      });
    const q = Float32Array.from({ length: qHeads * d }, (_, i) => {
      const head = Math.floor(i / d);
      return queries[(head * positions.length + row) * d + (i % d)]!;
    });
    const one = { ...data, queries: q, positions: Int32Array.of(position) };
    exact.push(...exactAttention(one).outputs);
    found.push(...attention(one, keep(keysBack, keys), keep(valuesBack, values)).outputs);
  }
  return relativeError(Float64Array.from(exact), Float64Array.from(found));
}

describe.skipIf(missing !== undefined)(`the page${missing ? ` (${missing})` : ''}`, () => {
  let page: Page;
  const complaints: string[] = [];
  const requests: string[] = [];
  beforeAll(async () => {
    page = await browser!.newPage({ colorScheme: 'light' });
    page.on('console', (message) => complaints.push(message.text()));
    page.on('pageerror', (error) => complaints.push(String(error)));
    page.on('request', (request) => requests.push(request.url()));
    await page.goto(server.url);
    await state(page, 'done');
    await screenshot(page, 'light');
  });
  afterAll(() => page?.close());

  test('says nothing on the console and asks no other server', () => {
    expect(complaints).toEqual([]);
    const { origin } = new URL(server.url);
    expect(requests.filter((url) => !url.startsWith(`${origin}/`))).toEqual([]);
  });

  test('names the adapter and the kernels', async () => {
    expect(await page.locator('#adapter-name').textContent()).toMatch(/swiftshader/i);
    expect(await page.locator('#variant').textContent()).toMatch(/^(subgroups|core)$/);
    expect(await page.locator('#software').isVisible()).toBe(true);
  });

  test('states the compression of the plan', async () => {
    const bytes = ROLES.map((role) => plan[role].layout.unitBytes / plan[role].layout.unitTokens);
    const after = bytes[0]! + bytes[1]!;
    const before = 2 * (plan.key.headDim + plan.value.headDim);
    expect(await numbersOf(page)).toMatchObject({
      'bytes-before': before,
      'bytes-after': after,
      factor: before / after,
    });
    const stated = await page.locator('#figure-factor').textContent();
    expect(Number.parseFloat(stated!)).toBeCloseTo(before / after, 2);
  });

  test.each([4, 20])('states the errors and angles of the reference, layer %i', async (layer) => {
    await page.getByLabel('Layer').selectOption(String(layer));
    await state(page, 'done');
    const data = readLayer(slice, layer);
    const means = readMeans(slice, data);
    const want = measureLayer(plan, data, exactAttention(data), means);
    const found = await numbersOf(page);
    // The bytes are the reference's; what decodes them and attends has float32.
    expect(found['key-error']! / want.keyError).toBeCloseTo(1, 4);
    expect(found['value-error']! / want.valueError).toBeCloseTo(1, 4);
    expect(found['output-error']! / want.outputError).toBeCloseTo(1, 3);
    expect(found['joined-error']! / joinedError(data)).toBeCloseTo(1, 3);
    expect(found['dense-error']).toBeLessThan(1e-10);
    // Real vectors less their mean are near what is promised for normal ones.
    for (const role of ROLES) {
      expect(found[`${role}-error-expected`]).toBe(plan[role].error);
      expect(Math.abs(found[`${role}-error-centred`]! / plan[role].error - 1)).toBeLessThan(0.1);
    }

    for (const role of ROLES) {
      const { depth, headDim, levels } = plan[role];
      const figures = page.locator(`figure[data-role=${role}]`);
      expect(await figures.count()).toBe(depth);
      const histograms = angleHistograms(depth);
      const given = role === 'key' ? data.keys : data.values;
      const rows = preconditionRows(plan, role, given, data.kvHeads, data.tokens, means[role]);
      countAngles(histograms, rows, headDim);
      for (const [i, histogram] of histograms.entries()) {
        const figure = figures.nth(i);
        const apart = distance(observedShares(histogram), expectedShares(i + 1));
        const stated = await figure.locator('data').getAttribute('value');
        // An angle at the edge of a bin may fall to its other side.
        expect(Math.abs(Number(stated) - apart)).toBeLessThan(2e-3);
        const ticks = (await figure.locator('.codebook').getAttribute('d'))!.match(/M/g);
        expect(ticks).toHaveLength(2 ** levels[i]!.bits);
        const label = await figure.getByRole('img').getAttribute('aria-label');
        expect(label).toContain(`Angles of level ${i + 1} of the ${role}s`);
      }
    }
  });

  test('shows one KV head alone', async () => {
    const angles = () => page.locator('#key-numbers .number').first().textContent();
    expect(await angles()).toBe('49,152');
    const all = await numbersOf(page);
    await page.getByLabel('KV head').selectOption('1');
    await state(page, 'done');
    expect(await angles()).toBe('16,384');
    const one = await numbersOf(page);
    expect(one['key-error']).not.toBe(all['key-error']);
    expect(one['output-error']).not.toBe(all['output-error']);
    await page.getByLabel('KV head').selectOption('all');
    await state(page, 'done');
    expect(await numbersOf(page)).toEqual(all);
  });

  test('times the kernels, and again when it is asked to', async () => {
    const names = ['time-attend', 'time-attendDense', 'time-encode', 'ratio'];
    const first = await numbersOf(page);
    for (const name of names) expect(first[name]).toBeGreaterThan(0);
    expect(first.ratio).toBe(first['time-attendDense']! / first['time-attend']!);
    await page.getByRole('button', { name: 'Time again' }).click();
    await page.locator('#controls-fields:enabled').waitFor();
    const second = await numbersOf(page);
    for (const name of names) expect(second[name]).not.toBe(first[name]);
  });

  test('is light and dark as the system is, or as it is told', async () => {
    const paper = () => page.evaluate('getComputedStyle(document.body).backgroundColor');
    const light = await paper();
    const legible = async () => {
      for (const selector of ['h1', '.lede', '.about p', 'caption', 'th', '.aside']) {
        expect(await contrastOf(page, selector), selector).toBeGreaterThan(4.5);
      }
    };
    await legible();
    await page.emulateMedia({ colorScheme: 'dark' });
    const dark = await paper();
    expect(dark).not.toBe(light);
    await legible();
    await screenshot(page, 'dark');
    await page.getByLabel('Light').check();
    expect(await paper()).toBe(light);
    await page.reload();
    expect(await paper()).toBe(light);
    await page.getByLabel('Auto').check();
    expect(await paper()).toBe(dark);
    await state(page, 'done');
  });

  test('fits a phone', async () => {
    await page.setViewportSize({ width: 360, height: 740 });
    await screenshot(page, 'narrow');
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(360);
  });
});

describe.skipIf(missing !== undefined)(`what is missing${missing ? ` (${missing})` : ''}`, () => {
  let page: Page;
  afterEach(() => page?.close());

  /** Title and text of the problem that the page shows, with a script run before it or a request that fails. */
  async function problem(
    prepare: (page: Page) => Promise<unknown>,
    url = server.url,
    options: BrowserContextOptions = { colorScheme: 'light' },
  ): Promise<string> {
    page = await browser!.newPage(options);
    await prepare(page);
    await page.goto(url);
    await state(page, 'failed');
    const alert = page.getByRole('alert');
    expect(await alert.isVisible()).toBe(true);
    return (await alert.textContent())!.replaceAll(/\s+/g, ' ').trim();
  }

  test('WebGPU', async () => {
    const text = await problem((page) =>
      page.addInitScript('Object.defineProperty(Navigator.prototype, "gpu", { value: undefined })'),
    );
    expect(text).toMatch(/^This browser has no WebGPU .*navigator\.gpu.*Chrome.*Firefox/);
    await screenshot(page, 'no-webgpu');
  });

  test('an adapter', async () => {
    const text = await problem((page) =>
      page.addInitScript('GPU.prototype.requestAdapter = async () => null'),
    );
    expect(text).toMatch(/^This browser found no GPU .*--use-webgpu-adapter=swiftshader/);
  });

  test('a device', async () => {
    const text = await problem((page) =>
      page.addInitScript(
        'GPUAdapter.prototype.requestDevice = async () => { throw new Error("out of devices") }',
      ),
    );
    expect(text).toMatch(/^The GPU gave no device out of devices/);
  });

  test('a device that was there', async () => {
    const text = await problem((page) =>
      page.addInitScript(`Object.defineProperty(GPUDevice.prototype, 'lost', {
        get: () => Promise.resolve({ reason: 'unknown', message: 'pulled out' }),
      })`),
    );
    expect(text).toMatch(/^The GPU was lost pulled out Reload the page/);
  });

  test.each([
    ['kv-slice.safetensors', 'A file of this page could not be loaded'],
    ['small-d64.plan.json', 'A file of this page could not be loaded'],
    ['small-d64.js', 'The generated kernels could not be loaded'],
    ['chart.js', 'A script of this page could not be loaded'],
  ])('%s', async (name, title) => {
    const text = await problem((page) =>
      page.route(`**/${name}`, (route) => route.fulfill({ status: 404 })),
    );
    expect(text).toContain(title);
    expect(text).toContain('node examples/browser/serve.js');
  });

  test('a server', async () => {
    const file = pathToFileURL(join(ROOT, 'examples/browser/index.html')).href;
    const text = await problem(async () => {}, file);
    expect(text).toMatch(/^This page needs a server .*node examples\/browser\/serve\.js/);
  });
});
