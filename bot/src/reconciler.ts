/**
 * What the venue's REST says, brought into what we believe: orders whose answer was lost, fills and orders missed while
 * the feed was away, and positions.
 *
 * Reads lag writes by some hundred ms, so one read proves little: an order is given up as never placed only after
 * several look-ups, and a position is corrected only when two reads in a row say the same and nothing of ours is in
 * flight. One look-up and one full pass run at a time.
 */
import { type Rest, VenueError, type Order as VenueOrder } from '@tickscope/venue/kalshi'
import { readAll } from './account.ts'
import type { Order, OrderReport, Orders } from './orders.ts'
import type { Positions } from './positions.ts'

/** First wait before an order is looked up, and how often it is asked for, ms. */
const LOOKUP_MS = 250
/** Look-ups before an order that nobody has seen counts as never placed: two seconds, several times the read lag. */
const LOOKUPS_MAX = 8
/** An order younger than this may be missing from a list only because reads lag, ms. */
const SETTLED_MS = 2_000
/** Fills are read from this long before the feed was lost: clocks differ, and reads lag. */
const FILLS_OVERLAP_MS = 10_000

/** A trade of this account, from the feed or from REST. */
export interface OwnTrade {
  readonly tradeId: string
  readonly orderId: string
  readonly clientOrderId: string
  readonly ticker: string
  readonly side: 'bid' | 'ask'
  readonly countHundredths: number
  readonly priceTicks: number
  readonly feeMicros: number
}

export interface ReconcilerOptions {
  readonly rest: Rest
  readonly orders: Orders
  readonly positions: Positions
  /** Start of the client ids of this run. */
  readonly runId: string
  /** Markets traded; others of the account are nobody's business. */
  readonly tickers: ReadonlySet<string>
  readonly onTrade: (trade: OwnTrade) => void
  /** An order that should not rest was found resting. */
  readonly cancel: (order: Order) => void
  /** One that is not among ours, but carries this run's name. */
  readonly cancelStray: (order: VenueOrder) => void
  readonly note: (message: string) => void
}

export class Reconciler {
  passes = 0
  failures = 0
  /** Positions that had to be corrected: fills we never learned of. */
  corrections = 0
  readonly #options: ReconcilerOptions
  readonly #unknown = new Set<Order>()
  /** What the last pass read where it differed from ours, by ticker. */
  #differences = new Map<string, number>()
  #timer: NodeJS.Timeout | undefined
  #pass: Promise<void> | undefined
  #stopped = false

  constructor(options: ReconcilerOptions) {
    this.#options = options
  }

  /** Looks an order up until its fate is known. */
  lookUp(order: Order): void {
    this.#unknown.add(order)
    this.#schedule()
  }

  /** How many orders' fates are open. */
  get unknownCount(): number {
    return this.#unknown.size
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  /**
   * One full pass: fills since an instant, our live orders, positions. A pass already running is joined.
   *
   * @param sinceMs epoch ms from when on fills may have been missed
   */
  pass(sinceMs: number): Promise<void> {
    this.#pass ??= this.#run(sinceMs).finally(() => {
      this.#pass = undefined
    })
    return this.#pass
  }

  async #run(sinceMs: number): Promise<void> {
    const { rest, onTrade, note } = this.#options
    try {
      const minTs = Math.floor((sinceMs - FILLS_OVERLAP_MS) / 1e3)
      const fills = await readAll((page) => rest.listFills({ minTs, ...page }))
      // Newest first on the wire; money is counted in the order it moved.
      for (const fill of fills.toReversed()) onTrade({ ...fill, clientOrderId: '' })
      await this.#compareOrders()
      await this.#comparePositions()
      this.passes++
    } catch (error) {
      this.failures++
      if (!this.#stopped) note(`reconciliation failed: ${(error as Error).message}`)
    }
  }

  async #compareOrders(): Promise<void> {
    const { rest, orders, runId, cancel, cancelStray } = this.#options
    const resting = await readAll((page) => rest.listOrders({ status: 'resting', ...page }))
    const seen = new Set<Order>()
    for (const found of resting) {
      const order = orders.byOrderId(found.orderId) ?? orders.byClientId(found.clientOrderId ?? '')
      if (order) {
        seen.add(order)
        orders.report(order, reportOf(found), 'reconciled')
        if (order.cancelWanted && orders.wantCancel(order)) cancel(order)
      } else if (found.clientOrderId?.startsWith(`${runId}-`)) cancelStray(found)
    }
    const nowMs = performance.now()
    for (const order of orders.live()) {
      if (!seen.has(order) && order.state !== 'pending' && nowMs - order.createdAtMs > SETTLED_MS) this.lookUp(order)
    }
  }

  async #comparePositions(): Promise<void> {
    const { rest, orders, positions, tickers, note } = this.#options
    const told = await readAll((page) => rest.positions(page))
    const theirs = new Map(told.map((position) => [position.ticker, position]))
    const differences = new Map<string, number>()
    for (const ticker of tickers) {
      const quantity = theirs.get(ticker)?.positionHundredths ?? 0
      const ours = positions.of(ticker).quantityHundredths
      if (quantity === ours || orders.liveOf(ticker).some(inFlight)) continue
      // What differs now and differed by as much the last time is no lag.
      const difference = quantity - ours
      if (this.#differences.get(ticker) !== difference) {
        differences.set(ticker, difference)
        continue
      }
      this.corrections++
      note(`position in ${ticker} is ${quantity / 100} contracts at the venue, ${ours / 100} here: taking the venue's`)
      positions.adopt(ticker, quantity, theirs.get(ticker)?.marketExposureMicros ?? 0)
    }
    this.#differences = differences
  }

  #schedule(): void {
    if (this.#timer || this.#stopped || this.#unknown.size === 0) return
    this.#timer = setTimeout(async () => {
      for (const order of [...this.#unknown]) await this.#lookUpOnce(order)
      this.#timer = undefined
      this.#schedule()
    }, LOOKUP_MS)
    this.#timer.unref()
  }

  async #lookUpOnce(order: Order): Promise<void> {
    const { rest, orders, cancel } = this.#options
    if (!order.live) {
      this.#unknown.delete(order)
      return
    }
    try {
      const found = order.orderId !== '' ? await rest.getOrder(order.orderId) : await this.#findByClientId(order)
      if (!found) {
        orders.missing(order, LOOKUPS_MAX)
        return
      }
      // The answer to a cancel may have overtaken this read.
      if (!order.live) return
      orders.report(order, reportOf(found), 'lookup')
      this.#unknown.delete(order)
      if (order.cancelWanted && orders.wantCancel(order)) cancel(order)
    } catch (error) {
      this.failures++
      if (error instanceof VenueError && error.httpStatus === 404) orders.missing(order, LOOKUPS_MAX)
    }
  }

  async #findByClientId(order: Order): Promise<VenueOrder | undefined> {
    const { rest } = this.#options
    const placed = await readAll((page) => rest.listOrders({ ticker: order.ticker, ...page }))
    return placed.find((candidate) => candidate.clientOrderId === order.clientOrderId)
  }
}

/** Whether something may be happening to an order that a read does not show yet. */
function inFlight(order: Order): boolean {
  return order.state !== 'open' && order.state !== 'partial'
}

function reportOf(found: VenueOrder): OrderReport {
  return { orderId: found.orderId, status: found.status, filledHundredths: found.fillCountHundredths }
}
