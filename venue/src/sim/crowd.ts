/**
 * The synthetic flow: a seeded crowd trading a handful of markets on one moving price, through the real engine.
 *
 * The markets ask whether a price will stand above their strike; a random walk with jumps moves it, and with it what
 * each is worth. Makers quote around that worth and re-quote, takers lift what is stale or just want in, so depth,
 * trades and the fills of anybody's quotes come about as they do at the venue.
 *
 * Arrivals excite each other (a Hawkes process with an exponential kernel) under a slowly drifting mood: most messages
 * come within a millisecond or two of the one before, with silences between the bursts. At the default rate the gaps
 * are close to recorded KXBTC15M traffic by venue time (p50 1.3, p90 27, p99 133 ms, a third of them zero). Seeded: the
 * crowd draws the same in every run, and does the same as long as nobody else trades.
 */
import { Account } from './account.ts'
import type { Order } from './book.ts'
import { epochMs } from './clock.ts'
import type { Engine, EngineMarket, MarketSpec } from './engine.ts'
import type { Flow } from './flow.ts'
import { Random } from './random.ts'
import type { FlowContext } from './simulator.ts'

export const CROWD_DEFAULTS = { markets: 4, ratePerSecond: 100 }
export const CROWD_LIMITS = { markets: 50, ratePerSecond: 20_000 }

export interface CrowdOptions {
  readonly markets: number
  /** Average market-data messages per second, all markets together. */
  readonly ratePerSecond: number
}

/** Share of events that another event set off; the rest come by themselves. */
const BRANCHING = 0.6
/** How fast excitement fades, 1/s, at 100 messages a second. */
const DECAY_PER_SECOND = 60
/** The crowd's mood: the rate drifts by e^(this · normal), and forgets within so many seconds. */
const MOOD_DEVIATION = 0.5
const MOOD_SECONDS = 5
/** Deltas and trades that one event causes on average; the test measures it. */
const MESSAGES_PER_EVENT = 1.62

/** The price below the markets, dollars, and how it moves. */
const SPOT = 97_000
const STRIKE_STEP = 250
/** Standard deviation of the price at expiry as the crowd sees it: what turns distance from the strike into worth. */
const SPOT_SPREAD = 1_000
const WALK_PER_ROOT_SECOND = 20
const JUMP_EVERY_SECONDS = 15
const JUMP_DEVIATION = 60
/** Pull back to the start, 1/s, so that no market ends up worthless. */
const REVERSION_PER_SECOND = 1 / 300
/** Extra events per second that a jump sets off, times the average rate. */
const JUMP_EXCITEMENT = 6

const MEMBERS = 8
/** Resting orders of the crowd per market that it drifts around. */
const RESTING_TARGET = 120
/** Price levels a quote may be away from the best place, on average. */
const DEPTH_CENTS = 3.5
const CENT_TICKS = 100

const TICKER_INTERVAL_MS = 1_000
const MARKET_LIFE_MS = 24 * 3_600_000
/** An event loop that was blocked longer than this skips what it missed. */
const CATCH_UP_MS = 1_000

interface CrowdMarket {
  readonly market: EngineMarket
  readonly strike: number
  readonly resting: Order[]
}

/** The crowd without a clock: what happens next, and when. */
export class CrowdModel {
  readonly markets: readonly CrowdMarket[]
  readonly #engine: Engine
  readonly #random: Random
  readonly #members: readonly Account[]
  readonly #eventsPerSecond: number
  readonly #decay: number
  #spot = SPOT
  #mood = 0
  /** Events per second above those that come by themselves. */
  #excitement = 0
  #atMs = 0
  /** When the next event is due, ms since the start of the flow. */
  nextMs = 0
  events = 0

  constructor(engine: Engine, seed: number, options: CrowdOptions) {
    this.#engine = engine
    this.#random = new Random(seed, 'crowd')
    this.#eventsPerSecond = options.ratePerSecond / MESSAGES_PER_EVENT
    // Bursts keep their shape at any rate: time is scaled as a whole.
    this.#decay = (DECAY_PER_SECOND * options.ratePerSecond) / CROWD_DEFAULTS.ratePerSecond
    this.#members = Array.from(
      { length: MEMBERS },
      (_, i) => new Account({ id: `crowd-${i}`, userId: '', balanceMicros: 0, house: true }),
    )
    const openAtMs = epochMs()
    this.markets = Array.from({ length: options.markets }, (_, i) => {
      const strike = SPOT + (i - (options.markets - 1) / 2) * STRIKE_STEP
      const market = engine.addMarket(marketSpec(strike, openAtMs, this.#random.uuid()))
      return { market, strike, resting: [] }
    })
    for (const one of this.markets) this.#furnish(one, openAtMs)
    this.#draw()
  }

  /** Lets the next event happen. @param nowMs epoch ms to stamp on it */
  step(nowMs: number): void {
    const sinceSeconds = (this.nextMs - this.#atMs) / 1000
    this.#atMs = this.nextMs
    this.events++
    this.#move(sinceSeconds)
    this.#act(this.#random.pick(this.markets), nowMs)
    this.#excitement += BRANCHING * this.#decay
    this.#draw()
  }

  /** Draws when the next event comes, by thinning: the rate is taken to fall only until then. */
  #draw(): void {
    const random = this.#random
    let atMs = this.#atMs
    for (;;) {
      const mood = Math.exp(MOOD_DEVIATION * this.#mood - MOOD_DEVIATION ** 2 / 2)
      const base = this.#eventsPerSecond * (1 - BRANCHING) * mood
      const bound = base + this.#excitement
      const waitSeconds = random.exponential(1 / bound)
      atMs += waitSeconds * 1000
      this.#excitement *= Math.exp(-this.#decay * waitSeconds)
      const kept = Math.exp(-waitSeconds / MOOD_SECONDS)
      this.#mood = this.#mood * kept + Math.sqrt(1 - kept * kept) * random.normal()
      if (random.unit() * bound <= base + this.#excitement) break
    }
    this.nextMs = atMs
  }

  #move(seconds: number): void {
    const random = this.#random
    this.#spot += (SPOT - this.#spot) * Math.min(1, REVERSION_PER_SECOND * seconds)
    this.#spot += WALK_PER_ROOT_SECOND * Math.sqrt(seconds) * random.normal()
    if (random.unit() >= seconds / JUMP_EVERY_SECONDS) return
    this.#spot += JUMP_DEVIATION * random.normal()
    this.#excitement += JUMP_EXCITEMENT * this.#eventsPerSecond
  }

  /** Probability, in ticks, that the price ends above the strike. */
  #worthTicks({ strike }: CrowdMarket): number {
    return Math.min(9_800, Math.max(200, 10_000 * normalCdf((this.#spot - strike) / SPOT_SPREAD)))
  }

  #act(one: CrowdMarket, nowMs: number): void {
    const random = this.#random
    const worthTicks = this.#worthTicks(one)
    const { bids, asks } = one.market.book
    const stale =
      (asks.best && asks.best.priceTicks < worthTicks - CENT_TICKS / 2 && ('bid' as const)) ||
      (bids.best && bids.best.priceTicks > worthTicks + CENT_TICKS / 2 && ('ask' as const))
    const dice = random.unit()
    // Somebody picks off a stale quote about as fast as its owner pulls it.
    if (stale && dice < 0.4) this.#take(one, stale, nowMs)
    else if (dice < 0.06) this.#take(one, random.unit() < 0.5 ? 'bid' : 'ask', nowMs)
    else if (dice < 0.52) {
      this.#cancelOne(one, worthTicks, nowMs)
      this.#quote(one, worthTicks, nowMs)
    } else if (random.unit() < one.resting.length / (2 * RESTING_TARGET)) this.#cancelOne(one, worthTicks, nowMs)
    else this.#quote(one, worthTicks, nowMs)
  }

  #take({ market }: CrowdMarket, side: 'bid' | 'ask', nowMs: number): void {
    const best = market.book.ladder(side === 'bid' ? 'ask' : 'bid').best
    if (best === undefined) return
    this.#engine.create(
      this.#random.pick(this.#members),
      {
        ticker: market.spec.ticker,
        side,
        priceTicks: best.priceTicks,
        count: this.#size(),
        timeInForce: 'immediate_or_cancel',
        selfTradePrevention: 'maker',
      },
      nowMs,
    )
  }

  /** A quote a cent or more away from the worth; it trades at once when it meets a stale one. */
  #quote(one: CrowdMarket, worthTicks: number, nowMs: number): void {
    const random = this.#random
    const side = random.unit() < 0.5 ? 'bid' : 'ask'
    const awayCents = 0.5 + random.exponential(DEPTH_CENTS)
    const cents =
      side === 'bid' ? Math.floor(worthTicks / CENT_TICKS - awayCents) : Math.ceil(worthTicks / CENT_TICKS + awayCents)
    if (cents < 1 || cents > 99) return
    const order = this.#engine.create(
      random.pick(this.#members),
      {
        ticker: one.market.spec.ticker,
        side,
        priceTicks: cents * CENT_TICKS,
        count: this.#size(),
        timeInForce: 'good_till_canceled',
        selfTradePrevention: 'maker',
      },
      nowMs,
    )
    if (order.status === 'resting') one.resting.push(order)
  }

  /** Prefers a quote that has become too good for others; else any. */
  #cancelOne(one: CrowdMarket, worthTicks: number, nowMs: number): void {
    const { resting } = one
    let chosen: Order | undefined
    for (let tries = 0; tries < 4 && resting.length > 0; tries++) {
      const index = this.#random.below(resting.length)
      const order = resting[index] as Order
      if (order.status !== 'resting') {
        resting[index] = resting.at(-1) as Order
        resting.pop()
        continue
      }
      chosen = order
      if (order.side === 'bid' ? order.priceTicks >= worthTicks : order.priceTicks <= worthTicks) break
    }
    if (chosen !== undefined) this.#engine.cancelHouse(chosen, nowMs)
  }

  /** Hundredths of contracts: round lots mostly, an eighth of them fractional, as recorded. */
  #size(): number {
    const random = this.#random
    const contracts = Math.exp(2.5 + 1.2 * random.normal())
    const rounded = contracts < 10 ? Math.ceil(contracts) : Math.round(contracts / 5) * 5
    const hundredths = random.unit() < 0.125 ? Math.round(contracts * 100) : rounded * 100
    return Math.min(500_000, Math.max(1, hundredths))
  }

  /** A book to begin with, and a last price. */
  #furnish(one: CrowdMarket, nowMs: number): void {
    const worthTicks = this.#worthTicks(one)
    while (one.resting.length < RESTING_TARGET) this.#quote(one, worthTicks, nowMs)
    this.#take(one, 'bid', nowMs)
  }
}

/** The crowd in real time. */
export class Crowd implements Flow {
  readonly tickers: readonly string[]
  readonly ended = new Promise<void>(() => {})
  readonly #context: FlowContext
  readonly #model: CrowdModel
  /** Instant of `performance.now()` at the model's time 0, and the model's time when paused. */
  #zeroMs = 0
  #pausedMs = 0
  #running = false
  #timer: NodeJS.Timeout | undefined
  #tickerTimer: NodeJS.Timeout | undefined
  readonly #tickerAtMs: number[]
  #tickerTurn = 0
  #skippedMs = 0

  constructor(context: FlowContext, options: CrowdOptions) {
    this.#context = context
    this.#model = new CrowdModel(context.engine, context.seed, options)
    this.tickers = this.#model.markets.map(({ market }) => market.spec.ticker)
    this.#tickerAtMs = this.tickers.map(() => 0)
  }

  start(): void {
    if (this.#running) return
    this.#running = true
    this.#zeroMs = performance.now() - this.#pausedMs
    this.#arm()
    this.#tickerTimer = setInterval(() => this.#tellTicker(), TICKER_INTERVAL_MS / this.tickers.length)
  }

  pause(): void {
    if (!this.#running) return
    this.#running = false
    this.#pausedMs = performance.now() - this.#zeroMs
    clearTimeout(this.#timer)
    clearInterval(this.#tickerTimer)
  }

  stop(): void {
    this.pause()
  }

  stats() {
    return {
      kind: 'crowd',
      events: this.#model.events,
      /** Time of the flow lost because this process was blocked. */
      skippedMs: Math.round(this.#skippedMs),
    }
  }

  #arm(): void {
    const inMs = this.#zeroMs + this.#model.nextMs - performance.now()
    this.#timer = setTimeout(this.#wake, Math.max(0, Math.floor(inMs)))
  }

  #wake = () => {
    const behindMs = performance.now() - this.#zeroMs - this.#model.nextMs
    if (behindMs > CATCH_UP_MS) {
      this.#zeroMs += behindMs
      this.#skippedMs += behindMs
    }
    while (this.#model.nextMs <= performance.now() - this.#zeroMs) this.#model.step(epochMs())
    this.#arm()
  }

  /** The markets in turn, each once a second, and only when something has changed there. */
  #tellTicker(): void {
    const index = this.#tickerTurn++ % this.tickers.length
    const { market } = this.#model.markets[index] as CrowdMarket
    if (market.updatedAtMs <= (this.#tickerAtMs[index] as number)) return
    const nowMs = epochMs()
    this.#tickerAtMs[index] = nowMs
    this.#context.feed.ticker(market, nowMs)
  }
}

function marketSpec(strike: number, openAtMs: number, marketId: string): MarketSpec {
  const closeAtMs = openAtMs + MARKET_LIFE_MS
  const [, , day, month, year, hour] =
    /^(\w+), (\d+) (\w+) \d\d(\d\d) (\d+)/.exec(new Date(closeAtMs).toUTCString()) ?? []
  const eventTicker = `KXBTC-${year}${month?.toUpperCase()}${day}${hour}`
  const above = (strike - 0.01).toFixed(2)
  return {
    ticker: `${eventTicker}-T${above}`,
    marketId,
    eventTicker,
    seriesTicker: 'KXBTC',
    title: `Bitcoin price above $${above}?`,
    priceLevelStructure: 'linear_cent',
    priceRanges: [{ startTicks: 0, endTicks: 10_000, stepTicks: CENT_TICKS }],
    feeType: 'quadratic',
    exchangeIndex: 2,
    openAtMs,
    closeAtMs,
  }
}

/** Abramowitz and Stegun 26.2.17; the error is below 10^-7. */
function normalCdf(x: number): number {
  const t = 1 / (1 + 0.2316419 * Math.abs(x))
  const tail =
    0.3989422804014327 *
    Math.exp((-x * x) / 2) *
    t *
    (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
  return x >= 0 ? 1 - tail : tail
}
