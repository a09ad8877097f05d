/** Interleaved rounds: every side is measured once a round, between control samples that say how the machine was. */
import type { LatencySummary } from '@tickscope/contract'
import { nowNs } from './clock.ts'
import { type ControlReport, judgeControls, sampleControls } from './controls.ts'
import type { Environment } from './environment.ts'

/** What the result of such a run has beside its rows. */
export interface InterleavedResult {
  readonly target: string
  readonly startedAtMs: number
  readonly durationMs: number
  readonly settings: { readonly [setting: string]: unknown }
  readonly boundary: 'user→user'
  readonly clock: string
  readonly sent: number
  readonly lost: number
  /** Of all sides together: only the rows can be read alone. */
  readonly response: LatencySummary
  readonly service: LatencySummary
  readonly slip: LatencySummary
  readonly phases: { readonly [phase: string]: LatencySummary }
  readonly contaminated: boolean
  readonly contaminatedBy: readonly string[]
  readonly controls: readonly ControlReport[]
  readonly environment: Environment
}

export interface RoundsOptions {
  readonly rounds: number
  readonly signal: AbortSignal
  /** @param ratio of the rounds that is over */
  readonly progress: (ratio: number) => void
}

/**
 * Measures each of `sides` once a round. Each round begins with another side, so that none always follows the same
 * neighbour or finds what it has warmed. A stop ends it after the side that is being measured.
 *
 * @returns the controls of each round, of one that was broken off too
 */
export async function interleave<Side>(
  sides: readonly Side[],
  { rounds, signal, progress }: RoundsOptions,
  measure: (side: Side, round: number) => Promise<void>,
): Promise<ControlReport[]> {
  const controls: ControlReport[] = []
  let before = sampleControls()
  for (let round = 0; round < rounds && !signal.aborted; round++) {
    const roundAtNs = nowNs()
    for (let turn = 0; turn < sides.length && !signal.aborted; turn++) {
      await measure(sides[(turn + round) % sides.length] as Side, round)
      progress((round * sides.length + turn + 1) / (rounds * sides.length))
    }
    const after = sampleControls()
    controls.push(judgeControls(before, after, nowNs() - roundAtNs))
    before = after
  }
  return controls
}
