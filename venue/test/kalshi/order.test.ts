import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  type CreateOrder,
  encodeCreateOrder,
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

test('answers to create and cancel are read, averages finer than a price tick', () => {
  assert.deepEqual(
    defined(
      parseCreateOrderResult({
        order_id: 'o-1',
        client_order_id: 'c-1',
        fill_count: '2.50',
        remaining_count: '7.50',
        average_fill_price: '0.560050',
        average_fee_paid: '0.0175',
        ts_ms: 1_780_000_000_123,
      }),
    ),
    {
      orderId: 'o-1',
      clientOrderId: 'c-1',
      fillCountHundredths: 250,
      remainingCountHundredths: 750,
      averageFillPriceMicros: 560_050,
      averageFeePaidMicros: 17_500,
      tsMs: 1_780_000_000_123,
    },
  )
  assert.deepEqual(parseCancelOrderResult({ order_id: 'o-1', reduced_by: '7.50', ts_ms: 1 }), {
    orderId: 'o-1',
    clientOrderId: undefined,
    reducedByHundredths: 750,
    tsMs: 1,
  })
  assert.throws(() => parseCreateOrderResult({ order_id: 'o-1' }), /fill_count/)
})

const WIRE_ORDER = {
  order_id: 'o-1',
  user_id: 'u-1',
  client_order_id: 'c-1',
  ticker: 'KXX-1',
  outcome_side: 'no',
  book_side: 'ask',
  side: 'no',
  action: 'buy',
  type: 'limit',
  status: 'resting',
  yes_price_dollars: '0.5601',
  no_price_dollars: '0.4399',
  initial_count_fp: '10.00',
  fill_count_fp: '1.00',
  remaining_count_fp: '9.00',
  taker_fill_cost_dollars: '0.000000',
  maker_fill_cost_dollars: '0.439900',
  taker_fees_dollars: '0.000000',
  maker_fees_dollars: '0.004400',
  created_time: '2026-11-22T13:00:00Z',
  last_update_time: '2026-11-22T13:00:01Z',
  expiration_time: null,
  self_trade_prevention_type: 'maker',
  order_group_id: '',
  cancel_order_on_pause: false,
  subaccount_number: 0,
  exchange_index: 2,
}

test('an order is read with its YES price; empty ids and nulls are absent', () => {
  assert.deepEqual(defined(parseOrder(WIRE_ORDER)), {
    orderId: 'o-1',
    userId: 'u-1',
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
    lastUpdateTime: '2026-11-22T13:00:01Z',
    selfTradePrevention: 'maker',
    cancelOrderOnPause: false,
    subaccountNumber: 0,
    exchangeIndex: 2,
  })
})

test('the direction of an order is read from its outcome when the book side is missing', () => {
  assert.equal(parseOrder({ ...WIRE_ORDER, book_side: undefined }).side, 'ask')
  assert.equal(parseOrder({ ...WIRE_ORDER, book_side: undefined, outcome_side: 'yes' }).side, 'bid')
  assert.throws(() => parseOrder({ ...WIRE_ORDER, book_side: 'buy' }), WireError)
})

test('a fill takes the finest time there is, a position its sign', () => {
  const fill = {
    fill_id: 'f',
    trade_id: 't',
    order_id: 'o',
    ticker: 'KXX-1',
    market_ticker: 'KXX-1',
    outcome_side: 'yes',
    book_side: 'bid',
    count_fp: '1.00',
    yes_price_dollars: '0.5600',
    no_price_dollars: '0.4400',
    is_taker: true,
    fee_cost: '0.017500',
    created_time: '2026-11-22T13:00:00.123456Z',
    ts: 1_795_352_400,
  }
  const parsed = parseFill(fill)
  assert.deepEqual(
    [parsed.side, parsed.countHundredths, parsed.priceTicks, parsed.feeMicros, parsed.isTaker],
    ['bid', 100, 5600, 17_500, true],
  )
  assert.equal(parsed.tsMs, Date.parse('2026-11-22T13:00:00.123Z'))
  assert.equal(parseFill({ ...fill, created_time: undefined }).tsMs, 1_795_352_400_000)
  const position = parsePosition({
    ticker: 'KXX-1',
    position_fp: '-10.50',
    total_traded_dollars: '0.000001',
    market_exposure_dollars: '2',
    realized_pnl_dollars: '-3.5',
    fees_paid_dollars: '0.04',
    last_updated_ts: '2026-11-22T13:00:00Z',
  })
  assert.deepEqual(
    [position.positionHundredths, position.totalTradedMicros, position.realizedPnlMicros, position.lastUpdatedTsMs],
    [-1050, 1, -3_500_000, Date.parse('2026-11-22T13:00:00Z')],
  )
})
