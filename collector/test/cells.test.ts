import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { boundCells, bucketBoundsNs, DEFAULT_SLOS, HIGHEST_NS, LatencyHistogram, summarize } from '@tickscope/contract'
import fc from 'fast-check'
import { CellCounts, CellSum } from '../src/cells.ts'
import { histogramOf } from './fixture.ts'

const valuesNs = fc.array(
  fc.oneof(
    fc.integer({ min: 0, max: 4096 }),
    fc.integer({ min: 0, max: 50_000_000 }),
    fc.integer({ min: 0, max: HIGHEST_NS }),
  ),
  { maxLength: 200 },
)
const BOUNDS_NS = bucketBoundsNs(DEFAULT_SLOS)

describe('sparse cell counts', () => {
  it('merged from any parts in any order equal one histogram of all values: counts, sum, buckets, quantiles', () => {
    fc.assert(
      fc.property(fc.array(valuesNs, { maxLength: 8 }), (parts) => {
        const whole = new LatencyHistogram(boundCells(BOUNDS_NS))
        for (const value of parts.flat()) whole.record(value)
        const merged = CellCounts.empty()
        for (const part of parts) merged.add(CellCounts.from(histogramOf(part)))
        const back = new LatencyHistogram()
        merged.copyTo(back)
        assert.deepEqual(back.counts, whole.counts)
        assert.equal(merged.count, whole.count)
        assert.equal(merged.sumNs, whole.sumNs)
        assert.equal(back.sumNs, whole.sumNs)
        assert.equal(merged.maxNs, whole.maxNs)
        assert.deepEqual(merged.cumulative(BOUNDS_NS), whole.cumulative(BOUNDS_NS))
        for (const bound of BOUNDS_NS) {
          assert.equal(merged.countAtMost(bound), parts.flat().filter((value) => value <= bound).length)
        }
      }),
      { numRuns: 200 },
    )
  })

  it('summed densely give the quantiles of the histogram, also when the sum is used again', () => {
    const sum = new CellSum()
    fc.assert(
      fc.property(valuesNs, valuesNs, (a, b) => {
        const whole = histogramOf([...a, ...b])
        sum
          .clear()
          .add(CellCounts.from(histogramOf(a)))
          .add(CellCounts.from(histogramOf(b)))
        assert.deepEqual(sum.summary(), summarize(whole))
        const qs = [0, 0.001, 0.25, 0.5, 0.75, 0.999, 1]
        assert.deepEqual(
          sum.quantilesNs(qs),
          qs.map((q) => whole.quantileNs(q)),
        )
      }),
      { numRuns: 200 },
    )
  })

  it('a copy does not change with its original', () => {
    const original = CellCounts.from(histogramOf([1, 2, 3]))
    const copy = original.copy()
    original.add(CellCounts.from(histogramOf([2, 9])))
    assert.deepEqual([original.count, original.size, copy.count, copy.size], [5, 4, 3, 3])
  })
})
