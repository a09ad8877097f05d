import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { QUANTILE_WINDOWS_SECONDS } from '@tickscope/contract'
import fc from 'fast-check'
import { CellCounts, CellSum } from '../src/cells.ts'
import { SlidingWindow, WINDOW_CELLS_MAX, type WindowBudget } from '../src/windows.ts'
import { histogramOf } from './fixture.ts'

const cellsOf = (values: readonly number[]) => CellCounts.from(histogramOf(values))

function countsOf(window: SlidingWindow, nowMs: number): number[] {
  const counts: number[] = []
  window.read(nowMs, new CellSum(), (_seconds, { count }) => void counts.push(count))
  return counts
}

describe('a sliding window', () => {
  it('holds exactly the events of its last whole seconds, whenever they arrived', () => {
    const arrivals = fc.array(fc.tuple(fc.integer({ min: 0, max: 90_000 }), fc.integer({ min: 1, max: 5 })), {
      maxLength: 40,
    })
    fc.assert(
      fc.property(arrivals, fc.integer({ min: 0, max: 60_000 }), (unsorted, laterMs) => {
        const sorted = unsorted.toSorted(([a], [b]) => a - b)
        const budget: WindowBudget = { cells: 0, leftOut: 0 }
        const window = new SlidingWindow(budget)
        for (const [atMs, events] of sorted) window.add(cellsOf(Array(events).fill(atMs)), atMs)
        const nowMs = (sorted.at(-1)?.[0] ?? 0) + laterMs
        const expected = QUANTILE_WINDOWS_SECONDS.map((seconds) =>
          sorted
            .filter(([atMs]) => Math.floor(atMs / 1000) > Math.floor(nowMs / 1000) - seconds)
            .reduce((sum, [, events]) => sum + events, 0),
        )
        assert.deepEqual(countsOf(window, nowMs), expected)
        assert.equal(budget.leftOut, 0)
        window.clear()
        assert.equal(budget.cells, 0)
      }),
    )
  })

  it('gives up its oldest seconds when all windows together are full, and counts that', () => {
    const budget: WindowBudget = { cells: WINDOW_CELLS_MAX - 3, leftOut: 0 }
    const window = new SlidingWindow(budget)
    for (let second = 0; second < 5; second++) window.add(cellsOf([second]), second * 1000)
    assert.deepEqual(countsOf(window, 4000), [3, 3])
    assert.deepEqual([budget.cells, budget.leftOut], [WINDOW_CELLS_MAX, 2])
    window.add(cellsOf([1, 2, 3, 4]), 5000)
    assert.deepEqual(countsOf(window, 5000), [0, 0], 'what never fits is left out')
    assert.equal(budget.cells, WINDOW_CELLS_MAX - 3)
  })

  it('does not change the cells it was given', () => {
    const window = new SlidingWindow({ cells: 0, leftOut: 0 })
    const first = cellsOf([1])
    window.add(first, 0)
    window.add(cellsOf([2]), 500)
    assert.deepEqual([first.count, countsOf(window, 999)], [1, [2, 2]])
  })
})
