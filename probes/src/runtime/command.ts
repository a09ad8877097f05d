/** `probe runtime`: flags, signals, output. */
import { EXIT, stopRequested, UserError } from '@tickscope/contract'
import { type Command, Option } from 'commander'
import { integerFlag, rateFlag } from '../flag.ts'
import { startProgress } from '../progress.ts'
import { KINDS, type Kind } from './interpreter.ts'
import { runRuntimes } from './run.ts'
import { runtimeText } from './text.ts'
import { KEY_TYPES, type KeyType } from './venue.ts'

/** Start, warm-up and hot loops of one program, only for the progress bar, ms. */
const PROGRAM_MS = 2_000

interface Options {
  readonly rounds: number
  readonly count: number
  readonly rate: number
  readonly warmUp: number
  readonly keyType: KeyType
  readonly runtimes: readonly Kind[]
  readonly python: readonly string[]
  readonly json: boolean
}

function kindsFlag(text: string): Kind[] {
  const kinds = text.split(',')
  const unknown = kinds.find((kind) => !(KINDS as readonly string[]).includes(kind))
  if (unknown !== undefined)
    throw new UserError('RUNTIME_UNKNOWN', `--runtimes has '${unknown}'; the runtimes are ${KINDS.join(', ')}`)
  return kinds as Kind[]
}

/** @param exit takes the exit code of the run */
export function addRuntimeCommand(parent: Command, exit: (code: number) => void): void {
  parent
    .command('runtime')
    .description('One order path in C, Node, uvloop, asyncio and PyPy: what the runtime costs, and what is waiting.')
    .option('--rounds <n>', 'interleaved rounds; 5 make an interval worth reading', integerFlag('--rounds', 1, 1000), 5)
    .option('--count <n>', 'orders a runtime and round', integerFlag('--count', 1, 100_000), 100)
    .option('--rate <orders>', 'orders per second, open loop', rateFlag('--rate', 500), 50)
    .option('--warm-up <n>', 'orders before the measurement of each round', integerFlag('--warm-up', 0, 100_000), 50)
    .addOption(new Option('--key-type <type>', 'key that signs').choices(KEY_TYPES).default('rsa'))
    .option('--runtimes <names>', `only these: ${KINDS.join(', ')}`, kindsFlag, [...KINDS])
    .option(
      '--python <path>',
      'another Python or PyPy to measure; repeatable',
      (path: string, paths: string[]) => [...paths, path],
      [] as string[],
    )
    .option('--json', 'print one JSON object, the last line of stdout', false)
    .addHelpText(
      'after',
      `
Examples:
  probe runtime
  probe runtime --runtimes c,uvloop --key-type ed25519 --rounds 10
Runtimes that are not installed are skipped; Debian has them: apt-get install python3-uvloop python3-cryptography pypy3 libssl-dev`,
    )
    .action(async (options: Options) => exit(await run(options)))
}

async function run(options: Options): Promise<number> {
  const { rounds, count, rate, warmUp, keyType, runtimes, python } = options
  const stopping = new AbortController()
  stopRequested().then(() => stopping.abort())
  const estimateMs = rounds * runtimes.length * ((count / rate) * 1000 + PROGRAM_MS)
  const progress = startProgress('runtime', estimateMs)
  const result = await runRuntimes({
    rounds,
    count,
    ratePerSecond: rate,
    warmUp,
    keyType,
    kinds: runtimes,
    pythons: python,
    signal: stopping.signal,
    note: (line) => process.stderr.write(`runtime: ${line}\n`),
    progress: progress.show,
  }).finally(progress.end)
  process.stdout.write(`${options.json ? JSON.stringify(result) : runtimeText(result, process.stdout)}\n`)
  return EXIT.ok
}
