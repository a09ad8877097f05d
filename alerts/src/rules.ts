/**
 * The SLOs of `contract` as Prometheus rules: what is recorded, what pages, what becomes a ticket.
 *
 * Latency is judged by counting, never by a quantile: events slower than the budget are the histogram's count minus its
 * bucket at exactly the budget, so a page says "9 of 12 orders" and means it. Counts over a window are differences of
 * counters (`increaseOf`), exact integers where `increase()` would extrapolate.
 *
 * Three groups: `tickscope-budgets` (each second: the page of each SLO, the standard way beside the collector's fast
 * one, with the same name and labels so that Alertmanager folds both into one), `tickscope-error-budget` (each minute:
 * multi-window burn rates) and `tickscope-health` (each 5 s: whether the numbers above can be believed).
 */
import {
  ALERT_IDENTITY_LABELS,
  ALERT_NAMES,
  BURN_RATE_WINDOWS,
  type BurnRateWindow,
  type LatencySlo,
  leOf,
  type MetricName,
  PAGING,
  type Slos,
  UserError,
  type UtilizationSlo,
} from '@tickscope/contract'
import { stringify } from 'yaml'

/** The scrape job of the collector, in `prometheus.ts` and in rules that watch the scrape itself. */
export const COLLECTOR_JOB = 'tickscope-collector'

/** Alerts beside the pages of `ALERT_NAMES`, all named here so that a runbook can be asked of each. */
export const BURN_ALERT_NAMES = {
  api_rtt: { page: 'TickscopeApiRttBudgetBurn', ticket: 'TickscopeApiRttBudgetBurnSlow' },
  processing: { page: 'TickscopeProcessingBudgetBurn', ticket: 'TickscopeProcessingBudgetBurnSlow' },
} as const

export const HEALTH_ALERT_NAMES = {
  collectorDown: 'TickscopeCollectorDown',
  agentSilent: 'TickscopeAgentSilent',
  agentDropping: 'TickscopeAgentDropping',
  probeDown: 'TickscopeProbeDown',
  fastPathFailing: 'TickscopeFastPathFailing',
} as const

/** Fewest slow events in the long window of a burn-rate alert: a handful in a quiet hour is no trend. */
const BURN_MINIMUM_BAD = 10

/**
 * Share of the long window that must have been observed. A system that started a minute ago has no burn rate over an
 * hour, and one incident in that minute has its own page already.
 */
const BURN_OBSERVED_RATIO = 0.5

/** How long an agent may send nothing, and how many scrapes must have seen that, before it counts as silent. */
const SILENT_SECONDS = 15
const SILENT_SCRAPES = 10

/** How long the collector may fail its scrapes. */
const COLLECTOR_DOWN_SECONDS = 15

/** How long every request of a probe must fail, and how many scrapes must have seen that. */
const PROBE_DOWN_SECONDS = 30
const PROBE_DOWN_SCRAPES = 20

export interface RuleOptions {
  /** Prefix of `runbook_url`, without a slash at its end. A page on a phone wants a URL here. */
  readonly runbookBase?: string
  /** Prefix of the dashboard link, up to and without its query string. */
  readonly dashboardUrl?: string
}

export const DEFAULT_RULE_OPTIONS = {
  runbookBase: 'alerts/runbooks',
  dashboardUrl: 'http://127.0.0.1:3000/d/tickscope-overview',
} as const satisfies Required<RuleOptions>

export interface RecordingRule {
  readonly record: string
  readonly expr: string
}

export interface AlertRule {
  readonly alert: string
  readonly expr: string
  readonly for: string
  readonly labels: { readonly [label: string]: string }
  readonly annotations: { readonly [annotation: string]: string }
}

export interface RuleGroup {
  readonly name: string
  readonly interval: string
  readonly rules: readonly (RecordingRule | AlertRule)[]
}

/** The labels an alert keeps; `service_venue` is the level in the names of recorded series. */
const BY = ALERT_IDENTITY_LABELS.join(', ')
const LEVEL = ALERT_IDENTITY_LABELS.join('_')

/** Names the metric, and fails to compile when the catalogue has no such name. */
function metric(name: MetricName, part: '' | '_count' | '_bucket' = '', matchers: readonly string[] = []): string {
  return `${name}${part}${matchers.length > 0 ? `{${matchers.join(', ')}}` : ''}`
}

/**
 * By how much a sum of counters grew over the last `windowSeconds`, as an exact integer.
 *
 * `increase()` would not do: it extrapolates to the window's edges (2 events read as 2.2) and leaves out the first value
 * of a series, which here is where an incident shows first (the series of timeouts is born with the first timeouts). So
 * the sums now and a window ago are subtracted, and where there was no series a window ago
 * - a scrape that worked then proves that the count was 0: all of it is new;
 * - without such a scrape (Prometheus has just started) nothing is known, and counting starts at the first value seen.
 *
 * A missed scrape changes nothing, because both ends look back for the last value. `lookback` is how long an outage of
 * the collector may last for the events it delivers afterwards to count. While a counter that restarted from 0 is
 * compared with its former self there is no result: a wrong number would be worse.
 */
function increaseOf(counter: string, by: string, windowSeconds: number, lookback: string): string {
  const window = windowSeconds % 60 === 0 ? `${windowSeconds / 60}m` : `${windowSeconds}s`
  const now = `sum by (${by}) (last_over_time(${counter}[${window}]))`
  const scraped = `last_over_time(up{job="${COLLECTOR_JOB}"}[${lookback}] offset ${window}) == 1`
  return [
    `${now} - (`,
    `  sum by (${by}) (last_over_time(${counter}[${lookback}] offset ${window}))`,
    `  or (0 * ${now} and on () (${scraped}))`,
    `  or sum by (${by}) (min_over_time(${counter}[${window}]))`,
    ') >= 0',
  ].join('\n')
}

/** A float without the dust of binary arithmetic: 14.4 * (1 - 0.99) is 0.144. */
function tidy(value: number): string {
  return `${Number(value.toPrecision(12))}`
}

function thresholdText(slo: LatencySlo): string {
  return `${tidy(slo.thresholdNs / 1e6)} ms`
}

/** A PromQL query inside an annotation, on the labels of the alert; `body` shows its first result. */
function withQuery(promql: string, body: string): string {
  const selector = ALERT_IDENTITY_LABELS.map((label) => `${label}=%q`).join(',')
  const labels = ALERT_IDENTITY_LABELS.map((label) => `$labels.${label}`).join(' ')
  const args = promql.split('{SELECTOR}').length - 1
  const format = promql.replaceAll('{SELECTOR}', selector)
  return `{{ with printf \`${format}\` ${Array(args).fill(labels).join(' ')} | query }}{{ with first . }}${body}{{ end }}{{ end }}`
}

/** A count as people write it; a float's own form would be 1.2e+06. */
const COUNT = 'value . | printf "%.0f"'

/** Whose alert it is, for people: `bot → kalshi`. */
const WHOSE = '{{ $labels.service }}{{ with $labels.venue }} → {{ . }}{{ end }}'

interface Where {
  readonly runbookBase: string
  readonly dashboardUrl: string
}

function annotations(where: Where, alert: string, summary: string, description: string) {
  const variables = ALERT_IDENTITY_LABELS.map(
    (label) => `{{ with $labels.${label} }}&var-${label}={{ . | urlquery }}{{ end }}`,
  )
  return {
    summary,
    description,
    path: 'prometheus',
    runbook_url: `${where.runbookBase}/${alert}.md`,
    dashboard: `${where.dashboardUrl}?from=now-15m${variables.join('')}`,
  }
}

/** Names of the series recorded for a latency SLO. */
function recordedNames(slo: LatencySlo) {
  const prefix = `${LEVEL}:tickscope_${slo.id}`
  return {
    events: (window: string) => `${prefix}_events:delta${window}`,
    slow: (window: string) => `${prefix}_slow_events:delta${window}`,
    ratio: (window: string) => `${prefix}_slow:ratio${window}`,
  }
}

/** All events, the slow ones, and their share, over one window. */
function countingRules(slo: LatencySlo, windowSeconds: number, window: string, lookback: string): RecordingRule[] {
  const names = recordedNames(slo)
  const total = increaseOf(metric(slo.metric, '_count'), BY, windowSeconds, lookback)
  const within = increaseOf(
    metric(slo.metric, '_bucket', [`le="${leOf(slo.thresholdNs)}"`]),
    BY,
    windowSeconds,
    lookback,
  )
  return [
    { record: names.events(window), expr: total },
    { record: names.slow(window), expr: `${names.events(window)}\n- (\n${indent(within)}\n)` },
  ]
}

function indent(text: string): string {
  return text.replaceAll(/^/gm, '  ')
}

function latencyPage(slo: LatencySlo, where: Where): (RecordingRule | AlertRule)[] {
  const names = recordedNames(slo)
  const window = `${PAGING.ruleWindowSeconds}s`
  const alert = ALERT_NAMES[slo.id]
  const causes = `last_over_time(tickscope_breaches_total{slo="${slo.id}",{SELECTOR}}[${window}])`
  const causesBefore = `last_over_time(tickscope_breaches_total{slo="${slo.id}",{SELECTOR}}[1m] offset ${window})`
  return [
    ...countingRules(slo, PAGING.ruleWindowSeconds, window, '1m'),
    { record: names.ratio(window), expr: `${names.slow(window)} / (${names.events(window)} > 0)` },
    {
      alert,
      expr: `${names.ratio(window)} >= ${PAGING.ruleBadRatio}\nand ${names.slow(window)} >= ${PAGING.minimumBad}`,
      for: '0s',
      labels: { slo: slo.id, severity: 'page' },
      annotations: annotations(
        where,
        alert,
        `${slo.title} over ${thresholdText(slo)}: {{ $value | humanizePercentage }} of the last ${window} (${WHOSE})`,
        [
          withQuery(`${names.slow(window)}{{SELECTOR}}`, `{{ ${COUNT} }}`),
          withQuery(`${names.events(window)}{{SELECTOR}}`, ` of {{ ${COUNT} }}`),
          ` events of the last ${window} took longer than ${thresholdText(slo)}.`,
          withQuery(
            `topk(1, sum by (cause) (${causes}) - (sum by (cause) (${causesBefore}) or 0 * sum by (cause) (${causes})) > 0)`,
            ' Cause named most: {{ label "cause" . }}.',
          ),
        ].join(''),
      ),
    },
  ]
}

/**
 * One resource of one process above its budget in every sample of the window; several resources that take turns are
 * not. A silent agent's last gauges say nothing about now: they are left to the alert on silence.
 */
function utilizationPage(slo: UtilizationSlo, where: Where): AlertRule {
  const alert = ALERT_NAMES.utilization
  const window = `${PAGING.utilizationForSeconds}s`
  const alive = `changes(${metric('tickscope_agent_last_batch_timestamp_seconds')}[${SILENT_SECONDS}s]) > 0`
  const budget = tidy(slo.thresholdRatio)
  return {
    alert,
    expr: [
      `max by (${BY}) (`,
      `  min_over_time(${metric(slo.metric)}[${window}]) > ${budget}`,
      `  and last_over_time(${metric(slo.metric)}[1m] offset ${window}) > ${budget}`,
      `  and on (service, instance) ${alive}`,
      ')',
    ].join('\n'),
    for: '0s',
    labels: { slo: slo.id, severity: 'page' },
    annotations: annotations(
      where,
      alert,
      `${slo.title} over ${tidy(slo.thresholdRatio * 100)}%: {{ $value | humanizePercentage }} or more for ${window} (${WHOSE})`,
      [
        withQuery(
          `topk(1, min_over_time(${slo.metric}{{SELECTOR}}[${window}]))`,
          '{{ label "resource" . }} of {{ label "instance" . }} stood at {{ value . | humanizePercentage }} or more',
        ),
        ` for ${window}; the budget is ${tidy(slo.thresholdRatio * 100)}%.`,
      ].join(''),
    ),
  }
}

/** Minutes in `30m`, `6h`, `3d`: the units `BURN_RATE_WINDOWS` uses. */
function minutesOf(window: string): number {
  const match = /^(\d+)([mhd])$/.exec(window)
  if (match === null) throw new Error(`burn-rate window '${window}' is not minutes, hours or days`)
  return Number(match[1]) * { m: 1, h: 60, d: 1440 }[match[2] as 'm' | 'h' | 'd']
}

/**
 * Sums of the minutes' counts, so that a window of three days reads 4320 samples instead of 259,200 scrapes, and each
 * event weighs the same whenever it happened (an average of ratios would let quiet minutes outvote busy ones).
 */
function burnRules(slo: LatencySlo, where: Where): (RecordingRule | AlertRule)[] {
  const names = recordedNames(slo)
  const windows = [...new Set(BURN_RATE_WINDOWS.flatMap((row) => [row.long, row.short]))]
  const limitOf = (row: BurnRateWindow) => row.factor * (1 - slo.objective)
  for (const row of BURN_RATE_WINDOWS) {
    if (Number(tidy(limitOf(row))) >= 1)
      throw new UserError(
        'OBJECTIVE_TOO_LOOSE',
        `objective ${slo.objective} of slos.${slo.id} is too loose for the burn-rate alert over ${row.long}: ${row.factor} times its budget would be ${tidy(limitOf(row) * 100)}% of all events, which can never fire; use an objective above ${tidy(Math.ceil((1 - 1 / row.factor) * 1e4) / 1e4)}`,
      )
  }
  const condition = (row: BurnRateWindow) => {
    const observed = Math.ceil(minutesOf(row.long) * BURN_OBSERVED_RATIO)
    return [
      `${names.ratio(row.long)} > ${tidy(limitOf(row))}`,
      `and ${names.ratio(row.short)} > ${tidy(limitOf(row))}`,
      `and sum_over_time(${names.slow('1m')}[${row.long}]) >= ${BURN_MINIMUM_BAD}`,
      `and count_over_time(${names.slow('1m')}[${row.long}]) >= ${observed}`,
    ].join('\n')
  }
  const alertOf = (severity: 'page' | 'ticket'): AlertRule => {
    const rows = BURN_RATE_WINDOWS.filter((row) => row.severity === severity)
    const alert = BURN_ALERT_NAMES[slo.id][severity]
    const budget = `${tidy((1 - slo.objective) * 100)}%`
    return {
      alert,
      expr: rows.map((row) => `(\n${indent(condition(row))}\n)`).join('\nor\n'),
      for: '0s',
      labels: { slo: slo.id, severity },
      annotations: annotations(
        where,
        alert,
        `${slo.title}: error budget burns too fast, {{ $value | humanizePercentage }} over ${thresholdText(slo)} (${WHOSE})`,
        `At most ${budget} of the events of 30 days may take longer than ${thresholdText(slo)}. Fires at ${rows
          .map((row) => `${tidy(limitOf(row) * 100)}% over ${row.long} and ${row.short} (${row.factor} times that)`)
          .join(', or ')}.`,
      ),
    }
  }
  return [
    ...countingRules(slo, 60, '1m', '5m'),
    ...windows.map((window) => ({
      record: names.ratio(window),
      expr: `sum_over_time(${names.slow('1m')}[${window}])\n/ (sum_over_time(${names.events('1m')}[${window}]) > 0)`,
    })),
    alertOf('page'),
    alertOf('ticket'),
  ]
}

/** Whether the numbers can be believed: a budget that is never measured is never broken. */
function healthRules(where: Where): AlertRule[] {
  const { collectorDown, agentSilent, agentDropping, probeDown, fastPathFailing } = HEALTH_ALERT_NAMES
  const up = `up{job="${COLLECTOR_JOB}"}`
  const lastBatch = metric('tickscope_agent_last_batch_timestamp_seconds')
  const probeUp = metric('tickscope_probe_up')
  const failedPosts = metric('tickscope_collector_alert_posts_total', '', ['outcome="failed"'])
  return [
    {
      alert: collectorDown,
      expr: `${up} == 0 or absent(${up})`,
      for: `${COLLECTOR_DOWN_SECONDS}s`,
      labels: { severity: 'page' },
      annotations: annotations(
        where,
        collectorDown,
        `The collector has not answered Prometheus for ${COLLECTOR_DOWN_SECONDS} s`,
        'Nothing judges a budget while it is down, on either path. Agents keep what they measure and deliver it when it is back.',
      ),
    },
    {
      // By change, not by age: an age would compare the bot's clock with Prometheus's.
      alert: agentSilent,
      expr: [
        `changes(${lastBatch}[${SILENT_SECONDS}s]) == 0`,
        `and count_over_time(${lastBatch}[${SILENT_SECONDS}s]) >= ${SILENT_SCRAPES}`,
      ].join('\n'),
      for: '0s',
      labels: { severity: 'page' },
      annotations: annotations(
        where,
        agentSilent,
        `Nothing heard from {{ $labels.service }} {{ $labels.instance }} for ${SILENT_SECONDS} s`,
        'The collector is up and this agent sends it nothing: the process ended, hangs, or cannot reach the collector. Its budgets are not being watched.',
      ),
    },
    {
      alert: agentDropping,
      expr: `${increaseOf(metric('tickscope_agent_dropped_total'), `${BY}, reason`, 60, '5m')} > 0`,
      for: '0s',
      labels: { severity: 'ticket' },
      annotations: annotations(
        where,
        agentDropping,
        `{{ $labels.service }} dropped {{ $value | printf "%.0f" }} measurements in a minute ({{ $labels.reason }})`,
        'The agent drops rather than slow the bot down; what it dropped is missing from every figure of this minute.',
      ),
    },
    {
      alert: probeDown,
      expr: [
        `max by (${BY}, instance, probe) (`,
        `  max_over_time(${probeUp}[${PROBE_DOWN_SECONDS}s]) == 0`,
        `  and count_over_time(${probeUp}[${PROBE_DOWN_SECONDS}s]) >= ${PROBE_DOWN_SCRAPES}`,
        ')',
      ].join('\n'),
      for: '0s',
      labels: { severity: 'page' },
      annotations: annotations(
        where,
        probeDown,
        `Probe {{ $labels.probe }} has had no answer for ${PROBE_DOWN_SECONDS} s (${WHOSE})`,
        'Every request of the probe failed or timed out: the venue is down, in maintenance, or cannot be reached from here.',
      ),
    },
    {
      alert: fastPathFailing,
      expr: `${increaseOf(failedPosts, '', 60, '5m')} > 0`,
      for: '0s',
      labels: { severity: 'ticket' },
      annotations: annotations(
        where,
        fastPathFailing,
        'The collector could not deliver {{ $value | printf "%.0f" }} alerts in a minute',
        'The fast path to a page is broken. Pages still come through Prometheus, some seconds later.',
      ),
    },
  ]
}

/**
 * The rules in force for these SLOs.
 *
 * @throws UserError `OBJECTIVE_TOO_LOOSE` when a burn-rate alert could never fire
 */
export function ruleGroups(slos: Slos, options: RuleOptions = {}): readonly RuleGroup[] {
  const where = { ...DEFAULT_RULE_OPTIONS, ...options }
  const latency = [slos.api_rtt, slos.processing]
  return [
    {
      name: 'tickscope-budgets',
      interval: '1s',
      rules: [...latency.flatMap((slo) => latencyPage(slo, where)), utilizationPage(slos.utilization, where)],
    },
    {
      name: 'tickscope-error-budget',
      interval: '1m',
      rules: latency.flatMap((slo) => burnRules(slo, where)),
    },
    { name: 'tickscope-health', interval: '5s', rules: healthRules(where) },
  ]
}

/** The rules as the text of a Prometheus rule file. */
export function renderRules(slos: Slos, options: RuleOptions = {}): string {
  const head = `# Generated by alerts/src/main.ts from the SLOs of contract/src/slo.ts. Do not edit: run "npm run gen".\n`
  return head + stringify({ groups: ruleGroups(slos, options) }, { lineWidth: 0 })
}
