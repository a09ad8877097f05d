/**
 * The recorded flow: other people's depth from a recording, at recorded, scaled or maximum speed; members' orders
 * match against it.
 *
 * The model, in full:
 * - Recorded depth is one crowd that never trades with itself. What is recorded happened; it is not matched again.
 * - A member's order that crosses recorded depth takes it, in price order. What was taken is gone: a later recorded
 *   decrease of that level takes what is left and no more, so a level never goes below nothing, and what a member took
 *   does not come back until a recorded snapshot says so.
 * - A resting order of a member fills when recorded depth arrives at a price that crosses it, as far as that depth
 *   goes; only the rest of the depth shows in the book.
 * - It also fills by recorded trades at its price, once the depth that queued before it has traded, or in full when
 *   others traded through its price. Depth that leaves without a trade leaves from behind it. Without recorded trades,
 *   the last trade of each ticker message stands in, for orders that rested since the ticker before: fewer fills than
 *   there would have been, never more.
 * - Each market of the recording is open from the start, with an empty book until its first recorded snapshot, and
 *   closes when the recording has nothing more of it: what still rests is cancelled.
 * - Connections of the recorder leave no trace: one feed, numbered by the simulator. Instants in messages are the
 *   simulator's, so that the age of a message means what it says.
 */
import { parseDollars, TICKS_PER_DOLLAR } from '../kalshi/decimal.ts'
import type { BookDelta, BookSnapshot, Ticker, Trade } from '../kalshi/message.ts'
import { type BookSide, bookSide } from '../kalshi/order.ts'
import { epochMs } from './clock.ts'
import type { EngineMarket, MarketSpec } from './engine.ts'
import type { Flow } from './flow.ts'
import { type RecordedLine, type RecordedMarket, type Recording, readRecording } from './recording.ts'
import type { FlowContext } from './simulator.ts'
import { tickerTimes } from './wire.ts'

export interface ReplayOptions {
  readonly recording: Recording
  /** Factor on the recorded pace; infinite is as fast as the readers take it. */
  readonly speed: number
  /** Longer silences of the recording are cut to this, ms of recorded time. */
  readonly maxGapMs: number
}

/** Messages waiting to be sent before the replay waits too. */
const FEED_QUEUE_MAX = 10_000
const SOCKET_BUFFER_MAX = 4 * 1024 * 1024
/** Longest stretch of work without letting requests in, ms. */
const TURN_MS = 4
/** How long a market without an end in sight says it stays open. */
const LIFE_AT_MAX_SPEED_MS = 24 * 3_600_000

interface ReplayMarket {
  readonly market: EngineMarket
  readonly recorded: RecordedMarket
  left: number
  /** When the last ticker message came and what volume it told, for trades between two of them. */
  tickerAtMs: number
  volume: number
}

export class Replay implements Flow {
  readonly tickers: readonly string[]
  readonly ended: Promise<void>
  readonly #context: FlowContext
  readonly #options: ReplayOptions
  readonly #markets = new Map<string, ReplayMarket>()
  #started: () => void = () => {}
  #failed: (error: unknown) => void = () => {}
  #finished: () => void = () => {}
  /** Recorded time of the message at hand, gaps cut, ms. */
  #positionMs = 0
  /** Instant of `performance.now()` that stands for recorded time 0, and how far beyond it the last pause began. */
  #zeroMs = 0
  #pausedMs = 0
  #lastAtMs = Number.NaN
  #running = false
  #stopped = false
  #wake: () => void = () => {}
  #timer: NodeJS.Timeout | undefined
  #messages = 0
  #memberFills = 0
  /** Recorded decreases beyond what was there: taken by members, or a recording with holes. */
  #beyond = 0

  constructor(context: FlowContext, options: ReplayOptions) {
    this.#context = context
    this.#options = options
    const openAtMs = epochMs()
    for (const recorded of options.recording.markets.values()) {
      const lifeMs = Number.isFinite(options.speed) ? recorded.endMs / options.speed : LIFE_AT_MAX_SPEED_MS
      const market = context.engine.addMarket(marketSpec(recorded, openAtMs, openAtMs + lifeMs))
      this.#markets.set(recorded.ticker, { market, recorded, left: recorded.messages, tickerAtMs: 0, volume: 0 })
    }
    this.tickers = [...this.#markets.keys()]
    this.ended = new Promise((resolve, reject) => {
      this.#finished = resolve
      this.#failed = reject
    })
    new Promise<void>((resolve) => {
      this.#started = resolve
    })
      .then(() => this.#run())
      .then(this.#finished, this.#failed)
  }

  start(): void {
    if (this.#running) return
    this.#running = true
    this.#zeroMs = performance.now() - this.#pausedMs
    this.#started()
    this.#wake()
  }

  pause(): void {
    if (!this.#running) return
    this.#running = false
    this.#pausedMs = performance.now() - this.#zeroMs
    // Whoever waits for time to pass waits for the start instead.
    this.#wake()
  }

  stop(): void {
    this.#stopped = true
    this.#running = false
    this.#wake()
  }

  stats() {
    const { recording, speed } = this.#options
    return {
      kind: 'replay',
      recording: recording.path,
      speed: Number.isFinite(speed) ? speed : 'max',
      messages: this.#messages,
      messagesTotal: recording.messages,
      positionMs: Math.round(this.#positionMs),
      durationMs: Math.round(recording.durationMs),
      memberFills: this.#memberFills,
      beyondDepth: this.#beyond,
    }
  }

  #wallMs(recordedMs: number): number {
    return Number.isFinite(this.#options.speed) ? recordedMs / this.#options.speed : 0
  }

  async #run(): Promise<void> {
    const { recording, maxGapMs } = this.#options
    let turnEndsMs = performance.now() + TURN_MS
    for await (const lines of readRecording(recording.path)) {
      for (const line of lines) {
        this.#positionMs += Math.min(maxGapMs, Math.max(0, line.atMs - this.#lastAtMs) || 0)
        this.#lastAtMs = line.atMs
        for (;;) {
          if (this.#stopped) return
          const nowMs = performance.now()
          const inMs = this.#zeroMs + this.#wallMs(this.#positionMs) - nowMs
          if (!this.#running) await this.#waitFor(undefined)
          else if (inMs > 0) await this.#waitFor(Math.floor(inMs))
          else if (nowMs < turnEndsMs && this.#context.feed.queued < FEED_QUEUE_MAX) break
          else {
            await this.#waitFor(this.#congested() ? 1 : 0)
            turnEndsMs = performance.now() + TURN_MS
            if (!this.#congested()) break
          }
        }
        this.#apply(line)
      }
    }
  }

  #congested(): boolean {
    const { feed } = this.#context
    return feed.queued >= FEED_QUEUE_MAX || feed.bufferedBytes() > SOCKET_BUFFER_MAX
  }

  /** Waits for the time, or until `start`, `pause` or `stop`; with no time, until one of them. */
  #waitFor(ms: number | undefined): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = () => {
        clearTimeout(this.#timer)
        this.#wake = () => {}
        resolve()
      }
      if (ms === 0) setImmediate(() => this.#wake())
      else if (ms !== undefined) this.#timer = setTimeout(() => this.#wake(), ms)
    })
  }

  #apply({ message, text }: RecordedLine): void {
    const one = this.#markets.get(message.marketTicker)
    // The file was read whole before; a ticker it did not have then means that it has been changed since.
    if (one === undefined || one.left === 0) return
    const nowMs = epochMs()
    this.#messages++
    switch (message.type) {
      case 'orderbook_snapshot':
        this.#snapshot(one, message, nowMs)
        break
      case 'orderbook_delta':
        this.#delta(one, message, nowMs)
        break
      case 'ticker':
        this.#ticker(one, message, text, nowMs)
        break
      case 'trade':
        this.#trade(one, message, nowMs)
    }
    if (--one.left === 0) this.#context.engine.close(one.market, nowMs)
  }

  #snapshot({ market }: ReplayMarket, { yes, no }: BookSnapshot, nowMs: number): void {
    const { engine, feed } = this.#context
    feed.replaceBook(market, () => {
      engine.clearExternal(market, nowMs)
      for (const { priceTicks, countHundredths } of yes)
        engine.addExternal(market, 'bid', priceTicks, countHundredths, nowMs)
      for (const { priceTicks, countHundredths } of no)
        engine.addExternal(market, 'ask', TICKS_PER_DOLLAR - priceTicks, countHundredths, nowMs)
    })
  }

  #delta({ market }: ReplayMarket, { side, priceTicks, deltaHundredths: delta }: BookDelta, nowMs: number): void {
    const { engine } = this.#context
    const yesTicks = side === 'yes' ? priceTicks : TICKS_PER_DOLLAR - priceTicks
    if (delta > 0) engine.addExternal(market, bookSide(side), yesTicks, delta, nowMs)
    else if (delta < 0 && engine.removeExternal(market, bookSide(side), yesTicks, -delta, nowMs) < -delta)
      this.#beyond++
  }

  #ticker(one: ReplayMarket, ticker: Ticker, text: string, nowMs: number): void {
    const { market, recorded } = one
    const { priceTicks, lastTradeSizeHundredths: count, volumeHundredths: volume = 0 } = ticker
    if (!recorded.hasTrades && one.tickerAtMs > 0 && volume > one.volume && priceTicks && count) {
      const { bids, asks } = market.book
      if (bids.crossedBy(priceTicks)) this.#tradedAt(market, 'bid', priceTicks, count, nowMs, one.tickerAtMs)
      else if (asks.crossedBy(priceTicks)) this.#tradedAt(market, 'ask', priceTicks, count, nowMs, one.tickerAtMs)
    }
    one.tickerAtMs = nowMs
    one.volume = volume
    if (priceTicks !== undefined) market.lastPriceTicks = priceTicks
    market.volume = Math.max(market.volume, volume)
    const { msg } = JSON.parse(text) as { msg: object }
    this.#context.feed.ticker(market, nowMs, JSON.stringify({ ...msg, ...tickerTimes(nowMs) }).slice(1, -1))
  }

  #trade({ market }: ReplayMarket, trade: Trade, nowMs: number): void {
    const { yesPriceTicks: priceTicks, countHundredths: count, takerSide } = trade
    this.#context.feed.publicTrade({ id: trade.tradeId, market, priceTicks, count, takerSide, atMs: nowMs })
    this.#tradedAt(market, takerSide === 'bid' ? 'ask' : 'bid', priceTicks, count, nowMs, nowMs)
  }

  #tradedAt(
    market: EngineMarket,
    makerSide: BookSide,
    priceTicks: number,
    count: number,
    nowMs: number,
    restingSinceMs: number,
  ): void {
    const filled = this.#context.engine.tradeExternal(market, makerSide, priceTicks, count, nowMs, restingSinceMs)
    if (filled > 0) this.#memberFills++
  }
}

/** Whole cents, or a tenth of a cent near the ends where the recording has such prices. */
function marketSpec({ ticker, marketId, subCent }: RecordedMarket, openAtMs: number, closeAtMs: number): MarketSpec {
  const parts = ticker.split('-')
  const range = (start: string, end: string, step: string) => ({
    startTicks: parseDollars(start),
    endTicks: parseDollars(end),
    stepTicks: parseDollars(step),
  })
  return {
    ticker,
    marketId,
    eventTicker: parts.length > 2 ? parts.slice(0, -1).join('-') : ticker,
    seriesTicker: parts[0] as string,
    title: ticker,
    priceLevelStructure: subCent ? 'tapered_deci_cent' : 'linear_cent',
    priceRanges: subCent
      ? [range('0', '0.1', '0.001'), range('0.1', '0.9', '0.01'), range('0.9', '1', '0.001')]
      : [range('0', '1', '0.01')],
    feeType: 'quadratic',
    exchangeIndex: 2,
    openAtMs,
    closeAtMs,
  }
}
