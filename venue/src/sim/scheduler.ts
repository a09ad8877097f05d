/**
 * Runs things at precise instants of `performance.now()`.
 *
 * `setTimeout` counts whole milliseconds and comes up to 1.1 ms late, a quarter of the engine time modelled here. So it
 * is set to ring early; the rest is spent in turns of the event loop with naps of 0.2 ms between them, which the
 * kernel's own timers keep to 0.06 ms, and the last bit in turns without naps. Costs about 0.4 ms of CPU for each thing
 * due and delays what comes in meanwhile by at most a nap; an idle scheduler costs nothing. How late things ran all the
 * same is in `latenessNs`.
 */
import { LatencyHistogram } from '@tickscope/contract'

/** `setTimeout(1)` may take 2 ms; below this much time left, polling is the only way to be on time. */
const POLL_MS = 1.5
/** How long the thread sleeps between two looks at the event loop. */
const NAP_MS = 0.2
/** A nap and its own lateness must end before the thing is due. */
const NAP_MARGIN_MS = 0.12

/** What naps wait on; nobody ever wakes them. */
const NEVER = new Int32Array(new SharedArrayBuffer(4))

interface Entry {
  readonly dueMs: number
  /** Things due at one instant run in the order they were given. */
  readonly order: number
  readonly run: () => void
}

export class Scheduler {
  /** From the instant asked for to the instant it ran, ns. */
  readonly latenessNs = new LatencyHistogram()
  /** Binary heap, soonest first. */
  readonly #heap: Entry[] = []
  #order = 0
  #timer: NodeJS.Timeout | undefined
  #immediate: NodeJS.Immediate | undefined
  #timerDueMs = Number.POSITIVE_INFINITY

  /** @param dueMs instant of `performance.now()`; one already past runs in the next turn of the event loop */
  at(dueMs: number, run: () => void): void {
    this.#push({ dueMs, order: this.#order++, run })
    this.#arm()
  }

  get pending(): number {
    return this.#heap.length
  }

  /** Forgets everything still due. */
  stop(): void {
    this.#heap.length = 0
    clearTimeout(this.#timer)
    clearImmediate(this.#immediate)
    this.#timer = undefined
    this.#immediate = undefined
  }

  #arm(): void {
    const next = this.#heap[0]
    if (next === undefined || this.#immediate !== undefined) return
    const leftMs = next.dueMs - performance.now()
    if (leftMs <= POLL_MS) {
      clearTimeout(this.#timer)
      this.#timer = undefined
      this.#immediate = setImmediate(this.#poll)
    } else if (this.#timer === undefined || next.dueMs < this.#timerDueMs) {
      clearTimeout(this.#timer)
      this.#timerDueMs = next.dueMs
      this.#timer = setTimeout(this.#ring, Math.max(1, Math.floor(leftMs - POLL_MS)))
    }
  }

  #ring = () => {
    this.#timer = undefined
    this.#arm()
  }

  #poll = () => {
    this.#immediate = undefined
    for (;;) {
      const next = this.#heap[0]
      if (next === undefined) return
      const lateMs = performance.now() - next.dueMs
      if (lateMs < 0) {
        if (-lateMs > NAP_MS + NAP_MARGIN_MS) Atomics.wait(NEVER, 0, 0, NAP_MS)
        break
      }
      this.#pop()
      this.latenessNs.record(Math.round(lateMs * 1e6))
      next.run()
    }
    this.#arm()
  }

  #before(a: Entry, b: Entry): boolean {
    return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order)
  }

  #push(entry: Entry): void {
    const heap = this.#heap
    let index = heap.length
    heap.push(entry)
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (!this.#before(entry, heap[parent] as Entry)) break
      heap[index] = heap[parent] as Entry
      index = parent
    }
    heap[index] = entry
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop() as Entry
    if (heap.length === 0) return
    let index = 0
    for (;;) {
      let child = 2 * index + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && this.#before(heap[child + 1] as Entry, heap[child] as Entry)) child++
      if (!this.#before(heap[child] as Entry, last)) break
      heap[index] = heap[child] as Entry
      index = child
    }
    heap[index] = last
  }
}
