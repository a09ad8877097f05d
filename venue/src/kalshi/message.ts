/**
 * WebSocket messages: data and replies of the venue, parsed to one discriminated union; commands of the client, both
 * ways.
 *
 * Validation is by hand: every tick passes through here on its way to an order. A malformed message becomes a value
 * (`malformed`), never an exception that could reach a socket; an unknown `type` becomes `unknown`.
 *
 * Book levels: `yes` levels are YES bids at YES prices. `no` levels are NO bids; their price is the NO price (0.30 NO
 * is an offer of YES at 0.70) unless the subscription said `use_yes_price: true`, which turns them into YES prices.
 */
import { parseCount, parseDollars, parseMicros } from './decimal.ts'
import { WireError } from './error.ts'
import { asArray, asBoolean, asInteger, asObject, asOneOf, asString, type JsonObject, optional } from './json.ts'
import { BOOK_SIDES, type BookSide, OUTCOME_SIDES, type OutcomeSide, readBookSide, readTimeMs } from './order.ts'

/** Channels this client knows how to read. */
export const CHANNELS = ['orderbook_delta', 'ticker', 'trade', 'fill', 'user_orders', 'market_positions'] as const
export type Channel = (typeof CHANNELS)[number]

export interface BookLevel {
  readonly priceTicks: number
  readonly countHundredths: number
}

/** The whole book of one market. An empty side is absent on the wire and an empty list here. */
export interface BookSnapshot {
  readonly type: 'orderbook_snapshot'
  readonly sid: number
  readonly seq: number
  /** Echo of the command that asked for it, when one did. */
  readonly id?: number | undefined
  readonly marketTicker: string
  readonly yes: readonly BookLevel[]
  readonly no: readonly BookLevel[]
}

/** A change of one level; not its new size. */
export interface BookDelta {
  readonly type: 'orderbook_delta'
  readonly sid: number
  readonly seq: number
  readonly marketTicker: string
  readonly priceTicks: number
  readonly deltaHundredths: number
  readonly side: OutcomeSide
  /** Venue time, unix ms. */
  readonly tsMs: number
  /** Set only when an order of this account caused the change. */
  readonly clientOrderId?: string | undefined
}

export interface Ticker {
  readonly type: 'ticker'
  readonly sid: number
  readonly marketTicker: string
  /** Last price; absent on a market that never traded. */
  readonly priceTicks?: number | undefined
  readonly yesBidTicks?: number | undefined
  readonly yesAskTicks?: number | undefined
  readonly yesBidSizeHundredths?: number | undefined
  readonly yesAskSizeHundredths?: number | undefined
  readonly lastTradeSizeHundredths?: number | undefined
  readonly volumeHundredths?: number | undefined
  readonly openInterestHundredths?: number | undefined
  readonly tsMs: number
}

export interface Trade {
  readonly type: 'trade'
  readonly sid: number
  /** Seen on the wire although the schema lists none. */
  readonly seq?: number | undefined
  readonly tradeId: string
  readonly marketTicker: string
  readonly yesPriceTicks: number
  readonly countHundredths: number
  readonly takerSide: BookSide
  readonly tsMs: number
}

/** An own execution. May come before or after the public `trade` with the same id. */
export interface FillMessage {
  readonly type: 'fill'
  readonly sid: number
  readonly tradeId: string
  readonly orderId: string
  readonly clientOrderId?: string | undefined
  readonly marketTicker: string
  readonly side: BookSide
  readonly isTaker: boolean
  readonly yesPriceTicks: number
  readonly countHundredths: number
  readonly feeMicros: number
  /** Signed position after the fill; positive is YES. */
  readonly postPositionHundredths?: number | undefined
  readonly tsMs: number
}

export const USER_ORDER_STATUSES = ['resting', 'canceled', 'executed', 'unknown'] as const

/** State of an own order after a change. */
export interface UserOrder {
  readonly type: 'user_order'
  readonly sid: number
  readonly orderId: string
  readonly clientOrderId?: string | undefined
  readonly ticker: string
  readonly status: (typeof USER_ORDER_STATUSES)[number]
  readonly side: BookSide
  readonly yesPriceTicks: number
  readonly initialCountHundredths: number
  readonly fillCountHundredths: number
  readonly remainingCountHundredths: number
  /** e.g. `Trade`, `Decrease`, `SelfTradeCancel`; open set. */
  readonly lastUpdateReason?: string | undefined
  readonly tsMs?: number | undefined
}

export interface MarketPosition {
  readonly type: 'market_position'
  readonly sid: number
  readonly marketTicker: string
  /** Signed; positive is YES. */
  readonly positionHundredths: number
  readonly realizedPnlMicros: number
  readonly feesPaidMicros: number
}

/** Answers to commands. `id` 0 means no id. */
export interface Subscribed {
  readonly type: 'subscribed'
  readonly id: number
  readonly channel: string
  readonly sid: number
}

export interface Ok {
  readonly type: 'ok'
  readonly id: number
  readonly sid?: number | undefined
  readonly seq?: number | undefined
}

export interface Unsubscribed {
  readonly type: 'unsubscribed'
  readonly id: number
  readonly sid: number
  readonly seq?: number | undefined
}

export interface FeedError {
  readonly type: 'error'
  readonly id: number
  readonly code: number
  readonly message: string
  readonly sid?: number | undefined
  readonly seq?: number | undefined
  readonly marketTicker?: string | undefined
}

/** A type this client does not read: counted, and its number in the sequence of its `sid` kept. */
export interface UnknownMessage {
  readonly type: 'unknown'
  readonly wireType: string
  readonly sid?: number | undefined
  readonly seq?: number | undefined
}

/** Not what the documents promise. `sid` and `seq` where they could still be read. */
export interface MalformedMessage {
  readonly type: 'malformed'
  readonly error: WireError
  readonly sid?: number | undefined
  readonly seq?: number | undefined
}

export type FeedMessage =
  | BookSnapshot
  | BookDelta
  | Ticker
  | Trade
  | FillMessage
  | UserOrder
  | MarketPosition
  | Subscribed
  | Ok
  | Unsubscribed
  | FeedError
  | UnknownMessage
  | MalformedMessage

/** Error codes that matter to a client. */
export const FEED_ERROR = {
  unknownSid: 7,
  authenticationRequired: 9,
  /** Ends the subscription. */
  channelFailure: 10,
  /** Ends the subscription: this client read too slowly. */
  bufferOverflow: 25,
} as const

/** Messages of market data: what a tick is. */
export function isMarketData(message: FeedMessage): message is BookSnapshot | BookDelta | Ticker | Trade {
  return (
    message.type === 'orderbook_delta' ||
    message.type === 'orderbook_snapshot' ||
    message.type === 'ticker' ||
    message.type === 'trade'
  )
}

/** Parses one text frame. Hot path; never throws. */
export function parseMessage(text: string): FeedMessage {
  let json: unknown
  try {
    json = JSON.parse(text)
    return readMessage(asObject(json, 'message'))
  } catch (error) {
    const envelope = (typeof json === 'object' && json !== null ? json : {}) as JsonObject
    return {
      type: 'malformed',
      error: error instanceof WireError ? error : new WireError(`message is not JSON, ${text.length} characters`),
      sid: Number.isSafeInteger(envelope.sid) ? (envelope.sid as number) : undefined,
      seq: Number.isSafeInteger(envelope.seq) ? (envelope.seq as number) : undefined,
    }
  }
}

function readMessage(o: JsonObject): FeedMessage {
  switch (o.type) {
    case 'orderbook_delta':
      return readDelta(o, asObject(o.msg, 'msg'))
    case 'ticker':
      return readTicker(o, asObject(o.msg, 'msg'))
    case 'trade':
      return readTrade(o, asObject(o.msg, 'msg'))
    case 'orderbook_snapshot':
      return readSnapshot(o, asObject(o.msg, 'msg'))
    case 'fill':
      return readFill(o, asObject(o.msg, 'msg'))
    case 'user_order':
      return readUserOrder(o, asObject(o.msg, 'msg'))
    case 'market_position':
      return readMarketPosition(o, asObject(o.msg, 'msg'))
    case 'subscribed': {
      const msg = asObject(o.msg, 'msg')
      return {
        type: 'subscribed',
        id: readId(o),
        channel: asString(msg.channel, 'channel'),
        sid: asInteger(msg.sid, 'sid'),
      }
    }
    case 'ok':
      return { type: 'ok', id: readId(o), sid: readSid(o), seq: readSeq(o) }
    case 'unsubscribed':
      return { type: 'unsubscribed', id: readId(o), sid: asInteger(o.sid, 'sid'), seq: readSeq(o) }
    case 'error': {
      const msg = asObject(o.msg, 'msg')
      return {
        type: 'error',
        id: readId(o),
        code: asInteger(msg.code, 'code'),
        message: optional(msg.msg, 'msg', asString) ?? '',
        sid: readSid(o),
        seq: readSeq(o),
        marketTicker: optional(msg.market_ticker, 'market_ticker', asString),
      }
    }
    default:
      return { type: 'unknown', wireType: asString(o.type, 'type'), sid: readSid(o), seq: readSeq(o) }
  }
}

function readDelta(o: JsonObject, msg: JsonObject): BookDelta {
  return {
    type: 'orderbook_delta',
    sid: asInteger(o.sid, 'sid'),
    seq: asInteger(o.seq, 'seq'),
    marketTicker: asString(msg.market_ticker, 'market_ticker'),
    priceTicks: parseDollars(msg.price_dollars, 'price_dollars'),
    deltaHundredths: parseCount(msg.delta_fp, 'delta_fp'),
    side: asOneOf(msg.side, OUTCOME_SIDES, 'side'),
    tsMs: readTimeMs(msg.ts_ms, msg.ts, 'ts'),
    clientOrderId: optional(msg.client_order_id, 'client_order_id', asString),
  }
}

function readSnapshot(o: JsonObject, msg: JsonObject): BookSnapshot {
  return {
    type: 'orderbook_snapshot',
    sid: asInteger(o.sid, 'sid'),
    seq: asInteger(o.seq, 'seq'),
    id: optional(o.id, 'id', asInteger),
    marketTicker: asString(msg.market_ticker, 'market_ticker'),
    yes: parseLevels(msg.yes_dollars_fp, 'yes_dollars_fp'),
    no: parseLevels(msg.no_dollars_fp, 'no_dollars_fp'),
  }
}

/** `[["0.4200","13.00"],…]`; absent is empty. Also the form of REST books. */
export function parseLevels(value: unknown, what: string): BookLevel[] {
  if (value === undefined || value === null) return []
  const pairs = asArray(value, what)
  const levels: BookLevel[] = []
  for (const item of pairs) {
    const pair = asArray(item, what)
    const countHundredths = parseCount(pair[1], what)
    if (countHundredths < 0) throw new WireError(`${what} has a level of negative size`)
    levels.push({ priceTicks: parseDollars(pair[0], what), countHundredths })
  }
  return levels
}

function readTicker(o: JsonObject, msg: JsonObject): Ticker {
  return {
    type: 'ticker',
    sid: asInteger(o.sid, 'sid'),
    marketTicker: asString(msg.market_ticker, 'market_ticker'),
    priceTicks: optional(msg.price_dollars, 'price_dollars', parseDollars),
    yesBidTicks: optional(msg.yes_bid_dollars, 'yes_bid_dollars', parseDollars),
    yesAskTicks: optional(msg.yes_ask_dollars, 'yes_ask_dollars', parseDollars),
    yesBidSizeHundredths: optional(msg.yes_bid_size_fp, 'yes_bid_size_fp', parseCount),
    yesAskSizeHundredths: optional(msg.yes_ask_size_fp, 'yes_ask_size_fp', parseCount),
    lastTradeSizeHundredths: optional(msg.last_trade_size_fp, 'last_trade_size_fp', parseCount),
    volumeHundredths: optional(msg.volume_fp, 'volume_fp', parseCount),
    openInterestHundredths: optional(msg.open_interest_fp, 'open_interest_fp', parseCount),
    tsMs: readTimeMs(msg.ts_ms, msg.time ?? msg.ts, 'ts'),
  }
}

function readTrade(o: JsonObject, msg: JsonObject): Trade {
  return {
    type: 'trade',
    sid: asInteger(o.sid, 'sid'),
    seq: readSeq(o),
    tradeId: asString(msg.trade_id, 'trade_id'),
    marketTicker: asString(msg.market_ticker, 'market_ticker'),
    yesPriceTicks: parseDollars(msg.yes_price_dollars, 'yes_price_dollars'),
    countHundredths: parseCount(msg.count_fp, 'count_fp'),
    takerSide: readTakerSide(msg),
    tsMs: readTimeMs(msg.ts_ms, msg.ts, 'ts'),
  }
}

function readTakerSide(msg: JsonObject): BookSide {
  if (msg.taker_book_side !== undefined) return asOneOf(msg.taker_book_side, BOOK_SIDES, 'taker_book_side')
  const outcome = asOneOf(msg.taker_outcome_side ?? msg.taker_side, OUTCOME_SIDES, 'taker_outcome_side')
  return outcome === 'yes' ? 'bid' : 'ask'
}

function readFill(o: JsonObject, msg: JsonObject): FillMessage {
  return {
    type: 'fill',
    sid: asInteger(o.sid, 'sid'),
    tradeId: asString(msg.trade_id, 'trade_id'),
    orderId: asString(msg.order_id, 'order_id'),
    clientOrderId: optional(msg.client_order_id, 'client_order_id', asString) || undefined,
    marketTicker: asString(msg.market_ticker, 'market_ticker'),
    side: readBookSide(msg),
    isTaker: asBoolean(msg.is_taker, 'is_taker'),
    yesPriceTicks: parseDollars(msg.yes_price_dollars, 'yes_price_dollars'),
    countHundredths: parseCount(msg.count_fp, 'count_fp'),
    feeMicros: optional(msg.fee_cost, 'fee_cost', parseMicros) ?? 0,
    postPositionHundredths: optional(msg.post_position_fp, 'post_position_fp', parseCount),
    tsMs: readTimeMs(msg.ts_ms, msg.ts, 'ts'),
  }
}

function readUserOrder(o: JsonObject, msg: JsonObject): UserOrder {
  return {
    type: 'user_order',
    sid: asInteger(o.sid, 'sid'),
    orderId: asString(msg.order_id, 'order_id'),
    clientOrderId: optional(msg.client_order_id, 'client_order_id', asString) || undefined,
    ticker: asString(msg.ticker, 'ticker'),
    status: asOneOf(msg.status, USER_ORDER_STATUSES, 'status'),
    side: readBookSide(msg),
    yesPriceTicks: parseDollars(msg.yes_price_dollars, 'yes_price_dollars'),
    initialCountHundredths: parseCount(msg.initial_count_fp, 'initial_count_fp'),
    fillCountHundredths: parseCount(msg.fill_count_fp, 'fill_count_fp'),
    remainingCountHundredths: parseCount(msg.remaining_count_fp, 'remaining_count_fp'),
    lastUpdateReason: optional(msg.last_update_reason, 'last_update_reason', asString),
    tsMs:
      optional(msg.last_updated_ts_ms, 'last_updated_ts_ms', asInteger) ??
      optional(msg.created_ts_ms, 'created_ts_ms', asInteger),
  }
}

function readMarketPosition(o: JsonObject, msg: JsonObject): MarketPosition {
  return {
    type: 'market_position',
    sid: asInteger(o.sid, 'sid'),
    marketTicker: asString(msg.market_ticker, 'market_ticker'),
    positionHundredths: parseCount(msg.position_fp, 'position_fp'),
    realizedPnlMicros: optional(msg.realized_pnl_dollars, 'realized_pnl_dollars', parseMicros) ?? 0,
    feesPaidMicros: optional(msg.fees_paid_dollars, 'fees_paid_dollars', parseMicros) ?? 0,
  }
}

function readId(o: JsonObject): number {
  return optional(o.id, 'id', asInteger) ?? 0
}

function readSid(o: JsonObject): number | undefined {
  return optional(o.sid, 'sid', asInteger)
}

function readSeq(o: JsonObject): number | undefined {
  return optional(o.seq, 'seq', asInteger)
}

/** What a client asks of the feed. `id` numbers from 1. */
export type FeedCommand =
  | {
      readonly id: number
      readonly cmd: 'subscribe'
      readonly channels: readonly string[]
      readonly marketTickers: readonly string[]
      /** Only the book channel reads it. */
      readonly useYesPrice?: boolean | undefined
      readonly sendInitialSnapshot?: boolean | undefined
    }
  | { readonly id: number; readonly cmd: 'unsubscribe'; readonly sids: readonly number[] }
  | {
      readonly id: number
      readonly cmd: 'update_subscription'
      readonly sid: number
      readonly action: 'add_markets' | 'delete_markets' | 'get_snapshot'
      readonly marketTickers: readonly string[]
    }
  | { readonly id: number; readonly cmd: 'list_subscriptions' }

/** Channels whose subscription without tickers means every market; the book channel needs tickers. */
export function encodeCommand(command: FeedCommand): string {
  switch (command.cmd) {
    case 'subscribe':
      return JSON.stringify({
        id: command.id,
        cmd: command.cmd,
        params: {
          channels: command.channels,
          market_tickers: command.marketTickers.length === 0 ? undefined : command.marketTickers,
          use_yes_price: command.useYesPrice,
          send_initial_snapshot: command.sendInitialSnapshot,
        },
      })
    case 'unsubscribe':
      return JSON.stringify({ id: command.id, cmd: command.cmd, params: { sids: command.sids } })
    case 'update_subscription':
      return JSON.stringify({
        id: command.id,
        cmd: command.cmd,
        params: { sid: command.sid, action: command.action, market_tickers: command.marketTickers },
      })
    case 'list_subscriptions':
      return JSON.stringify({ id: command.id, cmd: command.cmd })
  }
}

/** Codes a server answers a bad command with. */
const COMMAND_ERROR = {
  cannotProcess: 1,
  paramsMissing: 2,
  channelsMissing: 3,
  sidsMissing: 4,
  unknownCommand: 5,
  invalidParameter: 11,
  exactlyOneSid: 12,
  unsupportedAction: 13,
  actionRequired: 15,
} as const

/** A command that cannot be done: the reply's id and code. */
export interface CommandError {
  readonly id: number
  readonly cmd: 'invalid'
  readonly code: number
  readonly message: string
}

/**
 * The venue's side; never throws. Channels, sids and tickers are checked for their form, not for whether they exist.
 * A single `market_ticker` and one-element `sids` in an update are accepted, as the venue does.
 */
export function parseCommand(text: string): FeedCommand | CommandError {
  let id = 0
  const refuse = (code: number, message: string): CommandError => ({ id, cmd: 'invalid', code, message })
  try {
    const o = asObject(JSON.parse(text), 'command')
    id = optional(o.id, 'id', asInteger) ?? 0
    if (o.cmd === 'list_subscriptions') return { id, cmd: 'list_subscriptions' }
    if (o.cmd !== 'subscribe' && o.cmd !== 'unsubscribe' && o.cmd !== 'update_subscription')
      return refuse(COMMAND_ERROR.unknownCommand, 'Unknown command')
    if (o.params === undefined || o.params === null) return refuse(COMMAND_ERROR.paramsMissing, 'Params required')
    const params = asObject(o.params, 'params')
    const one = optional(params.market_ticker, 'market_ticker', asString)
    const marketTickers =
      one === undefined
        ? asArray(params.market_tickers ?? [], 'market_tickers').map((ticker) => asString(ticker, 'market_tickers'))
        : [one]
    const sids =
      params.sids === undefined ? undefined : asArray(params.sids, 'sids').map((sid) => asInteger(sid, 'sids'))
    switch (o.cmd) {
      case 'subscribe': {
        const channels = asArray(params.channels ?? [], 'channels').map((channel) => asString(channel, 'channels'))
        if (channels.length === 0) return refuse(COMMAND_ERROR.channelsMissing, 'Channels required')
        return {
          id,
          cmd: 'subscribe',
          channels,
          marketTickers,
          useYesPrice: optional(params.use_yes_price, 'use_yes_price', asBoolean),
          sendInitialSnapshot: optional(params.send_initial_snapshot, 'send_initial_snapshot', asBoolean),
        }
      }
      case 'unsubscribe':
        if (sids === undefined || sids.length === 0) return refuse(COMMAND_ERROR.sidsMissing, 'Sids required')
        return { id, cmd: 'unsubscribe', sids }
      case 'update_subscription': {
        const sid = optional(params.sid, 'sid', asInteger) ?? (sids?.length === 1 ? sids[0] : undefined)
        if (sid === undefined) return refuse(COMMAND_ERROR.exactlyOneSid, 'Exactly one sid required')
        const action = optional(params.action, 'action', asString)
        if (action === undefined) return refuse(COMMAND_ERROR.actionRequired, 'Action required')
        if (action !== 'add_markets' && action !== 'delete_markets' && action !== 'get_snapshot')
          return refuse(COMMAND_ERROR.unsupportedAction, 'Unsupported action')
        return { id, cmd: 'update_subscription', sid, action, marketTickers }
      }
    }
  } catch (error) {
    return error instanceof WireError
      ? refuse(COMMAND_ERROR.invalidParameter, error.message)
      : refuse(COMMAND_ERROR.cannotProcess, 'Unable to process message')
  }
}
