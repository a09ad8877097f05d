/**
 * How long a cache line takes from one core to another and back: the first thing that changes when the hypervisor moves
 * virtual CPUs, or when two busy threads must share a core.
 *
 * The other side is a thread of this process, made for the sample and gone with it; neither is pinned. Cost: some 50 ms,
 * nearly all of it the start of that thread. Both sides spin, bounded in time, so that neither can hang the other.
 */
import { availableParallelism } from 'node:os'
import { isMainThread, Worker, workerData } from 'node:worker_threads'
import { nowNs } from './clock.ts'

/** Name under which the other side is given the shared memory; this file may also be loaded in somebody else's thread. */
const ROLE = 'tickscopeCoreToCore'
/** Cells of the shared memory: what the asker wrote last, what the other side answered, whether it has started. */
const ASKED = 0
const ANSWERED = 1
const STARTED = 2
const CELLS = 3
/** Asked when it is over. */
const OVER = -1

/** Round trips between two clock reads, which cost as much as one of them. */
const ROUND_TRIPS = 32
const BATCHES = 200
/** Batches first, while both sides are compiled. */
const WARM_UP_BATCHES = 100
const START_MS = 500
/** Both sides give up after this. */
const SPIN_NS = 100e6
/** Spins between two looks at the clock. */
const SPINS = 1 << 12

/** @returns p50 of a round trip, ns; null on one core, or when the other thread did not get to run */
export function sampleCoreToCore(): number | null {
  if (availableParallelism() < 2) return null
  const shared = new Int32Array(new SharedArrayBuffer(CELLS * Int32Array.BYTES_PER_ELEMENT))
  try {
    const other = new Worker(new URL(import.meta.url), { workerData: { [ROLE]: shared } })
    other.on('error', () => {})
    other.unref()
  } catch {
    // A thread that cannot be had is a missing sample, not the end of the probe.
    return null
  }
  try {
    if (Atomics.wait(shared, STARTED, 0, START_MS) === 'timed-out') return null
    const deadlineNs = nowNs() + SPIN_NS
    const figuresNs: number[] = []
    let asked = 0
    for (let batch = 0; batch < WARM_UP_BATCHES + BATCHES; batch++) {
      const fromNs = nowNs()
      for (let trip = 0; trip < ROUND_TRIPS; trip++) {
        Atomics.store(shared, ASKED, ++asked)
        if (!spinUntil(shared, ANSWERED, (answered) => answered === asked, deadlineNs)) return median(figuresNs)
      }
      if (batch >= WARM_UP_BATCHES) figuresNs.push((nowNs() - fromNs) / ROUND_TRIPS)
    }
    return median(figuresNs)
  } finally {
    Atomics.store(shared, ASKED, OVER)
  }
}

/** The other side. */
function answer(shared: Int32Array): void {
  const deadlineNs = nowNs() + SPIN_NS + START_MS * 1e6
  Atomics.store(shared, STARTED, 1)
  Atomics.notify(shared, STARTED)
  let answered = 0
  while (answered !== OVER) {
    if (!spinUntil(shared, ASKED, (asked) => asked !== answered, deadlineNs)) return
    answered = Atomics.load(shared, ASKED)
    Atomics.store(shared, ANSWERED, answered)
  }
}

/** @returns false when the deadline came first */
function spinUntil(shared: Int32Array, cell: number, done: (value: number) => boolean, deadlineNs: number): boolean {
  for (let spins = 1; !done(Atomics.load(shared, cell)); spins++)
    if (spins % SPINS === 0 && nowNs() > deadlineNs) return false
  return true
}

function median(figures: number[]): number | null {
  if (figures.length === 0) return null
  figures.sort((a, b) => a - b)
  return Math.round(figures[figures.length >> 1] as number)
}

const given = isMainThread ? undefined : (workerData as { readonly [ROLE]?: Int32Array } | null)?.[ROLE]
if (given !== undefined) answer(given)
