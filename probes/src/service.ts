/**
 * A probe as a service: the flags that make it one, its schedule, and the collector it reports to.
 *
 * A run starts each `--every`, counted from the start of the one before; one that takes longer is followed at once. Until
 * one was possible a run that is not ends the service: its flags are wrong. Later ones are tried again at their time.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { type Agent, createAgent } from '@tickscope/agent'
import { announce, loadSlos, type Slos, UserError } from '@tickscope/contract'
import type { Command } from 'commander'
import { durationFlag, readFlagFile } from './flag.ts'

const EVERY_MAX_MS = 24 * 3_600_000
const STOP_TIMEOUT_MS = 3_000

/** Flags of whatever reports. */
export interface ReportFlags {
  readonly collector?: string
  readonly tokenFile?: string
  readonly config?: string
  readonly service: string
  readonly instance?: string
}

export interface ServiceOptions extends ReportFlags {
  readonly serve: boolean
  /** ms */
  readonly every: number
}

/** What a process was given beside its flags. */
export interface ProbeEnvironment {
  /** Configuration file when `--config` is left out. */
  readonly config?: string | undefined
  /** File with the collector's token when `--token-file` is left out. */
  readonly tokenFile?: string | undefined
}

export function addReportFlags(command: Command): Command {
  return command
    .option('--collector <url>', 'report to this collector')
    .option('--token-file <file>', "file with the collector's token")
    .option('--config <file>', 'JSON file that overrides the SLOs')
    .option('--service <name>', 'service label of what is reported', 'probe')
    .option('--instance <name>', "instance label (default: the host's name)")
}

/** @param run what is run each `--every`, in words */
export function addServiceFlags(command: Command, run: string, everyDefaultMs: number): Command {
  command
    .option('--serve', `run until stopped: ${run} each --every, print no table`, false)
    .option(
      '--every <duration>',
      'time between the starts of two runs',
      durationFlag('--every', EVERY_MAX_MS),
      everyDefaultMs,
    )
  return addReportFlags(command)
}

/** What a reporter is made of. */
export interface ReportTo {
  readonly collectorUrl: string
  readonly token: string | undefined
  readonly service: string
  readonly instance: string | undefined
  readonly slos: Slos
}

/** @returns undefined without `--collector` @throws UserError when a file of the flags cannot be read */
export function reportTo(options: ReportFlags, environment: ProbeEnvironment): ReportTo | undefined {
  const { collector, service, instance } = options
  if (collector === undefined) return undefined
  const tokenFile = options.tokenFile ?? environment.tokenFile
  return {
    collectorUrl: collector,
    token: tokenFile === undefined ? undefined : readFlagFile('--token-file', tokenFile).trim(),
    service,
    instance,
    slos: loadSlos(options.config ?? environment.config),
  }
}

/**
 * An agent without its event-loop beat: that would wake the probe's thread a thousand times a second, and `slip` says more.
 *
 * @throws UserError `AGENT_OPTION`, `AGENT_START`
 */
export function createReportAgent(to: ReportTo): Promise<Agent> {
  return createAgent({ ...to, traces: false, loopSampleMs: 0 })
}

/** Ships what is left. @returns whether the collector has everything */
export async function stopReportAgent(agent: Agent): Promise<boolean> {
  return (await agent.stop({ timeoutMs: STOP_TIMEOUT_MS })).acknowledged
}

/** Says so when the collector does not have everything. */
export function noteUnacknowledged(
  acknowledged: boolean,
  collector: string | undefined,
  note: (line: string) => void,
): void {
  if (!acknowledged) note(`the collector at ${collector} did not acknowledge the last batch`)
}

/** @throws UserError `FLAG_CONFLICT` when a service is asked for a result, or for an exit code that says something */
export function checkServeFlags({
  serve,
  json,
  budget,
}: {
  readonly serve: boolean
  readonly json: boolean
  readonly budget?: unknown
}): void {
  if (!serve) return
  if (json) throw new UserError('FLAG_CONFLICT', '--serve prints no result: leave out --json')
  if (Array.isArray(budget) ? budget.length > 0 : budget !== undefined)
    throw new UserError('FLAG_CONFLICT', '--serve ends when it is stopped, whatever the budgets: leave out --budget')
}

/** @param atMs on the clock of `performance.now`; past is at once @param signal ends it early */
export async function sleepUntil(atMs: number, signal: AbortSignal): Promise<void> {
  await delay(Math.max(0, atMs - performance.now()), undefined, { signal }).catch(() => {})
}

export interface ServeOptions {
  readonly everyMs: number
  readonly signal: AbortSignal
  readonly note: (line: string) => void
  /** What the summary says beside the number of runs that ended, and of those among them that failed. */
  readonly said?: () => { readonly [name: string]: number }
}

/**
 * Runs `once` on its schedule until the signal, with the ready and summary lines of `announce` for the parent.
 *
 * @throws UserError of a run before which none was possible
 */
export async function serveEvery(
  probe: string,
  { everyMs, signal, note, said = () => ({}) }: ServeOptions,
  once: () => Promise<unknown>,
): Promise<void> {
  announce({ event: 'ready', probe })
  let runs = 0
  let failed = 0
  while (!signal.aborted) {
    const startedAtMs = performance.now()
    try {
      await once()
    } catch (error) {
      if (!(error instanceof UserError) || runs === failed) throw error
      failed++
      note(`a run failed: ${error.message}`)
    }
    if (signal.aborted) break
    runs++
    await sleepUntil(startedAtMs + everyMs, signal)
  }
  announce({ event: 'summary', runs, failed, ...said() })
}
