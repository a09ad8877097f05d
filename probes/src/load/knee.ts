/**
 * Where a target stops keeping up: steps of a constant rate each, upwards, until response times or the rate of answers
 * depart from what lower rates had.
 *
 * A step departs when one of these holds:
 * - answers come at less than `ACHIEVED_MIN` of the rate, counted over one step's length from its first answer on, so
 *   that the time an answer takes is not held against it, and more than `SHORT_MIN` are short: in a step of a few
 *   requests one slow answer is a large share
 * - p99 of the response time (from the intended send) is more than `P99_FACTOR` times that of the lowest step and at
 *   least `P99_FLOOR_NS` more: below that a hiccup of the machine would do
 * A step that departs is run once more, and is the knee only when it departs again. A step the probe itself could not
 * send on time says nothing about the target: then there is no verdict.
 */
import type { Tally } from '../tally.ts'

const ACHIEVED_MIN = 0.98
const SHORT_MIN = 3
const P99_FACTOR = 3
const P99_FLOOR_NS = 5_000_000
/** Share of late or dropped-as-late sends, and their lateness at p99, from which the probe is its own limit. */
const LATE_MAX = 0.01
const SLIP_P99_MAX_NS = 5_000_000

const KNEE_METHOD =
  `first rate at which, twice in a row, fewer than ${ACHIEVED_MIN * 100} % of the offered requests a second are ` +
  `answered, or response p99 is over ${P99_FACTOR} times that of the lowest rate and ${P99_FLOOR_NS / 1e6} ms more`

/** One rate, run for a while. */
export interface Step {
  readonly ratePerSecond: number
  readonly tally: Tally
  /** Good answers within one step's length from the first one, a second. */
  readonly achievedPerSecond: number
  /** Requests of the schedule that were not answered well within it. */
  readonly short: number
  /** Of every send, ns. */
  readonly slipP99Ns: number
  /** It was stopped before its end: shown, never judged. */
  readonly stopped?: boolean
}

export type Verdict =
  | { readonly kind: 'steady' }
  | { readonly kind: 'departed' | 'probe_limited'; readonly reason: string }

/** @param lowest step with the lowest rate; a step is not compared with itself */
export function judgeStep(step: Step, lowest: Step): Verdict {
  const { tally, ratePerSecond, achievedPerSecond, short, slipP99Ns } = step
  const late = tally.reasons.get('DROPPED_LATE') ?? 0
  if (late > tally.scheduled * LATE_MAX || slipP99Ns > SLIP_P99_MAX_NS)
    return {
      kind: 'probe_limited',
      reason: `the probe itself was late at ${ratePerSecond}/s: slip p99 ${ms(slipP99Ns)}, ${late} sends not started`,
    }
  if (achievedPerSecond < ratePerSecond * ACHIEVED_MIN && short > SHORT_MIN)
    return { kind: 'departed', reason: `${+achievedPerSecond.toFixed(1)} answers a second of ${ratePerSecond} offered` }
  const p99Ns = tally.response.quantileNs(0.99)
  const baseNs = lowest.tally.response.quantileNs(0.99)
  if (step !== lowest && p99Ns > Math.max(baseNs * P99_FACTOR, baseNs + P99_FLOOR_NS))
    return { kind: 'departed', reason: `response p99 ${ms(p99Ns)}, at ${lowest.ratePerSecond}/s it was ${ms(baseNs)}` }
  return { kind: 'steady' }
}

export interface Knee {
  readonly method: string
  /** Null when no rate departed, or the probe was the limit. */
  readonly ratePerSecond: number | null
  /** Highest rate that kept up; null when the lowest did not. */
  readonly steadyPerSecond: number | null
  readonly reason: string
}

/**
 * Runs the steps until the knee.
 *
 * @param run one step; undefined when there is no time for it
 * @returns the steps that count, in order, and the verdict
 */
export async function findKnee(
  rates: Iterable<number>,
  run: (ratePerSecond: number) => Promise<Step | undefined>,
): Promise<{ readonly steps: readonly Step[]; readonly knee: Knee }> {
  const steps: Step[] = []
  const end = (ratePerSecond: number | null, reason: string, steady: Step | undefined) => ({
    steps,
    knee: { method: KNEE_METHOD, ratePerSecond, steadyPerSecond: steady?.ratePerSecond ?? null, reason },
  })
  for (const ratePerSecond of rates) {
    const below = steps.at(-1)
    let verdict: Verdict = { kind: 'steady' }
    for (let attempt = 0; attempt < 2; attempt++) {
      const step = await run(ratePerSecond)
      if (step === undefined || step.stopped) {
        // The first attempt of a rate, if there was one, is whole.
        if (step !== undefined && attempt === 0) steps.push(step)
        return end(null, 'the run ended before a rate departed', below)
      }
      if (attempt === 0) steps.push(step)
      else steps[steps.length - 1] = step
      verdict = judgeStep(step, steps[0] as Step)
      if (verdict.kind === 'steady') break
    }
    if (verdict.kind === 'departed') return end(ratePerSecond, verdict.reason, below)
    if (verdict.kind === 'probe_limited') return end(null, verdict.reason, below)
  }
  return end(null, 'no rate departed', steps.at(-1))
}

function ms(ns: number): string {
  return `${(ns / 1e6).toFixed(1)} ms`
}
