/** `claims`: every claim with its verdict, from saved results or from probes run now. */
import { existsSync } from 'node:fs'
import { EXIT, stopSignal, UserError } from '@tickscope/contract'
import type { Command } from 'commander'
import { collectEnvironment, type Environment, environmentText } from '../environment.ts'
import { integerFlag } from '../flag.ts'
import { startProgress } from '../progress.ts'
import { PRICE_FILE, readPrices } from '../route/price.ts'
import { CLAIM_PROBES, CLAIMS, type Claim } from './catalogue.ts'
import { type JudgeInput, judgeClaim, type SavedResult } from './judge.ts'
import { readResults, runUndisturbed, saveResult } from './results.ts'
import { claimsMarkdown, claimsText, type JudgedClaim } from './text.ts'

type RunnableProbe = keyof typeof CLAIM_PROBES
const RUNNABLE = Object.keys(CLAIM_PROBES) as RunnableProbe[]
/** About what all probes take together, only for the progress bar, ms. */
const RUN_MS = 5 * 60_000
const GAIN_MAX_USD = 1e9

interface Options {
  readonly run: boolean
  readonly only?: readonly RunnableProbe[]
  readonly attempts: number
  readonly results?: string
  readonly prices: string
  readonly monthlyGain?: number
  readonly json: boolean
  readonly markdown: boolean
}

function probesFlag(text: string): RunnableProbe[] {
  const names = text.split(',')
  const unknown = names.find((name) => !(RUNNABLE as readonly string[]).includes(name))
  if (unknown !== undefined)
    throw new UserError('PROBE_UNKNOWN', `--only has '${unknown}'; the probes it runs are ${RUNNABLE.join(', ')}`)
  return names as RunnableProbe[]
}

function gainFlag(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || !(value >= 0 && value <= GAIN_MAX_USD))
    throw new UserError('FLAG_INVALID', `--monthly-gain is '${text}', not USD from 0 to ${GAIN_MAX_USD}`)
  return value
}

/** @param exit takes the exit code of the run */
export function addClaimsCommand(parent: Command, exit: (code: number) => void): void {
  parent
    .command('claims')
    .description('What is claimed of low-latency stacks, and what holds on this machine: claim by claim, with figures.')
    .option('--run', `run the probes that answer claims first (${RUNNABLE.join(', ')}; some minutes)`, false)
    .option('--only <probes>', 'with --run, only these', probesFlag)
    .option(
      '--attempts <n>',
      'with --run, runs of a probe at most until one is not contaminated',
      integerFlag('--attempts', 1, 10),
      3,
    )
    .option('--results <dir>', "judge the probes' JSON results in this folder; with --run, keep the new ones there")
    .option('--prices <file>', 'price file, USD a month', PRICE_FILE)
    .option('--monthly-gain <usd>', 'what a faster order earns you a month, for the pay-back time', gainFlag)
    .option('--json', 'print one JSON object, the last line of stdout', false)
    .option('--markdown', 'print a page', false)
    .addHelpText(
      'after',
      `
Examples:
  claims --run --results results/
  probe route --routes routes.json --json > results/route.json; claims --results results/`,
    )
    .action(async (options: Options) => exit(await run(options)))
}

async function run(options: Options): Promise<number> {
  const { results: folder, json, markdown, only } = options
  if (json && markdown) throw new UserError('FLAG_CONFLICT', '--json and --markdown exclude each other')
  if (only !== undefined && !options.run) throw new UserError('FLAG_CONFLICT', '--only chooses what --run runs')
  const note = (line: string) => process.stderr.write(`claims: ${line}\n`)
  const prices = readPrices(options.prices)
  const environment = collectEnvironment()
  // First: a folder that cannot be read must not cost the minutes of the runs.
  const saved = folder === undefined || (options.run && !existsSync(folder)) ? [] : readResults(folder, note)
  const failures = new Map<string, string>()
  const made = options.run ? await runProbes(only ?? RUNNABLE, options.attempts, folder, failures, note) : []
  const input: JudgeInput = {
    results: [...saved.filter(({ probe }) => !made.some((result) => result.probe === probe)), ...made],
    prices,
    numaNodes: environment.cpu.numaNodes,
    ...(options.monthlyGain === undefined ? {} : { monthlyGainUsd: options.monthlyGain }),
  }
  const claims = CLAIMS.map((claim) => judged(claim, input, failures))
  const text = json
    ? JSON.stringify({ claims, environment })
    : markdown
      ? claimsMarkdown(claims, machineOf(claims, environment))
      : claimsText(claims, process.stdout)
  process.stdout.write(`${text.trimEnd()}\n`)
  return EXIT.ok
}

/** Where the results are from: this machine in full, others by name. */
function machineOf(claims: readonly JudgedClaim[], environment: Environment): string {
  const others = new Set(
    claims.map(({ of }) => of?.host ?? environment.host).filter((host) => host !== environment.host),
  )
  // The load now is not the load of the measurements.
  return [
    environmentText({ ...environment, loadAverage: [] }),
    ...[...others].map((host) => `results of ${host}`),
  ].join('; ')
}

async function runProbes(
  probes: readonly RunnableProbe[],
  attempts: number,
  folder: string | undefined,
  failures: Map<string, string>,
  note: (line: string) => void,
): Promise<SavedResult[]> {
  const signal = stopSignal()
  const progress = startProgress('claims', RUN_MS)
  const made: SavedResult[] = []
  for (const [i, probe] of probes.entries()) {
    if (signal.aborted) break
    progress.show(i / probes.length)
    const { result, failure } = await runUndisturbed(probe, attempts, signal, note)
    if (failure !== undefined) {
      failures.set(probe, failure)
      note(`probe ${probe}: ${failure}`)
    }
    if (result === undefined) continue
    made.push(result)
    try {
      if (folder !== undefined) saveResult(folder, result)
    } catch (error) {
      // It is in the verdicts all the same, and so are those to come.
      note((error as Error).message)
    }
  }
  progress.end()
  return made
}

export function judged(claim: Claim, input: JudgeInput, failures: ReadonlyMap<string, string>): JudgedClaim {
  const judgement = judgeClaim(claim.id, input)
  const failure = claim.probe === null ? undefined : failures.get(claim.probe)
  const result = input.results.findLast(({ probe }) => probe === claim.probe)
  const { environment, startedAtMs, contaminated, attempts } = (result?.body ?? {}) as {
    environment?: { host?: unknown }
    startedAtMs?: unknown
    contaminated?: unknown
    attempts?: unknown
  }
  return {
    ...claim,
    ...judgement,
    ...(failure === undefined ? {} : { note: `probe ${claim.probe} failed: ${failure}` }),
    of:
      result === undefined
        ? null
        : {
            from: result.from,
            host: typeof environment?.host === 'string' ? environment.host : null,
            startedAtMs: typeof startedAtMs === 'number' ? startedAtMs : null,
            contaminated: contaminated === true,
            attempts: typeof attempts === 'number' ? attempts : 1,
          },
  }
}
