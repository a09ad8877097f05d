/**
 * Orders, fills and positions of the V2 API. A create is both written and read here, because the bot sends it and the
 * simulator takes it; the rest is read, or written, where it is needed.
 *
 * Prices are always of the YES leg: `bid` buys YES at the price; `ask` sells YES, which is buying NO at 1 − price.
 * Encoding goes straight to a string, fields in the documented order, because it stands between a decision and the
 * order.
 */
import { formatCount, formatDollars, parseCount, parseDollars, parseMicros } from './decimal.ts'
import { WireError } from './error.ts'
import { asArray, asBoolean, asInteger, asObject, asOneOf, asString, type JsonObject, optional } from './json.ts'

export const BOOK_SIDES = ['bid', 'ask'] as const
/** `bid` is the same as outcome `yes`, `ask` the same as `no`. */
export type BookSide = (typeof BOOK_SIDES)[number]

export const OUTCOME_SIDES = ['yes', 'no'] as const
export type OutcomeSide = (typeof OUTCOME_SIDES)[number]

export const TIMES_IN_FORCE = ['good_till_canceled', 'immediate_or_cancel', 'fill_or_kill'] as const
export type TimeInForce = (typeof TIMES_IN_FORCE)[number]

export const SELF_TRADE_PREVENTIONS = ['taker_at_cross', 'maker'] as const
export type SelfTradePrevention = (typeof SELF_TRADE_PREVENTIONS)[number]

export const ORDER_STATUSES = ['resting', 'canceled', 'executed'] as const
export type OrderStatus = (typeof ORDER_STATUSES)[number]

export function outcomeSide(side: BookSide): OutcomeSide {
  return side === 'bid' ? 'yes' : 'no'
}

export function bookSide(side: OutcomeSide): BookSide {
  return side === 'yes' ? 'bid' : 'ask'
}

/** Body of `POST /portfolio/events/orders`. */
export interface CreateOrder {
  readonly ticker: string
  readonly side: BookSide
  /** Hundredths of a contract, > 0. */
  readonly countHundredths: number
  /** Of the YES leg, ticks of $0.0001. */
  readonly priceTicks: number
  readonly timeInForce: TimeInForce
  readonly selfTradePrevention: SelfTradePrevention
  /** Idempotency key: a second use is refused with 409, even after a cancel. */
  readonly clientOrderId?: string | undefined
  /** Unix seconds; only with `good_till_canceled`. */
  readonly expirationTimeS?: number | undefined
  readonly postOnly?: boolean | undefined
  /** Only with `immediate_or_cancel`. */
  readonly reduceOnly?: boolean | undefined
  readonly cancelOrderOnPause?: boolean | undefined
  readonly subaccount?: number | undefined
  readonly orderGroupId?: string | undefined
  /** Shard of the market; explicit is faster than letting the venue route. */
  readonly exchangeIndex?: number | undefined
}

/** Hot path. Strings are JSON-escaped; numbers must be what the fields' docs say. */
export function encodeCreateOrder(order: CreateOrder): string {
  let body = `{"ticker":${JSON.stringify(order.ticker)},"side":"${order.side}","count":"${formatCount(order.countHundredths)}","price":"${formatDollars(order.priceTicks)}","time_in_force":"${order.timeInForce}","self_trade_prevention_type":"${order.selfTradePrevention}"`
  if (order.clientOrderId !== undefined) body += `,"client_order_id":${JSON.stringify(order.clientOrderId)}`
  if (order.expirationTimeS !== undefined) body += `,"expiration_time":${order.expirationTimeS}`
  if (order.postOnly !== undefined) body += `,"post_only":${order.postOnly}`
  if (order.reduceOnly !== undefined) body += `,"reduce_only":${order.reduceOnly}`
  if (order.cancelOrderOnPause !== undefined) body += `,"cancel_order_on_pause":${order.cancelOrderOnPause}`
  if (order.subaccount !== undefined) body += `,"subaccount":${order.subaccount}`
  if (order.orderGroupId !== undefined) body += `,"order_group_id":${JSON.stringify(order.orderGroupId)}`
  if (order.exchangeIndex !== undefined) body += `,"exchange_index":${order.exchangeIndex}`
  return `${body}}`
}

/**
 * The venue's side. `count` and `price` must be strings: JSON numbers are refused, as the venue does.
 *
 * @param body parsed JSON
 * @throws WireError naming the field
 */
export function parseCreateOrder(body: unknown): CreateOrder {
  const o = asObject(body, 'order')
  const countHundredths = parseCount(o.count, 'count')
  if (countHundredths <= 0) throw new WireError('count must be above 0')
  return {
    ticker: asString(o.ticker, 'ticker'),
    side: asOneOf(o.side, BOOK_SIDES, 'side'),
    countHundredths,
    priceTicks: parseDollars(o.price, 'price'),
    timeInForce: asOneOf(o.time_in_force, TIMES_IN_FORCE, 'time_in_force'),
    selfTradePrevention: asOneOf(o.self_trade_prevention_type, SELF_TRADE_PREVENTIONS, 'self_trade_prevention_type'),
    clientOrderId: optional(o.client_order_id, 'client_order_id', asString),
    expirationTimeS: optional(o.expiration_time, 'expiration_time', asInteger),
    postOnly: optional(o.post_only, 'post_only', asBoolean),
    reduceOnly: optional(o.reduce_only, 'reduce_only', asBoolean),
    cancelOrderOnPause: optional(o.cancel_order_on_pause, 'cancel_order_on_pause', asBoolean),
    subaccount: optional(o.subaccount, 'subaccount', asInteger),
    orderGroupId: optional(o.order_group_id, 'order_group_id', asString),
    exchangeIndex: optional(o.exchange_index, 'exchange_index', asInteger),
  }
}

/** Answer to a create. Filled plus remaining is less than asked when the rest was cancelled at once. */
export interface CreateOrderResult {
  readonly orderId: string
  readonly clientOrderId?: string | undefined
  readonly fillCountHundredths: number
  readonly remainingCountHundredths: number
  /** An average may fall between price ticks: micro-dollars. */
  readonly averageFillPriceMicros?: number | undefined
  readonly averageFeePaidMicros?: number | undefined
  /** Engine time, unix ms. */
  readonly tsMs: number
}

/** @throws WireError naming the field */
export function parseCreateOrderResult(body: unknown): CreateOrderResult {
  const o = asObject(body, 'answer to create order')
  return {
    orderId: asString(o.order_id, 'order_id'),
    clientOrderId: optional(o.client_order_id, 'client_order_id', asString),
    fillCountHundredths: parseCount(o.fill_count, 'fill_count'),
    remainingCountHundredths: parseCount(o.remaining_count, 'remaining_count'),
    averageFillPriceMicros: optional(o.average_fill_price, 'average_fill_price', parseMicros),
    averageFeePaidMicros: optional(o.average_fee_paid, 'average_fee_paid', parseMicros),
    tsMs: asInteger(o.ts_ms, 'ts_ms'),
  }
}

/**
 * Names the order `DELETE /portfolio/events/orders/{order_id}` cancels. With neither `exchangeIndex` nor
 * `marketTicker` the venue looks on shard 0 only, and answers `not_found` for an order that rests on another.
 */
export interface CancelOrder {
  readonly orderId: string
  readonly subaccount?: number | undefined
  /** Shard of the market; explicit is faster than letting the venue route by `marketTicker`. */
  readonly exchangeIndex?: number | undefined
  readonly marketTicker?: string | undefined
}

/** Answer to a cancel. */
export interface CancelOrderResult {
  readonly orderId: string
  readonly clientOrderId?: string | undefined
  /** What was still resting and is not any more. */
  readonly reducedByHundredths: number
  /** Engine time, unix ms. */
  readonly tsMs: number
}

/** @throws WireError naming the field */
export function parseCancelOrderResult(body: unknown): CancelOrderResult {
  const o = asObject(body, 'answer to cancel order')
  return {
    orderId: asString(o.order_id, 'order_id'),
    clientOrderId: optional(o.client_order_id, 'client_order_id', asString),
    reducedByHundredths: parseCount(o.reduced_by, 'reduced_by'),
    tsMs: asInteger(o.ts_ms, 'ts_ms'),
  }
}

/** One order as `GET /portfolio/orders` tells it. */
export interface Order {
  readonly orderId: string
  readonly userId?: string | undefined
  readonly clientOrderId?: string | undefined
  readonly ticker: string
  readonly side: BookSide
  readonly status: OrderStatus
  /** Of the YES leg. */
  readonly priceTicks: number
  readonly initialCountHundredths: number
  readonly fillCountHundredths: number
  readonly remainingCountHundredths: number
  readonly takerFillCostMicros: number
  readonly makerFillCostMicros: number
  readonly takerFeesMicros: number
  readonly makerFeesMicros: number
  /** RFC 3339. */
  readonly createdTime?: string | undefined
  readonly lastUpdateTime?: string | undefined
  readonly expirationTime?: string | undefined
  readonly selfTradePrevention?: string | undefined
  readonly orderGroupId?: string | undefined
  readonly cancelOrderOnPause?: boolean | undefined
  readonly subaccountNumber?: number | undefined
  readonly exchangeIndex?: number | undefined
}

/** @throws WireError naming the field */
export function parseOrder(value: unknown): Order {
  const o = asObject(value, 'order')
  return {
    orderId: asString(o.order_id, 'order_id'),
    userId: optional(o.user_id, 'user_id', asString),
    clientOrderId: nonEmpty(o.client_order_id, 'client_order_id'),
    ticker: asString(o.ticker, 'ticker'),
    side: readBookSide(o),
    status: asOneOf(o.status, ORDER_STATUSES, 'status'),
    priceTicks: parseDollars(o.yes_price_dollars, 'yes_price_dollars'),
    initialCountHundredths: parseCount(o.initial_count_fp, 'initial_count_fp'),
    fillCountHundredths: parseCount(o.fill_count_fp, 'fill_count_fp'),
    remainingCountHundredths: parseCount(o.remaining_count_fp, 'remaining_count_fp'),
    takerFillCostMicros: optional(o.taker_fill_cost_dollars, 'taker_fill_cost_dollars', parseMicros) ?? 0,
    makerFillCostMicros: optional(o.maker_fill_cost_dollars, 'maker_fill_cost_dollars', parseMicros) ?? 0,
    takerFeesMicros: optional(o.taker_fees_dollars, 'taker_fees_dollars', parseMicros) ?? 0,
    makerFeesMicros: optional(o.maker_fees_dollars, 'maker_fees_dollars', parseMicros) ?? 0,
    createdTime: optional(o.created_time, 'created_time', asString),
    lastUpdateTime: optional(o.last_update_time, 'last_update_time', asString),
    expirationTime: optional(o.expiration_time, 'expiration_time', asString),
    selfTradePrevention: nonEmpty(o.self_trade_prevention_type, 'self_trade_prevention_type'),
    orderGroupId: nonEmpty(o.order_group_id, 'order_group_id'),
    cancelOrderOnPause: optional(o.cancel_order_on_pause, 'cancel_order_on_pause', asBoolean),
    subaccountNumber: optional(o.subaccount_number, 'subaccount_number', asInteger),
    exchangeIndex: optional(o.exchange_index, 'exchange_index', asInteger),
  }
}

/** One fill as `GET /portfolio/fills` tells it. The public `trade` of the same execution has the same `tradeId`. */
export interface Fill {
  readonly fillId?: string | undefined
  readonly tradeId: string
  readonly orderId: string
  readonly ticker: string
  readonly side: BookSide
  readonly countHundredths: number
  /** Of the YES leg. */
  readonly priceTicks: number
  readonly isTaker: boolean
  readonly feeMicros: number
  /** RFC 3339. */
  readonly createdTime?: string | undefined
  /** Unix ms; from seconds when the venue gives no finer. */
  readonly tsMs: number
  readonly subaccountNumber?: number | undefined
  readonly exchangeIndex?: number | undefined
}

/** @throws WireError naming the field */
export function parseFill(value: unknown): Fill {
  const o = asObject(value, 'fill')
  const createdTime = optional(o.created_time, 'created_time', asString)
  return {
    fillId: optional(o.fill_id, 'fill_id', asString),
    tradeId: asString(o.trade_id, 'trade_id'),
    orderId: asString(o.order_id, 'order_id'),
    ticker: asString(o.market_ticker ?? o.ticker, 'ticker'),
    side: readBookSide(o),
    countHundredths: parseCount(o.count_fp, 'count_fp'),
    priceTicks: parseDollars(o.yes_price_dollars, 'yes_price_dollars'),
    isTaker: asBoolean(o.is_taker, 'is_taker'),
    feeMicros: optional(o.fee_cost, 'fee_cost', parseMicros) ?? 0,
    createdTime,
    tsMs: readTimeMs(o.ts_ms, createdTime ?? o.ts, 'ts'),
    subaccountNumber: optional(o.subaccount_number, 'subaccount_number', asInteger),
    exchangeIndex: optional(o.exchange_index, 'exchange_index', asInteger),
  }
}

/** Position in one market. */
export interface Position {
  readonly ticker: string
  /** Signed; positive is YES. */
  readonly positionHundredths: number
  readonly totalTradedMicros: number
  readonly marketExposureMicros: number
  readonly realizedPnlMicros: number
  readonly feesPaidMicros: number
  /** Unix ms. */
  readonly lastUpdatedTsMs?: number | undefined
  readonly exchangeIndex?: number | undefined
}

/** @throws WireError naming the field */
export function parsePosition(value: unknown): Position {
  const o = asObject(value, 'position')
  return {
    ticker: asString(o.ticker, 'ticker'),
    positionHundredths: parseCount(o.position_fp, 'position_fp'),
    totalTradedMicros: optional(o.total_traded_dollars, 'total_traded_dollars', parseMicros) ?? 0,
    marketExposureMicros: optional(o.market_exposure_dollars, 'market_exposure_dollars', parseMicros) ?? 0,
    realizedPnlMicros: optional(o.realized_pnl_dollars, 'realized_pnl_dollars', parseMicros) ?? 0,
    feesPaidMicros: optional(o.fees_paid_dollars, 'fees_paid_dollars', parseMicros) ?? 0,
    lastUpdatedTsMs:
      o.last_updated_ts === undefined || o.last_updated_ts === null
        ? undefined
        : readTimeMs(undefined, o.last_updated_ts, 'last_updated_ts'),
    exchangeIndex: optional(o.exchange_index, 'exchange_index', asInteger),
  }
}

/** One page of a list; an empty cursor is the end. */
export interface Page<T> {
  readonly items: readonly T[]
  readonly cursor: string
}

/** @throws WireError naming the field */
export function parsePage<T>(body: unknown, field: string, parseItem: (item: unknown) => T): Page<T> {
  const o = asObject(body, `list of ${field}`)
  return {
    items: asArray(o[field] ?? [], field).map(parseItem),
    cursor: optional(o.cursor, 'cursor', asString) ?? '',
  }
}

/** `book_side` when given, else what the outcome says. */
export function readBookSide(o: JsonObject): BookSide {
  if (o.book_side !== undefined && o.book_side !== null) return asOneOf(o.book_side, BOOK_SIDES, 'book_side')
  return bookSide(asOneOf(o.outcome_side, OUTCOME_SIDES, 'outcome_side'))
}

/** Unix ms from `ms`, or else from `other`: RFC 3339 text or unix seconds. */
export function readTimeMs(ms: unknown, other: unknown, what: string): number {
  if (ms !== undefined && ms !== null) return asInteger(ms, `${what}_ms`)
  if (typeof other === 'number' && Number.isFinite(other)) return Math.trunc(other * 1000)
  const parsed = typeof other === 'string' ? Date.parse(other) : Number.NaN
  if (Number.isNaN(parsed)) throw new WireError(`${what} is not a time`)
  return parsed
}

/** The venue writes `""` for ids that are not there. */
function nonEmpty(value: unknown, what: string): string | undefined {
  return optional(value, what, asString) || undefined
}
