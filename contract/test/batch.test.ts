import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  BATCH_LIMITS,
  type Batch,
  BatchError,
  decodeBatch,
  encodeSeries,
  LatencyHistogram,
  labelsKey,
  resourceLabels,
} from '../src/index.ts'

function batchOf(fields: Record<string, unknown> = {}): unknown {
  const histogram = new LatencyHistogram()
  histogram.record(1_234_567)
  const batch: Batch = {
    version: 1,
    agent: 'bot-1',
    epoch: 'e1',
    sequence: 1,
    resource: { service: 'bot', instance: 'bot-1', venue: 'kalshi' },
    intervalStartMs: 1_790_000_000_000,
    intervalEndMs: 1_790_000_001_000,
    series: [encodeSeries('tickscope_tick_to_trade_seconds', {}, histogram)],
    counters: [{ metric: 'tickscope_ticks_total', labels: { outcome: 'order' }, value: 3 }],
    gauges: [],
    firstBreachAtMs: {},
  }
  return JSON.parse(JSON.stringify({ ...batch, ...fields }))
}

describe('decodeBatch', () => {
  it('gives back what was encoded, with the exact sum', () => {
    const batch = decodeBatch(batchOf())
    assert.equal(batch.series[0]?.histogram.count, 1)
    assert.equal(batch.series[0]?.histogram.sumNs, 1_234_567)
    assert.equal(batch.counters[0]?.value, 3)
    assert.deepEqual(resourceLabels(batch.resource), { service: 'bot', instance: 'bot-1', venue: 'kalshi' })
  })

  const counter = (metric: string, labels: object, value: unknown = 1) => ({ counters: [{ metric, labels, value }] })
  const refused: [string, unknown, RegExp][] = [
    ['a number', 7, /top level/],
    ['another version', batchOf({ version: 2 }), /version/],
    ['sequence 0', batchOf({ sequence: 0 }), /sequence/],
    ['an agent with a newline', batchOf({ agent: 'a\nb' }), /agent/],
    ['an unknown field', batchOf({ surprise: 1 }), /surprise/],
    ['an interval that ends before it starts', batchOf({ intervalEndMs: 1_780_000_000_000 }), /before/],
    ['a metric that is not in the catalogue', batchOf(counter('up', {})), /counters\.0/],
    ['a label the metric has not', batchOf(counter('tickscope_ticks_total', { outcome: 'order', x: 'y' })), /'x'/],
    ['a missing label', batchOf(counter('tickscope_ticks_total', {})), /needs label 'outcome'/],
    ['a value outside the closed set', batchOf(counter('tickscope_ticks_total', { outcome: 'no' })), /cannot be 'no'/],
    ['a histogram sent as a counter', batchOf(counter('tickscope_tick_to_trade_seconds', {})), /not a counter/],
    ['a negative count', batchOf(counter('tickscope_ticks_total', { outcome: 'order' }, -1)), /counters\.0\.value/],
    [
      'a label named __proto__',
      JSON.parse(JSON.stringify(batchOf()).replace('"outcome":"order"', '"__proto__":"order"')),
      /outcome|__proto__/,
    ],
    ['too many counters', batchOf({ counters: new Array(BATCH_LIMITS.counters + 1).fill(0) }), /counters/],
    [
      'a broken histogram',
      batchOf({ series: [{ metric: 'tickscope_tick_to_trade_seconds', labels: {}, histogram: 'HISTFAAAA' }] }),
      /series\.0/,
    ],
  ]
  for (const [what, json, message] of refused) {
    it(`refuses ${what} in one sentence that names it`, () => {
      assert.throws(
        () => decodeBatch(json),
        (error) => error instanceof BatchError && message.test(error.message) && !error.message.includes('\n'),
      )
    })
  }
})

describe('labelsKey', () => {
  it('does not depend on the order of labels, and tells different labels apart', () => {
    assert.equal(labelsKey({ a: '1', b: '2' }), labelsKey({ b: '2', a: '1' }))
    assert.notEqual(labelsKey({ a: '1', b: '2' }), labelsKey({ a: '1,b=2' }))
  })
})
