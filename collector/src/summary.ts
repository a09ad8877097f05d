/**
 * `GET /v1/summary`: all of it in one JSON object, for scripts and the live view. Durations are ns, instants epoch ms;
 * sums are exact, over all services since the journal began.
 */
import { type LatencySummary, type MetricName, ORDER_STAGES, SLO_IDS, type SloId } from '@tickscope/contract'
import { type CellCounts, CellSum } from './cells.ts'
import type { Clock } from './clock.ts'
import type { Episode } from './episode.ts'
import type { AcceptedSeries, State } from './merge.ts'

/** What `recent` stands for: an agent's interval. */
const RECENT_MS = 1000
/** An agent whose last interval is older has no recent one. */
const RECENT_FRESH_MS = 2500

export interface Summary {
  readonly ticks: number
  /** Orders sent: events of tick-to-trade. */
  readonly orders: number
  readonly tickToTrade: LatencySummary
  /** All endpoints and outcomes. */
  readonly apiRtt: LatencySummary
  /** Of ticks that caused an order. */
  readonly stages: { readonly [stage: string]: LatencySummary }
  readonly breaches: { readonly [slo in SloId]: number }
  /** Measurements agents dropped. */
  readonly dropped: number
  /** Batches that were sent and nobody has. */
  readonly lostBatches: number
  readonly sumsNs: { readonly tickToTrade: number; readonly stages: { readonly [stage: string]: number } }
  readonly probe: {
    readonly [probe: string]: {
      readonly total: LatencySummary
      readonly phases: { readonly [phase: string]: LatencySummary }
    }
  }
  /** The last interval of each agent, together. */
  readonly recent: {
    readonly windowMs: number
    /** When the last interval of each service ended, epoch ms: another value is another interval. */
    readonly intervalEndMs: { readonly [service: string]: number }
    readonly ticks: number
    readonly orders: number
    readonly tickToTrade: LatencySummary
    readonly apiRtt: LatencySummary
  }
  readonly agents: number
  readonly episodes: readonly Episode[]
}

export function summaryOf(state: State, clock: Clock): Summary {
  const resources = [...state.resources.values()]
  const histograms = resources.flatMap(({ histograms }) => [...histograms.values()])
  const counters = resources.flatMap(({ counters }) => [...counters.values()])
  const sum = new CellSum()
  const cellsOf = (metric: MetricName, fits: (labels: Readonly<Record<string, string>>) => boolean = () => true) =>
    histograms.filter((series) => series.metric === metric && fits(series.labels)).map(({ total }) => total)
  const latency = (cells: readonly CellCounts[]) => cells.reduce((all, each) => all.add(each), sum.clear()).summary()
  const sumNs = (cells: readonly CellCounts[]) => cells.reduce((all, each) => all + each.sumNs, 0)
  const count = (metric: MetricName, fits: (labels: Readonly<Record<string, string>>) => boolean = () => true) =>
    counters
      .filter((series) => series.metric === metric && fits(series.labels))
      .reduce((all, { value }) => all + value, 0)

  const tickToTrade = cellsOf('tickscope_tick_to_trade_seconds')
  const stages = ORDER_STAGES.map(
    (stage) =>
      [
        stage,
        cellsOf('tickscope_stage_seconds', (labels) => labels.stage === stage && labels.outcome === 'order'),
      ] as const,
  )
  const probePhases = (probe: string) => {
    const ofProbe = (phase: string) =>
      latency(cellsOf('tickscope_probe_phase_seconds', (labels) => labels.probe === probe && labels.phase === phase))
    const seen = histograms.flatMap(({ metric, labels }) =>
      metric === 'tickscope_probe_phase_seconds' && labels.probe === probe ? [labels.phase as string] : [],
    )
    const phases = [...new Set(seen)].filter((phase) => phase !== 'total')
    return { total: ofProbe('total'), phases: Object.fromEntries(phases.map((phase) => [phase, ofProbe(phase)])) }
  }
  const probes = new Set(
    histograms.flatMap(({ metric, labels }) =>
      metric === 'tickscope_probe_phase_seconds' ? [labels.probe as string] : [],
    ),
  )

  const fresh = clock.monotonicMs() - RECENT_FRESH_MS
  const last = resources.flatMap(({ last }) => (last && last.arrivedAtMonotonicMs >= fresh ? [last.batch] : []))
  const lastCells = (metric: MetricName) =>
    last
      .flatMap(({ series }) => series.filter((each: AcceptedSeries) => each.metric === metric))
      .map(({ cells }) => cells)
  const recentTickToTrade = latency(lastCells('tickscope_tick_to_trade_seconds'))

  const total = latency(tickToTrade)
  return {
    ticks: count('tickscope_ticks_total'),
    orders: total.count,
    tickToTrade: total,
    apiRtt: latency(cellsOf('tickscope_api_rtt_seconds')),
    stages: Object.fromEntries(stages.map(([stage, cells]) => [stage, latency(cells)])),
    breaches: Object.fromEntries(
      SLO_IDS.map((slo) => [slo, count('tickscope_breaches_total', (labels) => labels.slo === slo)]),
    ) as Summary['breaches'],
    dropped: count('tickscope_agent_dropped_total'),
    lostBatches: state.missing,
    sumsNs: {
      tickToTrade: sumNs(tickToTrade),
      stages: Object.fromEntries(stages.map(([stage, cells]) => [stage, sumNs(cells)])),
    },
    probe: Object.fromEntries([...probes].map((probe) => [probe, probePhases(probe)])),
    recent: {
      windowMs: RECENT_MS,
      intervalEndMs: Object.fromEntries(last.map(({ resource, intervalEndMs }) => [resource.service, intervalEndMs])),
      ticks: last
        .flatMap(({ counters }) => counters)
        .reduce((all, { metric, value }) => all + (metric === 'tickscope_ticks_total' ? value : 0), 0),
      orders: recentTickToTrade.count,
      tickToTrade: recentTickToTrade,
      apiRtt: latency(lastCells('tickscope_api_rtt_seconds')),
    },
    agents: state.agents.size,
    episodes: [...state.episodes.values()],
  }
}
