/** `probe codec`: flags, signals, output. */
import {
  CODEC_MESSAGES,
  CODEC_OPERATIONS,
  CODECS,
  EXIT,
  formatNs,
  parseDurationMs,
  stopSignal,
  UserError,
} from '@tickscope/contract'
import type { Command } from 'commander'
import { integerFlag } from '../flag.ts'
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
import { reportCodec } from './report.ts'
import { type CodecResult, runCodec } from './run.ts'
import { codecText } from './text.ts'

/** About what a round takes, ms; only for the progress bar. */
const ROUND_MS = 40
const EVERY_MS = 3_600_000

/** The most an operation's median may be. */
interface OperationBudget {
  /** `codec/message/operation` */
  readonly name: string
  readonly thresholdNs: number
}

interface Options extends ServiceOptions {
  readonly rounds: number
  readonly seed: number
  readonly peer: boolean
  readonly budget: readonly OperationBudget[]
  readonly json: boolean
}

function budgetFlag(text: string, before: readonly OperationBudget[]): OperationBudget[] {
  const [name = '', duration = ''] = text.split('=')
  const parts = name.split('/')
  const known = [CODECS, CODEC_MESSAGES, CODEC_OPERATIONS] as readonly (readonly string[])[]
  if (parts.length !== known.length || !known.every((names, i) => names.includes(parts[i] as string)))
    throw new UserError(
      'FLAG_INVALID',
      `--budget is '${text}', not CODEC/MESSAGE/OPERATION=DURATION such as fix/executionReport/scan=500ns, of ${known.map((names) => names.join(', ')).join('; ')}`,
    )
  return [...before, { name, thresholdNs: parseDurationMs(duration, '--budget') * 1e6 }]
}

/** @param exit takes the exit code of the run */
export function addCodecCommand(
  parent: Command,
  exit: (code: number) => void,
  environment: ProbeEnvironment = {},
): void {
  const command = parent
    .command('codec')
    .description(
      'What the same order, report and book update weigh and cost as REST JSON, FIX, FAST and fixed binary, and what signing costs beside them.',
    )
    .option('--rounds <n>', 'interleaved rounds', integerFlag('--rounds', 5, 10_000), 40)
    .option('--seed <n>', 'of the messages and of the order of the rounds', integerFlag('--seed', 0, 2 ** 32 - 1), 1)
    .option('--no-peer', 'leave out jspurefix, whose dictionary takes seconds to load')
    .option(
      '--budget <name=duration>',
      'break (exit code 1) when the median of codec/message/operation is longer, such as fix/executionReport/scan=500ns; repeatable',
      budgetFlag,
      [],
    )
  addServiceFlags(command, 'a run', EVERY_MS)
    .option('--json', 'print one JSON object, the last line of stdout', false)
    .action(async (options: Options) => exit(await run(options, environment)))
}

async function run(options: Options, environment: ProbeEnvironment): Promise<number> {
  const { rounds, seed, peer, json, serve, every, collector } = options
  checkServeFlags(options)
  const signal = stopSignal()
  const note = createNotes('codec', serve)
  const to = reportTo(options, environment)
  const agent = to && (await createReportAgent(to))
  const once = async (): Promise<CodecResult> => {
    const progress = startProgress('codec', serve ? Number.POSITIVE_INFINITY : rounds * ROUND_MS)
    const result = await runCodec({
      rounds,
      seed,
      peer,
      signal,
      note: serve ? () => {} : note,
      progress: progress.show,
    }).finally(progress.end)
    if (agent && result.settings.rounds > 0) reportCodec(agent, result)
    return result
  }
  try {
    if (serve) {
      await serveEvery('codec', { everyMs: every, signal, note }, once)
      return EXIT.ok
    }
    const result = await once()
    return printResult(result, {
      json,
      text: codecText(result, process.stdout),
      budgets: judge(result, options.budget),
      budgetText: ({ name, thresholdNs }) => `median of ${name} within ${formatNs(thresholdNs)}`,
    })
  } finally {
    if (agent) noteUnacknowledged(await stopReportAgent(agent), collector, note)
  }
}

/** An operation that was not measured keeps no budget. */
function judge({ rows }: CodecResult, budgets: readonly OperationBudget[]) {
  return budgets.map(({ name, thresholdNs }) => {
    const row = rows.find(({ codec, message, operation }) => `${codec}/${message}/${operation}` === name)
    const medianNs = row?.nsPerOp?.median ?? null
    return { name, thresholdNs, medianNs, ok: medianNs !== null && medianNs <= thresholdNs }
  })
}
