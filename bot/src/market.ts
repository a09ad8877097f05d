/**
 * Everything the bot holds of one market in one place, so that a tick costs one look-up, and the strategy's view of it.
 */
import { TICKS_PER_DOLLAR, type Market as VenueMarket } from '@tickscope/venue/kalshi'
import { Book, type Levels } from './book.ts'
import type { Order } from './orders.ts'
import type { Position } from './positions.ts'
import { Estimate, type EstimateParams } from './strategy/estimate.ts'
import { createDecision, createView, type Decision, type MarketView, micropriceTicks } from './strategy/market-maker.ts'

/** Whole cents are on every market's grid. */
const CENT_TICKS = 100

export class Market {
  readonly ticker: string
  /** Shard the market trades on: naming it spares the venue a look-up for each order. */
  readonly exchangeIndex: number | undefined
  readonly book: Book
  readonly estimate: Estimate
  readonly view: MarketView = createView()
  readonly decision: Decision = createDecision()
  /** No orders before this instant: the venue refused one for a reason that asking again at once does not cure. */
  restUntilMs = Number.NEGATIVE_INFINITY
  /** The book contradicts itself (below zero, or crossed for good), which the feed cannot see: it must be read anew. */
  broken = false
  /** Since when the book has been unfit to trade on, ms; `NaN` while it is fit. */
  unfitSinceMs = Number.NaN

  constructor(given: VenueMarket, params: EstimateParams) {
    this.ticker = given.ticker
    this.exchangeIndex = given.exchangeIndex
    this.book = new Book(given.ticker)
    this.estimate = new Estimate(params)
    this.view.stepTicks = stepTicksOf(given)
  }

  get midTicks(): number {
    return (this.book.bestBidTicks + this.book.bestAskTicks) / 2
  }

  /** Brings the view up to date after the book, our orders or our position changed. */
  look(nowMs: number, live: readonly Order[], position: Position, open: boolean): void {
    const view = this.view
    view.nowMs = nowMs
    view.positionHundredths = position.quantityHundredths
    view.liveBuyHundredths = 0
    view.liveSellHundredths = 0
    view.liveBuys = 0
    view.liveSells = 0
    view.quoteBidTicks = 0
    view.quoteAskTicks = 0
    view.ownBidTicks = 0
    view.ownAskTicks = TICKS_PER_DOLLAR
    for (let i = 0; i < live.length; i++) {
      const order = live[i]!
      const standing = order.kind === 'quote' && !order.cancelWanted
      if (order.side === 'bid') {
        view.liveBuyHundredths += order.remainingHundredths
        view.liveBuys++
        if (order.priceTicks > view.ownBidTicks) view.ownBidTicks = order.priceTicks
        if (standing) {
          view.quoteBidTicks = order.priceTicks
          view.quoteBidAtMs = order.createdAtMs
        }
      } else {
        view.liveSellHundredths += order.remainingHundredths
        view.liveSells++
        if (order.priceTicks < view.ownAskTicks) view.ownAskTicks = order.priceTicks
        if (standing) {
          view.quoteAskTicks = order.priceTicks
          view.quoteAskAtMs = order.createdAtMs
        }
      }
    }
    this.#lookAtOthers(live)
    if (this.book.tradable && view.bidSizeHundredths > 0 && view.askSizeHundredths > 0) {
      const microTicks = micropriceTicks(view.bidTicks, view.bidSizeHundredths, view.askTicks, view.askSizeHundredths)
      this.estimate.update(microTicks, nowMs)
      view.fairTicks = this.estimate.fairTicks
      view.sigmaTicks = this.estimate.sigmaTicks
    }
    view.ready = open && this.book.state === 'live' && this.estimate.ready && nowMs >= this.restUntilMs
  }

  /** Best price and size of each side without what we have resting there. */
  #lookAtOthers(live: readonly Order[]): void {
    const view = this.view
    const { yes, no } = this.book
    const bid = topOfOthers(yes, live, 'bid')
    view.bidTicks = bid < 0 ? 0 : yes.prices[bid]!
    view.bidSizeHundredths = bid < 0 ? 0 : yes.sizes[bid]! - restingAt(live, 'bid', view.bidTicks)
    const ask = topOfOthers(no, live, 'ask')
    view.askTicks = ask < 0 ? TICKS_PER_DOLLAR : TICKS_PER_DOLLAR - no.prices[ask]!
    view.askSizeHundredths = ask < 0 ? 0 : no.sizes[ask]! - restingAt(live, 'ask', view.askTicks)
  }
}

/** Index of the best level where somebody else stands too, -1 when there is none. */
function topOfOthers(levels: Levels, live: readonly Order[], side: 'bid' | 'ask'): number {
  let index = levels.count - 1
  while (index >= 0) {
    const priceTicks = side === 'bid' ? levels.prices[index]! : TICKS_PER_DOLLAR - levels.prices[index]!
    if (levels.sizes[index]! > restingAt(live, side, priceTicks)) break
    index--
  }
  return index
}

/**
 * What of a level is ours. An order counts from the moment the book has shown it, not when it was acknowledged: the two
 * come by different connections, in either order.
 */
function restingAt(live: readonly Order[], side: 'bid' | 'ask', priceTicks: number): number {
  let sizeHundredths = 0
  for (let i = 0; i < live.length; i++) {
    const order = live[i]!
    if (order.shown && order.priceTicks === priceTicks && order.side === side) {
      sizeHundredths += order.remainingHundredths
    }
  }
  return sizeHundredths
}

/** The step of a market with one uniform grid; whole cents, valid everywhere, where it is finer only in places. */
function stepTicksOf(market: VenueMarket): number {
  const first = market.priceRanges[0]
  if (market.priceRanges.length !== 1 || !first) return CENT_TICKS
  return first.startTicks % first.stepTicks === 0 ? first.stepTicks : CENT_TICKS
}
