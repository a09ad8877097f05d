/**
 * The series of an agent between two batches: histograms, counters and gauges by metric and labels.
 *
 * There is one set of histograms, recorded into all the time; freezing a batch encodes a histogram and empties it in the
 * same breath. So while a batch is in flight the next one merges by itself, memory does not grow with the length of an
 * outage, and every event is in exactly one batch.
 */
import {
  BATCH_LIMITS,
  type BoundCells,
  encodeSeries,
  type Labels,
  LatencyHistogram,
  labelsKey,
  METRICS,
  type MetricName,
} from '@tickscope/contract'

/** Most histograms of one agent. A histogram in use takes 216 KiB at most, so 27 MiB together. */
export const HISTOGRAMS_MAX = 128
const COUNTERS_MAX = BATCH_LIMITS.counters
const GAUGES_MAX = BATCH_LIMITS.gauges

/**
 * Most base64 characters of histograms in one batch. A histogram has at most about 0.4 million, so this leaves room
 * below the limit of 1 MiB a batch for the largest one, labels and counters; the histograms left out go with the next.
 */
const HISTOGRAM_CHARS_MAX = 512 * 1024

export interface Series {
  readonly metric: MetricName
  readonly labels: Labels
  /** Adds a duration in ns, an increment, or sets the gauge, by the metric's type. */
  record(value: number): void
}

class HistogramSeries implements Series {
  readonly metric: MetricName
  readonly labels: Labels
  readonly #bounds: BoundCells
  /** Made at the first event: most label values of the catalogue never happen. */
  histogram: LatencyHistogram | undefined

  constructor(metric: MetricName, labels: Labels, bounds: BoundCells) {
    this.metric = metric
    this.labels = labels
    this.#bounds = bounds
  }

  record(valueNs: number): void {
    this.histogram ??= new LatencyHistogram(this.#bounds)
    this.histogram.record(valueNs)
  }
}

class CounterSeries implements Series {
  readonly metric: MetricName
  readonly labels: Labels
  value = 0

  constructor(metric: MetricName, labels: Labels) {
    this.metric = metric
    this.labels = labels
  }

  record(increment: number): void {
    this.value += increment
  }
}

class GaugeSeries implements Series {
  readonly metric: MetricName
  readonly labels: Labels
  /** Last value set since the last batch. */
  value: number | undefined

  constructor(metric: MetricName, labels: Labels) {
    this.metric = metric
    this.labels = labels
  }

  record(value: number): void {
    this.value = value
  }
}

export interface TakenSeries {
  readonly series: ReturnType<typeof encodeSeries>[]
  readonly counters: { metric: MetricName; labels: Labels; value: number }[]
  readonly gauges: { metric: MetricName; labels: Labels; value: number }[]
  /** Histograms with events that did not fit. */
  readonly more: boolean
}

export class SeriesSet {
  readonly #bounds: BoundCells
  readonly #byKey = new Map<string, Series>()
  readonly #histograms: HistogramSeries[] = []
  readonly #counters: CounterSeries[] = []
  readonly #gauges: GaugeSeries[] = []
  /** Where the next batch starts, so that histograms left out of one batch come first in the next. */
  #first = 0

  constructor(bounds: BoundCells) {
    this.#bounds = bounds
  }

  /** The series of these labels, made when new; labels are as checked by `labelsError`. Undefined when there is no room. */
  get(metric: MetricName, labels: Labels): Series | undefined {
    const key = metric + labelsKey(labels)
    const known = this.#byKey.get(key)
    if (known !== undefined) return known
    let made: Series
    switch (METRICS[metric].type) {
      case 'histogram': {
        if (this.#histograms.length >= HISTOGRAMS_MAX) return undefined
        const series = new HistogramSeries(metric, labels, this.#bounds)
        this.#histograms.push(series)
        made = series
        break
      }
      case 'counter': {
        if (this.#counters.length >= COUNTERS_MAX) return undefined
        const series = new CounterSeries(metric, labels)
        this.#counters.push(series)
        made = series
        break
      }
      case 'gauge': {
        if (this.#gauges.length >= GAUGES_MAX) return undefined
        const series = new GaugeSeries(metric, labels)
        this.#gauges.push(series)
        made = series
        break
      }
    }
    this.#byKey.set(key, made)
    return made
  }

  /** As `get`, for series of the agent's own, which are few and always fit. */
  own(metric: MetricName, labels: Labels = {}): Series {
    const series = this.get(metric, labels)
    if (series === undefined) throw new Error(`no room for the agent's own series ${metric}`)
    return series
  }

  /** Whether anything was counted since the last batch. Gauges alone are not worth waiting for. */
  get empty(): boolean {
    return this.#histograms.every((s) => (s.histogram?.count ?? 0) === 0) && this.#counters.every((s) => s.value === 0)
  }

  /**
   * Moves what was recorded into a batch: as many histograms as fit, all counters and gauges.
   *
   * @param pause awaited after each histogram (0.1 to 0.3 ms of work), for a thread that has better things to do
   */
  async take(pause?: () => Promise<void>): Promise<TakenSeries> {
    const taken: TakenSeries['series'] = []
    const total = this.#histograms.length
    let chars = 0
    let done = 0
    for (; done < total && chars < HISTOGRAM_CHARS_MAX; done++) {
      const { metric, labels, histogram } = this.#histograms[(this.#first + done) % total] as HistogramSeries
      if (histogram === undefined || histogram.count === 0) continue
      const encoded = encodeSeries(metric, labels, histogram)
      histogram.reset()
      taken.push(encoded)
      chars += encoded.histogram.length
      await pause?.()
    }
    if (total > 0) this.#first = (this.#first + done) % total
    const counters = this.#counters.flatMap((series) => {
      const { metric, labels, value } = series
      series.value = 0
      return value === 0 ? [] : [{ metric, labels, value }]
    })
    const gauges = this.#gauges.flatMap((series) => {
      const { metric, labels, value } = series
      series.value = undefined
      return value === undefined ? [] : [{ metric, labels, value }]
    })
    return { series: taken, counters, gauges, more: done < total && !this.empty }
  }
}
