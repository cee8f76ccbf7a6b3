/** Results as text, tables and charts in the page. */

import { bar, histogramChart } from './chart.js';
import { LEAST_ROUNDS } from './device.js';
import { apart, codebook } from './figures.js';

export const $ = (selector) => document.querySelector(selector);

/** An element; children may be nodes or text. */
export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const LOCALE = 'en';
const NO_BREAK = '\u00a0';

export const whole = (x) => x.toLocaleString(LOCALE);

const digits = (x, count) =>
  x.toLocaleString(LOCALE, { minimumSignificantDigits: count, maximumSignificantDigits: count });

const percent = (x) => `${digits(100 * x, 2)}${NO_BREAK}%`;

/** A share of 1: what no percentage says well as a power of ten. */
function share(x) {
  if (x === 0 || x >= 1e-5) return [percent(x)];
  const power = Math.floor(Math.log10(x));
  const sign = power < 0 ? '−' : '';
  return [`${(x / 10 ** power).toFixed(1)} · 10`, el('sup', {}, `${sign}${Math.abs(power)}`)];
}

function duration(ms) {
  if (ms >= 1000) return `${digits(ms / 1000, 3)}${NO_BREAK}s`;
  if (ms >= 1) return `${digits(ms, 3)}${NO_BREAK}ms`;
  return `${digits(ms * 1000, 3)}${NO_BREAK}µs`;
}

function bytesText(bytes) {
  if (bytes >= 1e6) return `${digits(bytes / 1e6, 3)}${NO_BREAK}MB`;
  if (bytes >= 1e4) return `${digits(bytes / 1e3, 3)}${NO_BREAK}kB`;
  return `${bytes.toLocaleString(LOCALE, { maximumFractionDigits: 3 })}${NO_BREAK}B`;
}

/** A number for the reader, and exactly for whoever reads the page with a program. */
const data = (name, value, ...text) =>
  el('data', { 'data-name': name, value: String(value) }, ...text);

function fill(selector, ...children) {
  $(selector).replaceChildren(...children);
}

const th = (text) => el('th', { scope: 'row' }, text);
const td = (...children) => el('td', {}, ...children);
const number = (...children) => el('td', { class: 'number' }, ...children);

// ---- Progress, problems

export function showProgress(step, steps, text) {
  $('#status-text').textContent = text;
  $('#progress').max = steps;
  $('#progress').value = step;
}

/** Text with `code` between backticks. */
function marked(text) {
  return text
    .split('`')
    .map((piece, i) => (i % 2 === 1 ? el('code', {}, piece) : document.createTextNode(piece)));
}

export function showProblem({ title, message, steps = [] }) {
  document.documentElement.dataset.state = 'failed';
  $('#problem-title').textContent = title ?? 'Something went wrong';
  fill('#problem-text', ...marked(message));
  fill('#problem-steps', ...steps.map((step) => el('li', {}, ...marked(step))));
  $('#problem').hidden = false;
}

export function hideProblem() {
  $('#problem').hidden = true;
}

// ---- Results

export function showAdapter({ name, software }, variant) {
  fill(
    '#adapter',
    'On ',
    el('b', { id: 'adapter-name' }, name),
    software ? ', software on the CPU, ' : ' ',
    'by the ',
    el('b', { id: 'variant' }, variant),
    ' kernels.',
  );
}

export function showCompression(Kernels) {
  const roles = [
    ['Keys', 'keys', Kernels.key],
    ['Values', 'values', Kernels.value],
  ];
  const rows = roles.map(([text, kind, { headDim, bytesPerToken }]) => {
    const before = headDim * 2;
    return el(
      'tr',
      {},
      th(text),
      number(bytesText(before)),
      number(bytesText(bytesPerToken)),
      number(`${digits((8 * bytesPerToken) / headDim, 3)}`),
      number(`${digits(before / bytesPerToken, 3)}×`),
      td(bar(bytesPerToken / before, kind)),
    );
  });
  const before = 2 * (Kernels.key.headDim + Kernels.value.headDim);
  const after = Kernels.bytesPerToken;
  rows.push(
    el(
      'tr',
      { class: 'sum' },
      th('Both'),
      number(data('bytes-before', before, bytesText(before))),
      number(data('bytes-after', after, bytesText(after))),
      number(digits((8 * after) / (before / 2), 3)),
      number(data('factor', before / after, `${digits(before / after, 3)}×`)),
      td(bar(after / before, 'both')),
    ),
  );
  fill('#compression tbody', ...rows);
  fill('#figure-factor', `${digits(before / after, 3)}×`);
  fill('#figure-factor-note', `${bytesText(before)} become ${bytesText(after)}`);
}

export function showErrors(errors) {
  const vectors = ['key', 'value'].map((role) => {
    const { total, centred, expected } = errors[role];
    return el(
      'tr',
      {},
      th(role === 'key' ? 'Keys' : 'Values'),
      number(data(`${role}-error`, total, percent(total))),
      number(data(`${role}-error-centred`, centred, percent(centred))),
      number(data(`${role}-error-expected`, expected, percent(expected))),
    );
  });
  fill('#vector-errors tbody', ...vectors);
  const { packed, joined, dense } = errors.outputs;
  const output = (name, value, text) =>
    el('tr', {}, th(text), number(data(name, value, ...share(value))));
  fill(
    '#output-errors tbody',
    output('output-error', packed, 'All tokens packed'),
    output(
      'joined-error',
      joined,
      'First 4 and latest 32 tokens in full precision, the rest packed',
    ),
    output('dense-error', dense, 'Nothing packed: the dense kernel’s own rounding'),
  );
  fill('#figure-vectors', percent(errors.key.total), ' · ', percent(errors.value.total));
  fill('#figure-outputs', percent(packed));
  fill('#figure-outputs-note', `${percent(joined)} with first and last tokens exact`);
}

export function showTimes({ context, times, bytes }, { software, timestamps }, layer) {
  const ratio = times.attendDense / times.attend;
  const most = Math.max(times.attend, times.attendDense);
  const attend = (name, text, kind) =>
    el(
      'tr',
      {},
      th(text),
      number(bytesText(bytes[name])),
      number(data(`time-${name}`, times[name], duration(times[name]))),
      td(bar(times[name] / most, kind)),
    );
  fill(
    '#times tbody',
    attend('attend', 'attend, packed', 'both'),
    attend('attendDense', 'attendDense, f16', 'plain'),
  );
  const rows = layer.tokens * layer.kvHeads;
  const encode = times.encodeKey + times.encodeValue;
  fill(
    '#times-note',
    ratio >= 1
      ? `Packed is ${digits(ratio, 2)} times as fast as dense. `
      : `Packed takes ${digits(1 / ratio, 2)} times as long as dense. `,
    'Packing ',
    `${whole(layer.tokens)} tokens of ${layer.kvHeads} heads, keys and values, takes `,
    data('time-encode', encode, duration(encode)),
    `: ${duration(encode / rows)} a token and head. Medians of at least ${LEAST_ROUNDS} rounds, `,
    timestamps
      ? 'each between two timestamps of the device.'
      : 'each from submitting to the end of the work as the browser tells it.',
  );
  $('#software').hidden = !software;
  fill('#figure-time', data('ratio', ratio, `${digits(ratio, 2)}×`));
  fill(
    '#figure-time-note',
    `${duration(times.attend)} against ${duration(times.attendDense)}`,
    software ? ', on a CPU' : '',
  );
  fill('#times-context', `${whole(context)} tokens`);
}

export function showAngles(histograms, plan) {
  for (const role of ['key', 'value']) {
    const charts = histograms[role].map((histogram, i) => {
      const { level, total } = histogram;
      const { bits } = plan[role].levels[i];
      const angles = codebook(plan[role].levels[i]);
      const distance = percent(apart(histogram));
      const label =
        `Angles of level ${level} of the ${role}s: ${whole(total)} measured angles in 32 bins ` +
        `against the density that the codebook assumes, ${distance} apart; ` +
        `${angles.length} codebook angles.`;
      return el(
        'figure',
        { class: role === 'key' ? 'keys' : 'values', 'data-role': role, 'data-level': level },
        el(
          'figcaption',
          {},
          el('b', {}, `Level ${level}`),
          el(
            'span',
            { class: 'aside' },
            `${bits} bits · `,
            data('apart', apart(histogram), `${distance} apart`),
          ),
        ),
        histogramChart(histogram, angles, label),
      );
    });
    fill(`#${role}-angles`, ...charts);
    const rows = histograms[role].map((histogram, i) => {
      const level = plan[role].levels[i];
      return el(
        'tr',
        {},
        th(`${role === 'key' ? 'Keys' : 'Values'}, level ${histogram.level}`),
        number(whole(histogram.total)),
        number(String(level.bits)),
        number(String(codebook(level).length)),
        number(percent(apart(histogram))),
      );
    });
    fill(`#${role}-numbers`, ...rows);
  }
}
