/** `probe bypass`: flags, signals, output. */
import { EXIT, parseDurationMs, stopRequested, UserError } from '@tickscope/contract'
import type { Command } from 'commander'
import { integerFlag } from '../flag.ts'
import { startProgress } from '../progress.ts'
import { DPDK_PATHS, KERNEL_PATHS } from './ladder.ts'
import { runBypass } from './run.ts'
import { bypassText } from './text.ts'

/** About what a round of all paths takes, with controls, per 1,000 messages and payload; only for the progress bar. */
const ROUND_MS_PER_1000 = 1_200

interface Options {
  readonly rounds: number
  readonly count: number
  readonly payloads: readonly number[]
  readonly intervalUs: number
  readonly paths?: readonly string[]
  readonly preload: readonly string[]
  readonly endToEnd?: number
  readonly collector?: string
  readonly device?: string
  readonly address?: string
  readonly peer?: string
  readonly peerMac?: string
  readonly clientCpu: number
  readonly serverCpu: number
  readonly json: boolean
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

/** p50 of the bot's tick-to-trade plus its API round trip, as its collector knows them. */
async function measuredEndToEndNs(collector: string): Promise<number> {
  const answer = await fetch(`${collector}/v1/summary`, { signal: AbortSignal.timeout(5_000) }).catch(() => undefined)
  if (!answer?.ok)
    throw new UserError('COLLECTOR_AWAY', `no summary from the collector at ${collector}`, EXIT.environment)
  const { tickToTrade, apiRtt } = (await answer.json()) as { tickToTrade: { p50Ns: number }; apiRtt: { p50Ns: number } }
  return tickToTrade.p50Ns + apiRtt.p50Ns
}

/** @param exit takes the exit code of the run */
export function addBypassCommand(parent: Command, exit: (code: number) => void): void {
  parent
    .command('bypass')
    .description('What waiting, the kernel stack and bypassing it cost: one message over every path, interleaved.')
    .option('--rounds <n>', 'interleaved rounds; 5 make an interval worth reading', integerFlag('--rounds', 1, 1000), 5)
    .option('--count <n>', 'messages a path and round', integerFlag('--count', 10, 10_000_000), 20_000)
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
      'also run under this network stack: onload, vma, xlio, or the path of a library; repeatable',
      (name: string, names: string[]) => [...names, name],
      [] as string[],
    )
    .option('--end-to-end <duration>', "your bot's whole round trip, to say what a gain is worth to it", (text) =>
      parseDurationMs(text, '--end-to-end'),
    )
    .option('--collector <url>', "take the bot's round trip from this collector")
    .option('--device <nic>', 'a real NIC instead of the veth pair; with --address, --peer, --peer-mac')
    .option('--address <ip>', "the NIC's address")
    .option('--peer <ip>', 'the far end, which runs: bypass serve --device … --address … --peer … --peer-mac …')
    .option('--peer-mac <mac>', "the far end's MAC address")
    .option('--client-cpu <cpu>', 'core of the client', integerFlag('--client-cpu', 0, 1023), 0)
    .option('--server-cpu <cpu>', 'core of the server', integerFlag('--server-cpu', 0, 1023), 1)
    .option('--json', 'print one JSON object, the last line of stdout', false)
    .action(async (options: Options) => exit(await run(options)))
}

async function run(options: Options): Promise<number> {
  const { device, address, peer, peerMac, collector, endToEnd, paths } = options
  const named = [device, address, peer, peerMac].filter((value) => value !== undefined).length
  if (named !== 0 && named !== 4)
    throw new UserError('NETWORK_PARTIAL', 'a real network needs all of --device, --address, --peer and --peer-mac')
  const endToEndNs = collector
    ? await measuredEndToEndNs(collector)
    : endToEnd === undefined
      ? undefined
      : endToEnd * 1e6
  const stopping = new AbortController()
  stopRequested().then(() => stopping.abort())
  const estimateMs = (options.rounds * options.payloads.length * options.count * ROUND_MS_PER_1000) / 1000
  const progress = startProgress('bypass', estimateMs)
  const result = await runBypass({
    rounds: options.rounds,
    count: options.count,
    payloads: options.payloads,
    intervalNs: options.intervalUs * 1000,
    ...(paths && { paths }),
    preload: options.preload,
    ...(endToEndNs !== undefined && { endToEndNs }),
    ...(device && address && peer && peerMac && { network: { device, address, peer, peerMac } }),
    clientCpu: options.clientCpu,
    serverCpu: options.serverCpu,
    signal: stopping.signal,
    note: (line) => process.stderr.write(`bypass: ${line}\n`),
    progress: progress.show,
  }).finally(progress.end)
  process.stdout.write(`${options.json ? JSON.stringify(result) : bypassText(result, process.stdout)}\n`)
  return EXIT.ok
}
