/**
 * What one member owns: cash, positions, orders, fills. Money is in integer micro-dollars, so a price in ticks times a
 * count in hundredths is already an amount, exactly.
 *
 * A position is signed: positive holds YES, negative holds NO. Buying YES against NO held closes pairs, each worth $1.
 */
import { TICKS_PER_DOLLAR } from '../kalshi/decimal.ts'
import type { BookSide } from '../kalshi/order.ts'
import type { Order } from './book.ts'
import type { EngineMarket, Fill } from './engine.ts'

/** Orders no longer resting that are remembered per account; older ones answer 404, as archived ones do at the venue. */
const FINISHED_ORDERS_MAX = 50_000
const FILLS_MAX = 50_000

export interface Position {
  readonly market: EngineMarket
  /** Hundredths of a contract, + YES, - NO. */
  count: number
  /** What the open position cost, micro-dollars. */
  costMicros: number
  tradedMicros: number
  realizedPnlMicros: number
  feesMicros: number
  /** Hundredths of a contract traded, both ways. */
  volume: number
  updatedAtMs: number
}

export class Account {
  readonly id: string
  /** Identifies it to others, as the venue's `user_id` does. */
  readonly userId: string
  /** The exchange's own liquidity: unlimited collateral, no private messages, no history. */
  readonly house: boolean
  balanceMicros: number
  readonly positions = new Map<EngineMarket, Position>()
  readonly resting = new Set<Order>()
  /** Resting and finished, oldest first. */
  readonly orders = new Map<string, Order>()
  /** Never reusable, not even after a cancel. Grows by about 100 bytes an order. */
  readonly clientOrderIds = new Set<string>()
  readonly fills: Fill[] = []
  fillCount = 0
  #finished: string[] = []

  constructor(options: { id: string; userId: string; balanceMicros: number; house?: boolean }) {
    this.id = options.id
    this.userId = options.userId
    this.balanceMicros = options.balanceMicros
    this.house = options.house ?? false
  }

  position(market: EngineMarket): Position {
    let position = this.positions.get(market)
    if (position === undefined) {
      position = {
        market,
        count: 0,
        costMicros: 0,
        tradedMicros: 0,
        realizedPnlMicros: 0,
        feesMicros: 0,
        volume: 0,
        updatedAtMs: 0,
      }
      this.positions.set(market, position)
    }
    return position
  }

  /** Books an execution into cash and position. */
  settle(
    market: EngineMarket,
    side: BookSide,
    priceTicks: number,
    count: number,
    feeMicros: number,
    atMs: number,
  ): Position {
    const position = this.position(market)
    // Per smallest count: what this side's contract costs, and what it yields when it closes one of the other kind.
    const costTicks = side === 'bid' ? priceTicks : TICKS_PER_DOLLAR - priceTicks
    const closing = Math.min(count, Math.max(0, side === 'bid' ? -position.count : position.count))
    const opening = count - closing
    if (closing > 0) {
      const proceeds = (TICKS_PER_DOLLAR - costTicks) * closing
      const held = Math.abs(position.count)
      const released = closing === held ? position.costMicros : Math.round((position.costMicros * closing) / held)
      position.costMicros -= released
      position.realizedPnlMicros += proceeds - released
      this.balanceMicros += proceeds
    }
    position.costMicros += costTicks * opening
    this.balanceMicros -= costTicks * opening + feeMicros
    position.count += side === 'bid' ? count : -count
    position.tradedMicros += costTicks * count
    position.feesMicros += feeMicros
    position.volume += count
    position.updatedAtMs = atMs
    return position
  }

  /**
   * Cash that all resting orders, and `extra`, would cost if all of them filled, micro-dollars. Those that close a
   * position cost nothing: the best prices, since they fill first, and they are the dearest.
   */
  requiredMicros(extra?: Order): number {
    const bySide = new Map<EngineMarket, { bid: Order[]; ask: Order[] }>()
    const add = (order: Order) => {
      let orders = bySide.get(order.market)
      if (orders === undefined) {
        orders = { bid: [], ask: [] }
        bySide.set(order.market, orders)
      }
      orders[order.side].push(order)
    }
    for (const order of this.resting) add(order)
    if (extra) add(extra)
    let required = 0
    for (const [market, orders] of bySide) {
      const held = this.positions.get(market)?.count ?? 0
      required += openingCost(orders.bid, 'bid', Math.max(0, -held))
      required += openingCost(orders.ask, 'ask', Math.max(0, held))
    }
    return required
  }

  remember(order: Order): void {
    this.orders.set(order.id, order)
    if (order.status === 'resting') this.resting.add(order)
    else this.finish(order)
  }

  finish(order: Order): void {
    this.resting.delete(order)
    this.#finished.push(order.id)
    if (this.#finished.length < 2 * FINISHED_ORDERS_MAX) return
    for (const id of this.#finished.splice(0, FINISHED_ORDERS_MAX)) this.orders.delete(id)
  }

  addFill(fill: Fill): void {
    this.fillCount++
    this.fills.push(fill)
    if (this.fills.length >= 2 * FILLS_MAX) this.fills.splice(0, FILLS_MAX)
  }
}

function openingCost(orders: Order[], side: BookSide, closable: number): number {
  const costTicks = (order: Order) => (side === 'bid' ? order.priceTicks : TICKS_PER_DOLLAR - order.priceTicks)
  let relief = closable
  let cost = 0
  for (const order of orders.sort((a, b) => costTicks(b) - costTicks(a))) {
    const closing = Math.min(relief, order.remaining)
    relief -= closing
    cost += costTicks(order) * (order.remaining - closing)
  }
  return cost
}
