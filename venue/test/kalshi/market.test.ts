import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  isOnGrid,
  parseAccountLimits,
  parseBalance,
  parseExchangeStatus,
  parseMarket,
  parseRestBook,
} from '../../src/kalshi/index.ts'

const RANGES = [
  { startTicks: 0, endTicks: 1000, stepTicks: 10 },
  { startTicks: 1000, endTicks: 9000, stepTicks: 100 },
]

test('a market is read with its price grid in ticks', () => {
  const wire = {
    ticker: 'KXX-1',
    event_ticker: 'KXX',
    title: 'X',
    status: 'active',
    price_level_structure: 'tapered_deci_cent',
    price_ranges: [
      { start: '0.0000', end: '0.1000', step: '0.0010' },
      { start: '0.1000', end: '0.9000', step: '0.0100' },
    ],
    yes_bid_dollars: '0.5600',
    yes_ask_dollars: '0.5700',
    last_price_dollars: null,
    volume_fp: '1.00',
    open_time: '2026-11-22T13:00:00Z',
    close_time: '2026-11-22T14:00:00Z',
    exchange_index: 2,
  }
  assert.deepEqual(parseMarket(wire), {
    ticker: 'KXX-1',
    eventTicker: 'KXX',
    title: 'X',
    status: 'active',
    priceRanges: RANGES,
    priceLevelStructure: 'tapered_deci_cent',
    yesBidTicks: 5600,
    yesAskTicks: 5700,
    lastPriceTicks: undefined,
    volumeHundredths: 100,
    openTime: '2026-11-22T13:00:00Z',
    closeTime: '2026-11-22T14:00:00Z',
    exchangeIndex: 2,
  })
  assert.deepEqual(parseMarket({ ticker: 'A', status: 'active' }).priceRanges, [])
  const endless = { ...wire, price_ranges: [{ start: '0', end: '1', step: '0' }] }
  assert.throws(() => parseMarket(endless), /price_ranges has an empty range/)
})

test('whole cents are on every grid, finer prices only where a range allows them, 0 and 1 dollar never', () => {
  assert.ok(isOnGrid([], 5600))
  assert.ok(!isOnGrid([], 5610))
  assert.ok(isOnGrid(RANGES, 110))
  assert.ok(!isOnGrid(RANGES, 115))
  assert.ok(!isOnGrid(RANGES, 1110))
  for (const off of [0, 10_000, -100, 50.5, Number.NaN]) assert.ok(!isOnGrid(RANGES, off))
})

test('REST books, status, balance and limits are read in integers', () => {
  assert.deepEqual(parseRestBook({ orderbook_fp: { yes_dollars: [['0.4200', '13.00']], no_dollars: [] } }), {
    yes: [{ priceTicks: 4200, countHundredths: 1300 }],
    no: [],
  })
  assert.deepEqual(parseExchangeStatus({ exchange_active: true, trading_active: false, exchange_index_statuses: [] }), {
    exchangeActive: true,
    tradingActive: false,
    estimatedResumeTime: undefined,
  })
  assert.deepEqual(parseBalance({ balance: 12_345, balance_dollars: '123.4567', portfolio_value: 0, updated_ts: 1 }), {
    balanceCents: 12_345,
    balanceMicros: 123_456_700,
    portfolioValueCents: 0,
  })
  const bucket = { refill_rate: 100, bucket_capacity: 200 }
  assert.deepEqual(parseAccountLimits({ usage_tier: 'basic', read: bucket, write: bucket, grants: [] }), {
    usageTier: 'basic',
    read: { refillPerSecond: 100, capacity: 200 },
    write: { refillPerSecond: 100, capacity: 200 },
  })
  assert.throws(() => parseBalance({ balance: '1' }), /balance is not an integer/)
})
