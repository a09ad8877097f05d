/**
 * Chooses the ticks that become traces, after the fact: every one over budget, the slowest tick, order and call of each
 * interval, and a small uniform sample to compare them with. Everything else is in the histograms only.
 *
 * Bounded: at most `SPANS_PER_INTERVAL` spans wait for the next interval; what does not fit is counted. OpenTelemetry is
 * loaded by `prepare`, so an agent without traces never pays for it.
 */
import type { Cause, Resource, SloId } from '@tickscope/contract'
import type { Anchor } from './clock.ts'
import type { Finished } from './drain.ts'
import type { TraceExporter } from './trace.ts'

export interface Trace {
  readonly record: Finished
  readonly reason: 'over_budget' | 'slowest' | 'sample'
  /** Objectives it broke, each with its cause. */
  readonly breaches: readonly { readonly slo: SloId; readonly cause: Cause }[]
}

/** About 110 orders; building and encoding them costs the drain's thread under 10 ms. */
export const SPANS_PER_INTERVAL = 1024
/** Records of an interval sampled uniformly. */
const SAMPLES = 4

export interface TailOptions {
  readonly collectorUrl: string
  readonly token: string | undefined
  readonly agentId: string
  readonly resource: Resource
  readonly anchor: Anchor
  readonly onDropped: (spans: number) => void
  readonly onExported: (outcome: 'exported' | 'failed', spans: number) => void
  readonly log: (message: string) => void
}

/** Spans a record becomes: a root and a child for each stage it went through. */
export function spanCount(record: Finished): number {
  if (record.kind === 'call') return 1
  return record.instantsNs.filter((ns) => ns !== -1).length
}

export class Tail {
  readonly #options: TailOptions
  readonly #waiting: Trace[] = []
  #waitingSpans = 0
  readonly #slowest = new Map<Finished['kind'], { durationNs: number; record: Finished }>()
  #seen = 0
  readonly #samples: Finished[] = []
  #exporter: Promise<TraceExporter> | undefined
  #shipping: Promise<void> | undefined

  constructor(options: TailOptions) {
    this.#options = options
  }

  /** A record within budget. `copy` is called for the few that are kept. */
  finished(kind: Finished['kind'], durationNs: number, copy: () => Finished): void {
    // Reservoir sampling: the n-th record of the interval replaces a sample with probability SAMPLES / n.
    const place = this.#seen < SAMPLES ? this.#seen : Math.floor(Math.random() * (this.#seen + 1))
    this.#seen++
    const slowest = durationNs > (this.#slowest.get(kind)?.durationNs ?? -1)
    if (!slowest && place >= SAMPLES) return
    const record = copy()
    if (slowest) this.#slowest.set(kind, { durationNs, record })
    if (place < SAMPLES) this.#samples[place] = record
  }

  add(trace: Trace): void {
    const spans = spanCount(trace.record)
    if (this.#waitingSpans + spans > SPANS_PER_INTERVAL) {
      this.#options.onDropped(spans)
      return
    }
    this.#waiting.push(trace)
    this.#waitingSpans += spans
  }

  /** Ends an interval: adds its slowest and its sample, and exports unless the last export is still under way. */
  interval(): void {
    const chosen = new Set<Finished>()
    for (const { record } of this.#slowest.values()) {
      chosen.add(record)
      this.add({ record, reason: 'slowest', breaches: [] })
    }
    for (const record of this.#samples) if (!chosen.has(record)) this.add({ record, reason: 'sample', breaches: [] })
    this.#slowest.clear()
    this.#samples.length = 0
    this.#seen = 0
    this.#shipping ??= this.#ship().finally(() => {
      this.#shipping = undefined
    })
  }

  /** Resolves when what is waiting now has been answered, one way or the other. */
  async flush(): Promise<void> {
    await this.#shipping
    this.interval()
    await this.#shipping
  }

  /** Loads OpenTelemetry. Never rejects: traces that then cannot be exported are counted as failed. */
  async prepare(): Promise<void> {
    await this.#load().catch(() => {})
  }

  #load(): Promise<TraceExporter> {
    this.#exporter ??= import('./trace.ts').then(({ createTraceExporter }) => createTraceExporter(this.#options))
    return this.#exporter
  }

  async #ship(): Promise<void> {
    const traces = this.#waiting.splice(0)
    this.#waitingSpans = 0
    if (traces.length === 0) return
    try {
      const exporter = await this.#load()
      await exporter.export(traces, this.#options.onExported)
    } catch (error) {
      this.#options.log(`traces cannot be exported: ${(error as Error).message}`)
      this.#options.onExported(
        'failed',
        traces.reduce((sum, trace) => sum + spanCount(trace.record), 0),
      )
    }
  }
}
