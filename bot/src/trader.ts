/**
 * The hot path from a changed book to the wire: look, decide, check, send. All of it synchronous; nothing between
 * `received` and `sent` is awaited.
 *
 * Orders go first, then the cancels of the quotes they replace: both leave in the same turn of the loop, and until a
 * cancel is confirmed the risk limits count the old quote as well as the new.
 */
import { type Agent, INSTANT } from '@tickscope/agent'
import type { Gateway } from './gateway.ts'
import type { Market } from './market.ts'
import type { OrderKind, Orders } from './orders.ts'
import type { Positions } from './positions.ts'
import { createQuery, type Risk } from './risk.ts'
import { decide, type MarketMakerParams } from './strategy/market-maker.ts'

export interface TraderOptions {
  readonly agent: Agent
  readonly gateway: Gateway
  readonly orders: Orders
  readonly positions: Positions
  readonly risk: Risk
  readonly params: MarketMakerParams
}

export class Trader {
  /** Whether new orders may be decided on at all; off until the books stand and when the bot stops. */
  quoting = false
  readonly #options: TraderOptions
  readonly #query = createQuery()

  constructor(options: TraderOptions) {
    this.#options = options
  }

  /**
   * One tick that changed a book that may be believed.
   *
   * @param tick the agent's slot, `booked` already marked
   * @param receivedAtMs when it was read, which is "now" for strategy and limits: one clock read less
   */
  onBook(market: Market, tick: number, receivedAtMs: number): void {
    const { agent, orders, positions, risk, params } = this.#options
    const open = this.quoting && risk.mayRest(receivedAtMs)
    const live = orders.liveOf(market.ticker)
    market.look(receivedAtMs, live, positions.of(market.ticker), open)
    const { decision } = market
    decide(market.view, params, decision)
    agent.mark(tick, INSTANT.decided)
    if (decision.takeSizeHundredths > 0) {
      const sent = this.#submit(
        market,
        tick,
        receivedAtMs,
        'take',
        decision.takeSide,
        decision.takeTicks,
        decision.takeSizeHundredths,
      )
      if (sent) market.view.lastTakeAtMs = receivedAtMs
    }
    // Those to be cancelled are named before the new ones join the list.
    if (decision.cancelBid) this.#unwant(market, 'bid')
    if (decision.cancelAsk) this.#unwant(market, 'ask')
    if (decision.bidSizeHundredths > 0)
      this.#submit(market, tick, receivedAtMs, 'quote', 'bid', decision.bidTicks, decision.bidSizeHundredths)
    if (decision.askSizeHundredths > 0)
      this.#submit(market, tick, receivedAtMs, 'quote', 'ask', decision.askTicks, decision.askSizeHundredths)
    if (decision.cancelBid || decision.cancelAsk) this.#cancelUnwanted(market)
  }

  /** Cancels everything resting in a market. @returns whether there was anything */
  pull(market: Market): boolean {
    const live = this.#options.orders.liveOf(market.ticker)
    if (live.length === 0) return false
    for (const order of live) order.cancelWanted = true
    this.#cancelUnwanted(market)
    return true
  }

  #submit(
    market: Market,
    tick: number,
    nowMs: number,
    kind: OrderKind,
    side: 'bid' | 'ask',
    priceTicks: number,
    sizeHundredths: number,
  ): boolean {
    const { agent, gateway, orders, positions, risk } = this.#options
    const query = this.#query
    query.nowMs = nowMs
    query.side = side
    query.priceTicks = priceTicks
    query.sizeHundredths = sizeHundredths
    query.bookTradable = market.book.tradable
    query.midTicks = market.midTicks
    query.positionHundredths = market.view.positionHundredths
    query.liveBuyHundredths = 0
    query.liveSellHundredths = 0
    const live = orders.liveOf(market.ticker)
    for (let i = 0; i < live.length; i++) {
      const order = live[i]!
      if (order.side === 'bid') query.liveBuyHundredths += order.remainingHundredths
      else query.liveSellHundredths += order.remainingHundredths
    }
    query.atRiskMicros = positions.boundMicros + orders.boundMicros
    query.liveOrders = orders.liveCount
    if (!risk.check(query)) return false
    const slot = agent.order(tick)
    agent.mark(slot, INSTANT.checked)
    gateway.create(market, orders.create(market.ticker, side, kind, priceTicks, sizeHundredths, nowMs), slot)
    return true
  }

  #unwant(market: Market, side: 'bid' | 'ask'): void {
    for (const order of this.#options.orders.liveOf(market.ticker)) {
      if (order.side === side && order.kind === 'quote') order.cancelWanted = true
    }
  }

  #cancelUnwanted(market: Market): void {
    const { orders, gateway } = this.#options
    // A cancel never ends an order at once, so the list stands still while it is walked.
    for (const order of orders.liveOf(market.ticker)) {
      if (order.cancelWanted && orders.wantCancel(order)) gateway.cancel(market, order)
    }
  }
}
