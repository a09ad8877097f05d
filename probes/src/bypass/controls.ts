/**
 * Control samples of the ladder, from C and on the cores it uses: what the machine did to a thread that did nothing.
 *
 * Taken before, between and after the rounds. On a virtual machine a vCPU moves to another core in the middle of a run
 * and every figure halves or doubles: the core-to-core round trip moves with it, and the run is marked.
 */
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

export async function sampleLadderControl(
  program: string,
  cpus: readonly string[],
): Promise<LadderControl | undefined> {
  let sample: LadderControl | undefined
  await runNative({
    program,
    args: ['controls', ...cpus],
    timeoutMs: TIMEOUT_MS,
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
