import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  BATCH_LIMITS,
  boundCells,
  bucketBoundsNs,
  DEFAULT_SLOS,
  type LatencyHistogram,
  METRICS,
} from '@tickscope/contract'
import { HISTOGRAMS_MAX, SeriesSet } from '../src/series.ts'

const create = () => new SeriesSet(boundCells(bucketBoundsNs(DEFAULT_SLOS)))

describe('the series of an agent', () => {
  it('leave histograms that do not fit into one batch to the next, and lose none', async () => {
    const set = create()
    const rtt = METRICS.tickscope_api_rtt_seconds.labels
    const wide = (rtt.endpoint ?? []).flatMap((endpoint) =>
      (rtt.outcome ?? []).map((outcome) => set.own('tickscope_api_rtt_seconds', { endpoint, outcome })),
    )
    // A large count of its own in nearly each cell: what no real latency looks like, about 150 kB each.
    for (const series of wide) {
      series.record(1)
      const { histogram } = series as unknown as { histogram: LatencyHistogram }
      for (let cell = 0; cell < 27_000; cell++) histogram.restore(cell, 1 + Math.floor(Math.random() * 1e9), 0)
    }
    set.own('tickscope_ticks_total', { outcome: 'quiet' }).record(7)
    let batches = 0
    let histograms = 0
    let ticks = 0
    for (let more = true; more; batches++) {
      const taken = await set.take()
      more = taken.more
      histograms += taken.series.length
      ticks += taken.counters.reduce((sum, { value }) => sum + value, 0)
      assert.ok(JSON.stringify(taken).length < BATCH_LIMITS.wireBytes)
    }
    assert.ok(batches > 1)
    assert.equal(histograms, wide.length)
    assert.equal(ticks, 7)
    assert.ok(set.empty)
  })

  it('are empty after a batch took them, and gauges are sent only when set', async () => {
    const set = create()
    set.own('tickscope_resident_memory_bytes').record(5)
    set.own('tickscope_tick_to_trade_seconds').record(1)
    const first = await set.take()
    assert.deepEqual([first.series.length, first.gauges.length, first.counters.length], [1, 1, 0])
    const second = await set.take()
    assert.deepEqual([second.series.length, second.gauges.length, second.counters.length], [0, 0, 0])
  })

  it('are one for equal labels in any order, and bounded in number', () => {
    const set = create()
    assert.equal(
      set.get('tickscope_api_rtt_seconds', { endpoint: 'other', outcome: 'ok' }),
      set.get('tickscope_api_rtt_seconds', { outcome: 'ok', endpoint: 'other' }),
    )
    for (let i = 0; i < HISTOGRAMS_MAX - 1; i++) {
      assert.ok(set.get('tickscope_api_rtt_seconds', { endpoint: `e${i}`, outcome: 'ok' }))
    }
    assert.equal(set.get('tickscope_api_rtt_seconds', { endpoint: 'one more', outcome: 'ok' }), undefined)
  })
})
