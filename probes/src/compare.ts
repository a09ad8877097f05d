/**
 * Is one side really faster than the other? Paired rounds, a confidence interval, and no claim when it includes none.
 *
 * Sides are measured interleaved, round by round; each round gives one figure a side (a quantile of that round). What is
 * compared is the mean of the per-round differences (or of the logarithms of the per-round ratios), with Student's t
 * interval over rounds. Rounds are few and share what the machine does, samples within a round are many and correlated:
 * so the round is the unit, never the sample.
 *
 * The interval is at 99 %, not 95 %: a suite that runs many comparisons must not find a gain in every twentieth A/A.
 */

/** Two-sided 99 % quantiles of Student's t for 1 … 30 degrees of freedom (any statistics table), then the normal's. */
const T_99 = [
  63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.25, 3.169, 3.106, 3.055, 3.012, 2.977, 2.947, 2.921, 2.898,
  2.878, 2.861, 2.845, 2.831, 2.819, 2.807, 2.797, 2.787, 2.779, 2.771, 2.763, 2.756, 2.75,
] as const
const NORMAL_99 = 2.576

/** Fewest rounds that make an interval; below, nothing is claimed. */
export const ROUNDS_MIN = 3

export interface Interval {
  readonly mean: number
  readonly low: number
  readonly high: number
}

/** The mean of `values` with its 99 % interval; infinitely wide for fewer than `ROUNDS_MIN`. */
export function meanInterval(values: readonly number[]): Interval {
  const n = values.length
  const mean = values.reduce((a, b) => a + b, 0) / n
  if (n < ROUNDS_MIN) return { mean, low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY }
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1)
  const half = (T_99[n - 2] ?? NORMAL_99) * Math.sqrt(variance / n)
  return { mean, low: mean - half, high: mean + half }
}

/** `to` against `from`: 0.4 means that `to` takes 40 % of the time of `from`. */
export interface Gain {
  readonly ratio: number
  readonly low: number
  readonly high: number
  /** Whether the interval excludes 1, so that a gain (or a loss) may be spoken of. */
  readonly claimed: boolean
}

function paired(from: readonly number[], to: readonly number[]): void {
  if (from.length !== to.length || from.length === 0)
    throw new RangeError('comparison needs as many rounds on each side')
}

/**
 * The ratio of two sides' figures, round by round.
 *
 * @param from,to one figure a round, > 0, same rounds
 */
export function compareRatio(from: readonly number[], to: readonly number[]): Gain {
  paired(from, to)
  const { mean, low, high } = meanInterval(to.map((value, i) => Math.log(value / (from[i] as number))))
  return { ratio: Math.exp(mean), low: Math.exp(low), high: Math.exp(high), claimed: low > 0 || high < 0 }
}

/**
 * The ratio of two sides' totals: for amounts that gather in a few moments, such as time spent waiting, where most
 * rounds have nearly none and the ratio of a single round says nothing. Jackknife of the logarithm over the rounds
 * (Miller, "The jackknife: a review", Biometrika 61, 1974): unlike the linearised variance of a ratio it finds no gain in
 * an A/A of such amounts, at the price of a wide interval. Twenty rounds make it worth reading.
 *
 * @param from,to one amount a round, > 0, same rounds
 */
export function compareTotals(from: readonly number[], to: readonly number[]): Gain {
  paired(from, to)
  const n = from.length
  const total = (values: readonly number[]) => values.reduce((a, b) => a + b, 0)
  const allFrom = total(from)
  const allTo = total(to)
  const whole = Math.log(allTo / allFrom)
  const without = (i: number) => Math.log((allTo - (to[i] as number)) / (allFrom - (from[i] as number)))
  const { low, high } = meanInterval(from.map((_, i) => n * whole - (n - 1) * without(i)))
  return { ratio: Math.exp(whole), low: Math.exp(low), high: Math.exp(high), claimed: low > 0 || high < 0 }
}

/** The difference `to - from` of two sides' figures, in their unit. */
export function compareDifference(
  from: readonly number[],
  to: readonly number[],
): Interval & { readonly claimed: boolean } {
  paired(from, to)
  const interval = meanInterval(to.map((value, i) => value - (from[i] as number)))
  return { ...interval, claimed: interval.low > 0 || interval.high < 0 }
}
