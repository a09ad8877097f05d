/**
 * Orders from the moment they are sent until nothing more can happen to them.
 *
 *   pending ──ack──▶ open ⇄ partial ──▶ filled
 *      │               └──cancel sent──▶ cancel_pending ──▶ cancelled
 *      ├──refused──▶ rejected
 *      └──no answer──▶ unknown ──looked up by client_order_id──▶ any of the others
 *
 * The venue tells the same fill several times (answer to the create, `fill` and `user_order` messages, REST), in any
 * order and late. An order therefore keeps two counts: `tradesHundredths`, the sum of single trades (each counted once, see
 * `Positions.isNew`), and the highest cumulative count the venue has stated. Neither ever exceeds what truly happened
 * and both end there, so their maximum, `filledHundredths`, counts each fill once and never goes back.
 *
 * An order is *live* while it may still trade, which includes `unknown` and `cancel_pending`. What live orders bind is
 * kept as running sums for the risk limits.
 */
import { exposureMicros } from './risk.ts'

export type OrderState =
  | 'pending'
  | 'open'
  | 'partial'
  | 'cancel_pending'
  | 'unknown'
  | 'filled'
  | 'cancelled'
  | 'rejected'

/** `quote` rests (post-only, good till cancelled); `take` is immediate-or-cancel. */
export type OrderKind = 'quote' | 'take'

/** Finished orders remembered so that a late fill still finds its order. At 30 orders a second about two minutes. */
const FINISHED_MAX = 4096
/** Fills that came before the answer naming their order, by venue order id. */
const ORPHANS_MAX = 256

export class Order {
  readonly clientOrderId: string
  readonly ticker: string
  readonly side: 'bid' | 'ask'
  readonly kind: OrderKind
  readonly priceTicks: number
  readonly sizeHundredths: number
  readonly createdAtMs: number
  /** Venue's id; empty until it is known. */
  orderId = ''
  state: OrderState = 'pending'
  /** Executed so far, as far as we know. */
  filledHundredths = 0
  /** Part of it known trade by trade. */
  tradesHundredths = 0
  /** What the executions counted cost, YES price times size, micro-dollars. */
  costMicros = 0
  /** The book has shown it as ours. */
  shown = false
  /** A cancel is wanted and will be sent once the order can be named. */
  cancelWanted = false
  /** Times a look-up did not find it. */
  lookups = 0
  /** What it binds in the running sums. */
  boundMicros = 0

  constructor(
    clientOrderId: string,
    ticker: string,
    side: 'bid' | 'ask',
    kind: OrderKind,
    priceTicks: number,
    sizeHundredths: number,
    createdAtMs: number,
  ) {
    this.clientOrderId = clientOrderId
    this.ticker = ticker
    this.side = side
    this.kind = kind
    this.priceTicks = priceTicks
    this.sizeHundredths = sizeHundredths
    this.createdAtMs = createdAtMs
  }

  get live(): boolean {
    return this.state !== 'filled' && this.state !== 'cancelled' && this.state !== 'rejected'
  }

  /** What may still trade. */
  get remainingHundredths(): number {
    return this.live ? this.sizeHundredths - this.filledHundredths : 0
  }
}

/** What the venue says of an order: answer to a create, `user_order` message, or REST. */
export interface OrderReport {
  readonly orderId: string
  /** `resting` when it may still trade. */
  readonly status: 'resting' | 'canceled' | 'executed' | 'unknown'
  /** Executed in all. */
  readonly filledHundredths: number
  /** What they were executed at on average, YES price, ticks, perhaps between two; the order's own price when absent. */
  readonly averagePriceTicks?: number | undefined
}

export interface OrdersOptions {
  /** Start of every client_order_id: unique for the account and the run, because the venue never forgets one. */
  readonly runId: string
  /** Newly known executions of an order, > 0, and what they cost at YES prices. */
  readonly onFilled: (order: Order, deltaHundredths: number, costMicros: number) => void
  /** Every change of state, for the journal. */
  readonly onState?: (order: Order, why: string) => void
}

const NO_ORDERS: readonly Order[] = []

export class Orders {
  /** Money bound by live orders. */
  boundMicros = 0
  liveCount = 0
  /** Reports that contradict what is known (a finished order said to rest, more filled than ordered). */
  contradictions = 0
  readonly #options: OrdersOptions
  readonly #byClientId = new Map<string, Order>()
  readonly #byOrderId = new Map<string, Order>()
  readonly #liveByTicker = new Map<string, Order[]>()
  readonly #finished: Order[] = []
  #finishedNext = 0
  readonly #orphans = new Map<string, { sizeHundredths: number; costMicros: number }>()
  #sequence = 0

  constructor(options: OrdersOptions) {
    this.#options = options
  }

  /** A new order about to be sent. */
  create(
    ticker: string,
    side: 'bid' | 'ask',
    kind: OrderKind,
    priceTicks: number,
    sizeHundredths: number,
    nowMs: number,
  ): Order {
    const order = new Order(
      `${this.#options.runId}-${++this.#sequence}`,
      ticker,
      side,
      kind,
      priceTicks,
      sizeHundredths,
      nowMs,
    )
    this.#byClientId.set(order.clientOrderId, order)
    const live = this.#liveByTicker.get(ticker)
    if (live) live.push(order)
    else this.#liveByTicker.set(ticker, [order])
    this.liveCount++
    this.#rebind(order)
    this.#options.onState?.(order, 'created')
    return order
  }

  byClientId(clientOrderId: string): Order | undefined {
    return this.#byClientId.get(clientOrderId)
  }

  byOrderId(orderId: string): Order | undefined {
    return this.#byOrderId.get(orderId)
  }

  /** Live orders of a market, oldest first. Do not keep the array. */
  liveOf(ticker: string): readonly Order[] {
    return this.#liveByTicker.get(ticker) ?? NO_ORDERS
  }

  /** A copy, oldest market first. */
  live(): Order[] {
    return [...this.#liveByTicker.values()].flat()
  }

  /** The venue accepted an order, or says where it stands. Safe to repeat and to come late. */
  report(order: Order, report: OrderReport, why: string): void {
    this.#name(order, report.orderId)
    this.#cumulative(order, report.filledHundredths, report.averagePriceTicks)
    if (!order.live) {
      if (report.status === 'resting' && why === 'lookup') this.contradictions++
      return
    }
    order.lookups = 0
    switch (report.status) {
      case 'executed':
      case 'canceled':
        this.#finish(order, order.filledHundredths >= order.sizeHundredths ? 'filled' : 'cancelled', why)
        break
      case 'resting':
        // A cancel on its way decides what becomes of the order.
        if (order.state !== 'cancel_pending') this.#move(order, order.filledHundredths > 0 ? 'partial' : 'open', why)
        break
      case 'unknown':
        break
    }
  }

  /** The venue refused an order; it never lived. */
  reject(order: Order, why: string): void {
    if (order.live) this.#finish(order, 'rejected', why)
  }

  /** No usable answer: it may or may not live. Look it up. */
  lose(order: Order, why: string): void {
    if (order.live) this.#move(order, 'unknown', why)
  }

  /**
   * A look-up found no such order.
   *
   * @param giveUpAfter look-ups; reads lag writes, so one miss proves nothing
   */
  missing(order: Order, giveUpAfter: number): void {
    if (!order.live) return
    order.lookups++
    if (order.lookups >= giveUpAfter) this.#finish(order, order.orderId === '' ? 'rejected' : 'cancelled', 'not found')
  }

  /** @returns whether a cancel is to be sent now; when not, it follows once the order can be named */
  wantCancel(order: Order): boolean {
    order.cancelWanted = true
    if ((order.state !== 'open' && order.state !== 'partial') || order.orderId === '') return false
    this.#move(order, 'cancel_pending', 'cancel sent')
    return true
  }

  /** The venue confirmed a cancel: `reducedHundredths` will never trade, the rest has. */
  cancelled(order: Order, reducedHundredths: number): void {
    this.#cumulative(order, order.sizeHundredths - reducedHundredths, undefined)
    if (order.live)
      this.#finish(order, order.filledHundredths >= order.sizeHundredths ? 'filled' : 'cancelled', 'cancelled')
  }

  /** A cancel was not carried out though the order still rests (rate limit, pause): it may be asked for again. */
  cancelFailed(order: Order, why: string): void {
    if (order.state !== 'cancel_pending') return
    order.cancelWanted = false
    this.#move(order, order.filledHundredths > 0 ? 'partial' : 'open', why)
  }

  /**
   * One trade of ours, already known to be new.
   *
   * @returns the order, or undefined when none of ours is known by these ids
   */
  trade(orderId: string, clientOrderId: string, sizeHundredths: number, priceTicks: number): Order | undefined {
    const order = this.#byOrderId.get(orderId) ?? this.#byClientId.get(clientOrderId)
    if (!order) {
      // Perhaps ours, told before the answer that names it.
      if (this.#orphans.size >= ORPHANS_MAX) this.#orphans.delete(this.#orphans.keys().next().value!)
      const orphan = this.#orphans.get(orderId) ?? { sizeHundredths: 0, costMicros: 0 }
      orphan.sizeHundredths += sizeHundredths
      orphan.costMicros += sizeHundredths * priceTicks
      this.#orphans.set(orderId, orphan)
      return undefined
    }
    this.#name(order, orderId)
    order.tradesHundredths += sizeHundredths
    this.#fill(order, order.tradesHundredths, (order.tradesHundredths - order.filledHundredths) * priceTicks)
    return order
  }

  #name(order: Order, orderId: string): void {
    if (order.orderId !== '' || orderId === '') return
    order.orderId = orderId
    this.#byOrderId.set(orderId, order)
    const orphan = this.#orphans.get(orderId)
    if (!orphan) return
    // The position has these already: they count here without being told again.
    this.#orphans.delete(orderId)
    order.tradesHundredths += orphan.sizeHundredths
    order.filledHundredths += orphan.sizeHundredths
    order.costMicros += orphan.costMicros
  }

  #cumulative(order: Order, filledHundredths: number, averagePriceTicks: number | undefined): void {
    const deltaHundredths = filledHundredths - order.filledHundredths
    const costMicros =
      averagePriceTicks === undefined
        ? deltaHundredths * order.priceTicks
        : Math.round(filledHundredths * averagePriceTicks) - order.costMicros
    this.#fill(order, filledHundredths, costMicros)
  }

  /** Raises what is known to be filled, and says so. */
  #fill(order: Order, filledHundredths: number, costMicros: number): void {
    if (filledHundredths > order.sizeHundredths) this.contradictions++
    const deltaHundredths = filledHundredths - order.filledHundredths
    if (deltaHundredths <= 0) return
    order.filledHundredths = filledHundredths
    order.costMicros += costMicros
    this.#options.onFilled(order, deltaHundredths, costMicros)
    if (!order.live) return
    if (filledHundredths >= order.sizeHundredths) this.#finish(order, 'filled', 'filled')
    else if (order.state === 'open') this.#move(order, 'partial', 'filled in part')
    else this.#rebind(order)
  }

  #move(order: Order, state: OrderState, why: string): void {
    if (order.state === state) {
      this.#rebind(order)
      return
    }
    order.state = state
    this.#rebind(order)
    this.#options.onState?.(order, why)
  }

  #finish(order: Order, state: 'filled' | 'cancelled' | 'rejected', why: string): void {
    order.state = state
    this.#rebind(order)
    this.liveCount--
    const live = this.#liveByTicker.get(order.ticker)!
    live.splice(live.indexOf(order), 1)
    this.#options.onState?.(order, why)
    const forgotten = this.#finished[this.#finishedNext]
    if (forgotten) {
      this.#byClientId.delete(forgotten.clientOrderId)
      this.#byOrderId.delete(forgotten.orderId)
    }
    this.#finished[this.#finishedNext] = order
    this.#finishedNext = (this.#finishedNext + 1) % FINISHED_MAX
  }

  /** Brings the running sum in line with what the order may still trade. */
  #rebind(order: Order): void {
    const boundMicros = exposureMicros(order.side, order.priceTicks, order.remainingHundredths)
    this.boundMicros += boundMicros - order.boundMicros
    order.boundMicros = boundMicros
  }
}
