/**
 * The matching engine: price-time priority on integer ticks and hundredths of contracts. Pure and deterministic: no
 * clock, no I/O, no randomness but the ids it is given; the same calls give the same events.
 *
 * Every order is a bid or an ask on the YES leg. A taker trades at the makers' prices, best first, oldest first within
 * a price. Events are told to the sink in the order they happen: for each execution the level it shrinks, the trade,
 * the fills, the maker's order; then what is left of the taker, and the taker's order.
 *
 * `addExternal` and its siblings hold depth that comes from a recording: it trades with members' orders and never with
 * itself, since what happened between others is already in the recording.
 */
import { TICKS_PER_DOLLAR } from '../kalshi/decimal.ts'
import { isOnGrid, type PriceRange } from '../kalshi/market.ts'
import type { BookSide, SelfTradePrevention, TimeInForce } from '../kalshi/order.ts'
import { Account } from './account.ts'
import { Book, type Ladder, type Level, type Order } from './book.ts'
import { type FeeType, makerFeeMicros, takerFeeBoundMicros, takerFeeMicros } from './fee.ts'

/** Largest order, hundredths: a million contracts. Keeps every amount far inside 2^53. */
export const COUNT_MAX = 100_000_000

export interface MarketSpec {
  readonly ticker: string
  readonly marketId: string
  readonly eventTicker: string
  readonly seriesTicker: string
  readonly title: string
  readonly priceLevelStructure: string
  readonly priceRanges: readonly PriceRange[]
  readonly feeType: FeeType
  /** Shard of the exchange. */
  readonly exchangeIndex: number
  readonly openAtMs: number
  readonly closeAtMs: number
}

export interface EngineMarket {
  readonly spec: MarketSpec
  readonly book: Book
  status: 'active' | 'closed'
  lastPriceTicks: number
  lastCount: number
  volume: number
  /** Dollars that changed hands, micro-dollars. */
  turnoverMicros: number
  openInterest: number
  updatedAtMs: number
}

export interface Trade {
  readonly id: string
  readonly market: EngineMarket
  readonly priceTicks: number
  readonly count: number
  readonly takerSide: BookSide
  readonly atMs: number
  readonly maker: Order
  readonly taker: Order
}

export interface Fill {
  readonly trade: Trade
  readonly order: Order
  readonly isTaker: boolean
  readonly feeMicros: number
  /** Position after it, hundredths. */
  readonly position: number
}

/** The venue's words for why an order changed. */
export type UpdateReason =
  | 'Trade'
  | 'SelfTradeCancel'
  | 'ExpiryCancel'
  | 'CloseCancel'
  | 'ReduceOnlyCancel'
  | 'UserCancel'

export interface EngineSink {
  /** Depth at a price changed by `delta`; `cause` is the order whose arrival or cancel did it. */
  level(market: EngineMarket, side: BookSide, priceTicks: number, delta: number, atMs: number, cause?: Order): void
  trade(trade: Trade): void
  /** Of members only, as are orders. */
  fill(fill: Fill): void
  order(order: Order, reason?: UpdateReason): void
}

export interface OrderRequest {
  readonly ticker: string
  readonly side: BookSide
  readonly count: number
  readonly priceTicks: number
  readonly timeInForce: TimeInForce
  readonly selfTradePrevention: SelfTradePrevention
  readonly clientOrderId?: string | undefined
  readonly expiresAtMs?: number | undefined
  readonly postOnly?: boolean | undefined
  readonly reduceOnly?: boolean | undefined
  readonly cancelOnPause?: boolean | undefined
  /** Shard named by the member; undefined routes by ticker. */
  readonly exchangeIndex?: number | undefined
}

export type RefusalCode =
  | 'market_not_found'
  | 'market_inactive'
  | 'order_already_exists'
  | 'invalid_price'
  | 'invalid_order'
  | 'insufficient_balance'
  | 'fill_or_kill_insufficient_resting_volume'
  | 'not_found'

/** The engine's no, in the venue's words. Nothing has changed. */
export class Refusal extends Error {
  readonly code: RefusalCode
  readonly details: string | undefined

  constructor(code: RefusalCode, details?: string) {
    super(details ?? code)
    this.code = code
    this.details = details
  }
}

export interface EngineOptions {
  readonly sink: EngineSink
  /** Names orders and trades. */
  readonly newId: () => string
}

export class Engine {
  readonly markets = new Map<string, EngineMarket>()
  readonly #sink: EngineSink
  readonly #newId: () => string
  readonly #external: Account
  /** Resting orders that expire, soonest first. */
  #expiring: Order[] = []
  /** Length of `#expiring` at which those no longer resting are swept out. */
  #expiringSweepAt = 1024

  constructor(options: EngineOptions) {
    this.#sink = options.sink
    this.#newId = options.newId
    this.#external = new Account({ id: '', userId: '', balanceMicros: 0, house: true })
  }

  addMarket(spec: MarketSpec): EngineMarket {
    const market: EngineMarket = {
      spec,
      book: new Book(),
      status: 'active',
      lastPriceTicks: 0,
      lastCount: 0,
      volume: 0,
      turnoverMicros: 0,
      openInterest: 0,
      updatedAtMs: spec.openAtMs,
    }
    this.markets.set(spec.ticker, market)
    return market
  }

  /**
   * Takes an order to its end: matched, then resting or cancelled.
   *
   * @throws Refusal
   */
  create(account: Account, request: OrderRequest, nowMs: number): Order {
    this.expire(nowMs)
    const market = this.markets.get(request.ticker)
    if (!market || (request.exchangeIndex ?? market.spec.exchangeIndex) !== market.spec.exchangeIndex)
      throw new Refusal('market_not_found')
    if (market.status !== 'active') throw new Refusal('market_inactive')
    const { side, priceTicks, count, timeInForce, clientOrderId } = request
    if (clientOrderId !== undefined && account.clientOrderIds.has(clientOrderId))
      throw new Refusal('order_already_exists')
    if (!isOnGrid(market.spec.priceRanges, priceTicks)) throw new Refusal('invalid_price')
    if (!(Number.isInteger(count) && count >= 1 && count <= COUNT_MAX)) throw new Refusal('invalid_order', 'count')
    if (request.reduceOnly && timeInForce !== 'immediate_or_cancel')
      throw new Refusal('invalid_order', 'reduce only needs immediate_or_cancel')
    if (request.postOnly && timeInForce !== 'good_till_canceled')
      throw new Refusal('invalid_order', 'post only needs good_till_canceled')
    const expiresAtMs = request.expiresAtMs
    if (expiresAtMs !== undefined && timeInForce !== 'good_till_canceled')
      throw new Refusal('invalid_order', 'expiration needs good_till_canceled')
    const crosses = market.book.opposite(side).crossedBy(priceTicks)
    if (request.postOnly && crosses) throw new Refusal('invalid_order', 'post only cross')

    const wanted = request.reduceOnly ? Math.min(count, reducible(account, market, side)) : count
    const order = newOrder({
      id: this.#newId(),
      account,
      market,
      side,
      priceTicks,
      initial: count,
      remaining: wanted,
      timeInForce,
      selfTradePrevention: request.selfTradePrevention,
      clientOrderId,
      // A time already past makes the order immediate.
      expiresAtMs,
      cancelOnPause: request.cancelOnPause ?? false,
      createdAtMs: nowMs,
    })
    if (!account.house && order.remaining > 0) {
      const feeMicros = crosses ? takerFeeBoundMicros(side, priceTicks, order.remaining) : 0
      if (account.requiredMicros(order) + feeMicros > account.balanceMicros) throw new Refusal('insufficient_balance')
    }
    if (timeInForce === 'fill_or_kill' && this.#fillable(order) < order.remaining)
      throw new Refusal('fill_or_kill_insufficient_resting_volume')

    if (clientOrderId !== undefined) account.clientOrderIds.add(clientOrderId)
    const stopped = this.#match(order, nowMs)
    const expired = expiresAtMs !== undefined && expiresAtMs <= nowMs
    let reason: UpdateReason | undefined = order.filled > 0 ? 'Trade' : undefined
    if (order.filled === count) order.status = 'executed'
    else if (order.remaining > 0 && !stopped && !expired && timeInForce === 'good_till_canceled')
      this.#rest(order, nowMs)
    else {
      if (stopped) reason = 'SelfTradeCancel'
      else if (expired) reason = 'ExpiryCancel'
      else if (wanted < count) reason = 'ReduceOnlyCancel'
      order.status = 'canceled'
      order.remaining = 0
    }
    if (!account.house) {
      account.remember(order)
      this.#sink.order(order, reason)
    }
    return order
  }

  /**
   * @returns what the cancel took off the book, hundredths
   * @throws Refusal `not_found` for any order that is not resting, whatever became of it
   */
  cancel(account: Account, orderId: string, nowMs: number): { order: Order; reducedBy: number } {
    this.expire(nowMs)
    const order = account.orders.get(orderId)
    if (order === undefined) throw new Refusal('not_found')
    if (order.market.status !== 'active') throw new Refusal('market_inactive')
    if (order.status !== 'resting') throw new Refusal('not_found')
    return { order, reducedBy: this.#cancel(order, nowMs, 'UserCancel') }
  }

  /** @returns how many orders it cancelled */
  cancelAll(account: Account, nowMs: number): number {
    this.expire(nowMs)
    const orders = [...account.resting]
    for (const order of orders) this.#cancel(order, nowMs, 'UserCancel')
    return orders.length
  }

  /** For the exchange's own liquidity, whose orders are not remembered by id. */
  cancelHouse(order: Order, nowMs: number): void {
    if (order.status === 'resting') this.#cancel(order, nowMs, 'UserCancel')
  }

  /** Cancels what has expired by now. */
  expire(nowMs: number): void {
    for (;;) {
      const first = this.#expiring[0]
      if (first === undefined || (first.expiresAtMs as number) > nowMs) return
      this.#expiring.shift()
      if (first.status === 'resting') this.#cancel(first, nowMs, 'ExpiryCancel')
    }
  }

  /** When the next order expires, epoch ms; undefined when none does. */
  get nextExpiryAtMs(): number | undefined {
    return this.#expiring[0]?.expiresAtMs
  }

  /** Ends trading for good: every order leaves the book. */
  close(market: EngineMarket, nowMs: number): void {
    for (const ladder of [market.book.bids, market.book.asks]) {
      for (const order of [...ordersOf(ladder)]) this.#cancel(order, nowMs, 'CloseCancel')
    }
    market.status = 'closed'
    market.updatedAtMs = nowMs
  }

  /**
   * Depth of others arrives: fills members' orders that it crosses, the rest joins the queue.
   *
   * @returns what joined the book, hundredths
   */
  addExternal(market: EngineMarket, side: BookSide, priceTicks: number, count: number, nowMs: number): number {
    this.expire(nowMs)
    const taker = this.#externalOrder(market, side, priceTicks, count, nowMs)
    const opposite = market.book.opposite(side)
    while (taker.remaining > 0) {
      const maker = firstMember(opposite, priceTicks)
      if (maker === undefined) break
      this.#execute(opposite, maker, taker, Math.min(maker.remaining, taker.remaining), nowMs)
    }
    const rested = taker.remaining
    if (rested === 0) return 0
    this.#queueExternal(taker)
    this.#sink.level(market, side, priceTicks, rested, nowMs)
    return rested
  }

  /**
   * Depth of others leaves, the last to have queued first.
   *
   * @returns what left, at most what was there
   */
  removeExternal(market: EngineMarket, side: BookSide, priceTicks: number, count: number, nowMs: number): number {
    this.expire(nowMs)
    const ladder = market.book.ladder(side)
    let left = count
    let order = ladder.at(priceTicks)?.tail
    while (order !== undefined && left > 0) {
      const previous: Order | undefined = order.previous
      if (order.account === this.#external) {
        const taken = Math.min(order.remaining, left)
        left -= taken
        ladder.reduce(order, taken)
      }
      order = previous
    }
    if (count > left) this.#sink.level(market, side, priceTicks, left - count, nowMs)
    return count - left
  }

  /** All depth of others leaves, before a snapshot puts it back. */
  clearExternal(market: EngineMarket, nowMs: number): void {
    for (const ladder of [market.book.bids, market.book.asks]) {
      for (const { priceTicks, total } of [...ladder.levels()])
        this.removeExternal(market, ladder.side, priceTicks, total, nowMs)
    }
  }

  /**
   * Others traded here: what of `count` reaches members' orders on `makerSide` at this price or better fills them. The
   * depth queued before them moves behind them instead of leaving: the recording takes it away itself.
   *
   * @param restingSinceMs orders younger than this were not there yet when the trade happened
   * @returns what members filled, hundredths
   */
  tradeExternal(
    market: EngineMarket,
    makerSide: BookSide,
    priceTicks: number,
    count: number,
    nowMs: number,
    restingSinceMs = nowMs,
  ): number {
    this.expire(nowMs)
    const ladder = market.book.ladder(makerSide)
    const taker = this.#externalOrder(market, makerSide === 'bid' ? 'ask' : 'bid', priceTicks, count, nowMs)
    for (const level of [...ladder.levels()]) {
      if (!reaches(ladder, level.priceTicks, priceTicks)) break
      // A better price traded through belongs to members in full; at the price itself they wait their turn.
      const queues = level.priceTicks === priceTicks
      let order = level.head
      let passed = 0
      while (order !== undefined && taker.remaining > 0) {
        const next: Order | undefined = order.next
        if (order.account !== this.#external) {
          if (order.createdAtMs <= restingSinceMs)
            this.#execute(ladder, order, taker, Math.min(order.remaining, taker.remaining), nowMs)
        } else if (queues) {
          const ahead = Math.min(order.remaining, taker.remaining)
          taker.remaining -= ahead
          passed += ahead
          ladder.reduce(order, ahead)
        }
        order = next
      }
      if (passed > 0) this.#queueExternal(this.#externalOrder(market, makerSide, priceTicks, passed, nowMs))
    }
    return taker.filled
  }

  #match(taker: Order, nowMs: number): boolean {
    const opposite = taker.market.book.opposite(taker.side)
    while (taker.remaining > 0 && opposite.crossedBy(taker.priceTicks)) {
      const maker = (opposite.best as Level).head as Order
      if (maker.account === taker.account) {
        if (taker.selfTradePrevention === 'taker_at_cross') return true
        this.#cancel(maker, nowMs, 'SelfTradeCancel')
        continue
      }
      this.#execute(opposite, maker, taker, Math.min(maker.remaining, taker.remaining), nowMs)
    }
    return false
  }

  /** How much of a fill-or-kill order could trade at once. */
  #fillable(taker: Order): number {
    const opposite = taker.market.book.opposite(taker.side)
    let fillable = 0
    for (const level of opposite.levels()) {
      if (!reaches(opposite, level.priceTicks, taker.priceTicks)) break
      for (let order = level.head; order !== undefined; order = order.next) {
        if (order.account !== taker.account) fillable += order.remaining
        else if (taker.selfTradePrevention === 'taker_at_cross') return fillable
        if (fillable >= taker.remaining) return fillable
      }
    }
    return fillable
  }

  #execute(ladder: Ladder, maker: Order, taker: Order, count: number, nowMs: number): void {
    const { market, priceTicks } = maker
    const cause = taker.account.house ? undefined : taker
    ladder.reduce(maker, count)
    taker.remaining -= count
    maker.filled += count
    taker.filled += count
    maker.updatedAtMs = nowMs
    taker.updatedAtMs = nowMs
    if (maker.remaining === 0) {
      maker.status = 'executed'
      if (!maker.account.house) maker.account.finish(maker)
    }
    this.#sink.level(market, maker.side, priceTicks, -count, nowMs, cause)

    const trade: Trade = {
      id: this.#newId(),
      market,
      priceTicks,
      count,
      takerSide: taker.side,
      atMs: nowMs,
      maker,
      taker,
    }
    market.lastPriceTicks = priceTicks
    market.lastCount = count
    market.volume += count
    market.turnoverMicros += priceTicks * count
    market.updatedAtMs = nowMs
    const makerFee = makerFeeMicros(market.spec.feeType, priceTicks, count)
    const takerFee = takerFeeMicros(priceTicks, count)
    const costOf = (order: Order) => (order.side === 'bid' ? priceTicks : TICKS_PER_DOLLAR - priceTicks) * count
    maker.makerCostMicros += costOf(maker)
    maker.makerFeesMicros += makerFee
    taker.takerCostMicros += costOf(taker)
    taker.takerFeesMicros += takerFee
    const makerPosition = this.#settle(maker, priceTicks, count, makerFee, nowMs)
    const takerPosition = this.#settle(taker, priceTicks, count, takerFee, nowMs)

    this.#sink.trade(trade)
    this.#fill({ trade, order: maker, isTaker: false, feeMicros: makerFee, position: makerPosition })
    this.#fill({ trade, order: taker, isTaker: true, feeMicros: takerFee, position: takerPosition })
    if (!maker.account.house) this.#sink.order(maker, 'Trade')
  }

  /** @returns the position after it, hundredths */
  #settle(order: Order, priceTicks: number, count: number, feeMicros: number, nowMs: number): number {
    const before = Math.max(0, order.account.positions.get(order.market)?.count ?? 0)
    const position = order.account.settle(order.market, order.side, priceTicks, count, feeMicros, nowMs)
    order.market.openInterest += Math.max(0, position.count) - before
    return position.count
  }

  #fill(fill: Fill): void {
    const { account } = fill.order
    if (account.house) return
    account.addFill(fill)
    this.#sink.fill(fill)
  }

  #rest(order: Order, nowMs: number): void {
    order.market.book.ladder(order.side).push(order)
    order.market.updatedAtMs = nowMs
    const expiresAtMs = order.expiresAtMs
    if (expiresAtMs !== undefined) {
      if (this.#expiring.length >= this.#expiringSweepAt) {
        this.#expiring = this.#expiring.filter(({ status }) => status === 'resting')
        this.#expiringSweepAt = Math.max(1024, 2 * this.#expiring.length)
      }
      let index = this.#expiring.length
      while (index > 0 && (this.#expiring[index - 1]?.expiresAtMs as number) > expiresAtMs) index--
      this.#expiring.splice(index, 0, order)
    }
    const cause = order.account.house ? undefined : order
    this.#sink.level(order.market, order.side, order.priceTicks, order.remaining, nowMs, cause)
  }

  #cancel(order: Order, nowMs: number, reason: UpdateReason): number {
    const { market, side, priceTicks, remaining } = order
    market.book.ladder(side).reduce(order, remaining)
    order.status = 'canceled'
    order.updatedAtMs = nowMs
    market.updatedAtMs = nowMs
    const { house } = order.account
    if (!house) order.account.finish(order)
    this.#sink.level(market, side, priceTicks, -remaining, nowMs, house ? undefined : order)
    if (!house) this.#sink.order(order, reason === 'UserCancel' ? undefined : reason)
    return remaining
  }

  /** Behind everybody; one queue entry stands for all of others' depth in a row. */
  #queueExternal(order: Order): void {
    const ladder = order.market.book.ladder(order.side)
    const tail = ladder.at(order.priceTicks)?.tail
    if (tail?.account === this.#external) ladder.grow(tail, order.remaining)
    else ladder.push(order)
  }

  #externalOrder(market: EngineMarket, side: BookSide, priceTicks: number, count: number, nowMs: number): Order {
    return newOrder({
      id: '',
      account: this.#external,
      market,
      side,
      priceTicks,
      initial: count,
      remaining: count,
      timeInForce: 'good_till_canceled',
      selfTradePrevention: 'taker_at_cross',
      clientOrderId: undefined,
      expiresAtMs: undefined,
      cancelOnPause: false,
      createdAtMs: nowMs,
    })
  }
}

/** What an order is given; the rest comes as it trades. */
type OrderTerms = Pick<
  Order,
  | 'id'
  | 'account'
  | 'market'
  | 'side'
  | 'priceTicks'
  | 'initial'
  | 'remaining'
  | 'timeInForce'
  | 'selfTradePrevention'
  | 'clientOrderId'
  | 'expiresAtMs'
  | 'cancelOnPause'
  | 'createdAtMs'
>

function newOrder(terms: OrderTerms): Order {
  return {
    ...terms,
    updatedAtMs: terms.createdAtMs,
    status: 'resting',
    filled: 0,
    takerCostMicros: 0,
    makerCostMicros: 0,
    takerFeesMicros: 0,
    makerFeesMicros: 0,
    level: undefined,
    next: undefined,
    previous: undefined,
  }
}

function reducible(account: Account, market: EngineMarket, side: BookSide): number {
  const held = account.positions.get(market)?.count ?? 0
  return Math.max(0, side === 'bid' ? -held : held)
}

/** Whether a level of this ladder trades with an order of the other side limited at `limitTicks`. */
function reaches(ladder: Ladder, levelTicks: number, limitTicks: number): boolean {
  return ladder.side === 'bid' ? levelTicks >= limitTicks : levelTicks <= limitTicks
}

function firstMember(ladder: Ladder, limitTicks: number): Order | undefined {
  for (const level of ladder.levels()) {
    if (!reaches(ladder, level.priceTicks, limitTicks)) return undefined
    for (let order = level.head; order !== undefined; order = order.next) if (!order.account.house) return order
  }
  return undefined
}

function* ordersOf(ladder: Ladder): Generator<Order> {
  for (const level of ladder.levels()) {
    for (let order = level.head; order !== undefined; order = order.next) yield order
  }
}
