/** What several tests of the simulator need. */
import type { MarketSpec } from '../../src/sim/engine.ts'

/** A whole-cent market on shard 2. */
export function marketSpec(ticker: string, options: Partial<MarketSpec> = {}): MarketSpec {
  return {
    ticker,
    marketId: `market-${ticker}`,
    eventTicker: 'E',
    seriesTicker: 'S',
    title: ticker,
    priceLevelStructure: 'linear_cent',
    priceRanges: [{ startTicks: 0, endTicks: 10_000, stepTicks: 100 }],
    feeType: 'quadratic',
    exchangeIndex: 2,
    openAtMs: 0,
    closeAtMs: 1e13,
    ...options,
  }
}
