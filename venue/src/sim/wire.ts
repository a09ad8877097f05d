/**
 * The venue's words: how markets, orders, fills, positions and feed messages look on the wire. Shapes and legacy
 * fields as the venue sends them; object keys of REST answers in alphabetical order, as its serialiser writes them.
 *
 * Feed messages are built as text once and sent to many, so their builders return the inside of `msg`.
 */
import { formatCount, formatDollars, formatMicros, TICKS_PER_DOLLAR } from '../kalshi/decimal.ts'
import type { PriceRange } from '../kalshi/market.ts'
import { type BookSide, outcomeSide } from '../kalshi/order.ts'
import type { Account, Position } from './account.ts'
import type { Order } from './book.ts'
import type { EngineMarket, Fill, Trade, UpdateReason } from './engine.ts'

/** RFC 3339 with microseconds, as the venue writes instants. @param atMs epoch ms with a fraction */
export function rfc3339(atMs: number): string {
  const wholeMs = Math.floor(atMs)
  const micros = Math.floor((atMs - wholeMs) * 1000)
  return `${new Date(wholeMs).toISOString().slice(0, -1)}${String(micros).padStart(3, '0')}Z`
}

const actionOf = (side: BookSide) => (side === 'bid' ? 'buy' : 'sell')
const noTicks = (yesTicks: number) => TICKS_PER_DOLLAR - yesTicks
const seconds = (atMs: number) => Math.floor(atMs / 1000)

interface Top {
  readonly bidTicks: number
  readonly askTicks: number
  readonly bidCount: number
  readonly askCount: number
}

/** An empty side reads as a bid of nothing or an ask of the whole dollar. */
function topOf({ book }: EngineMarket): Top {
  const { best: bid } = book.bids
  const { best: ask } = book.asks
  return {
    bidTicks: bid?.priceTicks ?? 0,
    askTicks: ask?.priceTicks ?? TICKS_PER_DOLLAR,
    bidCount: bid?.total ?? 0,
    askCount: ask?.total ?? 0,
  }
}

/** Market value of a position if closed now, micro-dollars. */
export function positionValueMicros({ market, count }: Position): number {
  const { bidTicks, askTicks } = topOf(market)
  return count >= 0 ? bidTicks * count : noTicks(askTicks) * -count
}

const rangeWire = ({ startTicks, endTicks, stepTicks }: PriceRange) => ({
  end: formatDollars(endTicks),
  start: formatDollars(startTicks),
  step: formatDollars(stepTicks),
})

export function marketWire(market: EngineMarket) {
  const { spec } = market
  const { bidTicks, askTicks, bidCount, askCount } = topOf(market)
  return {
    can_close_early: false,
    close_time: rfc3339(spec.closeAtMs),
    created_time: rfc3339(spec.openAtMs),
    event_ticker: spec.eventTicker,
    exchange_index: spec.exchangeIndex,
    expiration_time: rfc3339(spec.closeAtMs),
    fee_type: spec.feeType,
    fractional_trading_enabled: true,
    last_price_dollars: formatDollars(market.lastPriceTicks),
    market_type: 'binary',
    no_ask_dollars: formatDollars(noTicks(bidTicks)),
    no_bid_dollars: formatDollars(noTicks(askTicks)),
    notional_value_dollars: '1.0000',
    open_interest_fp: formatCount(market.openInterest),
    open_time: rfc3339(spec.openAtMs),
    price_level_structure: spec.priceLevelStructure,
    price_ranges: spec.priceRanges.map(rangeWire),
    result: '',
    series_ticker: spec.seriesTicker,
    status: market.status,
    ticker: spec.ticker,
    title: spec.title,
    updated_time: rfc3339(market.updatedAtMs),
    volume_fp: formatCount(market.volume),
    yes_ask_dollars: formatDollars(askTicks),
    yes_ask_size_fp: formatCount(askCount),
    yes_bid_dollars: formatDollars(bidTicks),
    yes_bid_size_fp: formatCount(bidCount),
  }
}

type WireLevel = readonly [price: string, count: string]

/**
 * Levels of one side, ascending by the price shown, so that the best bid is last.
 *
 * @param price what to show for a price of the YES leg
 * @param depth best levels kept, 0 for all
 */
function levelsOf(market: EngineMarket, side: BookSide, price: (ticks: number) => number, depth: number): WireLevel[] {
  const levels: [number, number][] = []
  for (const level of market.book.ladder(side).levels()) {
    levels.push([price(level.priceTicks), level.total])
    if (levels.length === depth) break
  }
  levels.sort(([a], [b]) => a - b)
  return levels.map(([ticks, total]) => [formatDollars(ticks), formatCount(total)])
}

const asIs = (ticks: number) => ticks

export function orderbookWire(market: EngineMarket, depth: number) {
  return {
    orderbook_fp: {
      no_dollars: levelsOf(market, 'ask', noTicks, depth),
      yes_dollars: levelsOf(market, 'bid', asIs, depth),
    },
  }
}

/** Inside of a snapshot's `msg`; a side with nothing on it has no key. */
export function snapshotMsg(market: EngineMarket, useYesPrice: boolean): string {
  const yes = levelsOf(market, 'bid', asIs, 0)
  const no = levelsOf(market, 'ask', useYesPrice ? asIs : noTicks, 0)
  const { ticker, marketId } = market.spec
  return JSON.stringify({
    market_ticker: ticker,
    market_id: marketId,
    ...(yes.length > 0 && { yes_dollars_fp: yes }),
    ...(no.length > 0 && { no_dollars_fp: no }),
  }).slice(1, -1)
}

export function deltaMsg(
  market: EngineMarket,
  side: BookSide,
  priceTicks: number,
  delta: number,
  atMs: number,
  useYesPrice: boolean,
): string {
  const { ticker, marketId } = market.spec
  const shownTicks = side === 'bid' || useYesPrice ? priceTicks : noTicks(priceTicks)
  return (
    `"market_ticker":"${ticker}","market_id":"${marketId}","price_dollars":"${formatDollars(shownTicks)}",` +
    `"delta_fp":"${formatCount(delta)}","side":"${outcomeSide(side)}","ts":"${rfc3339(atMs)}","ts_ms":${Math.floor(atMs)}`
  )
}

export function tickerMsg(market: EngineMarket, atMs: number): string {
  const { spec } = market
  const { bidTicks, askTicks, bidCount, askCount } = topOf(market)
  return JSON.stringify({
    market_ticker: spec.ticker,
    market_id: spec.marketId,
    price_dollars: formatDollars(market.lastPriceTicks),
    yes_bid_dollars: formatDollars(bidTicks),
    yes_ask_dollars: formatDollars(askTicks),
    volume_fp: formatCount(market.volume),
    open_interest_fp: formatCount(market.openInterest),
    dollar_volume: Math.floor(market.turnoverMicros / 1e6),
    dollar_open_interest: Math.floor(market.openInterest / 100),
    yes_bid_size_fp: formatCount(bidCount),
    yes_ask_size_fp: formatCount(askCount),
    last_trade_size_fp: formatCount(market.lastCount),
    ...tickerTimes(atMs),
  }).slice(1, -1)
}

/** The instants of a ticker message; those of a recorded one are replaced by them. */
export function tickerTimes(atMs: number) {
  return { ts: seconds(atMs), ts_ms: Math.floor(atMs), time: rfc3339(atMs) }
}

/** What a public trade needs; a recorded one has no orders. */
export type PublicTrade = Pick<Trade, 'id' | 'market' | 'priceTicks' | 'count' | 'takerSide' | 'atMs'>

export function tradeMsg({ id, market, priceTicks, count, takerSide, atMs }: PublicTrade): string {
  return JSON.stringify({
    trade_id: id,
    market_ticker: market.spec.ticker,
    yes_price_dollars: formatDollars(priceTicks),
    no_price_dollars: formatDollars(noTicks(priceTicks)),
    count_fp: formatCount(count),
    taker_outcome_side: outcomeSide(takerSide),
    taker_book_side: takerSide,
    taker_side: outcomeSide(takerSide),
    is_block_trade: false,
    ts: seconds(atMs),
    ts_ms: Math.floor(atMs),
  }).slice(1, -1)
}

export function fillMsg({ trade, order, isTaker, feeMicros, position }: Fill): string {
  const { spec } = order.market
  return JSON.stringify({
    trade_id: trade.id,
    order_id: order.id,
    client_order_id: order.clientOrderId,
    market_ticker: spec.ticker,
    exchange_index: spec.exchangeIndex,
    is_taker: isTaker,
    outcome_side: outcomeSide(order.side),
    book_side: order.side,
    side: 'yes',
    action: actionOf(order.side),
    purchased_side: outcomeSide(order.side),
    yes_price_dollars: formatDollars(trade.priceTicks),
    count_fp: formatCount(trade.count),
    fee_cost: formatMicros(feeMicros),
    post_position_fp: formatCount(position),
    ts: seconds(trade.atMs),
    ts_ms: Math.floor(trade.atMs),
    subaccount: 0,
  }).slice(1, -1)
}

export function marketPositionMsg(account: Account, position: Position): string {
  return JSON.stringify({
    user_id: account.userId,
    market_ticker: position.market.spec.ticker,
    position_fp: formatCount(position.count),
    position_cost_dollars: formatMicros(position.costMicros),
    realized_pnl_dollars: formatMicros(position.realizedPnlMicros),
    fees_paid_dollars: formatMicros(position.feesMicros),
    position_fee_cost_dollars: formatMicros(position.feesMicros),
    volume_fp: formatCount(position.volume),
    subaccount: 0,
  }).slice(1, -1)
}

export function userOrderMsg(order: Order, reason: UpdateReason | undefined): string {
  return JSON.stringify({
    order_id: order.id,
    user_id: order.account.userId,
    ticker: order.market.spec.ticker,
    exchange_index: order.market.spec.exchangeIndex,
    status: order.status,
    outcome_side: outcomeSide(order.side),
    book_side: order.side,
    side: 'yes',
    is_yes: order.side === 'bid',
    yes_price_dollars: formatDollars(order.priceTicks),
    initial_count_fp: formatCount(order.initial),
    fill_count_fp: formatCount(order.filled),
    remaining_count_fp: formatCount(order.remaining),
    taker_fill_cost_dollars: formatMicros(order.takerCostMicros),
    maker_fill_cost_dollars: formatMicros(order.makerCostMicros),
    taker_fees_dollars: formatMicros(order.takerFeesMicros),
    maker_fees_dollars: formatMicros(order.makerFeesMicros),
    client_order_id: order.clientOrderId ?? '',
    self_trade_prevention_type: order.selfTradePrevention,
    created_ts_ms: Math.floor(order.createdAtMs),
    last_updated_ts_ms: Math.floor(order.updatedAtMs),
    expiration_ts_ms: order.expiresAtMs,
    last_update_reason: reason === 'UserCancel' ? undefined : reason,
    subaccount_number: 0,
  }).slice(1, -1)
}

export function orderWire(order: Order) {
  return {
    action: actionOf(order.side),
    book_side: order.side,
    cancel_order_on_pause: order.cancelOnPause,
    client_order_id: order.clientOrderId ?? '',
    created_time: rfc3339(order.createdAtMs),
    exchange_index: order.market.spec.exchangeIndex,
    ...(order.expiresAtMs !== undefined && { expiration_time: rfc3339(order.expiresAtMs) }),
    fill_count_fp: formatCount(order.filled),
    initial_count_fp: formatCount(order.initial),
    last_update_time: rfc3339(order.updatedAtMs),
    maker_fees_dollars: formatMicros(order.makerFeesMicros),
    maker_fill_cost_dollars: formatMicros(order.makerCostMicros),
    no_price_dollars: formatDollars(noTicks(order.priceTicks)),
    order_id: order.id,
    outcome_side: outcomeSide(order.side),
    remaining_count_fp: formatCount(order.remaining),
    self_trade_prevention_type: order.selfTradePrevention,
    side: 'yes',
    status: order.status,
    subaccount_number: 0,
    taker_fees_dollars: formatMicros(order.takerFeesMicros),
    taker_fill_cost_dollars: formatMicros(order.takerCostMicros),
    ticker: order.market.spec.ticker,
    type: 'limit',
    user_id: order.account.userId,
    yes_price_dollars: formatDollars(order.priceTicks),
  }
}

export type OrderWire = ReturnType<typeof orderWire>

export function fillWire({ trade, order, isTaker, feeMicros }: Fill) {
  const { spec } = order.market
  return {
    action: actionOf(order.side),
    book_side: order.side,
    count_fp: formatCount(trade.count),
    created_time: rfc3339(trade.atMs),
    exchange_index: spec.exchangeIndex,
    fee_cost: formatMicros(feeMicros),
    fill_id: trade.id,
    is_taker: isTaker,
    market_ticker: spec.ticker,
    no_price_dollars: formatDollars(noTicks(trade.priceTicks)),
    order_id: order.id,
    outcome_side: outcomeSide(order.side),
    side: 'yes',
    subaccount_number: 0,
    ticker: spec.ticker,
    trade_id: trade.id,
    ts: seconds(trade.atMs),
    yes_price_dollars: formatDollars(trade.priceTicks),
  }
}

export function positionWire(account: Account, position: Position) {
  const { market } = position
  let resting = 0
  for (const order of account.resting) if (order.market === market) resting++
  return {
    exchange_index: market.spec.exchangeIndex,
    fees_paid_dollars: formatMicros(position.feesMicros),
    last_updated_ts: rfc3339(position.updatedAtMs),
    market_exposure_dollars: formatMicros(position.costMicros),
    position_fp: formatCount(position.count),
    realized_pnl_dollars: formatMicros(position.realizedPnlMicros),
    resting_orders_count: resting,
    ticker: market.spec.ticker,
    total_traded_dollars: formatMicros(position.tradedMicros),
  }
}

/** `POST` of an order, answered. Averages only once something filled. */
export function createdWire(order: Order) {
  const costMicros = order.takerCostMicros
  const averageYesTicks =
    order.side === 'bid' ? costMicros / order.filled : TICKS_PER_DOLLAR - costMicros / order.filled
  return {
    ...(order.filled > 0 && {
      // Per contract: fees in micro-dollars over hundredths are units of $0.0001.
      average_fee_paid: formatDollars(Math.round(order.takerFeesMicros / order.filled)),
      average_fill_price: formatDollars(Math.round(averageYesTicks)),
    }),
    ...(order.clientOrderId !== undefined && { client_order_id: order.clientOrderId }),
    fill_count: formatCount(order.filled),
    order_id: order.id,
    remaining_count: formatCount(order.remaining),
    ts_ms: Math.floor(order.updatedAtMs),
  }
}

/** `DELETE` of an order, answered. @param reducedBy what was still resting and is not any more, hundredths */
export function cancelledWire(order: Order, reducedBy: number) {
  return {
    ...(order.clientOrderId !== undefined && { client_order_id: order.clientOrderId }),
    order_id: order.id,
    reduced_by: formatCount(reducedBy),
    ts_ms: Math.floor(order.updatedAtMs),
  }
}
