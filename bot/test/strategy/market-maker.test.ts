import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TICKS_PER_DOLLAR } from '@tickscope/venue/kalshi'
import fc from 'fast-check'
import {
  createDecision,
  createView,
  type Decision,
  decide,
  feeTicks,
  type MarketMakerParams,
  type MarketView,
  micropriceTicks,
} from '../../src/strategy/market-maker.ts'

const params: MarketMakerParams = {
  quoteSizeHundredths: 1000,
  takeSizeHundredths: 1000,
  maxPositionHundredths: 10_000,
  skewTicks: 300,
  halfSpreadMinTicks: 100,
  volatilityMultiple: 1,
  requoteTicks: 20,
  quoteLifeMs: 250,
  quoteMaxLifeMs: 60_000,
  dangerTicks: 30,
  takeMarginTicks: 50,
  takeCooldownMs: 250,
  takerFeeRate: 0.07,
  makerFeeRate: 0,
  maxLivePerSide: 3,
  priceMinTicks: 100,
  priceMaxTicks: 9900,
}

/** A market at 48/52 that may be traded on, nothing held, nothing resting. */
function calm(changes: Partial<MarketView> = {}): MarketView {
  return {
    ...createView(),
    nowMs: 10_000,
    ready: true,
    bidTicks: 4800,
    bidSizeHundredths: 5000,
    askTicks: 5200,
    askSizeHundredths: 5000,
    fairTicks: 5000,
    ...changes,
  }
}

function decided(view: MarketView, given: MarketMakerParams = params): Decision {
  const out = createDecision()
  decide(view, given, out)
  return out
}

/** Any state a market can be in, ours included. */
const anyView: fc.Arbitrary<MarketView> = fc
  .record({
    bidTicks: fc.integer({ min: 0, max: 99 }).map((c) => c * 100),
    spread: fc.integer({ min: -3, max: 40 }).map((c) => c * 100),
    bidSizeHundredths: fc.integer({ min: 0, max: 200_000 }),
    askSizeHundredths: fc.integer({ min: 0, max: 200_000 }),
    fairTicks: fc.double({ min: 0, max: TICKS_PER_DOLLAR, noNaN: true }),
    sigmaTicks: fc.double({ min: 0, max: 2000, noNaN: true }),
    ready: fc.constantFrom(true, true, true, false),
    positionHundredths: fc.integer({ min: -12_000, max: 12_000 }),
    liveBuyHundredths: fc.integer({ min: 0, max: 4000 }),
    liveSellHundredths: fc.integer({ min: 0, max: 4000 }),
    quoteBidTicks: fc.integer({ min: 0, max: 99 }).map((c) => c * 100),
    quoteAskTicks: fc.integer({ min: 0, max: 99 }).map((c) => c * 100),
    ageMs: fc.integer({ min: 0, max: 1000 }),
    sinceTakeMs: fc.integer({ min: 0, max: 1000 }),
  })
  .map(({ spread, ageMs, sinceTakeMs, ...given }) => ({
    ...createView(),
    ...given,
    nowMs: 10_000,
    askTicks: Math.max(0, Math.min(TICKS_PER_DOLLAR, given.bidTicks + spread)),
    quoteBidAtMs: 10_000 - ageMs,
    quoteAskAtMs: 10_000 - ageMs,
    ownBidTicks: given.quoteBidTicks,
    ownAskTicks: given.quoteAskTicks === 0 ? TICKS_PER_DOLLAR : given.quoteAskTicks,
    lastTakeAtMs: 10_000 - sinceTakeMs,
  }))

test('quotes stay on the grid, within the band, and never touch the other side or our own orders', () => {
  fc.assert(
    fc.property(anyView, (view) => {
      const d = decided(view)
      if (d.bidSizeHundredths > 0) {
        assert.equal(d.bidTicks % view.stepTicks, 0)
        assert.ok(d.bidTicks >= params.priceMinTicks && d.bidTicks <= params.priceMaxTicks)
        assert.ok(d.bidTicks < view.askTicks && d.bidTicks < view.ownAskTicks)
      }
      if (d.askSizeHundredths > 0) {
        assert.equal(d.askTicks % view.stepTicks, 0)
        assert.ok(d.askTicks >= params.priceMinTicks && d.askTicks <= params.priceMaxTicks)
        assert.ok(d.askTicks > view.bidTicks && d.askTicks > view.ownBidTicks)
      }
      if (d.bidSizeHundredths > 0 && d.askSizeHundredths > 0) assert.ok(d.bidTicks < d.askTicks)
      if (d.takeSizeHundredths > 0) {
        assert.equal(d.takeTicks, d.takeSide === 'bid' ? view.askTicks : view.bidTicks)
        assert.ok(d.takeTicks >= params.priceMinTicks && d.takeTicks <= params.priceMaxTicks)
        // A take and a new quote on the other side must not meet each other either.
        if (d.takeSide === 'bid' && d.askSizeHundredths > 0) assert.ok(d.askTicks > d.takeTicks)
        if (d.takeSide === 'ask' && d.bidSizeHundredths > 0) assert.ok(d.bidTicks < d.takeTicks)
      }
    }),
    { numRuns: 2000 },
  )
})

test('a quote just placed is left alone while nothing changes', () => {
  fc.assert(
    fc.property(anyView, (view) => {
      const first = decided({
        ...view,
        quoteBidTicks: 0,
        quoteAskTicks: 0,
        ownBidTicks: 0,
        ownAskTicks: TICKS_PER_DOLLAR,
      })
      if (first.takeSizeHundredths > 0) return
      const second = decided({
        ...view,
        nowMs: view.nowMs + 10_000,
        quoteBidTicks: first.bidSizeHundredths > 0 ? first.bidTicks : 0,
        quoteAskTicks: first.askSizeHundredths > 0 ? first.askTicks : 0,
        ownBidTicks: first.bidSizeHundredths > 0 ? first.bidTicks : 0,
        ownAskTicks: first.askSizeHundredths > 0 ? first.askTicks : TICKS_PER_DOLLAR,
      })
      assert.equal(second.cancelBid, false)
      assert.equal(second.cancelAsk, false)
    }),
    { numRuns: 2000 },
  )
})

test('a quote is never replaced by one at the same price', () => {
  fc.assert(
    fc.property(anyView, (view) => {
      const d = decided(view)
      if (d.cancelBid && d.bidSizeHundredths > 0) assert.notEqual(d.bidTicks, view.quoteBidTicks)
      if (d.cancelAsk && d.askSizeHundredths > 0) assert.notEqual(d.askTicks, view.quoteAskTicks)
    }),
    { numRuns: 2000 },
  )
})

test('a side with cancels on their way waits for them', () => {
  assert.equal(decided(calm({ liveBuys: 3 })).bidSizeHundredths, 0)
  assert.ok(decided(calm({ liveBuys: 2 })).bidSizeHundredths > 0)
  assert.equal(decided(calm({ liveSells: 3 })).askSizeHundredths, 0)
})

test('whatever fills, the position stays within its limit', () => {
  fc.assert(
    fc.property(anyView, (view) => {
      const d = decided(view)
      const buys = d.bidSizeHundredths + (d.takeSide === 'bid' ? d.takeSizeHundredths : 0)
      const sells = d.askSizeHundredths + (d.takeSide === 'ask' ? d.takeSizeHundredths : 0)
      if (buys > 0) assert.ok(view.positionHundredths + view.liveBuyHundredths + buys <= params.maxPositionHundredths)
      if (sells > 0)
        assert.ok(-view.positionHundredths + view.liveSellHundredths + sells <= params.maxPositionHundredths)
    }),
    { numRuns: 2000 },
  )
})

test('a book that may not be traded on has its quotes pulled and gets no orders', () => {
  for (const broken of [{ ready: false }, { bidSizeHundredths: 0 }, { askSizeHundredths: 0 }]) {
    const d = decided(calm({ quoteBidTicks: 4700, quoteAskTicks: 5300, fairTicks: 9000, ...broken }))
    assert.equal(d.cancelBid, true)
    assert.equal(d.cancelAsk, true)
    assert.equal(d.bidSizeHundredths + d.askSizeHundredths + d.takeSizeHundredths, 0)
  }
})

test('a book crossed for a moment changes nothing', () => {
  const d = decided(calm({ quoteBidTicks: 4700, quoteAskTicks: 5300, fairTicks: 9000, bidTicks: 5200 }))
  assert.deepEqual(d, createDecision())
})

test('an empty market is quoted on both sides of the microprice', () => {
  const d = decided(calm())
  assert.deepEqual([d.bidTicks, d.bidSizeHundredths, d.askTicks, d.askSizeHundredths], [4900, 1000, 5100, 1000])
  assert.equal(d.takeSizeHundredths, 0)
})

test('quotes lean against the inventory', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1000, max: 9000 }),
      fc.integer({ min: -8000, max: 7000 }),
      fc.integer({ min: 0, max: 1000 }),
      (bidSizeHundredths, positionHundredths, more) => {
        const less = decided(calm({ bidSizeHundredths, positionHundredths }))
        const longer = decided(calm({ bidSizeHundredths, positionHundredths: positionHundredths + more }))
        assert.ok(longer.bidTicks <= less.bidTicks)
        assert.ok(longer.askTicks <= less.askTicks)
      },
    ),
  )
  assert.ok(
    decided(calm({ positionHundredths: 8000 })).askTicks < decided(calm({ positionHundredths: -8000 })).askTicks,
  )
})

test('a full position is quoted on the closing side only', () => {
  const long = decided(calm({ positionHundredths: 10_000 }))
  assert.equal(long.bidSizeHundredths, 0)
  assert.ok(long.askSizeHundredths > 0)
  const short = decided(calm({ positionHundredths: -10_000 }))
  assert.equal(short.askSizeHundredths, 0)
  assert.ok(short.bidSizeHundredths > 0)
})

test('quotes widen with volatility', () => {
  const d = decided(calm({ bidTicks: 3000, askTicks: 7000, sigmaTicks: 500 }))
  assert.deepEqual([d.bidTicks, d.askTicks], [4500, 5500])
})

test('a quote near its target is left alone', () => {
  const d = decided(calm({ quoteBidTicks: 4900, quoteAskTicks: 5100, ownBidTicks: 4900, ownAskTicks: 5100 }))
  assert.deepEqual([d.cancelBid, d.cancelAsk, d.bidSizeHundredths, d.askSizeHundredths], [false, false, 0, 0])
})

test('a quote that has fallen behind is replaced, but not before it has lived its time', () => {
  const behind = { quoteBidTicks: 4600, ownBidTicks: 4600, liveBuyHundredths: 1000 }
  const young = decided(calm({ ...behind, quoteBidAtMs: 9900 }))
  assert.equal(young.cancelBid, false)
  assert.equal(young.bidSizeHundredths, 0)
  const old = decided(calm({ ...behind, quoteBidAtMs: 9000 }))
  assert.equal(old.cancelBid, true)
  assert.equal(old.bidTicks, 4900)
})

test('a quote is renewed at its price before it expires', () => {
  const standing = { quoteBidTicks: 4900, ownBidTicks: 4900, liveBuys: 1, nowMs: 100_000 }
  assert.equal(decided(calm({ ...standing, quoteBidAtMs: 40_001 })).cancelBid, false)
  const d = decided(calm({ ...standing, quoteBidAtMs: 40_000 }))
  assert.deepEqual([d.cancelBid, d.bidTicks, d.bidSizeHundredths], [true, 4900, 1000])
})

test('a quote the market has run into is pulled at once', () => {
  const d = decided(
    calm({ bidTicks: 4000, askTicks: 4400, quoteBidTicks: 4300, ownBidTicks: 4300, quoteBidAtMs: 9999 }),
  )
  assert.equal(d.cancelBid, true)
})

test('an offer below fair value by more than fee and margin is taken, one above is not', () => {
  const askTicks = 4500
  const edge = feeTicks(params.takerFeeRate, askTicks) + params.takeMarginTicks
  const market = { bidTicks: 4400, askTicks }
  assert.equal(decided(calm({ ...market, fairTicks: askTicks + edge - 1 })).takeSizeHundredths, 0)
  const d = decided(calm({ ...market, fairTicks: askTicks + edge + 1 }))
  assert.deepEqual([d.takeSide, d.takeTicks, d.takeSizeHundredths], ['bid', 4500, 1000])
  const sell = decided(calm({ bidTicks: 5500, askTicks: 5600, fairTicks: 5000 }))
  assert.deepEqual([sell.takeSide, sell.takeTicks, sell.takeSizeHundredths], ['ask', 5500, 1000])
})

test('takes wait for the book to show the last one, and never hit our own quote', () => {
  const mispriced = { bidTicks: 4400, askTicks: 4500, fairTicks: 5500 }
  assert.equal(decided(calm({ ...mispriced, lastTakeAtMs: 9900 })).takeSizeHundredths, 0)
  assert.equal(decided(calm({ ...mispriced, quoteAskTicks: 4500, ownAskTicks: 4500 })).takeSizeHundredths, 0)
})

test('only whole contracts are ordered', () => {
  assert.equal(decided(calm({ positionHundredths: 9750 })).bidSizeHundredths, 200)
  assert.equal(decided(calm({ positionHundredths: 9950 })).bidSizeHundredths, 0)
})

test('the fee is the published quadratic and the microprice leans to the thin side', () => {
  // 0.07 * 1 * 0.52 * 0.48 = 0.017472 dollars, which the venue rounds up to 0.0175
  assert.equal(Math.round(feeTicks(0.07, 5200) * 100) / 100, 174.72)
  assert.equal(micropriceTicks(4000, 300, 5000, 100), 4750)
})
