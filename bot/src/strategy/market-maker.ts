/**
 * The strategy: quote both sides around a reservation price, and take what is obviously mispriced.
 *
 * `decide` is a pure function of (what the book shows, what we hold and have resting, the estimate, the parameters). It
 * writes its answer into a decision object given to it, so deciding allocates nothing. It knows nothing of orders' life
 * or of risk limits beyond the position it is told to stay within: risk checks every order again.
 *
 * - Reservation price: microprice, moved against the inventory, by `skewTicks` at a full position. Long: both quotes
 *   move down, so the ask is likelier to trade than the bid.
 * - Width: half the spread is the larger of a floor and the maker fee plus a multiple of one second's volatility.
 * - Quotes are post-only, never at or through the other side of the book or of our own resting orders.
 * - A quote is replaced when its target lies `requoteTicks` beyond the prices that round to it, and not before
 *   `quoteLifeMs`, unless it has come within `dangerTicks` of the reservation price, or a limit says it may not stand at all:
 *   then at once.
 * - A quote older than `quoteMaxLifeMs` is renewed: quotes are placed to expire soon after, because that is the only
 *   dead-man switch the venue's REST offers. A bot that dies leaves nothing standing for long; the price is queue place.
 * - Take: immediate-or-cancel at the touch when it crosses the slow fair value by more than the taker fee plus margin.
 */
import { TICKS_PER_DOLLAR } from '@tickscope/venue/kalshi'

export interface MarketMakerParams {
  /** Contracts of one quote. */
  readonly quoteSizeHundredths: number
  /** Most contracts one take goes for. */
  readonly takeSizeHundredths: number
  /** Largest position either way; quotes and takes shrink to stay within it. */
  readonly maxPositionHundredths: number
  /** How far the reservation price moves at a full position. */
  readonly skewTicks: number
  /** Least distance of a quote from the reservation price. */
  readonly halfSpreadMinTicks: number
  /** Widening, in standard deviations of one second. */
  readonly volatilityMultiple: number
  /** How far beyond the range that rounds to a quote's price its target must be to be worth a replacement. */
  readonly requoteTicks: number
  /** Least life of a quote that is in no danger, ms. */
  readonly quoteLifeMs: number
  /** Age at which a quote is renewed, ms. */
  readonly quoteMaxLifeMs: number
  /** A quote closer than this to the reservation price is pulled at once; less than `halfSpreadMinTicks`. */
  readonly dangerTicks: number
  /** Profit beyond fees that makes a take. */
  readonly takeMarginTicks: number
  /** Least time between two takes in a market, ms: the book needs a round trip to show what the last one took. */
  readonly takeCooldownMs: number
  /** Fee per contract as a multiple of P (1 - P) dollars: 0.07 is the venue's standard schedule. */
  readonly takerFeeRate: number
  readonly makerFeeRate: number
  /** Live orders of one side and market at which it gets no new quote: cancels on their way count. */
  readonly maxLivePerSide: number
  /** Quotes and takes stay within these prices. */
  readonly priceMinTicks: number
  readonly priceMaxTicks: number
}

/** What the strategy is told. One object per market, refilled for each decision. */
export interface MarketView {
  nowMs: number
  /** Best prices of others: our own resting size is taken out. 0 / one dollar when a side is empty. */
  bidTicks: number
  bidSizeHundredths: number
  askTicks: number
  askSizeHundredths: number
  /** Slow fair value, and one second's standard deviation; see `Estimate`. */
  fairTicks: number
  sigmaTicks: number
  /** Whether book and estimate may be traded on. */
  ready: boolean
  /** Signed: positive is YES. */
  positionHundredths: number
  /** All that may still trade: resting, in flight, and being cancelled. */
  liveBuyHundredths: number
  liveSellHundredths: number
  liveBuys: number
  liveSells: number
  /** The quote standing on each side: price (0 = none), and when it was sent. */
  quoteBidTicks: number
  quoteBidAtMs: number
  quoteAskTicks: number
  quoteAskAtMs: number
  /** Prices our own live orders reach to, so that we never trade with ourselves: highest buy (0), lowest sell (1 dollar). */
  ownBidTicks: number
  ownAskTicks: number
  /** Smallest price step of the market. */
  stepTicks: number
  lastTakeAtMs: number
}

export function createView(): MarketView {
  return {
    nowMs: 0,
    bidTicks: 0,
    bidSizeHundredths: 0,
    askTicks: TICKS_PER_DOLLAR,
    askSizeHundredths: 0,
    fairTicks: 0,
    sigmaTicks: 0,
    ready: false,
    positionHundredths: 0,
    liveBuyHundredths: 0,
    liveSellHundredths: 0,
    liveBuys: 0,
    liveSells: 0,
    quoteBidTicks: 0,
    quoteBidAtMs: 0,
    quoteAskTicks: 0,
    quoteAskAtMs: 0,
    ownBidTicks: 0,
    ownAskTicks: TICKS_PER_DOLLAR,
    stepTicks: 100,
    lastTakeAtMs: Number.NEGATIVE_INFINITY,
  }
}

/** What the strategy wants. Sizes of 0 mean: nothing of that kind. */
export interface Decision {
  cancelBid: boolean
  cancelAsk: boolean
  /** New post-only quotes. */
  bidTicks: number
  bidSizeHundredths: number
  askTicks: number
  askSizeHundredths: number
  /** One immediate-or-cancel order. */
  takeSide: 'bid' | 'ask'
  takeTicks: number
  takeSizeHundredths: number
}

export function createDecision(): Decision {
  return {
    cancelBid: false,
    cancelAsk: false,
    bidTicks: 0,
    bidSizeHundredths: 0,
    askTicks: 0,
    askSizeHundredths: 0,
    takeSide: 'bid',
    takeTicks: 0,
    takeSizeHundredths: 0,
  }
}

/** Fee of one contract at a price: rate · P · (1 - P). */
export function feeTicks(rate: number, priceTicks: number): number {
  return (rate * priceTicks * (TICKS_PER_DOLLAR - priceTicks)) / TICKS_PER_DOLLAR
}

/** Price both sides' sizes say the next trade is likely near: each side's price weighed by the other side's size. */
export function micropriceTicks(
  bidTicks: number,
  bidSizeHundredths: number,
  askTicks: number,
  askSizeHundredths: number,
): number {
  return (bidTicks * askSizeHundredths + askTicks * bidSizeHundredths) / (bidSizeHundredths + askSizeHundredths)
}

/** Writes into `out` what to do in one market now. */
export function decide(view: MarketView, params: MarketMakerParams, out: Decision): void {
  out.cancelBid = false
  out.cancelAsk = false
  out.bidSizeHundredths = 0
  out.askSizeHundredths = 0
  out.takeSizeHundredths = 0
  const hasBid = view.quoteBidTicks > 0
  const hasAsk = view.quoteAskTicks > 0
  if (!view.ready || view.bidSizeHundredths <= 0 || view.askSizeHundredths <= 0) {
    out.cancelBid = hasBid
    out.cancelAsk = hasAsk
    return
  }
  // The venue shows the two halves of a trade as two deltas, so books cross for a moment (a recorded feed: one delta in
  // two thousand, for 7 ms at most). Nothing can be read from that moment; what rests stays.
  if (view.bidTicks >= view.askTicks) return

  const micro = micropriceTicks(view.bidTicks, view.bidSizeHundredths, view.askTicks, view.askSizeHundredths)
  const lean = Math.max(-1, Math.min(1, view.positionHundredths / params.maxPositionHundredths))
  const reservation = micro - lean * params.skewTicks
  const half = Math.max(
    params.halfSpreadMinTicks,
    feeTicks(params.makerFeeRate, micro) + params.volatilityMultiple * view.sigmaTicks,
  )
  const step = view.stepTicks
  const buyRoomHundredths = params.maxPositionHundredths - view.positionHundredths - view.liveBuyHundredths
  const sellRoomHundredths = params.maxPositionHundredths + view.positionHundredths - view.liveSellHundredths

  decideTake(view, params, buyRoomHundredths, sellRoomHundredths, lean, out)

  // Post-only: one step away from the best price of others and of ourselves on the other side, a take just decided
  // included: two requests may overtake each other.
  const taking = out.takeSizeHundredths > 0
  const ownBidTicks = taking && out.takeSide === 'bid' ? Math.max(view.ownBidTicks, out.takeTicks) : view.ownBidTicks
  const ownAskTicks = taking && out.takeSide === 'ask' ? Math.min(view.ownAskTicks, out.takeTicks) : view.ownAskTicks
  const bidLimit = Math.min(view.askTicks, ownAskTicks) - step
  const askLimit = Math.max(view.bidTicks, ownBidTicks) + step
  const bidTarget = reservation - half
  const askTarget = reservation + half
  const bidPrice = Math.floor(Math.min(bidTarget, bidLimit, params.priceMaxTicks) / step) * step
  const askPrice = Math.ceil(Math.max(askTarget, askLimit, params.priceMinTicks) / step) * step

  if (hasBid) {
    const quote = view.quoteBidTicks
    const danger = quote > reservation - params.dangerTicks
    const moved =
      (bidPrice > quote && bidTarget >= quote + step + params.requoteTicks) || bidTarget <= quote - params.requoteTicks
    const ageMs = view.nowMs - view.quoteBidAtMs
    out.cancelBid =
      danger ||
      bidPrice < params.priceMinTicks ||
      (moved && ageMs >= params.quoteLifeMs) ||
      ageMs >= params.quoteMaxLifeMs
  }
  if (hasAsk) {
    const quote = view.quoteAskTicks
    const danger = quote < reservation + params.dangerTicks
    const moved =
      (askPrice < quote && askTarget <= quote - step - params.requoteTicks) || askTarget >= quote + params.requoteTicks
    const ageMs = view.nowMs - view.quoteAskAtMs
    out.cancelAsk =
      danger ||
      askPrice > params.priceMaxTicks ||
      (moved && ageMs >= params.quoteLifeMs) ||
      ageMs >= params.quoteMaxLifeMs
  }

  // A side being replaced keeps counting until the venue confirms its cancel: the position limit holds whichever of
  // the two trades.
  if ((!hasBid || out.cancelBid) && view.liveBuys < params.maxLivePerSide) {
    const room = out.takeSide === 'bid' ? buyRoomHundredths - out.takeSizeHundredths : buyRoomHundredths
    const size = wholeContracts(Math.min(params.quoteSizeHundredths, room))
    if (size > 0 && bidPrice >= params.priceMinTicks) {
      out.bidTicks = bidPrice
      out.bidSizeHundredths = size
    }
  }
  if ((!hasAsk || out.cancelAsk) && view.liveSells < params.maxLivePerSide) {
    const room = out.takeSide === 'ask' ? sellRoomHundredths - out.takeSizeHundredths : sellRoomHundredths
    const size = wholeContracts(Math.min(params.quoteSizeHundredths, room))
    if (size > 0 && askPrice <= params.priceMaxTicks) {
      out.askTicks = askPrice
      out.askSizeHundredths = size
    }
  }
}

/** The venue takes hundredths; we trade whole contracts. */
function wholeContracts(sizeHundredths: number): number {
  return Math.floor(sizeHundredths / 100) * 100
}

function decideTake(
  view: MarketView,
  params: MarketMakerParams,
  buyRoomHundredths: number,
  sellRoomHundredths: number,
  lean: number,
  out: Decision,
): void {
  if (view.nowMs - view.lastTakeAtMs < params.takeCooldownMs) return
  const fair = view.fairTicks - lean * params.skewTicks
  const buyEdge = fair - view.askTicks - feeTicks(params.takerFeeRate, view.askTicks) - params.takeMarginTicks
  const sellEdge = view.bidTicks - fair - feeTicks(params.takerFeeRate, view.bidTicks) - params.takeMarginTicks
  if (
    buyEdge > 0 &&
    view.askTicks < view.ownAskTicks &&
    view.askTicks <= params.priceMaxTicks &&
    view.askTicks >= params.priceMinTicks
  ) {
    out.takeSide = 'bid'
    out.takeTicks = view.askTicks
    out.takeSizeHundredths = Math.max(
      0,
      wholeContracts(Math.min(params.takeSizeHundredths, view.askSizeHundredths, buyRoomHundredths)),
    )
  } else if (
    sellEdge > 0 &&
    view.bidTicks > view.ownBidTicks &&
    view.bidTicks <= params.priceMaxTicks &&
    view.bidTicks >= params.priceMinTicks
  ) {
    out.takeSide = 'ask'
    out.takeTicks = view.bidTicks
    out.takeSizeHundredths = Math.max(
      0,
      wholeContracts(Math.min(params.takeSizeHundredths, view.bidSizeHundredths, sellRoomHundredths)),
    )
  }
}
