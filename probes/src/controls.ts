/**
 * Control samples: how the machine itself behaved before, during and after a run, measured without the venue, and the
 * verdict whether the run's figures can be trusted.
 *
 * A shared or virtual machine changes under a measurement: a vCPU is moved, a neighbour wakes up, the hypervisor takes
 * its share. Without a control such a change reads as the venue's. The limits below are wide on purpose: `contaminated`
 * means that somebody else's work is visible in these figures, not that the machine was less than perfect.
 *
 * Cost: a sample occupies the thread for about 150 ms; taken around a run, never inside it. During a run only the
 * kernel's counters are read, once a second, some 50 µs each.
 */
import { LatencyHistogram } from '@tickscope/contract'
import { nowNs } from './clock.ts'
import { sampleCoreToCore } from './core-to-core.ts'
import { type CpuTicks, parseCpuTicks, readText, stealRatio } from './environment.ts'

export interface ControlSample {
  readonly atMs: number
  /** Of one read of the probe's clock: best batch of ten, ns. */
  readonly clockCostNs: number
  /** Smallest step between two different readings of it, ns. */
  readonly clockStepNs: number
  /** Times at which a thread that did nothing but read the clock was held up. */
  readonly hiccups: {
    readonly observedMs: number
    /** Pauses longer than `HICCUP_NS`. */
    readonly count: number
    readonly p99Ns: number
    readonly maxNs: number
    /** Share of the observed time that went into them. */
    readonly heldRatio: number
  }
  /** p50 of a cache line's way to another core and back, ns; null on one core. */
  readonly coreToCoreNs: number | null
  /** Counters to take differences of; null where the kernel has none. */
  readonly cpuTicks: CpuTicks | null
  /** Time this thread was ready to run and did not, since its start, ns. */
  readonly runQueueWaitNs: number | null
}

/** The worst second of a run. */
export interface Between {
  /** Seconds looked at. */
  readonly samples: number
  /** Share of the machine's CPU time the hypervisor gave to others, in the second in which it gave most. */
  readonly worstStealRatio: number | null
  /** Share of a second this thread was ready and did not run, in the second in which it waited longest. */
  readonly worstRunQueueWaitRatio: number | null
}

export interface ControlReport {
  readonly before: ControlSample
  /** Null for a run too short for a look in between, and for one round of several. */
  readonly between: Between | null
  readonly after: ControlSample
  /** Share of the machine's CPU time the hypervisor gave to others during the run. */
  readonly stealRatio: number | null
  /** Share of the run this thread was ready and did not run. */
  readonly runQueueWaitRatio: number | null
  /** Why the figures of the run are not the venue's alone; empty when nothing says so. */
  readonly contaminatedBy: readonly string[]
}

/** A pause of a spinning thread longer than this is a hiccup, ns; a minor collection of V8 takes more. */
const HICCUP_NS = 10_000
const HICCUP_OBSERVATION_NS = 50_000_000
/** Observed first and thrown away, so that compiling these loops is not taken for the machine's doing, ns. */
const WARM_UP_NS = 5_000_000
const CLOCK_READS = 2_000
const CLOCK_BATCHES = 10

/** What a run may see before it is called contaminated. */
export const CONTROL_LIMITS = {
  /** The virtual machine of design.md lost 3 to 4 % on an ordinary day. */
  stealRatio: 0.1,
  runQueueWaitRatio: 0.05,
  heldRatio: 0.2,
  /** A clock read that became this many times dearer or cheaper: another clocksource, or another CPU. */
  clockCostFactor: 3,
  /** Threads that are not pinned meet on other cores each time, twice or four times as far; a core that both share is further. */
  coreToCoreFactor: 6,
  /** Of a single second: enough of them at once to be all of a p99. */
  worstSecondRatio: 0.5,
  /** Schedule slip at p99, ns: the probe itself was late. */
  slipP99Ns: 5_000_000,
} as const

export function sampleControls(): ControlSample {
  // First, so that the thread it makes is gone before the run begins.
  const coreToCoreNs = sampleCoreToCore()
  sampleClock()
  sampleHiccups(WARM_UP_NS)
  const { clockCostNs, clockStepNs } = sampleClock()
  return {
    atMs: Date.now(),
    clockCostNs,
    clockStepNs,
    hiccups: sampleHiccups(HICCUP_OBSERVATION_NS),
    coreToCoreNs,
    ...readCounters(),
  }
}

function readCounters(): Pick<ControlSample, 'cpuTicks' | 'runQueueWaitNs'> {
  return {
    cpuTicks: parseCpuTicks(readText('/proc/stat')),
    runQueueWaitNs: parseRunQueueWaitNs(readText('/proc/thread-self/schedstat')),
  }
}

const WATCH_MS = 1_000

/** Looks at the kernel's counters once a second until it is stopped. */
export function watchControls(): { stop(): Between | null } {
  let samples = 0
  let worstStealRatio: number | null = null
  let worstRunQueueWaitRatio: number | null = null
  let last = { atNs: nowNs(), ...readCounters() }
  const timer = setInterval(() => {
    const now = { atNs: nowNs(), ...readCounters() }
    samples++
    worstStealRatio = worst(worstStealRatio, stealRatio(now.cpuTicks, last.cpuTicks))
    worstRunQueueWaitRatio = worst(worstRunQueueWaitRatio, waitRatio(last, now, now.atNs - last.atNs))
    last = now
  }, WATCH_MS)
  timer.unref()
  return {
    stop() {
      clearInterval(timer)
      return samples === 0 ? null : { samples, worstStealRatio, worstRunQueueWaitRatio }
    },
  }
}

function worst(known: number | null, found: number | null): number | null {
  return known === null || found === null ? (known ?? found) : Math.max(known, found)
}

type Waited = Pick<ControlSample, 'runQueueWaitNs'>

function waitRatio(before: Waited, after: Waited, durationNs: number): number | null {
  if (before.runQueueWaitNs === null || after.runQueueWaitNs === null || durationNs <= 0) return null
  return Math.round(((after.runQueueWaitNs - before.runQueueWaitNs) / durationNs) * 1e4) / 1e4
}

/** @param durationNs from the end of the first sample to the end of the second, which is what the counters are of */
export function judgeControls(
  before: ControlSample,
  after: ControlSample,
  durationNs: number,
  { slip, between = null }: { readonly slip?: LatencyHistogram; readonly between?: Between | null } = {},
): ControlReport {
  const steal = stealRatio(after.cpuTicks, before.cpuTicks)
  const runQueueWait = waitRatio(before, after, durationNs)
  const percent = (ratio: number) => `${(ratio * 100).toFixed(1)} %`
  const reasons: string[] = []
  if (steal !== null && steal > CONTROL_LIMITS.stealRatio)
    reasons.push(`the hypervisor gave ${percent(steal)} of the CPU time to others`)
  if (runQueueWait !== null && runQueueWait > CONTROL_LIMITS.runQueueWaitRatio)
    reasons.push(`the probe's thread waited ${percent(runQueueWait)} of the run for a CPU`)
  if ((between?.worstStealRatio ?? 0) > CONTROL_LIMITS.worstSecondRatio)
    reasons.push(
      `in one second the hypervisor gave ${percent(between?.worstStealRatio ?? 0)} of the CPU time to others`,
    )
  if ((between?.worstRunQueueWaitRatio ?? 0) > CONTROL_LIMITS.worstSecondRatio)
    reasons.push(
      `in one second the probe's thread waited ${percent(between?.worstRunQueueWaitRatio ?? 0)} of it for a CPU`,
    )
  for (const [when, { hiccups }] of [
    ['before', before],
    ['after', after],
  ] as const) {
    if (hiccups.heldRatio > CONTROL_LIMITS.heldRatio)
      reasons.push(`a spinning thread was held up ${percent(hiccups.heldRatio)} of the time ${when} the run`)
  }
  if (factorOf(before.clockCostNs, after.clockCostNs) > CONTROL_LIMITS.clockCostFactor)
    reasons.push(`a clock read cost ${before.clockCostNs} ns before the run and ${after.clockCostNs} ns after it`)
  if (
    before.coreToCoreNs !== null &&
    after.coreToCoreNs !== null &&
    factorOf(before.coreToCoreNs, after.coreToCoreNs) > CONTROL_LIMITS.coreToCoreFactor
  )
    reasons.push(
      `a cache line took ${before.coreToCoreNs} ns to another core and back before the run and ${after.coreToCoreNs} ns after it`,
    )
  const slipP99Ns = slip?.quantileNs(0.99) ?? 0
  if (slipP99Ns > CONTROL_LIMITS.slipP99Ns)
    reasons.push(`the probe itself was ${(slipP99Ns / 1e6).toFixed(1)} ms late at p99`)
  return { before, between, after, stealRatio: steal, runQueueWaitRatio: runQueueWait, contaminatedBy: reasons }
}

function factorOf(a: number, b: number): number {
  return Math.max(a, b) / Math.max(1, Math.min(a, b))
}

/** Reasons of a run judged round by round: of each kind the worst, and how many rounds had it. */
export function worstReasons(reports: readonly ControlReport[]): string[] {
  const kinds = new Map<string, { text: string; value: number; rounds: Set<number> }>()
  for (const [round, { contaminatedBy }] of reports.entries()) {
    for (const reason of contaminatedBy) {
      const text = reason.replace(/ (?:before|after) the run$/, '')
      const kind = text.replace(/\d[\d.]*/g, '#')
      // Of one figure the largest is the worst, of a before and an after the pair furthest apart. `p99` is no figure.
      const figures = (text.match(/(?<![a-z\d.])\d[\d.]*/g) ?? ['0']).map(Number)
      const value =
        figures.length > 1 ? Math.max(...figures) / Math.max(1, Math.min(...figures)) : (figures[0] as number)
      const known = kinds.get(kind) ?? { text, value, rounds: new Set() }
      kinds.set(kind, { ...(value > known.value ? { text, value } : known), rounds: known.rounds.add(round) })
    }
  }
  return [...kinds.values()].map(({ text, rounds }) =>
    reports.length > 1 ? `${text}, at worst; in ${rounds.size} of ${reports.length} rounds` : text,
  )
}

function sampleClock(): { clockCostNs: number; clockStepNs: number } {
  let bestNs = Number.POSITIVE_INFINITY
  let stepNs = Number.POSITIVE_INFINITY
  for (let batch = 0; batch < CLOCK_BATCHES; batch++) {
    const startedAtNs = nowNs()
    let previousNs = startedAtNs
    for (let read = 0; read < CLOCK_READS; read++) {
      const readNs = nowNs()
      if (readNs > previousNs && readNs - previousNs < stepNs) stepNs = readNs - previousNs
      previousNs = readNs
    }
    bestNs = Math.min(bestNs, (previousNs - startedAtNs) / CLOCK_READS)
  }
  return { clockCostNs: Math.round(bestNs), clockStepNs: stepNs }
}

function sampleHiccups(observationNs: number): ControlSample['hiccups'] {
  const pauses = new LatencyHistogram()
  const startedAtNs = nowNs()
  let previousNs = startedAtNs
  while (previousNs - startedAtNs < observationNs) {
    const readNs = nowNs()
    if (readNs - previousNs > HICCUP_NS) pauses.record(readNs - previousNs)
    previousNs = readNs
  }
  const observedNs = previousNs - startedAtNs
  return {
    observedMs: Math.round(observedNs / 1e6),
    count: pauses.count,
    p99Ns: pauses.quantileNs(0.99),
    maxNs: pauses.maxNs,
    heldRatio: Math.round((pauses.sumNs / observedNs) * 1e4) / 1e4,
  }
}

/** /proc/thread-self/schedstat: ns on a CPU, ns waiting for one, slices. */
function parseRunQueueWaitNs(text: string | null): number | null {
  const value = Number(text?.split(' ')[1] ?? Number.NaN)
  return Number.isFinite(value) ? value : null
}
