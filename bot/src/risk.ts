/**
 * Limits between the strategy and the wire. Every order passes `check` or is not sent; nothing here allocates.
 *
 * Each limit is worst case: an order that may still trade counts as if it had, so no sequence of fills and late
 * cancels takes the position or the money at risk past its limit. Refusals are counted by reason.
 *
 * The kill switch latches: once engaged, for whatever reason, no order passes until the process is started again.
 */
import { TICKS_PER_DOLLAR } from '@tickscope/venue/kalshi'

export interface RiskLimits {
  /** Largest position of one market either way, all live orders of that side counted as filled. */
  readonly maxPositionHundredths: number
  /** Largest order. */
  readonly maxOrderHundredths: number
  /** Most dollars at risk over all markets: what positions cost plus what live orders would. */
  readonly maxNotionalDollars: number
  /** Orders a second, sustained, and at once. */
  readonly ordersPerSecond: number
  readonly orderBurst: number
  /** Orders that may be alive at a time, over all markets. */
  readonly maxLiveOrders: number
  /** Furthest an order's price may be from the mid. */
  readonly bandTicks: number
  /** Prices allowed at all. */
  readonly priceMinTicks: number
  readonly priceMaxTicks: number
}

export const RISK_REASONS = [
  'kill_switch',
  'halted',
  'book',
  'size',
  'price',
  'band',
  'position',
  'notional',
  'live_orders',
  'rate',
] as const
export type RiskReason = (typeof RISK_REASONS)[number]

/** Dollars in one price tick times one hundredth of a contract. */
const DOLLARS_PER_MICRO = 1e-6

/** What `check` looks at: the order, and the state of its market and of the account. Refilled for each check. */
export interface RiskQuery {
  nowMs: number
  side: 'bid' | 'ask'
  priceTicks: number
  sizeHundredths: number
  /** Whether the market's book is live and uncrossed, and its mid. */
  bookTradable: boolean
  midTicks: number
  positionHundredths: number
  liveBuyHundredths: number
  liveSellHundredths: number
  /** Money at risk already: positions at cost and live orders, in micro-dollars (ticks times hundredths). */
  atRiskMicros: number
  liveOrders: number
}

export function createQuery(): RiskQuery {
  return {
    nowMs: 0,
    side: 'bid',
    priceTicks: 0,
    sizeHundredths: 0,
    bookTradable: false,
    midTicks: 0,
    positionHundredths: 0,
    liveBuyHundredths: 0,
    liveSellHundredths: 0,
    atRiskMicros: 0,
    liveOrders: 0,
  }
}

/** What an order could lose: a buy its price, a sell one dollar less its price. */
export function exposureMicros(side: 'bid' | 'ask', priceTicks: number, sizeHundredths: number): number {
  return (side === 'bid' ? priceTicks : TICKS_PER_DOLLAR - priceTicks) * sizeHundredths
}

/** Token bucket: `perSecond` tokens a second, at most `burst` at once. Time is given, never read. */
export class TokenBucket {
  readonly perSecond: number
  readonly burst: number
  #tokens: number
  #atMs = Number.NaN

  constructor(perSecond: number, burst: number) {
    this.perSecond = perSecond
    this.burst = burst
    this.#tokens = burst
  }

  /** Takes one token if there is one. */
  take(nowMs: number): boolean {
    // A clock that steps back refills nothing.
    if (nowMs > this.#atMs) {
      this.#tokens = Math.min(this.burst, this.#tokens + ((nowMs - this.#atMs) / 1e3) * this.perSecond)
    }
    this.#atMs = nowMs
    if (this.#tokens < 1) return false
    this.#tokens -= 1
    return true
  }
}

export class Risk {
  readonly limits: RiskLimits
  /** Orders refused, by reason. */
  readonly refused = Object.fromEntries(RISK_REASONS.map((reason) => [reason, 0])) as Record<RiskReason, number>
  /** Why the kill switch is engaged; empty when it is not. */
  killedBy = ''
  /** No new orders before this instant, ms: the venue refused or did not answer. What rests stays. */
  #haltedUntilMs = Number.NEGATIVE_INFINITY
  /** Nothing may rest either before this instant, ms: the latency circuit breaker. */
  #withdrawnUntilMs = Number.NEGATIVE_INFINITY
  readonly #bucket: TokenBucket

  constructor(limits: RiskLimits) {
    this.limits = limits
    this.#bucket = new TokenBucket(limits.ordersPerSecond, limits.orderBurst)
  }

  kill(why: string): void {
    if (this.killedBy === '') this.killedBy = why
  }

  /** No new orders until an instant; a longer pause already set stays. */
  halt(untilMs: number): void {
    this.#haltedUntilMs = Math.max(this.#haltedUntilMs, untilMs)
  }

  /** No orders until an instant, and what rests is to be pulled. */
  withdraw(untilMs: number): void {
    this.#withdrawnUntilMs = Math.max(this.#withdrawnUntilMs, untilMs)
  }

  /** Whether anything of ours may rest at the venue. */
  mayRest(nowMs: number): boolean {
    return this.killedBy === '' && nowMs >= this.#withdrawnUntilMs
  }

  /** @returns whether the order may be sent; a pass takes a token of the order rate, so call it once an order, last */
  check(query: RiskQuery): boolean {
    const reason = this.#reasonAgainst(query)
    if (reason === undefined) return true
    this.refused[reason]++
    return false
  }

  #reasonAgainst(query: RiskQuery): RiskReason | undefined {
    const { limits } = this
    const { sizeHundredths, priceTicks, side } = query
    if (this.killedBy !== '') return 'kill_switch'
    if (query.nowMs < this.#haltedUntilMs || query.nowMs < this.#withdrawnUntilMs) return 'halted'
    if (!query.bookTradable) return 'book'
    // Negated comparisons refuse NaN too.
    if (!(sizeHundredths > 0 && sizeHundredths <= limits.maxOrderHundredths)) return 'size'
    if (!(priceTicks >= limits.priceMinTicks && priceTicks <= limits.priceMaxTicks)) return 'price'
    if (!(Math.abs(priceTicks - query.midTicks) <= limits.bandTicks)) return 'band'
    const reached =
      side === 'bid'
        ? query.positionHundredths + query.liveBuyHundredths + sizeHundredths
        : -query.positionHundredths + query.liveSellHundredths + sizeHundredths
    if (!(reached <= limits.maxPositionHundredths)) return 'position'
    // Closing a position frees money instead of binding it.
    const closing = reached <= 0
    if (!closing) {
      const dollars = (query.atRiskMicros + exposureMicros(side, priceTicks, sizeHundredths)) * DOLLARS_PER_MICRO
      if (!(dollars <= limits.maxNotionalDollars)) return 'notional'
    }
    if (!(query.liveOrders < limits.maxLiveOrders)) return 'live_orders'
    if (!this.#bucket.take(query.nowMs)) return 'rate'
    return undefined
  }
}
