/** Names that the ES module and its types take: no cache may have a class of that name. */
const CLASSES = [
  'Runtime',
  'Draft',
  'SequenceDraft',
  'KernelName',
  'Shared',
  'PreparedCall',
  'Rows',
  'Pool',
  'Words',
  'DenseRows',
  'CacheIndex',
  'Transform',
  'Format',
  'Basis',
  'Rotation',
  'MergePart',
  'Sums',
  'TokenRows',
  'Workspace',
  'RowsOfSequences',
  'Visibility',
  'EncodeCall',
  'DecodeCall',
  'RotateCall',
  'ScoresCall',
  'WeightedSumCall',
  'AttendCall',
  'AttendDenseCall',
  'MergeCall',
  'Shape',
  'SplitShape',
];

const snake = (name: string): string =>
  name.replace(/(?<!^)[A-Z]/g, (letter) => `_${letter}`).toLowerCase();

export const RESERVED_WORDS: readonly string[] = CLASSES.flatMap((name) => [name, snake(name)]);
