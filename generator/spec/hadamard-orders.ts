/** Orders of the small Hadamard matrices that `H_m ⊗ H_2^k` is made of: 12, 20 by Paley I, 28, 36 by Paley II. */
export const HADAMARD_ORDERS: readonly number[] = [1, 12, 20, 28, 36];

export interface HadamardOrder {
  /** m */
  readonly order: number;
  /** k */
  readonly log2: number;
}

/** d = m·2^k with the smallest m of `HADAMARD_ORDERS` that fits; undefined if there is none. */
export function hadamardOrder(dimension: number): HadamardOrder | undefined {
  for (const order of HADAMARD_ORDERS) {
    let run = order;
    let log2 = 0;
    while (run < dimension) {
      run *= 2;
      log2 += 1;
    }
    if (run === dimension) return { order, log2 };
  }
  return undefined;
}

/** The nearest dimensions below and above within [least, most] that have a Hadamard order. */
export function nearestHadamardDimensions(
  dimension: number,
  least: number,
  most: number,
): readonly number[] {
  const near: number[] = [];
  for (let d = dimension - 1; d >= least; d--) {
    if (hadamardOrder(d) !== undefined) {
      near.push(d);
      break;
    }
  }
  for (let d = dimension + 1; d <= most; d++) {
    if (hadamardOrder(d) !== undefined) {
      near.push(d);
      break;
    }
  }
  return near;
}
