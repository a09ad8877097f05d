import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { describe, it, type TestContext } from 'node:test'
import { AUTH_HEADERS } from '../../src/kalshi/sign.ts'
import { type Message, type RunningSimulator, SIGNERS, startSimulator, until } from './fixture.ts'

async function running(t: TestContext, options: Parameters<typeof startSimulator>[0]): Promise<RunningSimulator> {
  const sim = await startSimulator(options)
  t.after(() => sim.stop())
  return sim
}

const isDelta = ({ type }: Message) => type === 'orderbook_delta'

describe('the exchange under faults', () => {
  it('leaves everything alone until the flow starts', async (t) => {
    const sim = await running(t, {
      faults: ['api-error=1@0s+1m', 'feed-stall@0s+1m', 'disconnect@0s+1m', 'feed-gap=9@0s'],
    })
    const alice = sim.as('alice')
    const feed = await alice.feed()
    await feed.subscribe('orderbook_delta', ['T'])
    assert.equal((await alice.order()).status, 201)
    const [delta] = await feed.wait(isDelta)
    assert.equal(delta.seq, 2)
  })

  it('answers late under api-delay, while the order has long been in the book', async (t) => {
    const sim = await running(t, { faults: ['api-delay=700ms@0s+1m'] })
    const alice = sim.as('alice')
    const feed = await alice.feed()
    await feed.subscribe('orderbook_delta', ['T'])
    sim.simulator.start()
    const sentMs = performance.now()
    let answered = false
    const order = alice.order().then((reply) => {
      answered = true
      return reply
    })
    await feed.wait(isDelta)
    assert.equal(answered, false)
    assert.equal((await order).status, 201)
    assert.ok(performance.now() - sentMs >= 700)
  })

  it('ends delays when the flow is paused', async (t) => {
    const sim = await running(t, { faults: ['api-delay=1h@0s+1h'] })
    sim.simulator.start()
    sim.simulator.pause()
    assert.equal((await sim.as('alice').get('/exchange/status')).status, 200)
  })

  it('answers the share of calls that api-error says with 500 and 503, without effect', async (t) => {
    const sim = await running(t, { faults: ['api-error=0.5@0s+1m'] })
    const alice = sim.as('alice')
    sim.simulator.start()
    const replies = []
    for (let i = 0; i < 60; i++) replies.push(await alice.order({ price: '0.0100' }))
    const failed = replies.filter(({ status }) => status >= 500)
    assert.ok(failed.length > 12 && failed.length < 48, `${failed.length} of 60`)
    assert.deepEqual(
      new Set(failed.map(({ status, body }) => `${status} ${body.error.code}`)),
      new Set(['500 internal_server_error', '503 service_unavailable']),
    )
    sim.simulator.pause()
    const resting = (await alice.get('/portfolio/orders?status=resting&limit=100')).body.orders
    assert.equal(resting.length, 60 - failed.length)
    const { ordersReceived, ordersAccepted, ordersRejected, faultErrors } = sim.simulator.stats()
    assert.deepEqual(
      [ordersReceived, ordersAccepted, ordersRejected, faultErrors],
      [60, 60 - failed.length, failed.length, failed.length],
    )
  })

  it('loses the messages that feed-gap says: their numbers pass, and they are not counted as delivered', async (t) => {
    const sim = await running(t, { faults: ['feed-gap=3@10ms'] })
    const alice = sim.as('alice')
    const feed = await alice.feed()
    const sid = await feed.subscribe('orderbook_delta', ['T'])
    sim.simulator.start()
    const gapOf = () => {
      const seqs = feed.messages.filter((message) => message.sid === sid && message.seq).map(({ seq }) => seq)
      return (seqs.at(-1) ?? 0) - seqs.length
    }
    let lastSeq = 1 // the snapshot's
    const rest = () => {
      sim.house({ side: 'bid', priceTicks: 4000, count: 100 })
      lastSeq++
    }
    await until(() => {
      rest()
      return gapOf() > 0
    }, 'a gap')
    for (let i = 0; i < 5; i++) rest()
    await feed.wait(({ seq }) => seq === lastSeq)
    await until(() => sim.feed.queued === 0, 'an empty queue')
    assert.equal(gapOf(), 3)
    const delivered = feed.messages.filter(({ type }) => /^orderbook_/.test(type)).length
    assert.equal(delivered, sim.simulator.stats().ticksDelivered)
    const book = (await alice.get('/markets/T/orderbook')).body.orderbook_fp.yes_dollars
    feed.send({ id: 9, cmd: 'update_subscription', params: { sid, action: 'get_snapshot', market_tickers: ['T'] } })
    const [snapshot] = await feed.wait(({ id }) => id === 9)
    assert.deepEqual(snapshot.msg.yes_dollars_fp, book, 'a snapshot mends it')
  })

  it('holds the feed back under feed-stall and then delivers all of it, in order', async (t) => {
    const sim = await running(t, { faults: ['feed-stall@0s+400ms'] })
    const feed = await sim.as('alice').feed()
    await feed.subscribe('orderbook_delta', ['T'])
    const startedMs = performance.now()
    sim.simulator.start()
    for (let i = 0; i < 3; i++) sim.house({ side: 'bid', priceTicks: 4000, count: 100 })
    const deltas = await feed.wait(isDelta, 3)
    assert.ok(performance.now() - startedMs >= 399)
    assert.deepEqual(
      deltas.map(({ seq }) => seq),
      [2, 3, 4],
    )
  })

  it('ends a stall when the flow is paused, so that a run can be drained', async (t) => {
    const sim = await running(t, { faults: ['feed-stall@0s+1h'] })
    const feed = await sim.as('alice').feed()
    await feed.subscribe('orderbook_delta', ['T'])
    sim.simulator.start()
    sim.house({ side: 'bid', priceTicks: 4000, count: 100 })
    assert.equal(sim.simulator.stats().feedQueued, 1)
    sim.simulator.pause()
    await feed.wait(isDelta)
  })

  it('cuts WebSockets without a close frame under disconnect, and refuses new ones for its duration', async (t) => {
    const sim = await running(t, { faults: ['disconnect@0s+1m'] })
    const alice = sim.as('alice')
    const feed = await alice.feed()
    sim.simulator.start()
    assert.equal((await feed.closed).code, 1006)
    await assert.rejects(alice.feed(), /503/)
    assert.equal((await alice.get('/exchange/status')).status, 200)
    sim.simulator.pause()
    await alice.feed()
  })

  it('cuts only the share of WebSockets that disconnect names', async (t) => {
    const sim = await running(t, { faults: ['disconnect=0.5@0s'] })
    const alice = sim.as('alice')
    const [first, second] = [await alice.feed(), await alice.feed()]
    sim.simulator.start()
    await first.closed
    await second.subscribe('ticker')
  })
})

describe('the exchange on its sockets', () => {
  it('meets the book with orders of one market in the order they arrived, however long each takes', async (t) => {
    const sim = await running(t, { measuredMs: [1, 5, 20, 40] })
    const alice = sim.as('alice')
    const feed = await alice.feed()
    await feed.subscribe('user_orders')
    const path = '/trade-api/v2/portfolio/events/orders'
    const ids = Array.from({ length: 25 }, (_, i) => `pipelined-${i}`)
    // One write of many requests: they arrive in this order for sure.
    const text = ids.map((id) => {
      const body = JSON.stringify({
        ticker: 'T',
        side: 'bid',
        count: '1.00',
        price: '0.0100',
        time_in_force: 'good_till_canceled',
        self_trade_prevention_type: 'maker',
        client_order_id: id,
      })
      const signed = SIGNERS.alice?.headers('POST', path) as Record<string, string>
      const headers = Object.values(AUTH_HEADERS).map((name) => `${name}: ${signed[name]}\r\n`)
      return `POST ${path} HTTP/1.1\r\nhost: x\r\n${headers.join('')}content-length: ${body.length}\r\n\r\n${body}`
    })
    const socket = connect(Number(new URL(sim.url).port), '127.0.0.1')
    t.after(() => socket.destroy())
    socket.resume()
    socket.end(text.join(''))
    const orders = await feed.wait(({ type }) => type === 'user_order', ids.length)
    assert.deepEqual(
      orders.map(({ msg }) => msg.client_order_id),
      ids,
    )
    assert.ok(orders.every(({ msg }, i) => i === 0 || msg.created_ts_ms >= orders[i - 1].msg.created_ts_ms))
  })

  it('pings with the body heartbeat and gives up a client that never answers', async (t) => {
    const sim = await running(t, { pingIntervalMs: 20 })
    const alice = sim.as('alice')
    const [live, dead] = [await alice.feed(), await alice.feed({ autoPong: false })]
    assert.equal((await dead.closed).code, 1006)
    assert.deepEqual(new Set(live.pings), new Set(['heartbeat']))
    await live.subscribe('ticker')
  })

  it('lets its process be steered: start, pause, stats, and nothing else', async (t) => {
    const sim = await running(t, {})
    const alice = sim.as('alice')
    const state = async (method: string, path: string) => (await alice.call(method, path)).body.state
    assert.equal(await state('GET', '/sim/stats'), 'held')
    assert.equal(await state('POST', '/sim/start'), 'running')
    assert.equal(await state('POST', '/sim/pause'), 'paused')
    assert.equal(await state('POST', '/sim/start'), 'running')
    const stats = (await alice.call('GET', '/sim/stats')).body
    assert.deepEqual(stats.tickers, ['T', 'U'])
    assert.deepEqual(Object.keys(stats.byKey), ['alice', 'bob'])
    assert.equal((await alice.call('GET', '/sim/start')).status, 404)
    assert.equal((await alice.call('POST', '/sim/other')).status, 404)
  })

  it('takes expired orders off the book on time, with nobody else trading', async (t) => {
    const sim = await running(t, {})
    const alice = sim.as('alice')
    const feed = await alice.feed()
    await feed.subscribe('user_orders')
    const expiresS = Math.floor(Date.now() / 1000) + 1
    assert.equal((await alice.order({ expiration_time: expiresS })).body.remaining_count, '1.00')
    const [, expired] = await feed.wait(({ type }) => type === 'user_order', 2)
    assert.deepEqual([expired.msg.status, expired.msg.last_update_reason], ['canceled', 'ExpiryCancel'])
    assert.ok(expired.msg.last_updated_ts_ms >= expiresS * 1000)
  })
})
