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

/** What `#operate` does. */
const OPERATION = { mark: 0, close: 1, order: 2, take: 3 } as const

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
  #halted = false

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
    const handle = this.#operate(OPERATION.take, KIND.tick, 0)
    if (handle !== 0) this.#instants[(handle & this.#mask) << INSTANT_BITS] = receivedAtMs
    return handle
  }

  /** Stores now as an instant (see `INSTANT`) of an open slot. */
  mark(handle: number, instant: number): void {
    this.#operate(OPERATION.mark, handle, instant)
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
    return this.#operate(OPERATION.order, tick, ENDPOINT.create_order)
  }

  /** Opens the record of an API call that is no order; mark `sent` and `acked` on it. */
  call(endpoint: number): number {
    return this.#operate(OPERATION.take, KIND.call, endpoint)
  }

  /**
   * Ends a slot and hands it to the drain. A request that was sent and failed without an answer (`error`, `timeout`)
   * ends now: its round trip is the time it was waited for.
   */
  close(handle: number, outcome: number): void {
    this.#operate(OPERATION.close, handle, outcome)
  }

  /** Hands up to three numbers to the drain: samples of series, and the runtime's beats and pauses. */
  push(kind: number, detail: number, a: number, b: number, c: number): void {
    const handle = this.#operate(OPERATION.take, kind, detail)
    if (handle === 0) return
    const base = (handle & this.#mask) << INSTANT_BITS
    this.#instants[base] = a
    this.#instants[base + 1] = b
    this.#instants[base + 2] = c
    this.#operate(OPERATION.close, handle, OUTCOME.ok)
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
    this.#halted = true
    this.#freeTail = this.#freeHead
    return open
  }

  /**
   * All of the hot path that reads the clock or moves a slot, in one function on purpose: it is too large for V8 to
   * inline (more than 460 bytes of bytecode), so it is compiled on its own, with `performance.now` inlined into it. Were
   * `mark` inlined into a large function of the bot, `performance.now` (30 bytes, above V8's limit for "small") would be
   * left as a call, and its result boxed: 16 bytes a mark, 128 a tick. `bench/tick.bench.ts` measures that they stay 0.
   *
   * @param a `take`: kind; else the handle
   * @param b `mark`: instant; `close`: outcome; `order`: endpoint; `take`: detail
   * @returns `take`, `order`: the new handle, 0 when there is none; else 0
   */
  #operate(operation: number, a: number, b: number): number {
    const meta = this.#meta
    const instants = this.#instants
    const mask = this.#mask
    let kind = a
    let from = -1
    switch (operation) {
      case OPERATION.mark: {
        const slot = a & mask
        if (meta[slot << META_BITS] === a) instants[(slot << INSTANT_BITS) + (b & 7)] = nowMs()
        return 0
      }
      case OPERATION.close: {
        const slot = a & mask
        const at = slot << META_BITS
        if (meta[at] !== a) return 0
        const base = slot << INSTANT_BITS
        if (b !== OUTCOME.ok && instants[base + INSTANT.acked] === 0 && instants[base + INSTANT.sent] !== 0) {
          instants[base + INSTANT.acked] = nowMs()
        }
        meta[at + META.outcome] = b
        meta[at] = (a + this.#slots) & HANDLE_MASK
        this.#closed[this.#closedTail & mask] = slot
        this.#closedTail = (this.#closedTail + 1) | 0
        Atomics.store(this.#control, CONTROL.closedTail, this.#closedTail)
        return 0
      }
      case OPERATION.order: {
        from = a & mask
        if (meta[from << META_BITS] !== a) {
          Atomics.add(this.#control, a === 0 ? CONTROL.droppedRingFull : CONTROL.droppedIncomplete, 1)
          return 0
        }
        meta[(from << META_BITS) + META.detail] = 1
        kind = KIND.order
      }
    }
    if (this.#freeHead === this.#freeTail) {
      if (!this.#halted) this.#freeTail = Atomics.load(this.#control, CONTROL.freeTail)
      if (this.#freeHead === this.#freeTail) {
        Atomics.add(this.#control, CONTROL.droppedRingFull, 1)
        return 0
      }
    }
    const slot = this.#free[this.#freeHead & mask] as number
    this.#freeHead = (this.#freeHead + 1) | 0
    const at = slot << META_BITS
    meta[at + META.kind] = kind
    meta[at + META.detail] = b
    if (from !== -1) {
      const source = from << INSTANT_BITS
      const target = slot << INSTANT_BITS
      instants[target] = instants[source] as number
      instants[target + 1] = instants[source + 1] as number
      instants[target + 2] = instants[source + 2] as number
      instants[target + 3] = instants[source + 3] as number
    }
    return meta[at] as number
  }
}
