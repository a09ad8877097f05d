/** `probe jitter`: flags, signals, output. */
import { EXIT, formatNs, parseDurationMs, stopSignal, UserError } from '@tickscope/contract'
import type { Command } from 'commander'
import { integerFlag } from '../flag.ts'
import { replayNative } from '../native.ts'
import { createNotes } from '../note.ts'
import { printResult } from '../print.ts'
import { startProgress } from '../progress.ts'
import { createReporter, type Reporter, SILENT_REPORTER } from '../reporter.ts'
import {
  addServiceFlags,
  checkServeFlags,
  noteUnacknowledged,
  type ProbeEnvironment,
  reportTo,
  type ServeOptions,
  type ServiceOptions,
  serveEvery,
} from '../service.ts'
import { planCores, planText } from './planner.ts'
import { HEADLINE, type JitterOptions, type JitterResult, runJitter } from './run.ts'
import { type Scenario, scenariosOf, type WakeLine } from './scenario.ts'
import { jitterText } from './text.ts'

interface Options extends ServiceOptions {
  readonly rounds?: number
  readonly count: number
  readonly intervalUs: number
  readonly taskUs: number
  readonly quietCpu?: number
  readonly noisyCpu?: number
  readonly scenarios?: readonly string[]
  readonly pid?: number
  readonly plan: boolean
  readonly botCores: number
  readonly device?: string
  /** ms */
  readonly budget?: number
  readonly json: boolean
}

const ROUNDS_DEFAULT = 5
const EVERY_MS = 10_000
/** Starts and ends of processes, beside the schedules themselves; only for the progress bar. */
const OVERHEAD_FACTOR = 1.4

const NAMES = scenariosOf({ quiet: 0, noisy: 1, isolated: [], count: 2 }).map(({ name }) => name)

function scenariosFlag(text: string): string[] {
  const names = text.split(',')
  const unknown = names.find((name) => !NAMES.includes(name))
  if (unknown !== undefined)
    throw new UserError('SCENARIO_UNKNOWN', `--scenarios has '${unknown}'; there are ${NAMES.join(', ')}`)
  return names
}

/** @param exit takes the exit code of the run */
export function addJitterCommand(
  parent: Command,
  exit: (code: number) => void,
  environment: ProbeEnvironment = {},
): void {
  const command = parent
    .command('jitter')
    .description(
      'How late this machine lets a thread run, pinned and not, alone and beside neighbours, in C and in Node.',
    )
    .option('--rounds <n>', `interleaved rounds (default: ${ROUNDS_DEFAULT})`, integerFlag('--rounds', 1, 1000))
    .option('--count <n>', 'wakes a row and round, in C', integerFlag('--count', 50, 1_000_000), 2_000)
    .option('--interval-us <us>', 'time between wakes', integerFlag('--interval-us', 50, 1_000_000), 200)
    .option('--task-us <us>', 'work at each wake', integerFlag('--task-us', 0, 100_000), 12)
    .option('--quiet-cpu <cpu>', "core of the pinned thread (default: the plan's)", integerFlag('--quiet-cpu', 0, 1023))
    .option('--noisy-cpu <cpu>', 'core of the pinned neighbour (default: another)', integerFlag('--noisy-cpu', 0, 1023))
    .option('--scenarios <names>', `only these: ${NAMES.join(', ')}`, scenariosFlag)
    .option('--pid <pid>', 'see how the threads of this process are pinned', integerFlag('--pid', 1, 2 ** 22))
    .option('--plan', 'measure nothing: propose cores for the bot, for interrupts and for the rest', false)
    .option('--bot-cores <n>', 'cores of their own for the bot, for the plan', integerFlag('--bot-cores', 1, 64), 1)
    .option('--device <nic>', 'the NIC to the venue, for the plan (default: that of the default route)')
    .option('--budget <duration>', `break (exit code 1) when the p99 of ${HEADLINE} is longer`, (text) =>
      parseDurationMs(text, '--budget'),
    )
  addServiceFlags(command, `a round of ${HEADLINE}`, EVERY_MS)
    .option('--json', 'print one JSON object, the last line of stdout', false)
    .action(async (options: Options) => exit(await run(options, environment)))
}

async function run(options: Options, environment: ProbeEnvironment): Promise<number> {
  const { json, serve, botCores, device, collector } = options
  checkServeFlags(options)
  if (serve && options.plan) throw new UserError('FLAG_CONFLICT', '--serve measures, --plan does not: leave out one')
  if (options.plan) {
    const plan = planCores({ botCores, device })
    process.stdout.write(`${json ? JSON.stringify({ probe: 'jitter', plan }) : planText(plan)}\n`)
    return EXIT.ok
  }
  const signal = stopSignal()
  const note = createNotes('jitter', serve)
  const to = reportTo(options, environment)
  const reporter = to === undefined ? SILENT_REPORTER : await createReporter('jitter', to)
  const { quietCpu, noisyCpu, scenarios, pid } = options
  const once = (round: Pick<JitterOptions, 'rounds' | 'progress'> & { readonly scenarios?: readonly string[] }) =>
    runJitter({
      count: options.count,
      intervalUs: options.intervalUs,
      taskUs: options.taskUs,
      ...(quietCpu !== undefined && { quietCpu }),
      ...(noisyCpu !== undefined && { noisyCpu }),
      ...(pid !== undefined && { pid }),
      botCores,
      ...(device !== undefined && { device }),
      signal,
      report: (scenario, line) => report(reporter, scenario, line),
      ...round,
    })
  try {
    if (serve) return await serveRounds(options, { signal, note }, reporter, once)
    const rounds = options.rounds ?? ROUNDS_DEFAULT
    const rows = scenarios?.length ?? NAMES.length
    const estimateMs = rounds * rows * options.count * (options.intervalUs / 1000) * OVERHEAD_FACTOR
    const progress = startProgress('jitter', estimateMs)
    const result = await once({ rounds, progress: progress.show, ...(scenarios && { scenarios }) }).finally(
      progress.end,
    )
    return printResult(result, {
      json,
      text: jitterText(result, process.stdout),
      budgets: judge(result, options.budget),
      budgetText: ({ row, thresholdMs }) => `p99 of ${row} within ${formatNs(thresholdMs * 1e6)}`,
    })
  } finally {
    noteUnacknowledged(await reporter.stop(), collector, note)
  }
}

async function serveRounds(
  { every, rounds = 1, scenarios = [HEADLINE] }: Options,
  { signal, note }: Pick<ServeOptions, 'signal' | 'note'>,
  reporter: Reporter,
  once: (round: { rounds: number; progress: () => void; scenarios: readonly string[] }) => Promise<JitterResult>,
): Promise<number> {
  let wakes = 0
  const round = async () => {
    const { sent } = await once({ rounds, progress() {}, scenarios }).catch((error) => {
      reporter.up(false)
      throw error
    })
    wakes += sent
    if (!signal.aborted) reporter.up(sent > 0)
  }
  await serveEvery('jitter', { everyMs: every, signal, note, said: () => ({ wakes }) }, round)
  return EXIT.ok
}

/** The series have no label for the row: only the headline is reported, what any thread of this machine gets. */
async function report(reporter: Reporter, { name }: Scenario, line: WakeLine): Promise<void> {
  if (name !== HEADLINE || reporter === SILENT_REPORTER) return
  await replayNative(line.wake, (ns) => reporter.phase('wake', ns))
  await replayNative(line.service, (ns) => reporter.phase('service', ns))
  await replayNative(line.response, (ns) => reporter.phase('total', ns))
}

function judge(result: JitterResult, thresholdMs: number | undefined) {
  if (thresholdMs === undefined) return []
  const p99Ns = result.phases.wake?.p99Ns
  return [{ slo: 'wake', row: result.headline, thresholdMs, ok: p99Ns !== undefined && p99Ns <= thresholdMs * 1e6 }]
}
