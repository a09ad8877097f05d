/**
 * Positions from fills: quantity, cost, profit and fees of each market, and the money they bind.
 *
 * Quantities are signed, in hundredths of a contract, positive is YES; money is in micro-dollars. Average-cost
 * accounting: a fill against the position realises profit at the average price, the rest opens at its own. Averages may
 * fall between micro-dollars; quantities are exact.
 */
import { TICKS_PER_DOLLAR } from '@tickscope/venue/kalshi'

/** Trade ids remembered: those of the last several minutes of a busy bot. A duplicate comes within seconds. */
const TRADE_IDS_MAX = 16_384

export interface Position {
  readonly ticker: string
  /** Signed. */
  quantityHundredths: number
  /** What the open quantity was bought (or sold) for, YES prices, signed like it. */
  costMicros: number
  realizedMicros: number
  feesMicros: number
  /** Newly counted fills. */
  fills: number
}

export class Positions {
  /** Money positions bind: longs at cost, shorts at one dollar less what they were sold for. */
  boundMicros = 0
  readonly #byTicker = new Map<string, Position>()
  readonly #tradeIds = new Set<string>()

  of(ticker: string): Position {
    let position = this.#byTicker.get(ticker)
    if (!position) {
      position = { ticker, quantityHundredths: 0, costMicros: 0, realizedMicros: 0, feesMicros: 0, fills: 0 }
      this.#byTicker.set(ticker, position)
    }
    return position
  }

  all(): Position[] {
    return [...this.#byTicker.values()]
  }

  /** Whether a trade is told for the first time; remembers it. */
  isNew(tradeId: string): boolean {
    if (this.#tradeIds.has(tradeId)) return false
    if (this.#tradeIds.size >= TRADE_IDS_MAX) this.#tradeIds.delete(this.#tradeIds.keys().next().value!)
    this.#tradeIds.add(tradeId)
    return true
  }

  /** Takes what the venue says we hold, and what that can lose as its cost. */
  adopt(ticker: string, quantityHundredths: number, exposureMicros: number): void {
    const position = this.of(ticker)
    this.boundMicros -= boundBy(position)
    position.quantityHundredths = quantityHundredths
    position.costMicros =
      quantityHundredths >= 0 ? exposureMicros : quantityHundredths * TICKS_PER_DOLLAR + exposureMicros
    this.boundMicros += boundBy(position)
  }

  /** A fill: we bought (`bid`) or sold (`ask`) `sizeHundredths` for `costMicros` in all, YES prices. */
  fill(ticker: string, side: 'bid' | 'ask', sizeHundredths: number, costMicros: number): void {
    const priceTicks = costMicros / sizeHundredths
    const position = this.of(ticker)
    this.boundMicros -= boundBy(position)
    const signedHundredths = side === 'bid' ? sizeHundredths : -sizeHundredths
    const before = position.quantityHundredths
    if (before !== 0 && Math.sign(before) !== Math.sign(signedHundredths)) {
      const closedHundredths = Math.min(Math.abs(before), sizeHundredths) * Math.sign(before)
      const averageTicks = position.costMicros / before
      position.realizedMicros += closedHundredths * (priceTicks - averageTicks)
      position.costMicros -= closedHundredths * averageTicks
      const openedHundredths = signedHundredths + closedHundredths
      position.costMicros += openedHundredths * priceTicks
    } else {
      position.costMicros += signedHundredths * priceTicks
    }
    position.quantityHundredths = before + signedHundredths
    if (position.quantityHundredths === 0) position.costMicros = 0
    position.fills++
    this.boundMicros += boundBy(position)
  }

  fee(ticker: string, feeMicros: number): void {
    this.of(ticker).feesMicros += feeMicros
  }
}

/** Money a position can lose. */
function boundBy(position: Position): number {
  return position.quantityHundredths >= 0
    ? position.costMicros
    : -position.quantityHundredths * TICKS_PER_DOLLAR + position.costMicros
}
