/** From a changed book to the calls of the gateway, with everything real but the wire. */
import assert from 'node:assert/strict'
import { after, before, beforeEach, it } from 'node:test'
import { type Agent, createAgent } from '@tickscope/agent'
import { Market } from '../src/market.ts'
import { DEFAULTS, quoteMaxLifeMs, settle, withinBudget } from '../src/options.ts'
import { type Order, Orders } from '../src/orders.ts'
import { Positions } from '../src/positions.ts'
import { Risk } from '../src/risk.ts'
import { Trader } from '../src/trader.ts'

const level = (priceTicks: number, countHundredths: number) => ({ priceTicks, countHundredths })

let agent: Agent
let market: Market
let orders: Orders
let risk: Risk
let trader: Trader
let calls: string[]
let nowMs: number

before(async () => {
  agent = await createAgent({ service: 'bot', collectorUrl: 'http://127.0.0.1:1', inline: true, log: () => {} })
})
after(() => agent.stop({ timeoutMs: 0 }))

beforeEach(() => {
  const settings = settle({ venue: '', keyId: '', privateKeyPem: '', keySource: '', collectorUrl: '' })
  market = new Market(
    { ticker: 'KXT-1', status: 'active', priceRanges: [] },
    { ...DEFAULTS.estimate, warmupUpdates: 1 },
  )
  market.book.replace([level(4700, 50_000), level(4800, 5_000)], [level(4700, 50_000), level(4800, 5_000)])
  orders = new Orders({ runId: 'run', onFilled: () => {} })
  risk = new Risk(settings.risk)
  calls = []
  nowMs = 1_000
  trader = new Trader({
    agent,
    gateway: {
      create: (_market: Market, order: Order) => calls.push(`create ${order.side} ${order.priceTicks}`),
      cancel: (_market: Market, order: Order) => calls.push(`cancel ${order.side} ${order.priceTicks}`),
    } as never,
    orders,
    positions: new Positions(),
    risk,
    // Quotes of a standing market stand: time between ticks is long here.
    params: { ...settings.strategy, quoteMaxLifeMs: 60_000 },
  })
  trader.quoting = true
})

/** A tick some time later. @returns what the gateway was asked for */
function tick(laterMs = 1_000): string[] {
  nowMs += laterMs
  calls = []
  const handle = agent.begin(nowMs)
  trader.onBook(market, handle, nowMs)
  agent.close(handle, 0)
  return calls
}

/** The venue's answers to all creates: they rest, and the book shows them. */
function acknowledge(): void {
  for (const order of orders.live()) {
    if (order.state !== 'pending') continue
    orders.report(order, { orderId: `v-${order.clientOrderId}`, status: 'resting', filledHundredths: 0 }, 'ack')
    const noTicks = 10_000 - order.priceTicks
    if (order.side === 'bid') market.book.apply('yes', order.priceTicks, order.sizeHundredths)
    else market.book.apply('no', noTicks, order.sizeHundredths)
    order.shown = true
  }
}

it('quotes both sides once, and does not react to its own quotes in the book', () => {
  assert.deepEqual(tick(), ['create bid 4900', 'create ask 5100'])
  acknowledge()
  assert.equal(market.book.bestBidTicks, 4900)
  assert.deepEqual(tick(), [])
  assert.equal(market.view.bidTicks, 4800)
  assert.equal(market.view.askTicks, 5200)
})

it('takes its own size out of a level once the book has shown it, not before', () => {
  trader.quoting = false
  const order = orders.create('KXT-1', 'bid', 'quote', 4800, 1_000, nowMs)
  orders.report(order, { orderId: 'v1', status: 'resting', filledHundredths: 0 }, 'ack')
  tick()
  assert.equal(market.view.bidSizeHundredths, 5_000)
  market.book.apply('yes', 4800, 1_000)
  order.shown = true
  tick()
  assert.equal(market.view.bidSizeHundredths, 5_000)
  orders.trade('v1', '', 400, 4800)
  market.book.apply('yes', 4800, -400)
  tick()
  assert.equal(market.view.bidSizeHundredths, 5_000)
})

it('moves its quotes with the market: the new orders first, then the cancels', () => {
  tick()
  acknowledge()
  // Up by three cents; a bid may not reach our own ask while that may still trade.
  market.book.replace([level(4900, 1_000), level(5000, 5_000)], [level(4900, 1_000), level(4500, 5_000)])
  assert.deepEqual(tick(), ['create bid 5000', 'create ask 5300', 'cancel bid 4900', 'cancel ask 5100'])
  for (const order of orders.live()) if (order.state === 'cancel_pending') orders.cancelled(order, 1_000)
  market.book.replace([level(5000, 5_000)], [level(4500, 5_000)])
  acknowledge()
  assert.deepEqual(tick(), ['create bid 5200', 'cancel bid 5000'])
})

it('sends nothing on a suspect book, whatever it shows', () => {
  tick()
  acknowledge()
  market.book.doubt()
  assert.deepEqual(tick(), ['cancel bid 4900', 'cancel ask 5100'])
  assert.deepEqual(tick(), [])
})

it('sends nothing before it may quote, when halted, withdrawn or killed', () => {
  trader.quoting = false
  assert.deepEqual(tick(), [])
  trader.quoting = true
  risk.halt(nowMs + 5_000)
  assert.deepEqual(tick(1_000), [])
  assert.deepEqual(tick(5_000), ['create bid 4900', 'create ask 5100'])
  acknowledge()
  risk.halt(nowMs + 5_000)
  assert.deepEqual(tick(1_000), [])
  risk.withdraw(nowMs + 5_000)
  assert.deepEqual(tick(1_000), ['cancel bid 4900', 'cancel ask 5100'])
  for (const order of orders.live()) orders.cancelled(order, 1_000)
  market.book.replace([level(4700, 50_000), level(4800, 5_000)], [level(4700, 50_000), level(4800, 5_000)])
  assert.deepEqual(tick(10_000), ['create bid 4900', 'create ask 5100'])
  acknowledge()
  risk.kill('test')
  assert.deepEqual(tick(), ['cancel bid 4900', 'cancel ask 5100'])
})

it('a market that rests gets no orders until its time is over', () => {
  market.restUntilMs = nowMs + 2_000
  assert.deepEqual(tick(1_000), [])
  assert.deepEqual(tick(1_000), ['create bid 4900', 'create ask 5100'])
})

it('pulls a market once: what is being cancelled is not cancelled again', () => {
  tick()
  // Not acknowledged: nothing can be named yet.
  assert.equal(trader.pull(market), true)
  assert.deepEqual(calls, ['create bid 4900', 'create ask 5100'])
  acknowledge()
  calls = []
  trader.pull(market)
  trader.pull(market)
  assert.deepEqual(calls, ['cancel bid 4900', 'cancel ask 5100'])
})

it('takes an offer far below fair value at once', () => {
  for (let i = 0; i < 20; i++) tick(200)
  acknowledge()
  tick()
  // Somebody sells at 45 what stood at 50: through all bids but ours is not there yet.
  market.book.replace([level(4300, 5_000)], [level(5500, 3_000)])
  assert.deepEqual(tick(10)[0], 'create bid 4500')
  const take = orders.live().find((order) => order.kind === 'take')
  assert.equal(take?.sizeHundredths, 1_000)
})

it('the risk limits have the last word', () => {
  for (let i = 0; i < 100; i++) orders.create('KXT-2', 'bid', 'quote', 5000, 100, nowMs)
  assert.deepEqual(tick(), [])
  assert.equal(risk.refused.live_orders, 2)
})

it('many markets renew their quotes within half of the order rate', () => {
  assert.equal(quoteMaxLifeMs(4, 20), DEFAULTS.strategy.quoteMaxLifeMs)
  const lifeMs = quoteMaxLifeMs(1_000, 20)
  assert.ok(2_000 / (lifeMs / 1e3) <= 10)
})

it('the order rate never exceeds what the account may write', () => {
  const { risk: limits } = settle({ venue: '', keyId: '', privateKeyPem: '', keySource: '', collectorUrl: '' })
  // Basic tier: 100 tokens a second, a create and a cancel cost 12.
  const basic = withinBudget(limits, 100, 100)
  assert.ok(basic.ordersPerSecond * 12 <= 100)
  assert.ok(basic.orderBurst * 12 <= 100)
  assert.deepEqual(withinBudget(limits, 1_000_000, 1_000_000), limits)
})
