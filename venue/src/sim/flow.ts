/** What drives the market: a synthetic crowd or a recording. */
export interface Flow {
  /** Markets the flow will ever trade, all known before it starts. */
  readonly tickers: readonly string[]
  /** Starts, or goes on after a pause. */
  start(): void
  pause(): void
  /** Ends for good and lets go of everything. */
  stop(): void
  /** Figures of its own for the stats. */
  stats(): object
  /** Resolves when the flow has nothing more to give; rejects when it cannot go on. A synthetic one never ends. */
  readonly ended: Promise<void>
}
