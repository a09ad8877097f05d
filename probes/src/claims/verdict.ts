/**
 * From figures to words. A claim is split into parts that each can be answered; a part holds, does not, or stays open
 * because the measured interval lies on both sides of the claimed figure.
 */

/**
 * `open`: measured, and the figures do not decide it. `not measured`: no result of a run was given. `cannot be measured
 * here`: this machine or this suite has no way to; the note says which.
 */
export type Verdict = 'holds' | 'does not hold' | 'holds in part' | 'open' | 'not measured' | 'cannot be measured here'

export interface ClaimPart {
  readonly statement: string
  /** The figures with their interval. */
  readonly measured: string
  /** null when the interval includes the claimed figure, or nothing was measured. */
  readonly holds: boolean | null
}

export interface Judgement {
  readonly verdict: Verdict
  readonly parts: readonly ClaimPart[]
  /** What a reader must know beside the verdict: why it is open, where it may not be carried over to. */
  readonly note: string
}

export function conclude(parts: readonly ClaimPart[], note: string): Judgement {
  const holding = parts.filter(({ holds }) => holds === true).length
  const failing = parts.filter(({ holds }) => holds === false).length
  const undecided: Verdict = holding > 0 ? 'holds in part' : 'open'
  const verdict = holding === parts.length ? 'holds' : failing === parts.length ? 'does not hold' : undecided
  return { verdict: parts.length === 0 ? 'not measured' : verdict, parts, note }
}

/** Whether a measured interval lies above, below or on both sides of a limit. */
export function atMost(interval: { readonly low: number; readonly high: number }, limit: number): boolean | null {
  if (interval.high <= limit) return true
  return interval.low > limit ? false : null
}

export function atLeast(interval: { readonly low: number; readonly high: number }, limit: number): boolean | null {
  if (interval.low >= limit) return true
  return interval.high < limit ? false : null
}

/** Nothing is claimed of a run whose controls moved: what it measured is shown, and every part is open. */
export function contaminatedJudgement({ parts, note }: Judgement, because: readonly string[]): Judgement {
  return {
    verdict: 'open',
    parts: parts.map((part) => ({ ...part, holds: null })),
    note: `the run was contaminated (${because.join('; ')}), so nothing is claimed; measure again on a quiet machine. ${note}`,
  }
}
