/** What a run prints: a line a second while it goes, and what it came to at its end. */
import { formatNs, type LatencySummary, type SloId } from '@tickscope/contract'

/** `GET /v1/summary` of the collector. */
export interface CollectorSummary {
  readonly ticks: number
  readonly orders: number
  readonly tickToTrade: LatencySummary
  readonly apiRtt: LatencySummary
  readonly stages: { readonly [stage: string]: LatencySummary }
  readonly sumsNs: { readonly tickToTrade: number; readonly stages: { readonly [stage: string]: number } }
  readonly breaches: { readonly [slo in SloId]: number }
  readonly dropped: number
  readonly probe: {
    readonly http?: { readonly total: LatencySummary; readonly phases: { readonly [p: string]: LatencySummary } }
  }
  readonly recent: {
    readonly windowMs: number
    readonly intervalEndMs: { readonly [service: string]: number }
    readonly ticks: number
    readonly orders: number
    readonly tickToTrade: LatencySummary
    readonly apiRtt: LatencySummary
  }
  /** What the fast path saw, and when it posted it. */
  readonly episodes: readonly {
    readonly slo: SloId
    readonly firstBreachAtMs: number
    readonly postedAtMs: number | null
  }[]
}

/** `GET /v1/pages` of the pager. */
export interface Page {
  readonly slo: SloId
  readonly path: 'fast' | 'prometheus'
  readonly firstBreachAtMs: number
  readonly deliveredAtMs: number
  readonly resolvedAtMs: number | null
}

/** The summary of a run; durations in ns, instants in epoch ms. */
export interface RunSummary {
  readonly durationMs: number
  readonly seed: number
  readonly venue: {
    readonly ticksDelivered: number
    readonly ordersReceived: number
    readonly [field: string]: unknown
  }
  readonly bot: {
    readonly ticksReceived: number
    readonly ordersSent: number
    readonly ordersAcked: number
    readonly fills: number
    readonly [field: string]: unknown
  }
  readonly agent: { readonly dropped: number; readonly acknowledged: boolean }
  readonly collector: Pick<
    CollectorSummary,
    'ticks' | 'tickToTrade' | 'apiRtt' | 'stages' | 'sumsNs' | 'breaches' | 'dropped' | 'episodes'
  > & { readonly restarts: number }
  readonly probe: CollectorSummary['probe']
  readonly pages: readonly Page[]
  /** Alerts Prometheus raised by itself, with the time they were first seen firing; null when it did not run. */
  readonly prometheus: { readonly alerts: readonly { readonly alertname: string; readonly firedAtMs: number }[] } | null
}

const COLUMNS = [
  'time',
  'ticks/s',
  'orders/s',
  't2t p50',
  'p99',
  'p99.9',
  'max',
  'RTT p50',
  'p99',
  'breaches',
  'drops',
  'pages',
]
const WIDTHS = [6, 8, 9, 9, 9, 9, 9, 9, 9, 9, 6, 6]
const row = (cells: readonly (string | number)[]) => cells.map((c, i) => String(c).padStart(WIDTHS[i] ?? 8)).join(' ')

const seconds = (ms: number) => `${Math.round(ms / 1000)}s`

export const LIVE_HEADER = row(COLUMNS)

export function liveLine(elapsedMs: number, summary: CollectorSummary, pages: number): string {
  const { recent } = summary
  const perSecond = (n: number) => Math.round((n * 1000) / recent.windowMs)
  const latency = (h: LatencySummary, ns: number) => (h.count === 0 ? '-' : formatNs(ns))
  const t2t = recent.tickToTrade
  const rtt = recent.apiRtt
  return row([
    seconds(elapsedMs),
    perSecond(recent.ticks),
    perSecond(recent.orders),
    ...[t2t.p50Ns, t2t.p99Ns, t2t.p999Ns, t2t.maxNs].map((ns) => latency(t2t, ns)),
    ...[rtt.p50Ns, rtt.p99Ns].map((ns) => latency(rtt, ns)),
    Object.values(summary.breaches).reduce((a, b) => a + b, 0),
    summary.dropped,
    pages,
  ])
}

export function awayLine(elapsedMs: number): string {
  return `${row([seconds(elapsedMs)])}  the collector is away; the agent keeps what it measures`
}

export function summaryText(run: RunSummary): string {
  const line = (name: string, h: LatencySummary) =>
    `  ${name.padEnd(18)}${String(h.count).padStart(8)}${[h.p50Ns, h.p90Ns, h.p99Ns, h.p999Ns, h.maxNs]
      .map((ns) => (h.count === 0 ? '-' : formatNs(ns)).padStart(10))
      .join('')}`
  const { collector, venue, bot } = run
  const lines = [
    '',
    `Ran ${(run.durationMs / 1000).toFixed(1)} s, seed ${run.seed}.`,
    `  ticks   venue delivered ${venue.ticksDelivered}, bot received ${bot.ticksReceived}, collector counted ${collector.ticks}`,
    `  orders  venue received ${venue.ordersReceived}, bot sent ${bot.ordersSent}, acknowledged ${bot.ordersAcked}, tick-to-trade counted ${collector.tickToTrade.count}; fills ${bot.fills}`,
    `  agent   dropped ${run.agent.dropped}${run.agent.acknowledged ? '' : '; its last batch was NOT acknowledged'}`,
    '',
    `  ${''.padEnd(18)}${'count'.padStart(8)}${['p50', 'p90', 'p99', 'p99.9', 'max'].map((q) => q.padStart(10)).join('')}`,
    line('tick-to-trade', collector.tickToTrade),
    ...Object.entries(collector.stages).map(([stage, h]) => line(`  ${stage}`, h)),
    line('API round trip', collector.apiRtt),
    ...(run.probe.http ? [line('probe http total', run.probe.http.total)] : []),
    '',
    `  over budget: API RTT ${collector.breaches.api_rtt}, processing ${collector.breaches.processing}, utilisation ${collector.breaches.utilization}`,
  ]
  if (run.pages.length === 0) lines.push('  pages: none')
  for (const page of run.pages) {
    const delay = ((page.deliveredAtMs - page.firstBreachAtMs) / 1000).toFixed(2)
    const end =
      page.resolvedAtMs === null
        ? 'still open'
        : `resolved after ${((page.resolvedAtMs - page.deliveredAtMs) / 1000).toFixed(1)} s`
    lines.push(`  page: ${page.slo}, delivered ${delay} s after the first breach by the ${page.path} path, ${end}`)
  }
  for (const alert of run.prometheus?.alerts ?? []) lines.push(`  Prometheus raised ${alert.alertname}`)
  return lines.join('\n')
}
