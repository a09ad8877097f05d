/**
 * The hot path: everything the agent does on the thread that trades.
 *
 * A mark is a clock read and a store. Nothing here allocates, awaits, locks, throws or calls out; when no slot is free
 * the measurement is dropped and counted, never waited for. Misuse (a mark on a closed slot, a slot closed twice, a
 * handle of 0) is ignored: a handle carries the generation of its slot, so it can never touch somebody else's record.
 *
 * Cost, `bench/tick.bench.ts`: a tick with an order, 7 marks and 2 closes, well under 1 µs, most of it the clock.
 */
import { INSTANT } from '@tickscope/contract'
import { nowMs } from './clock.ts'
import { CONTROL, INSTANT_BITS, KIND, META, META_BITS, type Ring } from './ring.ts'

/** Endpoints of an API call: places in the catalogue's `tickscope_api_rtt_seconds{endpoint}`. */
export const ENDPOINT = { create_order: 0, cancel_order: 1, other: 2 } as const
/** What became of a slot: places in the catalogue's `tickscope_api_rtt_seconds{outcome}`. */
export const OUTCOME = { ok: 0, rejected: 1, error: 2, timeout: 3 } as const

/** Handles stay positive 31-bit integers: V8 keeps those unboxed. */
const HANDLE_MASK = 0x7fff_ffff

export class Recorder {
  readonly #mask: number
  readonly #slots: number
  readonly #control: Int32Array
  readonly #closed: Int32Array
  readonly #free: Int32Array
  readonly #meta: Int32Array
  readonly #instants: Float64Array
  /** Slots taken and slots published so far, modulo 2^32; `#freeTail` is the last known value of the shared word. */
  #freeHead = 0
  #freeTail = 0
  #closedTail = 0
  #stopped = false

  constructor(ring: Ring) {
    this.#mask = ring.slots - 1
    this.#slots = ring.slots
    this.#control = ring.control
    this.#closed = ring.closed
    this.#free = ring.free
    this.#meta = ring.meta
    this.#instants = ring.instants
  }

  /**
   * Opens the record of a tick.
   *
   * @param receivedAtMs `performance.now()` when the first byte of the message was read
   * @returns its handle; 0 when no slot was free, which every other method accepts and ignores
   */
  begin(receivedAtMs: number): number {
    const handle = this.#take(KIND.tick, 0)
    if (handle !== 0) this.#instants[(handle & this.#mask) << INSTANT_BITS] = receivedAtMs
    return handle
  }

  /** Stores now as an instant (see `INSTANT`) of an open slot. */
  mark(handle: number, instant: number): void {
    const slot = handle & this.#mask
    if (this.#meta[slot << META_BITS] === handle) this.#instants[(slot << INSTANT_BITS) + (instant & 7)] = nowMs()
  }

  /** Stores a given time, `performance.now()` ms, as an instant of an open slot. */
  markAt(handle: number, instant: number, atMs: number): void {
    const slot = handle & this.#mask
    if (this.#meta[slot << META_BITS] === handle) this.#instants[(slot << INSTANT_BITS) + (instant & 7)] = atMs
  }

  /**
   * Opens the record of an order the tick caused: it starts with the tick's instants up to `decided`. Once risk has
   * passed, before the tick is closed. The order of a tick that was dropped is dropped, and counted, too.
   */
  order(tick: number): number {
    const from = tick & this.#mask
    if (this.#meta[from << META_BITS] !== tick) {
      this.#drop(tick === 0 ? CONTROL.droppedRingFull : CONTROL.droppedIncomplete)
      return 0
    }
    this.#meta[(from << META_BITS) + META.detail] = 1
    const handle = this.#take(KIND.order, ENDPOINT.create_order)
    if (handle === 0) return 0
    const instants = this.#instants
    const source = from << INSTANT_BITS
    const target = (handle & this.#mask) << INSTANT_BITS
    instants[target] = instants[source] as number
    instants[target + 1] = instants[source + 1] as number
    instants[target + 2] = instants[source + 2] as number
    instants[target + 3] = instants[source + 3] as number
    return handle
  }

  /** Opens the record of an API call that is no order; mark `sent` and `acked` on it. */
  call(endpoint: number): number {
    return this.#take(KIND.call, endpoint)
  }

  /**
   * Ends a slot and hands it to the drain. A request that was sent and failed without an answer (`error`, `timeout`)
   * ends now: its round trip is the time it was waited for.
   */
  close(handle: number, outcome: number): void {
    const slot = handle & this.#mask
    const meta = this.#meta
    const at = slot << META_BITS
    if (meta[at] !== handle) return
    if (outcome !== OUTCOME.ok) {
      const base = slot << INSTANT_BITS
      if (this.#instants[base + INSTANT.acked] === 0 && this.#instants[base + INSTANT.sent] !== 0) {
        this.#instants[base + INSTANT.acked] = nowMs()
      }
    }
    meta[at + META.outcome] = outcome
    this.#publish(slot, handle)
  }

  /** Hands up to three numbers to the drain: samples of series, and the runtime's beats and pauses. */
  push(kind: number, detail: number, a: number, b: number, c: number): void {
    const handle = this.#take(kind, detail)
    if (handle === 0) return
    const slot = handle & this.#mask
    const base = slot << INSTANT_BITS
    this.#instants[base] = a
    this.#instants[base + 1] = b
    this.#instants[base + 2] = c
    this.#publish(slot, handle)
  }

  /** Measurements lost so far, on either side of the ring. */
  get dropped(): number {
    const { droppedRingFull, droppedIncomplete, droppedByDrain } = CONTROL
    let sum = 0
    for (const word of [droppedRingFull, droppedIncomplete, droppedByDrain]) {
      sum += Atomics.load(this.#control, word) >>> 0
    }
    return sum
  }

  /** From now on every new record is dropped. @returns how many slots are still open, never to be drained */
  halt(): number {
    const open = (this.#freeHead - this.#closedTail) | 0
    this.#stopped = true
    this.#freeTail = this.#freeHead
    return open
  }

  /** @returns the handle of a slot that was free, its instants all 0; 0 when there is none */
  #take(kind: number, detail: number): number {
    if (this.#freeHead === this.#freeTail && !this.#refill()) return 0
    const slot = this.#free[this.#freeHead & this.#mask] as number
    this.#freeHead = (this.#freeHead + 1) | 0
    const at = slot << META_BITS
    const meta = this.#meta
    meta[at + META.kind] = kind
    meta[at + META.detail] = detail
    return meta[at] as number
  }

  #publish(slot: number, handle: number): void {
    this.#meta[slot << META_BITS] = (handle + this.#slots) & HANDLE_MASK
    this.#closed[this.#closedTail & this.#mask] = slot
    this.#closedTail = (this.#closedTail + 1) | 0
    Atomics.store(this.#control, CONTROL.closedTail, this.#closedTail)
  }

  #refill(): boolean {
    if (!this.#stopped) {
      this.#freeTail = Atomics.load(this.#control, CONTROL.freeTail)
      if (this.#freeHead !== this.#freeTail) return true
    }
    this.#drop(CONTROL.droppedRingFull)
    return false
  }

  #drop(word: number): void {
    Atomics.add(this.#control, word, 1)
  }
}
