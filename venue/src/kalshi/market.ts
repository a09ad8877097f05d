/** Markets, REST books, exchange status, balance and account limits: types and parsers of the public and account reads. */
import { parseCount, parseDollars, parseMicros } from './decimal.ts'
import { WireError } from './error.ts'
import { asArray, asBoolean, asInteger, asObject, asString, optional } from './json.ts'
import { type BookLevel, parseLevels } from './message.ts'

/** Prices from `startTicks` to `endTicks` must be whole multiples of `stepTicks`. */
export interface PriceRange {
  readonly startTicks: number
  readonly endTicks: number
  readonly stepTicks: number
}

export interface Market {
  readonly ticker: string
  readonly eventTicker?: string | undefined
  readonly title?: string | undefined
  /** initialized, inactive, active, closed, determined, disputed, amended, finalized; open set. */
  readonly status: string
  /** The price grid; empty when the venue gave none: whole cents are valid everywhere. */
  readonly priceRanges: readonly PriceRange[]
  readonly priceLevelStructure?: string | undefined
  readonly yesBidTicks?: number | undefined
  readonly yesAskTicks?: number | undefined
  readonly lastPriceTicks?: number | undefined
  readonly volumeHundredths?: number | undefined
  /** RFC 3339. */
  readonly openTime?: string | undefined
  readonly closeTime?: string | undefined
  /** Shard. */
  readonly exchangeIndex?: number | undefined
}

/** @throws WireError naming the field */
export function parseMarket(value: unknown): Market {
  const o = asObject(value, 'market')
  return {
    ticker: asString(o.ticker, 'ticker'),
    eventTicker: optional(o.event_ticker, 'event_ticker', asString),
    title: optional(o.title, 'title', asString),
    status: asString(o.status, 'status'),
    priceRanges: asArray(o.price_ranges ?? [], 'price_ranges').map(parsePriceRange),
    priceLevelStructure: optional(o.price_level_structure, 'price_level_structure', asString),
    yesBidTicks: optional(o.yes_bid_dollars, 'yes_bid_dollars', parseDollars),
    yesAskTicks: optional(o.yes_ask_dollars, 'yes_ask_dollars', parseDollars),
    lastPriceTicks: optional(o.last_price_dollars, 'last_price_dollars', parseDollars),
    volumeHundredths: optional(o.volume_fp, 'volume_fp', parseCount),
    openTime: optional(o.open_time, 'open_time', asString),
    closeTime: optional(o.close_time, 'close_time', asString),
    exchangeIndex: optional(o.exchange_index, 'exchange_index', asInteger),
  }
}

function parsePriceRange(value: unknown): PriceRange {
  const o = asObject(value, 'price_ranges')
  const range = {
    startTicks: parseDollars(o.start, 'price_ranges.start'),
    endTicks: parseDollars(o.end, 'price_ranges.end'),
    stepTicks: parseDollars(o.step, 'price_ranges.step'),
  }
  if (range.stepTicks <= 0 || range.endTicks < range.startTicks) throw new WireError('price_ranges has an empty range')
  return range
}

/** A cent: the grid of markets that name none. */
const CENT_TICKS = 100

/** Whether `priceTicks` may be quoted: strictly between $0 and $1, and on the market's grid. */
export function isOnGrid(ranges: readonly PriceRange[], priceTicks: number): boolean {
  if (!Number.isSafeInteger(priceTicks) || priceTicks <= 0 || priceTicks >= 10_000) return false
  if (priceTicks % CENT_TICKS === 0) return true
  return ranges.some(
    (range) =>
      priceTicks >= range.startTicks &&
      priceTicks <= range.endTicks &&
      (priceTicks - range.startTicks) % range.stepTicks === 0,
  )
}

/** Bids only, on both sides, ascending as on the wire; `no` at NO prices: YES ask = 1 − best NO bid. */
export interface RestBook {
  readonly yes: readonly BookLevel[]
  readonly no: readonly BookLevel[]
}

/** @throws WireError naming the field */
export function parseRestBook(body: unknown): RestBook {
  const o = asObject(asObject(body, 'orderbook').orderbook_fp, 'orderbook_fp')
  return { yes: parseLevels(o.yes_dollars, 'yes_dollars'), no: parseLevels(o.no_dollars, 'no_dollars') }
}

export interface ExchangeStatus {
  readonly exchangeActive: boolean
  readonly tradingActive: boolean
  /** RFC 3339. */
  readonly estimatedResumeTime?: string | undefined
}

/** @throws WireError naming the field */
export function parseExchangeStatus(body: unknown): ExchangeStatus {
  const o = asObject(body, 'exchange status')
  return {
    exchangeActive: asBoolean(o.exchange_active, 'exchange_active'),
    tradingActive: asBoolean(o.trading_active, 'trading_active'),
    estimatedResumeTime: optional(o.exchange_estimated_resume_time, 'exchange_estimated_resume_time', asString),
  }
}

export interface Balance {
  /** Integer cents, truncated. */
  readonly balanceCents: number
  /** The same, exact, when the venue gives it. */
  readonly balanceMicros?: number | undefined
  readonly portfolioValueCents?: number | undefined
}

/** @throws WireError naming the field */
export function parseBalance(body: unknown): Balance {
  const o = asObject(body, 'balance')
  return {
    balanceCents: asInteger(o.balance, 'balance'),
    balanceMicros: optional(o.balance_dollars, 'balance_dollars', parseMicros),
    portfolioValueCents: optional(o.portfolio_value, 'portfolio_value', asInteger),
  }
}

/** A token bucket; a call costs 10 tokens unless the venue says otherwise. */
export interface TokenBucket {
  readonly refillPerSecond: number
  readonly capacity: number
}

export interface AccountLimits {
  readonly usageTier: string
  readonly read: TokenBucket
  readonly write: TokenBucket
}

/** @throws WireError naming the field */
export function parseAccountLimits(body: unknown): AccountLimits {
  const o = asObject(body, 'account limits')
  return {
    usageTier: asString(o.usage_tier, 'usage_tier'),
    read: parseBucket(o.read, 'read'),
    write: parseBucket(o.write, 'write'),
  }
}

function parseBucket(value: unknown, what: string): TokenBucket {
  const o = asObject(value, what)
  return {
    refillPerSecond: asInteger(o.refill_rate, `${what}.refill_rate`),
    capacity: asInteger(o.bucket_capacity, `${what}.bucket_capacity`),
  }
}
