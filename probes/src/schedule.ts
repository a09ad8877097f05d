/**
 * Open-loop sending: requests leave at instants fixed in advance, whatever the venue answers.
 *
 * Why: a loop that waits for an answer before it sends again goes quiet exactly when the venue is slow, and so leaves
 * its slowest seconds out of its percentiles (coordinated omission). Here every send has an intended instant
 * (start + offset, computed from its index or from the sum of the gaps before it, never from the last send, so nothing
 * drifts), and response time counts from there.
 *
 * What the probe itself is late is recorded as its own series, `slip`. No send is skipped silently: one that cannot
 * start, because too many are in flight or because the probe overslept, is counted as dropped with its reason.
 *
 * Cost of a precise wait: the coarse timer aims `LEAD_NS` early (Node's timers fire late by 0.1 ms at the median and
 * 2.5 ms at p99), then the event loop turns without sleeping until the instant has come: up to 2 ms of one core a send,
 * 2 % of a core at 10/s, a whole core from 500/s. The loop turns rather than spins, so answers in flight are read on
 * time. `wait: 'timer'` costs nothing and slips by 1 ms and more.
 */
import { LatencyHistogram } from '@tickscope/contract'
import { nowNs } from './clock.ts'

/** How early the coarse timer wakes, and so the time there is to prepare a send (sign it), ns. */
const LEAD_NS = 2_000_000
/** Longest sleep at once, ms; `setTimeout` takes at most 2^31 - 1. */
const SLEEP_MAX_MS = 60_000
/** The first send is this long after the start, ns, so that it can be on time. */
const START_DELAY_NS = 5_000_000

/** Intended sends of a schedule, one after the other. */
export interface Arrivals {
  /** @returns offset of the next intended send from the start of the schedule, integer ns, never descending */
  nextNs(): number
}

/** One send each `1 / ratePerSecond`, the first at offset 0. */
export function constantArrivals(ratePerSecond: number): Arrivals {
  let index = 0
  return { nextNs: () => Math.round((index++ * 1e9) / ratePerSecond) }
}

/** A Poisson process: independent exponential gaps with the mean `1 / ratePerSecond`; equal seeds, equal schedules. */
export function poissonArrivals(ratePerSecond: number, seed: number): Arrivals {
  const random = seededRandom(seed)
  let offsetNs = 0
  return {
    nextNs() {
      offsetNs += (-Math.log(1 - random()) * 1e9) / ratePerSecond
      return Math.round(offsetNs)
    },
  }
}

/** Mulberry32 (Tommy Ettinger, public domain): 32 bits of state, uniform in [0, 1). */
function seededRandom(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** One send of a schedule. */
export interface Slot {
  readonly index: number
  /** Response time counts from here, ns. */
  readonly intendedAtNs: number
}

/** Why a send did not start: `in_flight` is the venue's doing (or a limit too low), `late` the probe's own. */
export type DropReason = 'in_flight' | 'late'

export interface OpenLoopOptions {
  readonly arrivals: Arrivals
  /** Sends intended at or after this offset are not part of the schedule, ns; `Infinity` runs until stopped. */
  readonly untilNs: number
  /** Sends that may wait for their answer at once. */
  readonly maxInFlight: number
  /**
   * A send later than this is dropped, ns. It bounds the burst after the probe itself was stopped or starved: a late
   * flood would measure nothing and hit the venue's rate limit.
   */
  readonly maxSlipNs: number
  readonly wait: 'precise' | 'timer'
  /**
   * Turn the event loop also while an answer is awaited, so that none waits for a core to wake up: a core for as long as
   * something is in flight. Default: no.
   */
  readonly awake?: boolean
  /** Called up to `LEAD_NS` before the intended instant, for work that must not count, such as signing. */
  readonly prepare?: (index: number) => void
  /** Starts a send; settles when its answer came or never will. Must not reject. */
  readonly send: (slot: Slot, startedAtNs: number) => Promise<void>
  readonly dropped?: (slot: Slot, reason: DropReason) => void
}

export interface OpenLoopCounts {
  /** Sends whose intended instant has come: started + dropped. */
  readonly scheduled: number
  readonly started: number
  readonly dropped: { readonly [reason in DropReason]: number }
}

export interface OpenLoop {
  readonly counts: OpenLoopCounts
  /** How late started sends were, ns. */
  readonly slip: LatencyHistogram
  /** Intended offset of the latest send over the end of the schedule; 0 … 1, 0 for an endless one. */
  readonly progress: number
  /** Resolves when the schedule is over, or was stopped, and no send is in flight. */
  readonly done: Promise<void>
  /** No further sends. */
  stop(): void
}

export function openLoop(options: OpenLoopOptions): OpenLoop {
  const { arrivals, untilNs, maxInFlight, maxSlipNs, wait, awake = false, prepare, send, dropped } = options
  const slip = new LatencyHistogram()
  const counts = { scheduled: 0, started: 0, dropped: { in_flight: 0, late: 0 } }
  const startAtNs = nowNs() + START_DELAY_NS
  let offsetNs = arrivals.nextNs()
  let prepared = false
  let ended = false
  let inFlight = 0
  let timer: NodeJS.Timeout | undefined
  const { promise: done, resolve } = Promise.withResolvers<void>()

  const settle = () => {
    inFlight--
    if (ended && inFlight === 0) resolve()
  }
  const turn = () => {
    if (awake && inFlight > 0) setImmediate(turn)
  }
  const end = () => {
    ended = true
    clearTimeout(timer)
    if (inFlight === 0) resolve()
    turn()
  }
  const fire = (startedAtNs: number) => {
    const slot: Slot = { index: counts.scheduled, intendedAtNs: startAtNs + offsetNs }
    const slipNs = startedAtNs - slot.intendedAtNs
    counts.scheduled++
    prepared = false
    offsetNs = arrivals.nextNs()
    const reason: DropReason | undefined =
      slipNs > maxSlipNs ? 'late' : inFlight >= maxInFlight ? 'in_flight' : undefined
    if (reason !== undefined) {
      counts.dropped[reason]++
      dropped?.(slot, reason)
      return
    }
    counts.started++
    inFlight++
    slip.record(slipNs)
    send(slot, startedAtNs).then(settle)
  }
  const step = () => {
    if (ended) return
    const remainingNs = startAtNs + Math.min(offsetNs, untilNs) - nowNs()
    if (offsetNs >= untilNs && remainingNs <= 0) return end()
    if (remainingNs > LEAD_NS && awake && inFlight > 0) {
      setImmediate(step)
      return
    }
    if (remainingNs > LEAD_NS) {
      timer = setTimeout(step, Math.min(Math.max(1, Math.floor((remainingNs - LEAD_NS) / 1e6)), SLEEP_MAX_MS))
      return
    }
    if (!prepared && offsetNs < untilNs) {
      prepared = true
      prepare?.(counts.scheduled)
    }
    const now = nowNs()
    const leftNs = startAtNs + offsetNs - now
    if (leftNs <= 0) fire(now)
    if (leftNs > 0 && (wait === 'timer' || offsetNs >= untilNs)) timer = setTimeout(step, Math.ceil(remainingNs / 1e6))
    // One send a turn even when behind: between two sends the loop reads the answers that have come.
    else setImmediate(step)
  }
  // Not before the caller has the loop: a stall right here would otherwise begin with a send.
  setImmediate(step)

  return {
    counts,
    slip,
    get progress() {
      return untilNs === Number.POSITIVE_INFINITY ? 0 : Math.min(1, offsetNs / untilNs)
    },
    done,
    stop: end,
  }
}
