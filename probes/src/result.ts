/**
 * What a probe says at its end: one object for scripts (the last line of stdout with `--json`) and a table for people
 * made from it. Durations are ns unless the name says otherwise, instants epoch ms.
 *
 * The top level describes every request of the run; `rows` splits it into the populations that were sent the same way,
 * and each row repeats its boundary, clock, modes and losses, so that no figure travels without them.
 */
import { styleText } from 'node:util'
import {
  formatNs,
  type LatencyHistogram,
  type LatencySlo,
  type LatencySummary,
  type SloId,
  summarize,
} from '@tickscope/contract'
import { CLOCK } from './clock.ts'
import type { ControlReport } from './controls.ts'
import { type Environment, environmentText } from './environment.ts'
import type { Outcome, Tally } from './tally.ts'

/** Where a time begins and ends, which decides what it can be compared with. */
export type Boundary =
  /** this process's call to this process's reading: one clock */
  | 'user→user'
  /** the venue's timestamp to this process's reading: two clocks, so never without a bound on their offset */
  | 'venue→user'

/** What was asked for, and what is known to have happened. */
export interface Mode {
  readonly name: string
  readonly requestedMode: string
  readonly effectiveMode: string
  /** `inactive`: the figures are of the effective mode, not of the one requested. */
  readonly status: 'measured' | 'inactive' | 'unsupported' | 'skipped'
  readonly reason?: string
  /** `user→user` when left out. */
  readonly boundary?: Boundary
  /** The probe's own when left out. */
  readonly clock?: string
  /** Each figure may be off by this much to either side, ns: the bound on the offset of two clocks. */
  readonly uncertaintyNs?: number
}

export interface Figures {
  readonly boundary: Boundary
  readonly clock: string
  /** Requests whose time to leave came: sent + dropped. */
  readonly scheduled: number
  readonly sent: number
  /** Sent and not answered well: errors and timeouts. In no histogram. */
  readonly lost: number
  readonly dropped: number
  /** Connections opened by these requests. */
  readonly opened: number
  readonly outcomes: { readonly [outcome in Outcome]: number }
  readonly reasons: { readonly [reason: string]: number }
  /** From the intended send to the last byte of the answer. */
  readonly response: LatencySummary
  /** From the actual send to the last byte of the answer: what a closed loop would have measured. */
  readonly service: LatencySummary
  /** How late the probe itself sent. */
  readonly slip: LatencySummary
  readonly phases: { readonly [phase: string]: LatencySummary }
}

export interface Budget {
  readonly slo: SloId
  readonly thresholdMs: number
  /** Share of requests that must be within the threshold. */
  readonly objectiveRatio: number
  /** Share of scheduled requests that were: lost and dropped ones were not. */
  readonly withinRatio: number
  /** The row judged. */
  readonly row: string
  readonly ok: boolean
}

/** What a probe measured; the frame adds the surroundings and makes it a `ProbeResult`. */
export interface Measurement {
  readonly target: string
  /** How it was measured: rate, arrivals, warm-up, … */
  readonly settings: { readonly [setting: string]: unknown }
  readonly all: Tally
  /** How late every send was, answered or not: whether the probe itself disturbed the run. */
  readonly slip: LatencyHistogram
  readonly rows: readonly { readonly mode: Mode; readonly tally: Tally }[]
  /** Name of the row a bot's own requests compare with; its budgets are judged, and a service reports it. */
  readonly headline: string
  readonly budgets: readonly Budget[]
  /** What must hold beside the budgets; one that does not ends the run with the same exit code. */
  readonly checks?: readonly Check[]
  /** What only this probe has to say, for scripts. */
  readonly details?: { readonly [name: string]: unknown }
  /** The same for people, one line each. */
  readonly findings?: readonly string[]
}

export interface Check {
  readonly name: string
  readonly ok: boolean
  /** What was found, one clause. */
  readonly text: string
}

export interface ProbeResult extends Figures {
  readonly probe: string
  readonly target: string
  readonly startedAtMs: number
  readonly durationMs: number
  readonly settings: { readonly [setting: string]: unknown }
  readonly rows: readonly (Mode & Figures)[]
  readonly budgets: readonly Budget[]
  readonly checks: readonly Check[]
  readonly details: { readonly [name: string]: unknown }
  readonly findings: readonly string[]
  readonly environment: Environment
  readonly controls: ControlReport
  /** Whether the control samples say that these figures are not the target's alone; why is in `controls`. */
  readonly contaminated: boolean
}

/**
 * Judges a latency budget as a page would: the share of requests within the threshold against the objective. With an
 * objective of 0.99 and nothing lost this is "p99 within the threshold".
 *
 * @returns nothing when no request was due: no data is no verdict
 */
export function judgeBudget(slo: LatencySlo, row: string, tally: Tally): Budget[] {
  if (tally.scheduled === 0) return []
  const withinRatio = tally.response.countAtMost(slo.thresholdNs) / tally.scheduled
  return [
    {
      slo: slo.id,
      thresholdMs: slo.thresholdNs / 1e6,
      objectiveRatio: slo.objective,
      withinRatio: Math.round(withinRatio * 1e6) / 1e6,
      row,
      ok: withinRatio >= slo.objective,
    },
  ]
}

export function figuresOf(tally: Tally, { boundary = 'user→user', clock = CLOCK }: Partial<Mode> = {}): Figures {
  return {
    boundary,
    clock,
    scheduled: tally.scheduled,
    sent: tally.sent,
    lost: tally.lost,
    dropped: tally.outcomes.dropped,
    opened: tally.opened,
    outcomes: { ...tally.outcomes },
    reasons: Object.fromEntries(tally.reasons),
    response: summarize(tally.response),
    service: summarize(tally.service),
    slip: summarize(tally.slip),
    phases: Object.fromEntries([...tally.phases].map(([phase, histogram]) => [phase, summarize(histogram)])),
  }
}

export function toResult(
  probe: string,
  measurement: Measurement,
  surroundings: Pick<ProbeResult, 'startedAtMs' | 'durationMs' | 'environment' | 'controls'>,
): ProbeResult {
  const { target, settings, all, rows, headline, budgets, checks = [], details = {}, findings = [] } = measurement
  const { startedAtMs, durationMs, environment, controls } = surroundings
  return {
    probe,
    target,
    startedAtMs,
    durationMs,
    settings,
    ...figuresOf(all, rows.find(({ mode }) => mode.name === headline)?.mode),
    rows: rows.map(({ mode, tally }) => ({ ...mode, ...figuresOf(tally, mode) })),
    budgets,
    checks,
    details,
    findings,
    contaminated: controls.contaminatedBy.length > 0,
    controls,
    environment,
  }
}

const QUANTILES = [
  { name: 'p50', of: (h: LatencySummary) => h.p50Ns, beyond: 0.5 },
  { name: 'p90', of: (h: LatencySummary) => h.p90Ns, beyond: 0.1 },
  { name: 'p99', of: (h: LatencySummary) => h.p99Ns, beyond: 0.01 },
  { name: 'p99.9', of: (h: LatencySummary) => h.p999Ns, beyond: 0.001 },
  { name: 'max', of: (h: LatencySummary) => h.maxNs, beyond: Number.POSITIVE_INFINITY },
] as const
/** A percentile with fewer samples beyond it is marked: it is one or two unlucky requests, not a property. */
const BEYOND_MIN = 10
const UNSURE = '~'

/** The table; coloured when `stream` is a terminal and NO_COLOR is unset. */
export function resultText(result: ProbeResult, stream: NodeJS.WriteStream): string {
  const style = (format: Parameters<typeof styleText>[0], text: string) => styleText(format, text, { stream })
  const settings = Object.entries(result.settings).map(([name, value]) => `${name} ${value}`)
  const lines = [
    `${style('bold', `${result.probe} ${result.target}`)}`,
    `${(result.durationMs / 1000).toFixed(1)} s, ${settings.join(', ')}`,
    `boundary ${result.boundary}, clock ${result.clock}`,
    '',
    style('dim', `${''.padEnd(18)}${'count'.padStart(8)}${QUANTILES.map(({ name }) => name.padStart(11)).join('')}`),
  ]
  let unsure = false
  const line = (name: string, h: LatencySummary) => {
    const cells = QUANTILES.map(({ of, beyond }) => {
      if (h.count === 0) return '-'.padStart(11)
      const few = h.count * beyond < BEYOND_MIN
      unsure ||= few
      return `${few ? UNSURE : ''}${formatNs(of(h))}`.padStart(11)
    })
    return `${name.padEnd(18)}${String(h.count).padStart(8)}${cells.join('')}`
  }
  for (const row of result.rows) {
    const notes = [
      `${row.sent} sent`,
      `${row.lost} lost`,
      `${row.dropped} dropped`,
      ...(row.opened > 0 ? [`${row.opened} connections opened`] : []),
      ...(row.reason === undefined ? [] : [row.reason]),
    ]
    lines.push(
      `${style('bold', row.name)}${row.status === 'measured' ? '' : ` ${style('yellow', row.status)}`}  ${notes.join(', ')}`,
    )
    if (row.boundary !== result.boundary || row.clock !== result.clock)
      lines.push(`  boundary ${row.boundary}, clock ${row.clock}`)
    if (row.uncertaintyNs !== undefined) lines.push(`  each figure ± ${formatNs(row.uncertaintyNs)}`)
    for (const [name, h] of [
      ['  response', row.response],
      ['  service', row.service],
      ...Object.entries(row.phases).map(([phase, h]) => [`    ${phase}`, h] as const),
      ['  slip', row.slip],
    ] as const)
      if (h.count > 0) lines.push(line(name, h))
    for (const [reason, times] of Object.entries(row.reasons)) lines.push(style('red', `  ${reason} ${times}`))
  }
  lines.push('')
  if (unsure)
    lines.push(`${UNSURE} fewer than ${BEYOND_MIN} samples beyond it: take it as an example, not as a percentile`)
  if (result.lost > 0) lines.push('lost requests are in no percentile; they count against the budgets')
  for (const { slo, thresholdMs, objectiveRatio, withinRatio, row, ok } of result.budgets) {
    const verdict = ok ? style('green', 'kept') : style('red', 'BROKEN')
    const share = (ratio: number) => `${+(ratio * 100).toFixed(2)} %`
    lines.push(
      `budget ${slo} ${verdict}: ${share(withinRatio)} of ${row} requests within ${thresholdMs} ms, ${share(objectiveRatio)} wanted`,
    )
  }
  for (const { name, ok, text } of result.checks)
    lines.push(`check ${name} ${ok ? style('green', 'holds') : style('red', 'FAILED')}: ${text}`)
  lines.push(...result.findings)
  for (const reason of result.controls.contaminatedBy) lines.push(style('yellow', `contaminated: ${reason}`))
  lines.push(style('dim', environmentText(result.environment)))
  return lines.join('\n')
}
