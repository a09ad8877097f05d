import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  boundCells,
  bucketBoundsNs,
  DECISION_STAGES,
  DEFAULT_SLOS,
  decodeHistogram,
  type Labels,
  LatencyHistogram,
  labelsKey,
  ORDER_STAGES,
} from '@tickscope/contract'
import fc from 'fast-check'
import { Drain, type DrainSink, type Finished } from '../src/drain.ts'
import { INSTANT } from '../src/index.ts'
import { Judge } from '../src/judge.ts'
import { ENDPOINT, OUTCOME, Recorder } from '../src/recorder.ts'
import { createRingMemory, KIND, openRing } from '../src/ring.ts'
import { SeriesSet } from '../src/series.ts'
import { orderAt } from './tick.ts'

/** A recorder and its drain on one thread. */
function create({ slots = 1024, beatMs = 1 } = {}) {
  const ring = openRing(createRingMemory(slots), slots)
  const series = new SeriesSet(boundCells(bucketBoundsNs(DEFAULT_SLOS)))
  const judge = new Judge(DEFAULT_SLOS)
  const seen = {
    finished: [] as Finished[],
    slow: [] as Finished[],
    breached: [] as { slo: string; cause: string }[],
    slowRecords: [] as Finished[],
  }
  const sink: DrainSink = {
    finished: (_kind, _durationNs, copy) => void seen.finished.push(copy()),
    slowTick: (record) => void seen.slow.push(record),
    breached: (record, suspects, causes) => {
      seen.slowRecords.push(record)
      for (const [i, { slo }] of suspects.entries()) seen.breached.push({ slo, cause: causes[i] as string })
    },
    loop() {},
    resolve: (id) =>
      id === 1 ? series.get('tickscope_probe_phase_seconds', { probe: 'http', phase: 'dns' }) : undefined,
  }
  const recorder = new Recorder(ring)
  const drain = new Drain(ring, series, judge, DEFAULT_SLOS, beatMs, sink)
  const take = async () => {
    while (drain.run(256));
    drain.collectDrops()
    judge.settleAll()
    const taken = await series.take()
    const found = (list: { metric: string; labels: Labels }[], metric: string, labels: Labels) =>
      list.find((it) => it.metric === metric && labelsKey(it.labels) === labelsKey(labels))
    return {
      histogram(metric: string, labels: Labels = {}): LatencyHistogram {
        const it = found(taken.series, metric, labels) as (typeof taken.series)[number] | undefined
        if (it === undefined) return new LatencyHistogram()
        const histogram = decodeHistogram(it.histogram)
        histogram.sumNs = it.sumNs
        return histogram
      },
      counter(metric: string, labels: Labels = {}): number {
        return (found(taken.counters, metric, labels) as (typeof taken.counters)[number] | undefined)?.value ?? 0
      },
    }
  }
  return { recorder, drain, judge, seen, take }
}

const dropped = (taken: { counter(metric: string, labels: Labels): number }, reason: string) =>
  taken.counter('tickscope_agent_dropped_total', { reason })

describe('the drain', () => {
  it('makes the stages of an order add up to its tick-to-trade exactly, whatever the fractions of the clock', async () => {
    const gapsMs = fc.array(fc.double({ min: 0, max: 3, noNaN: true }), { minLength: 8, maxLength: 8 })
    const startMs = fc.double({ min: 1e-3, max: 8e9, noNaN: true })
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(startMs, gapsMs), { minLength: 1, maxLength: 20 }), async (orders) => {
        const { recorder, take } = create()
        for (const [start, gaps] of orders) {
          let at = start
          orderAt(
            recorder,
            gaps.map((gap) => (at += gap)),
          )
        }
        const taken = await take()
        const total = taken.histogram('tickscope_tick_to_trade_seconds')
        assert.equal(total.count, orders.length)
        let sumNs = 0
        for (const stage of ORDER_STAGES) {
          const histogram = taken.histogram('tickscope_stage_seconds', { stage, outcome: 'order' })
          assert.equal(histogram.count, orders.length)
          sumNs += histogram.sumNs
        }
        assert.equal(sumNs, total.sumNs)
        assert.ok(Number.isInteger(sumNs))
      }),
      { numRuns: 25 },
    )
  })

  it('measures a quiet tick to its decision, in its own series, stages adding up', async () => {
    const { recorder, take } = create()
    const tick = recorder.begin(100)
    recorder.markAt(tick, INSTANT.decoded, 100.25)
    recorder.markAt(tick, INSTANT.booked, 100.5)
    recorder.markAt(tick, INSTANT.decided, 101.5)
    recorder.close(tick, OUTCOME.ok)
    const taken = await take()
    assert.equal(taken.counter('tickscope_ticks_total', { outcome: 'quiet' }), 1)
    assert.equal(taken.counter('tickscope_ticks_total', { outcome: 'order' }), 0)
    assert.equal(taken.histogram('tickscope_tick_to_decision_seconds').sumNs, 1_500_000)
    const sums = DECISION_STAGES.map(
      (stage) => taken.histogram('tickscope_stage_seconds', { stage, outcome: 'quiet' }).sumNs,
    )
    assert.deepEqual(sums, [250_000, 250_000, 1_000_000])
    assert.equal(taken.histogram('tickscope_tick_to_trade_seconds').count, 0)
  })

  it('counts a tick that caused an order once, and each of its orders', async () => {
    const { recorder, take } = create()
    const tick = recorder.begin(1)
    for (const i of [1, 2, 3]) recorder.markAt(tick, i, 1 + i)
    for (const sentMs of [7, 8]) {
      const order = recorder.order(tick)
      for (const [instant, at] of [
        [4, 5],
        [5, 6],
        [6, sentMs],
        [7, 20],
      ] as const)
        recorder.markAt(order, instant, at)
      recorder.close(order, OUTCOME.ok)
    }
    recorder.close(tick, OUTCOME.ok)
    const taken = await take()
    assert.equal(taken.counter('tickscope_ticks_total', { outcome: 'order' }), 1)
    assert.equal(taken.histogram('tickscope_tick_to_trade_seconds').sumNs, 13_000_000)
    const rtt = taken.histogram('tickscope_api_rtt_seconds', { endpoint: 'create_order', outcome: 'ok' })
    assert.deepEqual([rtt.count, rtt.sumNs], [2, 25_000_000])
  })

  it('keeps API calls out of tick-to-trade, by endpoint and outcome', async () => {
    const { recorder, take } = create()
    const call = recorder.call(ENDPOINT.cancel_order)
    recorder.markAt(call, INSTANT.sent, 10)
    recorder.markAt(call, INSTANT.acked, 12)
    recorder.close(call, OUTCOME.rejected)
    const taken = await take()
    const labels = { endpoint: 'cancel_order', outcome: 'rejected' }
    assert.equal(taken.histogram('tickscope_api_rtt_seconds', labels).sumNs, 2_000_000)
    assert.equal(taken.histogram('tickscope_tick_to_trade_seconds').count, 0)
  })

  it('drops what is not whole or runs backwards, once a record, and keeps the part that is sound', async () => {
    const { recorder, take } = create()
    orderAt(recorder, [1, 2, undefined, 4, 5, 6, 7, 8])
    orderAt(recorder, [1, 3, 2, 4, 5, 6, 7, 8])
    orderAt(recorder, [1, 2, 3, 4, 5, 6, Number.NaN, 8])
    orderAt(recorder, [1, 2, 3, 4, 5, 6, 7, undefined])
    orderAt(recorder, [1, 2, 3, 4, 5, 6, 7, 6.5])
    orderAt(recorder, [1, 2, 3, 4, 5, 6, undefined, undefined])
    const forgotten = recorder.begin(1)
    recorder.close(forgotten, OUTCOME.ok)
    const taken = await take()
    assert.equal(dropped(taken, 'incomplete'), 4)
    assert.equal(dropped(taken, 'clock'), 3)
    assert.equal(recorder.dropped, 7)
    // The last two sent orders are sound up to `sent`, the first two from there on.
    assert.equal(taken.histogram('tickscope_tick_to_trade_seconds').count, 2)
    assert.equal(taken.histogram('tickscope_api_rtt_seconds', { endpoint: 'create_order', outcome: 'ok' }).count, 2)
  })

  it('does not measure what ended early and says so: an unreadable tick, an order never sent', async () => {
    const { recorder, take } = create()
    const tick = recorder.begin(1)
    recorder.close(tick, OUTCOME.error)
    orderAt(recorder, [1, 2, 3, 4, 5, undefined, undefined, undefined], OUTCOME.error)
    const taken = await take()
    assert.equal(taken.counter('tickscope_ticks_total', { outcome: 'quiet' }), 1)
    assert.equal(taken.counter('tickscope_ticks_total', { outcome: 'order' }), 1)
    assert.equal(recorder.dropped, 0)
    assert.equal(taken.histogram('tickscope_tick_to_trade_seconds').count, 0)
  })

  it('judges by exact nanoseconds: a budget met to the nanosecond is met', async () => {
    const { recorder, seen, take } = create()
    orderAt(recorder, [10, 11, 12, 13, 14, 14.5, 15, 35])
    await take()
    assert.deepEqual(seen.breached, [])
    orderAt(recorder, [10, 11, 12, 13, 14, 14.5, 15.000001, 35.000002])
    await take()
    assert.deepEqual(seen.breached, [
      { slo: 'processing', cause: 'unattributed' },
      { slo: 'api_rtt', cause: 'venue' },
    ])
  })

  it('shows of a broken record that is over budget only the part that is sound', async () => {
    const { recorder, seen, take } = create()
    orderAt(recorder, [1, Number.NaN, 3, 2, 5, 6, 7, 70])
    orderAt(recorder, [1, 2, 3, 4, 5, 6, 70, 7])
    await take()
    const [late, slow] = seen.slowRecords.map(({ instantsNs }) => instantsNs.map((ns) => ns / 1e6))
    const unset = -1e-6
    assert.deepEqual(late, [unset, unset, unset, unset, unset, unset, 7, 70])
    assert.deepEqual(slow, [1, 2, 3, 4, 5, 6, 70, unset])
  })

  it('shows a quiet tick slower than the processing budget, without calling it a breach', async () => {
    const { recorder, seen, take } = create()
    const tick = recorder.begin(1)
    for (const i of [1, 2, 3]) recorder.markAt(tick, i, 10 * i)
    recorder.close(tick, OUTCOME.ok)
    await take()
    assert.equal(seen.slow.length, 1)
    assert.deepEqual(seen.breached, [])
  })

  it('counts a late beat for each beat that was due meanwhile', async () => {
    const { recorder, take } = create()
    recorder.push(KIND.beat, 0, 100, 101, 0)
    recorder.push(KIND.beat, 0, 101, 105, 0)
    const delays = (await take()).histogram('tickscope_event_loop_delay_seconds')
    // On time: 0. Three ms late: 3, and 2 and 1 for those that were due while it was.
    assert.equal(delays.count, 4)
    assert.equal(delays.sumNs, 6_000_000)
    assert.equal(delays.countAtMost(0), 1)
  })

  it('records collector pauses by kind', async () => {
    const { recorder, take } = create()
    recorder.push(KIND.pause, 1, 10, 12.5, 0)
    assert.equal((await take()).histogram('tickscope_gc_pause_seconds', { kind: 'major' }).sumNs, 2_500_000)
  })

  it('counts samples of a series nobody defined, and values that are no measurement', async () => {
    const { recorder, take } = create()
    recorder.push(KIND.sample, 1, 1000.4, 0, 0)
    recorder.push(KIND.sample, 1, -1, 0, 0)
    recorder.push(KIND.sample, 1, Number.NaN, 0, 0)
    recorder.push(KIND.sample, 2, 5, 0, 0)
    const taken = await take()
    assert.equal(taken.histogram('tickscope_probe_phase_seconds', { probe: 'http', phase: 'dns' }).sumNs, 1000)
    assert.equal(dropped(taken, 'clock'), 2)
    assert.equal(dropped(taken, 'series_limit'), 1)
  })

  it('gives slots back: many times the ring goes through it', async () => {
    const { recorder, drain, take } = create({ slots: 64 })
    for (let round = 0; round < 1000; round++) {
      for (let i = 0; i < 63; i++) recorder.close(recorder.begin(1), OUTCOME.error)
      drain.run(1000)
    }
    assert.equal((await take()).counter('tickscope_ticks_total', { outcome: 'quiet' }), 63_000)
    assert.equal(recorder.dropped, 0)
  })

  it('takes no more records than it is told to, and says that more wait', () => {
    const { recorder, drain } = create({ slots: 64 })
    for (let i = 0; i < 10; i++) recorder.close(recorder.begin(1), OUTCOME.error)
    assert.equal(drain.run(9), true)
    assert.equal(drain.run(9), false)
  })
})
