/** `probe runtime`: flags, signals, output. */
import { EXIT, formatNs, parseDurationMs, stopSignal, UserError } from '@tickscope/contract'
import { type Command, Option } from 'commander'
import { durationFlag, integerFlag, rateFlag } from '../flag.ts'
import { createNotes } from '../note.ts'
import { printResult } from '../print.ts'
import { startProgress } from '../progress.ts'
import {
  addServiceFlags,
  checkServeFlags,
  createReportAgent,
  noteUnacknowledged,
  type ProbeEnvironment,
  reportTo,
  type ServiceOptions,
  serveEvery,
  stopReportAgent,
} from '../service.ts'
import { findRuntimes, KINDS, type Kind } from './interpreter.ts'
import { reportOrders } from './report.ts'
import { type RuntimeResult, runRuntimes } from './run.ts'
import { runtimeText } from './text.ts'
import { type GivenVenue, KEY_TYPES, type KeyType } from './venue.ts'

/** Start and hot loops of one program, for the progress bar and --for, ms. */
const PROGRAM_MS = 2_000
const EVERY_MS = 3_600_000
const FOR_MAX_MS = 24 * 3_600_000
const ROUNDS_MAX = 1000

/** The most a runtime's p99 may be, from the intended send to the answer parsed. */
interface RuntimeBudget {
  readonly kind: Kind
  readonly thresholdMs: number
}

interface Options extends ServiceOptions {
  readonly rounds: number
  readonly count: number
  readonly rate: number
  readonly warmUp: number
  /** ms */
  readonly for?: number
  readonly url?: string
  readonly keyId?: string
  readonly keyFile?: string
  readonly keyType: KeyType
  readonly runtimes: readonly Kind[]
  readonly python: readonly string[]
  readonly budget: readonly RuntimeBudget[]
  readonly json: boolean
}

function kindsFlag(text: string): Kind[] {
  const kinds = text.split(',')
  const unknown = kinds.find((kind) => !(KINDS as readonly string[]).includes(kind))
  if (unknown !== undefined)
    throw new UserError('RUNTIME_UNKNOWN', `--runtimes has '${unknown}'; the runtimes are ${KINDS.join(', ')}`)
  return kinds as Kind[]
}

function budgetFlag(text: string, before: readonly RuntimeBudget[]): RuntimeBudget[] {
  const [name = '', duration = ''] = text.split('=')
  const kind = KINDS.find((known) => known === name)
  if (kind === undefined)
    throw new UserError(
      'RUNTIME_UNKNOWN',
      `--budget is '${text}', not RUNTIME=DURATION such as uvloop=12ms; the runtimes are ${KINDS.join(', ')}`,
    )
  return [...before, { kind, thresholdMs: parseDurationMs(duration, '--budget') }]
}

/** @param exit takes the exit code of the run */
export function addRuntimeCommand(
  parent: Command,
  exit: (code: number) => void,
  environment: ProbeEnvironment = {},
): void {
  const command = parent
    .command('runtime')
    .description('One order path in C, Node, uvloop, asyncio and PyPy: what the runtime costs, and what is waiting.')
    .option(
      '--rounds <n>',
      'interleaved rounds; 5 make an interval worth reading',
      integerFlag('--rounds', 1, ROUNDS_MAX),
      5,
    )
    .option('--for <duration>', 'about this long in all, instead of --rounds', durationFlag('--for', FOR_MAX_MS))
    .option('--count <n>', 'orders a runtime and round', integerFlag('--count', 1, 100_000), 100)
    .option('--rate <orders>', 'orders per second, open loop', rateFlag('--rate', 500), 50)
    .option('--warm-up <n>', 'orders before the measurement of each round', integerFlag('--warm-up', 0, 100_000), 50)
    .option('--url <url>', 'a simulator that runs already on this machine (default: one of its own)')
    .option('--key-id <id>', 'API key id at --url')
    .option('--key-file <pem>', 'private key of --key-id')
    .addOption(new Option('--key-type <type>', 'key that signs, without --url').choices(KEY_TYPES).default('rsa'))
    .option('--runtimes <names>', `only these: ${KINDS.join(', ')}`, kindsFlag, [...KINDS])
    .option(
      '--python <path>',
      'another Python or PyPy to measure; repeatable',
      (path: string, paths: string[]) => [...paths, path],
      [] as string[],
    )
    .option(
      '--budget <runtime=duration>',
      "break (exit code 1) when the runtime's p99 is longer; repeatable",
      budgetFlag,
      [],
    )
  addServiceFlags(command, 'a run', EVERY_MS)
    .option('--json', 'print one JSON object, the last line of stdout', false)
    .addHelpText(
      'after',
      `
Examples:
  probe runtime
  probe runtime --runtimes c,uvloop --key-type ed25519 --rounds 10
  probe runtime --url http://127.0.0.1:8700 --key-id ID --key-file key.pem --for 2m
Runtimes that are not installed are skipped; Debian has them: apt-get install python3-uvloop python3-cryptography pypy3 libssl-dev`,
    )
    .action(async (options: Options) => exit(await run(options, environment)))
}

async function run(options: Options, environment: ProbeEnvironment): Promise<number> {
  const { count, rate, warmUp, keyType, python, json, serve, every, collector } = options
  checkServeFlags(options)
  const venue = venueOf(options)
  const runtimes = await findRuntimes(options.runtimes, python)
  const signal = stopSignal()
  const note = createNotes('runtime', serve)
  const to = reportTo(options, environment)
  const agent = to && (await createReportAgent(to))
  const installed = runtimes.filter(({ missing }) => missing === undefined).length
  const roundMs = Math.max(1, installed) * (((warmUp + count) / rate) * 1000 + PROGRAM_MS)
  const rounds =
    options.for === undefined ? options.rounds : Math.min(ROUNDS_MAX, Math.max(1, Math.round(options.for / roundMs)))
  const estimateMs = rounds * roundMs
  const once = async (): Promise<RuntimeResult> => {
    const progress = startProgress('runtime', serve ? Number.POSITIVE_INFINITY : estimateMs)
    return await runRuntimes({
      rounds,
      count,
      ratePerSecond: rate,
      warmUp,
      keyType,
      ...(venue && { venue }),
      runtimes,
      signal,
      note,
      progress: progress.show,
      ...(agent && { report: (runtime, orders) => reportOrders(agent, runtime, orders) }),
    }).finally(progress.end)
  }
  try {
    if (serve) {
      await serveEvery('runtime', { everyMs: every, signal, note }, once)
      return EXIT.ok
    }
    const result = await once()
    return printResult(result, {
      json,
      text: runtimeText(result, process.stdout),
      budgets: judge(result, options.budget),
      budgetText: ({ row, thresholdMs }) => `p99 of ${row} within ${formatNs(thresholdMs * 1e6)}`,
    })
  } finally {
    if (agent) noteUnacknowledged(await stopReportAgent(agent), collector, note)
  }
}

function venueOf({ url, keyId, keyFile }: Options): GivenVenue | undefined {
  if (url === undefined && keyId === undefined && keyFile === undefined) return undefined
  if (url === undefined || keyId === undefined || keyFile === undefined)
    throw new UserError('KEY_INCOMPLETE', '--url, --key-id and --key-file belong together; one of them is missing')
  return { url, keyId, keyFile }
}

/** A runtime that was not measured keeps no budget. */
function judge({ rows }: RuntimeResult, budgets: readonly RuntimeBudget[]) {
  return budgets.map(({ kind, thresholdMs }) => {
    const judged = rows.filter((row) => row.kind === kind && row.status === 'measured')
    const p99Ns = judged.length === 0 ? null : Math.max(...judged.map(({ response }) => response?.p99Ns ?? 0))
    return { slo: 'order', row: kind, thresholdMs, ok: p99Ns !== null && p99Ns <= thresholdMs * 1e6 }
  })
}
