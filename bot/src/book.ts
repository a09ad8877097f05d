/**
 * One market's order book: YES bids, and NO bids read as YES asks, kept from a snapshot and deltas.
 *
 * Prices are integers of $0.0001 (price ticks, not to be confused with the ticks a feed delivers), sizes integers of
 * 1/100 contract: as fine as the venue's wire. Their product is a whole number of micro-dollars.
 * Both sides are bids of something, so both are the same sorted pair of typed arrays with the best level last: most
 * changes touch the last few entries and move little. A delta costs a short search and no allocation; arrays double
 * when a book grows and never pass one entry per price.
 *
 * A book promises its numbers only while `live`. A level that would go negative means a message was lost or applied
 * twice: the book turns `suspect`, ignores deltas, and waits for a snapshot.
 */
import { type BookLevel, type OutcomeSide, TICKS_PER_DOLLAR } from '@tickscope/venue/kalshi'

/** Levels of one side at most: one per price above 0 and below 1 dollar. */
const LEVELS_MAX = TICKS_PER_DOLLAR - 1
const LEVELS_AT_FIRST = 64

/** Levels of one side, ascending, best last. */
export class Levels {
  prices = new Uint16Array(LEVELS_AT_FIRST)
  /** Float64 holds integers up to 2^53, far beyond any depth in hundredths; Int32 would end at 21 million contracts. */
  sizes = new Float64Array(LEVELS_AT_FIRST)
  count = 0

  clear(): void {
    this.count = 0
  }

  /** Size at a price, 0 when there is no such level. */
  sizeAt(priceTicks: number): number {
    const at = this.#lowerBound(priceTicks)
    return at < this.count && this.prices[at] === priceTicks ? this.sizes[at]! : 0
  }

  /** Adds a signed change to a level. @returns what the level holds now; below 0 the level is gone and the book wrong */
  add(priceTicks: number, deltaHundredths: number): number {
    const at = this.#lowerBound(priceTicks)
    if (at < this.count && this.prices[at] === priceTicks) {
      const size = this.sizes[at]! + deltaHundredths
      if (size > 0) this.sizes[at] = size
      else this.#remove(at)
      return size
    }
    if (deltaHundredths > 0) this.#insert(at, priceTicks, deltaHundredths)
    return deltaHundredths
  }

  /** Index of the first level at or above a price. Searched from the best side, where changes are. */
  #lowerBound(priceTicks: number): number {
    const prices = this.prices
    let high = this.count
    // Eight steps by hand cover most changes of a live feed; the rest is bisection.
    for (let steps = 0; steps < 8 && high > 0; steps++) {
      if (prices[high - 1]! < priceTicks) return high
      high--
    }
    let low = 0
    while (low < high) {
      const middle = (low + high) >>> 1
      if (prices[middle]! < priceTicks) low = middle + 1
      else high = middle
    }
    return low
  }

  #insert(at: number, priceTicks: number, sizeHundredths: number): void {
    if (this.count === this.prices.length) {
      const length = Math.min(this.prices.length * 2, LEVELS_MAX)
      const prices = new Uint16Array(length)
      const sizes = new Float64Array(length)
      prices.set(this.prices)
      sizes.set(this.sizes)
      this.prices = prices
      this.sizes = sizes
    }
    this.prices.copyWithin(at + 1, at, this.count)
    this.sizes.copyWithin(at + 1, at, this.count)
    this.prices[at] = priceTicks
    this.sizes[at] = sizeHundredths
    this.count++
  }

  #remove(at: number): void {
    this.prices.copyWithin(at, at + 1, this.count)
    this.sizes.copyWithin(at, at + 1, this.count)
    this.count--
  }
}

/** `empty`: no snapshot yet; `live`: may be traded on; `suspect`: something was lost, waits for a snapshot. */
export type BookState = 'empty' | 'live' | 'suspect'

/** What a delta did. */
export type DeltaResult = 'applied' | 'ignored' | 'negative' | 'invalid'

export class Book {
  readonly ticker: string
  readonly yes = new Levels()
  readonly no = new Levels()
  state: BookState = 'empty'

  constructor(ticker: string) {
    this.ticker = ticker
  }

  /** Best YES bid, 0 when there is none. */
  get bestBidTicks(): number {
    const { count, prices } = this.yes
    return count > 0 ? prices[count - 1]! : 0
  }

  /** Best YES ask, one dollar when there is none. */
  get bestAskTicks(): number {
    const { count, prices } = this.no
    return count > 0 ? TICKS_PER_DOLLAR - prices[count - 1]! : TICKS_PER_DOLLAR
  }

  /** Whether somebody buys at or above what somebody sells at, which a matching engine never leaves standing. */
  get crossed(): boolean {
    return this.yes.count > 0 && this.no.count > 0 && this.bestBidTicks >= this.bestAskTicks
  }

  /** Whether both sides have somebody and the book can be believed. */
  get tradable(): boolean {
    return this.state === 'live' && this.yes.count > 0 && this.no.count > 0 && this.bestBidTicks < this.bestAskTicks
  }

  /**
   * Takes a snapshot: the book is what it says, and live. NO levels come with NO prices.
   *
   * @returns whether every level could be one; when not, the book is suspect
   */
  replace(yes: readonly BookLevel[], no: readonly BookLevel[]): boolean {
    const whole = load(this.yes, yes)
    this.state = load(this.no, no) && whole ? 'live' : 'suspect'
    return this.state === 'live'
  }

  /** Applies one delta; a NO delta's price is in NO dollars. */
  apply(side: OutcomeSide, priceTicks: number, deltaHundredths: number): DeltaResult {
    if (this.state !== 'live') return 'ignored'
    if (!(priceTicks > 0 && priceTicks < TICKS_PER_DOLLAR)) {
      this.state = 'suspect'
      return 'invalid'
    }
    const levels = side === 'yes' ? this.yes : this.no
    if (levels.add(priceTicks, deltaHundredths) >= 0) return 'applied'
    this.state = 'suspect'
    return 'negative'
  }

  /** A message of this book's stream was lost. An empty book stays empty: it waits for its snapshot anyway. */
  doubt(): void {
    if (this.state === 'live') this.state = 'suspect'
  }
}

/** @returns whether every level has a price within the dollar and a size */
function load(levels: Levels, given: readonly BookLevel[]): boolean {
  levels.clear()
  let whole = true
  for (const { priceTicks, countHundredths } of given) {
    if (countHundredths === 0) continue
    if (priceTicks > 0 && priceTicks < TICKS_PER_DOLLAR && countHundredths > 0) levels.add(priceTicks, countHundredths)
    else whole = false
  }
  return whole
}
