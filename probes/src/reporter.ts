/** A probe's series in the collector, through the same agent and with the same guarantees as a bot's own. */
import { METRICS } from '@tickscope/contract'
import { createReportAgent, type ReportTo, stopReportAgent } from './service.ts'
import type { Outcome } from './tally.ts'

export interface Reporter {
  /** @param phase one of the catalogue's `tickscope_probe_phase_seconds` */
  phase(phase: string, durationNs: number): void
  request(outcome: Outcome): void
  up(isUp: boolean): void
  /** Ships what is left. @returns whether the collector has everything; true without a collector */
  stop(): Promise<boolean>
}

export interface ReporterOptions extends ReportTo {
  readonly venue?: string | undefined
  readonly region?: string | undefined
  readonly route?: string | undefined
}

export const SILENT_REPORTER: Reporter = {
  phase() {},
  request() {},
  up() {},
  stop: () => Promise.resolve(true),
}

/** @throws UserError `AGENT_OPTION`, `AGENT_START` */
export async function createReporter(probe: string, options: ReporterOptions): Promise<Reporter> {
  const agent = await createReportAgent(options)
  const phases = new Map(
    METRICS.tickscope_probe_phase_seconds.labels.phase?.map((phase) => [
      phase,
      agent.series('tickscope_probe_phase_seconds', { probe, phase }),
    ]),
  )
  const outcomes = new Map(
    METRICS.tickscope_probe_requests_total.labels.outcome?.map((outcome) => [
      outcome,
      agent.series('tickscope_probe_requests_total', { probe, outcome }),
    ]),
  )
  const up = agent.series('tickscope_probe_up', { probe })
  return {
    phase: (phase, durationNs) => agent.record(phases.get(phase) ?? 0, durationNs),
    request: (outcome) => agent.count(outcomes.get(outcome) ?? 0),
    up: (isUp) => agent.set(up, isUp ? 1 : 0),
    stop: () => stopReportAgent(agent),
  }
}
