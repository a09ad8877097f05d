/**
 * Everything the collector knows: what each agent has delivered, and the exact sums of it.
 *
 * `State` changes only through `apply` (a batch, once it is durable) and `restore` (a snapshot's records), and what
 * `apply` does depends on the batch and the state alone: replaying the journal rebuilds the same state. Exact means
 * integers: counts and sums up to 2^53 (of ns: 104 days of summed latency per series); what would go beyond is left out
 * and counted in `overflows`.
 *
 * Memory is bounded by `LIMITS`. When agents or resources are at their limit, those silent for an hour make room; when
 * none is, newcomers are refused until one is.
 */
import {
  type DecodedBatch,
  type Labels,
  labelsKey,
  type MetricName,
  QUANTILE_METRICS,
  type Resource,
  resourceLabels,
} from '@tickscope/contract'
import { CellCounts } from './cells.ts'
import { type Episode, episodeKey } from './episode.ts'
import { RequestError } from './error.ts'
import { SlidingWindow, type WindowBudget } from './windows.ts'

export const LIMITS = {
  /** Agents whose delivered sequences are remembered. */
  agents: 1024,
  /** Epochs remembered per agent: the current one, and those of which a late retry may still arrive. */
  epochs: 4,
  /** Sets of resource labels (service, instance, venue, region, route). Each has at most about 70 series. */
  resources: 512,
  /** Cells of all cumulative histograms; 16 M are 160 MB. */
  cells: 16_000_000,
  /** Episodes remembered; the oldest are forgotten first. */
  episodes: 256,
  /** Silence after which an agent or a resource may make room for another. */
  idleMs: 3_600_000,
} as const

/** A batch as the collector works with it: checked, histograms sparse, and their bytes as they will be kept. */
export interface AcceptedBatch extends Omit<DecodedBatch, 'series' | 'version'> {
  readonly receivedAtMs: number
  readonly series: readonly AcceptedSeries[]
}

export interface AcceptedSeries {
  readonly metric: MetricName
  readonly labels: Labels
  readonly cells: CellCounts
  /** HdrHistogram V2 compressed, canonical base64. */
  readonly encoded: string
}

/** @param encoded base64 per series, as sent */
export function acceptBatch(batch: DecodedBatch, encoded: readonly string[], receivedAtMs: number): AcceptedBatch {
  const { version: _, series, ...envelope } = batch
  return {
    ...envelope,
    receivedAtMs,
    series: series.map(({ metric, labels, histogram }, i) => ({
      metric,
      labels,
      cells: CellCounts.from(histogram),
      // Node's decoder skips what is not base64, line breaks included: only its own encoding may reach the journal.
      encoded: Buffer.from(encoded[i] as string, 'base64').toString('base64'),
    })),
  }
}

export interface HistogramSeries {
  readonly metric: MetricName
  readonly labels: Labels
  readonly total: CellCounts
  /** Present for the metrics that get exact quantiles. */
  readonly window: SlidingWindow | undefined
}

/** A counter's sum, or a gauge's last value. */
export interface ValueSeries {
  readonly metric: MetricName
  readonly labels: Labels
  value: number
}

/** All series of one set of resource labels. */
export interface ResourceState {
  readonly resource: Resource
  readonly labels: Labels
  readonly histograms: Map<string, HistogramSeries>
  readonly counters: Map<string, ValueSeries>
  /** Last values; not kept over a restart. */
  readonly gauges: Map<string, ValueSeries>
  lastReceivedAtMs: number
  /** End of the last interval, the agent's clock. */
  lastIntervalEndMs: number
  /** The last batch that arrived since the collector started, and when. */
  last: { readonly batch: AcceptedBatch; readonly arrivedAtMonotonicMs: number } | undefined
}

export interface AgentState {
  /** Highest sequence applied per epoch, the epoch heard last at the end. */
  readonly epochs: Map<string, number>
  lastReceivedAtMs: number
}

/** Where a sequence stands: the next one, seen before, or beyond batches that never came. */
export type Place = 'next' | 'duplicate' | 'gap'

const QUANTILES_WANTED: ReadonlySet<MetricName> = new Set(QUANTILE_METRICS)

export class State {
  /** The one heard last at the end. */
  readonly agents = new Map<string, AgentState>()
  /** The one heard last at the end. */
  readonly resources = new Map<string, ResourceState>()
  /** By `episodeKey`, in the order they began. */
  readonly episodes = new Map<string, Episode>()
  readonly windows: WindowBudget = { cells: 0, leftOut: 0 }
  /** Cells of all cumulative histograms. */
  cells = 0
  /** Sequence numbers that never came: batches that were sent and nobody has. */
  missing = 0
  /** Additions left out because they would pass 2^53. */
  overflows = 0

  place(agent: string, epoch: string, sequence: number): Place {
    const last = this.lastSequence(agent, epoch)
    return sequence <= last ? 'duplicate' : sequence === last + 1 ? 'next' : 'gap'
  }

  /** Highest sequence applied, 0 when there is none. */
  lastSequence(agent: string, epoch: string): number {
    return this.agents.get(agent)?.epochs.get(epoch) ?? 0
  }

  /** @throws RequestError 429 `COLLECTOR_FULL` when the batch needs room that nobody idle can make */
  checkRoom(batch: AcceptedBatch): void {
    const refuse = (what: string) => {
      throw new RequestError(429, 'COLLECTOR_FULL', `the collector is full: it holds ${what}`, 60)
    }
    const full = (known: Heard, key: string, limit: number) =>
      !known.has(key) && known.size >= limit && idlest(known, batch.receivedAtMs) === undefined
    if (full(this.agents, batch.agent, LIMITS.agents)) refuse(`${LIMITS.agents} agents and none of them is idle`)
    if (full(this.resources, resourceKey(batch.resource), LIMITS.resources))
      refuse(`${LIMITS.resources} sets of resource labels and none of them is idle`)
    const cells = batch.series.reduce((sum, series) => sum + series.cells.size, 0)
    if (this.cells + cells > LIMITS.cells) refuse(`${this.cells} histogram cells, the limit is ${LIMITS.cells}`)
  }

  /**
   * Adds a batch that is durable. It must not be a duplicate.
   *
   * @param arrivedAtMonotonicMs feeds windows and gauges; left out by a replay, which is not news
   */
  apply(batch: AcceptedBatch, arrivedAtMonotonicMs?: number): void {
    this.#deliver(batch)
    const resource = this.#resource(batch.resource, batch.receivedAtMs)
    resource.lastIntervalEndMs = batch.intervalEndMs
    for (const { metric, labels, cells } of batch.series) {
      const series = this.#addCells(resource, metric, labels, cells)
      if (arrivedAtMonotonicMs !== undefined) series.window?.add(cells, arrivedAtMonotonicMs)
    }
    for (const counter of batch.counters) this.#addCount(resource, counter)
    if (arrivedAtMonotonicMs === undefined) return
    for (const { metric, labels, value } of batch.gauges)
      resource.gauges.set(seriesKey(metric, labels), { metric, labels, value })
    resource.last = { batch, arrivedAtMonotonicMs }
  }

  /** Keeps the latest of an episode. */
  recordEpisode(episode: Episode): void {
    this.episodes.set(episodeKey(episode), episode)
    if (this.episodes.size > LIMITS.episodes) this.episodes.delete(this.episodes.keys().next().value as string)
  }

  /** Takes back one agent of a snapshot; in the order they were written. */
  restoreAgent(agent: string, epochs: readonly (readonly [string, number])[], lastReceivedAtMs: number): void {
    this.agents.set(agent, { epochs: new Map(epochs), lastReceivedAtMs })
  }

  /** Takes back one resource of a snapshot; in the order they were written. */
  restoreResource(
    resource: Resource,
    heard: Pick<ResourceState, 'lastReceivedAtMs' | 'lastIntervalEndMs'>,
    histograms: readonly Pick<HistogramSeries, 'metric' | 'labels' | 'total'>[],
    counters: readonly ValueSeries[],
  ): void {
    const state = this.#resource(resource, heard.lastReceivedAtMs)
    state.lastIntervalEndMs = heard.lastIntervalEndMs
    for (const { metric, labels, total } of histograms) this.#addCells(state, metric, labels, total)
    for (const counter of counters) this.#addCount(state, counter)
  }

  #deliver(batch: AcceptedBatch): void {
    const { agent, epoch, sequence, receivedAtMs } = batch
    this.missing += sequence - this.lastSequence(agent, epoch) - 1
    const known = this.agents.get(agent)
    const epochs = known?.epochs ?? new Map<string, number>()
    touch(epochs, epoch, sequence)
    if (epochs.size > LIMITS.epochs) epochs.delete(epochs.keys().next().value as string)
    if (!known && this.agents.size >= LIMITS.agents) {
      const idle = idlest(this.agents, receivedAtMs)
      if (idle !== undefined) this.agents.delete(idle)
    }
    touch(this.agents, agent, { epochs, lastReceivedAtMs: receivedAtMs })
  }

  #resource(resource: Resource, receivedAtMs: number): ResourceState {
    const key = resourceKey(resource)
    let state = this.resources.get(key)
    if (!state) {
      if (this.resources.size >= LIMITS.resources) {
        const idle = idlest(this.resources, receivedAtMs)
        if (idle !== undefined) this.#forget(idle)
      }
      state = {
        resource,
        labels: resourceLabels(resource),
        histograms: new Map(),
        counters: new Map(),
        gauges: new Map(),
        lastReceivedAtMs: receivedAtMs,
        lastIntervalEndMs: 0,
        last: undefined,
      }
    }
    state.lastReceivedAtMs = receivedAtMs
    touch(this.resources, key, state)
    return state
  }

  #forget(key: string): void {
    for (const { total, window } of this.resources.get(key)?.histograms.values() ?? []) {
      this.cells -= total.size
      window?.clear()
    }
    this.resources.delete(key)
  }

  #addCells(resource: ResourceState, metric: MetricName, labels: Labels, cells: CellCounts): HistogramSeries {
    const key = seriesKey(metric, labels)
    let series = resource.histograms.get(key)
    if (!series) {
      const window = QUANTILES_WANTED.has(metric) ? new SlidingWindow(this.windows) : undefined
      series = { metric, labels, total: CellCounts.empty(), window }
      resource.histograms.set(key, series)
    }
    const { total } = series
    if (Math.max(total.count + cells.count, total.sumNs + cells.sumNs) > Number.MAX_SAFE_INTEGER) this.overflows++
    else {
      const before = total.size
      total.add(cells)
      this.cells += total.size - before
    }
    return series
  }

  #addCount(resource: ResourceState, { metric, labels, value }: ValueSeries): void {
    const key = seriesKey(metric, labels)
    const series = resource.counters.get(key)
    if (!series) resource.counters.set(key, { metric, labels, value })
    else if (series.value + value > Number.MAX_SAFE_INTEGER) this.overflows++
    else series.value += value
  }
}

type Heard = ReadonlyMap<string, { readonly lastReceivedAtMs: number }>

/** Who has been silent longest, when that is long enough to make room for another. */
function idlest(known: Heard, nowMs: number): string | undefined {
  const [first] = known
  return first !== undefined && nowMs - first[1].lastReceivedAtMs >= LIMITS.idleMs ? first[0] : undefined
}

/** Sets and moves to the end. */
function touch<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key)
  map.set(key, value)
}

function resourceKey(resource: Resource): string {
  return labelsKey(resourceLabels(resource))
}

function seriesKey(metric: MetricName, labels: Labels): string {
  return metric + labelsKey(labels)
}
