/**
 * The bot, wired: feed → book → strategy → risk → orders → positions, with the agent at every instant.
 *
 * Each market-data message is one tick of the agent: begun with the instant its first byte was read, closed once, after
 * the last work it caused on this thread. From there to the bytes of an order nothing is awaited. Everything else (fills,
 * answers, look-ups, the watchdog) happens between ticks.
 *
 * Trading stops, for one market or all, whenever something is not certain: a book that missed a message, a feed that
 * is silent, an answer that did not come, a limit, the kill switch. What rests is pulled then, and quoting resumes by
 * itself when things are certain again (never after the kill switch).
 *
 * The first order is the slowest: connections are warm and keys are parsed when the bot says it is ready, but code that has not
 * run yet is not compiled (`bench/tick-to-trade.bench.ts` says what that costs).
 */
import { randomBytes } from 'node:crypto'
import { type Agent, createAgent, INSTANT, OUTCOME } from '@tickscope/agent'
import { EXIT, UserError } from '@tickscope/contract'
import {
  type BookDelta,
  type BookSnapshot,
  createFeed,
  createRest,
  createSigner,
  type Feed,
  type FeedMessage,
  type Rest,
  resolveEnvironment,
  type Signer,
  type UserOrder,
  type Market as VenueMarket,
  venueUserError,
} from '@tickscope/venue/kalshi'
import { type Account, idPrefix, readAccount, readMarkets } from './account.ts'
import { FeedAge } from './feed-age.ts'
import { Gateway } from './gateway.ts'
import { Journal } from './journal.ts'
import { Market } from './market.ts'
import { Notes } from './notes.ts'
import { type BotOptions, DEFAULTS, quoteMaxLifeMs, type Settings, settle } from './options.ts'
import { Orders } from './orders.ts'
import type { Positions } from './positions.ts'
import { type OwnTrade, Reconciler } from './reconciler.ts'
import { Risk } from './risk.ts'
import { Trader } from './trader.ts'

export { type BotOptions, DEFAULTS } from './options.ts'

/** Market data this much older than the freshest moves the book and is not decided on, ms. */
const LATE_MS = 1_000
/** A connection that has been late for this long is given up, ms: it may be the venue's clock that stepped. */
const LATE_FOR_MS = 10_000
/** How long a quote outlives twice its renewal, ms: for the venue's clock to be that much ahead of ours. */
const QUOTE_TTL_SPARE_MS = 5_000
/** Period of the watchdog, ms. */
const WATCH_MS = 50
/** A book unfit for this long has its quotes pulled, ms. A resynchronisation takes a round trip. */
const UNFIT_MS = 250
/** A book crossed for this long is taken for broken, ms. In a recorded feed the longest cross lasted 7 ms. */
const CROSSED_MS = 1_000
/** Least time between two fresh feeds forced by a broken book, ms. */
const FRESH_FEED_MS = 5_000
/** Period of reconciliation by REST while all is well, ms. */
const RECONCILE_MS = 30_000
/** After a reconnect what REST tells is read twice, this far apart, ms: reads lag writes by some hundred ms. */
const READ_LAG_MS = 1_000
/** Longest a stop waits for cancels and answers, ms. */
const STOP_MS = 3_000
/** The feed counts as read to its end when nothing came for this long, ms; waited for at most `DRAIN_MAX_MS`. */
const DRAIN_MS = 100
const DRAIN_MAX_MS = 1_000
/** Longest a stop waits for the collector, ms. */
const AGENT_STOP_MS = 5_000

export interface Summary {
  readonly ticksReceived: number
  readonly ordersSent: number
  readonly ordersAcked: number
  readonly ordersRejected: number
  /** Creates without an answer that settled their fate at once, and creates that found no connection. */
  readonly ordersUnknown: number
  readonly ordersUnsent: number
  readonly cancelsSent: number
  /** Tick-to-trade of the first order, which ran on code not compiled yet; `null` when there was none. */
  readonly firstTickToTradeNs: number | null
  readonly fills: number
  /** Measurements the agent lost. */
  readonly dropped: number
  readonly gaps: number
  /** Books brought back by a snapshot after they were suspect. */
  readonly resyncs: number
  readonly reconnects: number
  /** Levels that went below zero, and deltas that left a book crossed. */
  readonly negativeLevels: number
  readonly crossedBooks: number
  /** Deltas that came too late to be decided on. */
  readonly lateTicks: number
  /** Orders refused by a limit, by reason. */
  readonly refused: Readonly<Record<string, number>>
  readonly breakerTrips: number
  readonly killedBy: string
  /** Contracts by market, positive is YES. */
  readonly position: Readonly<Record<string, number>>
  readonly realizedDollars: number
  readonly feesDollars: number
  readonly positionCorrections: number
  /** Orders that still may rest: their fate was not known in time. */
  readonly leftResting: number
  readonly journalDropped: number
  /** Whether the collector acknowledged everything recorded. */
  readonly acknowledged: boolean
}

export interface Bot {
  readonly tickers: readonly string[]
  /** Latches: cancels everything and sends no order until the process is started again. */
  kill(why: string): void
  /** Stops quoting, cancels what rests, waits for answers, reads the feed to its end, ships the last batch. */
  stop(): Promise<Summary>
}

/**
 * Starts a bot. Resolves when it holds the books of all its markets and quotes.
 *
 * @throws UserError in one sentence when an option is wrong, the venue cannot be reached, or the key is refused
 */
export async function createBot(options: BotOptions): Promise<Bot> {
  const settings = settle(options)
  const environment = resolveEnvironment(settings.venue)
  const signer = signerOf(settings)
  const journal = settings.journalFile === undefined ? undefined : new Journal(settings.journalFile)
  const rest = createRest({ origin: environment.restOrigin, signer, orderLanesMax: DEFAULTS.orderLanes * 2 })
  let agent: Agent | undefined
  try {
    const markets = await readMarkets(rest, settings)
    const account = await readAccount(rest, settings)
    agent = await createAgent({
      service: settings.service,
      instance: settings.instance,
      venue: 'kalshi',
      collectorUrl: settings.collectorUrl,
      token: settings.collectorToken,
      slos: settings.slos,
    })
    await rest.warm(DEFAULTS.orderLanes)
    const bot = new LiveBot({
      settings,
      account,
      markets,
      signer,
      rest,
      agent,
      journal,
      feedOrigin: environment.feedOrigin,
    })
    await bot.start()
    return bot
  } catch (error) {
    await Promise.all([rest.stop({ graceMs: 1 }), agent?.stop({ timeoutMs: 0 }), journal?.stop()])
    throw venueUserError(error, 'starting')
  }
}

/** A key that cannot be used is the environment's fault here: the flag that names its file may be right. */
function signerOf({ keyId, privateKeyPem, keySource }: Settings): Signer {
  try {
    return createSigner({ keyId, privateKeyPem, source: keySource })
  } catch (error) {
    if (error instanceof UserError) throw new UserError(error.code, error.message, EXIT.environment)
    throw error
  }
}

interface Parts {
  readonly settings: Settings
  readonly account: Account
  readonly markets: readonly VenueMarket[]
  readonly signer: Signer
  readonly rest: Rest
  readonly agent: Agent
  readonly journal: Journal | undefined
  readonly feedOrigin: string
}

class LiveBot implements Bot {
  readonly tickers: readonly string[]
  readonly #parts: Parts
  readonly #agent: Agent
  readonly #notes: Notes
  readonly #markets = new Map<string, Market>()
  readonly #positions: Positions
  readonly #orders: Orders
  readonly #risk: Risk
  readonly #gateway: Gateway
  readonly #reconciler: Reconciler
  readonly #trader: Trader
  #feed: Feed
  /** Of the connection at hand, and since when its data has been late, ms; `NaN` while it is not. */
  #feedAge = new FeedAge(LATE_MS, performance.timeOrigin)
  #lateSinceMs = Number.NaN
  /** Of feeds that were replaced. */
  #earlier = { gaps: 0, reconnects: 0 }
  #freshFeedAtMs = Number.NEGATIVE_INFINITY
  /** Whether the feed has been ready once, and since when it has not been, epoch ms. */
  #wasReady = false
  #lostAtMs = Date.now()
  #watchdog: NodeJS.Timeout | undefined
  /** When to reconcile next, and whether that is the second time after a reconnect. */
  #reconcileAtMs = 0
  #lagging = false
  #lastMessageAtMs = performance.now()
  #stopping: Promise<Summary> | undefined
  #ticksReceived = 0
  #fills = 0
  #resyncs = 0
  #negativeLevels = 0
  #crossedBooks = 0
  #lateTicks = 0
  #breakerTrips = 0

  constructor(parts: Parts) {
    const { settings, account, markets, rest, agent, journal } = parts
    this.#parts = parts
    this.#agent = agent
    this.#notes = new Notes(settings.note)
    const note = (message: string) => this.#notes.say(message)
    this.tickers = markets.map((market) => market.ticker)
    for (const market of markets) this.#markets.set(market.ticker, new Market(market, settings.estimate))
    this.#positions = account.positions
    const runId = `${idPrefix(settings)}${Date.now().toString(36)}${randomBytes(3).toString('hex')}`
    this.#orders = new Orders({
      runId,
      onFilled: (order, deltaHundredths, costMicros) =>
        this.#positions.fill(order.ticker, order.side, deltaHundredths, costMicros),
      ...(journal && {
        onState: (
          { clientOrderId, orderId, ticker, side, kind, priceTicks, sizeHundredths, state, filledHundredths },
          why,
        ) =>
          journal.write({
            atMs: Date.now(),
            event: 'order',
            ...{ clientOrderId, orderId, ticker, side, kind, priceTicks, sizeHundredths, state, filledHundredths, why },
          }),
      }),
    })
    this.#risk = new Risk(account.limits)
    const maxLifeMs = quoteMaxLifeMs(markets.length, account.limits.ordersPerSecond)
    this.#gateway = new Gateway({
      agent,
      rest,
      quoteTtlMs: 2 * maxLifeMs + QUOTE_TTL_SPARE_MS,
      orders: this.#orders,
      risk: this.#risk,
      onUnknown: (order) => this.#reconciler.lookUp(order),
      note,
    })
    this.#reconciler = new Reconciler({
      rest,
      orders: this.#orders,
      positions: this.#positions,
      runId,
      tickers: new Set(this.tickers),
      onTrade: (trade) => this.#onTrade(trade),
      cancel: (order) => this.#gateway.cancel(this.#markets.get(order.ticker)!, order),
      cancelStray: (order) => void rest.cancelOrder({ orderId: order.orderId, marketTicker: order.ticker }),
      note,
    })
    this.#trader = new Trader({
      agent,
      gateway: this.#gateway,
      orders: this.#orders,
      positions: this.#positions,
      risk: this.#risk,
      params: { ...settings.strategy, quoteMaxLifeMs: maxLifeMs },
    })
    this.#feed = this.#createFeed()
    if (settings.breakerMs > 0) agent.onBreach(({ slo }) => this.#trip(slo))
  }

  async start(): Promise<void> {
    await this.#feed.start()
    // Soon, for what was read at start may have lagged.
    this.#reconcileAtMs = performance.now() + READ_LAG_MS
    this.#watchdog = setInterval(() => this.#watch(), WATCH_MS)
    this.#trader.quoting = true
  }

  kill(why: string): void {
    if (this.#risk.killedBy !== '') return
    this.#risk.kill(why)
    this.#notes.say(`kill switch engaged by ${why}: cancelling everything, no more orders`)
    this.#pullAll()
  }

  stop(): Promise<Summary> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  #createFeed(): Feed {
    const { signer, feedOrigin } = this.#parts
    return createFeed(
      { origin: feedOrigin, signer, marketTickers: this.tickers },
      {
        onEvent: this.#onEvent,
        onSuspect: (tickers) => this.#onSuspect(tickers),
        onReady: () => this.#onReady(),
        onDisconnect: (error, retryInMs) => {
          this.#lostAtMs = Date.now()
          this.#notes.say(`${error.message}; connecting again in ${Math.round(retryInMs)} ms`)
        },
      },
    )
  }

  /** Hot path: every message. */
  readonly #onEvent = (message: FeedMessage, receivedAtMs: number, decodedAtMs: number): void => {
    this.#lastMessageAtMs = receivedAtMs
    switch (message.type) {
      case 'orderbook_delta':
        this.#onDelta(message, receivedAtMs, decodedAtMs)
        return
      case 'orderbook_snapshot':
        this.#onSnapshot(message, receivedAtMs, decodedAtMs)
        return
      case 'ticker':
      case 'trade': {
        const tick = this.#begin(receivedAtMs, decodedAtMs)
        this.#endQuiet(tick)
        return
      }
      case 'fill':
        this.#onTrade({
          ...message,
          clientOrderId: message.clientOrderId ?? '',
          ticker: message.marketTicker,
          priceTicks: message.yesPriceTicks,
        })
        return
      case 'user_order':
        this.#onUserOrder(message)
        return
    }
  }

  #begin(receivedAtMs: number, decodedAtMs: number): number {
    this.#ticksReceived++
    const tick = this.#agent.begin(receivedAtMs)
    this.#agent.markAt(tick, INSTANT.decoded, decodedAtMs)
    return tick
  }

  /** A tick that changes no book that is traded on. */
  #endQuiet(tick: number): void {
    this.#agent.mark(tick, INSTANT.booked)
    this.#agent.mark(tick, INSTANT.decided)
    this.#agent.close(tick, OUTCOME.ok)
  }

  #onDelta(delta: BookDelta, receivedAtMs: number, decodedAtMs: number): void {
    const tick = this.#begin(receivedAtMs, decodedAtMs)
    const market = this.#markets.get(delta.marketTicker)
    if (!market) {
      this.#endQuiet(tick)
      return
    }
    const { book } = market
    const result = book.apply(delta.side, delta.priceTicks, delta.deltaHundredths)
    if (delta.clientOrderId !== undefined) this.#showOwn(delta.clientOrderId, delta.deltaHundredths > 0)
    if (result !== 'applied') {
      this.#endQuiet(tick)
      if (result !== 'ignored') {
        this.#negativeLevels++
        market.broken = true
        this.#journalBook(market.ticker, 'suspect')
      }
      return
    }
    this.#agent.mark(tick, INSTANT.booked)
    if (book.crossed) this.#crossedBooks++
    if (this.#feedAge.isLate(delta.tsMs, receivedAtMs)) {
      this.#lateTicks++
      if (Number.isNaN(this.#lateSinceMs)) this.#lateSinceMs = receivedAtMs
      this.#agent.mark(tick, INSTANT.decided)
    } else {
      this.#lateSinceMs = Number.NaN
      this.#trader.onBook(market, tick, receivedAtMs)
    }
    this.#agent.close(tick, OUTCOME.ok)
  }

  #onSnapshot(snapshot: BookSnapshot, receivedAtMs: number, decodedAtMs: number): void {
    const tick = this.#begin(receivedAtMs, decodedAtMs)
    const market = this.#markets.get(snapshot.marketTicker)
    if (!market) {
      this.#endQuiet(tick)
      return
    }
    const before = market.book.state
    market.broken = !market.book.replace(snapshot.yes, snapshot.no)
    if (before === 'suspect' && market.book.state === 'live') {
      this.#resyncs++
      this.#journalBook(market.ticker, 'live')
    }
    // What rests of ours is in the snapshot, without any mark.
    for (const order of this.#orders.liveOf(market.ticker)) order.shown = order.orderId !== ''
    this.#agent.mark(tick, INSTANT.booked)
    this.#trader.onBook(market, tick, receivedAtMs)
    this.#agent.close(tick, OUTCOME.ok)
  }

  #showOwn(clientOrderId: string, shown: boolean): void {
    const order = this.#orders.byClientId(clientOrderId)
    if (order) order.shown = shown
  }

  #onUserOrder({ orderId, clientOrderId, status, fillCountHundredths }: UserOrder): void {
    const order = this.#orders.byOrderId(orderId) ?? this.#orders.byClientId(clientOrderId ?? '')
    // A new order is named by its answer, which also ends its record; this message may come first and only adds fills.
    if (order && (order.state !== 'pending' || status !== 'resting'))
      this.#orders.report(order, { orderId, status, filledHundredths: fillCountHundredths }, 'user_order')
  }

  #onTrade(trade: OwnTrade): void {
    const { tradeId, orderId, clientOrderId, ticker, side, countHundredths, priceTicks, feeMicros } = trade
    if (!this.#positions.isNew(tradeId)) return
    this.#fills++
    this.#positions.fee(ticker, feeMicros)
    const order = this.#orders.trade(orderId, clientOrderId, countHundredths, priceTicks)
    // Not known as ours: booked as it is, for the position is the account's.
    if (!order) this.#positions.fill(ticker, side, countHundredths, countHundredths * priceTicks)
    this.#parts.journal?.write({
      atMs: Date.now(),
      event: 'fill',
      ...{ tradeId, orderId, ticker, side, countHundredths, priceTicks, feeMicros },
    })
  }

  #onSuspect(tickers: readonly string[]): void {
    for (const ticker of tickers) {
      const book = this.#markets.get(ticker)?.book
      if (book?.state !== 'live') continue
      book.doubt()
      this.#journalBook(ticker, 'suspect')
    }
  }

  #journalBook(ticker: string, state: 'suspect' | 'live'): void {
    this.#parts.journal?.write({ atMs: Date.now(), event: 'book', ticker, state })
  }

  #onReady(): void {
    this.#feedAge = new FeedAge(LATE_MS, performance.timeOrigin)
    this.#lateSinceMs = Number.NaN
    if (this.#wasReady) {
      void this.#reconciler.pass(this.#lostAtMs)
      this.#reconcileAtMs = performance.now() + READ_LAG_MS
      this.#lagging = true
    }
    this.#wasReady = true
  }

  /** Everything that must be noticed without a message. */
  #watch(): void {
    const nowMs = performance.now()
    const silent = nowMs - this.#lastMessageAtMs >= this.#parts.settings.staleAfterMs
    const late = !Number.isNaN(this.#lateSinceMs)
    const open = this.#trader.quoting && this.#risk.mayRest(nowMs) && !silent && !late
    for (const market of this.#markets.values()) {
      const { book } = market
      if (book.state === 'live' && !book.crossed) market.unfitSinceMs = Number.NaN
      else if (Number.isNaN(market.unfitSinceMs)) market.unfitSinceMs = nowMs
      const unfitMs = nowMs - market.unfitSinceMs
      if (!open || unfitMs > UNFIT_MS) this.#trader.pull(market)
      if (book.crossed && unfitMs > CROSSED_MS) {
        book.doubt()
        market.broken = true
      }
      if (market.broken) this.#freshFeed(`the book of ${market.ticker} contradicts itself`, nowMs)
    }
    if (nowMs - this.#lateSinceMs > LATE_FOR_MS)
      this.#freshFeed(`market data has been late for ${LATE_FOR_MS} ms`, nowMs)
    if (nowMs >= this.#reconcileAtMs) void this.#reconcile(nowMs)
  }

  #reconcile(nowMs: number): Promise<void> {
    this.#reconcileAtMs = nowMs + RECONCILE_MS
    this.#lagging = false
    return this.#reconciler.pass(Date.now() - RECONCILE_MS)
  }

  /** All books are read anew on a fresh connection: the feed's own repairs know of gaps only. */
  #freshFeed(why: string, nowMs: number): void {
    if (nowMs - this.#freshFeedAtMs < FRESH_FEED_MS || this.#stopping) return
    this.#freshFeedAtMs = nowMs
    this.#notes.say(`${why}: reading all books anew`)
    void this.#replaceFeed()
  }

  async #replaceFeed(): Promise<void> {
    const { gaps, reconnects } = this.#feed.stats
    this.#earlier = { gaps: this.#earlier.gaps + gaps, reconnects: this.#earlier.reconnects + reconnects + 1 }
    this.#onSuspect(this.tickers)
    this.#lostAtMs = Date.now()
    const old = this.#feed
    this.#feed = this.#createFeed()
    await old.stop()
    // The first connection of a feed is not retried by itself.
    while (!this.#stopping) {
      const feed = this.#feed
      const error = await feed.start().then(
        () => undefined,
        (reason) => reason as Error,
      )
      if (error === undefined) return
      this.#notes.say(error.message)
      await new Promise((resolve) => setTimeout(resolve, FRESH_FEED_MS).unref())
      this.#feed = this.#createFeed()
    }
  }

  #trip(slo: string): void {
    if (slo === 'utilization') return
    const nowMs = performance.now()
    if (this.#risk.mayRest(nowMs)) {
      this.#breakerTrips++
      this.#notes.say(
        `latency circuit breaker: ${slo} over budget, quotes pulled for ${this.#parts.settings.breakerMs} ms`,
      )
    }
    this.#risk.withdraw(nowMs + this.#parts.settings.breakerMs)
    this.#pullAll()
  }

  #pullAll(): void {
    for (const market of this.#markets.values()) this.#trader.pull(market)
  }

  async #stop(): Promise<Summary> {
    this.#trader.quoting = false
    const { rest, journal } = this.#parts
    await until(STOP_MS, () => {
      this.#pullAll()
      return this.#orders.liveCount === 0 && this.#gateway.pending === 0
    })
    if (this.#lagging) {
      await until(READ_LAG_MS, () => !this.#lagging)
      // Joins the pass the watchdog has just begun.
      await this.#reconciler.pass(Date.now() - RECONCILE_MS)
    }
    // Ticks that our last cancels cause are on their way: they were delivered, so they count.
    await until(DRAIN_MAX_MS, () => performance.now() - this.#lastMessageAtMs >= DRAIN_MS)
    clearInterval(this.#watchdog)
    await this.#feed.stop()
    this.#reconciler.stop()
    await rest.stop({ graceMs: 1 })
    const { acknowledged, dropped } = await this.#agent.stop({ timeoutMs: AGENT_STOP_MS })
    await journal?.stop()
    this.#notes.stop()
    return this.#summary(acknowledged, dropped)
  }

  #summary(acknowledged: boolean, dropped: number): Summary {
    const { ordersSent, ordersAcked, ordersRejected, ordersUnknown, ordersUnsent, cancelsSent } = this.#gateway
    const { gaps, reconnects } = this.#feed.stats
    const held = this.#positions.all()
    return {
      ticksReceived: this.#ticksReceived,
      ...{ ordersSent, ordersAcked, ordersRejected, ordersUnknown, ordersUnsent, cancelsSent },
      firstTickToTradeNs: ordersSent === 0 ? null : Math.round(this.#gateway.firstTickToTradeMs * 1e6),
      fills: this.#fills,
      dropped,
      gaps: gaps + this.#earlier.gaps,
      resyncs: this.#resyncs,
      reconnects: reconnects + this.#earlier.reconnects,
      negativeLevels: this.#negativeLevels,
      crossedBooks: this.#crossedBooks,
      lateTicks: this.#lateTicks,
      refused: this.#risk.refused,
      breakerTrips: this.#breakerTrips,
      killedBy: this.#risk.killedBy,
      position: Object.fromEntries(held.map((position) => [position.ticker, position.quantityHundredths / 100])),
      realizedDollars: held.reduce((sum, position) => sum + position.realizedMicros, 0) / 1e6,
      feesDollars: held.reduce((sum, position) => sum + position.feesMicros, 0) / 1e6,
      positionCorrections: this.#reconciler.corrections,
      leftResting: this.#orders.liveCount,
      journalDropped: this.#parts.journal?.dropped ?? 0,
      acknowledged,
    }
  }
}

/** Polls until `done` or until the time is up. */
async function until(timeoutMs: number, done: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs
  while (!done() && performance.now() < deadlineMs) await new Promise((resolve) => setTimeout(resolve, 10))
}
