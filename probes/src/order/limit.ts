/**
 * What the order probe may do: whose money, how much of it, how far from the market, and the file that stops it.
 *
 * A quote is one cent for one contract, as a bid for YES or, where YES is too cheap for that, as a bid for NO (an ask for
 * YES at 99 cents); never within `bandTicks` of the best bid on its side. So if the worst came, and the market ran
 * through the band before the cancel, the cost is a cent a contract.
 */
import { existsSync } from 'node:fs'
import { UserError } from '@tickscope/contract'
import type { BookDelta, BookSide, BookSnapshot } from '@tickscope/venue/kalshi'
import type { Access } from '../access.ts'

/** Price of a quote on its own side: the lowest on every market's grid. */
const QUOTE_TICKS = 100
const DOLLAR_TICKS = 10_000

export interface LiveOptions {
  readonly live: boolean
  readonly yesITradeRealMoney: boolean
  readonly ticker?: string
  readonly maxOrders?: number
  /** Dollars. */
  readonly maxNotional?: number
  readonly killFile?: string
}

/** @throws UserError `CONSENT_MISSING` naming what is missing to trade real money */
export function checkConsent(money: Access['money'], origin: string, options: LiveOptions): void {
  if (money !== 'live') return
  const given: { readonly [flag: string]: unknown } = {
    '--live': options.live || undefined,
    '--yes-i-trade-real-money': options.yesITradeRealMoney || undefined,
    '--ticker': options.ticker,
    '--max-orders': options.maxOrders,
    '--max-notional': options.maxNotional,
    '--kill-file': options.killFile,
  }
  const missing = Object.keys(given).filter((flag) => given[flag] === undefined)
  if (missing.length > 0)
    throw new UserError('CONSENT_MISSING', `orders at ${origin} are real money: ${missing.join(', ')} missing`)
}

/** @throws UserError `KILL_SWITCH` when the file is there */
export function checkKillFile(killFile: string | undefined): void {
  if (isKilled(killFile))
    throw new UserError('KILL_SWITCH', `the kill switch file ${killFile} exists: no order is sent`)
}

export function isKilled(killFile: string | undefined): boolean {
  return killFile !== undefined && existsSync(killFile)
}

export interface Quote {
  readonly side: BookSide
  /** Of the YES leg. */
  readonly priceTicks: number
}

/** What one contract of a quote costs if it is filled, dollars. */
export const QUOTE_COST_DOLLARS = QUOTE_TICKS / DOLLAR_TICKS

/** Both sides of one market as bids at their own prices, from the feed. */
export class Levels {
  readonly #yes = new Map<number, number>()
  readonly #no = new Map<number, number>()
  /** Whether it is complete: from a snapshot until something was lost. */
  isWhole = false

  reset({ yes, no }: Pick<BookSnapshot, 'yes' | 'no'>): void {
    this.#yes.clear()
    this.#no.clear()
    for (const { priceTicks, countHundredths } of yes) this.#yes.set(priceTicks, countHundredths)
    for (const { priceTicks, countHundredths } of no) this.#no.set(priceTicks, countHundredths)
    this.isWhole = true
  }

  apply({ side, priceTicks, deltaHundredths }: Pick<BookDelta, 'side' | 'priceTicks' | 'deltaHundredths'>): void {
    const levels = side === 'yes' ? this.#yes : this.#no
    const count = (levels.get(priceTicks) ?? 0) + deltaHundredths
    if (count > 0) levels.set(priceTicks, count)
    else levels.delete(priceTicks)
  }

  /** @returns a quote at least `bandTicks` below the best bid of its side; undefined when the market has no such price */
  quote(bandTicks: number): Quote | undefined {
    if (!this.isWhole) return undefined
    if (Math.max(0, ...this.#yes.keys()) >= QUOTE_TICKS + bandTicks) return { side: 'bid', priceTicks: QUOTE_TICKS }
    if (Math.max(0, ...this.#no.keys()) >= QUOTE_TICKS + bandTicks)
      return { side: 'ask', priceTicks: DOLLAR_TICKS - QUOTE_TICKS }
    return undefined
  }
}
