/**
 * Orders and cancels to the venue, and their answers back into the order states and the agent's slots.
 *
 * `create` and `cancel` sign and write before they return when a connection is free; the answer arrives later and is
 * turned into a state, never into an exception. An answer that leaves the outcome open makes the order `unknown`;
 * `Reconciler` looks it up. Nothing is ever sent twice.
 */
import { type Agent, ENDPOINT, INSTANT, OUTCOME } from '@tickscope/agent'
import {
  type CallInstants,
  type CallResult,
  type CancelOrderResult,
  type CreateOrderResult,
  MICROS_PER_TICK,
  type Rest,
  VenueError,
} from '@tickscope/venue/kalshi'
import type { Market } from './market.ts'
import type { Order, Orders } from './orders.ts'
import type { Risk } from './risk.ts'

/** How long a market gets no orders after a refusal, ms, by what the venue said. The first match counts. */
const REST_AFTER_REFUSAL: readonly [pattern: RegExp, restMs: number][] = [
  // Our book is behind the venue's by a round trip.
  [/post_only|post only|cross/, 50],
  [/balance/, 5_000],
  [/paused|closed|inactive|not_active|determined/, 5_000],
]
const REST_AFTER_OTHER_REFUSAL_MS = 1_000
/** Pause of all orders after the venue said "too many requests": it names no time, and its buckets hold seconds. */
const HALT_AFTER_RATE_LIMIT_MS = 500
/** Pause of all orders after a call that failed without an answer. */
const HALT_AFTER_FAILURE_MS = 250
/** Pause of all orders when the venue does not know us any more: each try would be refused alike. */
const HALT_AFTER_UNAUTHORIZED_MS = 5_000

export interface GatewayOptions {
  readonly agent: Agent
  readonly rest: Rest
  readonly orders: Orders
  readonly risk: Risk
  /** How long a quote lives at the venue if nobody cancels it, ms. */
  readonly quoteTtlMs: number
  /** An order's outcome is open. */
  readonly onUnknown: (order: Order) => void
  /** One sentence for people, at most a few a minute. */
  readonly note: (message: string) => void
}

export class Gateway {
  /** Creates whose bytes were handed to the kernel, and what became of them. */
  ordersSent = 0
  ordersAcked = 0
  ordersRejected = 0
  /** Creates that were never sent: no connection. */
  ordersUnsent = 0
  ordersUnknown = 0
  cancelsSent = 0
  /** Calls not answered yet. */
  pending = 0
  /** Tick-to-trade of the first order, ms: the cold one. `NaN` before it. */
  firstTickToTradeMs = Number.NaN
  #first: Order | undefined
  readonly #options: GatewayOptions
  readonly #createInstants: CallInstants
  readonly #cancelInstants: CallInstants

  constructor(options: GatewayOptions) {
    this.#options = options
    const { agent } = options
    this.#createInstants = {
      encoded: (atMs, slot) => agent.markAt(slot, INSTANT.encoded, atMs),
      sent: (atMs, slot) => {
        if (this.ordersSent++ === 0) this.firstTickToTradeMs = atMs - this.#first!.createdAtMs
        agent.markAt(slot, INSTANT.sent, atMs)
      },
      acked: (atMs, slot) => agent.markAt(slot, INSTANT.acked, atMs),
    }
    this.#cancelInstants = {
      sent: (atMs, slot) => {
        this.cancelsSent++
        agent.markAt(slot, INSTANT.sent, atMs)
      },
      acked: (atMs, slot) => agent.markAt(slot, INSTANT.acked, atMs),
    }
  }

  /** Hot path: signs and writes one order. @param slot the agent's, `checked` already marked; closed with the answer */
  create(market: Market, order: Order, slot: number): void {
    const quote = order.kind === 'quote'
    this.#first ??= order
    this.pending++
    this.#options.rest
      .createOrder(
        {
          ticker: order.ticker,
          side: order.side,
          countHundredths: order.sizeHundredths,
          priceTicks: order.priceTicks,
          timeInForce: quote ? 'good_till_canceled' : 'immediate_or_cancel',
          selfTradePrevention: 'taker_at_cross',
          clientOrderId: order.clientOrderId,
          expirationTimeS: quote ? Math.ceil((Date.now() + this.#options.quoteTtlMs) / 1e3) : undefined,
          postOnly: quote ? true : undefined,
          cancelOrderOnPause: quote ? true : undefined,
          exchangeIndex: market.exchangeIndex,
        },
        this.#createInstants,
        slot,
      )
      .then((result) => this.#created(market, order, slot, result))
  }

  /** Hot path: signs and writes one cancel of an order that has a name. */
  cancel(market: Market, order: Order): void {
    const slot = this.#options.agent.call(ENDPOINT.cancel_order)
    this.pending++
    this.#options.rest
      .cancelOrder(
        { orderId: order.orderId, exchangeIndex: market.exchangeIndex, marketTicker: order.ticker },
        this.#cancelInstants,
        slot,
      )
      .then((result) => this.#cancelled(order, slot, result))
  }

  #created(market: Market, order: Order, slot: number, result: CallResult<CreateOrderResult>): void {
    const { agent, orders, risk } = this.#options
    this.pending--
    agent.close(slot, OUTCOME[result.outcome])
    if (result.outcome === 'ok') {
      this.ordersAcked++
      const { orderId, fillCountHundredths, remainingCountHundredths, averageFillPriceMicros } = result.value
      orders.report(
        order,
        {
          orderId,
          status: remainingCountHundredths > 0 ? 'resting' : 'executed',
          filledHundredths: fillCountHundredths,
          averagePriceTicks:
            averageFillPriceMicros === undefined ? undefined : averageFillPriceMicros / MICROS_PER_TICK,
        },
        'acknowledged',
      )
      if (order.cancelWanted && orders.wantCancel(order)) this.cancel(market, order)
      return
    }
    const { error } = result
    const nowMs = performance.now()
    if (result.ambiguous || (error instanceof VenueError && /already_exists/.test(error.code))) {
      // "Already exists": somebody between us and the venue sent it twice. It lives, and its name is not known here.
      this.ordersUnknown++
      risk.halt(nowMs + HALT_AFTER_FAILURE_MS)
      orders.lose(order, error.code)
      // Nobody knows for how long it has stood when it is found: it is not left standing.
      order.cancelWanted = true
      this.#options.onUnknown(order)
      return
    }
    orders.reject(order, error.code)
    if (result.outcome === 'rejected') {
      this.ordersRejected++
      this.#rest(market, result.error, nowMs)
    } else {
      this.ordersUnsent++
      risk.halt(nowMs + HALT_AFTER_FAILURE_MS)
    }
  }

  #cancelled(order: Order, slot: number, result: CallResult<CancelOrderResult>): void {
    const { agent, orders, risk } = this.#options
    this.pending--
    agent.close(slot, OUTCOME[result.outcome])
    if (result.outcome === 'ok') {
      orders.cancelled(order, result.value.reducedByHundredths)
      return
    }
    const { error } = result
    const gone = error instanceof VenueError && error.httpStatus === 404
    if (result.ambiguous || gone) {
      if (!order.live) return
      // 404 is filled, cancelled or unknown: all three look alike.
      orders.lose(order, error.code)
      this.#options.onUnknown(order)
      return
    }
    orders.cancelFailed(order, error.code)
    const limited = error instanceof VenueError && error.httpStatus === 429
    risk.halt(performance.now() + (limited ? HALT_AFTER_RATE_LIMIT_MS : HALT_AFTER_FAILURE_MS))
  }

  /** Makes a market, or all of them, wait after a refusal, so that one cause is not refused a hundred times a second. */
  #rest(market: Market, error: VenueError, nowMs: number): void {
    const { risk, note } = this.#options
    if (error.httpStatus === 429) {
      risk.halt(nowMs + HALT_AFTER_RATE_LIMIT_MS)
    } else if (error.httpStatus === 401 || error.httpStatus === 403) {
      risk.halt(nowMs + HALT_AFTER_UNAUTHORIZED_MS)
      note(error.message)
    } else {
      const text = `${error.code} ${error.message}`.toLowerCase()
      const restMs = REST_AFTER_REFUSAL.find(([pattern]) => pattern.test(text))?.[1] ?? REST_AFTER_OTHER_REFUSAL_MS
      market.restUntilMs = nowMs + restMs
      if (restMs >= REST_AFTER_OTHER_REFUSAL_MS) note(`${market.ticker}: ${error.message}; resting ${restMs} ms`)
    }
  }
}
