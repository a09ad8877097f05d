/**
 * A probe's series in the collector, through the same agent and with the same guarantees as a bot's own.
 *
 * The agent's event-loop beat is off: it would wake the probe's thread a thousand times a second, and `slip` says more.
 */
import { createAgent } from '@tickscope/agent'
import { METRICS, type Slos } from '@tickscope/contract'
import type { Outcome } from './tally.ts'

export interface Reporter {
  /** @param phase one of the catalogue's `tickscope_probe_phase_seconds` */
  phase(phase: string, durationNs: number): void
  request(outcome: Outcome): void
  up(isUp: boolean): void
  /** Ships what is left. @returns whether the collector has everything; true without a collector */
  stop(): Promise<boolean>
}

export interface ReporterOptions {
  readonly collectorUrl: string
  readonly token?: string | undefined
  readonly service: string
  readonly instance?: string | undefined
  readonly venue?: string | undefined
  readonly region?: string | undefined
  readonly route?: string | undefined
  readonly slos: Slos
}

const STOP_TIMEOUT_MS = 3_000

export const SILENT_REPORTER: Reporter = {
  phase() {},
  request() {},
  up() {},
  stop: () => Promise.resolve(true),
}

/** @throws UserError `AGENT_OPTION`, `AGENT_START` */
export async function createReporter(probe: string, options: ReporterOptions): Promise<Reporter> {
  const agent = await createAgent({ ...options, traces: false, loopSampleMs: 0 })
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
    async stop() {
      const { acknowledged } = await agent.stop({ timeoutMs: STOP_TIMEOUT_MS })
      return acknowledged
    },
  }
}
