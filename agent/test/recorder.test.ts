import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { METRICS } from '@tickscope/contract'
import { INSTANT } from '../src/index.ts'
import { ENDPOINT, OUTCOME, Recorder } from '../src/recorder.ts'
import { CONTROL, createRingMemory, KIND, META, openRing, type Ring } from '../src/ring.ts'

function create(slots = 64): { recorder: Recorder; ring: Ring; published: () => number[] } {
  const ring = openRing(createRingMemory(slots), slots)
  const published = () => {
    const count = Atomics.load(ring.control, CONTROL.closedTail)
    return [...ring.closed.subarray(0, count)]
  }
  return { recorder: new Recorder(ring), ring, published }
}

/** Instants of a slot, 0 where not set. */
function instantsOf(ring: Ring, slot: number): number[] {
  return [...ring.instants.subarray(slot * 8, slot * 8 + 8)]
}

describe('the recorder', () => {
  it('names endpoints and outcomes as the catalogue orders them', () => {
    const { endpoint, outcome } = METRICS.tickscope_api_rtt_seconds.labels
    assert.deepEqual(Object.keys(ENDPOINT), endpoint)
    assert.deepEqual(Object.values(ENDPOINT), [0, 1, 2])
    assert.deepEqual(Object.keys(OUTCOME), outcome)
    assert.deepEqual(Object.values(OUTCOME), [0, 1, 2, 3])
  })

  it('publishes a slot with its instants when it is closed, and not before', () => {
    const { recorder, ring, published } = create()
    const tick = recorder.begin(12.5)
    recorder.markAt(tick, INSTANT.decoded, 13)
    const before = performance.now()
    recorder.mark(tick, INSTANT.booked)
    const after = performance.now()
    assert.deepEqual(published(), [])
    recorder.close(tick, OUTCOME.ok)
    const [slot] = published() as [number]
    const [received, decoded, booked, ...rest] = instantsOf(ring, slot) as [number, number, number, ...number[]]
    assert.deepEqual([received, decoded], [12.5, 13])
    assert.ok(before <= booked && booked <= after)
    assert.deepEqual(rest, [0, 0, 0, 0, 0])
  })

  it('starts an order with the instants of its tick up to decided, and marks the tick as one that caused an order', () => {
    const { recorder, ring, published } = create()
    const tick = recorder.begin(1)
    recorder.markAt(tick, INSTANT.decoded, 2)
    recorder.markAt(tick, INSTANT.booked, 3)
    recorder.markAt(tick, INSTANT.decided, 4)
    const orders = [recorder.order(tick), recorder.order(tick)]
    recorder.close(tick, OUTCOME.ok)
    for (const order of orders) recorder.close(order, OUTCOME.ok)
    const [tickSlot, ...orderSlots] = published() as [number, number, number]
    assert.equal(ring.meta[tickSlot * 4 + META.detail], 1)
    for (const slot of orderSlots) {
      assert.equal(ring.meta[slot * 4 + META.kind], KIND.order)
      assert.deepEqual(instantsOf(ring, slot), [1, 2, 3, 4, 0, 0, 0, 0])
    }
  })

  it('ignores a mark, an order and a second close on a slot that is closed, also after the slot was given out again', () => {
    const { recorder, ring, published } = create()
    const first = recorder.begin(1)
    recorder.close(first, OUTCOME.ok)
    const slot = published()[0] as number
    // What the drain does: clears the slot and frees it.
    ring.instants.fill(0, slot * 8, slot * 8 + 8)
    for (let i = 0; i < 62; i++) recorder.begin(2)
    ring.free[63] = slot
    Atomics.store(ring.control, CONTROL.freeTail, 64)
    const second = recorder.begin(3)
    assert.equal(second & 63, first & 63)
    assert.notEqual(second, first)
    recorder.mark(first, INSTANT.decoded)
    recorder.markAt(first, INSTANT.booked, 9)
    recorder.close(first, OUTCOME.error)
    assert.equal(recorder.order(first), 0)
    assert.deepEqual(instantsOf(ring, slot), [3, 0, 0, 0, 0, 0, 0, 0])
    assert.equal(published().length, 1)
    assert.equal(recorder.dropped, 1)
  })

  it('hands out 0 when no slot is free, counts it, and accepts it everywhere', () => {
    const { recorder, published } = create()
    const handles = Array.from({ length: 63 }, () => recorder.begin(1))
    assert.equal(new Set(handles).size, 63)
    assert.ok(!handles.includes(0))
    const lost = recorder.begin(1)
    assert.equal(lost, 0)
    recorder.mark(lost, INSTANT.decoded)
    recorder.markAt(lost, INSTANT.decoded, 1)
    const order = recorder.order(lost)
    assert.equal(order, 0)
    recorder.close(order, OUTCOME.ok)
    recorder.close(lost, OUTCOME.ok)
    assert.equal(recorder.call(ENDPOINT.other), 0)
    assert.deepEqual(published(), [])
    assert.equal(recorder.dropped, 3)
  })

  it('takes nonsense without throwing or touching a record', () => {
    const { recorder, ring } = create()
    const tick = recorder.begin(1)
    for (const handle of [Number.NaN, -1, -tick, 1.5e300, Number.POSITIVE_INFINITY, tick + 64, undefined as never]) {
      recorder.markAt(handle, INSTANT.decoded, 5)
      recorder.close(handle, OUTCOME.ok)
    }
    assert.deepEqual(instantsOf(ring, tick & 63), [1, 0, 0, 0, 0, 0, 0, 0])
    recorder.markAt(tick, 99, 5)
    recorder.close(tick, 77)
    assert.equal(Atomics.load(ring.control, CONTROL.closedTail), 1)
  })

  it('ends a request that failed without an answer at its close, and leaves one that was never sent alone', () => {
    const { recorder, ring, published } = create()
    const sent = recorder.call(ENDPOINT.cancel_order)
    recorder.markAt(sent, INSTANT.sent, 1)
    recorder.close(sent, OUTCOME.timeout)
    const unsent = recorder.call(ENDPOINT.cancel_order)
    recorder.close(unsent, OUTCOME.error)
    const [a, b] = published() as [number, number]
    assert.ok((instantsOf(ring, a)[INSTANT.acked] as number) > 1)
    assert.equal(instantsOf(ring, b)[INSTANT.acked], 0)
  })

  it('says how many slots are open when it halts, and drops what comes after', () => {
    const { recorder } = create()
    const tick = recorder.begin(1)
    recorder.begin(1)
    recorder.close(tick, OUTCOME.ok)
    assert.equal(recorder.halt(), 1)
    assert.equal(recorder.begin(1), 0)
    assert.equal(recorder.dropped, 1)
  })
})
