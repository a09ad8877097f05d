/**
 * What a bot must know of its venue and its account before it trades: the markets, what is held, what may be written.
 * A venue that cannot be reached and a key that is refused show here, before anything is started.
 */
import { createHash } from 'node:crypto'
import { EXIT, UserError } from '@tickscope/contract'
import { collectPages, type Market, type Page, type Rest } from '@tickscope/venue/kalshi'
import { type Settings, withinBudget } from './options.ts'
import { Positions } from './positions.ts'
import type { RiskLimits } from './risk.ts'

/** Fills of the last minute are known to be in the positions read at start. */
const RECENT_FILLS_MS = 60_000

/** Rows asked for at a time: the most the venue gives. */
const PAGE_ROWS = 1_000

/** Reads a list to its end. */
export function readAll<T>(read: (page: { limit: number; cursor?: string }) => Promise<Page<T>>): Promise<T[]> {
  return collectPages((cursor) => read(cursor === undefined ? { limit: PAGE_ROWS } : { limit: PAGE_ROWS, cursor }))
}

/** Client ids of this service start alike, so that a run can clean up after one that was killed. */
export function idPrefix(settings: Settings): string {
  const name = `${settings.service}:${settings.instance ?? ''}`
  return `tsb-${createHash('sha256').update(name).digest('hex').slice(0, 8)}-`
}

export async function readMarkets(rest: Rest, settings: Settings): Promise<Market[]> {
  const open = await readAll((page) => rest.markets({ status: 'open', ...page }))
  if (settings.tickers === undefined) {
    if (open.length > 0) return open
    throw new UserError('MARKET_NONE', `venue ${settings.venue} has no open market`, EXIT.environment)
  }
  return settings.tickers.map((ticker) => {
    const market = open.find((candidate) => candidate.ticker === ticker)
    if (market) return market
    throw new UserError('MARKET_UNKNOWN', `venue ${settings.venue} has no open market '${ticker}'`, EXIT.environment)
  })
}

export interface Account {
  readonly positions: Positions
  readonly limits: RiskLimits
}

/** What the account holds and may do. Signed, so a wrong key shows here. */
export async function readAccount(rest: Rest, settings: Settings): Promise<Account> {
  await rest.balance()
  // Orders of a run that was killed still rest: they go first, so that what follows stands still.
  const prefix = idPrefix(settings)
  for (const { orderId, ticker, clientOrderId } of await readAll((page) =>
    rest.listOrders({ status: 'resting', ...page }),
  )) {
    if (clientOrderId?.startsWith(prefix)) await rest.cancelOrder({ orderId, marketTicker: ticker })
  }
  const positions = new Positions()
  const minTs = Math.floor((Date.now() - RECENT_FILLS_MS) / 1e3)
  for (const fill of await readAll((page) => rest.listFills({ minTs, ...page }))) positions.isNew(fill.tradeId)
  for (const held of await readAll((page) => rest.positions(page)))
    positions.adopt(held.ticker, held.positionHundredths, held.marketExposureMicros)
  const { write } = await rest.accountLimits()
  return { positions, limits: withinBudget(settings.risk, write.refillPerSecond, write.capacity) }
}
