/**
 * Times and heap of operations that take nanoseconds to milliseconds, in one process.
 *
 * Sides take turns: each round runs a batch of every side, in an order shuffled anew. A batch lasts long enough
 * (`batchMs`) that the clock's step of 40 ns is nothing, and is shorter than a slice of the scheduler, so that on a busy
 * machine most batches still run undisturbed; it gives one figure, its mean. What is reported of a side is the
 * median over rounds, its 99 % interval by bootstrap, and the 10 % and 90 % quantiles as spread: a busy neighbour moves
 * some rounds, not the median. Two controls ride along: one operation twice over must take twice as long, and the same
 * operation beside itself must not look different.
 *
 * The harness adds one call through a closure to each operation; the row `empty` says what that costs.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { createRandom } from './message.ts'

export interface Operation {
  /** Runs that many operations, always from the start of its messages. @returns anything that depends on all of them */
  run(operations: number): number
}

/** An operation applied to messages in turn. @param restart called before the first message of each turn */
export function over<T>(messages: readonly T[], apply: (message: T) => number, restart = () => {}): Operation {
  return {
    run(operations) {
      let sum = 0
      for (let done = 0; done < operations; ) {
        restart()
        const end = Math.min(messages.length, operations - done)
        for (let index = 0; index < end; index++) sum += apply(messages[index] as T)
        done += end
      }
      return sum
    },
  }
}

export interface Timing {
  /** Of the rounds' means, ns an operation. */
  readonly median: number
  /** 99 % interval of that median. */
  readonly low: number
  readonly high: number
  /** 10 % and 90 % quantiles of the rounds. */
  readonly p10: number
  readonly p90: number
}

export interface MeasureOptions {
  readonly rounds: number
  readonly seed: number
  /** Shortest batch, ms. */
  readonly batchMs?: number
  /** Spent on each side in each pass of the warm-up, ms. */
  readonly warmUpMs?: number
  /** ms; another clock in tests. */
  readonly now?: () => number
  /** Called between rounds, where a probe can show progress and be stopped. */
  readonly between?: (doneRatio: number) => Promise<boolean> | boolean
}

const DEFAULTS = { batchMs: 0.5, warmUpMs: 15 } as const

/** What a side compiles to depends on what the others have made of the code they share: all go round until it settles. */
const WARM_UP_PASSES = 3
/** Operations of a warm-up at least, however slow they are: V8 compiles what ran a few hundred times. */
const WARM_UP_OPERATIONS_MIN = 3
const SIZING_RUNS = 5
/** Batches grow at most this far, operations. */
const BATCH_OPERATIONS_MAX = 2 ** 24

/** Rests the sums of all operations, so that none is dead code. */
let sink = 0

/** @returns for each side its figure of each round, ns an operation; fewer rounds than asked when it was stopped */
export async function measureRounds(sides: readonly Operation[], options: MeasureOptions): Promise<number[][]> {
  const {
    rounds,
    seed,
    batchMs,
    warmUpMs,
    between = () => true,
    now = () => performance.now(),
  } = {
    ...DEFAULTS,
    ...options,
  }
  const random = createRandom(seed)
  const warmed = sides.map(() => WARM_UP_OPERATIONS_MIN)
  for (let pass = 0; pass < WARM_UP_PASSES; pass++)
    for (const [index, side] of sides.entries())
      warmed[index] = warmUp(side, warmed[index] as number, warmUpMs, batchMs, now)
  const batches = sides.map((side, index) => sizeBatch(side, warmed[index] as number, batchMs, now))
  const figures: number[][] = sides.map(() => [])
  const order = sides.map((_, index) => index)
  for (let round = 0; round < rounds; round++) {
    if (!(await between(round / rounds))) break
    shuffle(order, random)
    for (const index of order) {
      const side = sides[index] as Operation
      const operations = batches[index] as number
      figures[index]?.push((timeMs(side, operations, now) * 1e6) / operations)
    }
  }
  if (Number.isNaN(sink)) throw new Error('an operation returned no number')
  return figures
}

/** @param operations to begin with @returns how many took about half a batch at the end */
function warmUp(side: Operation, operations: number, warmUpMs: number, batchMs: number, now: () => number): number {
  let count = operations
  for (let spentMs = 0; spentMs < warmUpMs; ) {
    const elapsedMs = timeMs(side, count, now)
    spentMs += elapsedMs
    if (elapsedMs < batchMs / 2 && count < BATCH_OPERATIONS_MAX) count *= 2
  }
  return count
}

/** @returns how many operations fill a batch */
function sizeBatch(side: Operation, operations: number, batchMs: number, now: () => number): number {
  // The fastest of a few: one that was held up would make every batch too short.
  const elapsedMs = Math.min(...Array.from({ length: SIZING_RUNS }, () => timeMs(side, operations, now)))
  const needed = elapsedMs > 0 ? Math.ceil((operations * batchMs) / elapsedMs) : BATCH_OPERATIONS_MAX
  return Math.max(1, Math.min(BATCH_OPERATIONS_MAX, needed))
}

function timeMs(side: Operation, operations: number, now: () => number): number {
  const startedAtMs = now()
  sink += side.run(operations)
  return now() - startedAtMs
}

function shuffle(items: number[], random: () => number): void {
  for (let last = items.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1))
    const item = items[last] as number
    items[last] = items[other] as number
    items[other] = item
  }
}

const RESAMPLES = 2_000

/** @param figures one a round; NaN throughout when there is none */
export function timingOf(figures: readonly number[], seed: number): Timing {
  const sorted = [...figures].sort(ascending)
  if (sorted.length === 0)
    return { median: Number.NaN, low: Number.NaN, high: Number.NaN, p10: Number.NaN, p90: Number.NaN }
  const random = createRandom(seed)
  const resample = new Float64Array(sorted.length)
  const medians = new Float64Array(RESAMPLES)
  for (let draw = 0; draw < RESAMPLES; draw++) {
    for (let index = 0; index < resample.length; index++)
      resample[index] = sorted[Math.floor(random() * sorted.length)] as number
    medians[draw] = quantile(resample.sort(), 0.5)
  }
  medians.sort()
  return {
    median: quantile(sorted, 0.5),
    low: quantile(medians, 0.005),
    high: quantile(medians, 0.995),
    p10: quantile(sorted, 0.1),
    p90: quantile(sorted, 0.9),
  }
}

const ascending = (a: number, b: number) => a - b

/** Between neighbours in proportion. @param sorted not empty */
export function quantile(sorted: ArrayLike<number>, ratio: number): number {
  const place = (sorted.length - 1) * ratio
  const below = Math.floor(place)
  const low = sorted[below] as number
  const high = sorted[Math.ceil(place)] as number
  return low + (high - low) * (place - below)
}

/** How long one side takes against another: the median of the rounds' ratios and its 99 % interval. */
export interface Ratio {
  readonly ratio: number
  readonly low: number
  readonly high: number
}

/** @param from,to figures of the same rounds */
export function ratioOf(from: readonly number[], to: readonly number[], seed: number): Ratio {
  const { median, low, high } = timingOf(
    to.map((value, round) => value / (from[round] as number)),
    seed,
  )
  return { ratio: median, low, high }
}

/** What the harness says of operations whose truth is known. */
export interface PositiveControl {
  /** An operation done twice against once: 2. */
  readonly twice: Ratio
  /** An operation against itself: 1. */
  readonly same: Ratio
  /** Why the harness cannot be believed; empty when it can. */
  readonly failures: readonly string[]
}

/** Farthest the controls may be from the truth. */
const TWICE_TOLERANCE = 0.15
const SAME_TOLERANCE = 0.1

const CONTROL_BYTES = 300

/** Sides of the positive control: once, once more, twice. */
export function controlSides(): readonly [Operation, Operation, Operation] {
  const bytes = Uint8Array.from({ length: CONTROL_BYTES }, (_, index) => index)
  const sum = (times: number) => {
    let total = 0
    for (let time = 0; time < times; time++) {
      for (let index = 0; index < bytes.length; index++) total = (total + (bytes[index] as number)) | 0
      // Otherwise the second time could be folded into the first.
      bytes[0] = total & 0xff
    }
    return total
  }
  const side = (times: number) => over([times], sum)
  return [side(1), side(1), side(2)]
}

export function judgeControl(
  once: readonly number[],
  again: readonly number[],
  doubled: readonly number[],
): PositiveControl {
  const twice = ratioOf(once, doubled, 1)
  const same = ratioOf(once, again, 2)
  const failures: string[] = []
  if (!(Math.abs(twice.ratio / 2 - 1) <= TWICE_TOLERANCE))
    failures.push(`an operation done twice took ${twice.ratio.toFixed(2)} times as long as once`)
  if (!(Math.abs(same.ratio - 1) <= SAME_TOLERANCE))
    failures.push(`an operation differed from itself by ${((same.ratio - 1) * 100).toFixed(0)} %`)
  return { twice, same, failures }
}

/**
 * Bytes of V8's heap that operations take, by the difference of the used heap around some hundred of them. Memory outside
 * that heap (contents of buffers, OpenSSL's own) is not in it.
 *
 * @returns undefined where garbage cannot be collected on demand
 */
export function createAllocationMeter(): ((side: Operation) => number | null) | undefined {
  const collectGarbage = globalThis.gc ?? exposeGc()
  if (collectGarbage === undefined) return undefined
  collectGarbage()
  // The young generation is where all of it goes; collecting the rest each time would take seconds beside a big heap.
  const collect = () => collectGarbage({ type: 'minor' })
  const grownBy = (side: Operation, operations: number) => {
    collect()
    const before = process.memoryUsage().heapUsed
    sink += side.run(operations)
    return process.memoryUsage().heapUsed - before
  }
  return (side) => {
    const samples: number[] = []
    for (let sample = 0; sample < ALLOCATION_SAMPLES; sample++) {
      // A pair of counts cancels what the reading itself takes.
      const one = grownBy(side, 1)
      const few = one > 0 ? Math.floor(ALLOCATION_BYTES_MAX / one) : ALLOCATION_OPERATIONS_MAX
      const operations = Math.max(2, Math.min(ALLOCATION_OPERATIONS_MAX, few))
      const all = grownBy(side, operations)
      // The young generation is collected about every megabyte: then nothing can be said.
      if (one >= 0 && all >= one && all < 2 * ALLOCATION_BYTES_MAX) samples.push((all - one) / (operations - 1))
    }
    if (samples.length < ALLOCATION_SAMPLES / 2) return null
    return Math.max(0, Math.round(quantile(samples.sort(ascending), 0.5)))
  }
}

const ALLOCATION_SAMPLES = 9
const ALLOCATION_OPERATIONS_MAX = 512
/** Grown by a sample at most: a quarter of what starts a collection. */
const ALLOCATION_BYTES_MAX = 256 * 1024

/** Node exposes the collector only when asked at its start; V8 also later, to contexts made from then on. */
function exposeGc(): typeof globalThis.gc {
  try {
    setFlagsFromString('--expose-gc')
    const collect: unknown = runInNewContext('gc')
    return typeof collect === 'function' ? (collect as NonNullable<typeof globalThis.gc>) : undefined
  } catch {
    return undefined
  }
}
