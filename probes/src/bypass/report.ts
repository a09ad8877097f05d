/** The ladder in the collector: round trips as they are measured, gains once a run has made an interval. */
import { BYPASS_PATHS } from '@tickscope/contract'
import { replayNative } from '../native.ts'
import { createReportAgent, type ReportTo, stopReportAgent } from '../service.ts'
import type { LadderGain, LadderLine } from './ladder.ts'

export interface BypassReporter {
  /** Reports the measured service times of a round. */
  round(lines: readonly LadderLine[]): Promise<void>
  /** Reports each gain over the blocking socket that is claimed, and `NO_GAIN` for what was compared and is not. */
  gains(gains: readonly LadderGain[]): void
  /** Ships what is left. @returns whether the collector has everything */
  stop(): Promise<boolean>
}

export interface BypassReporterOptions extends ReportTo {
  /** The payload that is reported, since the series have no label for it, bytes. */
  readonly payloadBytes: number
}

/** Takes back what an earlier run claimed. Never a claimed ratio, since the interval of such a one excludes it. */
const NO_GAIN = 1

/** @throws UserError `AGENT_OPTION`, `AGENT_START` */
export async function createBypassReporter({ payloadBytes, ...to }: BypassReporterOptions): Promise<BypassReporter> {
  const agent = await createReportAgent(to)
  const known = (path: string) => (BYPASS_PATHS as readonly string[]).includes(path)
  return {
    async round(lines) {
      for (const { path, status, payloadBytes: bytes, service } of lines) {
        if (status !== 'measured' || bytes !== payloadBytes || !service || !known(path)) continue
        const series = agent.series('tickscope_bypass_rtt_seconds', { path })
        await replayNative(service, (ns) => agent.record(series, ns))
      }
    },
    gains(gains) {
      for (const { from, to, payloadBytes: bytes, quantile, ratio, claimed } of gains) {
        if (bytes !== payloadBytes || !known(to) || !from.endsWith('_blocking')) continue
        agent.set(
          agent.series('tickscope_bypass_gain_ratio', { path: to, quantile: `${quantile}` }),
          claimed ? ratio : NO_GAIN,
        )
      }
    },
    stop: () => stopReportAgent(agent),
  }
}
