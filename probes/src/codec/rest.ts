/**
 * The same messages as the venue's own JSON: the order as a whole HTTP/1.1 request with its signature, its answer, and
 * reports and book updates as WebSocket messages.
 *
 * Requests and parsing are the venue package's, so what is timed is what the bot runs. A request here has the very
 * bytes that package puts on a socket (a test compares them); only what the venue itself writes, answers and feed
 * messages, is written here, field by field as it documents them.
 */
import {
  AUTH_HEADERS,
  type CreateOrderResult,
  encodeCreateOrder,
  formatCount,
  formatDollars,
  formatMicros,
  outcomeSide,
  parseCreateOrder,
  parseCreateOrderResult,
  parseMessage,
  REST_BASE_PATH,
  resolveEnvironment,
  type Signer,
} from '@tickscope/venue/kalshi'
import type { BookUpdate, ExecutionReport, NewOrder } from './message.ts'

export const ORDERS_PATH = `${REST_BASE_PATH}/portfolio/events/orders`

/** Of the venue's production API: its length is part of every request. */
const HOST = new URL(resolveEnvironment('prod').restOrigin).host

/** @returns the order's JSON */
export function encodeOrderBody(order: NewOrder): string {
  return encodeCreateOrder(order)
}

/**
 * Everything of a request but the signature's making, which the probe times by itself.
 *
 * @param timestamp unix ms as a decimal string, as it was signed
 * @param signature base64
 * @returns head and body, all ASCII
 */
export function encodeOrderRequest(order: NewOrder, keyId: string, timestamp: string, signature: string): string {
  const body = encodeCreateOrder(order)
  return `POST ${ORDERS_PATH} HTTP/1.1\r\ncontent-type: application/json\r\nhost: ${HOST}\r\nuser-agent: tickscope\r\naccept: application/json\r\n${AUTH_HEADERS.key}: ${keyId}\r\n${AUTH_HEADERS.timestamp}: ${timestamp}\r\n${AUTH_HEADERS.signature}: ${signature}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
}

/** The whole cost of a request: signature included. */
export function signOrderRequest(order: NewOrder, signer: Signer, nowMs: number): string {
  const timestamp = String(nowMs)
  return encodeOrderRequest(order, signer.keyId, timestamp, signer.sign(timestamp, 'POST', ORDERS_PATH))
}

/** The venue's side, from the JSON of the body. @throws WireError */
export function decodeOrderBody(body: string): NewOrder {
  const order = parseCreateOrder(JSON.parse(body))
  return {
    ticker: order.ticker,
    side: order.side,
    countHundredths: order.countHundredths,
    priceTicks: order.priceTicks,
    timeInForce: order.timeInForce,
    selfTradePrevention: order.selfTradePrevention,
    clientOrderId: order.clientOrderId ?? '',
    postOnly: order.postOnly ?? false,
    exchangeIndex: order.exchangeIndex ?? 0,
  }
}

/** The answer to a create: what HTTP gives instead of an execution report. The order itself is not repeated. */
export function encodeAnswer(report: ExecutionReport): string {
  const body = JSON.stringify({
    client_order_id: report.clientOrderId,
    fill_count: formatCount(report.filledHundredths),
    order_id: report.orderId,
    remaining_count: formatCount(report.remainingHundredths),
    ts_ms: report.tsMs,
  })
  // The fewest headers a server can do with; what a CDN adds (cache, trace, security headers) comes on top.
  return `HTTP/1.1 201 Created\r\ndate: ${new Date(report.tsMs).toUTCString()}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\nconnection: keep-alive\r\n\r\n${body}`
}

/** @param text head and body @throws WireError */
export function decodeAnswer(text: string): CreateOrderResult {
  return parseCreateOrderResult(JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4)))
}

/** A `user_order` message of the private feed: everything an execution report says. */
export function encodeReport(report: ExecutionReport): string {
  return `${JSON.stringify(reportObject(report))}\n`
}

/** The message before it is text: what `JSON.stringify` and `JSON.parse` are measured with. */
export function reportObject(report: ExecutionReport) {
  return {
    type: 'user_order',
    sid: 3,
    msg: {
      order_id: report.orderId,
      user_id: 'e41a1bd2-8b8f-4e54-9f4a-0d6f8b1c7a52',
      ticker: report.ticker,
      exchange_index: 2,
      status: report.status,
      outcome_side: outcomeSide(report.side),
      book_side: report.side,
      side: 'yes',
      is_yes: report.side === 'bid',
      yes_price_dollars: formatDollars(report.priceTicks),
      initial_count_fp: formatCount(report.countHundredths),
      fill_count_fp: formatCount(report.filledHundredths),
      remaining_count_fp: formatCount(report.remainingHundredths),
      taker_fill_cost_dollars: '0.000000',
      maker_fill_cost_dollars: formatMicros(report.priceTicks * report.filledHundredths),
      taker_fees_dollars: '0.000000',
      maker_fees_dollars: '0.000000',
      client_order_id: report.clientOrderId,
      self_trade_prevention_type: 'taker_at_cross',
      created_ts_ms: report.tsMs - 40,
      last_updated_ts_ms: report.tsMs,
      last_update_reason: 'Trade',
      subaccount_number: 0,
    },
  }
}

/** @throws WireError, TypeError when it is another message */
export function decodeReport(text: string): ExecutionReport {
  const message = parseMessage(text)
  if (message.type === 'malformed') throw message.error
  if (message.type !== 'user_order' || message.status === 'unknown')
    throw new TypeError(`not a user_order but ${message.type}`)
  return {
    orderId: message.orderId,
    clientOrderId: message.clientOrderId ?? '',
    ticker: message.ticker,
    side: message.side,
    status: message.status,
    priceTicks: message.yesPriceTicks,
    countHundredths: message.initialCountHundredths,
    filledHundredths: message.fillCountHundredths,
    remainingHundredths: message.remainingCountHundredths,
    tsMs: message.tsMs ?? 0,
  }
}

/** An `orderbook_delta` message of the feed, with `use_yes_price`. */
export function encodeUpdate(update: BookUpdate): string {
  return `${JSON.stringify(updateObject(update))}\n`
}

export function updateObject(update: BookUpdate) {
  return {
    type: 'orderbook_delta',
    sid: 2,
    seq: update.sequence,
    msg: {
      market_ticker: update.ticker,
      market_id: '9b0f6b43-5b68-4f9f-9f02-9a2d1b8ac1a1',
      price_dollars: formatDollars(update.priceTicks),
      delta_fp: formatCount(update.changeHundredths),
      side: update.side,
      ts: `${new Date(update.tsMs).toISOString().slice(0, -1)}000Z`,
      ts_ms: update.tsMs,
    },
  }
}

/** @throws WireError, TypeError when it is another message */
export function decodeUpdate(text: string): BookUpdate {
  const message = parseMessage(text)
  if (message.type === 'malformed') throw message.error
  if (message.type !== 'orderbook_delta') throw new TypeError(`not an orderbook_delta but ${message.type}`)
  return {
    sequence: message.seq,
    ticker: message.marketTicker,
    side: message.side,
    priceTicks: message.priceTicks,
    changeHundredths: message.deltaHundredths,
    tsMs: message.tsMs,
  }
}

/** Header of an unmasked WebSocket frame around a text of that many bytes (RFC 6455 §5.2). */
export function webSocketHeaderBytes(textBytes: number): number {
  return textBytes < 126 ? 2 : textBytes < 65_536 ? 4 : 10
}
