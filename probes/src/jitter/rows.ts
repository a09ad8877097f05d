/** Rounds of wakes put together: a row a scenario, what one has over another, and what pinning took away. */
import { LatencyHistogram, type LatencySummary, summarize } from '@tickscope/contract'
import { compareRatio, compareTotals, type Gain } from '../compare.ts'
import { mergeNative, nativeQuantileNs } from '../native.ts'
import type { Scenario, WakeLine } from './scenario.ts'

export interface WakeRow {
  readonly name: string
  readonly runtime: 'C' | 'Node'
  readonly status: 'measured' | 'unsupported' | 'skipped'
  readonly reason: string
  readonly requestedMode: string
  readonly effectiveMode: string
  readonly boundary: 'timer→user'
  readonly clock: string
  /** Wakes that were due; each came, late or not. */
  readonly count: number
  readonly lost: 0
  readonly wake: LatencySummary | null
  readonly response: LatencySummary | null
  readonly service: LatencySummary | null
  readonly voluntarySwitches: number
  readonly involuntarySwitches: number
  /** Null in Node, which cannot see them. */
  readonly migrations: number | null
  /** Time ready and not running, per wake, ns; null where the kernel keeps no account. */
  readonly runQueueWaitPerWakeNs: number | null
  readonly measuredRounds: readonly number[]
  /** A figure a round, in the order of `measuredRounds`. */
  readonly roundsP50Ns: readonly number[]
  readonly roundsP99Ns: readonly number[]
  readonly roundsRunQueueWaitNs: readonly number[]
}

/** Collects the rounds of one scenario. */
export class WakeTally {
  readonly scenario: Scenario
  readonly #wake = new LatencyHistogram()
  readonly #response = new LatencyHistogram()
  readonly #service = new LatencyHistogram()
  readonly #rounds: { round: number; line: WakeLine }[] = []
  #status: WakeRow['status'] = 'measured'
  #reason = ''

  constructor(scenario: Scenario) {
    this.scenario = scenario
    if (scenario.skipped !== undefined) this.missing('skipped', scenario.skipped)
  }

  add(round: number, line: WakeLine): void {
    this.#rounds.push({ round, line })
    mergeNative(this.#wake, line.wake)
    mergeNative(this.#response, line.response)
    mergeNative(this.#service, line.service)
  }

  missing(status: 'unsupported' | 'skipped', reason: string): void {
    this.#status = status
    this.#reason = reason
  }

  row(): WakeRow {
    const { name, runtime, requestedMode } = this.scenario
    const lines = this.#rounds.map(({ line }) => line)
    const sum = (of: (line: WakeLine) => number) => lines.reduce((total, line) => total + of(line), 0)
    const measured = this.#wake.count > 0
    const accounted = measured && lines.every(({ runQueueWaitNs }) => runQueueWaitNs >= 0)
    const perWake = (line: WakeLine) => Math.round(line.runQueueWaitNs / line.count)
    return {
      name,
      runtime,
      status: measured || this.#status !== 'measured' ? this.#status : 'skipped',
      reason: this.#reason,
      requestedMode,
      effectiveMode: measured ? effectiveMode(this.scenario, lines) : '',
      boundary: 'timer→user',
      clock: runtime === 'C' ? 'CLOCK_MONOTONIC' : 'performance.now() (CLOCK_MONOTONIC)',
      count: this.#wake.count,
      lost: 0,
      wake: measured ? summarize(this.#wake) : null,
      response: measured ? summarize(this.#response) : null,
      service: measured ? summarize(this.#service) : null,
      voluntarySwitches: sum((line) => line.voluntarySwitches),
      involuntarySwitches: sum((line) => line.involuntarySwitches),
      migrations: runtime === 'Node' ? null : sum((line) => line.migrations),
      runQueueWaitPerWakeNs: accounted ? Math.round(sum((line) => line.runQueueWaitNs) / this.#wake.count) : null,
      measuredRounds: this.#rounds.map(({ round }) => round),
      roundsP50Ns: lines.map(({ wake }) => nativeQuantileNs(wake, 0.5)),
      roundsP99Ns: lines.map(({ wake }) => nativeQuantileNs(wake, 0.99)),
      roundsRunQueueWaitNs: accounted ? lines.map(perWake) : [],
    }
  }
}

function effectiveMode({ cpu, policy, spin, sleep, hogs }: Scenario, lines: readonly WakeLine[]): string {
  const cores = [...new Set(lines.map(({ ranOn }) => ranOn))].sort((a, b) => a - b).join(' and ')
  const waits = spin ? 'spinning' : (sleep ?? 'clock_nanosleep TIMER_ABSTIME')
  return [
    `${waits}, SCHED_${policy.toUpperCase()}`,
    cpu < 0 ? `last seen on core ${cores}` : `pinned, ran on core ${cores}`,
    `timer slack ${lines[0]?.slackNs} ns`,
    ...(hogs.length === 0 ? [] : [`${hogs.length} neighbour${hogs.length > 1 ? 's' : ''}`]),
  ].join(', ')
}

export type Quantity = 'wakeP50' | 'wakeP99' | 'runQueueWait'

/** `to` against `from`: a ratio of 0.05 means that 95 % is gone. */
export interface WakeComparison extends Gain {
  readonly from: string
  readonly to: string
  readonly quantity: Quantity
}

const PAIRS: readonly (readonly [from: string, to: string])[] = [
  ['quiet_unpinned', 'quiet_pinned'],
  ['quiet_pinned', 'quiet_pinned_slack'],
  ['quiet_pinned_slack', 'quiet_pinned_awake'],
  ['quiet_pinned', 'quiet_fifo'],
  ['quiet_pinned', 'quiet_spinning'],
  ['noisy_unpinned', 'noisy_pinned_away'],
  ['noisy_unpinned', 'noisy_pinned_beside'],
  ['noisy_pinned_beside', 'noisy_fifo_beside'],
  ['crowded_unpinned', 'crowded_pinned'],
  ['crowded_unpinned', 'isolated_pinned'],
  ['crowded_unpinned', 'crowded_pinned_alone'],
  ['node_unpinned', 'node_pinned'],
  ['node_pinned', 'node_pinned_all'],
  ['node_unpinned', 'node_timer'],
  ['node_noisy_unpinned', 'node_noisy_pinned_away'],
]

const FIGURES: { readonly [quantity in Quantity]: (row: WakeRow) => readonly number[] } = {
  wakeP50: (row) => row.roundsP50Ns,
  wakeP99: (row) => row.roundsP99Ns,
  runQueueWait: (row) => row.roundsRunQueueWaitNs,
}

/** Every pair that was measured, in rounds both have. */
export function compareWakes(rows: readonly WakeRow[]): WakeComparison[] {
  const rowOf = (name: string) => rows.find((row) => row.name === name && row.status === 'measured')
  return PAIRS.flatMap(([fromName, toName]) => {
    const from = rowOf(fromName)
    const to = rowOf(toName)
    if (from === undefined || to === undefined) return []
    const rounds = from.measuredRounds.filter((round) => to.measuredRounds.includes(round))
    return (Object.keys(FIGURES) as Quantity[]).flatMap((quantity) => {
      const figures = (row: WakeRow) =>
        rounds.map((round) => Math.max(1, FIGURES[quantity](row)[row.measuredRounds.indexOf(round)] ?? Number.NaN))
      const [before, after] = [figures(from), figures(to)]
      if (rounds.length === 0 || [...before, ...after].some(Number.isNaN)) return []
      const compare = quantity === 'runQueueWait' ? compareTotals : compareRatio
      return [{ from: fromName, to: toName, quantity, ...compare(before, after) }]
    })
  })
}

/** What pinning took off the time a thread is ready and does not run, in one surrounding. */
export interface PinningVerdict {
  readonly surrounding: string
  readonly from: string
  readonly to: string
  /** Share removed, with its 99 % interval; negative when pinning added some. Null when not measured. */
  readonly removedRatio: number | null
  readonly lowRatio: number | null
  readonly highRatio: number | null
  readonly verdict: 'at least 95 %' | 'less than 95 %' | 'no gain' | 'added' | 'not measured'
}

const SURROUNDINGS: readonly (readonly [surrounding: string, from: string, to: string])[] = [
  ['an idle machine', 'quiet_unpinned', 'quiet_pinned'],
  ['one busy core, pinned to the free one', 'noisy_unpinned', 'noisy_pinned_away'],
  ['all cores busy, pinned without isolation', 'crowded_unpinned', 'crowded_pinned'],
  ['all cores busy, pinned to a core isolated by the kernel', 'crowded_unpinned', 'isolated_pinned'],
  ['all cores busy, pinned to a core the neighbours are kept off', 'crowded_unpinned', 'crowded_pinned_alone'],
  ['Node, one busy core, JavaScript thread pinned to the free one', 'node_noisy_unpinned', 'node_noisy_pinned_away'],
]

export function judgePinning(comparisons: readonly WakeComparison[]): PinningVerdict[] {
  return SURROUNDINGS.map(([surrounding, from, to]) => {
    const found = comparisons.find((c) => c.from === from && c.to === to && c.quantity === 'runQueueWait')
    if (found === undefined)
      return { surrounding, from, to, removedRatio: null, lowRatio: null, highRatio: null, verdict: 'not measured' }
    const verdict = !found.claimed
      ? 'no gain'
      : found.ratio > 1
        ? 'added'
        : found.ratio <= 0.05
          ? 'at least 95 %'
          : 'less than 95 %'
    const finite = (ratio: number) => (Number.isFinite(ratio) ? 1 - ratio : null)
    return {
      surrounding,
      from,
      to,
      removedRatio: 1 - found.ratio,
      lowRatio: finite(found.high),
      highRatio: finite(found.low),
      verdict,
    }
  })
}
