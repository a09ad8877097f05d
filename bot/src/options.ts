/**
 * What a bot is given, and every default in one literal.
 *
 * Defaults are for a small account and the venue's standard markets (whole cents, quadratic fees): at most 200 contracts
 * a market, 20 orders a second, $2,000 at risk.
 */
import { EXIT, type Slos, UserError } from '@tickscope/contract'
import type { RiskLimits } from './risk.ts'
import type { EstimateParams } from './strategy/estimate.ts'
import type { MarketMakerParams } from './strategy/market-maker.ts'

export const DEFAULTS = {
  service: 'bot',
  /** Largest position of one market either way, contracts. */
  maxPosition: 200,
  /** Most dollars at risk over all markets. */
  maxNotionalDollars: 2_000,
  /** Creates a second, sustained; at once, the same number. Lowered to what the account's tier leaves room for. */
  orderRate: 20,
  /** Furthest an order's price may be from the mid, dollars. */
  priceBand: 0.1,
  /** No market data at all for this long: quotes are pulled until it flows again. */
  staleAfterMs: 5_000,
  strategy: {
    quoteSizeHundredths: 1_000,
    takeSizeHundredths: 1_000,
    skewTicks: 300,
    halfSpreadMinTicks: 30,
    volatilityMultiple: 0.25,
    requoteTicks: 5,
    quoteLifeMs: 100,
    quoteMaxLifeMs: 2_500,
    dangerTicks: 15,
    takeMarginTicks: 50,
    takeCooldownMs: 250,
    takerFeeRate: 0.07,
    makerFeeRate: 0,
    maxLivePerSide: 3,
  },
  estimate: {
    fairHalfLifeMs: 2_000,
    volatilityHalfLifeMs: 10_000,
    warmupUpdates: 10,
  },
  risk: {
    maxOrderHundredths: 2_000,
    maxLiveOrders: 64,
    priceMinTicks: 100,
    priceMaxTicks: 9_900,
  },
  /** Order connections kept warm. Each carries one call at a time, so this is how many may be in flight. */
  orderLanes: 8,
} as const satisfies {
  readonly strategy: Omit<MarketMakerParams, 'maxPositionHundredths' | 'priceMinTicks' | 'priceMaxTicks'>
  readonly estimate: EstimateParams
  readonly risk: Partial<RiskLimits>
  readonly [option: string]: unknown
}

export interface BotOptions {
  /** `prod`, `demo`, or an origin such as `http://127.0.0.1:8700`. */
  readonly venue: string
  readonly keyId: string
  /** PEM of the private key, and where it came from, for messages. */
  readonly privateKeyPem: string
  readonly keySource: string
  readonly collectorUrl: string
  readonly collectorToken?: string | undefined
  readonly service?: string | undefined
  /** Tells bots of one service apart; needed when two of them share a host or an account. */
  readonly instance?: string | undefined
  readonly slos?: Slos | undefined
  /** Markets to trade; all open ones by default. */
  readonly tickers?: readonly string[] | undefined
  readonly maxPosition?: number | undefined
  readonly maxNotionalDollars?: number | undefined
  readonly orderRate?: number | undefined
  readonly priceBand?: number | undefined
  readonly staleAfterMs?: number | undefined
  /** Latency circuit breaker: quotes are pulled for this long after a latency budget broke. Off by default. */
  readonly breakerMs?: number | undefined
  /** File the bot appends its orders and fills to; none by default. */
  readonly journalFile?: string | undefined
  /** Takes sentences for people; stderr by default. */
  readonly note?: ((message: string) => void) | undefined
}

/** Options with their defaults, checked. */
export interface Settings extends BotOptions {
  readonly service: string
  readonly staleAfterMs: number
  readonly breakerMs: number
  readonly strategy: MarketMakerParams
  readonly estimate: EstimateParams
  readonly risk: RiskLimits
}

/** Tokens a create costs at the venue, and a create with the cancel of what it replaces. */
const CREATE_TOKENS = 10
const REQUOTE_TOKENS = CREATE_TOKENS + 2
/** Share of the account's write budget the bot plans with; the rest is for cancels in a hurry. */
const BUDGET_SHARE = 0.8

/** @throws UserError `OPTION_INVALID` naming the flag, its limit and its value */
export function settle(options: BotOptions): Settings {
  const maxPosition = within('--max-position', options.maxPosition ?? DEFAULTS.maxPosition, 1, 1_000_000)
  const orderRate = within('--order-rate', options.orderRate ?? DEFAULTS.orderRate, 0.1, 1_000)
  const notional = within('--max-notional', options.maxNotionalDollars ?? DEFAULTS.maxNotionalDollars, 1, 1e9)
  const band = within('--price-band', options.priceBand ?? DEFAULTS.priceBand, 0.01, 1)
  const staleAfterMs = within('--stale-after', options.staleAfterMs ?? DEFAULTS.staleAfterMs, 100, 600_000)
  const maxPositionHundredths = Math.floor(maxPosition) * 100
  const { priceMinTicks, priceMaxTicks } = DEFAULTS.risk
  return {
    ...options,
    service: options.service ?? DEFAULTS.service,
    staleAfterMs,
    breakerMs: options.breakerMs ?? 0,
    strategy: { ...DEFAULTS.strategy, maxPositionHundredths, priceMinTicks, priceMaxTicks },
    estimate: DEFAULTS.estimate,
    risk: {
      ...DEFAULTS.risk,
      maxPositionHundredths,
      maxNotionalDollars: notional,
      ordersPerSecond: orderRate,
      orderBurst: Math.max(1, Math.ceil(orderRate)),
      bandTicks: Math.round(band * 10_000),
    },
  }
}

/** Share of the order rate that renewing quotes may use. */
const RENEWAL_SHARE = 0.5

/** Age at which quotes are renewed: longer for many markets, whose renewals would use up the order rate. */
export function quoteMaxLifeMs(marketCount: number, ordersPerSecond: number): number {
  const quotes = 2 * marketCount
  return Math.max(DEFAULTS.strategy.quoteMaxLifeMs, (quotes / (ordersPerSecond * RENEWAL_SHARE)) * 1_000)
}

/** The order rate within what the account may write: the venue refuses the rest, and refusals cost time. */
export function withinBudget(limits: RiskLimits, refillPerSecond: number, capacity: number): RiskLimits {
  const ordersPerSecond = Math.min(limits.ordersPerSecond, (refillPerSecond * BUDGET_SHARE) / REQUOTE_TOKENS)
  const orderBurst = Math.max(1, Math.min(limits.orderBurst, Math.floor((capacity * BUDGET_SHARE) / REQUOTE_TOKENS)))
  return { ...limits, ordersPerSecond, orderBurst }
}

function within(flag: string, value: number, min: number, max: number): number {
  if (value >= min && value <= max) return value
  throw new UserError('OPTION_INVALID', `${flag} is ${value}, not a number from ${min} to ${max}`, EXIT.usage)
}
