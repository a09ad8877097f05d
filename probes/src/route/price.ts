/**
 * What a route costs a month: a small file people edit, because list prices are nobody's bill. Each price says where it
 * is from, and takes that with it into the result: milliseconds a dollar are worth what the dollars are.
 */
import { fileURLToPath } from 'node:url'
import { UserError } from '@tickscope/contract'
import { readFlagFile } from '../flag.ts'

export const PRICE_FILE = fileURLToPath(new URL('../../prices.json', import.meta.url))
const USD_PER_MONTH_MAX = 1e7
const NO_SOURCE = 'the price file names no source'

export interface Price {
  readonly usdPerMonth: number
  /** A page, or who says so. */
  readonly source: string
}

export interface Prices {
  readonly asOf: string
  readonly items: ReadonlyMap<string, Price>
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
  const prices = new Map<string, Price>()
  for (const [name, item] of Object.entries(items)) {
    const { usdPerMonth, source } = (item ?? {}) as { usdPerMonth?: unknown; source?: unknown }
    if (typeof usdPerMonth !== 'number' || !(usdPerMonth >= 0 && usdPerMonth <= USD_PER_MONTH_MAX))
      throw invalid(`${name}.usdPerMonth is not a number from 0 to ${USD_PER_MONTH_MAX}`)
    prices.set(name, { usdPerMonth, source: typeof source === 'string' ? source.slice(0, 256) : NO_SOURCE })
  }
  return { asOf: typeof asOf === 'string' ? asOf : 'unknown', items: prices }
}
