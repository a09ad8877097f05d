/**
 * The memory the bot's thread and the drain share, and its layout.
 *
 * One SharedArrayBuffer, made once, never grown. A record is a slot: eight instants (one cache line) and four integers.
 * Two index rings pass slots round: `closed` (bot → drain) and `free` (drain → bot). Each ring has one writer and one
 * reader, and as many places as there are slots, so neither can overflow: running out of slots shows as an empty `free`
 * ring, on the bot's side, where it is counted.
 *
 *   control   Int32 x 64         one word a cache line that its writer changes, see CONTROL
 *   closed    Int32 x slots      slots ready for the drain
 *   free      Int32 x slots      slots ready for the bot
 *   meta      Int32 x 4 x slots  handle, kind, detail, outcome; written by the bot's thread only
 *   instants  Float64 x 8 x slots  ms of the bot's clock, 0 = not set; the drain clears them before it frees a slot
 *
 * Publication is an Atomics.store of a ring's tail and an Atomics.load on the other side; what was written to a slot
 * before is visible after. Nobody waits on anybody.
 */

/** Words of `control`. Writers have a cache line (16 words) each. */
export const CONTROL = {
  /** Slots published to the drain so far, modulo 2^32; bot. */
  closedTail: 0,
  /** Measurements lost because no slot was free; bot. */
  droppedRingFull: 16,
  /** Orders asked for on a tick that was already closed; bot. */
  droppedIncomplete: 17,
  /** Slots given back to the bot so far, modulo 2^32; drain. */
  freeTail: 32,
  /** Measurements the drain could not use; drain. */
  droppedByDrain: 48,
} as const
const CONTROL_WORDS = 64

/** Integers of a slot. */
export const META = {
  /** What `begin`, `order` and `call` handed out; changes when the slot is closed, so a late mark finds no match. */
  handle: 0,
  kind: 1,
  /** Tick: 1 when it caused an order. Order and call: endpoint. Pause: its kind. Sample: its series. */
  detail: 2,
  outcome: 3,
} as const
export const META_BITS = 2
export const INSTANT_BITS = 3

/** What a slot holds. */
export const KIND = {
  tick: 0,
  order: 1,
  call: 2,
  /** One value of a series, in instant 0. */
  sample: 3,
  /** Turn of the event loop: previous and current beat. */
  beat: 4,
  /** Garbage collection: start and end. */
  pause: 5,
  /** Once an interval: instant, cumulative idle time of the loop, wall clock, all ms. */
  loop: 6,
} as const

/** Smallest and largest ring, slots; a power of two. The largest is 11.5 MB. */
export const RING_SLOTS_MIN = 64
export const RING_SLOTS_MAX = 131_072
/** 270 ms of 60,000 records a second, many times the drain's period: 1.4 MB. */
export const RING_SLOTS_DEFAULT = 16_384

export interface Ring {
  readonly slots: number
  readonly control: Int32Array
  readonly closed: Int32Array
  readonly free: Int32Array
  readonly meta: Int32Array
  readonly instants: Float64Array
}

/** Memory for a ring of `slots` (a power of two), every slot but 0 free. Slot 0 belongs to nobody: handle 0 is "none". */
export function createRingMemory(slots: number): SharedArrayBuffer {
  const buffer = new SharedArrayBuffer(
    4 * (CONTROL_WORDS + slots * 2 + (slots << META_BITS)) + 8 * (slots << INSTANT_BITS),
  )
  const { control, free, meta } = openRing(buffer, slots)
  for (let slot = 0; slot < slots; slot++) meta[slot << META_BITS] = slot
  meta[0] = -1
  for (let slot = 1; slot < slots; slot++) free[slot - 1] = slot
  Atomics.store(control, CONTROL.freeTail, slots - 1)
  return buffer
}

/** Views of ring memory, on either thread. */
export function openRing(buffer: SharedArrayBuffer, slots: number): Ring {
  let offset = 0
  const ints = (length: number) => {
    const view = new Int32Array(buffer, offset, length)
    offset += view.byteLength
    return view
  }
  const control = ints(CONTROL_WORDS)
  const closed = ints(slots)
  const free = ints(slots)
  const meta = ints(slots << META_BITS)
  return { slots, control, closed, free, meta, instants: new Float64Array(buffer, offset, slots << INSTANT_BITS) }
}
