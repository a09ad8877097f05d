/**
 * `/metrics`: everything the collector knows, in the Prometheus text format 0.0.4 or OpenMetrics 1.0, as asked for.
 *
 * The only file that knows prom-client. It counts the collector's own work and reads its process; the text is ours,
 * because prom-client renders a whole metric in one go (30 ms for 18,000 samples, in which no batch would be answered),
 * renames counters for good when it speaks OpenMetrics, and writes `Nan`. Ours is made in pieces of about
 * `CHUNK_MS`, with a turn of the event loop between them; each series is consistent in itself.
 *
 * Which metrics: those of the catalogue; for `QUANTILE_METRICS` also exact quantiles over sliding windows, absent while
 * a window is empty; and under `tickscope_collector_` prom-client's of the process (CPU, memory, file descriptors, event
 * loop, GC).
 */
import { setImmediate as turn } from 'node:timers/promises'
import {
  bucketBoundsNs,
  type Labels,
  leOf,
  METRIC_NAMES,
  METRICS,
  type MetricName,
  QUANTILE_METRICS,
  QUANTILES,
  quantileMetricName,
  type Slos,
} from '@tickscope/contract'
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import { CellSum } from './cells.ts'
import type { Clock } from './clock.ts'
import type { HistogramSeries, ResourceState, State } from './merge.ts'

export type Format = 'text' | 'openmetrics'

export const CONTENT_TYPES = {
  text: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
} as const satisfies Record<Format, string>

/** Work between two turns of the event loop, and most text in one piece. */
const CHUNK_MS = 2
const CHUNK_CHARS = 64 * 1024

/**
 * Type of a gauge with a label `quantile`: promtool keeps that label for summaries, and Prometheus 3 rewrites
 * `quantile="1"` to `"1.0"` in those. An unknown type keeps the label as every query has it.
 */
const QUANTILE_TYPE = 'unknown'

/** Gauges of a process not heard for so long say nothing about now. */
const GAUGES_FRESH_MS = 30_000
/** `tickscope_agent_last_batch_timestamp_seconds` stays longer: it is how an alert knows who is missing. */
const LAST_BATCH_FRESH_MS = 3_600_000

const OWN_PREFIX = 'tickscope_collector_'

/** Of prom-client's default metrics, those with proper names and worth their samples. */
const PROCESS_METRICS = [
  'process_cpu_user_seconds_total',
  'process_cpu_system_seconds_total',
  'process_start_time_seconds',
  'process_resident_memory_bytes',
  'process_open_fds',
  'process_max_fds',
  'nodejs_eventloop_lag_p99_seconds',
  'nodejs_eventloop_lag_max_seconds',
  'nodejs_heap_size_used_bytes',
  'nodejs_gc_duration_seconds',
].map((name) => OWN_PREFIX + name)

let processRegistry: Registry | undefined

/** The process has one set of metrics, however many collectors it runs. */
function processMetrics(): Registry {
  if (!processRegistry) {
    processRegistry = new Registry()
    collectDefaultMetrics({ register: processRegistry, prefix: OWN_PREFIX })
  }
  return processRegistry
}

/** Counts of the collector's own work since it started. */
export class OwnMetrics {
  readonly registry = new Registry()
  readonly #counters = new Map<MetricName, Counter>()
  readonly #journalSync: Histogram

  constructor(read: { readonly state: State; readonly journalBytes: () => number }) {
    const { state } = read
    const registers = [this.registry]
    for (const name of [
      'tickscope_collector_batches_total',
      'tickscope_collector_traces_total',
      'tickscope_collector_alert_posts_total',
    ] as const) {
      const { help, labels } = METRICS[name]
      const counter = new Counter({ name, help, labelNames: Object.keys(labels), registers })
      // A series is born at 0, so that the first count is an increase.
      for (const outcome of labels.outcome ?? []) counter.inc({ outcome }, 0)
      this.#counters.set(name, counter)
    }
    const gauge = METRICS.tickscope_collector_journal_bytes
    new Gauge({
      name: 'tickscope_collector_journal_bytes',
      help: gauge.help,
      registers,
      collect() {
        this.set(read.journalBytes())
      },
    })
    new Counter({
      name: 'tickscope_collector_lost_batches_total',
      help: METRICS.tickscope_collector_lost_batches_total.help,
      registers,
      collect() {
        this.reset()
        this.inc(state.missing)
      },
    })
    new Counter({
      name: 'tickscope_collector_left_out_total',
      help: METRICS.tickscope_collector_left_out_total.help,
      labelNames: ['from'],
      registers,
      collect() {
        this.reset()
        this.inc({ from: 'sums' }, state.overflows)
        this.inc({ from: 'windows' }, state.windows.leftOut)
      },
    })
    this.#journalSync = new Histogram({
      name: 'tickscope_collector_journal_sync_seconds',
      help: METRICS.tickscope_collector_journal_sync_seconds.help,
      buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1],
      registers,
    })
  }

  count(name: MetricName, outcome: string): void {
    this.#counters.get(name)?.inc({ outcome })
  }

  journalSynced(durationNs: number): void {
    this.#journalSync.observe(durationNs / 1e9)
  }
}

export class Exposition {
  readonly #state: State
  readonly #own: OwnMetrics
  readonly #clock: Clock
  readonly #boundsNs: readonly number[]
  readonly #les: readonly string[]
  /** Label text of a series, which never changes. */
  readonly #labelText = new WeakMap<object, string>()

  constructor(options: { state: State; own: OwnMetrics; clock: Clock; slos: Slos }) {
    this.#state = options.state
    this.#own = options.own
    this.#clock = options.clock
    this.#boundsNs = bucketBoundsNs(options.slos)
    this.#les = this.#boundsNs.map(leOf)
  }

  /** The whole text in pieces. */
  async *render(format: Format): AsyncGenerator<string> {
    let chunk = await this.#ownFamilies(format)
    let turnedAt = performance.now()
    for (const text of this.#families(format)) {
      chunk += text
      if (chunk.length < CHUNK_CHARS && performance.now() - turnedAt < CHUNK_MS) continue
      yield chunk
      chunk = ''
      await turn()
      turnedAt = performance.now()
    }
    yield format === 'openmetrics' ? `${chunk}# EOF\n` : chunk
  }

  *#families(format: Format): Generator<string> {
    // Copied, because an applied batch moves its resource to the end of the map.
    const resources = [...this.#state.resources.values()]
    for (const name of METRIC_NAMES) {
      if (name.startsWith(OWN_PREFIX)) continue
      const { type, help, unit, labels } = METRICS[name]
      yield head(name, 'quantile' in labels ? QUANTILE_TYPE : type, help, unit, format)
      for (const resource of resources) {
        if (type === 'histogram')
          for (const series of resource.histograms.values()) yield this.#buckets(resource, series, name)
        else yield this.#values(resource, name, type)
      }
    }
    yield* this.#quantiles(resources, format)
  }

  #labelsOf(resource: ResourceState, series: { readonly labels: Labels }): string {
    let text = this.#labelText.get(series)
    if (text === undefined) {
      text = labelText({ ...resource.labels, ...series.labels })
      this.#labelText.set(series, text)
    }
    return text
  }

  #buckets(resource: ResourceState, series: HistogramSeries, name: MetricName): string {
    if (series.metric !== name) return ''
    const labels = this.#labelsOf(resource, series)
    const { total } = series
    let text = ''
    const cumulative = total.cumulative(this.#boundsNs)
    for (let i = 0; i < cumulative.length; i++)
      text += `${name}_bucket{${labels},le="${this.#les[i]}"} ${cumulative[i]}\n`
    return (
      `${text}${name}_bucket{${labels},le="+Inf"} ${total.count}\n` +
      `${name}_sum{${labels}} ${total.sumNs / 1e9}\n${name}_count{${labels}} ${total.count}\n`
    )
  }

  #values(resource: ResourceState, name: MetricName, type: 'counter' | 'gauge'): string {
    const silentMs = this.#clock.epochMs() - resource.lastReceivedAtMs
    if (name === 'tickscope_agent_last_batch_timestamp_seconds')
      return silentMs > LAST_BATCH_FRESH_MS
        ? ''
        : `${name}{${labelText(resource.labels)}} ${resource.lastIntervalEndMs / 1e3}\n`
    if (type === 'gauge' && silentMs > GAUGES_FRESH_MS) return ''
    let text = ''
    for (const series of (type === 'gauge' ? resource.gauges : resource.counters).values())
      if (series.metric === name) text += `${name}{${this.#labelsOf(resource, series)}} ${series.value}\n`
    return text
  }

  *#quantiles(resources: readonly ResourceState[], format: Format): Generator<string> {
    const sum = new CellSum()
    for (const metric of QUANTILE_METRICS) {
      const name = quantileMetricName(metric)
      yield head(
        name,
        QUANTILE_TYPE,
        `Exact quantiles over sliding windows. ${METRICS[metric].help}`,
        'seconds',
        format,
      )
      for (const resource of resources) {
        for (const series of resource.histograms.values()) {
          if (series.metric !== metric) continue
          const labels = this.#labelsOf(resource, series)
          let text = ''
          series.window?.read(this.#clock.monotonicMs(), sum, (windowSeconds, { count }) => {
            if (count === 0) return
            for (const [i, valueNs] of sum.quantilesNs(QUANTILES).entries())
              text += `${name}{${labels},quantile="${QUANTILES[i]}",window="${windowSeconds}s"} ${valueNs / 1e9}\n`
          })
          yield text
        }
      }
    }
  }

  async #ownFamilies(format: Format): Promise<string> {
    const ofProcess = await processMetrics().getMetricsAsJSON()
    const families = [
      ...(await this.#own.registry.getMetricsAsJSON()),
      ...ofProcess.filter(({ name }) => PROCESS_METRICS.includes(name)),
    ]
    let text = ''
    for (const { name, type, help, values } of families) {
      text += head(name, `${type}`, help, undefined, format)
      for (const { labels, value, metricName = name } of values as PromSample[]) {
        const written = Object.entries(labels).map(([label, v]) => [label, typeof v === 'number' ? leOf(v * 1e9) : v])
        const labelled = labelText(Object.fromEntries(written))
        text += `${metricName}${labelled && `{${labelled}}`} ${number(value)}\n`
      }
    }
    return text
  }
}

interface PromSample {
  /** A number is an `le`. */
  readonly labels: { readonly [label: string]: string | number }
  readonly value: number
  /** Of a histogram's samples: its name with `_bucket`, `_sum` or `_count`. */
  readonly metricName?: string
}

function head(name: string, type: string, help: string, unit: string | undefined, format: Format): string {
  const escaped = help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
  if (format === 'text') return `# HELP ${name} ${escaped}\n# TYPE ${name} ${type === 'unknown' ? 'untyped' : type}\n`
  const family = type === 'counter' ? name.replace(/_total$/, '') : name
  const unitLine = unit !== undefined && family.endsWith(`_${unit}`) ? `# UNIT ${family} ${unit}\n` : ''
  return `# HELP ${family} ${escaped.replaceAll('"', '\\"')}\n# TYPE ${family} ${type}\n${unitLine}`
}

function labelText(labels: Labels): string {
  return Object.entries(labels)
    .map(
      ([label, value]) => `${label}="${value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"')}"`,
    )
    .join(',')
}

function number(value: number): string {
  return Number.isNaN(value) ? 'NaN' : value === Number.POSITIVE_INFINITY ? '+Inf' : `${value}`
}

/**
 * The format a scraper prefers, by the q-values of its Accept header (RFC 9110, 12.5.1); OpenMetrics when it likes both
 * the same, 0.0.4 when it says nothing we know.
 */
export function negotiate(accept: string | undefined): Format {
  let openmetrics = 0
  let text = 0
  for (const range of (accept ?? '').slice(0, 2048).toLowerCase().split(',')) {
    const [type, ...rest] = range.split(';').map((part) => part.trim())
    const parameters = new Map(
      rest.map((part) => part.split('=').map((side) => side.trim().replaceAll('"', '')) as [string, string]),
    )
    const given = parameters.get('q')
    const q = given === undefined ? 1 : /^(0(\.\d{0,3})?|1(\.0{0,3})?)$/.test(given) ? Number(given) : 0
    const version = parameters.get('version')
    if (type === 'application/openmetrics-text' && (version ?? '1.0.0') === '1.0.0')
      openmetrics = Math.max(openmetrics, q)
    if (type === 'text/plain' && (version ?? '0.0.4') === '0.0.4') text = Math.max(text, q)
  }
  return openmetrics > 0 && openmetrics >= text ? 'openmetrics' : 'text'
}
