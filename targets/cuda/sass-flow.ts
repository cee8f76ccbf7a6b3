/** The control flow of a kernel: basic blocks, and the natural loops among them. */

import type { Instruction } from './sass.ts';

export interface Block {
  /** Its place in the list of blocks, which is in order of address. */
  readonly index: number;
  readonly instructions: readonly Instruction[];
  /** Places of the blocks that may follow it. */
  readonly successors: readonly number[];
}

/** Blocks from which a back edge is reached without passing the header: control enters by the header alone. */
export interface Loop {
  readonly header: number;
  /** Blocks that jump back to the header. */
  readonly latches: readonly number[];
  /** All its blocks, those of loops inside it too. */
  readonly body: ReadonlySet<number>;
  /** The loops directly inside it, in order of address. */
  readonly inner: readonly Loop[];
}

export interface Flow {
  readonly blocks: readonly Block[];
  /** Places of the reachable blocks, each behind all that lead to it but by a back edge. */
  readonly order: readonly number[];
  /** The outermost loops, in order of address. */
  readonly loops: readonly Loop[];
}

/** What ends a block. A call does not where control comes back. */
const ENDS = new Set(['BRA', 'JMP', 'BRX', 'JMX', 'BRXU', 'JMXU', 'EXIT', 'RET', 'KILL']);

export function flowOf(instructions: readonly Instruction[]): Flow {
  const blocks = blocksOf(instructions);
  const order = reversePostorder(blocks);
  return { blocks, order, loops: loopsOf(blocks, order) };
}

function blocksOf(instructions: readonly Instruction[]): readonly Block[] {
  const places = new Map(instructions.map(({ address }, place) => [address, place]));
  const targetOf = ({ target }: Instruction): number | undefined =>
    target === null ? undefined : places.get(target);
  // Some jumps out of a loop are calls of code that never returns.
  const ends = (each: Instruction): boolean => {
    if (ENDS.has(each.opcode)) return true;
    const to = each.opcode === 'CALL' ? targetOf(each) : undefined;
    return to !== undefined && !returns(instructions, to, targetOf);
  };
  const ending = new Set(instructions.filter(ends));
  const starts = new Set([0]);
  instructions.forEach((each, place) => {
    if (!ending.has(each)) return;
    starts.add(place + 1);
    const to = targetOf(each);
    if (to !== undefined) starts.add(to);
  });
  const sorted = [...starts].filter((place) => place < instructions.length).sort((a, b) => a - b);
  const index = new Map(sorted.map((place, at) => [place, at]));
  return sorted.map((start, at) => {
    const end = sorted[at + 1] ?? instructions.length;
    const last = instructions[end - 1]!;
    const successors: number[] = [];
    const to = targetOf(last);
    if (ending.has(last) && to !== undefined) successors.push(index.get(to)!);
    if ((!ending.has(last) || mayPass(last)) && at + 1 < sorted.length) successors.push(at + 1);
    return { index: at, instructions: instructions.slice(start, end), successors };
  });
}

/** A predicate, one among the operands (`BRA.U !UP0, 0x90`), or a vote (`BRA.DIV`) may let control pass. */
const mayPass = ({ predicate, modifiers, operands }: Instruction): boolean =>
  predicate !== null || modifiers.includes('DIV') || /^!?U?P\d/.test(operands);

/** Whether code that begins at a place comes to a return. */
function returns(
  instructions: readonly Instruction[],
  from: number,
  targetOf: (jump: Instruction) => number | undefined,
): boolean {
  const seen = new Set<number>();
  for (const open = [from]; open.length > 0; ) {
    const place = open.pop()!;
    const each = instructions[place];
    if (each === undefined || seen.has(place)) continue;
    if (each.opcode === 'RET') return true;
    seen.add(place);
    if (!ENDS.has(each.opcode) || mayPass(each)) open.push(place + 1);
    const to = ENDS.has(each.opcode) ? targetOf(each) : undefined;
    if (to !== undefined) open.push(to);
  }
  return false;
}

function reversePostorder(blocks: readonly Block[]): readonly number[] {
  const order: number[] = [];
  const seen = new Set<number>();
  const stack = blocks.length === 0 ? [] : [{ block: 0, next: 0 }];
  seen.add(0);
  while (stack.length > 0) {
    const top = stack.at(-1)!;
    const successor = blocks[top.block]!.successors[top.next++];
    if (successor === undefined) {
      order.push(top.block);
      stack.pop();
    } else if (!seen.has(successor)) {
      seen.add(successor);
      stack.push({ block: successor, next: 0 });
    }
  }
  return order.reverse();
}

/** Of each reachable block, those through which every path to it leads. */
function dominatorsOf(
  order: readonly number[],
  predecessors: ReadonlyMap<number, readonly number[]>,
): ReadonlyMap<number, ReadonlySet<number>> {
  const dominators = new Map<number, ReadonlySet<number>>();
  for (let changed = true; changed; ) {
    changed = false;
    for (const block of order) {
      // Nothing dominates the entry but itself, even if a loop begins there.
      const before = block === order[0] ? [] : predecessors.get(block)!;
      const known = before.flatMap((each) => dominators.get(each) ?? []);
      const [first, ...rest] = known;
      const common = [...(first ?? [])].filter((each) => rest.every((other) => other.has(each)));
      const found = new Set([...common, block]);
      if (found.size !== dominators.get(block)?.size) changed = true;
      dominators.set(block, found);
    }
  }
  return dominators;
}

function loopsOf(blocks: readonly Block[], order: readonly number[]): readonly Loop[] {
  const predecessors = new Map<number, number[]>(order.map((block) => [block, []]));
  for (const block of order) {
    for (const to of blocks[block]!.successors) predecessors.get(to)!.push(block);
  }
  const dominators = dominatorsOf(order, predecessors);
  const latches = new Map<number, number[]>();
  for (const block of order) {
    for (const to of blocks[block]!.successors) {
      if (dominators.get(block)!.has(to)) latches.set(to, [...(latches.get(to) ?? []), block]);
    }
  }
  const flat = [...latches].map(([header, back]) => {
    const body = new Set([header]);
    const open = [...back];
    for (let block = open.pop(); block !== undefined; block = open.pop()) {
      if (body.has(block)) continue;
      body.add(block);
      open.push(...predecessors.get(block)!);
    }
    return { header, latches: back, body };
  });
  return nested(flat);
}

function nested(loops: readonly Omit<Loop, 'inner'>[]): readonly Loop[] {
  const within = (loop: Omit<Loop, 'inner'>, outer: Omit<Loop, 'inner'>): boolean =>
    loop !== outer && outer.body.has(loop.header);
  const outermost = loops.filter((loop) => !loops.some((outer) => within(loop, outer)));
  return outermost
    .map((loop) => ({ ...loop, inner: nested(loops.filter((each) => within(each, loop))) }))
    .sort((a, b) => a.header - b.header);
}

/** All loops, those inside others too. */
export const allLoops = (loops: readonly Loop[]): readonly Loop[] =>
  loops.flatMap((loop) => [loop, ...allLoops(loop.inner)]);
