/**
 * One market's order book: two ladders of price levels, each a first-in-first-out queue of orders.
 *
 * Both sides are quoted on the YES leg, prices in ticks of $0.0001, counts in hundredths of a contract. Adding and
 * removing an order cost O(1); when a best level empties, the next one is searched tick by tick, at most 9998 steps.
 */
import type { BookSide, OrderStatus, SelfTradePrevention, TimeInForce } from '../kalshi/order.ts'
import type { Account } from './account.ts'
import type { EngineMarket } from './engine.ts'

/** Lowest and highest price of an order, ticks; a contract pays $1 or nothing. */
export const PRICE_MIN_TICKS = 1
export const PRICE_MAX_TICKS = 9_999

export interface Order {
  readonly id: string
  readonly account: Account
  readonly market: EngineMarket
  readonly side: BookSide
  /** Limit on the YES leg, ticks. */
  readonly priceTicks: number
  readonly initial: number
  readonly timeInForce: TimeInForce
  readonly selfTradePrevention: SelfTradePrevention
  readonly clientOrderId: string | undefined
  readonly expiresAtMs: number | undefined
  readonly cancelOnPause: boolean
  readonly createdAtMs: number
  updatedAtMs: number
  status: OrderStatus
  filled: number
  remaining: number
  takerCostMicros: number
  makerCostMicros: number
  takerFeesMicros: number
  makerFeesMicros: number
  /** Where it queues; undefined unless resting. */
  level: Level | undefined
  next: Order | undefined
  previous: Order | undefined
}

export interface Level {
  readonly priceTicks: number
  /** Sum of what its orders have left. */
  total: number
  head: Order | undefined
  tail: Order | undefined
}

export class Ladder {
  readonly side: BookSide
  readonly #levels: (Level | undefined)[] = new Array(PRICE_MAX_TICKS + 2)
  /** Price of the best level, 0 when the side is empty. */
  #best = 0

  constructor(side: BookSide) {
    this.side = side
  }

  get best(): Level | undefined {
    return this.#levels[this.#best]
  }

  at(priceTicks: number): Level | undefined {
    return this.#levels[priceTicks]
  }

  /** Whether an order of the other side with this limit would trade here. */
  crossedBy(limitTicks: number): boolean {
    if (this.#best === 0) return false
    return this.side === 'bid' ? limitTicks <= this.#best : limitTicks >= this.#best
  }

  /** Queues the order behind all others of its price. */
  push(order: Order): void {
    const priceTicks = order.priceTicks
    let level = this.#levels[priceTicks]
    if (level === undefined) {
      level = { priceTicks, total: 0, head: undefined, tail: undefined }
      this.#levels[priceTicks] = level
      const better = this.side === 'bid' ? priceTicks > this.#best : priceTicks < this.#best
      if (this.#best === 0 || better) this.#best = priceTicks
    }
    order.level = level
    order.previous = level.tail
    order.next = undefined
    if (level.tail) level.tail.next = order
    else level.head = order
    level.tail = order
    level.total += order.remaining
  }

  /** Takes `count` off an order here; one that has nothing left leaves the queue. */
  reduce(order: Order, count: number): void {
    const level = order.level as Level
    order.remaining -= count
    level.total -= count
    if (order.remaining === 0) this.#unlink(order, level)
  }

  /** Adds to what an order here has left, in its place of the queue: only for liquidity that nobody queues behind. */
  grow(order: Order, count: number): void {
    order.remaining += count
    ;(order.level as Level).total += count
  }

  #unlink(order: Order, level: Level): void {
    if (order.previous) order.previous.next = order.next
    else level.head = order.next
    if (order.next) order.next.previous = order.previous
    else level.tail = order.previous
    order.level = undefined
    order.next = undefined
    order.previous = undefined
    if (level.head === undefined) this.#drop(level)
  }

  #drop(level: Level): void {
    this.#levels[level.priceTicks] = undefined
    if (level.priceTicks !== this.#best) return
    const step = this.side === 'bid' ? -1 : 1
    let price = this.#best + step
    while (price >= PRICE_MIN_TICKS && price <= PRICE_MAX_TICKS && this.#levels[price] === undefined) price += step
    this.#best = price >= PRICE_MIN_TICKS && price <= PRICE_MAX_TICKS ? price : 0
  }

  /** Levels from the best one on. */
  *levels(): Generator<Level> {
    if (this.#best === 0) return
    const step = this.side === 'bid' ? -1 : 1
    for (let price = this.#best; price >= PRICE_MIN_TICKS && price <= PRICE_MAX_TICKS; price += step) {
      const level = this.#levels[price]
      if (level !== undefined) yield level
    }
  }
}

export class Book {
  readonly bids = new Ladder('bid')
  readonly asks = new Ladder('ask')

  ladder(side: BookSide): Ladder {
    return side === 'bid' ? this.bids : this.asks
  }

  opposite(side: BookSide): Ladder {
    return side === 'bid' ? this.asks : this.bids
  }
}
