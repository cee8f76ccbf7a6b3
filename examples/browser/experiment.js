/** What the page computes with the generated kernels. */

import { Buffers, timesOf } from './device.js';
import { Problem } from './problem.js';

/** Tokens kept in full precision beside the packed ones: attention sinks, and the latest. */
export const SINKS = 4;
export const RECENT = 32;

/** Arrays of one buffer, each with the index of its first number. */
class Packed {
  #parts = [];
  length = 0;

  add(numbers) {
    this.#parts.push(numbers);
    this.length += numbers.length;
    return this.length - numbers.length;
  }

  into(array) {
    let at = 0;
    for (const part of this.#parts) {
      array.set(part, at);
      at += part.length;
    }
    return array;
  }
}

const poolBytes = (Kernels, role, tokens, kvHeads) =>
  (tokens / Kernels.pageTokens) *
  kvHeads *
  (Kernels.pageTokens / Kernels[role].unitTokens) *
  Kernels[role].unitBytes;

/** An error that WebGPU reports beside the calls becomes one that is thrown. */
async function validated(device, work) {
  device.pushErrorScope('out-of-memory');
  device.pushErrorScope('validation');
  let result;
  try {
    result = await work();
  } finally {
    const errors = [await device.popErrorScope(), await device.popErrorScope()];
    const error = errors.find((found) => found !== null);
    if (error !== undefined) {
      // biome-ignore lint/correctness/noUnsafeFinally: it says why what was thrown was thrown
      throw new Problem('The GPU refused the work', error.message);
    }
  }
  return result;
}

/**
 * Packs a layer, unpacks it, and attends over it: packed, packed beside a part in full precision, and over full
 * precision alone.
 */
export function pack(Kernels, kernels, device, layer, means) {
  return validated(device, async () => {
    const { kvHeads, tokens, d, rows, positions, scale } = layer;
    const qHeads = kvHeads * Kernels.group;
    const pages = tokens / Kernels.pageTokens;
    const buffers = new Buffers(device);

    const numbers = new Packed();
    const every = Array.from({ length: tokens }, (_, token) => token);
    const at = {
      slots: numbers.add(every),
      // The sinks are left out, and the token behind them has the first slot.
      slotsWithoutSinks: numbers.add(every.map((token) => Math.max(-1, token - SINKS))),
      rowSequence: numbers.add(new Array(rows).fill(0)),
      rowPosition: numbers.add([...positions]),
      beforeRecent: numbers.add([...positions].map((position) => position - RECENT)),
      length: numbers.add([tokens]),
      lengthWithoutSinks: numbers.add([tokens - SINKS]),
      firstPosition: numbers.add([SINKS]),
      sinks: numbers.add(every.map((token) => Number(token < SINKS))),
    };
    const tables = buffers.of(numbers.into(new Int32Array(numbers.length)));
    const floats = new Packed();
    const key = { mean: floats.add(means.key) };
    const value = { mean: floats.add(means.value) };
    const transforms = buffers.of(floats.into(new Float32Array(floats.length)));

    const source = { key: buffers.of(layer.keysHalf), value: buffers.of(layer.valuesHalf) };
    const pool = (role) => {
      return { buffer: buffers.empty(poolBytes(Kernels, role, tokens, kvHeads)), pages };
    };
    const all = { key: pool('key'), value: pool('value') };
    const older = { key: pool('key'), value: pool('value') };
    const flags = buffers.empty(4);
    const transformOf = { key, value };

    const encode = (role, cache, slots) => {
      const call = {
        rows: { buffer: source[role], dtype: 'f16' },
        count: tokens,
        kvHeads,
        tables,
        slots,
        cache: cache[role],
        transforms,
        transform: transformOf[role],
        flags: { buffer: flags },
      };
      return role === 'key' ? kernels.encodeKey(call) : kernels.encodeValue(call);
    };
    const float32 = (count, heads) => buffers.empty(count * heads * d * 4);

    const decoded = { key: float32(tokens, kvHeads), value: float32(tokens, kvHeads) };
    const decode = (role) => {
      const call = {
        cache: all[role],
        tables,
        slots: at.slots,
        count: tokens,
        kvHeads,
        rows: { buffer: decoded[role] },
        transforms,
        transform: transformOf[role],
        flags: { buffer: flags },
      };
      return role === 'key' ? kernels.decodeKey(call) : kernels.decodeValue(call);
    };

    const rotated = { key: float32(tokens, kvHeads), value: float32(tokens, kvHeads) };
    const rotate = (role, given) => {
      const centred = given.map((x, i) => x - means[role][i % (kvHeads * d)]);
      const call = {
        in: { buffer: buffers.of(centred) },
        out: { buffer: rotated[role] },
        count: tokens,
        heads: kvHeads,
        rotation: 'forward',
      };
      return role === 'key' ? kernels.rotateKey(call) : kernels.rotateValue(call);
    };

    const q = { buffer: buffers.of(layer.queries) };
    const workspace = (bytes) => ({ buffer: buffers.empty(bytes) });
    const shape = { rows, kvHeads, maxTokens: tokens };
    const shared = { q, rows, kvHeads, tables, rowSequence: at.rowSequence, scale };
    const part = () => {
      return { out: { buffer: float32(rows, qHeads) }, lse: { buffer: float32(rows, qHeads) } };
    };
    const packed = part();
    const dense = part();
    const packedPart = part();
    const densePart = part();
    const joined = { buffer: float32(rows, qHeads) };

    const attend = (to, cache, { lengths, ...index }, rowPosition) =>
      kernels.attend({
        ...shared,
        ...to,
        rowPosition,
        keys: cache.key,
        values: cache.value,
        index: { sequences: 1, maxTokens: tokens, lengths, ...index },
        transforms,
        key,
        value,
        workspace: workspace(kernels.attendWorkspace(shape)),
        flags: { buffer: flags },
      });
    const attendDense = (to, more) =>
      kernels.attendDense({
        ...shared,
        ...to,
        rowPosition: at.rowPosition,
        keys: { buffer: source.key },
        values: { buffer: source.value },
        sequences: 1,
        maxTokens: tokens,
        lengths: at.length,
        workspace: workspace(kernels.attendDenseWorkspace(shape)),
        flags: { buffer: flags },
        ...more,
      });

    const calls = [
      encode('key', all, at.slots),
      encode('value', all, at.slots),
      decode('key'),
      decode('value'),
      rotate('key', layer.keys),
      rotate('value', layer.values),
      attend(packed, all, { lengths: at.length }, at.rowPosition),
      attendDense(dense),
      encode('key', older, at.slotsWithoutSinks),
      encode('value', older, at.slotsWithoutSinks),
      attend(
        packedPart,
        older,
        { lengths: at.lengthWithoutSinks, firstPosition: at.firstPosition },
        at.beforeRecent,
      ),
      attendDense(densePart, { window: RECENT, alwaysVisible: at.sinks }),
      kernels.merge({
        parts: [packedPart, densePart],
        rows,
        qHeads,
        out: joined,
        workspace: workspace(kernels.mergeWorkspace({ rows, qHeads })),
      }),
    ];
    const [raised, keys, values, keysTurned, valuesTurned, out, outDense, outJoined, ...pools] =
      await buffers.run(calls, [
        [flags, Uint32Array],
        [decoded.key, Float32Array],
        [decoded.value, Float32Array],
        [rotated.key, Float32Array],
        [rotated.value, Float32Array],
        [packed.out.buffer, Float32Array],
        [dense.out.buffer, Float32Array],
        [joined.buffer, Float32Array],
        [all.key.buffer, Uint8Array],
        [all.value.buffer, Uint8Array],
      ]);
    for (const call of calls) call.destroy();
    buffers.destroy();
    if (raised[0] !== 0) {
      throw new Problem('A kernel found a table out of range', `flags are ${raised[0]}.`);
    }
    return {
      decoded: { key: keys, value: values },
      rotated: { key: keysTurned, value: valuesTurned },
      outputs: { packed: out, joined: outJoined, dense: outDense },
      pools: { key: pools[0], value: pools[1] },
    };
  });
}

/**
 * Time of one decoding step, one query row of every head over a context of `context` tokens (the capture's, repeated:
 * memory of its own for each), packed and in full precision; and of packing the captured tokens.
 */
export function time(Kernels, kernels, opened, layer, means, packed, context) {
  const { device } = opened;
  return validated(device, async () => {
    const { kvHeads, tokens, d, scale } = layer;
    const qHeads = kvHeads * Kernels.group;
    const copies = Math.ceil(context / tokens);
    const buffers = new Buffers(device);
    const numbers = new Packed();
    const slots = numbers.add(Array.from({ length: tokens }, (_, token) => token));
    const lengths = numbers.add([context]);
    const tables = buffers.of(numbers.into(new Int32Array(numbers.length)));
    const floats = new Packed();
    const key = { mean: floats.add(means.key) };
    const value = { mean: floats.add(means.value) };
    const transforms = buffers.of(floats.into(new Float32Array(floats.length)));
    const pages = (copies * tokens) / Kernels.pageTokens;
    const pools = {
      key: { buffer: buffers.of(packed.pools.key, copies), pages },
      value: { buffer: buffers.of(packed.pools.value, copies), pages },
    };
    const source = {
      key: { buffer: buffers.of(layer.keysHalf, copies) },
      value: { buffer: buffers.of(layer.valuesHalf, copies) },
    };
    const shape = { rows: 1, kvHeads, maxTokens: context };
    const shared = {
      q: { buffer: buffers.of(layer.queries.slice(-qHeads * d)) },
      out: { buffer: buffers.empty(qHeads * d * 4) },
      rows: 1,
      kvHeads,
      tables,
      scale,
    };
    const encode = (role, transform) => ({
      rows: { ...source[role], dtype: 'f16' },
      count: tokens,
      kvHeads,
      tables,
      slots,
      cache: pools[role],
      transforms,
      transform,
    });
    const calls = {
      attend: kernels.attend({
        ...shared,
        keys: pools.key,
        values: pools.value,
        index: { sequences: 1, maxTokens: context, lengths },
        transforms,
        key,
        value,
        workspace: { buffer: buffers.empty(kernels.attendWorkspace(shape)) },
      }),
      attendDense: kernels.attendDense({
        ...shared,
        keys: source.key,
        values: source.value,
        sequences: 1,
        maxTokens: context,
        lengths,
        workspace: { buffer: buffers.empty(kernels.attendDenseWorkspace(shape)) },
      }),
      encodeKey: kernels.encodeKey(encode('key', key)),
      encodeValue: kernels.encodeValue(encode('value', value)),
    };
    const times = await timesOf(opened, calls);
    for (const call of Object.values(calls)) call.destroy();
    buffers.destroy();
    return {
      context,
      times,
      bytes: {
        attend: context * kvHeads * Kernels.bytesPerToken,
        attendDense: context * kvHeads * 2 * d * 2,
      },
    };
  });
}
