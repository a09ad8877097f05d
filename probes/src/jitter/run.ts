/** One run of the jitter probe: every core by itself, then the scenarios in interleaved rounds, then what they say. */
import { setTimeout as delay } from 'node:timers/promises'
import { type LatencySummary, summarize } from '@tickscope/contract'
import { nowNs } from '../clock.ts'
import { collectEnvironment, type Environment, parseCpuTicks, readText, stealRatio } from '../environment.ts'
import { fromNative, type NativeHistogram, nativeProgram, runNative } from '../native.ts'
import { type Footgun, measuredFootguns, SEEN_ELSEWHERE, threadsOnOneCore, throttleFootgun } from './footguns.ts'
import { type CorePlan, parseCpuList, planCores } from './planner.ts'
import {
  compareWakes,
  judgePinning,
  type PinningVerdict,
  type WakeComparison,
  type WakeRow,
  WakeTally,
} from './rows.ts'
import { measureWake, roundMs, type Scenario, scenariosOf, type WakeLine } from './scenario.ts'

export interface JitterOptions {
  readonly rounds: number
  readonly count: number
  readonly intervalUs: number
  readonly taskUs: number
  /** Core the waiting thread is pinned to; the planner's when left out. */
  readonly quietCpu?: number
  readonly noisyCpu?: number
  readonly scenarios?: readonly string[]
  /** Look at the threads of this process too. */
  readonly pid?: number
  readonly botCores: number
  readonly device?: string
  readonly signal: AbortSignal
  readonly progress: (ratio: number) => void
  readonly report?: (scenario: Scenario, line: WakeLine) => Promise<void>
}

/** One core by itself. */
export interface CoreRow {
  readonly cpu: number
  readonly wake: LatencySummary | null
  readonly voluntarySwitches: number
  readonly involuntarySwitches: number
  readonly runQueueWaitPerWakeNs: number | null
  /** Gaps of a loop that only reads the clock. */
  readonly hiccups: LatencySummary | null
  /** Share of that loop's time that went into them. */
  readonly stolenRatio: number | null
  readonly reason: string
}

export interface JitterResult {
  readonly probe: 'jitter'
  readonly target: string
  readonly durationMs: number
  readonly boundary: 'timer→user'
  readonly clock: 'CLOCK_MONOTONIC'
  /** Of the headline: a thread as it is started, not pinned, on the machine as it is. */
  readonly headline: string
  readonly sent: number
  readonly lost: 0
  readonly response: LatencySummary | null
  readonly service: LatencySummary | null
  /** How late each wake was: what this probe measures is the slip itself. */
  readonly slip: LatencySummary | null
  readonly phases: { readonly wake: LatencySummary | null }
  readonly rounds: number
  readonly rows: readonly WakeRow[]
  readonly cores: readonly CoreRow[]
  readonly comparisons: readonly WakeComparison[]
  readonly pinning: readonly PinningVerdict[]
  readonly footguns: readonly Footgun[]
  readonly seenElsewhere: typeof SEEN_ELSEWHERE
  readonly plan: CorePlan
  readonly controls: readonly { readonly cpu: number; readonly stolenRatio: number; readonly maxNs: number }[]
  readonly contaminated: boolean
  readonly contaminatedBy: readonly string[]
  readonly environment: Environment
}

/** As `jitter hiccups` prints it. */
interface HiccupLine {
  readonly kind: 'hiccups'
  readonly durationNs: number
  readonly stolenNs: number
  readonly gaps: NativeHistogram
}

/** Cores looked at one by one; a large machine has more than a run has time for. */
const CORES_MAX = 16
const CORE_WAKES = 1_000
const HICCUPS_MS = 200
const CONTROL_MS = 50
const TIMEOUT_MS = 20_000
/** A neighbour that was killed is gone from its core within this, ms. */
const SETTLE_MS = 20
/** Beyond these somebody else's work is visible, as in the ladder of bypass. */
const STOLEN_LIMIT = 0.2
const STEAL_LIMIT = 0.1
/** The FIFO thread spins for this many periods of the kernel's limit, bounded. */
const THROTTLE_PERIODS = 1.3
const THROTTLE_MS_MAX = 2_000

export const HEADLINE = 'quiet_unpinned'

export function coresOf(options: Pick<JitterOptions, 'quietCpu' | 'noisyCpu'>, plan: CorePlan) {
  const allowed = parseCpuList(collectEnvironment().limits.allowedCpus)
  const quiet = options.quietCpu ?? plan.bot.cpus[0] ?? allowed.at(-1) ?? 0
  const noisy = options.noisyCpu ?? allowed.find((cpu) => cpu !== quiet) ?? quiet
  const isolated = plan.isolation.isolatedCpus.filter((cpu) => allowed.includes(cpu))
  return { allowed, cores: { quiet, noisy, isolated, count: Math.max(1, allowed.length) } }
}

export async function runJitter(options: JitterOptions): Promise<JitterResult> {
  const { rounds, signal, progress, report } = options
  const startedAtNs = nowNs()
  const program = await nativeProgram('jitter')
  const environment = collectEnvironment()
  const plan = planCores({ botCores: options.botCores, device: options.device })
  const { allowed, cores } = coresOf(options, plan)
  const { scenarios: wanted } = options
  const scenarios = scenariosOf(cores).filter(({ name }) => wanted === undefined || wanted.includes(name))
  const tallies = scenarios.map((scenario) => new WakeTally(scenario))
  const runnable = tallies.filter(({ scenario }) => scenario.skipped === undefined)
  const settings = { program, count: options.count, intervalUs: options.intervalUs, taskUs: options.taskUs, signal }

  const ticksBefore = parseCpuTicks(readText('/proc/stat'))
  const controls: JitterResult['controls'][number][] = []
  const control = async () => {
    const line = await hiccups(program, cores.quiet, CONTROL_MS, signal)
    if (line === undefined) return
    const stolenRatio = Math.round((line.stolenNs / line.durationNs) * 1e4) / 1e4
    controls.push({ cpu: cores.quiet, stolenRatio, maxNs: fromNative(line.gaps).maxNs })
  }
  const coreRows: CoreRow[] = []
  if (wanted === undefined)
    for (const cpu of allowed.slice(0, CORES_MAX)) if (!signal.aborted) coreRows.push(await core(program, cpu, signal))
  const totalMs = Math.max(1, rounds * runnable.reduce((sum, { scenario }) => sum + roundMs(scenario, settings), 0))
  let doneMs = 0
  await control()
  for (let round = 0; round < rounds && !signal.aborted; round++) {
    // Each round starts with another row, so that none always follows the same one.
    for (let i = 0; i < runnable.length && !signal.aborted; i++) {
      const tally = runnable[(i + round) % runnable.length] as WakeTally
      const line = await measureWake(tally.scenario, settings)
      if ('reason' in line) {
        if (!signal.aborted) tally.missing('unsupported', line.reason)
      } else {
        tally.add(round, line)
        await report?.(tally.scenario, line)
      }
      doneMs += roundMs(tally.scenario, settings)
      progress(doneMs / totalMs)
      if (tally.scenario.hogs.length > 0) await delay(SETTLE_MS)
    }
    await control()
  }
  const throttle = wanted === undefined || wanted.includes('quiet_fifo')
  const footguns = throttle && !signal.aborted ? [await throttleOf(program, cores.quiet, signal)] : []

  const rows = tallies.map((tally) => tally.row())
  const comparisons = compareWakes(rows)
  const contaminatedBy = judge(controls, stealRatio(parseCpuTicks(readText('/proc/stat')), ticksBefore))
  const headline = rows.find(({ name }) => name === HEADLINE) ?? rows[0]
  return {
    probe: 'jitter',
    target: environment.host,
    durationMs: Math.round((nowNs() - startedAtNs) / 1e6),
    boundary: 'timer→user',
    clock: 'CLOCK_MONOTONIC',
    headline: headline?.name ?? HEADLINE,
    sent: headline?.count ?? 0,
    lost: 0,
    response: headline?.response ?? null,
    service: headline?.service ?? null,
    slip: headline?.wake ?? null,
    phases: { wake: headline?.wake ?? null },
    rounds,
    rows,
    cores: coreRows,
    comparisons,
    pinning: judgePinning(comparisons),
    footguns: [
      ...footguns,
      ...measuredFootguns(rows, comparisons, environment),
      ...(options.pid === undefined ? [] : [threadsOnOneCore(options.pid)]),
    ],
    seenElsewhere: SEEN_ELSEWHERE,
    plan,
    controls,
    contaminated: contaminatedBy.length > 0,
    contaminatedBy,
    environment,
  }
}

function judge(controls: JitterResult['controls'], steal: number | null): string[] {
  const percent = (ratio: number) => `${(ratio * 100).toFixed(1)} %`
  const worst = Math.max(0, ...controls.map(({ stolenRatio }) => stolenRatio))
  return [
    ...(worst > STOLEN_LIMIT ? [`between the rounds a spinning thread was held up ${percent(worst)} of the time`] : []),
    ...(steal !== null && steal > STEAL_LIMIT
      ? [`the hypervisor gave ${percent(steal)} of the CPU time to others`]
      : []),
  ]
}

async function hiccups(
  program: string,
  cpu: number,
  forMs: number,
  signal: AbortSignal,
): Promise<HiccupLine | undefined> {
  let line: HiccupLine | undefined
  await runNative({
    program,
    args: ['hiccups', '--cpu', `${cpu}`, '--for-ms', `${forMs}`],
    timeoutMs: TIMEOUT_MS,
    signal,
    onLine: (printed: HiccupLine) => {
      line = printed
    },
  })
  return line
}

async function core(program: string, cpu: number, signal: AbortSignal): Promise<CoreRow> {
  let line: WakeLine | undefined
  const end = await runNative({
    program,
    args: ['wake', '--cpu', `${cpu}`, '--count', `${CORE_WAKES}`, '--task-us', '0'],
    timeoutMs: TIMEOUT_MS,
    signal,
    onLine: (printed: WakeLine) => {
      line = printed
    },
  })
  const gaps = await hiccups(program, cpu, HICCUPS_MS, signal)
  return {
    cpu,
    wake: line === undefined ? null : summarize(fromNative(line.wake)),
    voluntarySwitches: line?.voluntarySwitches ?? 0,
    involuntarySwitches: line?.involuntarySwitches ?? 0,
    runQueueWaitPerWakeNs:
      line === undefined || line.runQueueWaitNs < 0 ? null : Math.round(line.runQueueWaitNs / line.count),
    hiccups: gaps === undefined ? null : summarize(fromNative(gaps.gaps)),
    stolenRatio: gaps === undefined ? null : Math.round((gaps.stolenNs / gaps.durationNs) * 1e4) / 1e4,
    reason: line === undefined ? end.said : '',
  }
}

/** A FIFO thread that spins a little longer than the kernel lets it. */
async function throttleOf(program: string, cpu: number, signal: AbortSignal): Promise<Footgun> {
  const limit = (name: string) => {
    const text = readText(`/proc/sys/kernel/${name}`)
    return text === null ? null : Number(text)
  }
  const periodUs = limit('sched_rt_period_us')
  const runtimeUs = limit('sched_rt_runtime_us')
  const forMs = Math.min(THROTTLE_MS_MAX, ((periodUs ?? 1e6) / 1000) * THROTTLE_PERIODS)
  const intervalUs = 200
  const spinning = {
    name: 'fifo_spinning',
    requestedMode: '',
    runtime: 'C',
    cpu,
    policy: 'fifo',
    spin: true,
    slackNs: 0,
    hogs: [],
  } as const
  const line =
    runtimeUs === null || runtimeUs < 0
      ? undefined
      : await measureWake(spinning, { program, count: (forMs * 1000) / intervalUs, intervalUs, taskUs: 0, signal })
  const longestWakeNs = line === undefined || 'reason' in line ? null : fromNative(line.wake).maxNs
  return throttleFootgun({ longestWakeNs, runtimeUs, periodUs })
}
