/** Plan → what the templates of the TypeScript class (`templates/shared/binding*.ts.hbs`) print. */

import { className, fileStem } from '../naming/index.ts';
import type { CodecPlan, Plan } from '../plan/index.ts';
import type { View } from '../target/index.ts';

export type SharedMatrix = 'no' | 'shared' | 'per head';

/** Whether calls need the preconditioning matrix, and whether one serves all KV heads. */
export function sharedMatrix(codec: CodecPlan): SharedMatrix {
  if (codec.precondition.kind === 'matrix') return 'per head';
  return codec.precondition.kind === 'orthogonal' ? 'shared' : 'no';
}

/** Where the arrays of calls lie: typed arrays, or memory of a device. */
export type Arrays = 'host' | 'device';

const ARRAYS: Readonly<Record<Arrays, View>> = {
  host: {
    rowsDoc:
      'Rows of numbers: f16 and bf16 as bit patterns in a Uint16Array, with `dtype` saying which.',
    dtypeDoc: 'Default: `f32` for a Float32Array, `f16` for a Uint16Array.',
    rows: 'Float32Array | Uint16Array',
    f32: 'Float32Array',
    u8: 'Uint8Array',
    i32: 'Int32Array',
    u32: 'Uint32Array',
    i64: 'BigInt64Array',
  },
  device: {
    rowsDoc: 'Rows of numbers in memory of the device; `dtype` says of which type.',
    dtypeDoc: 'Default: `f32`.',
    rows: 'DeviceBuffer',
    f32: 'DeviceFloat32',
    u8: 'DeviceUint8',
    i32: 'DeviceInt32',
    u32: 'DeviceUint32',
    i64: 'DeviceInt64',
  },
};

export function bindingView(plan: Plan, arrays: Arrays = 'host'): View {
  return {
    arrays: ARRAYS[arrays],
    class: className(plan.name),
    stem: fileStem(plan.name),
    planHash: plan.planHash,
    group: String(plan.queryGroup),
    pageTokens: String(plan.pageTokens),
    dense: plan.dense,
    denseF16: plan.dense === 'f16',
    denseF32: plan.dense === 'f32',
    denseArray: plan.dense === 'f32' ? 'Float32Array' : 'Uint16Array',
    key: codecView(plan.key),
    value: codecView(plan.value),
    kernels: kernels(plan),
    workspaces: kernels(plan)
      .filter(({ workspace }) => workspace)
      .map(({ name, callType }) => ({ name, callType })),
  };
}

function codecView(codec: CodecPlan): View {
  const { layout } = codec;
  const bits = codec.levels.map((level) => level.bits).join(',');
  const radius = codec.radius.kind === 'log' ? `log ${codec.radius.bits}` : codec.radius.kind;
  return {
    headDim: String(codec.headDim),
    unitTokens: String(layout.unitTokens),
    unitBytes: String(layout.unitBytes),
    bytesPerToken: String(layout.unitBytes / layout.unitTokens),
    formatHash: codec.formatHash,
    needsMean: String(codec.center),
    needsMatrix: sharedMatrix(codec),
    needsDual: String(codec.precondition.kind === 'matrix'),
    format: `${bits} bits, radius ${radius}, ${codec.precondition.kind}, ${layout.id}`,
  };
}

interface Kernel {
  readonly [key: string]: string | boolean | readonly string[];
  readonly name: string;
  readonly callType: string;
  readonly workspace: boolean;
  readonly doc: readonly string[];
}

/** The methods of the class, with their documentation in the sizes of this cache. */
function kernels(plan: Plan): readonly Kernel[] {
  const { key, value, queryGroup } = plan;
  const heads = `kvHeads·${queryGroup}`;
  const kernel = (name: string, callType: string, workspace: boolean, ...doc: string[]): Kernel => {
    return { name, callType, workspace, doc };
  };
  const coder = (role: string, codec: CodecPlan): Kernel[] => {
    const name = role === 'key' ? 'Key' : 'Value';
    const unit = codec.layout.unitTokens === 1 ? 'a token' : `${codec.layout.unitTokens} tokens`;
    return [
      kernel(
        `encode${name}`,
        'EncodeCall',
        false,
        `Packs rows \`[count][kvHeads][${codec.headDim}]\` into slots: ${codec.layout.unitBytes} bytes`,
        `for ${unit} of a KV head. \`errors\` gets every row's squared error, in the units of the rows`,
        'squared after preconditioning. Slots must be distinct.',
      ),
      kernel(
        `decode${name}`,
        'DecodeCall',
        false,
        `Slots to rows \`[count][kvHeads][${codec.headDim}]\`, original or preconditioned.`,
      ),
      kernel(
        `rotate${name}`,
        'RotateCall',
        false,
        `Multiplies rows \`[count][heads][${codec.headDim}]\` with the preconditioner of ${role}s: S`,
        '(forward), S⁻ᵀ (dual, for queries) or S⁻¹ (inverse).',
      ),
    ];
  };
  return [
    ...coder('key', key),
    ...coder('value', value),
    kernel(
      'scores',
      'ScoresCall',
      true,
      `Logits of queries \`[rows][${heads}][${key.headDim}]\` against packed keys:`,
      '`scores[row][q_head][token]` = scale × q·k, −∞ where the query does not see the token.',
    ),
    kernel(
      'weightedSum',
      'WeightedSumCall',
      true,
      'Sums of packed values with given weights; every token of the sequence counts:',
      `\`out[row][q_head]\`, ${value.headDim} numbers, = Σ weights[row][q_head][token] × v.`,
    ),
    kernel(
      'attend',
      'AttendCall',
      true,
      `Softmax attention of queries \`[rows][${heads}][${key.headDim}]\` over packed tokens, to`,
      `\`[rows][${heads}][${value.headDim}]\`, and the log-sum-exp of the logits. Rows that see nothing`,
      'get 0 and −∞.',
    ),
    kernel(
      'attendDense',
      'AttendDenseCall',
      true,
      `The same over rows of ${plan.dense}: keys \`[sequence][token][kv_head][${key.headDim}]\`, values`,
      `\`[sequence][token][kv_head][${value.headDim}]\`.`,
    ),
    kernel(
      'merge',
      'MergeCall',
      false,
      `Combines partial results \`[rows][qHeads][${value.headDim}]\` by their log-sum-exp, and applies the`,
      'sink logits, once. Parts that saw nothing count for nothing.',
    ),
  ];
}
