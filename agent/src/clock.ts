/**
 * The only place of the agent that reads time.
 *
 * Instants of the hot path are `performance.now()` of the bot's thread: milliseconds since that thread's
 * `performance.timeOrigin`, monotonic, 40 ns step, 35 to 55 ns a read, no allocation in optimised code when stored
 * straight into a Float64Array. They are stored as they come and turned into integer nanoseconds once, before anything
 * is subtracted, so that durations of one tick add up exactly.
 */
import { performance } from 'node:perf_hooks'

/** Milliseconds since the thread started, monotonic. */
export function nowMs(): number {
  return performance.now()
}

/** Milliseconds since 1970, wall clock, whole. */
export function epochMs(): number {
  return Date.now()
}

/** Where this thread's monotonic clock began on the wall clock, epoch ms with a fraction. */
export function originEpochMs(): number {
  return performance.timeOrigin
}

/** Instant of a thread, ms → integer ns since its origin; exact for 104 days. */
export function nsOf(instantMs: number): number {
  return Math.round(instantMs * 1e6)
}

/** How far the anchor may be from the wall clock before it follows, ms. Above the 1 ms step of `Date.now()`. */
const ANCHOR_TOLERANCE_MS = 2

/**
 * Ties instants of the bot's thread to the wall clock. It starts from the thread's own origin (µs accurate) and follows
 * the wall clock only when that has been slewed or stepped away by more than 2 ms, so neighbouring instants keep their
 * distance.
 */
export class Anchor {
  #offsetMs: number

  constructor(offsetMs: number) {
    this.#offsetMs = offsetMs
  }

  /** One reading of both clocks, taken together on the bot's thread. */
  observe(instantMs: number, wallMs: number): void {
    const offsetMs = wallMs + 0.5 - instantMs
    if (Math.abs(offsetMs - this.#offsetMs) > ANCHOR_TOLERANCE_MS) this.#offsetMs = offsetMs
  }

  /** Epoch ms, whole, of an instant in ns since the thread's origin. */
  epochMsOf(instantNs: number): number {
    return Math.floor(this.#offsetMs + instantNs / 1e6)
  }

  /** Seconds and nanoseconds since 1970 of an instant; differences between instants stay exact to the nanosecond. */
  hrTimeOf(instantNs: number): [seconds: number, nanos: number] {
    const wholeMs = Math.floor(this.#offsetMs)
    const seconds = Math.floor(wholeMs / 1e3)
    const restNs = (wholeMs - seconds * 1e3) * 1e6 + Math.round((this.#offsetMs - wholeMs) * 1e6)
    const totalNs = restNs + instantNs
    return [seconds + Math.floor(totalNs / 1e9), totalNs % 1e9]
  }
}
