/**
 * What a market is worth and how much it moves, from the mid prices seen so far.
 *
 * Two exponentially weighted averages over time, not over messages, so that a burst of fifty messages in a
 * millisecond weighs as a millisecond. An update costs one `Math.exp` and no allocation.
 */

export interface EstimateParams {
  /** Half-life of the fair value's memory, ms. */
  readonly fairHalfLifeMs: number
  /** Half-life of the volatility's memory, ms. */
  readonly volatilityHalfLifeMs: number
  /** Updates before the estimate may be traded on. */
  readonly warmupUpdates: number
}

/** Two updates closer together than this count as this far apart, ms: the clock's step must not become infinite speed. */
const STEP_MIN_MS = 0.01
/** After a silence longer than this the past says nothing, ms. */
const MEMORY_MAX_MS = 60_000

export class Estimate {
  /** Slow fair value; 0 before the first update. */
  fairTicks = 0
  /** Variance of the mid, ticks² per second. */
  variancePerSecond = 0
  updates = 0
  /** Mid at the last update. */
  #lastMidTicks = 0
  #lastAtMs = 0
  readonly #params: EstimateParams

  constructor(params: EstimateParams) {
    this.#params = params
  }

  get ready(): boolean {
    return this.updates >= this.#params.warmupUpdates
  }

  /** Standard deviation of the mid over one second. */
  get sigmaTicks(): number {
    return Math.sqrt(this.variancePerSecond)
  }

  /**
   * Takes a new mid (or microprice).
   *
   * The average weighs each mid by how long it stood: the mid *before* this update stood since the last one.
   */
  update(midTicks: number, nowMs: number): void {
    const elapsedMs = Math.max(nowMs - this.#lastAtMs, STEP_MIN_MS)
    if (this.updates === 0 || elapsedMs > MEMORY_MAX_MS) {
      this.fairTicks = midTicks
      this.variancePerSecond = 0
      this.updates = 0
    } else {
      const keepFair = 2 ** (-elapsedMs / this.#params.fairHalfLifeMs)
      this.fairTicks = this.fairTicks * keepFair + this.#lastMidTicks * (1 - keepFair)
      const moved = midTicks - this.#lastMidTicks
      const keep = 2 ** (-elapsedMs / this.#params.volatilityHalfLifeMs)
      // An exponential window of half-life h holds h / ln 2 of time: squared moves in it over that time.
      const windowSeconds = this.#params.volatilityHalfLifeMs / Math.LN2 / 1e3
      this.variancePerSecond = this.variancePerSecond * keep + (moved * moved) / windowSeconds
    }
    this.#lastMidTicks = midTicks
    this.#lastAtMs = nowMs
    this.updates++
  }

  /** Forgets everything, after a gap in what was seen. */
  reset(): void {
    this.updates = 0
    this.fairTicks = 0
    this.variancePerSecond = 0
  }
}
