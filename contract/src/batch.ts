/**
 * The batch: what an agent sends a collector, `POST /v1/batches`, JSON, gzip allowed.
 *
 * A batch is everything one agent measured in one interval. (agent, epoch, sequence) names it: the epoch is drawn when
 * the agent starts, sequences count from 1 without holes, and an agent has at most one batch in flight, so the
 * collector applies each exactly once however often it is sent. Counters are increments of the interval, gauges its
 * last values, histograms its events.
 */
import { z } from 'zod'
import {
  type BoundCells,
  decodeHistogram,
  ENCODED_CHARS_MAX,
  encodeHistogram,
  HistogramError,
  type LatencyHistogram,
} from './histogram.ts'
import { LABEL_VALUE_MAX, labelsError, METRIC_NAMES, METRICS, type MetricName, RESOURCE_LABELS } from './metric.ts'
import { SLO_IDS } from './slo.ts'

export const BATCH_VERSION = 1

/** Limits of one batch. The collector refuses more; the agent never makes more. */
export const BATCH_LIMITS = {
  /** Body as sent, bytes. */
  wireBytes: 1024 * 1024,
  /** Body after decompression, bytes. 256 full histograms would be 90 MiB: real ones are about 2 kB each. */
  bodyBytes: 8 * 1024 * 1024,
  series: 512,
  counters: 512,
  gauges: 256,
} as const

const labelValue = z.string().max(LABEL_VALUE_MAX)
const labels = z.record(z.string().max(64), labelValue)
const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const metric = z.enum(METRIC_NAMES as [MetricName, ...MetricName[]])
/** Epoch ms: 2020-01-01 … 2100-01-01. */
const epochMs = z.number().int().min(1_577_836_800_000).max(4_102_444_800_000)
const identifier = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/)

const batchSchema = z.strictObject({
  version: z.literal(BATCH_VERSION),
  agent: identifier,
  epoch: identifier,
  sequence: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
  resource: z.strictObject({
    service: identifier,
    instance: identifier,
    venue: labelValue.optional(),
    region: labelValue.optional(),
    route: labelValue.optional(),
  }),
  intervalStartMs: epochMs,
  intervalEndMs: epochMs,
  series: z
    .array(
      z.strictObject({
        metric,
        labels,
        /** Exact sum of the values, ns; when left out, cell middles stand in for the values. */
        sumNs: z.number().min(0).optional(),
        /** HdrHistogram V2 compressed, base64; ns, 3 digits. */
        histogram: z.string().max(ENCODED_CHARS_MAX),
      }),
    )
    .max(BATCH_LIMITS.series),
  counters: z.array(z.strictObject({ metric, labels, value: count })).max(BATCH_LIMITS.counters),
  gauges: z
    .array(z.strictObject({ metric, labels, value: z.number() }))
    .max(BATCH_LIMITS.gauges)
    .default([]),
  /** First event over budget of the interval, per objective, for the page to name. */
  firstBreachAtMs: z.partialRecord(z.enum(SLO_IDS), epochMs).default({}),
})

/** The batch as it is on the wire. */
export type Batch = z.infer<typeof batchSchema>
export type Resource = Batch['resource']
export type Labels = { readonly [label: string]: string }

/** A batch checked whole, histograms decoded. */
export interface DecodedBatch extends Omit<Batch, 'series'> {
  readonly series: readonly { metric: MetricName; labels: Labels; histogram: LatencyHistogram }[]
}

/** A batch that cannot be taken; sending it again cannot help. */
export class BatchError extends Error {
  readonly code = 'BATCH_INVALID'
}

/** One series of a batch. */
export function encodeSeries(metricName: MetricName, seriesLabels: Labels, histogram: LatencyHistogram) {
  return { metric: metricName, labels: seriesLabels, sumNs: histogram.sumNs, histogram: encodeHistogram(histogram) }
}

/**
 * Checks and decodes a parsed JSON body.
 *
 * @throws BatchError one sentence naming the field and the limit
 */
export function decodeBatch(json: unknown, bounds?: BoundCells): DecodedBatch {
  const parsed = batchSchema.safeParse(json)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw new BatchError(`batch: ${issue?.path.join('.') || 'top level'}: ${issue?.message}`)
  }
  const batch = parsed.data
  if (batch.intervalEndMs < batch.intervalStartMs)
    throw new BatchError('batch: intervalEndMs is before intervalStartMs')
  const check = (name: MetricName, given: Labels, type: string, at: string) => {
    if (METRICS[name].type !== type) throw new BatchError(`batch: ${at}: ${name} is not a ${type}`)
    const problem = labelsError(name, given)
    if (problem) throw new BatchError(`batch: ${at}: ${problem}`)
  }
  for (const [i, c] of batch.counters.entries()) check(c.metric, c.labels, 'counter', `counters.${i}`)
  for (const [i, g] of batch.gauges.entries()) check(g.metric, g.labels, 'gauge', `gauges.${i}`)
  const series = batch.series.map((s, i) => {
    check(s.metric, s.labels, 'histogram', `series.${i}`)
    try {
      const histogram = decodeHistogram(s.histogram, bounds)
      if (s.sumNs !== undefined) histogram.sumNs = s.sumNs
      return { metric: s.metric, labels: s.labels as Labels, histogram }
    } catch (error) {
      if (error instanceof HistogramError) throw new BatchError(`batch: series.${i}: ${error.message}`)
      throw error
    }
  })
  return { ...batch, series }
}

/** A key that is equal for equal labels, whatever their order. */
export function labelsKey(given: Labels): string {
  return JSON.stringify(Object.entries(given).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))
}

/** Resource labels present in a batch, in catalogue order, as labels of its series. */
export function resourceLabels(resource: Resource): Labels {
  const result: { [label: string]: string } = {}
  for (const label of RESOURCE_LABELS) {
    const value = resource[label]
    if (value !== undefined && value !== '') result[label] = value
  }
  return result
}
