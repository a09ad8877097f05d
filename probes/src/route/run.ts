/**
 * Several ways to the venue, measured interleaved by round, beside those measured elsewhere; what each is worth, and
 * what a saved millisecond costs.
 *
 * Routes of this run are compared pair by pair of rounds. A result imported from another machine shares no rounds with
 * them: its interval and the other's are added, which is wider, and says so.
 */
import { hostname } from 'node:os'
import { HistogramError, type LatencySummary, type Slos, summarize, UserError } from '@tickscope/contract'
import { CLOCK, nowNs } from '../clock.ts'
import { compareDifference, type Interval, meanInterval } from '../compare.ts'
import { CONTROL_LIMITS, type ControlReport, worstReasons } from '../controls.ts'
import { collectEnvironment } from '../environment.ts'
import { readFlagFile } from '../flag.ts'
import { SILENT_REPORTER } from '../reporter.ts'
import type { Budget } from '../result.ts'
import { type InterleavedResult, interleave } from '../rounds.ts'
import {
  openVantage,
  ROUND_FIGURES,
  type RoundFigure,
  type RoundOptions,
  RouteTally,
  readRow,
  SERIES,
  type Series,
  type Vantage,
} from './measure.ts'
import { type Route, viaText } from './routes.ts'

export interface RouteOptions extends RoundOptions {
  readonly rounds: number
  readonly routes: readonly Route[]
  /** Result files of this probe, measured elsewhere. */
  readonly imports: readonly string[]
  /** Name of the route others are compared with; the first when left out. */
  readonly baseline?: string
  readonly slos: Slos
  readonly signal: AbortSignal
  readonly note: (line: string) => void
  readonly progress: (ratio: number) => void
}

/** Absent is not zero: without a result of the feed probe nothing is known of the venue's own clock. */
export type EventAge =
  /** `uncertaintyNs`: how far the venue's clock and ours may be apart. */
  | ({ readonly status: 'measured'; readonly uncertaintyNs: number | null } & LatencySummary)
  | { readonly status: 'skipped'; readonly reason: string }

export interface RouteRow {
  readonly name: string
  readonly region: string | null
  readonly route: string
  readonly target: string
  readonly requestedMode: string
  readonly effectiveMode: string
  readonly status: 'measured' | 'unsupported' | 'skipped'
  readonly reason?: string
  readonly boundary: 'user→user'
  readonly clock: string
  /** Name of the machine that measured. */
  readonly vantage: string
  readonly scheduled: number
  readonly warmScheduled: number
  readonly sent: number
  readonly lost: number
  readonly dropped: number
  readonly reasons: { readonly [reason: string]: number }
  /** Of warm requests, from the intended send. */
  readonly response: LatencySummary | null
  readonly service: LatencySummary | null
  readonly slip: LatencySummary | null
  /** TCP handshake with whoever answers first. */
  readonly edgeRtt: LatencySummary | null
  /** First byte minus the edge RTT of the same connection. */
  readonly behindEdge: LatencySummary | null
  readonly behindClamped: number
  readonly eventAge: EventAge
  readonly phases: { readonly [phase: string]: LatencySummary }
  readonly roundsP50Ns: { readonly [figure in RoundFigure]: readonly (number | null)[] }
  readonly usdPerMonth: number | null
  /** Where that price is from. */
  readonly priceSource: string | null
  /** HdrHistogram V2 of each series and its exact sum, so that results merge. */
  readonly histograms: { readonly [name in Series]?: string }
  readonly sumsNs: { readonly [name in Series]?: number }
  /** Of a row measured in another run: where it came from and in what surroundings. */
  readonly imported: {
    readonly file: string
    readonly startedAtMs: number
    readonly contaminated: boolean
    readonly environment: unknown
  } | null
}

export interface RouteComparison {
  readonly from: string
  readonly to: string
  /** Of p50s: the response of warm requests, or one of the series. */
  readonly figure: RoundFigure
  /** Whether rounds of the same run are paired. */
  readonly interleaved: boolean
  readonly rounds: number
  /** `to` minus `from`, ns; null without an interval. */
  readonly meanNs: number | null
  readonly lowNs: number | null
  readonly highNs: number | null
  readonly claimed: boolean
  /** Why nothing is claimed. */
  readonly reason?: string
}

export interface RouteWorth {
  readonly from: string
  readonly to: string
  /** Of a warm request's p50; with its interval. Null when no gain may be claimed. */
  readonly savedMs: number | null
  readonly savedMsLow: number | null
  readonly savedMsHigh: number | null
  readonly extraUsdPerMonth: number | null
  /** Saved per extra dollar a month. Null when nothing is saved, or it costs no more. */
  readonly savedMsPerUsd: number | null
  readonly says: string
}

export interface RouteResult extends InterleavedResult {
  readonly probe: 'route'
  readonly rows: readonly RouteRow[]
  readonly comparisons: readonly RouteComparison[]
  readonly worth: readonly RouteWorth[]
  readonly budgets: readonly Budget[]
}

interface Lane {
  readonly route: Route
  readonly tally: RouteTally
  vantage: Vantage | undefined
  failure: string | undefined
  failedRounds: number
}

export async function runRoutes(options: RouteOptions): Promise<RouteResult> {
  const { rounds, routes, slos, signal, note } = options
  const environment = collectEnvironment()
  const imported = options.imports.flatMap((file) => importResult(file, slos))
  const names = [...routes, ...imported].map(({ name }) => name)
  if (options.baseline !== undefined && !names.includes(options.baseline))
    throw new UserError(
      'BASELINE_UNKNOWN',
      `--baseline is '${options.baseline}', none of the routes ${names.join(', ').slice(0, 500)}`,
    )
  const startedAtMs = Date.now()
  const startedAtNs = nowNs()
  const lanes: Lane[] = routes.map((route) => ({
    route,
    tally: new RouteTally(slos.api_rtt.thresholdNs),
    vantage: undefined,
    failure: undefined,
    failedRounds: 0,
  }))
  let controls: readonly ControlReport[]
  try {
    for (const lane of lanes) {
      try {
        lane.vantage = await openVantage(lane.route, options, {
          slos,
          signal,
          reporter: SILENT_REPORTER,
          note: () => {},
        })
      } catch (error) {
        if (!(error instanceof UserError)) throw error
        lane.failure = error.message
      }
    }
    controls = await interleave(lanes, options, (lane) => runRound(lane, note))
  } finally {
    await Promise.all(lanes.map(({ vantage }) => vantage?.stop()))
  }
  const rows = [...lanes.map(laneRow), ...imported]
  const all = new RouteTally(slos.api_rtt.thresholdNs)
  for (const { tally } of lanes) all.add(tally)
  const contaminatedBy = [...worstReasons(controls), ...lateReasons(all)]
  const baseline = rows.find(({ name }) => name === options.baseline) ?? (rows[0] as RouteRow)
  const comparisons = rows
    .filter((row) => row !== baseline)
    .flatMap((row) => compareRoutes(baseline, row, contaminatedBy.length > 0))
  return {
    probe: 'route',
    target: [...new Set(rows.map(({ target }) => target))].join(', '),
    startedAtMs,
    durationMs: Math.round((nowNs() - startedAtNs) / 1e6),
    settings: {
      rounds,
      requestsPerRound: options.count,
      ratePerSecond: options.ratePerSecond,
      timeoutMs: options.timeoutMs,
      warmUpRequests: 2,
      baseline: baseline.name,
    },
    boundary: 'user→user',
    clock: CLOCK,
    sent: all.sent,
    lost: all.lost,
    response: summarize(all.series.response),
    service: summarize(all.series.service),
    slip: summarize(all.series.slip),
    phases: phasesOf(all),
    rows,
    comparisons,
    worth: worthOf(rows, comparisons),
    budgets: lanes.flatMap(({ route, tally }) => judgeRoute(route.name, tally, slos)),
    contaminated: contaminatedBy.length > 0,
    contaminatedBy,
    controls,
    environment,
  }
}

/** The probe itself was late, on whatever route. */
function lateReasons({ series: { slip } }: RouteTally): string[] {
  const p99Ns = slip.quantileNs(0.99)
  return p99Ns > CONTROL_LIMITS.slipP99Ns ? [`the probe itself was ${(p99Ns / 1e6).toFixed(1)} ms late at p99`] : []
}

async function runRound(lane: Lane, note: (line: string) => void): Promise<void> {
  if (lane.vantage === undefined) return
  try {
    lane.tally.add(await lane.vantage.round())
  } catch (error) {
    if (!(error instanceof UserError)) throw error
    if (lane.failure === undefined) note(`${lane.route.name}: ${error.message}`)
    lane.failure = error.message
    lane.failedRounds++
    lane.tally.failRound()
  }
}

function laneRow({ route, tally, failure, failedRounds }: Lane): RouteRow {
  const measured = tally.series.response.count > 0
  const via = viaText(route.via)
  const reason = failedRounds > 0 && measured ? `${failedRounds} rounds failed: ${failure}` : failure
  return {
    name: route.name,
    region: route.region,
    route: route.route,
    target: route.url.href,
    requestedMode: via,
    effectiveMode: measured ? via : 'none',
    status: measured ? 'measured' : 'unsupported',
    ...(reason === undefined ? {} : { reason }),
    ...rowFigures(tally),
    vantage: hostname(),
    eventAge: readEventAge(route.feedFile),
    usdPerMonth: route.price?.usdPerMonth ?? null,
    priceSource: route.price?.source ?? null,
    imported: null,
  }
}

function rowFigures(tally: RouteTally) {
  const { series } = tally
  const summary = (name: Series) => (series[name].count > 0 ? summarize(series[name]) : null)
  return {
    boundary: 'user→user',
    clock: CLOCK,
    scheduled: tally.scheduled,
    warmScheduled: tally.warmScheduled,
    sent: tally.sent,
    lost: tally.lost,
    dropped: tally.dropped,
    reasons: Object.fromEntries(tally.reasons),
    response: summary('response'),
    service: summary('service'),
    slip: summary('slip'),
    edgeRtt: summary('edgeRtt'),
    behindEdge: summary('behindEdge'),
    behindClamped: tally.behindClamped,
    phases: phasesOf(tally),
    roundsP50Ns: tally.roundsP50Ns,
    histograms: tally.encode(),
    sumsNs: Object.fromEntries(SERIES.map((name) => [name, series[name].sumNs])) as { [name in Series]: number },
  } as const
}

function phasesOf({ series }: RouteTally): { [phase: string]: LatencySummary } {
  const names = {
    dns: 'dns',
    tcp: 'edgeRtt',
    tls: 'tls',
    ttfb: 'ttfb',
    behind_edge: 'behindEdge',
    body: 'body',
  } as const
  return Object.fromEntries(
    Object.entries(names).flatMap(([phase, name]) =>
      series[name].count > 0 ? [[phase, summarize(series[name])]] : [],
    ),
  )
}

/** Takes the age of the feed's messages from a result of the feed probe; it refuses to give one without a clock bound. */
function readEventAge(file: string | null): EventAge {
  const skipped = (reason: string): EventAge => ({ status: 'skipped', reason })
  if (file === null) return skipped('no result of probe feed was given for this route (field "feed")')
  let json: unknown
  try {
    json = JSON.parse(lastLineOf(readFlagFile('feed', file)))
  } catch (error) {
    return skipped(error instanceof UserError ? error.message : `${file} is not JSON`)
  }
  const { probe, rows } = (json ?? {}) as { probe?: unknown; rows?: unknown }
  if (probe !== 'feed') return skipped(`${file} is no result of probe feed`)
  const row = Array.isArray(rows) ? rows.find((entry: { name?: unknown } | null) => entry?.name === 'age') : undefined
  const { phases, reason, uncertaintyNs } = (row ?? {}) as {
    phases?: { message_age?: LatencySummary }
    reason?: unknown
    uncertaintyNs?: unknown
  }
  const age = phases?.message_age
  if (age === undefined || age === null || !(age.count > 0))
    return skipped(`${file} has no message age: ${typeof reason === 'string' ? reason.slice(0, 256) : 'no row "age"'}`)
  return measuredAge(age, uncertaintyNs)
}

function measuredAge({ count, p50Ns, p90Ns, p99Ns, p999Ns, maxNs }: LatencySummary, uncertainty: unknown): EventAge {
  const uncertaintyNs = typeof uncertainty === 'number' ? uncertainty : null
  return { status: 'measured', uncertaintyNs, count, p50Ns, p90Ns, p99Ns, p999Ns, maxNs }
}

/** @throws UserError `IMPORT_INVALID` */
export function importResult(file: string, slos: Slos): RouteRow[] {
  const invalid = (why: string) => new UserError('IMPORT_INVALID', `--import ${file}: ${why}`)
  let json: unknown
  try {
    json = JSON.parse(lastLineOf(readFlagFile('--import', file)))
  } catch (error) {
    if (error instanceof UserError) throw error
    throw invalid('its last line is not JSON')
  }
  const result = (json ?? {}) as Partial<RouteResult>
  if (result.probe !== 'route' || !Array.isArray(result.rows))
    throw invalid('it is no result of probe route with --json')
  const text = (value: unknown, otherwise: string) => (typeof value === 'string' ? value.slice(0, 256) : otherwise)
  const vantage = text(result.environment?.host, 'unknown host')
  return result.rows.map((row) => {
    if (typeof row !== 'object' || row === null) throw invalid('a row is not an object')
    const tally = new RouteTally(slos.api_rtt.thresholdNs)
    try {
      readRow(tally, row as unknown as { [field: string]: unknown })
    } catch (error) {
      if (error instanceof HistogramError) throw invalid(`row '${text(row.name, '?')}': ${error.message}`)
      throw error
    }
    const measured = row.status === 'measured' && tally.series.response.count > 0
    return {
      name: `${text(row.name, 'unnamed')} @ ${vantage}`,
      region: row.region === null ? null : text(row.region, ''),
      route: text(row.route, 'unnamed'),
      target: text(row.target, ''),
      requestedMode: text(row.requestedMode, ''),
      effectiveMode: text(row.effectiveMode, ''),
      status: measured ? 'measured' : 'unsupported',
      ...(measured ? {} : { reason: text(row.reason, 'measured nothing') }),
      ...rowFigures(tally),
      clock: text(row.clock, CLOCK),
      vantage,
      eventAge:
        row.eventAge?.status === 'measured' && row.eventAge.count > 0
          ? measuredAge(row.eventAge, row.eventAge.uncertaintyNs)
          : { status: 'skipped', reason: 'none in the imported result' },
      usdPerMonth: typeof row.usdPerMonth === 'number' && row.usdPerMonth >= 0 ? row.usdPerMonth : null,
      priceSource: typeof row.priceSource === 'string' ? row.priceSource.slice(0, 256) : null,
      imported: {
        file,
        startedAtMs: Number(result.startedAtMs) || 0,
        contaminated: result.contaminated === true,
        environment: result.environment ?? null,
      },
    }
  })
}

function lastLineOf(text: string): string {
  return text.trimEnd().split('\n').at(-1) ?? ''
}

/** @param contaminated whether the controls of this run moved */
export function compareRoutes(from: RouteRow, to: RouteRow, contaminated: boolean): RouteComparison[] {
  const interleaved = from.imported === null && to.imported === null
  const dirty = interleaved
    ? contaminated
    : [from, to].some((row) => (row.imported === null ? contaminated : row.imported.contaminated))
  return ROUND_FIGURES.map((figure) => {
    const common = { from: from.name, to: to.name, figure, interleaved } as const
    const none = (rounds: number, reason: string): RouteComparison => ({
      ...common,
      rounds,
      meanNs: null,
      lowNs: null,
      highNs: null,
      claimed: false,
      reason,
    })
    const a = from.roundsP50Ns[figure]
    const b = to.roundsP50Ns[figure]
    const both = interleaved
      ? a.flatMap((value, i) => (value === null || (b[i] ?? null) === null ? [] : [[value, b[i] as number] as const]))
      : []
    const left = interleaved ? both.map(([value]) => value) : a.filter((value) => value !== null)
    const right = interleaved ? both.map(([, value]) => value) : b.filter((value) => value !== null)
    const rounds = Math.min(left.length, right.length)
    if (rounds === 0) return none(0, 'no round in which both were measured')
    const interval: Interval = interleaved ? compareDifference(left, right) : apart(left, right)
    if (!Number.isFinite(interval.low)) return none(rounds, 'too few rounds for an interval')
    const excludesNone = interval.low > 0 || interval.high < 0
    const reason = !excludesNone
      ? 'the interval includes no difference'
      : dirty
        ? 'a run was contaminated: its controls moved'
        : undefined
    return {
      ...common,
      rounds,
      meanNs: Math.round(interval.mean),
      lowNs: Math.round(interval.low),
      highNs: Math.round(interval.high),
      claimed: reason === undefined,
      ...(reason === undefined ? {} : { reason }),
    }
  })
}

/** Difference of two sides that share no rounds: the widths of both intervals together. */
function apart(from: readonly number[], to: readonly number[]): Interval {
  const a = meanInterval(from)
  const b = meanInterval(to)
  return { mean: b.mean - a.mean, low: b.low - a.high, high: b.high - a.low }
}

export function worthOf(rows: readonly RouteRow[], comparisons: readonly RouteComparison[]): RouteWorth[] {
  const ms = (ns: number) => Math.round(ns / 1e3) / 1e3
  return comparisons
    .filter(({ figure }) => figure === 'response')
    .map(({ from, to, meanNs, lowNs, highNs, claimed, reason }) => {
      const price = (name: string) => rows.find((row) => row.name === name)?.usdPerMonth ?? null
      const [before, after] = [price(from), price(to)]
      const extraUsdPerMonth = before === null || after === null ? null : Math.round((after - before) * 100) / 100
      const common = { from, to, extraUsdPerMonth }
      if (!claimed || meanNs === null || lowNs === null || highNs === null)
        return {
          ...common,
          savedMs: null,
          savedMsLow: null,
          savedMsHigh: null,
          savedMsPerUsd: null,
          says: `nothing is claimed: ${reason ?? 'no interval'}`,
        }
      const savedMs = ms(-meanNs)
      const saved = { ...common, savedMs, savedMsLow: ms(-highNs), savedMsHigh: ms(-lowNs) }
      if (savedMs <= 0) return { ...saved, savedMsPerUsd: null, says: `slower by ${-savedMs} ms` }
      if (extraUsdPerMonth === null) return { ...saved, savedMsPerUsd: null, says: 'no price for both routes' }
      if (extraUsdPerMonth <= 0) return { ...saved, savedMsPerUsd: null, says: `saves ${savedMs} ms and costs no more` }
      const savedMsPerUsd = Math.round((savedMs / extraUsdPerMonth) * 1e6) / 1e6
      return {
        ...saved,
        savedMsPerUsd,
        says: `${(extraUsdPerMonth / savedMs).toFixed(2)} USD a month for each ms saved`,
      }
    })
}

function judgeRoute(name: string, tally: RouteTally, { api_rtt: slo }: Slos): Budget[] {
  if (tally.warmScheduled === 0) return []
  const withinRatio = tally.series.response.countAtMost(slo.thresholdNs) / tally.warmScheduled
  return [
    {
      slo: slo.id,
      thresholdMs: slo.thresholdNs / 1e6,
      objectiveRatio: slo.objective,
      withinRatio: Math.round(withinRatio * 1e6) / 1e6,
      row: name,
      ok: withinRatio >= slo.objective,
    },
  ]
}
