import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Order, type OrderReport, Orders } from '../src/orders.ts'
import { exposureMicros } from '../src/risk.ts'

const TICKER = 'KXT-1'

function createOrders() {
  const filled: number[] = []
  const states: string[] = []
  const orders = new Orders({
    runId: 'run',
    onFilled: (_order, deltaHundredths) => filled.push(deltaHundredths),
    onState: (order) => states.push(order.state),
  })
  return { orders, filled, states, total: () => filled.reduce((a, b) => a + b, 0) }
}

function resting(orderId: string, filledHundredths = 0): OrderReport {
  return { orderId, status: 'resting', filledHundredths }
}

test('a quote goes from pending through open and partial to filled', () => {
  const { orders, filled, states } = createOrders()
  const order = orders.create(TICKER, 'bid', 'quote', 4500, 1000, 0)
  assert.equal(order.state, 'pending')
  orders.report(order, resting('v1'), 'ack')
  orders.trade('v1', '', 400, 4500)
  orders.trade('v1', '', 600, 4500)
  assert.deepEqual(states, ['pending', 'open', 'partial', 'filled'])
  assert.deepEqual(filled, [400, 600])
  assert.equal(orders.liveCount, 0)
  assert.deepEqual(orders.liveOf(TICKER), [])
})

test('ids are unique and start with the run', () => {
  const { orders } = createOrders()
  const ids = new Set(
    Array.from({ length: 100 }, () => orders.create(TICKER, 'bid', 'quote', 4500, 100, 0).clientOrderId),
  )
  assert.equal(ids.size, 100)
  for (const id of ids) assert.match(id, /^run-\d+$/)
})

test('an immediate-or-cancel order ends with its answer', () => {
  const { orders, states } = createOrders()
  const killed = orders.create(TICKER, 'bid', 'take', 4500, 1000, 0)
  orders.report(killed, { orderId: 'v1', status: 'executed', filledHundredths: 300 }, 'ack')
  assert.equal(killed.state, 'cancelled')
  assert.equal(killed.filledHundredths, 300)
  const whole = orders.create(TICKER, 'bid', 'take', 4500, 1000, 0)
  orders.report(whole, { orderId: 'v2', status: 'executed', filledHundredths: 1000 }, 'ack')
  assert.equal(whole.state, 'filled')
  assert.deepEqual(states, ['pending', 'cancelled', 'pending', 'filled'])
})

test('a refused order is rejected and binds nothing', () => {
  const { orders } = createOrders()
  const order = orders.create(TICKER, 'ask', 'quote', 4500, 1000, 0)
  assert.equal(orders.boundMicros, exposureMicros('ask', 4500, 1000))
  orders.reject(order, 'insufficient_balance')
  assert.equal(order.state, 'rejected')
  assert.equal(orders.boundMicros, 0)
  assert.equal(orders.liveCount, 0)
})

test('an order without an answer stays live until a look-up tells its fate', () => {
  const { orders } = createOrders()
  const order = orders.create(TICKER, 'bid', 'quote', 4500, 1000, 0)
  orders.lose(order, 'timeout')
  assert.equal(order.state, 'unknown')
  assert.equal(order.live, true)
  assert.equal(order.remainingHundredths, 1000)
  orders.report(order, resting('v1', 200), 'lookup')
  assert.equal(order.state, 'partial')
  assert.equal(order.filledHundredths, 200)
})

test('an order that look-ups keep missing never was', () => {
  const { orders } = createOrders()
  const order = orders.create(TICKER, 'bid', 'quote', 4500, 1000, 0)
  orders.lose(order, 'timeout')
  orders.missing(order, 3)
  orders.missing(order, 3)
  assert.equal(order.state, 'unknown')
  orders.missing(order, 3)
  assert.equal(order.state, 'rejected')
})

test('a cancel is sent once the order has a name, and waits until then', () => {
  const { orders } = createOrders()
  const order = orders.create(TICKER, 'bid', 'quote', 4500, 1000, 0)
  assert.equal(orders.wantCancel(order), false)
  assert.equal(order.cancelWanted, true)
  orders.report(order, resting('v1'), 'ack')
  assert.equal(orders.wantCancel(order), true)
  assert.equal(order.state, 'cancel_pending')
  assert.equal(orders.wantCancel(order), false)
  orders.cancelled(order, 1000)
  assert.equal(order.state, 'cancelled')
})

test('what a cancel did not reduce has traded', () => {
  const { orders, total } = createOrders()
  const order = orders.create(TICKER, 'bid', 'quote', 4500, 1000, 0)
  orders.report(order, resting('v1'), 'ack')
  orders.wantCancel(order)
  orders.cancelled(order, 300)
  assert.equal(order.state, 'cancelled')
  assert.equal(total(), 700)
  // The trades themselves come late, and count no second time.
  orders.trade('v1', '', 500, 4500)
  orders.trade('v1', '', 200, 4500)
  assert.equal(total(), 700)
})

test('a cancel that could not be carried out leaves the order open and may be repeated', () => {
  const { orders } = createOrders()
  const order = orders.create(TICKER, 'bid', 'quote', 4500, 1000, 0)
  orders.report(order, resting('v1'), 'ack')
  orders.wantCancel(order)
  orders.cancelFailed(order, 'too many requests')
  assert.equal(order.state, 'open')
  assert.equal(orders.wantCancel(order), true)
})

test('a resting report does not undo a cancel on its way', () => {
  const { orders } = createOrders()
  const order = orders.create(TICKER, 'bid', 'quote', 4500, 1000, 0)
  orders.report(order, resting('v1'), 'ack')
  orders.wantCancel(order)
  orders.report(order, resting('v1', 100), 'user_order')
  assert.equal(order.state, 'cancel_pending')
  assert.equal(order.filledHundredths, 100)
})

test('reads that lag do not bring a finished order back', () => {
  const { orders } = createOrders()
  const order = orders.create(TICKER, 'bid', 'quote', 4500, 1000, 0)
  orders.report(order, resting('v1'), 'ack')
  orders.wantCancel(order)
  orders.cancelled(order, 1000)
  orders.report(order, resting('v1'), 'lookup')
  assert.equal(order.state, 'cancelled')
  assert.equal(orders.contradictions, 1)
})

test('executions cost what they traded at, whichever way they become known', () => {
  const costs: number[] = []
  const orders = new Orders({ runId: 'run', onFilled: (_order, _delta, costMicros) => costs.push(costMicros) })
  const order = orders.create(TICKER, 'bid', 'take', 4500, 1000, 0)
  orders.trade('v1', order.clientOrderId, 200, 4300)
  // 5 contracts at 44.2 cents on average, 2 of them at 43 and known already.
  orders.report(order, { orderId: 'v1', status: 'resting', filledHundredths: 500, averagePriceTicks: 4420 }, 'ack')
  // A report without an average: at the order's own price.
  orders.report(order, { orderId: 'v1', status: 'executed', filledHundredths: 600 }, 'ack')
  assert.deepEqual(costs, [860_000, 1_350_000, 450_000])
  assert.equal(order.costMicros, 2_660_000)
})

test('a fill told before the answer that names its order is not counted twice', () => {
  const { orders, total } = createOrders()
  const order = orders.create(TICKER, 'bid', 'take', 4500, 1000, 0)
  // The caller books it by itself: it cannot know whose it is.
  assert.equal(orders.trade('v1', '', 1000, 4500), undefined)
  orders.report(order, { orderId: 'v1', status: 'executed', filledHundredths: 1000 }, 'ack')
  assert.equal(order.state, 'filled')
  assert.equal(order.filledHundredths, 1000)
  assert.equal(total(), 0)
})

test('a fill that names our client order id names the order', () => {
  const { orders } = createOrders()
  const order = orders.create(TICKER, 'bid', 'quote', 4500, 1000, 0)
  assert.equal(orders.trade('v1', order.clientOrderId, 100, 4500), order)
  assert.equal(order.orderId, 'v1')
  assert.equal(orders.byOrderId('v1'), order)
})

test('finished orders are forgotten after some thousands, live ones never', () => {
  const { orders } = createOrders()
  const first = orders.create(TICKER, 'bid', 'quote', 4500, 100, 0)
  const lasting = orders.create(TICKER, 'bid', 'quote', 4500, 100, 0)
  orders.reject(first, 'no')
  for (let i = 0; i < 5000; i++) orders.reject(orders.create(TICKER, 'bid', 'quote', 4500, 100, 0), 'no')
  assert.equal(orders.byClientId(first.clientOrderId), undefined)
  assert.equal(orders.byClientId(lasting.clientOrderId), lasting)
})

/** Everything the venue may tell of an order, in an order of its choosing. */
const happening = fc.oneof(
  fc.record({ kind: fc.constant('report' as const), status: fc.constantFrom('resting', 'executed', 'canceled') }),
  fc.record({ kind: fc.constant('trades' as const), upTo: fc.integer({ min: 1, max: 4 }) }),
  fc.record({ kind: fc.constantFrom('wantCancel', 'cancelled', 'cancelFailed', 'lose', 'missing', 'reject') }),
)

test('however the venue tells of fills, each counts once and sums hold', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 250 }), { minLength: 4, maxLength: 4 }),
      fc.array(happening, { maxLength: 30 }),
      (trades, happenings) => {
        const { orders, total } = createOrders()
        const order = orders.create(TICKER, 'bid', 'quote', 4500, 1000, 0)
        let told = 0
        const executed = () => trades.slice(0, told).reduce((a, b) => a + b, 0)
        for (const h of happenings) {
          const before = order.filledHundredths
          if (h.kind === 'trades' && 'upTo' in h) {
            for (; told < h.upTo; told++) orders.trade('v1', order.clientOrderId, trades[told]!, 4500)
          } else if (h.kind === 'report' && 'status' in h) {
            // The venue is never behind what it has told trade by trade.
            const status = h.status as OrderReport['status']
            orders.report(order, { orderId: 'v1', status, filledHundredths: executed() }, 'user_order')
          } else if (h.kind === 'wantCancel') orders.wantCancel(order)
          else if (h.kind === 'cancelled') orders.cancelled(order, 1000 - executed())
          else if (h.kind === 'cancelFailed') orders.cancelFailed(order, '')
          else if (h.kind === 'lose') orders.lose(order, '')
          else if (h.kind === 'missing') orders.missing(order, 2)
          else if (h.kind === 'reject') orders.reject(order, '')
          assert.ok(order.filledHundredths >= before)
          assert.equal(order.filledHundredths, executed())
          assert.equal(total(), executed())
          assert.equal(orders.liveCount, order.live ? 1 : 0)
          assert.equal(orders.liveOf(TICKER).length, orders.liveCount)
          assert.equal(orders.boundMicros, exposureMicros('bid', 4500, order.remainingHundredths))
        }
      },
    ),
    { numRuns: 1000 },
  )
})

test('many orders of many markets keep the running sums right', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          ticker: fc.constantFrom('A', 'B', 'C'),
          side: fc.constantFrom('bid' as const, 'ask' as const),
          price: fc.integer({ min: 1, max: 9999 }),
          fill: fc.integer({ min: 0, max: 1000 }),
          end: fc.boolean(),
        }),
        { maxLength: 50 },
      ),
      (given) => {
        const { orders } = createOrders()
        const all: Order[] = []
        for (const [i, g] of given.entries()) {
          const order = orders.create(g.ticker, g.side, 'quote', g.price, 1000, 0)
          all.push(order)
          orders.report(order, resting(`v${i}`, g.fill), 'ack')
          if (g.end) orders.cancelled(order, 1000 - g.fill)
        }
        const live = all.filter((order) => order.live)
        assert.equal(orders.liveCount, live.length)
        assert.deepEqual(new Set(orders.live()), new Set(live))
        assert.equal(
          orders.boundMicros,
          live.reduce((sum, order) => sum + exposureMicros(order.side, order.priceTicks, order.remainingHundredths), 0),
        )
      },
    ),
  )
})
