/**
 * The probe `feed`: whether the venue's market data comes, whole and on time.
 *
 * A feed sends when it likes, so nothing here is a request: the messages the venue numbered are `sent`, those that never
 * came are `lost`. Two rows, because they are of different clocks:
 *
 *   feed  boundary user→user. connect: begin of the connection to the upgrade answered; subscribe: from there until every
 *         book is whole; inter_arrival: between market data messages (0 for those of one read); silent_gap: spans without
 *         any of at least `--silent-after`; reconnect: connection lost to every book whole again, delays between
 *         attempts included; stale_book: something lost to the book whole again
 *   age   boundary venue→user: the venue's timestamp to the first byte read. It crosses two clocks, so it is shown only
 *         with a bound on their offset (`feed/offset.ts`), which each figure carries; a message from the future beyond
 *         that bound disproves it, and then no age is shown. The venue's timestamps are whole ms
 *
 * slip is how late a beat of this process was: what reads late receives late. Silence is judged on that beat, after
 * reading, so a stall of this process is not taken for one of the feed.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { ClientRequest } from 'node:http'
import { setTimeout as wait } from 'node:timers/promises'
import { EXIT, parseDurationMs, UserError } from '@tickscope/contract'
import { createFeed, createRest, FEED_PATH, type Feed, type FeedMessage, venueUserError } from '@tickscope/venue/kalshi'
import type { Command } from 'commander'
import { type Access, type AccessOptions, readAccess } from './access.ts'
import { type ClockOffset, measureOffset, WallClock } from './feed/offset.ts'
import { Books, Silence } from './feed/silence.ts'
import { durationFlag } from './flag.ts'
import type { CommonOptions, LatencyProbe, ProbeContext } from './probe.ts'
import type { Measurement } from './result.ts'
import { constantArrivals, openLoop } from './schedule.ts'
import { Tally } from './tally.ts'

export interface FeedOptions extends CommonOptions, AccessOptions {
  readonly tickers?: readonly string[]
  /** ms */
  readonly silentAfter?: number
  readonly staleAfter: number
  /** ms somebody vouches for, or `measure`. */
  readonly clockOffsetBound?: number | 'measure'
}

const TICKERS_MAX = 200
const TICKERS_DEFAULT = 5
const SILENT_AFTER_DEFAULT_MS = 500
/** Silence is found at most this long after it became one; so are lateness and progress. */
const BEATS_PER_SECOND = 20
const CALIBRATE_EVERY_MS = 10_000
const RETRY_MS = 1_000
const STALE_SHOWN = 20
/** Missing messages told to the collector for one gap. */
const MISSING_TOLD_MAX = 10_000
/** Venue timestamps are cut to whole ms. */
const VENUE_STEP_MS = 1
const AGE_CLOCK = "venue's timestamps (whole ms) against this machine's CLOCK_REALTIME"

export const feedProbe: LatencyProbe<FeedOptions> = {
  name: 'feed',
  description: 'market data: connect, subscribe, age with its error, silence, gaps, stale books, reconnects',

  configure(command: Command) {
    command
      .option('--key-id <id>', 'API key id')
      .option('--key-file <pem>', 'private key of --key-id')
      .option('--ca-file <pem>', "certificates to trust instead of the system's")
      .option(
        '--tickers <list>',
        `markets, comma-separated (default: the first ${TICKERS_DEFAULT} open ones)`,
        tickersFlag,
      )
      .option(
        '--silent-after <duration>',
        `a feed without market data for this long is silent (default: ${SILENT_AFTER_DEFAULT_MS}ms, only reported; ` +
          'given, silence ends the run with code 1)',
        durationFlag('--silent-after', 3_600_000),
      )
      .option(
        '--stale-after <duration>',
        'a book without a change for this long is stale',
        durationFlag('--stale-after', 3_600_000),
        10_000,
      )
      .option(
        '--clock-offset-bound <bound>',
        "how far this machine's clock may be from the venue's, such as 5ms when both keep to NTP; or measure: by " +
          "some ten round trips against the venue's Date header. Without it no age is shown",
        boundFlag,
      )
      .addHelpText(
        'after',
        `
--url is demo, prod, or the origin of a simulator. --rate has no meaning here: the venue sends.

Examples:
  probe feed --url prod --key-id ID --key-file key.pem --for 60s --clock-offset-bound measure
  probe feed --url demo --key-id ID --key-file key.pem --tickers A,B --silent-after 5s --serve --collector URL`,
      )
  },

  run: (options, context) => new FeedRun(options, context).run(),
}

function tickersFlag(text: string): readonly string[] {
  const tickers = text.split(',').filter((ticker) => ticker !== '')
  if (tickers.length === 0 || tickers.length > TICKERS_MAX)
    throw new UserError('FLAG_INVALID', `--tickers names ${tickers.length} markets, not 1 to ${TICKERS_MAX}`)
  return tickers
}

function boundFlag(text: string): number | 'measure' {
  return text === 'measure' ? text : parseDurationMs(text, '--clock-offset-bound')
}

class FeedRun {
  readonly #options: FeedOptions
  readonly #context: ProbeContext
  readonly #access: Access
  readonly #connection = new Tally()
  readonly #ages = new Tally()
  readonly #silence: Silence
  readonly #books: Books
  readonly #clock = new WallClock()
  /** Last number of each subscription of the connection. */
  readonly #sequences = new Map<number, number>()
  #offset: ClockOffset | string = 'no bound on the clock offset was given: --clock-offset-bound 5ms, or measure'
  #calibratedAtMs = performance.now()
  #missing = 0
  /** Messages that came before the venue had sent them, by more than the bound allows. */
  #fromFuture = 0
  #clamped = 0
  #lastAtMs: number | undefined
  #upgradedAtMs: number | undefined
  #lostAtMs: number | undefined
  #isReady = false
  #feed: Feed | undefined
  #tickers: readonly string[] = []

  constructor(options: FeedOptions, context: ProbeContext) {
    this.#options = options
    this.#context = context
    this.#access = readAccess('feed', options)
    if (options.rate !== undefined)
      throw new UserError('FLAG_CONFLICT', '--rate has no meaning for the feed: the venue sends')
    if (options.clockOffsetBound === 'measure' && context.serve)
      throw new UserError(
        'FLAG_CONFLICT',
        'a measured clock offset drifts: a service needs --clock-offset-bound DURATION',
      )
    this.#silence = new Silence(options.silentAfter ?? SILENT_AFTER_DEFAULT_MS)
    this.#books = new Books(options.staleAfter)
  }

  async run(): Promise<Measurement> {
    const { signal, durationMs, measuring, progress, reporter } = this.#context
    const { environment, ca } = this.#access
    const { clockOffsetBound } = this.#options
    this.#tickers = this.#options.tickers ?? (await this.#findMarkets())
    if (clockOffsetBound === 'measure')
      this.#offset = await measureOffset(environment.restOrigin, this.#clock, { ca, signal })
    else if (clockOffsetBound !== undefined)
      this.#offset = { offsetMs: 0, boundMs: clockOffsetBound, method: 'vouched for by --clock-offset-bound' }
    const created = (message: unknown) => this.#created((message as { request: ClientRequest }).request)
    subscribe('http.client.request.created', created)
    measuring()
    const beat = openLoop({
      arrivals: constantArrivals(BEATS_PER_SECOND),
      untilNs: signal.aborted ? 0 : durationMs * 1e6,
      maxInFlight: 2,
      maxSlipNs: Number.POSITIVE_INFINITY,
      wait: 'timer',
      send: ({ intendedAtNs }, startedAtNs) => {
        reporter.phase('slip', startedAtNs - intendedAtNs)
        progress(beat.progress)
        // After a stall of our own, messages may wait in the kernel: read them first.
        return new Promise((resolve) => setImmediate(() => resolve(this.#look(performance.now()))))
      },
    })
    const stop = () => beat.stop()
    signal.addEventListener('abort', stop, { once: true })
    try {
      const started = this.#start()
      started.catch(stop)
      await beat.done
      await this.#feed?.stop()
      await started
    } finally {
      signal.removeEventListener('abort', stop)
      unsubscribe('http.client.request.created', created)
      await this.#feed?.stop()
    }
    this.#connection.slip.add(beat.slip)
    const unfinishedMs = this.#silence.stop(performance.now())
    if (unfinishedMs !== undefined) this.#connection.phase('silent_gap', ns(unfinishedMs))
    return this.#measurement()
  }

  /** A service tries until it has markets or is stopped. */
  async #findMarkets(): Promise<readonly string[]> {
    const { serve, signal, note, reporter } = this.#context
    for (;;) {
      try {
        return await this.#pickMarkets()
      } catch (error) {
        if (!serve) throw error
        reporter.up(false)
        note((error as Error).message)
        await wait(RETRY_MS, undefined, { signal }).catch(() => {})
        if (signal.aborted) return []
      }
    }
  }

  async #pickMarkets(): Promise<readonly string[]> {
    const { environment, signer, ca } = this.#access
    const rest = createRest({ origin: environment.restOrigin, signer, ...(ca === undefined ? {} : { ca }) })
    try {
      const { items } = await rest.markets({ status: 'open', limit: TICKERS_DEFAULT })
      if (items.length === 0)
        throw new UserError('NO_MARKET', `${environment.restOrigin} has no open market`, EXIT.environment)
      return items.map(({ ticker }) => ticker)
    } catch (error) {
      throw venueUserError(error, `reading the markets at ${environment.restOrigin}`)
    } finally {
      await rest.stop()
    }
  }

  /** Resolves when the feed is ready or the run is over; a single run rejects when the first connection fails. */
  async #start(): Promise<void> {
    const { environment, signer, ca } = this.#access
    const { signal, serve, note, reporter } = this.#context
    while (!signal.aborted) {
      const feed = createFeed(
        {
          origin: environment.feedOrigin,
          signer,
          marketTickers: this.#tickers,
          channels: ['orderbook_delta', 'ticker', 'trade'],
          ...(ca === undefined ? {} : { ca }),
        },
        {
          onEvent: (message, receivedAtMs) => this.#hear(message, receivedAtMs),
          onSuspect: (tickers) => this.#books.suspect(tickers, performance.now()),
          onReady: () => this.#ready(performance.now()),
          onDisconnect: (error, retryInMs) => {
            note(`${error.message}; next attempt in ${Math.round(retryInMs)} ms`)
            this.#lost(performance.now())
          },
        },
      )
      this.#feed = feed
      try {
        await feed.start()
        return
      } catch (error) {
        // Stopped by the end of the run before it was ready.
        if ((error as { code?: unknown }).code === 'STOPPED') break
        reporter.up(false)
        reporter.request('error')
        this.#connection.failed('error', String((error as { code?: unknown }).code ?? 'UNKNOWN').slice(0, 48))
        if (!serve) throw error
        note((error as Error).message)
        await wait(RETRY_MS, undefined, { signal }).catch(() => {})
      }
    }
    if (!serve && !signal.aborted)
      throw new UserError(
        'FEED_NOT_READY',
        `the feed at ${environment.feedOrigin} was not ready in time`,
        EXIT.environment,
      )
  }

  /** A connection of the feed begins: the library says only when all is subscribed, its request says the rest. */
  #created(request: ClientRequest): void {
    const { host } = new URL(this.#access.environment.restOrigin.replace(/^http/, 'ws'))
    const feedHost = new URL(this.#access.environment.feedOrigin).host
    const to = String(request.getHeader('host') ?? host)
    if (request.path !== FEED_PATH || to !== feedHost) return
    const atMs = performance.now()
    this.#upgradedAtMs = undefined
    request.prependListener('upgrade', () => {
      this.#upgradedAtMs = performance.now()
      this.#time('connect', this.#upgradedAtMs - atMs)
      this.#connection.opened++
    })
  }

  #ready(atMs: number): void {
    const { reporter, note } = this.#context
    if (this.#upgradedAtMs !== undefined) this.#time('subscribe', atMs - this.#upgradedAtMs)
    if (this.#lostAtMs !== undefined) {
      this.#time('reconnect', atMs - this.#lostAtMs)
      note(`the feed is back after ${Math.round(atMs - this.#lostAtMs)} ms`)
    }
    this.#lostAtMs = undefined
    this.#isReady = true
    reporter.up(true)
  }

  #lost(atMs: number): void {
    this.#lostAtMs ??= atMs
    this.#isReady = false
    this.#sequences.clear()
    this.#context.reporter.up(false)
  }

  #hear(message: FeedMessage, receivedAtMs: number): void {
    const { reporter } = this.#context
    this.#checkSequence(message)
    switch (message.type) {
      case 'malformed':
        this.#connection.failed('error', 'MALFORMED')
        reporter.request('error')
        return
      case 'orderbook_snapshot': {
        const staleMs = this.#books.snapshot(message.marketTicker, receivedAtMs)
        if (staleMs !== undefined) this.#connection.phase('stale_book', ns(Math.max(0, staleMs)))
        break
      }
      case 'orderbook_delta':
        this.#books.delta(message.marketTicker, receivedAtMs)
        this.#age(message.tsMs, receivedAtMs)
        break
      case 'ticker':
      case 'trade':
        this.#age(message.tsMs, receivedAtMs)
        break
      default:
        return
    }
    this.#connection.outcomes.ok++
    reporter.request('ok')
    if (this.#lastAtMs !== undefined) this.#time('inter_arrival', receivedAtMs - this.#lastAtMs)
    this.#lastAtMs = receivedAtMs
    const silentMs = this.#silence.message(receivedAtMs)
    if (silentMs === undefined) return
    this.#time('silent_gap', silentMs)
    reporter.up(this.#isReady)
    this.#context.note(`market data again after ${Math.round(silentMs)} ms`)
  }

  #checkSequence(message: FeedMessage): void {
    const { sid, seq } = message as { readonly sid?: number | undefined; readonly seq?: number | undefined }
    if (sid === undefined || seq === undefined) return
    // Numbers of a subscription begin at 1: the first messages of one can be lost too.
    const missing = Math.max(0, seq - (this.#sequences.get(sid) ?? 0) - 1)
    this.#sequences.set(sid, seq)
    if (missing === 0) return
    this.#missing += missing
    const { reporter } = this.#context
    for (let told = 0; told < Math.min(missing, MISSING_TOLD_MAX); told++) {
      this.#connection.failed('error', 'MISSING')
      reporter.request('error')
    }
  }

  #age(tsMs: number, receivedAtMs: number): void {
    if (typeof this.#offset === 'string') return
    const { offsetMs } = this.#offset
    const ageMs = this.#clock.epochMs(receivedAtMs) + offsetMs - tsMs
    if (ageMs < -this.#uncertaintyMs(this.#offset)) this.#fromFuture++
    if (ageMs < 0) this.#clamped++
    const ageNs = ns(Math.max(0, ageMs))
    this.#ages.outcomes.ok++
    this.#ages.response.record(ageNs)
    this.#ages.phase('message_age', ageNs)
    if (this.#fromFuture === 0) this.#context.reporter.phase('message_age', ageNs)
  }

  #uncertaintyMs({ boundMs }: ClockOffset): number {
    return boundMs + VENUE_STEP_MS + this.#clock.errorMs
  }

  #look(nowMs: number): void {
    const gap = this.#silence.look(nowMs)
    if (gap !== undefined) {
      this.#context.note(`no market data for ${Math.round(gap.foundAfterMs)} ms`)
      this.#context.reporter.up(false)
    }
    if (nowMs - this.#calibratedAtMs < CALIBRATE_EVERY_MS) return
    this.#calibratedAtMs = nowMs
    this.#clock.calibrate()
  }

  #time(phase: string, ms: number): void {
    const phaseNs = ns(Math.max(0, ms))
    this.#connection.phase(phase, phaseNs)
    this.#context.reporter.phase(phase, phaseNs)
  }

  #measurement(): Measurement {
    const { environment, signer } = this.#access
    const { silentAfter, staleAfter } = this.#options
    const silentAfterMs = silentAfter ?? SILENT_AFTER_DEFAULT_MS
    const offset = this.#offset
    const disproved = `${this.#fromFuture} messages came before the venue had sent them: the clocks are further apart than the bound`
    const refused = typeof offset === 'string' ? offset : this.#fromFuture > 0 ? disproved : undefined
    const ages = refused === undefined ? this.#ages : new Tally()
    const all = Tally.merged([this.#connection])
    all.response.add(ages.response)
    const { gaps, count, totalMs } = this.#silence
    const stale = this.#books.stale(performance.now())
    const stats = this.#feed?.stats
    return {
      target: environment.feedOrigin,
      settings: {
        tickers: this.#tickers.join(','),
        silentAfterMs,
        staleAfterMs: staleAfter,
        warmUp: 'none: the first connection counts',
        signed: signer.algorithm,
      },
      all,
      slip: this.#connection.slip,
      rows: [
        {
          mode: {
            name: 'feed',
            requestedMode: `${this.#tickers.length} markets`,
            effectiveMode: `${this.#tickers.length} markets`,
            status: 'measured',
          },
          tally: this.#connection,
        },
        {
          mode: {
            name: 'age',
            requestedMode: 'one-way',
            effectiveMode: refused === undefined ? 'one-way' : 'none',
            boundary: 'venue→user',
            clock: AGE_CLOCK,
            ...(refused === undefined
              ? {
                  status: 'measured',
                  reason: (offset as ClockOffset).method,
                  uncertaintyNs: ns(this.#uncertaintyMs(offset as ClockOffset)),
                }
              : { status: 'unsupported', reason: refused }),
          },
          tally: ages,
        },
      ],
      // The response of the whole is the age: its boundary and clock go with it.
      headline: refused === undefined ? 'age' : 'feed',
      budgets: [],
      // Real markets may be quiet: silence fails the run only where somebody said how long is too long.
      checks:
        silentAfter === undefined
          ? []
          : [{ name: 'not_silent', ok: count === 0, text: `${count} times without market data for ${silentAfter} ms` }],
      details: {
        clockOffset:
          typeof offset === 'string'
            ? null
            : { offsetMs: offset.offsetMs, boundMs: offset.boundMs, method: offset.method },
        agesBelowZero: this.#clamped,
        messages: stats?.messages ?? 0,
        gaps: stats?.gaps ?? 0,
        missing: this.#missing,
        repairs: stats?.repairs ?? 0,
        reconnects: stats?.reconnects ?? 0,
        silent: { count, totalMs: Math.round(totalMs), gaps },
        books: { suspect: this.#books.suspectCount, stale: stale.slice(0, STALE_SHOWN), staleCount: stale.length },
      },
      findings: [
        `${stats?.gaps ?? 0} sequence gaps, ${this.#missing} messages missing, ${stats?.reconnects ?? 0} connections lost, ` +
          `${count} silences of ${silentAfterMs} ms and more, ${stale.length} of ${this.#tickers.length} books stale at the end`,
      ],
    }
  }
}

function ns(ms: number): number {
  return Math.round(ms * 1e6)
}
