/**
 * Control samples of the ladder, from C and on the cores it uses: what the machine did to a thread that did nothing.
 *
 * Taken before, between and after the rounds. On a virtual machine a vCPU moves to another core in the middle of a run
 * and every figure halves or doubles: the core-to-core round trip moves with it, and the run is marked. So is each round
 * whose own two samples differ; that is there to be read, no round is left out of a comparison for it.
 */
import { type CpuTicks, parseCpuTicks, readText, stealRatio } from '../environment.ts'
import { type NativeHistogram, nativeQuantileNs, runNative } from '../native.ts'

/** `bypass controls`. */
interface ControlLine {
  readonly kind: 'controls'
  readonly clockReadNs: number
  readonly clockStepNs: number
  readonly recordNs: number
  readonly coreToCore: NativeHistogram
  readonly hiccups: readonly {
    readonly cpu: number
    readonly durationNs: number
    readonly stolenNs: number
    readonly gaps: NativeHistogram
  }[]
}

export interface LadderControl {
  readonly clockReadNs: number
  readonly clockStepNs: number
  readonly recordNs: number
  /** p50 of a cache line there and back between the two cores; null on one core. */
  readonly coreToCoreP50Ns: number | null
  /** Share of the time each core was taken away from a spinning thread, and its longest absence. */
  readonly hiccups: readonly {
    readonly cpu: number
    readonly stolenRatio: number
    readonly p99Ns: number
    readonly maxNs: number
  }[]
}

/** Beyond these somebody else's work is visible in the figures. */
export const LADDER_LIMITS = { clockFactor: 3, coreToCoreFactor: 2, stolenRatio: 0.2, stealRatio: 0.1 } as const

const TIMEOUT_MS = 10_000

/** @returns undefined when the sample was not there in time: then nobody knows what the machine did */
export async function sampleLadderControl(
  program: string,
  cpus: readonly string[],
  timeoutMs = TIMEOUT_MS,
): Promise<LadderControl | undefined> {
  let sample: LadderControl | undefined
  await runNative({
    program,
    args: ['controls', ...cpus],
    timeoutMs,
    onLine: ({ clockReadNs, clockStepNs, recordNs, coreToCore, hiccups }: ControlLine) => {
      sample = {
        clockReadNs,
        clockStepNs,
        recordNs,
        coreToCoreP50Ns: coreToCore.count > 0 ? nativeQuantileNs(coreToCore, 0.5) : null,
        hiccups: hiccups.map(({ cpu, durationNs, stolenNs, gaps }) => ({
          cpu,
          stolenRatio: Math.round((stolenNs / durationNs) * 1e4) / 1e4,
          p99Ns: nativeQuantileNs(gaps, 0.99),
          maxNs: nativeQuantileNs(gaps, 1),
        })),
      }
    },
  })
  return sample
}

/** @returns why the figures are not the paths' alone; empty when nothing says so */
export function judgeLadderControls(samples: readonly LadderControl[], stealRatio: number | null): string[] {
  const reasons: string[] = []
  const factor = (values: readonly number[]) =>
    values.length > 0 ? Math.max(...values) / Math.max(1, Math.min(...values)) : 1
  const coreToCore = samples.flatMap(({ coreToCoreP50Ns }) => (coreToCoreP50Ns === null ? [] : [coreToCoreP50Ns]))
  if (factor(coreToCore) > LADDER_LIMITS.coreToCoreFactor)
    reasons.push(
      `the core-to-core round trip moved between ${Math.min(...coreToCore)} and ${Math.max(...coreToCore)} ns: the virtual CPUs changed places`,
    )
  const clock = samples.map(({ clockReadNs }) => clockReadNs)
  if (factor(clock) > LADDER_LIMITS.clockFactor)
    reasons.push(`a clock read cost between ${Math.min(...clock)} and ${Math.max(...clock)} ns`)
  const worst = Math.max(0, ...samples.flatMap(({ hiccups }) => hiccups.map(({ stolenRatio }) => stolenRatio)))
  if (worst > LADDER_LIMITS.stolenRatio)
    reasons.push(`a spinning thread was held up ${(worst * 100).toFixed(1)} % of the time`)
  if (stealRatio !== null && stealRatio > LADDER_LIMITS.stealRatio)
    reasons.push(`the hypervisor gave ${(stealRatio * 100).toFixed(1)} % of the CPU time to others`)
  return reasons
}

const MISSING = 'a control sample is missing: nobody knows what the machine did'

/** The controls of one run. A run with a round that was marked is marked, and so is one that only moved between rounds. */
export class RunControls {
  readonly samples: LadderControl[] = []
  /** Why the figures of each round are not the paths' alone, in order of rounds; empty for a round whose controls held. */
  readonly rounds: string[][] = []
  readonly #sample: (timeoutMs?: number) => Promise<LadderControl | undefined>
  readonly #readTicks: () => CpuTicks | null
  #before: LadderControl | undefined
  #missing = false
  #ticks: CpuTicks | null
  readonly #firstTicks: CpuTicks | null
  #highestSteal: number | null = null

  /** @param sample takes one; undefined when it could not */
  constructor(
    sample: (timeoutMs?: number) => Promise<LadderControl | undefined>,
    readTicks = () => parseCpuTicks(readText('/proc/stat')),
  ) {
    this.#sample = sample
    this.#readTicks = readTicks
    this.#ticks = readTicks()
    this.#firstTicks = this.#ticks
  }

  /** Before the first round. */
  async start(): Promise<void> {
    this.#before = await this.#take()
  }

  /** After a round: its end is the start of the next. */
  async endRound(timeoutMs?: number): Promise<void> {
    const before = this.#before
    const after = await this.#take(timeoutMs)
    const ticks = this.#readTicks()
    const steal = stealRatio(ticks, this.#ticks)
    const samples = [before, after].filter((sample) => sample !== undefined)
    this.rounds.push([...judgeLadderControls(samples, steal), ...(samples.length < 2 ? [MISSING] : [])])
    this.#before = after
    this.#ticks = ticks
    this.#keepSteal(steal)
  }

  /** @returns why the figures of the run are not the paths' alone */
  judge(): string[] {
    this.#keepSteal(stealRatio(this.#readTicks(), this.#firstTicks))
    return [...judgeLadderControls(this.samples, this.#highestSteal), ...(this.#missing ? [MISSING] : [])]
  }

  #keepSteal(ratio: number | null): void {
    if (ratio !== null && ratio > (this.#highestSteal ?? 0)) this.#highestSteal = ratio
  }

  async #take(timeoutMs?: number): Promise<LadderControl | undefined> {
    const sample = await this.#sample(timeoutMs)
    if (sample === undefined) this.#missing = true
    else this.samples.push(sample)
    return sample
  }
}
