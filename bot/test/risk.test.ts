import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createQuery, Risk, type RiskLimits, type RiskQuery, type RiskReason, TokenBucket } from '../src/risk.ts'

const limits: RiskLimits = {
  maxPositionHundredths: 10_000,
  maxOrderHundredths: 5000,
  maxNotionalDollars: 100,
  ordersPerSecond: 10,
  orderBurst: 5,
  maxLiveOrders: 8,
  bandTicks: 1000,
  priceMinTicks: 100,
  priceMaxTicks: 9900,
}

function order(changes: Partial<RiskQuery> = {}): RiskQuery {
  return {
    ...createQuery(),
    nowMs: 1000,
    side: 'bid',
    priceTicks: 5000,
    sizeHundredths: 1000,
    bookTradable: true,
    midTicks: 5000,
    ...changes,
  }
}

/** @returns the one reason the order was refused for, undefined when it passed */
function refusal(
  query: RiskQuery,
  given: Partial<RiskLimits> = {},
  prepare?: (risk: Risk) => void,
): string | undefined {
  const risk = new Risk({ ...limits, ...given })
  prepare?.(risk)
  const passed = risk.check(query)
  const reasons = Object.entries(risk.refused).filter(([, count]) => count > 0)
  assert.equal(reasons.length, passed ? 0 : 1)
  return reasons[0]?.[0]
}

test('an ordinary order passes', () => {
  assert.equal(refusal(order()), undefined)
  assert.equal(refusal(order({ side: 'ask' })), undefined)
})

const cases: readonly [title: string, reason: RiskReason, at: RiskQuery, beyond: RiskQuery][] = [
  ['the largest order', 'size', order({ sizeHundredths: 5000 }), order({ sizeHundredths: 5001 })],
  ['a size above zero', 'size', order({ sizeHundredths: 1 }), order({ sizeHundredths: 0 })],
  ['a size that is a number', 'size', order({ sizeHundredths: 1 }), order({ sizeHundredths: Number.NaN })],
  ['the lowest price', 'price', order({ priceTicks: 100, midTicks: 200 }), order({ priceTicks: 99, midTicks: 200 })],
  [
    'the highest price',
    'price',
    order({ priceTicks: 9900, midTicks: 9800 }),
    order({ priceTicks: 9901, midTicks: 9800 }),
  ],
  ['the band below the mid', 'band', order({ priceTicks: 4000 }), order({ priceTicks: 3999 })],
  ['the band above the mid', 'band', order({ priceTicks: 6000 }), order({ priceTicks: 6001 })],
  [
    'the long position with what may still fill',
    'position',
    order({ positionHundredths: 5000, liveBuyHundredths: 4000 }),
    order({ positionHundredths: 5000, liveBuyHundredths: 4001 }),
  ],
  [
    'the short position with what may still fill',
    'position',
    order({ side: 'ask', positionHundredths: -5000, liveSellHundredths: 4000 }),
    order({ side: 'ask', positionHundredths: -5000, liveSellHundredths: 4001 }),
  ],
  // 10 contracts at 0.50 risk 5 dollars, so 95 may be at risk already.
  ['the money at risk', 'notional', order({ atRiskMicros: 95e6 }), order({ atRiskMicros: 95e6 + 1 })],
  [
    'the money a sell risks, which is a dollar less its price',
    'notional',
    order({ side: 'ask', priceTicks: 5500, atRiskMicros: 95.5e6 }),
    order({ side: 'ask', priceTicks: 5400, atRiskMicros: 95.5e6 }),
  ],
  ['the number of live orders', 'live_orders', order({ liveOrders: 7 }), order({ liveOrders: 8 })],
]

for (const [title, reason, at, beyond] of cases) {
  test(`${title} is the limit: at it an order passes, beyond it not`, () => {
    assert.equal(refusal(at), undefined)
    assert.equal(refusal(beyond), reason)
  })
}

test('an order that only closes a position is not held up by the money at risk', () => {
  const full = { atRiskMicros: 1e12, positionHundredths: 3000 }
  assert.equal(refusal(order({ side: 'ask', ...full })), undefined)
  assert.equal(refusal(order({ side: 'ask', ...full, liveSellHundredths: 2500 })), 'notional')
  assert.equal(refusal(order({ side: 'bid', ...full })), 'notional')
})

test('a book that may not be traded on takes no order', () => {
  assert.equal(refusal(order({ bookTradable: false })), 'book')
})

test('the order rate holds over any pattern of attempts', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 1, maxLength: 300 }), (gapsMs) => {
      const bucket = new TokenBucket(10, 5)
      let nowMs = 0
      const passedAtMs: number[] = []
      for (const gap of gapsMs) {
        nowMs += gap
        if (bucket.take(nowMs)) passedAtMs.push(nowMs)
      }
      // In any window the bucket gives at most its burst and what flowed in meanwhile.
      for (let from = 0; from < passedAtMs.length; from++) {
        for (let to = from; to < passedAtMs.length; to++) {
          const seconds = (passedAtMs[to]! - passedAtMs[from]!) / 1e3
          assert.ok(to - from + 1 <= 5 + seconds * 10 + 1e-6)
        }
      }
      assert.ok(passedAtMs.length >= Math.min(gapsMs.length, 5))
    }),
  )
})

test('beyond the order rate orders are refused until tokens flow in', () => {
  const risk = new Risk(limits)
  for (let i = 0; i < 5; i++) assert.equal(risk.check(order()), true)
  assert.equal(risk.check(order()), false)
  assert.equal(risk.refused.rate, 1)
  assert.equal(risk.check(order({ nowMs: 1100 })), true)
  assert.equal(risk.check(order({ nowMs: 1100 })), false)
})

test('an order refused for another reason costs no token', () => {
  const risk = new Risk(limits)
  for (let i = 0; i < 50; i++) risk.check(order({ bookTradable: false }))
  for (let i = 0; i < 5; i++) assert.equal(risk.check(order()), true)
})

test('a clock that steps back gives no tokens', () => {
  const bucket = new TokenBucket(10, 1)
  assert.equal(bucket.take(5000), true)
  assert.equal(bucket.take(1000), false)
  assert.equal(bucket.take(1050), false)
})

test('a halt stops new orders, lets quotes rest, ends by itself, and a shorter one does not end a longer one', () => {
  const risk = new Risk(limits)
  risk.halt(2000)
  risk.halt(1500)
  assert.equal(risk.mayRest(1999), true)
  assert.equal(risk.check(order({ nowMs: 1999 })), false)
  assert.equal(risk.refused.halted, 1)
  assert.equal(risk.check(order({ nowMs: 2000 })), true)
})

test('a withdrawal stops orders and lets nothing rest until it ends', () => {
  const risk = new Risk(limits)
  risk.withdraw(2000)
  risk.halt(1500)
  assert.equal(risk.mayRest(1999), false)
  assert.equal(risk.check(order({ nowMs: 1999 })), false)
  assert.equal(risk.mayRest(2000), true)
  assert.equal(risk.check(order({ nowMs: 2000 })), true)
})

test('the kill switch latches and keeps its first reason', () => {
  const risk = new Risk(limits)
  risk.kill('signal')
  risk.kill('file')
  assert.equal(risk.killedBy, 'signal')
  assert.equal(risk.mayRest(1e12), false)
  assert.equal(risk.check(order({ nowMs: 1e12 })), false)
  assert.equal(risk.refused.kill_switch, 1)
})
