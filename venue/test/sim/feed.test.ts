import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { WebSocket } from 'ws'
import { epochMs } from '../../src/sim/clock.ts'
import {
  type Client,
  type FeedClient,
  type Message,
  type RunningSimulator,
  SIGNERS,
  startSimulator,
} from './fixture.ts'

const PATH = '/trade-api/ws/v2'

/** A book as a client keeps it: the last snapshot and what came after. */
function bookOf(
  messages: readonly Message[],
  ticker: string,
): { yes: Record<string, number>; no: Record<string, number> } {
  let book: { yes: Record<string, number>; no: Record<string, number> } = { yes: {}, no: {} }
  for (const { type, msg } of messages) {
    if (msg?.market_ticker !== ticker) continue
    if (type === 'orderbook_snapshot') {
      const side = (levels: [string, string][] = []) => Object.fromEntries(levels.map(([p, c]) => [p, Number(c)]))
      book = { yes: side(msg.yes_dollars_fp), no: side(msg.no_dollars_fp) }
    } else if (type === 'orderbook_delta') {
      const side = book[msg.side as 'yes' | 'no']
      const left = Math.round(((side[msg.price_dollars] ?? 0) + Number(msg.delta_fp)) * 100) / 100
      assert.ok(left >= 0, 'no level goes below nothing')
      if (left === 0) delete side[msg.price_dollars]
      else side[msg.price_dollars] = left
    }
  }
  return book
}

describe('the feed', () => {
  let sim: RunningSimulator
  let alice: Client
  let bob: Client
  before(async () => {
    sim = await startSimulator()
    alice = sim.as('alice')
    bob = sim.as('bob')
  })
  after(() => sim.stop())
  const feedOf = async (client: Client): Promise<FeedClient> => client.feed()

  it('refuses an upgrade that is not signed for it with 401 and a reason', async () => {
    const upgrade = (headers: Record<string, string>, path = PATH) =>
      new Promise<[number | undefined, string]>((resolve, reject) => {
        const socket = new WebSocket(`${sim.url.replace('http', 'ws')}${path}`, { headers })
        socket.on('unexpected-response', (request, response) => {
          let text = ''
          response.on('data', (chunk) => (text += chunk))
          response.on('end', () => resolve([response.statusCode, text]))
          response.on('error', reject)
          request.on('error', reject)
        })
        socket.on('open', () => reject(new Error('it was accepted')))
        socket.on('error', () => {})
      })
    const signed = (path: string) => SIGNERS.alice?.headers('GET', path) as Record<string, string>
    assert.match((await upgrade({}))[1], /signature_is_missing_from_headers/)
    const [status, body] = await upgrade(signed('/trade-api/v2/ws'))
    assert.equal(status, 401)
    assert.match(body, /INCORRECT_API_KEY_SIGNATURE/)
    assert.equal((await upgrade(signed('/elsewhere'), '/elsewhere'))[0], 404)
  })

  it('sends the book first and numbers everything of a subscription without a hole, acknowledgements included', async () => {
    sim.house({ side: 'bid', priceTicks: 4000, count: 1000 })
    sim.house({ side: 'ask', priceTicks: 6000, count: 500 })
    const feed = await feedOf(alice)
    const sid = await feed.subscribe('orderbook_delta', ['T', 'U'])
    sim.house({ side: 'bid', priceTicks: 4100, count: 200 })
    sim.house({ ticker: 'U', side: 'ask', priceTicks: 7000, count: 300 })
    await feed.wait(({ type }) => type === 'orderbook_delta', 2)
    feed.send({ id: 2, cmd: 'update_subscription', params: { sid, action: 'delete_markets', market_tickers: ['U'] } })
    feed.send({ id: 3, cmd: 'update_subscription', params: { sids: [sid], action: 'add_markets', market_ticker: 'U' } })
    await feed.wait(({ type }) => type === 'orderbook_snapshot', 3)
    feed.send({ id: 4, cmd: 'unsubscribe', params: { sids: [sid] } })
    await feed.wait(({ type }) => type === 'unsubscribed')

    const [subscribed, ...numbered] = feed.messages
    assert.deepEqual(subscribed, { type: 'subscribed', id: 1, msg: { channel: 'orderbook_delta', sid } })
    assert.deepEqual(
      numbered.map(({ type, seq }) => [type, seq]),
      [
        ['orderbook_snapshot', 1],
        ['orderbook_snapshot', 2],
        ['orderbook_delta', 3],
        ['orderbook_delta', 4],
        ['ok', 5],
        ['ok', 6],
        ['orderbook_snapshot', 7],
        ['unsubscribed', 8],
      ],
    )
    assert.deepEqual(numbered[0].msg, {
      market_ticker: 'T',
      market_id: 'market-T',
      yes_dollars_fp: [['0.4000', '10.00']],
      no_dollars_fp: [['0.4000', '5.00']],
    })
    assert.deepEqual(Object.keys(numbered[1].msg), ['market_ticker', 'market_id'], 'empty sides are left out')
    const { ts, ts_ms: tsMs, ...delta } = numbered[3].msg
    assert.deepEqual(delta, {
      market_ticker: 'U',
      market_id: 'market-U',
      price_dollars: '0.3000',
      delta_fp: '3.00',
      side: 'no',
    })
    assert.equal(Date.parse(ts), tsMs)
    assert.deepEqual(numbered[4], { type: 'ok', id: 2, sid, seq: 5, msg: { market_tickers: ['T'] } })
    assert.deepEqual(numbered[5].msg, { market_tickers: ['T', 'U'] })
    assert.ok(
      feed.texts.every((text) => text.endsWith('}\n')),
      'every frame ends with a newline',
    )
    sim.house({ side: 'bid', priceTicks: 100, count: 100 })
    feed.send({ id: 5, cmd: 'list_subscriptions' })
    const [list] = await feed.wait(({ id }) => id === 5)
    assert.deepEqual(list, { type: 'ok', id: 5, msg: [] })
    assert.equal(feed.messages.length, 10, 'nothing comes after the end')
  })

  it('shows NO levels at NO prices, or at YES prices on request', async () => {
    sim.house({ side: 'ask', priceTicks: 6500, count: 100 })
    const feed = await feedOf(bob)
    const sid = await feed.subscribe('orderbook_delta', ['T'], { use_yes_price: true })
    sim.house({ side: 'ask', priceTicks: 6600, count: 100 })
    const [delta] = await feed.wait(({ type }) => type === 'orderbook_delta')
    assert.deepEqual([delta.msg.price_dollars, delta.msg.side], ['0.6600', 'no'])
    const [snapshot] = await feed.wait((message) => message.type === 'orderbook_snapshot' && message.sid === sid)
    assert.ok(snapshot.msg.no_dollars_fp.some(([price]: [string]) => price === '0.6500'))
  })

  it('adds the markets of a second subscription to the first, and answers a request for a snapshot with its id', async () => {
    const feed = await feedOf(alice)
    const sid = await feed.subscribe('orderbook_delta', ['T'])
    feed.send({ id: 7, cmd: 'subscribe', params: { channels: ['orderbook_delta'], market_tickers: ['U', 'T'] } })
    const [ok] = await feed.wait(({ id }) => id === 7)
    assert.deepEqual(ok, { type: 'ok', id: 7, sid, seq: 2, msg: { market_tickers: ['T', 'U'] } })
    feed.send({ id: 8, cmd: 'update_subscription', params: { sid, action: 'get_snapshot', market_tickers: ['U'] } })
    const [snapshot] = await feed.wait(({ id }) => id === 8)
    assert.deepEqual([snapshot.type, snapshot.sid, snapshot.msg.market_ticker], ['orderbook_snapshot', sid, 'U'])
  })

  it('tells nothing of an added market before its book', async () => {
    const feed = await feedOf(alice)
    const sid = await feed.subscribe('orderbook_delta', ['T'])
    // What happened before the command is still on its way when the command comes.
    for (let i = 0; i < 5; i++) sim.house({ ticker: 'U', side: 'bid', priceTicks: 1500, count: 100 })
    feed.send({ id: 30, cmd: 'update_subscription', params: { sid, action: 'add_markets', market_tickers: ['U'] } })
    const [first] = await feed.wait(({ msg }) => msg?.market_ticker === 'U')
    assert.equal(first.type, 'orderbook_snapshot')
    sim.house({ ticker: 'U', side: 'bid', priceTicks: 1500, count: 100 })
    const [delta] = await feed.wait(({ type }) => type === 'orderbook_delta')
    assert.equal(delta.seq, first.seq + 1)
  })

  it('keeps a client’s book right however commands, orders and deltas interleave', async () => {
    const feed = await feedOf(bob)
    const sid = await feed.subscribe('orderbook_delta', ['T'])
    for (let i = 0; i < 40; i++) {
      sim.house({ side: i % 2 ? 'bid' : 'ask', priceTicks: 4800 + (i % 7) * 100, count: 100 + i })
      if (i % 5 === 0)
        feed.send({
          id: 100 + i,
          cmd: 'update_subscription',
          params: { sid, action: 'get_snapshot', market_tickers: ['T'] },
        })
      if (i % 8 === 0) await feed.wait(({ id }) => id === 100 + i - (i % 5))
    }
    feed.send({ id: 999, cmd: 'update_subscription', params: { sid, action: 'get_snapshot', market_tickers: ['T'] } })
    const [final] = await feed.wait(({ id }) => id === 999)
    const before = feed.messages.slice(0, feed.messages.indexOf(final))
    assert.deepEqual(bookOf(before, 'T'), bookOf([final], 'T'))
    const seqs = feed.messages.filter((message) => message.sid === sid && message.seq).map(({ seq }) => seq)
    assert.deepEqual(
      seqs,
      Array.from(seqs, (_, i) => i + 1),
    )
  })

  it('tells the account’s own orders and fills privately, and marks the deltas its orders caused', async () => {
    const [mine, others] = [await feedOf(alice), await feedOf(bob)]
    for (const feed of [mine, others]) {
      await feed.subscribe('orderbook_delta', ['U'])
      for (const channel of ['fill', 'user_orders', 'market_positions', 'trade']) await feed.subscribe(channel)
    }
    const created = await alice.order({ ticker: 'U', price: '0.3300', count: '2.00', client_order_id: 'tagged' })
    sim.house({ ticker: 'U', side: 'ask', priceTicks: 3300, count: 50 })
    const [fill] = await mine.wait(({ type }) => type === 'fill')
    const [trade] = await mine.wait(({ type }) => type === 'trade')
    const { ts, ts_ms: tsMs, trade_id: tradeId, ...fillRest } = fill.msg
    assert.deepEqual([trade.msg.trade_id, trade.msg.ts_ms, trade.msg.ts], [tradeId, tsMs, ts])
    assert.deepEqual(fillRest, {
      order_id: created.body.order_id,
      client_order_id: 'tagged',
      market_ticker: 'U',
      exchange_index: 2,
      is_taker: false,
      outcome_side: 'yes',
      book_side: 'bid',
      side: 'yes',
      action: 'buy',
      purchased_side: 'yes',
      yes_price_dollars: '0.3300',
      count_fp: '0.50',
      fee_cost: '0.000000',
      post_position_fp: '0.50',
      subaccount: 0,
    })
    assert.deepEqual(
      [trade.msg.taker_book_side, trade.msg.taker_outcome_side, trade.msg.count_fp],
      ['ask', 'no', '0.50'],
    )
    assert.equal(trade.seq, 1)
    assert.equal(fill.seq, undefined)
    const orders = await mine.wait(({ type }) => type === 'user_order', 2)
    assert.deepEqual(
      orders.map(({ msg }) => [msg.status, msg.fill_count_fp, msg.remaining_count_fp, msg.last_update_reason]),
      [
        ['resting', '0.00', '2.00', undefined],
        ['resting', '0.50', '1.50', 'Trade'],
      ],
    )
    const [position] = await mine.wait(({ type }) => type === 'market_position')
    assert.deepEqual([position.msg.position_fp, position.msg.position_cost_dollars], ['0.50', '0.165000'])

    await alice.cancel(created.body.order_id)
    const deltas = await mine.wait(({ type }) => type === 'orderbook_delta', 3)
    assert.deepEqual(
      deltas.map(({ msg }) => [msg.delta_fp, msg.client_order_id]),
      [
        ['2.00', 'tagged'],
        ['-0.50', undefined],
        ['-1.50', 'tagged'],
      ],
    )
    const theirs = await others.wait(({ type }) => type === 'orderbook_delta', 3)
    assert.ok(theirs.every(({ msg }) => msg.client_order_id === undefined))
    assert.ok(!others.messages.some(({ type }) => ['fill', 'user_order', 'market_position'].includes(type)))
  })

  it('tells tickers without numbers, of the markets asked for or of all', async () => {
    const [one, all] = [await feedOf(alice), await feedOf(bob)]
    await one.subscribe('ticker', ['U'], { send_initial_snapshot: true })
    await all.subscribe('ticker')
    sim.feed.ticker(sim.market, epochMs())
    const [first] = await one.wait(({ type }) => type === 'ticker')
    assert.equal(first.msg.market_ticker, 'U')
    const [heard] = await all.wait(({ type }) => type === 'ticker')
    assert.deepEqual([heard.msg.market_ticker, heard.seq], ['T', undefined])
    assert.deepEqual(Object.keys(heard.msg), [
      ...['market_ticker', 'market_id', 'price_dollars', 'yes_bid_dollars', 'yes_ask_dollars', 'volume_fp'],
      ...['open_interest_fp', 'dollar_volume', 'dollar_open_interest', 'yes_bid_size_fp', 'yes_ask_size_fp'],
      ...['last_trade_size_fp', 'ts', 'ts_ms', 'time'],
    ])
  })

  it('answers every wrong command with the venue’s code', async () => {
    const feed = await feedOf(alice)
    const sid = await feed.subscribe('orderbook_delta', ['T'])
    const ticker = { market_ticker: 'T' }
    const wrong: [number, unknown][] = [
      [1, '{'],
      [2, { id: 12, cmd: 'subscribe' }],
      [3, { id: 13, cmd: 'subscribe', params: {} }],
      [4, { id: 14, cmd: 'unsubscribe', params: {} }],
      [5, { id: 15, cmd: 'dance' }],
      [7, { id: 16, cmd: 'unsubscribe', params: { sids: [99] } }],
      [8, { id: 17, cmd: 'subscribe', params: { channels: ['gossip'] } }],
      [11, { id: 18, cmd: 'subscribe', params: { channels: ['ticker'], market_tickers: 'T' } }],
      [11, { id: 19, cmd: 'subscribe', params: { channels: ['ticker'], market_tickers: ['NONE'] } }],
      [12, { id: 20, cmd: 'update_subscription', params: { sids: [1, 2], action: 'add_markets', ...ticker } }],
      [13, { id: 21, cmd: 'update_subscription', params: { sid, action: 'paint', ...ticker } }],
      [14, { id: 22, cmd: 'subscribe', params: { channels: ['orderbook_delta'] } }],
      [15, { id: 23, cmd: 'update_subscription', params: { sid, ...ticker } }],
    ]
    for (const [, command] of wrong) feed.send(command)
    const errors = await feed.wait(({ type }) => type === 'error', wrong.length)
    assert.deepEqual(
      errors.map(({ id, msg }) => [msg.code, id]),
      wrong.map(([code, command]) => [code, (command as { id?: number }).id]),
    )
    assert.equal(errors[8].msg.market_ticker, 'NONE')
    assert.equal(errors[6].msg.msg, 'Unknown channel name')
  })

  it('counts what it wrote to open sockets, by key', async () => {
    const fresh = await startSimulator()
    const client = fresh.as('alice')
    const feed = await client.feed()
    await feed.subscribe('orderbook_delta', ['T', 'U'])
    await feed.subscribe('trade')
    fresh.house({ side: 'bid', priceTicks: 4000, count: 100 })
    await client.order({ side: 'ask', price: '0.4000', count: '1.00' })
    await feed.wait(({ type }) => type === 'trade')
    feed.socket.close()
    await feed.closed
    fresh.house({ side: 'bid', priceTicks: 4000, count: 100 })
    const { ticksDelivered, ordersReceived, fills, byKey } = fresh.simulator.stats()
    await fresh.stop()
    const ticks = feed.messages.filter(({ type }) => /^(orderbook_|ticker|trade)/.test(type)).length
    assert.equal(ticks, 5, 'two snapshots, two deltas, a trade')
    assert.deepEqual([ticksDelivered, ordersReceived, fills], [ticks, 1, 1])
    assert.equal(byKey.alice?.ticksDelivered, ticks)
    assert.equal(byKey.bob?.ticksDelivered, 0)
  })
})
