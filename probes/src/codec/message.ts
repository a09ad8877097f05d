/**
 * The messages every codec here carries, with the same meaning in each form, and a seeded set of them to measure with.
 *
 * Prices are integer ticks of $0.0001 of the YES leg, counts integer hundredths of a contract, as everywhere in this
 * suite. Ids are UUIDs, as the venue issues and recommends them.
 */
import type { BookSide, OrderStatus, OutcomeSide, SelfTradePrevention, TimeInForce } from '@tickscope/venue/kalshi'

/** A limit order: what the bot sends. */
export interface NewOrder {
  readonly ticker: string
  readonly side: BookSide
  readonly countHundredths: number
  readonly priceTicks: number
  readonly timeInForce: TimeInForce
  readonly selfTradePrevention: SelfTradePrevention
  readonly clientOrderId: string
  readonly postOnly: boolean
  /** Shard of the market. */
  readonly exchangeIndex: number
}

/** What became of an order: what the venue says. */
export interface ExecutionReport {
  readonly orderId: string
  readonly clientOrderId: string
  readonly ticker: string
  readonly side: BookSide
  readonly status: OrderStatus
  readonly priceTicks: number
  readonly countHundredths: number
  readonly filledHundredths: number
  readonly remainingHundredths: number
  /** Engine time, unix ms. */
  readonly tsMs: number
}

/** A change of one level of a book. */
export interface BookUpdate {
  readonly sequence: number
  readonly ticker: string
  readonly side: OutcomeSide
  /** Of the YES leg. */
  readonly priceTicks: number
  /** Signed change of the level, not its new size. */
  readonly changeHundredths: number
  /** Venue time, unix ms. */
  readonly tsMs: number
}

/** One of several changes that an exchange packs into one message. */
export interface BookEntry {
  readonly side: OutcomeSide
  readonly priceTicks: number
  readonly changeHundredths: number
}

/** Several changes of one book: what a market-data message of an exchange with a binary feed looks like. */
export interface BookBatch {
  readonly sequence: number
  readonly ticker: string
  readonly tsMs: number
  readonly entries: readonly BookEntry[]
}

/**
 * Messages of one kind share V8's knowledge of what their fields hold, whichever codec made them. When one codec's
 * numbers are not small integers, another's objects get slow to make (measured: 0.7 µs instead of 0.4 for a FIX book
 * update beside SBE), which would be no property of either. Large numbers here, first of all, settle it for all.
 */
const LARGE = 2 ** 40
export const SETTLED: readonly [NewOrder, ExecutionReport, BookUpdate] = [
  {
    ticker: '',
    side: 'bid',
    countHundredths: LARGE,
    priceTicks: LARGE,
    timeInForce: 'fill_or_kill',
    selfTradePrevention: 'maker',
    clientOrderId: '',
    postOnly: false,
    exchangeIndex: 0,
  },
  {
    orderId: '',
    clientOrderId: '',
    ticker: '',
    side: 'bid',
    status: 'resting',
    priceTicks: LARGE,
    countHundredths: LARGE,
    filledHundredths: LARGE,
    remainingHundredths: LARGE,
    tsMs: LARGE,
  },
  { sequence: LARGE, ticker: '', side: 'yes', priceTicks: LARGE, changeHundredths: LARGE, tsMs: LARGE },
]

export interface MessageSet {
  readonly orders: readonly NewOrder[]
  readonly reports: readonly ExecutionReport[]
  readonly updates: readonly BookUpdate[]
  readonly batches: readonly BookBatch[]
}

/** A market's ticker in the venue's own style; all messages of a set are of one market, as on one subscription. */
export const TICKER = 'KXBTC15M-26AUG011215-15'

/** 2026-08-01T12:00:00Z; the set's messages follow within seconds, so their timestamps are 13 digits long. */
const STARTED_AT_MS = 1_785_585_600_000

/**
 * Messages to measure with: as many of each kind, all different, the same for the same seed. Neighbours share a market
 * and are near in time and price, as on a real stream; that is what FAST's operators live from.
 */
export function createMessages(count: number, seed = 1): MessageSet {
  const random = createRandom(seed)
  const below = (limit: number) => Math.floor(random() * limit)
  const uuid = () => {
    const digits = Array.from({ length: 32 }, () => below(16).toString(16)).join('')
    return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
  }
  const price = () => 100 * (48 + below(12))
  const size = () => 100 * (1 + below(400))
  const orders: NewOrder[] = []
  const reports: ExecutionReport[] = []
  const updates: BookUpdate[] = []
  const batches: BookBatch[] = []
  let tsMs = STARTED_AT_MS
  for (let index = 0; index < count; index++) {
    tsMs += below(9)
    const order: NewOrder = {
      ticker: TICKER,
      side: below(2) === 0 ? 'bid' : 'ask',
      countHundredths: size(),
      priceTicks: price(),
      timeInForce: 'good_till_canceled',
      selfTradePrevention: 'taker_at_cross',
      clientOrderId: uuid(),
      postOnly: true,
      exchangeIndex: 2,
    }
    const filledHundredths =
      index % 4 === 0 ? order.countHundredths : index % 2 === 0 ? 0 : 100 * below(order.countHundredths / 100)
    orders.push(order)
    reports.push({
      orderId: uuid(),
      clientOrderId: order.clientOrderId,
      ticker: order.ticker,
      side: order.side,
      status: filledHundredths === order.countHundredths ? 'executed' : 'resting',
      priceTicks: order.priceTicks,
      countHundredths: order.countHundredths,
      filledHundredths,
      remainingHundredths: order.countHundredths - filledHundredths,
      tsMs,
    })
    const entry = (): BookEntry => ({
      side: below(2) === 0 ? 'yes' : 'no',
      priceTicks: price(),
      changeHundredths: (below(2) === 0 ? 1 : -1) * size(),
    })
    const { side, priceTicks, changeHundredths } = entry()
    updates.push({ sequence: index + 1, ticker: TICKER, side, priceTicks, changeHundredths, tsMs })
    // Nine changes make about 60 bytes of FAST.
    batches.push({ sequence: index + 1, ticker: TICKER, tsMs, entries: Array.from({ length: 9 }, entry) })
  }
  return { orders, reports, updates, batches }
}

/** Mulberry32: 32 bits of state, good enough to vary messages and to shuffle rounds. @returns numbers in [0, 1) */
export function createRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
