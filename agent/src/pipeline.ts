/**
 * The cold path put together: drain, judge, series, traces, shipper, and the two timers that drive them.
 *
 * It runs in the agent's worker, or, with an inline drain, on the bot's own thread; nothing in it knows which, but for
 * `pause`, which an inline drain gives so that no piece of work holds the thread for more than a few hundred µs.
 */
import {
  BATCH_VERSION,
  type Batch,
  boundCells,
  bucketBoundsNs,
  CAUSES,
  type Cause,
  type Labels,
  labelsError,
  type MetricName,
  type Resource,
  SLO_IDS,
  type SloId,
  type Slos,
} from '@tickscope/contract'
import { Anchor, epochMs, nowMs } from './clock.ts'
import { Drain } from './drain.ts'
import { type Breach, Judge } from './judge.ts'
import { openRing } from './ring.ts'
import { Usage } from './runtime.ts'
import { type Series, SeriesSet } from './series.ts'
import { type FrozenBatch, Shipper, type ShipperResult } from './shipper.ts'
import { Tail } from './tail.ts'

/** What crosses to the worker when it starts. */
export interface PipelineOptions {
  readonly memory: SharedArrayBuffer
  readonly ringSlots: number
  /** Origin of the bot's clock, epoch ms. */
  readonly originEpochMs: number
  readonly agentId: string
  readonly epoch: string
  readonly resource: Resource
  readonly collectorUrl: string
  readonly token: string | undefined
  readonly slos: Slos
  readonly traces: boolean
  readonly intervalMs: number
  readonly loopSampleMs: number
  readonly requestTimeoutMs: number
  readonly spillDir: string | undefined
}

/** What the pipeline's thread gives it. */
export interface PipelineHost {
  readonly inline: boolean
  readonly log: (message: string) => void
  readonly breached: (breaches: readonly Breach[]) => void
  /** Delivers definitions of series sent and not yet taken: a sample may overtake its definition. */
  readonly definitions: () => void
}

/** Period of the drain: 5 ms of 60,000 records a second are 300, of 16,384 slots. */
const DRAIN_MS = 5
/** Records drained in one go, about 0.5 ms (inline) and 5 ms (worker). */
const DRAIN_RECORDS_INLINE = 512
const DRAIN_RECORDS_WORKER = 8_192
/** Breaches told to the bot at one time; a circuit breaker needs the first, not the thousandth. */
const BREACHES_PER_DRAIN = 64
/** Time a stop gives the last traces. */
const TRACES_STOP_MS = 1_000

export class Pipeline {
  readonly #options: PipelineOptions
  readonly #host: PipelineHost
  readonly #series: SeriesSet
  readonly #judge: Judge
  readonly #drain: Drain
  readonly #usage: Usage
  readonly #anchor: Anchor
  readonly #tail: Tail | undefined
  readonly #shipper: Shipper
  readonly #defined = new Map<number, Series | undefined>()
  readonly #breachCounts: { readonly [slo in SloId]: { readonly [cause in Cause]: Series } }
  #firstBreachAtMs: { [slo in SloId]?: number } = {}
  #told: Breach[] = []
  #intervalStartMs = epochMs()
  #timers: NodeJS.Timeout[] = []
  #stopped = false
  #continuing = false

  constructor(options: PipelineOptions, host: PipelineHost) {
    this.#options = options
    this.#host = host
    this.#anchor = new Anchor(options.originEpochMs)
    this.#series = new SeriesSet(boundCells(bucketBoundsNs(options.slos)))
    this.#judge = new Judge(options.slos)
    this.#usage = new Usage(this.#series)
    const spans = {
      exported: this.#series.own('tickscope_agent_spans_total', { outcome: 'exported' }),
      failed: this.#series.own('tickscope_agent_spans_total', { outcome: 'failed' }),
      dropped: this.#series.own('tickscope_agent_spans_total', { outcome: 'dropped' }),
    }
    const counts = (slo: SloId) =>
      Object.fromEntries(
        CAUSES.map((cause) => [cause, this.#series.own('tickscope_breaches_total', { slo, cause })]),
      ) as { [cause in Cause]: Series }
    this.#breachCounts = Object.fromEntries(SLO_IDS.map((slo) => [slo, counts(slo)])) as {
      [slo in SloId]: { [cause in Cause]: Series }
    }
    const ring = openRing(options.memory, options.ringSlots)
    this.#drain = new Drain(ring, this.#series, this.#judge, options.slos, options.loopSampleMs, {
      finished: (kind, durationNs, copy) => this.#tail?.finished(kind, durationNs, copy),
      slowTick: (record) => this.#tail?.add({ record, reason: 'over_budget', breaches: [] }),
      breached: (record, suspects, causes) => {
        const breaches = suspects.map(({ slo, startNs, endNs }, i) => {
          const cause = causes[i] ?? 'unattributed'
          this.#breach({ slo, cause, atMs: this.#anchor.epochMsOf(endNs), durationNs: endNs - startNs })
          return { slo, cause }
        })
        this.#tail?.add({ record, reason: 'over_budget', breaches })
      },
      loop: (instantMs, idleMs, wallMs) => {
        this.#anchor.observe(instantMs, wallMs)
        this.#usage.loop(instantMs, idleMs)
      },
      resolve: (id) => {
        if (!this.#defined.has(id)) host.definitions()
        return this.#defined.get(id)
      },
    })
    if (options.traces) {
      this.#tail = new Tail({
        ...options,
        anchor: this.#anchor,
        onDropped: (count) => spans.dropped.record(count),
        onExported: (outcome, count) => spans[outcome].record(count),
        log: host.log,
      })
    }
    this.#shipper = new Shipper({
      ...options,
      holdProcess: !host.inline,
      freeze: (sequence) => this.#freeze(sequence),
      log: host.log,
    })
    this.#timers = [
      setInterval(() => this.#guard(() => this.#drainSome()), DRAIN_MS),
      setInterval(() => this.#guard(() => this.#interval()), options.intervalMs),
    ]
    if (host.inline) for (const timer of this.#timers) timer.unref()
  }

  /** Loads what traces need: 0.1 s of modules, better spent before the ticks come than when one is slow. */
  async prepare(): Promise<void> {
    await this.#tail?.prepare()
  }

  /** Ties an id of the bot's thread to a series. Labels that do not fit, or one series too many, leave it undefined. */
  define(id: number, metric: MetricName, labels: Labels): void {
    const series = labelsError(metric, labels) === undefined ? this.#series.get(metric, labels) : undefined
    if (series === undefined)
      this.#host.log(`no room for series ${metric} ${JSON.stringify(labels)}: it is not recorded`)
    this.#defined.set(id, series)
  }

  /**
   * Drains what was published, ships it, and waits for the acknowledgement.
   *
   * @param open records begun and never closed: they are lost, and counted
   */
  async stop(timeoutMs: number, open: number): Promise<ShipperResult> {
    this.#stopped = true
    for (const timer of this.#timers) clearInterval(timer)
    const deadlineMs = nowMs() + timeoutMs
    while (this.#drain.run(this.#limit)) if (this.#host.inline) await turn()
    if (open > 0) this.#drain.drop('incomplete', open)
    this.#drain.collectDrops()
    this.#judge.settleAll()
    this.#tell()
    if (this.#tail !== undefined) {
      const { promise, resolve } = Promise.withResolvers<void>()
      const timer = setTimeout(resolve, Math.min(TRACES_STOP_MS, timeoutMs / 4))
      await Promise.race([this.#tail.flush(), promise])
      clearTimeout(timer)
    }
    return this.#shipper.stop(Math.max(0, deadlineMs - nowMs()))
  }

  get #limit(): number {
    return this.#host.inline ? DRAIN_RECORDS_INLINE : DRAIN_RECORDS_WORKER
  }

  /** A mistake of ours ends the worker, which the bot outlives; inline it must end no more than the agent. */
  #guard(work: () => void): void {
    try {
      work()
    } catch (error) {
      if (!this.#host.inline) throw error
      for (const timer of this.#timers) clearInterval(timer)
      this.#host.log(`the agent failed, nothing is recorded any more: ${(error as Error).message}`)
    }
  }

  #drainSome(): void {
    if (this.#stopped) return
    const more = this.#drain.run(this.#limit)
    this.#tell()
    // The loop gets a turn between: requests and, inline, the bot's own work.
    if (more && !this.#continuing) {
      this.#continuing = true
      setImmediate(() => {
        this.#continuing = false
        this.#guard(() => this.#drainSome())
      })
    }
  }

  #interval(): void {
    this.#drain.collectDrops()
    const { highestRatio, durationMs } = this.#usage.interval()
    if (highestRatio > this.#options.slos.utilization.thresholdRatio) {
      this.#breach({
        slo: 'utilization',
        cause: 'resource',
        atMs: epochMs(),
        durationNs: Math.round(durationMs * 1e6),
      })
      this.#tell()
    }
    this.#tail?.interval()
    this.#shipper.interval()
  }

  #breach(breach: Breach): void {
    this.#breachCounts[breach.slo][breach.cause].record(1)
    const first = this.#firstBreachAtMs[breach.slo]
    if (first === undefined || breach.atMs < first) this.#firstBreachAtMs[breach.slo] = breach.atMs
    if (this.#told.length < BREACHES_PER_DRAIN) this.#told.push(breach)
  }

  #tell(): void {
    if (this.#told.length === 0) return
    this.#host.breached(this.#told)
    this.#told = []
  }

  async #freeze(sequence: number): Promise<{ batch: FrozenBatch; more: boolean }> {
    const { agentId, epoch, resource } = this.#options
    const firstBreachAtMs = this.#firstBreachAtMs
    this.#firstBreachAtMs = {}
    const { more, ...recorded } = await this.#series.take(this.#host.inline ? turn : undefined)
    const intervalStartMs = this.#intervalStartMs
    // A wall clock that was set back must not make an interval of negative length.
    const intervalEndMs = Math.max(intervalStartMs, epochMs())
    this.#intervalStartMs = intervalEndMs
    const batch: Batch = {
      version: BATCH_VERSION,
      agent: agentId,
      epoch,
      sequence,
      resource,
      intervalStartMs,
      intervalEndMs,
      ...(recorded as Pick<Batch, 'series' | 'counters' | 'gauges'>),
      firstBreachAtMs,
    }
    return { batch: { sequence, endMs: intervalEndMs, body: Buffer.from(JSON.stringify(batch)) }, more }
  }
}

/** A turn of the event loop. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
