/**
 * The simulator put together: accounts, engine, feed, flow, faults and sockets.
 *
 * A run has a clock of its own, which counts while the flow runs: faults act by it, and only then. Pausing the flow
 * ends them too, so that the end of a run can be drained in peace.
 */
import { summarize } from '@tickscope/contract'
import { epochMs } from './clock.ts'
import { Engine, type EngineSink } from './engine.ts'
import { type Fault, FaultSchedule } from './fault.ts'
import { Feed } from './feed.ts'
import type { Flow } from './flow.ts'
import { createLatency } from './latency.ts'
import { Members, type RegisteredKey } from './member.ts'
import { Random } from './random.ts'
import type { Tier } from './ratelimit.ts'
import { createRoutes } from './rest.ts'
import { Scheduler } from './scheduler.ts'
import { ExchangeServer } from './server.ts'
import { Stats } from './stats.ts'

export interface SimulatorOptions {
  readonly keys: readonly RegisteredKey[]
  readonly seed: number
  readonly tier: Tier
  readonly balanceMicros: number
  readonly faults: readonly Fault[]
  /** Samples of every REST call, ms; by default the fits of `latency.ts`. */
  readonly measuredMs?: readonly number[] | undefined
  /** How far portfolio reads lag behind the engine. */
  readonly readLagMs: number
  readonly createFlow: (context: FlowContext) => Flow
  /** Of the WebSockets; the venue's 10 s by default. */
  readonly pingIntervalMs?: number | undefined
}

/** What a flow works with. */
export interface FlowContext {
  readonly engine: Engine
  readonly feed: Feed
  readonly seed: number
}

export type FlowState = 'held' | 'running' | 'paused' | 'ended'

export class Simulator {
  readonly flow: Flow
  readonly #stats = new Stats()
  readonly #scheduler = new Scheduler()
  readonly #engine: Engine
  readonly #feed: Feed
  readonly #members: Members
  readonly #server: ExchangeServer
  readonly #faults: FaultSchedule
  #state: FlowState = 'held'
  /** Time the flow has run before the last start, ms. */
  #ranMs = 0
  #resumedAtMs = 0
  #faultTimers: NodeJS.Timeout[] = []
  #expiry: NodeJS.Timeout | undefined
  #expiryAtMs: number | undefined

  constructor(options: SimulatorOptions) {
    const { seed } = options
    const latency = createLatency(seed, options.measuredMs)
    const ids = new Random(seed, 'ids')
    this.#faults = new FaultSchedule(options.faults)
    this.#members = new Members({ ...options, random: ids, stats: this.#stats })
    this.#engine = new Engine({ sink: this.#sink(), newId: () => ids.uuid() })
    this.#feed = new Feed({
      markets: this.#engine.markets,
      latency,
      heldUntilMs: (nowMs) => this.#heldUntilMs(nowMs),
    })
    this.flow = options.createFlow({ engine: this.#engine, feed: this.#feed, seed })
    this.#server = new ExchangeServer({
      routes: createRoutes({ engine: this.#engine, tier: options.tier }),
      members: this.#members,
      feed: this.#feed,
      latency,
      scheduler: this.#scheduler,
      disturbance: {
        apiDelayMs: () => this.#whileRunning((atMs) => this.#faults.apiDelayMs(atMs), 0),
        apiErrorShare: () => this.#whileRunning((atMs) => this.#faults.apiErrorShare(atMs), 0),
        refusesConnections: () => this.#whileRunning((atMs) => this.#faults.refusesConnections(atMs), false),
      },
      control: { start: () => this.start(), pause: () => this.pause(), stats: () => this.stats() },
      stats: this.#stats,
      random: new Random(seed, 'errors'),
      pingIntervalMs: options.pingIntervalMs,
    })
    this.flow.ended.then(
      () => {
        this.pause()
        this.#state = 'ended'
      },
      () => {},
    )
  }

  /** @returns its URL */
  listen(host: string, port: number): Promise<string> {
    return this.#server.listen(host, port)
  }

  /** Starts the flow and the clock of the faults, or goes on after a pause. */
  start(): void {
    if (this.#state === 'running' || this.#state === 'ended') return
    this.#state = 'running'
    this.#resumedAtMs = performance.now()
    for (const fault of this.#faults.faults) {
      const inMs = fault.startMs - this.#ranMs
      if (inMs < 0) continue
      if (fault.name === 'disconnect')
        this.#faultTimers.push(setTimeout(() => this.#server.disconnect(fault.value), inMs))
      else if (fault.name === 'feed-gap') {
        const lose = () => this.#feed.loseMessages(fault.value, performance.now() + fault.durationMs)
        this.#faultTimers.push(setTimeout(lose, inMs))
      }
    }
    this.flow.start()
  }

  pause(): void {
    if (this.#state !== 'running') return
    this.flow.pause()
    this.#ranMs += performance.now() - this.#resumedAtMs
    this.#state = 'paused'
    for (const timer of this.#faultTimers) clearTimeout(timer)
    this.#faultTimers = []
    this.#feed.loseMessages(0, 0)
    this.#feed.wake()
  }

  stats() {
    const { latenessNs } = this.#scheduler
    return {
      ...this.#stats.toJSON(),
      state: this.#state,
      ranMs: Math.round(this.#ranMs + (this.#state === 'running' ? performance.now() - this.#resumedAtMs : 0)),
      tickers: this.flow.tickers,
      flow: this.flow.stats(),
      /** Messages on their way: 0 once a paused run has drained. */
      feedQueued: this.#feed.queued,
      /** How late answers left, against the time drawn for them. */
      lateness: summarize(latenessNs),
    }
  }

  async stop(): Promise<void> {
    this.pause()
    this.flow.stop()
    clearTimeout(this.#expiry)
    this.#feed.stop()
    this.#scheduler.stop()
    await this.#server.stop()
  }

  #whileRunning<T>(read: (atMs: number) => T, otherwise: T): T {
    return this.#state === 'running' ? read(this.#ranMs + performance.now() - this.#resumedAtMs) : otherwise
  }

  #heldUntilMs(nowMs: number): number {
    const runMs = this.#ranMs + nowMs - this.#resumedAtMs
    const untilMs = this.#whileRunning((atMs) => this.#faults.stalledUntilMs(atMs), undefined)
    return untilMs === undefined ? nowMs : nowMs + untilMs - runMs
  }

  /** The engine's events go to the feed, and those of members into their portfolio too. */
  #sink(): EngineSink {
    return {
      level: (market, side, priceTicks, delta, atMs, cause) =>
        this.#feed.level(market, side, priceTicks, delta, atMs, cause),
      trade: (trade) => this.#feed.publicTrade(trade),
      fill: (fill) => {
        const member = this.#members.of(fill.order.account)
        if (member) {
          member.counters.fills++
          member.portfolio.filled(fill)
        }
        this.#feed.fill(fill)
      },
      order: (order, reason) => {
        this.#members.of(order.account)?.portfolio.orderChanged(order)
        this.#feed.order(order, reason)
        if (order.status === 'resting' && order.expiresAtMs !== undefined) this.#watchExpiry()
      },
    }
  }

  /** Expired orders leave the book on time even when nothing else happens. */
  #watchExpiry(): void {
    const next = this.#engine.nextExpiryAtMs
    if (next === undefined || (this.#expiryAtMs !== undefined && this.#expiryAtMs <= next)) return
    clearTimeout(this.#expiry)
    this.#expiryAtMs = next
    const nowMs = epochMs()
    // Longer waits than a timer can count are taken in steps.
    this.#expiry = setTimeout(
      () => {
        this.#expiryAtMs = undefined
        this.#engine.expire(epochMs())
        this.#watchExpiry()
      },
      Math.min(Math.max(1, Math.ceil(next - nowMs)), 2 ** 31 - 1),
    )
  }
}
