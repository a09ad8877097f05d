/**
 * What became of one population of requests: all sent the same way, all counted, their times in mergeable histograms.
 *
 * For each request with a good answer, in integer ns: response = slip + service (plus what it waited for a connection, where
 * a probe knows), and service = the sum of its phases.
 * Requests without a good answer are in no histogram, since a refused connection answers fast; they are counted, and
 * budgets are judged with them as over every limit.
 */
import { type BoundCells, LatencyHistogram } from '@tickscope/contract'
import type { DropReason } from './schedule.ts'

/** Outcomes as the catalogue's `tickscope_probe_requests_total` has them. */
export type Outcome = 'ok' | 'error' | 'timeout' | 'dropped'

/** Different reasons counted one by one; later ones are counted as `OTHER`. */
const REASONS_MAX = 32

export class Tally {
  /** From the intended send to the last byte of the answer. */
  readonly response: LatencyHistogram
  /** From the actual send. */
  readonly service = new LatencyHistogram()
  /** From the intended to the actual send: how late the probe was. */
  readonly slip = new LatencyHistogram()
  readonly phases = new Map<string, LatencyHistogram>()
  readonly outcomes: { [outcome in Outcome]: number } = { ok: 0, error: 0, timeout: 0, dropped: 0 }
  /** Why requests failed or were dropped. */
  readonly reasons = new Map<string, number>()
  /** Requests that had to open their connection. */
  opened = 0

  /** @param bounds at which counts of `response` are exact, see `LatencyHistogram` */
  constructor(bounds?: BoundCells) {
    this.response = new LatencyHistogram(bounds)
  }

  /** Requests that left. */
  get sent(): number {
    return this.outcomes.ok + this.lost
  }

  /** Requests that left and got no good answer. */
  get lost(): number {
    return this.outcomes.error + this.outcomes.timeout
  }

  /** Requests whose time to leave had come. */
  get scheduled(): number {
    return this.sent + this.outcomes.dropped
  }

  /**
   * @param slipNs undefined for a request that had no schedule: its response is its service time
   * @param waitedNs for a connection, between slip and service: neither the probe's lateness nor the answer's time
   */
  ok(slipNs: number | undefined, serviceNs: number, phases: Iterable<readonly [string, number]>, waitedNs = 0): void {
    this.outcomes.ok++
    if (slipNs !== undefined) this.slip.record(slipNs)
    this.service.record(serviceNs)
    this.response.record((slipNs ?? 0) + waitedNs + serviceNs)
    for (const [phase, ns] of phases) this.phase(phase, ns)
  }

  /** A time that is not part of a request's own. */
  phase(phase: string, ns: number): void {
    this.#phase(phase).record(ns)
  }

  failed(outcome: 'error' | 'timeout', reason: string): void {
    this.outcomes[outcome]++
    this.#because(reason)
  }

  /** @param reason of the schedule's, or a probe's own, such as a limit that was reached */
  dropped(reason: DropReason | (string & {})): void {
    this.outcomes.dropped++
    this.#because(`DROPPED_${reason.toUpperCase()}`)
  }

  add(other: Tally): void {
    this.response.add(other.response)
    this.service.add(other.service)
    this.slip.add(other.slip)
    for (const [phase, histogram] of other.phases) this.#phase(phase).add(histogram)
    for (const outcome of Object.keys(this.outcomes) as Outcome[]) this.outcomes[outcome] += other.outcomes[outcome]
    for (const [reason, times] of other.reasons) this.#because(reason, times)
    this.opened += other.opened
  }

  /** A tally of everything in `tallies`; they stay as they are. */
  static merged(tallies: Iterable<Tally>, bounds?: BoundCells): Tally {
    const result = new Tally(bounds)
    for (const tally of tallies) result.add(tally)
    return result
  }

  #phase(phase: string): LatencyHistogram {
    const known = this.phases.get(phase)
    if (known !== undefined) return known
    const histogram = new LatencyHistogram()
    this.phases.set(phase, histogram)
    return histogram
  }

  #because(reason: string, times = 1): void {
    const key = this.reasons.has(reason) || this.reasons.size < REASONS_MAX ? reason : 'OTHER'
    this.reasons.set(key, (this.reasons.get(key) ?? 0) + times)
  }
}
