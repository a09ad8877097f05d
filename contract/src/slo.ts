/**
 * The budgets: what is promised, how much of it may be missed, and when somebody is woken.
 *
 * One list feeds every part: the bucket bounds (each latency threshold is one), the agent's breach judgement, the
 * collector's fast detector, the alert rules and the dashboards' thresholds. One JSON file overrides it
 * (`loadConfig`), so that all parts change together.
 */
import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { UserError } from './process.ts'

export const SLO_IDS = ['api_rtt', 'processing', 'utilization'] as const
export type SloId = (typeof SLO_IDS)[number]

/** A latency budget: the share of events slower than `thresholdNs` must stay below `1 - objective`. */
export interface LatencySlo {
  readonly id: 'api_rtt' | 'processing'
  readonly title: string
  /** Metric whose histogram is the indicator. */
  readonly metric: 'tickscope_api_rtt_seconds' | 'tickscope_tick_to_trade_seconds'
  readonly thresholdNs: number
  /** Share of events that must be within the threshold, 0.5 … 0.9999. */
  readonly objective: number
}

/** A resource budget: utilisation above `thresholdRatio` in every interval of the window is a breach. */
export interface UtilizationSlo {
  readonly id: 'utilization'
  readonly title: string
  readonly metric: 'tickscope_utilization_ratio'
  /** 0 … 1 */
  readonly thresholdRatio: number
}

export interface Slos {
  readonly api_rtt: LatencySlo
  readonly processing: LatencySlo
  readonly utilization: UtilizationSlo
}

/** Budgets of the article the project grew from: API RTT 20 ms, processing 5 ms, utilisation 80 %. */
export const DEFAULT_SLOS: Slos = {
  api_rtt: {
    id: 'api_rtt',
    title: 'API round trip',
    metric: 'tickscope_api_rtt_seconds',
    thresholdNs: 20_000_000,
    objective: 0.99,
  },
  processing: {
    id: 'processing',
    title: 'Tick-to-trade processing',
    metric: 'tickscope_tick_to_trade_seconds',
    thresholdNs: 5_000_000,
    objective: 0.99,
  },
  utilization: {
    id: 'utilization',
    title: 'Resource utilisation',
    metric: 'tickscope_utilization_ratio',
    thresholdRatio: 0.8,
  },
}

/**
 * When a breach becomes a page. Both paths ask for a share of slow events and a minimum count, so that one hiccup of a
 * quiet bot wakes nobody. The fast path looks at little history, so it asks for more of it: half of the events, in two
 * one-second intervals, where a single stall of the machine (every event of one moment is slow) shows in one.
 */
export const PAGING = {
  /** Share of events over budget that pages by the rule. */
  ruleBadRatio: 0.2,
  /** Share of events over budget that pages by the fast path. */
  fastBadRatio: 0.5,
  /** Fewest events over budget that page. */
  minimumBad: 3,
  /** History the collector's detector judges, seconds: as many one-second intervals, each with slow events. */
  fastWindowSeconds: 2,
  /** History the Prometheus threshold rule judges, seconds. Ten scrapes. */
  ruleWindowSeconds: 10,
  /**
   * How long after its last breach the fast path keeps an alert firing, seconds. Longer than the rule's window plus a
   * scrape and an evaluation, so that both paths never take turns in firing one incident.
   */
  holdSeconds: 14,
  /** How long utilisation must stay above its budget before it pages, seconds. */
  utilizationForSeconds: 5,
} as const

/** Alert name of each SLO's page, the same on both paths so that Alertmanager folds them into one. */
export const ALERT_NAMES = {
  api_rtt: 'TickscopeApiRttOverBudget',
  processing: 'TickscopeProcessingOverBudget',
  utilization: 'TickscopeUtilizationOverBudget',
} as const satisfies Record<SloId, string>

/** Resource labels that identify an alert, beside `alertname`, `slo` and `severity`. */
export const ALERT_IDENTITY_LABELS = ['service', 'venue'] as const

/** One row of a multi-window, multi-burn-rate alert. */
export interface BurnRateWindow {
  readonly severity: 'page' | 'ticket'
  readonly long: string
  readonly short: string
  /** Multiple of the sustainable rate of budget consumption. */
  readonly factor: number
}

/**
 * Windows of a 30-day budget. Rows 1, 2 and 4: Google SRE workbook, chapter 5, table 5-8; row 3 as added by
 * slok/sloth `internal/alert/windows/google-30d.yaml`.
 */
export const BURN_RATE_WINDOWS: readonly BurnRateWindow[] = [
  { severity: 'page', long: '1h', short: '5m', factor: 14.4 },
  { severity: 'page', long: '6h', short: '30m', factor: 6 },
  { severity: 'ticket', long: '1d', short: '2h', factor: 3 },
  { severity: 'ticket', long: '3d', short: '6h', factor: 1 },
]

const latencyOverride = z.strictObject({
  thresholdMs: z.number().gt(0).lte(60_000).optional(),
  objective: z.number().gte(0.5).lte(0.9999).optional(),
})

const configSchema = z.strictObject({
  slos: z
    .strictObject({
      api_rtt: latencyOverride.optional(),
      processing: latencyOverride.optional(),
      utilization: z.strictObject({ thresholdRatio: z.number().gt(0).lt(1).optional() }).optional(),
    })
    .optional(),
})

/**
 * Reads SLO overrides from JSON text, for example `{"slos":{"api_rtt":{"thresholdMs":15}}}`.
 *
 * @param source where the text came from, for the error message
 * @throws UserError `CONFIG_INVALID` naming the first field that is wrong and its limit
 */
export function parseConfig(text: string, source: string): Slos {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (error) {
    throw new UserError('CONFIG_INVALID', `${source} is not JSON: ${(error as Error).message}`)
  }
  const parsed = configSchema.safeParse(json)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw new UserError('CONFIG_INVALID', `${source}: ${issue?.path.join('.') || 'top level'}: ${issue?.message}`)
  }
  const override = parsed.data.slos ?? {}
  const latency = (slo: LatencySlo): LatencySlo => {
    const given = override[slo.id]
    return {
      ...slo,
      thresholdNs: given?.thresholdMs === undefined ? slo.thresholdNs : Math.round(given.thresholdMs * 1e6),
      objective: given?.objective ?? slo.objective,
    }
  }
  return {
    api_rtt: latency(DEFAULT_SLOS.api_rtt),
    processing: latency(DEFAULT_SLOS.processing),
    utilization: {
      ...DEFAULT_SLOS.utilization,
      thresholdRatio: override.utilization?.thresholdRatio ?? DEFAULT_SLOS.utilization.thresholdRatio,
    },
  }
}

/**
 * The SLOs in force: those of the file at `path`, or the defaults when no path is given. Processes pass their
 * `--config` flag or the environment's `TICKSCOPE_CONFIG`.
 *
 * @throws UserError `CONFIG_INVALID` when the file cannot be read or is wrong
 */
export function loadSlos(path: string | undefined): Slos {
  if (path === undefined || path === '') return DEFAULT_SLOS
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new UserError(
      'CONFIG_INVALID',
      `config file ${path} cannot be read: ${(error as NodeJS.ErrnoException).code}`,
    )
  }
  return parseConfig(text, path)
}
