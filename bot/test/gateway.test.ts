/** Orders, cancels and look-ups against the simulated venue: each way an order can end, on real sockets. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, beforeEach, it } from 'node:test'
import { type Agent, createAgent, OUTCOME } from '@tickscope/agent'
import { createRest, createSigner, type Rest } from '@tickscope/venue/kalshi'
import { Gateway } from '../src/gateway.ts'
import { Market } from '../src/market.ts'
import { DEFAULTS, settle } from '../src/options.ts'
import { type Order, type OrderKind, Orders } from '../src/orders.ts'
import { Positions } from '../src/positions.ts'
import { type OwnTrade, Reconciler } from '../src/reconciler.ts'
import { createQuery, RISK_REASONS, Risk } from '../src/risk.ts'
import { Processes, type Running, until } from './processes.ts'

const processes = new Processes()
let venue: Running
let agent: Agent
let rest: Rest
let market: Market
let bestBidTicks: number
let bestAskTicks: number
let runs = 0

let orders: Orders
let positions: Positions
let risk: Risk
let gateway: Gateway
let reconciler: Reconciler
let closed: number[]
let notes: string[]

before(async () => {
  // The flow never starts: the market stands still.
  venue = await processes.venue()
  agent = await createAgent({ service: 'bot', collectorUrl: 'http://127.0.0.1:1', inline: true, log: () => {} })
  const close = agent.close.bind(agent)
  agent.close = (handle, outcome) => {
    closed.push(outcome)
    close(handle, outcome)
  }
  const privateKeyPem = readFileSync(processes.path('bot-key.pem'), 'utf8')
  rest = createRest({ origin: venue.ready.url, signer: createSigner({ keyId: 'bot-key', privateKeyPem }) })
  await rest.warm(2)
})

after(async () => {
  await rest?.stop()
  await agent?.stop({ timeoutMs: 0 })
  await processes.stopAll()
})

beforeEach(async () => {
  const [given] = (await rest.markets({ status: 'open' })).items
  market = new Market(given!, DEFAULTS.estimate)
  const book = await rest.orderbook(market.ticker)
  market.book.replace(book.yes, book.no)
  bestBidTicks = market.book.bestBidTicks
  bestAskTicks = market.book.bestAskTicks
  closed = []
  notes = []
  const runId = `run${++runs}`
  positions = new Positions()
  orders = new Orders({
    runId,
    onFilled: (order, hundredths, micros) => positions.fill(order.ticker, order.side, hundredths, micros),
  })
  risk = new Risk(settle({ venue: '', keyId: '', privateKeyPem: '', keySource: '', collectorUrl: '' }).risk)
  const onTrade = (trade: OwnTrade) => {
    if (!positions.isNew(trade.tradeId)) return
    const { orderId, clientOrderId, countHundredths, priceTicks, ticker, side } = trade
    if (!orders.trade(orderId, clientOrderId, countHundredths, priceTicks))
      positions.fill(ticker, side, countHundredths, countHundredths * priceTicks)
  }
  gateway = new Gateway({
    agent,
    rest,
    orders,
    risk,
    quoteTtlMs: 10_000,
    onUnknown: (order) => reconciler.lookUp(order),
    note: (message) => notes.push(message),
  })
  reconciler = new Reconciler({
    rest,
    orders,
    positions,
    runId,
    tickers: new Set([market.ticker]),
    onTrade,
    cancel: (order) => gateway.cancel(market, order),
    cancelStray: ({ orderId, ticker }) => void rest.cancelOrder({ orderId, marketTicker: ticker }),
    note: (message) => notes.push(message),
  })
})

function send(kind: OrderKind, side: 'bid' | 'ask', priceTicks: number, contracts = 1): Order {
  const order = orders.create(market.ticker, side, kind, priceTicks, contracts * 100, performance.now())
  gateway.create(market, order, agent.order(agent.begin(performance.now())))
  return order
}

/** Why an ordinary order would be refused now. */
function refusedFor(): string | undefined {
  const before = { ...risk.refused }
  const query = { ...createQuery(), nowMs: performance.now(), priceTicks: 5_000, sizeHundredths: 100 }
  risk.check({ ...query, bookTradable: true, midTicks: 5_000 })
  return RISK_REASONS.find((reason) => risk.refused[reason] > before[reason])
}

const answered = () => until('all answers', 5_000, () => gateway.pending === 0)
const known = () => until('all fates', 10_000, () => reconciler.unknownCount === 0 && gateway.pending === 0)

it('hands a create to the kernel before it returns', async () => {
  const order = send('quote', 'bid', 100)
  assert.equal(gateway.ordersSent, 1)
  assert.ok(gateway.firstTickToTradeMs > 0)
  await answered()
  assert.equal(order.state, 'open')
  assert.deepEqual(closed, [OUTCOME.ok])
  // Whatever becomes of us, it does not rest for ever.
  const resting = async () => (await rest.listOrders({ status: 'resting' })).items
  await until('the order in the list', 5_000, async () => (await resting()).length === 1)
  const expiresInMs = Date.parse((await resting())[0]!.expirationTime!) - Date.now()
  assert.ok(expiresInMs > 1_000 && expiresInMs <= 11_000, `${expiresInMs}`)
  assert.ok(orders.wantCancel(order))
  gateway.cancel(market, order)
  await answered()
  assert.equal(order.state, 'cancelled')
  assert.deepEqual(closed, [OUTCOME.ok, OUTCOME.ok])
  assert.equal(orders.boundMicros, 0)
})

it('cancels with the answer what was to be cancelled before it had a name', async () => {
  const order = send('quote', 'bid', 100)
  assert.equal(orders.wantCancel(order), false)
  await until('the end', 5_000, () => !order.live)
  assert.equal(order.state, 'cancelled')
  assert.equal(gateway.cancelsSent, 1)
})

it('takes what is offered, and books it once', async () => {
  const order = send('take', 'bid', bestAskTicks, 2)
  await answered()
  assert.equal(order.state, 'filled')
  assert.equal(positions.of(market.ticker).quantityHundredths, 200)
  assert.equal(positions.of(market.ticker).costMicros, 200 * bestAskTicks)
  // The same fill from REST changes nothing.
  await until('the fill in REST', 5_000, async () => {
    return (await rest.listFills({ limit: 1000 })).items.some(({ orderId }) => orderId === order.orderId)
  })
  await reconciler.pass(Date.now())
  assert.equal(order.tradesHundredths, 200)
  assert.equal(positions.of(market.ticker).quantityHundredths, 200)
})

it('a post-only quote that would cross is refused, and the market rests a moment', async () => {
  const order = send('quote', 'bid', bestAskTicks)
  await answered()
  assert.equal(order.state, 'rejected')
  assert.equal(gateway.ordersRejected, 1)
  assert.deepEqual(closed, [OUTCOME.rejected])
  const restMs = market.restUntilMs - performance.now()
  assert.ok(restMs > 0 && restMs <= 50, `${restMs}`)
  assert.deepEqual(notes, [])
})

it('an order the account cannot pay rests its market for seconds, and says so', async () => {
  const order = send('quote', 'bid', bestBidTicks, 900_000)
  await answered()
  assert.equal(order.state, 'rejected')
  assert.ok(market.restUntilMs - performance.now() > 1_000)
  assert.equal(notes.length, 1)
  assert.match(notes[0]!, /insufficient_balance/)
})

it('an order that is said to exist already is looked up and cancelled', async () => {
  const order = orders.create(market.ticker, 'bid', 'quote', 100, 100, performance.now())
  const { clientOrderId } = order
  const twice = await rest.createOrder({
    ...{ ticker: market.ticker, side: 'bid', countHundredths: 100, priceTicks: 100, clientOrderId },
    ...{ timeInForce: 'good_till_canceled', selfTradePrevention: 'taker_at_cross' },
  })
  assert.equal(twice.outcome, 'ok')
  gateway.create(market, order, 0)
  await until('the refusal', 5_000, () => gateway.ordersUnknown === 1)
  assert.equal(order.state, 'unknown')
  await until('the end', 10_000, () => !order.live)
  assert.equal(order.state, 'cancelled')
})

it('a cancel that comes too late learns that the order was filled', async () => {
  const order = send('take', 'bid', bestAskTicks, 1)
  await answered()
  // As if the answer had said that it rests: the cancel finds nothing.
  const ghost = orders.create(market.ticker, 'bid', 'quote', bestAskTicks, 100, performance.now())
  orders.report(ghost, { orderId: order.orderId, status: 'resting', filledHundredths: 0 }, 'test')
  assert.ok(orders.wantCancel(ghost))
  gateway.cancel(market, ghost)
  await answered()
  assert.equal(ghost.state, 'unknown')
  await known()
  assert.equal(ghost.state, 'filled')
})

it('an order nobody has heard of is given up after a while, not before', async () => {
  const order = orders.create(market.ticker, 'bid', 'quote', 100, 100, performance.now())
  orders.lose(order, 'timeout')
  const lostAtMs = performance.now()
  reconciler.lookUp(order)
  await until('the end', 15_000, () => !order.live)
  assert.equal(order.state, 'rejected')
  assert.ok(performance.now() - lostAtMs > 1_000)
})

it('a full pass cancels orders of this run that nobody here knows, and leaves those of others alone', async () => {
  const place = (clientOrderId: string) =>
    rest.createOrder({
      ...{ ticker: market.ticker, side: 'bid', countHundredths: 100, priceTicks: 100, clientOrderId },
      ...{ timeInForce: 'good_till_canceled', selfTradePrevention: 'taker_at_cross' },
    })
  await place(`run${runs}-999`)
  await place(`other-${runs}`)
  const resting = async () => (await rest.listOrders({ status: 'resting' })).items.map((order) => order.clientOrderId)
  await until('both orders in the list', 5_000, async () => (await resting()).length === 2)
  await reconciler.pass(Date.now())
  await until('the stray is gone', 5_000, async () => (await resting()).length === 1)
  assert.deepEqual(await resting(), [`other-${runs}`])
})

it('a position that two passes find different is taken from the venue', async () => {
  const { ticker } = market
  const { items } = await rest.positions()
  const held = items.find((position) => position.ticker === ticker)?.positionHundredths ?? 0
  positions.fill(ticker, 'bid', held + 700, (held + 700) * 5_000)
  await reconciler.pass(Date.now() + 3_600_000)
  assert.equal(positions.of(ticker).quantityHundredths, held + 700)
  await reconciler.pass(Date.now() + 3_600_000)
  assert.equal(positions.of(ticker).quantityHundredths, held)
  assert.equal(reconciler.corrections, 1)
  assert.equal(notes.length, 1)
})

it('without a venue nothing is sent, nothing is unknown, and all orders pause', async (t) => {
  const privateKeyPem = readFileSync(processes.path('bot-key.pem'), 'utf8')
  const nowhere = createRest({
    origin: 'http://127.0.0.1:1',
    signer: createSigner({ keyId: 'bot-key', privateKeyPem }),
  })
  t.after(() => nowhere.stop())
  const lost = new Gateway({
    agent,
    rest: nowhere,
    orders,
    risk,
    quoteTtlMs: 1_000,
    onUnknown: () => assert.fail(),
    note: () => {},
  })
  const order = orders.create(market.ticker, 'bid', 'quote', 100, 100, performance.now())
  lost.create(market, order, 0)
  await until('the failure', 5_000, () => lost.pending === 0)
  assert.equal(order.state, 'rejected')
  assert.deepEqual([lost.ordersSent, lost.ordersUnsent], [0, 1])
  assert.equal(refusedFor(), 'halted')
})
