/** The middle of measured times: robust against what else the machine does. */
export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
};

/** Nanoseconds of one call. */
export const timed = async (call: () => void | Promise<void>): Promise<number> => {
  const started = performance.now();
  await call();
  return (performance.now() - started) * 1e6;
};

/** Times of two calls in turn: what slows the machine slows both. `a` runs first each time. */
export const interleaved = async (
  repeats: number,
  a: () => Promise<number>,
  b: () => Promise<number>,
): Promise<{ readonly a: number; readonly b: number; readonly ratio: number }> => {
  await a();
  await b();
  const timesA: number[] = [];
  const timesB: number[] = [];
  for (let i = 0; i < repeats; i++) {
    timesA.push(await a());
    timesB.push(await b());
  }
  const ratios = timesA.map((time, i) => time / timesB[i]!);
  return { a: median(timesA), b: median(timesB), ratio: median(ratios) };
};
