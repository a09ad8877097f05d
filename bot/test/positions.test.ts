import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Positions } from '../src/positions.ts'

const T = 'KXT-1'

test('a trade told twice is new once', () => {
  const positions = new Positions()
  assert.equal(positions.isNew('t1'), true)
  assert.equal(positions.isNew('t1'), false)
  assert.equal(positions.isNew('t2'), true)
})

test('trade ids are forgotten in the order they came, after thousands', () => {
  const positions = new Positions()
  for (let i = 0; i < 20_000; i++) positions.isNew(`t${i}`)
  assert.equal(positions.isNew('t19999'), false)
  assert.equal(positions.isNew('t10000'), false)
  assert.equal(positions.isNew('t0'), true)
})

test('buying low and selling high realises the difference', () => {
  const positions = new Positions()
  positions.fill(T, 'bid', 1000, 4000000)
  positions.fill(T, 'bid', 1000, 5000000)
  assert.equal(positions.of(T).costMicros, 9_000_000)
  assert.equal(positions.boundMicros, 9_000_000)
  positions.fill(T, 'ask', 1000, 5500000)
  const position = positions.of(T)
  assert.equal(position.quantityHundredths, 1000)
  // Average 45 cents, sold at 55: ten contracts, one dollar.
  assert.equal(position.realizedMicros, 1_000_000)
  assert.equal(positions.boundMicros, 4_500_000)
})

test('a fill through zero closes at the average and opens at its own price', () => {
  const positions = new Positions()
  positions.fill(T, 'bid', 500, 2000000)
  positions.fill(T, 'ask', 800, 4000000)
  const position = positions.of(T)
  assert.equal(position.quantityHundredths, -300)
  assert.equal(position.realizedMicros, 500_000)
  assert.equal(position.costMicros, -1_500_000)
  // Three contracts sold at 50 cents can lose the other 50 each.
  assert.equal(positions.boundMicros, 1_500_000)
})

test('the venue has the last word on a position', () => {
  const positions = new Positions()
  positions.fill(T, 'bid', 500, 2_000_000)
  positions.adopt(T, -200, 800_000)
  assert.equal(positions.of(T).quantityHundredths, -200)
  // Two contracts sold at 60 cents can lose 40 each.
  assert.equal(positions.of(T).costMicros, -1_200_000)
  assert.equal(positions.boundMicros, 800_000)
  positions.adopt(T, 300, 1_500_000)
  assert.equal(positions.of(T).costMicros, 1_500_000)
  assert.equal(positions.boundMicros, 1_500_000)
  positions.adopt(T, 0, 0)
  assert.equal(positions.boundMicros, 0)
})

test('quantity is the sum of fills, and cash, position and profit add up', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          side: fc.constantFrom('bid' as const, 'ask' as const),
          size: fc.integer({ min: 1, max: 5000 }),
          price: fc.integer({ min: 1, max: 9999 }),
        }),
        { maxLength: 60 },
      ),
      (fills) => {
        const positions = new Positions()
        let quantity = 0
        let cashMicros = 0
        for (const { side, size, price } of fills) {
          positions.fill(T, side, size, size * price)
          const signed = side === 'bid' ? size : -size
          quantity += signed
          cashMicros -= signed * price
        }
        const position = positions.of(T)
        assert.equal(position.quantityHundredths, quantity)
        assert.equal(position.fills, fills.length)
        // What was paid is what the position cost less what was earned.
        assert.ok(Math.abs(cashMicros - (position.realizedMicros - position.costMicros)) < 1e-2)
        const atRiskMicros = quantity >= 0 ? position.costMicros : -quantity * 10_000 + position.costMicros
        assert.ok(Math.abs(positions.boundMicros - atRiskMicros) < 1e-2)
        assert.ok(positions.boundMicros > -1e-2)
      },
    ),
  )
})
