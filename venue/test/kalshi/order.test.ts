import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  type CreateOrder,
  encodeCancelOrderResult,
  encodeCreateOrder,
  encodeCreateOrderResult,
  encodeFill,
  encodeOrder,
  encodePosition,
  type Fill,
  type Order,
  type Position,
  parseCancelOrderResult,
  parseCreateOrder,
  parseCreateOrderResult,
  parseFill,
  parseOrder,
  parsePosition,
  SELF_TRADE_PREVENTIONS,
  TIMES_IN_FORCE,
  WireError,
} from '../../src/kalshi/index.ts'

const ORDER: CreateOrder = {
  ticker: 'KXX-1',
  side: 'bid',
  countHundredths: 1000,
  priceTicks: 5600,
  timeInForce: 'good_till_canceled',
  selfTradePrevention: 'taker_at_cross',
  clientOrderId: 'c-1',
  postOnly: true,
}

/** Without the fields that are there but undefined, as JSON would have them. */
function defined(value: object): unknown {
  return JSON.parse(JSON.stringify(value))
}

test('a create is written with the documented fields, strings for count and price', () => {
  assert.equal(
    encodeCreateOrder(ORDER),
    '{"ticker":"KXX-1","side":"bid","count":"10.00","price":"0.5600","time_in_force":"good_till_canceled",' +
      '"self_trade_prevention_type":"taker_at_cross","client_order_id":"c-1","post_only":true}',
  )
})

test('any create is valid JSON and reads back the same, whatever its texts contain', () => {
  const option = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined })
  const order = fc.record(
    {
      ticker: fc.string({ unit: 'binary' }),
      side: fc.constantFrom('bid' as const, 'ask' as const),
      countHundredths: fc.integer({ min: 1, max: 1e12 }),
      priceTicks: fc.integer({ min: 0, max: 10_000 }),
      timeInForce: fc.constantFrom(...TIMES_IN_FORCE),
      selfTradePrevention: fc.constantFrom(...SELF_TRADE_PREVENTIONS),
      clientOrderId: option(fc.string({ unit: 'binary' })),
      expirationTimeS: option(fc.nat()),
      postOnly: option(fc.boolean()),
      reduceOnly: option(fc.boolean()),
      cancelOrderOnPause: option(fc.boolean()),
      subaccount: option(fc.nat(63)),
      orderGroupId: option(fc.string()),
      exchangeIndex: option(fc.integer({ min: -1, max: 3 })),
    },
    { noNullPrototype: true },
  )
  fc.assert(
    fc.property(order, (given) => {
      assert.deepEqual(parseCreateOrder(JSON.parse(encodeCreateOrder(given))), given)
    }),
  )
})

test('a create with a number for count or price, or a word that is not in the list, is refused by field', () => {
  const body = JSON.parse(encodeCreateOrder(ORDER))
  const cases: [string, unknown, RegExp][] = [
    ['count', 10, /^WireError: count is '10'/],
    ['price', 0.56, /^WireError: price is '0.56'/],
    ['count', '0.00', /count must be above 0/],
    ['count', '-1', /count must be above 0/],
    ['side', 'buy', /side is 'buy', not one of bid, ask/],
    ['time_in_force', undefined, /time_in_force/],
    ['ticker', undefined, /ticker is not a string/],
    ['post_only', 'yes', /post_only is not true or false/],
  ]
  for (const [field, value, message] of cases)
    assert.throws(
      () => parseCreateOrder({ ...body, [field]: value }),
      (error) => {
        assert.ok(error instanceof WireError)
        assert.match(String(error), message)
        return true
      },
    )
  assert.throws(() => parseCreateOrder([body]), WireError)
  assert.throws(() => parseCreateOrder(null), WireError)
})

test('answers to create and cancel read back as written', () => {
  const created = {
    orderId: 'o-1',
    clientOrderId: 'c-1',
    fillCountHundredths: 250,
    remainingCountHundredths: 750,
    averageFillPriceMicros: 560_050,
    averageFeePaidMicros: 17_500,
    tsMs: 1_780_000_000_123,
  }
  const text = encodeCreateOrderResult(created)
  assert.match(text, /"fill_count":"2\.50","remaining_count":"7\.50"/)
  assert.deepEqual(parseCreateOrderResult(JSON.parse(text)), created)
  const documented =
    '{"order_id":"o","client_order_id":"c-1","fill_count":"0.00","remaining_count":"10.00","ts_ms":1780000000123}'
  assert.equal(parseCreateOrderResult(JSON.parse(documented)).remainingCountHundredths, 1000)
  const cancelled = { orderId: 'o-1', clientOrderId: undefined, reducedByHundredths: 750, tsMs: 1 }
  assert.deepEqual(parseCancelOrderResult(JSON.parse(encodeCancelOrderResult(cancelled))), cancelled)
})

test('orders, fills and positions read back as written', () => {
  const order: Order = {
    orderId: 'o-1',
    clientOrderId: 'c-1',
    ticker: 'KXX-1',
    side: 'ask',
    status: 'resting',
    priceTicks: 5601,
    initialCountHundredths: 1000,
    fillCountHundredths: 100,
    remainingCountHundredths: 900,
    takerFillCostMicros: 0,
    makerFillCostMicros: 439_900,
    takerFeesMicros: 0,
    makerFeesMicros: 4_400,
    createdTime: '2026-11-22T13:00:00Z',
    selfTradePrevention: 'maker',
    cancelOrderOnPause: false,
    subaccountNumber: 0,
    exchangeIndex: 2,
  }
  const wire = JSON.parse(JSON.stringify(encodeOrder(order)))
  assert.equal(wire.yes_price_dollars, '0.5601')
  assert.equal(wire.no_price_dollars, '0.4399')
  assert.equal(wire.outcome_side, 'no')
  assert.deepEqual(defined(parseOrder(wire)), defined(order))
  const fill: Fill = {
    fillId: 'f',
    tradeId: 't',
    orderId: 'o',
    ticker: 'KXX-1',
    side: 'bid',
    countHundredths: 100,
    priceTicks: 5600,
    isTaker: true,
    feeMicros: 17_500,
    createdTime: '2026-11-22T13:00:00.123Z',
    tsMs: Date.parse('2026-11-22T13:00:00.123Z'),
  }
  assert.deepEqual(defined(parseFill(JSON.parse(JSON.stringify(encodeFill(fill))))), defined(fill))
  const position: Position = {
    ticker: 'KXX-1',
    positionHundredths: -1050,
    totalTradedMicros: 1,
    marketExposureMicros: 2,
    realizedPnlMicros: -3,
    feesPaidMicros: 4,
    lastUpdatedTsMs: 1_780_000_000_123,
  }
  const wirePosition = JSON.parse(JSON.stringify(encodePosition(position)))
  assert.equal(wirePosition.position_fp, '-10.50')
  assert.deepEqual(defined(parsePosition(wirePosition)), defined(position))
})

test('the direction of an order is read from its outcome when the book side is missing', () => {
  const wire = {
    ...encodeOrder({ ...(ORDER as unknown as Order), ...EMPTY }),
    book_side: undefined,
    outcome_side: 'no',
  }
  assert.equal(parseOrder(wire).side, 'ask')
})

const EMPTY = {
  orderId: 'o',
  status: 'resting' as const,
  initialCountHundredths: 0,
  fillCountHundredths: 0,
  remainingCountHundredths: 0,
  takerFillCostMicros: 0,
  makerFillCostMicros: 0,
  takerFeesMicros: 0,
  makerFeesMicros: 0,
}
