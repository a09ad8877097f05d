/** `probe bypass`: flags, signals, output. */
import { EXIT, formatNs, parseDurationMs, stopSignal, UserError } from '@tickscope/contract'
import type { Command } from 'commander'
import { integerFlag } from '../flag.ts'
import { createNotes } from '../note.ts'
import { printResult } from '../print.ts'
import { startProgress } from '../progress.ts'
import {
  addServiceFlags,
  checkServeFlags,
  noteUnacknowledged,
  type ProbeEnvironment,
  reportTo,
  type ServiceOptions,
  serveEvery,
} from '../service.ts'
import { DPDK_PATHS, KERNEL_PATHS, type LadderRow } from './ladder.ts'
import { createBypassReporter } from './report.ts'
import { type BypassOptions, type BypassResult, runBypass } from './run.ts'
import { bypassText } from './text.ts'

/** About what a round of all paths takes, with controls, per 1,000 messages and payload; only for the progress bar. */
const ROUND_MS_PER_1000 = 1_200
const EVERY_MS = 3_600_000

interface Options extends ServiceOptions {
  readonly rounds: number
  readonly count: number
  readonly warmUp: number
  readonly payloads: readonly number[]
  readonly intervalUs: number
  readonly paths?: readonly string[]
  readonly preload: readonly string[]
  readonly endToEnd?: number
  readonly device?: string
  readonly address?: string
  readonly peer?: string
  readonly peerMac?: string
  readonly clientCpu: number
  readonly serverCpu: number
  readonly budget: readonly PathBudget[]
  readonly json: boolean
}

/** The most a path's p99 may be, from the intended send. */
interface PathBudget {
  readonly path: string
  readonly thresholdMs: number
}

const PATHS: readonly string[] = [...KERNEL_PATHS, ...DPDK_PATHS]

function pathsFlag(text: string): string[] {
  const paths = text.split(',')
  const unknown = paths.find((path) => !PATHS.includes(path))
  if (unknown !== undefined)
    throw new UserError('PATH_UNKNOWN', `--paths has '${unknown}'; the paths are ${PATHS.join(', ')}`)
  return paths
}

function payloadsFlag(text: string): number[] {
  return text.split(',').map(integerFlag('--payloads', 8, 1400))
}

function budgetFlag(text: string, before: readonly PathBudget[]): PathBudget[] {
  const [path = '', duration = ''] = text.split('=')
  if (!PATHS.includes(path))
    throw new UserError('PATH_UNKNOWN', `--budget is '${text}', not PATH=DURATION such as udp_spinning=50us`)
  return [...before, { path, thresholdMs: parseDurationMs(duration, '--budget') }]
}

/** p50 of the bot's tick-to-trade plus its API round trip, as its collector knows them. */
async function measuredEndToEndNs(collector: string, signal: AbortSignal): Promise<number> {
  const ends = AbortSignal.any([signal, AbortSignal.timeout(5_000)])
  const answer = await fetch(`${collector}/v1/summary`, { signal: ends }).catch(() => undefined)
  if (signal.aborted) return 0
  if (!answer?.ok)
    throw new UserError('COLLECTOR_AWAY', `no summary from the collector at ${collector}`, EXIT.environment)
  const { tickToTrade, apiRtt } = (await answer.json()) as { tickToTrade: { p50Ns: number }; apiRtt: { p50Ns: number } }
  return tickToTrade.p50Ns + apiRtt.p50Ns
}

/** @param exit takes the exit code of the run */
export function addBypassCommand(
  parent: Command,
  exit: (code: number) => void,
  environment: ProbeEnvironment = {},
): void {
  const command = parent
    .command('bypass')
    .description('What waiting, the kernel stack and bypassing it cost: one message over every path, interleaved.')
    .option('--rounds <n>', 'interleaved rounds; 5 make an interval worth reading', integerFlag('--rounds', 1, 1000), 5)
    .option('--count <n>', 'messages a path and round', integerFlag('--count', 10, 10_000_000), 20_000)
    .option('--warm-up <n>', 'messages before them, thrown away', integerFlag('--warm-up', 10, 1_000_000), 2_000)
    .option(
      '--payloads <bytes>',
      'payload sizes, comma-separated: 200 is a FIX order, 830 a signed REST order',
      payloadsFlag,
      [64],
    )
    .option('--interval-us <us>', 'time between messages, open loop', integerFlag('--interval-us', 0, 1_000_000), 50)
    .option('--paths <names>', `only these: ${PATHS.join(', ')}`, pathsFlag)
    .option(
      '--preload <name>',
      'also run under this network stack: onload, vma, xlio, or the path of a library; repeatable (default: onload)',
      (name: string, names: string[]) => [...names, name],
      [] as string[],
    )
    .option('--budget <path=duration>', "break (exit code 1) when the path's p99 is longer; repeatable", budgetFlag, [])
    .option(
      '--end-to-end <duration>',
      "your bot's whole round trip, to say what a gain is worth to it (default: as the collector knows it)",
      (text) => parseDurationMs(text, '--end-to-end'),
    )
    .option('--device <nic>', 'a real NIC instead of the veth pair; with --address, --peer, --peer-mac')
    .option('--address <ip>', "the NIC's address")
    .option('--peer <ip>', 'the far end, which runs: bypass serve --device … --address … --peer … --peer-mac …')
    .option('--peer-mac <mac>', "the far end's MAC address")
    .option('--client-cpu <cpu>', 'core of the client', integerFlag('--client-cpu', 0, 1023), 0)
    .option('--server-cpu <cpu>', 'core of the server', integerFlag('--server-cpu', 0, 1023), 1)
  addServiceFlags(command, 'a run', EVERY_MS)
    .option('--json', 'print one JSON object, the last line of stdout', false)
    .action(async (options: Options) => exit(await run(options, environment)))
}

async function run(options: Options, environment: ProbeEnvironment): Promise<number> {
  const { device, address, peer, peerMac, collector, paths, serve, every } = options
  const named = [device, address, peer, peerMac].filter((value) => value !== undefined).length
  if (named !== 0 && named !== 4)
    throw new UserError('NETWORK_PARTIAL', 'a real network needs all of --device, --address, --peer and --peer-mac')
  checkServeFlags(options)
  const signal = stopSignal()
  const note = createNotes('bypass', serve)
  const to = reportTo(options, environment)
  const reporter = to && (await createBypassReporter({ ...to, payloadBytes: options.payloads[0] ?? 64 }))
  const once = async (): Promise<BypassResult> => {
    // A service shows nobody what a gain is worth.
    const endToEndNs = serve ? undefined : await endToEndOf(options, signal)
    const estimateMs = (options.rounds * options.payloads.length * options.count * ROUND_MS_PER_1000) / 1000
    const progress = startProgress('bypass', serve ? Number.POSITIVE_INFINITY : estimateMs)
    const settings: BypassOptions = {
      rounds: options.rounds,
      count: options.count,
      warmUp: options.warmUp,
      payloads: options.payloads,
      intervalNs: options.intervalUs * 1000,
      ...(paths && { paths }),
      preload: options.preload.length > 0 || paths ? options.preload : ['onload'],
      ...(endToEndNs !== undefined && { endToEndNs }),
      ...(device && address && peer && peerMac && { network: { device, address, peer, peerMac } }),
      clientCpu: options.clientCpu,
      serverCpu: options.serverCpu,
      signal,
      note,
      progress: progress.show,
      ...(reporter && { report: reporter.round }),
    }
    const result = await runBypass(settings).finally(progress.end)
    reporter?.gains(result.gains)
    return result
  }
  try {
    if (!serve) {
      const result = await once()
      return printResult(result, {
        json: options.json,
        text: bypassText(result, process.stdout),
        budgets: judge(result.rows, options.budget),
        budgetText: ({ path, thresholdMs }) => `p99 of ${path} within ${formatNs(thresholdMs * 1e6)}`,
      })
    }
    // Of the run it was stopped in, too.
    const tally = { sent: 0, lost: 0 }
    await serveEvery('bypass', { everyMs: every, signal, note, said: () => tally }, async () => {
      for (const { sent, lost } of (await once()).rows) {
        tally.sent += sent
        tally.lost += lost
      }
    })
    return EXIT.ok
  } finally {
    if (reporter) noteUnacknowledged(await reporter.stop(), collector, note)
  }
}

/** A path that was not measured keeps no budget. */
function judge(rows: readonly LadderRow[], budgets: readonly PathBudget[]) {
  return budgets.map(({ path, thresholdMs }) => {
    const judged = rows.filter((row) => row.path === path && row.status === 'measured')
    const ok = judged.length > 0 && judged.every(({ p99Ns }) => p99Ns !== null && p99Ns <= thresholdMs * 1e6)
    return { path, quantile: 0.99, thresholdMs, ok }
  })
}

async function endToEndOf({ endToEnd, collector }: Options, signal: AbortSignal): Promise<number | undefined> {
  if (endToEnd !== undefined) return endToEnd * 1e6
  const measuredNs = collector === undefined ? 0 : await measuredEndToEndNs(collector, signal)
  return measuredNs > 0 ? measuredNs : undefined
}
