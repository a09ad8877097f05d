/** The collector's only source of time, so that tests can turn it. */
export interface Clock {
  /** Wall clock, ms since the epoch: what alerts and records carry. */
  epochMs(): number
  /** Never steps back, ms since some start: what windows and deadlines are measured on. */
  monotonicMs(): number
}

export const systemClock: Clock = {
  epochMs: () => Date.now(),
  monotonicMs: () => performance.now(),
}
