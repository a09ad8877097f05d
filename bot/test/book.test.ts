import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type BookLevel, type OutcomeSide as Side, TICKS_PER_DOLLAR } from '@tickscope/venue/kalshi'
import fc from 'fast-check'
import { Book, Levels } from '../src/book.ts'

/** The same book, written to be obviously right. */
class NaiveBook {
  readonly sides = { yes: new Map<number, number>(), no: new Map<number, number>() }

  apply(side: Side, priceTicks: number, deltaHundredths: number): number {
    const size = (this.sides[side].get(priceTicks) ?? 0) + deltaHundredths
    if (size > 0) this.sides[side].set(priceTicks, size)
    else this.sides[side].delete(priceTicks)
    return size
  }

  levels(side: Side): BookLevel[] {
    return [...this.sides[side]].map(([priceTicks, countHundredths]) => ({ priceTicks, countHundredths }))
  }

  best(side: Side): number {
    return Math.max(0, ...this.sides[side].keys())
  }
}

function contents(levels: Levels): [number, number][] {
  return Array.from({ length: levels.count }, (_, i) => [levels.prices[i]!, levels.sizes[i]!])
}

const level = (priceTicks: number, countHundredths: number): BookLevel => ({ priceTicks, countHundredths })

const side = fc.constantFrom<Side>('yes', 'no')
const price = fc.oneof(fc.integer({ min: 1, max: 9999 }), fc.integer({ min: 4900, max: 5100 }))
const change = fc.record({ side, price, delta: fc.integer({ min: -3000, max: 5000 }).filter((d) => d !== 0) })

test('a book equals a naive reference after any snapshot and deltas', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(side, price, fc.integer({ min: 1, max: 1e9 })), { maxLength: 300 }),
      fc.array(change, { maxLength: 300 }),
      (levels, changes) => {
        const book = new Book('KXT-1')
        const naive = new NaiveBook()
        for (const [s, p, size] of levels) naive.apply(s, p, size)
        assert.equal(book.replace(naive.levels('yes'), naive.levels('no')), true)
        for (const { side: s, price: p, delta } of changes) {
          const standing = naive.sides[s].get(p) ?? 0
          // Keep to what a venue could send; what it could not is the next test's.
          const possible = Math.max(delta, -standing)
          if (possible === 0) continue
          naive.apply(s, p, possible)
          assert.equal(book.apply(s, p, possible), 'applied')
          assert.equal(book.bestBidTicks, naive.best('yes'))
          assert.equal(book.bestAskTicks, TICKS_PER_DOLLAR - naive.best('no'))
        }
        for (const s of ['yes', 'no'] as const) {
          const expected = [...naive.sides[s].entries()].sort(([a], [b]) => a - b)
          assert.deepEqual(contents(book[s]), expected)
        }
      },
    ),
  )
})

test('a level below zero makes the book suspect until its next snapshot', () => {
  const book = new Book('KXT-1')
  book.replace([level(4000, 1000)], [level(5000, 1000)])
  assert.equal(book.tradable, true)
  assert.equal(book.apply('yes', 4000, -1001), 'negative')
  assert.equal(book.state, 'suspect')
  assert.equal(book.tradable, false)
  assert.equal(book.apply('yes', 4000, 500), 'ignored')
  book.replace([level(4100, 700)], [level(5000, 1000)])
  assert.equal(book.tradable, true)
  assert.deepEqual(contents(book.yes), [[4100, 700]])
})

test('removing from a level that is not there makes the book suspect', () => {
  const book = new Book('KXT-1')
  book.replace([], [])
  assert.equal(book.apply('no', 300, -1), 'negative')
  assert.equal(book.state, 'suspect')
})

test('a price outside the dollar makes the book suspect', () => {
  for (const bad of [0, TICKS_PER_DOLLAR, -5, Number.NaN]) {
    const book = new Book('KXT-1')
    book.replace([], [])
    assert.equal(book.apply('yes', bad, 100), 'invalid')
    assert.equal(book.state, 'suspect')
  }
})

test('a snapshot with a level that cannot be leaves the book suspect; an empty level is no level', () => {
  for (const bad of [level(0, 100), level(TICKS_PER_DOLLAR, 100), level(5000, -1), level(5000, Number.NaN)]) {
    const book = new Book('KXT-1')
    assert.equal(book.replace([level(4000, 100), bad], []), false)
    assert.equal(book.state, 'suspect')
    assert.equal(book.replace([level(4000, 100), level(4100, 0)], [level(5000, 100)]), true)
    assert.deepEqual([book.bestBidTicks, book.bestAskTicks, book.tradable], [4000, 5000, true])
  }
})

test('deltas before the first snapshot change nothing', () => {
  const book = new Book('KXT-1')
  assert.equal(book.apply('yes', 5000, 100), 'ignored')
  book.doubt()
  assert.equal(book.state, 'empty')
  assert.equal(book.yes.count, 0)
})

test('a crossed book is seen and not tradable', () => {
  const book = new Book('KXT-1')
  book.replace([level(6000, 100)], [level(4100, 100)])
  assert.equal(book.crossed, true)
  assert.equal(book.tradable, false)
  assert.equal(book.apply('no', 4100, -100), 'applied')
  assert.equal(book.crossed, false)
  assert.equal(book.apply('no', 3900, 100), 'applied')
  assert.equal(book.tradable, true)
})

test('a side can hold a level at every price', () => {
  const levels = new Levels()
  for (let p = 9999; p >= 1; p--) levels.add(p, p)
  assert.equal(levels.count, 9999)
  assert.equal(levels.sizeAt(1234), 1234)
  for (let p = 1; p <= 9999; p++) assert.equal(levels.add(p, -p), 0)
  assert.equal(levels.count, 0)
})
