/**
 * Names the cause of each event over budget.
 *
 * What the bot's thread reported is laid over the event's interval: pauses of the garbage collector, and stalls of the
 * event loop (times in which the loop did not come round although a timer was due; a long computation of the bot's own,
 * the tick's own included, is one: the stage that ran long says which). A cause is named only when it explains the
 * breach: it covers half of the event, or a quarter of it and all that was over budget. What nothing explains is the
 * venue's (and the way to it) for a round trip, unattributed for processing.
 *
 * A pause is reported a turn or two after it happened, so judgement waits for the third beat of the loop after the
 * event, or 50 ms, whichever is first.
 */
import type { Cause, SloId, Slos } from '@tickscope/contract'

/** One event over budget, as `onBreach` gives it. */
export interface Breach {
  readonly slo: SloId
  readonly cause: Cause
  /** When it was over: answer read (api_rtt), order sent (processing), interval ended (utilization); epoch ms. */
  readonly atMs: number
  readonly durationNs: number
}

/** An interval of the bot's thread that was over budget. */
export interface Suspect {
  readonly slo: 'api_rtt' | 'processing'
  readonly startNs: number
  readonly endNs: number
}

/** What is judged together: the intervals of one record that were over budget. */
export interface Case {
  readonly suspects: readonly Suspect[]
  readonly settle: (causes: readonly Cause[]) => void
}

const BEATS_TO_WAIT = 3
const WAIT_MAX_MS = 50
/** Cases waiting for their beats; beyond, the oldest is judged on what is known. */
const WAITING_MAX = 1024
/** Pauses and stalls remembered, each; at one a millisecond the last quarter of a second. */
const REMEMBERED = 256

/** The last intervals of one kind of disturbance. */
class Intervals {
  readonly #bounds = new Float64Array(REMEMBERED * 2)
  #next = 0

  add(startNs: number, endNs: number): void {
    this.#bounds[this.#next] = startNs
    this.#bounds[this.#next + 1] = endNs
    this.#next = (this.#next + 2) % this.#bounds.length
  }

  overlapNs(startNs: number, endNs: number): number {
    let sum = 0
    for (let i = 0; i < this.#bounds.length; i += 2) {
      const from = Math.max(startNs, this.#bounds[i] as number)
      const to = Math.min(endNs, this.#bounds[i + 1] as number)
      if (to > from) sum += to - from
    }
    return sum
  }
}

export class Judge {
  readonly #slos: Slos
  readonly #pauses = new Intervals()
  readonly #stalls = new Intervals()
  readonly #waiting: { readonly it: Case; readonly sinceMs: number; beats: number }[] = []

  constructor(slos: Slos) {
    this.#slos = slos
  }

  pause(startNs: number, endNs: number): void {
    this.#pauses.add(startNs, endNs)
  }

  stall(startNs: number, endNs: number): void {
    this.#stalls.add(startNs, endNs)
  }

  /** The loop came round. */
  beat(): void {
    for (const waiting of this.#waiting) waiting.beats++
    while ((this.#waiting[0]?.beats ?? 0) >= BEATS_TO_WAIT) this.#settleFirst()
  }

  /** @param nowMs any monotonic clock, the same for `expire` */
  add(it: Case, nowMs: number): void {
    this.#waiting.push({ it, sinceMs: nowMs, beats: 0 })
    if (this.#waiting.length > WAITING_MAX) this.#settleFirst()
  }

  /** Settles cases whose beats do not come: the loop is blocked, or sampling is off. */
  expire(nowMs: number): void {
    while (this.#waiting[0] !== undefined && nowMs - this.#waiting[0].sinceMs >= WAIT_MAX_MS) this.#settleFirst()
  }

  settleAll(): void {
    while (this.#waiting.length > 0) this.#settleFirst()
  }

  #settleFirst(): void {
    const first = this.#waiting.shift()
    first?.it.settle(first.it.suspects.map((suspect) => this.#causeOf(suspect)))
  }

  #causeOf({ slo, startNs, endNs }: Suspect): Cause {
    const durationNs = endNs - startNs
    const excessNs = durationNs - this.#slos[slo].thresholdNs
    const explains = (overlapNs: number) =>
      overlapNs * 2 >= durationNs || (overlapNs * 4 >= durationNs && overlapNs >= excessNs)
    if (explains(this.#pauses.overlapNs(startNs, endNs))) return 'gc'
    if (explains(this.#stalls.overlapNs(startNs, endNs))) return 'event_loop'
    return slo === 'api_rtt' ? 'venue' : 'unattributed'
  }
}
