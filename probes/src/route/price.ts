/** What a route costs a month: a small file people edit, because list prices are nobody's bill. */
import { fileURLToPath } from 'node:url'
import { UserError } from '@tickscope/contract'
import { readFlagFile } from '../flag.ts'

export const PRICE_FILE = fileURLToPath(new URL('../../prices.json', import.meta.url))
const USD_PER_MONTH_MAX = 1e7

export interface Prices {
  readonly asOf: string
  /** USD a month. */
  readonly items: ReadonlyMap<string, number>
}

/** @throws UserError `PRICES_INVALID` naming the item */
export function readPrices(path: string): Prices {
  const invalid = (why: string) => new UserError('PRICES_INVALID', `--prices ${path}: ${why}`)
  let json: unknown
  try {
    json = JSON.parse(readFlagFile('--prices', path))
  } catch (error) {
    if (error instanceof UserError) throw error
    throw invalid('it is not JSON')
  }
  const { asOf, items } = (json ?? {}) as { asOf?: unknown; items?: unknown }
  if (typeof items !== 'object' || items === null) throw invalid('it has no items')
  const prices = new Map<string, number>()
  for (const [name, item] of Object.entries(items)) {
    const { usdPerMonth } = (item ?? {}) as { usdPerMonth?: unknown }
    if (typeof usdPerMonth !== 'number' || !(usdPerMonth >= 0 && usdPerMonth <= USD_PER_MONTH_MAX))
      throw invalid(`${name}.usdPerMonth is not a number from 0 to ${USD_PER_MONTH_MAX}`)
    prices.set(name, usdPerMonth)
  }
  return { asOf: typeof asOf === 'string' ? asOf : 'unknown', items: prices }
}
