/**
 * The probe `order`: how long an order takes to be acknowledged, to show on the feed, to be cancelled, and for the
 * cancel to show, each apart.
 *
 * Orders leave on an open-loop schedule: one contract, post-only, a cent, far from the market (`order/limit.ts`). Each is
 * cancelled as soon as it was acknowledged and seen, or `--seen-timeout` has passed. Boundary user→user; in ns, of a place:
 *
 *   sign         limits checked, order signed          place_ack    bytes with the kernel to answer read
 *   write        to bytes with the kernel; on a new       place_seen   bytes with the kernel to the first word of it read
 *                connection this holds its set-up                      from the feed: `user_order` or `orderbook_delta`
 *
 * and of a cancel the same with `cancel_ack` and `cancel_seen`; a cancel follows its order, so it has no schedule, no
 * slip, and its response is its service time. service = sign + write + ack. An acknowledgement is one thing and
 * the venue's word on the feed another: which comes first differs by venue and load.
 *
 * The first order of the process is a row of its own (`first`): it opens the connection and runs code for the first
 * time, as a bot's first order does.
 *
 * Only on a simulator on this machine or the demo exchange, unless real money was agreed to with every cap given. All
 * orders are cancelled at the end, after an error and when interrupted; each expires by itself as well.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as wait } from 'node:timers/promises'
import { boundCells, EXIT, formatNs, UserError } from '@tickscope/contract'
import {
  type CallResult,
  createFeed,
  createRest,
  type Feed,
  type FeedMessage,
  type Rest,
  venueUserError,
} from '@tickscope/venue/kalshi'
import { type Command, InvalidArgumentError } from 'commander'
import { type Access, type AccessOptions, readAccess } from './access.ts'
import { nowNs } from './clock.ts'
import { durationFlag, integerFlag } from './flag.ts'
import {
  checkConsent,
  checkKillFile,
  isKilled,
  Levels,
  type LiveOptions,
  QUOTE_COST_DOLLARS,
  type Quote,
} from './order/limit.ts'
import { isGone, type Placed, PlacedOrders } from './order/placed.ts'
import type { CommonOptions, LatencyProbe, ProbeContext } from './probe.ts'
import { judgeBudget, type Measurement } from './result.ts'
import { constantArrivals, type OpenLoop, openLoop, type Slot } from './schedule.ts'
import { type Outcome, Tally } from './tally.ts'

export interface OrderOptions extends CommonOptions, AccessOptions, LiveOptions {
  /** Cents. */
  readonly band: number
  /** Orders before the measurement, after the first. */
  readonly warmUp: number
  /** ms */
  readonly timeout: number
  readonly seenTimeout: number
  readonly expire: number
}

const RATE_DEFAULT_PER_SECOND = { once: 2, serve: 0.2 } as const
const MAX_ORDERS_DEFAULT = { once: 1_000, serve: Number.POSITIVE_INFINITY } as const
const MAX_NOTIONAL_DEFAULT_DOLLARS = 1
const CONTRACT_HUNDREDTHS = 100
const TICKS_PER_CENT = 100
const MAX_SLIP_NS = 1_000_000_000
/** As many as the client has connections for orders; a further one would measure its queue. */
const IN_FLIGHT_MAX = 8
/** How long orders in flight may end by themselves when the run is stopped early. */
const STOP_GRACE_MS = 500
/** How long what may rest is cancelled again and again. */
const CANCEL_ALL_MS = 10_000
const PROGRESS_MS = 500
const RETRY_MS = 1_000
const MARKETS_TRIED = 20

export const orderProbe: LatencyProbe<OrderOptions> = {
  name: 'order',
  description:
    'place far from the market, acknowledged, seen on the feed, cancelled, seen; always cancels what it placed',

  configure(command: Command) {
    command
      .option('--key-id <id>', 'API key id')
      .option('--key-file <pem>', 'private key of --key-id')
      .option('--ca-file <pem>', "certificates to trust instead of the system's")
      .option('--ticker <ticker>', 'market (default, but not with real money: the first open one far from both ends)')
      .option('--band <cents>', 'least distance to the best bid of the same side', integerFlag('--band', 1, 98), 5)
      .option('--max-orders <count>', 'orders sent at most', integerFlag('--max-orders', 1, 1_000_000))
      .option('--max-notional <dollars>', 'cost at most, were all resting orders filled (default: 1)', dollarsFlag)
      .option('--kill-file <file>', 'no order is sent, and the run ends, once this file exists')
      .option('--live', 'trade on an exchange with real money', false)
      .option('--yes-i-trade-real-money', 'and mean it', false)
      .option('--timeout <duration>', 'longest wait for an answer', durationFlag('--timeout', 60_000), 5_000)
      .option('--seen-timeout <duration>', 'longest wait for the feed', durationFlag('--seen-timeout', 60_000), 2_000)
      .option('--expire <duration>', 'orders end by themselves after this', durationFlag('--expire', 3_600_000), 60_000)
      .option(
        '--warm-up <count>',
        'orders before the measurement, after the first',
        integerFlag('--warm-up', 0, 100),
        2,
      )
      .addHelpText(
        'after',
        `
--url is demo, prod, or the origin of a simulator. Orders and cancels count against the account's rate limit.

Examples:
  probe order --url demo --key-id ID --key-file key.pem --for 30s
  probe order --url http://127.0.0.1:8700 --key-id ID --key-file key.pem --rate 20 --json`,
      )
  },

  run: (options, context) => new OrderRun(options, context).run(),
}

function dollarsFlag(text: string): number {
  const dollars = Number(text)
  if (!(dollars >= QUOTE_COST_DOLLARS && dollars <= 1_000))
    throw new InvalidArgumentError(`it must be a number of dollars from ${QUOTE_COST_DOLLARS} to 1000`)
  return dollars
}

/** What the feed has said of one order. */
interface Watch {
  readonly placed: Resolvable
  readonly cancelled: Resolvable
}

interface Resolvable {
  /** ms on `performance.now()`; undefined when it was not seen in time. */
  readonly promise: Promise<number | undefined>
  readonly resolve: (atMs: number | undefined) => void
  isOver?: boolean
}

type Instants = { encodedMs: number; sentMs: number; ackedMs: number }
type Row = 'first' | 'place' | 'cancel'

class OrderRun {
  readonly #options: OrderOptions
  readonly #context: ProbeContext
  readonly #access: Access
  readonly #runId = `tickscope-${randomUUID().slice(0, 13)}`
  readonly #tallies: { readonly [row in Row]: Tally }
  readonly #watches = new Map<string, Watch>()
  readonly #instants = new Map<number, Instants>()
  readonly #levels = new Levels()
  /** Which word of the feed came first, for places and cancels. */
  readonly #seenBy = { user_order: 0, orderbook_delta: 0, nothing: 0 }
  #rest: Rest | undefined
  #feed: Feed | undefined
  #orders: PlacedOrders | undefined
  #loop: OpenLoop | undefined
  #ticker = ''
  #sent = 0
  #fills = 0
  #endedBy: string | undefined

  constructor(options: OrderOptions, context: ProbeContext) {
    this.#options = options
    this.#context = context
    this.#access = readAccess('order', options)
    checkConsent(this.#access.money, this.#access.environment.restOrigin, options)
    checkKillFile(options.killFile)
    const bounds = boundCells([context.slos.api_rtt.thresholdNs])
    this.#tallies = { first: new Tally(bounds), place: new Tally(bounds), cancel: new Tally(bounds) }
  }

  async run(): Promise<Measurement> {
    const { environment, signer, ca } = this.#access
    const { timeout } = this.#options
    const rest = createRest({
      origin: environment.restOrigin,
      signer,
      orderTimeoutMs: timeout,
      ordersWaitingMax: 1_000,
      ...(ca === undefined ? {} : { ca }),
    })
    this.#rest = rest
    let left: readonly string[] = []
    let measured = false
    try {
      await this.#connect(rest)
      await this.#measure(rest)
      measured = true
    } finally {
      left = (await this.#orders?.cancelAll(CANCEL_ALL_MS)) ?? []
      await this.#feed?.stop()
      await rest.stop()
      // When an error is on its way, this is the only place to say it.
      if (left.length > 0 && !measured) this.#context.note(this.#leftText(left))
    }
    return this.#measurement(left)
  }

  /** Resolves with a market and its book; a service tries until it has them or is stopped. */
  async #connect(rest: Rest): Promise<void> {
    const { serve, signal, note, reporter } = this.#context
    for (;;) {
      try {
        this.#ticker = this.#options.ticker ?? (await this.#pickMarket(rest))
        this.#orders = new PlacedOrders(rest, this.#ticker)
        await this.#listen()
        return
      } catch (error) {
        if (!serve) throw error
        reporter.up(false)
        note((error as Error).message)
        await wait(RETRY_MS, undefined, { signal }).catch(() => {})
        if (signal.aborted) return
      }
    }
  }

  async #pickMarket(rest: Rest): Promise<string> {
    const { restOrigin } = this.#access.environment
    try {
      const { items } = await rest.markets({ status: 'open', limit: MARKETS_TRIED })
      for (const { ticker } of items) {
        const levels = new Levels()
        levels.reset(await rest.orderbook(ticker))
        // Twice the band: room for the market to move while it is measured.
        if (levels.quote(2 * this.#options.band * TICKS_PER_CENT)) return ticker
      }
    } catch (error) {
      throw venueUserError(error, `reading the markets at ${restOrigin}`)
    }
    throw new UserError(
      'NO_MARKET',
      `none of the first ${MARKETS_TRIED} open markets at ${restOrigin} has a price ${2 * this.#options.band} cents ` +
        'from a best bid: name one with --ticker',
      EXIT.environment,
    )
  }

  async #listen(): Promise<void> {
    const { environment, signer, ca } = this.#access
    const suspect = () => {
      this.#levels.isWhole = false
    }
    this.#feed = createFeed(
      {
        origin: environment.feedOrigin,
        signer,
        marketTickers: [this.#ticker],
        channels: ['orderbook_delta', 'user_orders', 'fill'],
        ...(ca === undefined ? {} : { ca }),
      },
      {
        onEvent: (message, receivedAtMs) => this.#hear(message, receivedAtMs),
        onSuspect: suspect,
        onDisconnect: suspect,
      },
    )
    await this.#feed.start()
  }

  #hear(message: FeedMessage, receivedAtMs: number): void {
    switch (message.type) {
      case 'orderbook_snapshot':
        if (message.marketTicker === this.#ticker) this.#levels.reset(message)
        return
      case 'orderbook_delta': {
        this.#levels.apply(message)
        const watch = this.#watches.get(message.clientOrderId ?? '')
        if (watch) this.#seen(message.deltaHundredths > 0 ? watch.placed : watch.cancelled, message.type, receivedAtMs)
        return
      }
      case 'user_order': {
        const watch = this.#watches.get(message.clientOrderId ?? '')
        if (watch) this.#seen(message.status === 'resting' ? watch.placed : watch.cancelled, message.type, receivedAtMs)
        return
      }
      case 'fill':
        if (!message.clientOrderId?.startsWith(this.#runId)) return
        this.#fills++
        this.#end('an order was filled')
        return
    }
  }

  /** Both channels tell of an order; the first one counts as seen. */
  #seen(what: Resolvable, by: 'user_order' | 'orderbook_delta', atMs: number): void {
    if (what.isOver) return
    what.isOver = true
    this.#seenBy[by]++
    what.resolve(atMs)
  }

  #end(why: string): void {
    if (this.#endedBy !== undefined) return
    this.#endedBy = why
    this.#context.note(`no further orders: ${why}`)
    this.#loop?.stop()
  }

  async #measure(rest: Rest): Promise<void> {
    const { signal, durationMs, measuring, progress, reporter, serve } = this.#context
    const { warmUp, rate = serve ? RATE_DEFAULT_PER_SECOND.serve : RATE_DEFAULT_PER_SECOND.once } = this.#options
    const { first, place, cancel } = this.#tallies
    // A service may start while the venue is in trouble; a single run ends with what the venue said.
    await this.#order({ index: 0, intendedAtNs: nowNs() }, nowNs(), first, first, !serve)
    await rest.warm(2).catch(() => {})
    const ignored = new Tally()
    for (let order = 0; order < warmUp && !signal.aborted; order++)
      await this.#order({ index: 0, intendedAtNs: nowNs() }, nowNs(), ignored, ignored, !serve)
    measuring()
    const loop = openLoop({
      arrivals: constantArrivals(rate),
      untilNs: signal.aborted || this.#endedBy !== undefined ? 0 : durationMs * 1e6,
      maxInFlight: IN_FLIGHT_MAX,
      maxSlipNs: MAX_SLIP_NS,
      wait: 'precise',
      send: (slot, startedAtNs) => this.#order(slot, startedAtNs, place, cancel, false),
      dropped: (_, reason) => {
        place.dropped(reason)
        reporter.request('dropped')
      },
    })
    this.#loop = loop
    const ticker = setInterval(() => progress(loop.progress), PROGRESS_MS)
    const aborted = Promise.withResolvers<void>()
    const abort = () => {
      loop.stop()
      // Nobody waits for the feed any more: what was placed is cancelled at once.
      for (const { placed, cancelled } of this.#watches.values()) {
        placed.resolve(undefined)
        cancelled.resolve(undefined)
      }
      aborted.resolve(wait(STOP_GRACE_MS, undefined, { ref: true }))
    }
    if (signal.aborted) abort()
    else signal.addEventListener('abort', abort, { once: true })
    await Promise.race([loop.done, aborted.promise])
    signal.removeEventListener('abort', abort)
    clearInterval(ticker)
  }

  /** One order from its place to its cancel. @param strict a failure ends the run. Rejects only then */
  async #order(slot: Slot, startedAtNs: number, place: Tally, cancel: Tally, strict: boolean): Promise<void> {
    const quote = this.#allowed()
    if (typeof quote === 'string') {
      if (strict && this.#endedBy === undefined && quote === 'band')
        throw new UserError(
          'NO_PRICE',
          `${this.#ticker} has no price ${this.#options.band} cents from a best bid now`,
          EXIT.environment,
        )
      // The run is over: this order was never due.
      if (quote === 'ended') return
      place.dropped(quote)
      this.#report(place, 'dropped')
      return
    }
    const index = ++this.#sent
    const clientOrderId = `${this.#runId}-${index}`
    const watch: Watch = { placed: Promise.withResolvers(), cancelled: Promise.withResolvers() }
    this.#watches.set(clientOrderId, watch)
    try {
      const placed = await this.#place(clientOrderId, index, quote, slot, startedAtNs, place, watch, strict)
      if (placed !== undefined) await this.#cancel(placed, index, cancel, watch)
    } finally {
      this.#watches.delete(clientOrderId)
    }
  }

  async #place(
    clientOrderId: string,
    index: number,
    { side, priceTicks }: Quote,
    slot: Slot,
    startedAtNs: number,
    tally: Tally,
    watch: Watch,
    strict: boolean,
  ): Promise<Placed | undefined> {
    const { reporter } = this.#context
    const placed = (this.#orders as PlacedOrders).add(clientOrderId)
    const [result, instants] = await this.#timed(index, (rest) =>
      rest.createOrder(
        {
          ticker: this.#ticker,
          side,
          priceTicks,
          countHundredths: CONTRACT_HUNDREDTHS,
          timeInForce: 'good_till_canceled',
          selfTradePrevention: 'taker_at_cross',
          clientOrderId,
          postOnly: true,
          expirationTimeS: Math.ceil((Date.now() + this.#options.expire) / 1000),
        },
        this.#marks,
        index,
      ),
    )
    placed.settledAtMs = performance.now()
    if (result.outcome !== 'ok') {
      if (!result.ambiguous) (this.#orders as PlacedOrders).gone(placed)
      if (strict) throw venueUserError(result.error, `placing an order of ${this.#ticker}`)
      this.#failed(tally, result)
      return undefined
    }
    placed.orderId = result.value.orderId
    const slipNs = startedAtNs - slot.intendedAtNs
    const serviceNs = ns(instants.ackedMs) - startedAtNs
    const ackNs = ns(instants.ackedMs) - ns(instants.sentMs)
    tally.ok(slipNs, serviceNs, [
      ['sign', ns(instants.encodedMs) - startedAtNs],
      ['write', ns(instants.sentMs) - ns(instants.encodedMs)],
      ['place_ack', ackNs],
    ])
    reporter.up(true)
    this.#report(tally, 'ok')
    const seenMs = await this.#sightOf(watch.placed)
    const seenNs = seenMs === undefined ? undefined : Math.max(0, ns(seenMs) - ns(instants.sentMs))
    if (seenNs !== undefined) tally.phase('place_seen', seenNs)
    if (tally === this.#tallies.place) {
      reporter.phase('slip', slipNs)
      reporter.phase('service', serviceNs)
      reporter.phase('total', slipNs + serviceNs)
      reporter.phase('place_ack', ackNs)
      if (seenNs !== undefined) reporter.phase('place_seen', seenNs)
    }
    return placed
  }

  async #cancel(placed: Placed, index: number, tally: Tally, watch: Watch): Promise<void> {
    const { reporter } = this.#context
    const startedAtNs = nowNs()
    const [result, instants] = await this.#timed(index, (rest) =>
      rest.cancelOrder({ orderId: placed.orderId as string, marketTicker: this.#ticker }, this.#marks, index),
    )
    const isFirst = tally === this.#tallies.first
    if (result.outcome !== 'ok') {
      if (isGone(result.error)) (this.#orders as PlacedOrders).gone(placed)
      if (!isFirst) this.#failed(tally, result)
      return
    }
    ;(this.#orders as PlacedOrders).gone(placed)
    const serviceNs = ns(instants.ackedMs) - startedAtNs
    const ackNs = ns(instants.ackedMs) - ns(instants.sentMs)
    const signNs = ns(instants.encodedMs) - startedAtNs
    // The row of the first order has the times of its place; of its cancel only what has a name of its own.
    if (isFirst) tally.phase('cancel_ack', ackNs)
    else
      tally.ok(undefined, serviceNs, [
        ['sign', signNs],
        ['write', serviceNs - signNs - ackNs],
        ['cancel_ack', ackNs],
      ])
    if (!isFirst) this.#report(tally, 'ok')
    const seenMs = await this.#sightOf(watch.cancelled)
    const seenNs = seenMs === undefined ? undefined : Math.max(0, ns(seenMs) - ns(instants.sentMs))
    if (seenNs !== undefined) tally.phase('cancel_seen', seenNs)
    if (tally !== this.#tallies.cancel) return
    reporter.phase('cancel_ack', ackNs)
    if (seenNs !== undefined) reporter.phase('cancel_seen', seenNs)
  }

  /** @returns where to quote, or why not */
  #allowed(): Quote | string {
    const { killFile, band, maxOrders, maxNotional = MAX_NOTIONAL_DEFAULT_DOLLARS } = this.#options
    const ordersMax = maxOrders ?? (this.#context.serve ? MAX_ORDERS_DEFAULT.serve : MAX_ORDERS_DEFAULT.once)
    if (isKilled(killFile)) this.#end(`the kill switch file ${killFile} exists`)
    else if (this.#sent >= ordersMax) this.#end(`--max-orders ${ordersMax} were sent`)
    if (this.#endedBy !== undefined || this.#context.signal.aborted) return 'ended'
    // Whole cents: tenths of them do not add up exactly.
    const cents = Math.round(QUOTE_COST_DOLLARS * 100)
    if (((this.#orders as PlacedOrders).size + 1) * cents > Math.floor(maxNotional * 100 + 1e-9)) return 'max_notional'
    return this.#levels.quote(band * TICKS_PER_CENT) ?? 'band'
  }

  /** Instants of the call at hand, by its token. */
  readonly #marks = {
    encoded: (atMs: number, token: number) => {
      this.#instants.set(token, { encodedMs: atMs, sentMs: atMs, ackedMs: atMs })
    },
    sent: (atMs: number, token: number) => this.#mark(token, 'sentMs', atMs),
    acked: (atMs: number, token: number) => this.#mark(token, 'ackedMs', atMs),
  }

  #mark(token: number, name: keyof Instants, atMs: number): void {
    const instants = this.#instants.get(token)
    if (instants) instants[name] = atMs
  }

  async #timed<T>(
    token: number,
    call: (rest: Rest) => Promise<CallResult<T>>,
  ): Promise<readonly [CallResult<T>, Instants]> {
    const result = await call(this.#rest as Rest)
    const instants = this.#instants.get(token) as Instants
    this.#instants.delete(token)
    return [result, instants]
  }

  async #sightOf(what: Resolvable): Promise<number | undefined> {
    const { promise, resolve } = what
    if (this.#context.signal.aborted) resolve(undefined)
    const timer = setTimeout(() => {
      what.isOver = true
      this.#seenBy.nothing++
      resolve(undefined)
    }, this.#options.seenTimeout)
    const atMs = await promise
    clearTimeout(timer)
    return atMs
  }

  #failed<T>(tally: Tally, result: Exclude<CallResult<T>, { outcome: 'ok' }>): void {
    const { reporter } = this.#context
    const outcome = result.outcome === 'timeout' ? 'timeout' : 'error'
    tally.failed(outcome, result.error.code)
    this.#report(tally, outcome)
    reporter.up(false)
  }

  /** What is in no row, the warm-up, is not reported either. */
  #report(tally: Tally, outcome: Outcome): void {
    if (Object.values(this.#tallies).includes(tally)) this.#context.reporter.request(outcome)
  }

  #leftText(left: readonly string[]): string {
    return (
      `${left.length} orders of ${this.#ticker} may still rest (${left.slice(0, 5).join(', ')}); they expire within ` +
      `${this.#options.expire / 1000} s`
    )
  }

  #measurement(left: readonly string[]): Measurement {
    const { serve, slos } = this.#context
    const { band, maxOrders, maxNotional, warmUp, timeout, seenTimeout, expire, rate } = this.#options
    const { first, place, cancel } = this.#tallies
    const { money, environment, signer } = this.#access
    const row = (name: Row, tally: Tally) => ({
      mode: {
        name,
        requestedMode: name === 'first' ? 'new connection' : 'warm connection',
        effectiveMode: name === 'first' ? 'new connection' : 'warm connection',
        ...(tally.scheduled === 0
          ? { status: 'skipped' as const, reason: this.#endedBy ?? 'the run ended before' }
          : { status: 'measured' as const }),
      },
      tally,
    })
    return {
      target: environment.restOrigin,
      settings: {
        money,
        ticker: this.#ticker,
        ratePerSecond: rate ?? (serve ? RATE_DEFAULT_PER_SECOND.serve : RATE_DEFAULT_PER_SECOND.once),
        bandCents: band,
        maxOrders: maxOrders ?? (serve ? 'none' : MAX_ORDERS_DEFAULT.once),
        maxNotionalDollars: maxNotional ?? MAX_NOTIONAL_DEFAULT_DOLLARS,
        warmUpOrders: warmUp,
        timeoutMs: timeout,
        seenTimeoutMs: seenTimeout,
        expireMs: expire,
        signed: signer.algorithm,
      },
      all: Tally.merged([first, place, cancel]),
      slip: this.#loop?.slip ?? place.slip,
      rows: [row('first', first), row('place', place), row('cancel', cancel)],
      headline: 'place',
      budgets: judgeBudget(slos.api_rtt, 'place', place),
      checks: [
        {
          name: 'nothing_left_resting',
          ok: left.length === 0,
          text: left.length === 0 ? `all ${this.#sent} orders are cancelled` : this.#leftText(left),
        },
        { name: 'nothing_filled', ok: this.#fills === 0, text: `${this.#fills} fills` },
      ],
      details: {
        ordersSent: this.#sent,
        fills: this.#fills,
        leftResting: left,
        seenBy: { ...this.#seenBy },
        endedBy: this.#endedBy ?? null,
      },
      findings:
        first.outcomes.ok === 1 && place.outcomes.ok > 0
          ? [
              `the first order took ${formatNs(first.service.quantileNs(0.5))}, a later one ` +
                `${formatNs(place.service.quantileNs(0.5))} at the median`,
            ]
          : [],
    }
  }
}

function ns(ms: number): number {
  return Math.round(ms * 1e6)
}
