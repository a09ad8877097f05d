/** `probe codec`: flags, signals, output. */
import { EXIT, stopRequested } from '@tickscope/contract'
import type { Command } from 'commander'
import { integerFlag } from '../flag.ts'
import { startProgress } from '../progress.ts'
import { runCodec } from './run.ts'
import { codecText } from './text.ts'

/** About what a round takes, ms; only for the progress bar. */
const ROUND_MS = 40

interface Options {
  readonly rounds: number
  readonly seed: number
  readonly peer: boolean
  readonly json: boolean
}

/** @param exit takes the exit code of the run */
export function addCodecCommand(parent: Command, exit: (code: number) => void): void {
  parent
    .command('codec')
    .description(
      'What the same order, report and book update weigh and cost as REST JSON, FIX, FAST and fixed binary, and what signing costs beside them.',
    )
    .option('--rounds <n>', 'interleaved rounds', integerFlag('--rounds', 5, 10_000), 40)
    .option('--seed <n>', 'of the messages and of the order of the rounds', integerFlag('--seed', 0, 2 ** 32 - 1), 1)
    .option('--no-peer', 'leave out jspurefix, whose dictionary takes seconds to load')
    .option('--json', 'print one JSON object, the last line of stdout', false)
    .action(async (options: Options) => exit(await run(options)))
}

async function run({ rounds, seed, peer, json }: Options): Promise<number> {
  const stopping = new AbortController()
  stopRequested().then(() => stopping.abort())
  const progress = startProgress('codec', rounds * ROUND_MS)
  const result = await runCodec({
    rounds,
    seed,
    peer,
    signal: stopping.signal,
    note: (line) => process.stderr.write(`codec: ${line}\n`),
    progress: progress.show,
  }).finally(progress.end)
  process.stdout.write(`${json ? JSON.stringify(result) : codecText(result, process.stdout)}\n`)
  return EXIT.ok
}
