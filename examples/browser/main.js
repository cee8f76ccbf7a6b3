/** The page: loads a capture, packs it, attends over it, shows what came out. */

import { layersOf, meansOf, readLayer } from './capture.js';
import { openAdapter, openDevice } from './device.js';
import { pack, time } from './experiment.js';
import { angleHistograms, attention, relativeError } from './figures.js';
import { Problem } from './problem.js';
import { readSafetensors } from './safetensors.js';
import * as view from './view.js';

/** What the page calls; nothing else is compiled. */
const CALLED = [
  'encodeKey',
  'encodeValue',
  'decodeKey',
  'decodeValue',
  'rotateKey',
  'rotateValue',
  'attend',
  'attendDense',
  'merge',
];

const { $ } = view;

const KERNELS = '../../generated/wgsl/small-d64/small-d64.js';
const PLAN = '../../generated/small-d64.plan.json';
const CAPTURE = '../../test/fixtures/kv-slice.safetensors';

/** Contexts of the timed decoding step. */
const CONTEXTS = [512, 4096, 32_768, 131_072];
const STEPS = 6;

async function load(path) {
  const url = new URL(path, import.meta.url);
  const failed = (why) =>
    new Problem('A file of this page could not be loaded', `${url.pathname}: ${why}.`, [
      'Serve the whole repository: run `node examples/browser/serve.js` there and open the ' +
        'address that it prints.',
    ]);
  let response;
  try {
    response = await fetch(url);
  } catch {
    throw failed('the server does not answer');
  }
  if (!response.ok) throw failed(`the server says ${response.status}`);
  return response;
}

async function loadKernels() {
  try {
    return (await import(KERNELS)).SmallD64;
  } catch (error) {
    throw new Problem('The generated kernels could not be loaded', String(error.message), [
      'Generate them: `npx polarc generate`.',
      'Serve the whole repository: `node examples/browser/serve.js`.',
    ]);
  }
}

let failed = false;

function fail(error) {
  if (failed) return; // what follows a failure says less
  failed = true;
  $('#controls-fields').disabled = true;
  if (!(error instanceof Problem)) console.error(error);
  view.showProblem(error);
}

const chosen = (name) => $(`#${name}`).value;

async function start() {
  view.showProgress(0, STEPS, 'Loading captured keys and values …');
  const adapter = await openAdapter();
  const [SmallD64, plan, file] = await Promise.all([
    loadKernels(),
    load(PLAN).then((response) => response.json()),
    load(CAPTURE).then((response) => response.arrayBuffer()),
  ]);
  if (plan.planHash !== SmallD64.planHash) {
    throw new Problem(
      'Kernels and plan are of two formats',
      `The kernels are of plan ${SmallD64.planHash.slice(0, 16)}, the plan beside them is ` +
        `${plan.planHash.slice(0, 16)}.`,
      ['Generate both: `npx polarc generate`.'],
    );
  }
  const capture = readSafetensors(file);

  view.showProgress(1, STEPS, 'Asking for the GPU …');
  const opened = await openDevice(adapter, SmallD64.features(adapter));
  const { device } = opened;
  device.lost.then(({ reason, message }) => {
    if (reason === 'destroyed') return;
    fail(
      new Problem('The GPU was lost', message || 'The browser does not say why.', [
        'Reload the page. If it happens again, close what else uses the GPU, or choose a ' +
          'shorter context.',
      ]),
    );
  });

  offer('layer', layersOf(capture));
  const { kvHeads } = readLayer(capture, layersOf(capture)[0]);
  offer('head', ['all', ...Array.from({ length: kvHeads }, (_, i) => i)]);
  offer('context', CONTEXTS, (tokens) => `${view.whole(tokens)} tokens`);
  // A software adapter takes seconds where a GPU takes milliseconds.
  $('#context').value = String(opened.software ? CONTEXTS[0] : CONTEXTS[2]);

  view.showProgress(2, STEPS, 'Compiling the kernels …');
  const kernels = await SmallD64.create(device, { kernels: CALLED });
  view.showAdapter(opened, kernels.variant);
  view.showCompression(SmallD64);
  return { SmallD64, kernels, plan, capture, opened };
}

function offer(name, values, text = (value) => String(value)) {
  const options = values.map((value) => view.el('option', { value: String(value) }, text(value)));
  $(`#${name}`).replaceChildren(...options);
}

/** What is computed for a choice of the controls, as long as it stays. */
function createPage({ SmallD64, kernels, plan, capture, opened }) {
  let experiment = null;

  async function packLayer() {
    view.showProgress(3, STEPS, 'Packing keys and values, attending over them …');
    const index = Number(chosen('layer'));
    const layer = readLayer(capture, index);
    const means = meansOf(capture, index, layer, chosen('means'));
    const results = await pack(SmallD64, kernels, opened.device, layer, means);
    view.showProgress(4, STEPS, 'Comparing with full precision …');
    await new Promise((resolve) => setTimeout(resolve)); // lets the page draw
    experiment = { layer, means, results, exact: attention(layer, SmallD64.group) };
  }

  function showHead() {
    const { layer, means, results, exact } = experiment;
    const head = chosen('head');
    const heads = Array.from({ length: layer.kvHeads }, (_, i) => i);
    const only = head === 'all' ? heads : [Number(head)];
    const shape = { heads: layer.kvHeads, d: layer.d };
    const vectors = (role, rows) => ({
      total: relativeError(rows, results.decoded[role], shape, only),
      centred: relativeError(rows, results.decoded[role], shape, only, means[role]),
      expected: plan[role].error,
    });
    const group = SmallD64.group;
    const onlyQueries = only.flatMap((i) => Array.from({ length: group }, (_, j) => i * group + j));
    const output = (rows) =>
      relativeError(exact, rows, { heads: layer.kvHeads * group, d: layer.d }, onlyQueries);
    view.showErrors({
      key: vectors('key', layer.keys),
      value: vectors('value', layer.values),
      outputs: {
        packed: output(results.outputs.packed),
        joined: output(results.outputs.joined),
        dense: output(results.outputs.dense),
      },
    });
    const angles = (role) => angleHistograms(results.rotated[role], shape, plan[role].depth, only);
    view.showAngles({ key: angles('key'), value: angles('value') }, plan);
    $('#results').hidden = false;
  }

  async function measureTime() {
    view.showProgress(5, STEPS, 'Measuring time …');
    const { layer, means, results } = experiment;
    const context = Number(chosen('context'));
    const timed = await time(SmallD64, kernels, opened, layer, means, results, context);
    view.showTimes(timed, opened, layer);
  }

  /** Does again what depends on the control of this name, or all of it. */
  return async function update(name) {
    $('#controls-fields').disabled = true;
    document.documentElement.dataset.state = 'working';
    if (name === undefined || name === 'layer' || name === 'means') await packLayer();
    if (name !== 'context') showHead();
    if (name === undefined || name === 'context' || name === 'again') await measureTime();
    if (failed) return;
    view.showProgress(STEPS, STEPS, 'Done.');
    document.documentElement.dataset.state = 'done';
    $('#controls-fields').disabled = false;
  };
}

function wireTheme() {
  const root = document.documentElement;
  for (const input of document.querySelectorAll('input[name=theme]')) {
    input.checked = input.value === (root.dataset.theme ?? 'auto');
    input.addEventListener('change', () => {
      if (input.value === 'auto') delete root.dataset.theme;
      else root.dataset.theme = input.value;
      try {
        localStorage.setItem('theme', input.value);
      } catch {
        // Storage may be forbidden; then the choice lasts as long as the page.
      }
    });
  }
}

wireTheme();
try {
  const update = createPage(await start());
  await update();
  $('#controls').addEventListener('change', ({ target }) => update(target.name).catch(fail));
  $('#controls').addEventListener('submit', (event) => {
    event.preventDefault();
    update('again').catch(fail);
  });
} catch (error) {
  fail(error);
}
