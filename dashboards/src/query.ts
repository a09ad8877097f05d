/** PromQL of the dashboards, built from the catalogue: a metric or a label that does not exist does not compile or run. */
import {
  METRICS,
  type MetricName,
  type QUANTILE_METRICS,
  quantileMetricName,
  RESOURCE_LABELS,
} from '@tickscope/contract'

export interface Query {
  readonly expr: string
  /** Name of the series; `{{label}}` is replaced. */
  readonly legend: string
  /** Show the traces of single ticks on it. Only on expressions over buckets, which carry exemplars. */
  readonly exemplar?: true
}

export type QuantileMetric = (typeof QUANTILE_METRICS)[number]

/** Length of the window of the quantile gauges drawn: short enough to see a burst, long enough for a p99.9. */
const WINDOW = '10s'

/** What the variables of the dashboard select, on every query. */
const SELECTED = ['service=~"$service"', 'venue=~"$venue"']

/** Quantiles as they are labelled and as people call them, slowest first so that legends read like the lines lie. */
export const SHOWN_QUANTILES = [
  { quantile: '1', name: 'max' },
  { quantile: '0.999', name: 'p99.9' },
  { quantile: '0.99', name: 'p99' },
  { quantile: '0.9', name: 'p90' },
  { quantile: '0.5', name: 'p50' },
] as const

/**
 * A selector on the chosen services and venues.
 *
 * @param part `_bucket`, `_sum` or `_count` of a histogram
 * @param labels label → value, each of the metric's own
 */
export function series(
  metric: MetricName,
  part: '' | '_bucket' | '_sum' | '_count' = '',
  labels: { readonly [label: string]: string } = {},
): string {
  return selector(`${metric}${part}`, metric, labels, part === '_bucket' ? ['le'] : [])
}

/** The exact quantile gauge of a histogram, over the last 10 s. */
export function quantileOf(
  metric: QuantileMetric,
  quantile: string,
  labels: { readonly [label: string]: string } = {},
): string {
  return selector(quantileMetricName(metric), metric, { ...labels, quantile, window: WINDOW }, ['quantile', 'window'])
}

/** Metrics about the collector itself have no service to choose by. */
function selector(
  name: string,
  metric: MetricName,
  labels: { readonly [label: string]: string },
  more: readonly string[],
): string {
  const known = [...Object.keys(METRICS[metric].labels), ...RESOURCE_LABELS, ...more]
  for (const label of Object.keys(labels)) {
    if (!known.includes(label)) throw new Error(`${metric} has no label ${label}`)
  }
  const own = metric.startsWith('tickscope_collector_') ? [] : SELECTED
  return `${name}{${[...own, ...Object.entries(labels).map(([label, value]) => `${label}="${value}"`)].join(', ')}}`
}

/** Per second, over a few scrapes at the least. */
export function perSecond(selected: string): string {
  return `rate(${selected}[$__rate_interval])`
}

/** One line a quantile; of several services or instances the slowest, because percentiles cannot be averaged. */
export function quantileLines(metric: QuantileMetric, labels: { readonly [label: string]: string } = {}): Query[] {
  return SHOWN_QUANTILES.map(({ quantile, name }) => ({
    expr: `max(${quantileOf(metric, quantile, labels)})`,
    legend: name,
  }))
}

/** Share of events within a bucket bound, of those that happened. */
export function shareWithin(metric: MetricName, le: string): string {
  return `sum(${perSecond(series(metric, '_bucket', { le }))}) / sum(${perSecond(series(metric, '_count'))})`
}
