/**
 * The frame around every probe that times requests: its command with the common flags, the surroundings of a run (environment, control
 * samples, agent), its output and its exit code.
 *
 * A single run prints a table, or with `--json` one object as the last line of stdout, and ends with code 1 when a
 * budget is broken, 3 when the target cannot be reached. With `--serve` a probe runs until it is stopped, keeps trying
 * whatever the target does, and writes the ready and summary lines of `announce` for its parent.
 */
import { announce, EXIT, loadSlos, stopSignal, summarize, UserError } from '@tickscope/contract'
import type { Command } from 'commander'
import { addBypassCommand } from './bypass/command.ts'
import { nowNs } from './clock.ts'
import { addCodecCommand } from './codec/command.ts'
import { type ControlSample, judgeControls, sampleControls, watchControls } from './controls.ts'
import { collectEnvironment } from './environment.ts'
import { feedProbe } from './feed.ts'
import { durationFlag, rateFlag } from './flag.ts'
import { httpProbe } from './http.ts'
import { addJitterCommand } from './jitter/command.ts'
import { loadProbe } from './load.ts'
import { createNotes } from './note.ts'
import { orderProbe } from './order.ts'
import type { CommonOptions, LatencyProbe, ProbeContext } from './probe.ts'
import { startProgress } from './progress.ts'
import { createReporter, type Reporter, SILENT_REPORTER } from './reporter.ts'
import { type Measurement, resultText, toResult } from './result.ts'
import { addRouteCommand } from './route/command.ts'
import { addRelayCommand } from './route/relay.ts'
import { addRuntimeCommand } from './runtime/command.ts'
import { addReportFlags, noteUnacknowledged, type ProbeEnvironment, type ReportFlags, reportTo } from './service.ts'

const FOR_DEFAULT_MS = 10_000
const FOR_MAX_MS = 24 * 3_600_000
const RATE_MAX_PER_SECOND = 10_000

interface FrameOptions extends CommonOptions, ReportFlags {
  /** ms */
  readonly for?: number
  readonly json: boolean
  readonly serve: boolean
  readonly venue?: string
  readonly region?: string
  readonly route?: string
}

/**
 * Adds a command a probe to `parent`, which must have its output and exit handling set, since they inherit it.
 *
 * @param exit takes the exit code of the run
 */
export function addProbeCommands(
  parent: Command,
  exit: (code: number) => void,
  environment: ProbeEnvironment = {},
): void {
  addLatencyProbe(parent, httpProbe, exit, environment)
  addLatencyProbe(parent, feedProbe, exit, environment)
  addLatencyProbe(parent, orderProbe, exit, environment)
  addLatencyProbe(parent, loadProbe, exit, environment)
  addBypassCommand(parent, exit, environment)
  addRouteCommand(parent, exit, environment)
  addRelayCommand(parent, exit)
  addRuntimeCommand(parent, exit, environment)
  addJitterCommand(parent, exit, environment)
  addCodecCommand(parent, exit, environment)
}

function addLatencyProbe<Options extends CommonOptions>(
  parent: Command,
  probe: LatencyProbe<Options>,
  exit: (code: number) => void,
  environment: ProbeEnvironment,
): void {
  const command = parent
    .command(probe.name)
    .description(probe.description)
    .option('--url <url>', 'target: a full URL, or the base of a venue')
    .option('--rate <requests>', 'requests per second, open loop', rateFlag('--rate', RATE_MAX_PER_SECOND))
    .option('--for <duration>', 'length of the run (default: 10s)', durationFlag('--for', FOR_MAX_MS))
    .option('--json', 'print one JSON object, the last line of stdout', false)
    .option('--serve', 'run until stopped, keep trying, print no table', false)
  addReportFlags(command)
    .option('--venue <name>', 'venue label (default: kalshi)')
    .option('--region <name>', 'region label')
    .option('--route <name>', 'route label')
  probe.configure(command)
  command.action(async (given: Options & FrameOptions) => {
    const options = { venue: 'kalshi', ...probe.defaults?.(given), ...given }
    if (options.url === undefined)
      throw new UserError('FLAG_MISSING', `probe ${probe.name} needs its target: --url URL`)
    if (options.serve && (options.json || options.for !== undefined))
      throw new UserError(
        'FLAG_CONFLICT',
        '--serve runs until stopped and prints no result: leave out --for and --json',
      )
    exit(await runProbe(probe, options, environment))
  })
}

/** @returns the exit code */
async function runProbe<Options extends CommonOptions>(
  probe: LatencyProbe<Options>,
  options: Options & FrameOptions,
  environment: ProbeEnvironment,
): Promise<number> {
  const { serve } = options
  const signal = stopSignal()
  const slos = loadSlos(options.config ?? environment.config)
  const fingerprint = collectEnvironment()
  const reporter = await connectReporter(probe.name, options, environment)
  const durationMs = serve ? Number.POSITIVE_INFINITY : (options.for ?? FOR_DEFAULT_MS)
  const note = createNotes(probe.name, serve)
  const progress = startProgress(probe.name, durationMs)
  let before: ControlSample | undefined
  let watch: ReturnType<typeof watchControls> | undefined
  let startedAtNs = nowNs()
  let startedAtMs = Date.now()
  const context: ProbeContext = {
    durationMs,
    serve,
    signal,
    slos,
    reporter,
    measuring: () => {
      if (!serve) {
        before = sampleControls()
        watch = watchControls()
      }
      startedAtNs = nowNs()
      startedAtMs = Date.now()
    },
    note,
    progress: progress.show,
  }
  let measurement: Measurement
  try {
    const running = probe.run(options, context)
    if (serve) announce({ event: 'ready', probe: probe.name, url: options.url })
    measurement = await running
  } catch (error) {
    progress.end()
    await reporter.stop()
    throw error
  }
  const durationNs = nowNs() - startedAtNs
  const between = watch?.stop() ?? null
  progress.end()
  const after = before === undefined ? undefined : sampleControls()
  const controlledNs = nowNs() - startedAtNs
  const acknowledged = await reporter.stop()
  noteUnacknowledged(acknowledged, options.collector, note)
  if (before === undefined || after === undefined) {
    announceSummary(probe.name, measurement, acknowledged)
    return EXIT.ok
  }
  const result = toResult(probe.name, measurement, {
    startedAtMs,
    durationMs: Math.round(durationNs / 1e6),
    environment: fingerprint,
    controls: judgeControls(before, after, controlledNs, { slip: measurement.slip, between }),
  })
  process.stdout.write(`${options.json ? JSON.stringify(result) : resultText(result, process.stdout)}\n`)
  return [...result.budgets, ...result.checks].some(({ ok }) => !ok) ? EXIT.budget : EXIT.ok
}

async function connectReporter(probe: string, options: FrameOptions, environment: ProbeEnvironment): Promise<Reporter> {
  const { venue, region, route } = options
  const to = reportTo(options, environment)
  return to === undefined ? SILENT_REPORTER : createReporter(probe, { ...to, venue, region, route })
}

/** What a service says at its end: the series it reported, by their names there. */
function announceSummary(probe: string, measurement: Measurement, acknowledged: boolean): void {
  const { all, rows, headline } = measurement
  const tally = rows.find(({ mode }) => mode.name === headline)?.tally ?? all
  const phases = [...all.phases].map(([phase, histogram]) => [phase, summarize(tally.phases.get(phase) ?? histogram)])
  announce({
    event: 'summary',
    [probe]: {
      total: summarize(tally.response),
      phases: { ...Object.fromEntries(phases), service: summarize(tally.service), slip: summarize(tally.slip) },
    },
    scheduled: all.scheduled,
    sent: all.sent,
    lost: all.lost,
    dropped: all.outcomes.dropped,
    acknowledged,
  })
}
