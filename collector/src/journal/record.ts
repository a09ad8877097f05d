/**
 * The journal's text: HdrHistogram interval logs (`.hlog`, format 1.3) that every HdrHistogram tool reads, made durable
 * by comment lines, which those tools skip.
 *
 *   #[tickscope journal 1, generation 7]                     first line; `snapshot` in place of `journal` in a snapshot
 *   #[Histogram log format version 1.3]
 *   #[StartTime: 1700000000.000 (seconds since epoch), 2023-11-14T22:13:20.000Z]
 *   "StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"
 *   #[group 1, 5312 bytes, crc 1a2b3c4d]                     then exactly so many bytes of records
 *   #batch {"receivedAtMs":…,"agent":…,"epoch":…,"sequence":…,"resource":…,"series":[{metric,labels,sumNs}…],…}
 *   Tag=tickscope_stage_seconds;service=bot;stage=decoded,1700000000.000,1.000,0.412,HISTFAAAA…   one per series
 *
 * A group is what one write and one fdatasync made durable: one or more records. Groups count from 1 in each file. The
 * crc (CRC-32, hex) covers `<group> <bytes>\n` and the records. Times are seconds since the epoch on the agent's clock,
 * Interval_Max is in ms, histograms are in ns. A tag is the metric and its labels, percent-encoded.
 *
 * Records:
 *   #batch {…}      a batch as accepted; its histograms in the lines below it, in the order of `series`
 *   #episode {…}    an incident of the breach detector was opened, posted or closed
 *   #agent {…}      snapshot: an agent and the highest sequence applied of each of its epochs
 *   #resource {…}   snapshot: the sums of one set of resource labels; its histograms in the lines below it
 *   #totals {…}     snapshot: what belongs to no resource
 *
 * A file that ends inside a group was cut off by a crash before that group was acknowledged. Anything else that does
 * not check is damage, and is never repaired silently.
 */
import {
  BATCH_VERSION,
  decodeBatch,
  decodeHistogram,
  encodeHistogram,
  type Labels,
  LatencyHistogram,
  type MetricName,
  resourceLabels,
} from '@tickscope/contract'
import { CellCounts } from '../cells.ts'
import type { Episode } from '../episode.ts'
import { type AcceptedBatch, acceptBatch, type ResourceState, type State } from '../merge.ts'

export function encodeBatch(batch: AcceptedBatch): Buffer {
  const { series, ...envelope } = batch
  const common = resourceLabels(batch.resource)
  const rows = series.map(({ metric, labels, cells, encoded }) =>
    intervalLine(metric, { ...common, ...labels }, batch.intervalStartMs, batch.intervalEndMs, cells, encoded),
  )
  const named = series.map(({ metric, labels, cells: { sumNs } }) => ({ metric, labels, sumNs }))
  return record('batch', { ...envelope, series: named }, rows)
}

export function encodeEpisode(episode: Episode): Buffer {
  return record('episode', episode)
}

/** All of a state, record by record, so that its writer can group them. */
export function* encodeSnapshot(state: State): Generator<Buffer> {
  for (const [agent, { epochs, lastReceivedAtMs }] of state.agents)
    yield record('agent', { agent, epochs: [...epochs], lastReceivedAtMs })
  for (const resource of state.resources.values()) yield encodeResource(resource)
  for (const episode of state.episodes.values()) yield encodeEpisode(episode)
  yield record('totals', { missing: state.missing, overflows: state.overflows })
}

function encodeResource(state: ResourceState): Buffer {
  const { resource, labels: common, lastReceivedAtMs, lastIntervalEndMs } = state
  const histograms = [...state.histograms.values()]
  const scratch = new LatencyHistogram()
  const rows = histograms.map(({ metric, labels, total }) => {
    scratch.reset()
    total.copyTo(scratch)
    const encoded = encodeHistogram(scratch)
    return intervalLine(metric, { ...common, ...labels }, lastIntervalEndMs, lastIntervalEndMs, total, encoded)
  })
  const series = histograms.map(({ metric, labels, total: { sumNs } }) => ({ metric, labels, sumNs }))
  const counters = [...state.counters.values()]
  return record('resource', { resource, lastReceivedAtMs, lastIntervalEndMs, series, counters }, rows)
}

function record(kind: string, fields: object, rows: readonly string[] = []): Buffer {
  // ASCII only: some readers end a line at U+0085 or U+2028 too.
  const json = JSON.stringify(fields).replace(
    /[\u007f-\uffff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
  return Buffer.from(`${[`#${kind} ${json}`, ...rows].join('\n')}\n`)
}

function intervalLine(
  metric: MetricName,
  labels: Labels,
  startMs: number,
  endMs: number,
  cells: CellCounts,
  encoded: string,
): string {
  const tag = [metric, ...Object.entries(labels).map(([label, value]) => `${label}=${encodeURIComponent(value)}`)]
  const numbers = [startMs / 1e3, (endMs - startMs) / 1e3, cells.maxNs / 1e6].map((value) => value.toFixed(3))
  return `Tag=${tag.join(';')},${numbers.join(',')},${encoded}`
}

/**
 * Brings a state up to date with the records of one group.
 *
 * @throws Error when a record cannot be read, though its checksum is right: another version wrote it
 */
export function replay(records: string, state: State): void {
  const lines = records.split('\n')
  for (let at = 0; at < lines.length - 1; at++) {
    const line = lines[at] as string
    const space = line.indexOf(' ')
    const fields = JSON.parse(line.slice(space + 1))
    const rows: string[] = []
    for (let next = lines[at + 1]; next?.startsWith('Tag='); next = lines[++at + 1])
      rows.push(next.slice(next.lastIndexOf(',') + 1))
    if (rows.length !== (fields.series?.length ?? 0)) throw new Error(`${line.slice(0, space)} misses histograms`)
    replayRecord(line.slice(1, space), fields, rows, state)
  }
}

// biome-ignore lint/suspicious/noExplicitAny: fields of a record whose checksum proves that `record` wrote it
function replayRecord(kind: string, fields: any, rows: readonly string[], state: State): void {
  switch (kind) {
    case 'batch': {
      const { receivedAtMs, ...envelope } = fields
      const series = rows.map((histogram, i) => ({ ...envelope.series[i], histogram }))
      state.apply(acceptBatch(decodeBatch({ ...envelope, version: BATCH_VERSION, series }), rows, receivedAtMs))
      return
    }
    case 'episode':
      state.recordEpisode(fields)
      return
    case 'agent':
      state.restoreAgent(fields.agent, fields.epochs, fields.lastReceivedAtMs)
      return
    case 'resource':
      state.restoreResource(
        fields.resource,
        fields,
        rows.map((encoded, i) => ({ ...fields.series[i], total: restoreCells(encoded, fields.series[i].sumNs) })),
        fields.counters,
      )
      return
    case 'totals':
      state.missing = fields.missing
      state.overflows = fields.overflows
      return
    default:
      throw new Error(`record #${kind} is unknown`)
  }
}

function restoreCells(encoded: string, sumNs: number): CellCounts {
  const cells = CellCounts.from(decodeHistogram(encoded))
  cells.sumNs = sumNs
  return cells
}
