import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { AUTH_HEADERS } from '../../src/kalshi/sign.ts'
import { TIERS } from '../../src/sim/ratelimit.ts'
import { type Client, type Reply, type RunningSimulator, SIGNERS, startSimulator, until } from './fixture.ts'

const error = (status: number, code: string, more: object = { service: 'exchange' }) => ({
  status,
  body: { error: { code, message: code.replaceAll('_', ' '), ...more } },
})
const pick = ({ status, body }: Reply) => ({ status, body })

describe('the REST API', () => {
  let sim: RunningSimulator
  let alice: Client
  let bob: Client
  before(async () => {
    sim = await startSimulator()
    alice = sim.as('alice')
    bob = sim.as('bob')
  })
  after(() => sim.stop())

  describe('authentication', () => {
    const path = '/trade-api/v2/portfolio/balance'
    const unauthorized = (code: string, message: string, details?: string) => ({
      status: 401,
      body: { error: details === undefined ? { code, message } : { code, message, details } },
    })
    const withHeaders = async (headers: Record<string, string>) =>
      pick(await alice.call('GET', '/portfolio/balance', undefined, headers))

    it('accepts Ed25519 and RSA-PSS signatures over time, method and path without the query', async () => {
      assert.equal((await alice.get('/portfolio/balance')).status, 200)
      assert.equal((await bob.get('/portfolio/balance')).status, 200)
      assert.equal((await bob.get('/portfolio/orders?limit=5')).status, 200)
    })

    it('refuses a signature over the query, over another method, or made with another key', async () => {
      const wrong = unauthorized('authentication_error', 'authentication_error', 'INCORRECT_API_KEY_SIGNATURE')
      const signer = SIGNERS.alice as (typeof SIGNERS)[string]
      const now = `${Date.now()}`
      const headers = (signature: string) => ({
        [AUTH_HEADERS.key]: 'alice',
        [AUTH_HEADERS.timestamp]: now,
        [AUTH_HEADERS.signature]: signature,
      })
      assert.deepEqual(await withHeaders(headers(signer.sign(now, 'GET', `${path}?limit=5`))), wrong)
      assert.deepEqual(await withHeaders(headers(signer.sign(now, 'POST', path))), wrong)
      assert.deepEqual(await withHeaders(headers(SIGNERS.bob?.sign(now, 'GET', path) as string)), wrong)
      assert.deepEqual(await withHeaders(headers('%%%')), wrong)
    })

    it('names what is wrong with the key, the clock or the headers', async () => {
      const signed = SIGNERS.alice?.headers('GET', path) as Record<string, string>
      assert.deepEqual(
        await withHeaders({ ...signed, [AUTH_HEADERS.key]: 'nobody' }),
        unauthorized('authentication_error', 'authentication_error', 'NOT_FOUND'),
      )
      for (const offMs of [-30_000, 30_000, Number.NaN]) {
        assert.deepEqual(
          await withHeaders({ ...signed, [AUTH_HEADERS.timestamp]: `${Date.now() + offMs}` }),
          unauthorized('header_timestamp_expired', 'header timestamp expired'),
        )
      }
      const { [AUTH_HEADERS.signature]: _, ...unsigned } = signed
      assert.deepEqual(
        await withHeaders(unsigned),
        unauthorized('signature_is_missing_from_headers', 'signature is missing from headers'),
      )
    })

    it('accepts a clock a few seconds off either way', async () => {
      for (const offMs of [-5_000, 5_000]) {
        const headers = SIGNERS.alice?.headers('GET', path, Date.now() + offMs) as Record<string, string>
        assert.equal((await withHeaders(headers)).status, 200)
      }
    })

    it('asks for no signature to read markets, books and the exchange status', async () => {
      for (const open of ['/markets', '/markets/T', '/markets/T/orderbook', '/exchange/status'])
        assert.equal((await alice.call('GET', open, undefined, {})).status, 200, open)
      assert.equal((await alice.call('GET', '/portfolio/orders', undefined, {})).status, 401)
    })
  })

  describe('orders', () => {
    it('are created, told, cancelled and told again in the venue’s words', async () => {
      const created = await alice.order({ price: '0.4200', count: '12.5', client_order_id: 'mine' })
      assert.equal(created.status, 201)
      const { order_id: orderId, ts_ms: tsMs, ...rest } = created.body
      assert.match(orderId, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
      assert.ok(Math.abs(tsMs - Date.now()) < 60_000)
      assert.deepEqual(rest, { client_order_id: 'mine', fill_count: '0.00', remaining_count: '12.50' })

      const { order } = (await alice.get(`/portfolio/orders/${orderId}`)).body
      assert.deepEqual(Object.keys(order), Object.keys(order).toSorted(), 'keys in alphabetical order')
      const { created_time: createdTime, last_update_time: updateTime, user_id: userId, ...fields } = order
      assert.match(createdTime, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/)
      assert.equal(updateTime, createdTime)
      assert.equal(userId.length, 36)
      assert.deepEqual(fields, {
        action: 'buy',
        book_side: 'bid',
        cancel_order_on_pause: false,
        client_order_id: 'mine',
        exchange_index: 2,
        fill_count_fp: '0.00',
        initial_count_fp: '12.50',
        maker_fees_dollars: '0.000000',
        maker_fill_cost_dollars: '0.000000',
        no_price_dollars: '0.5800',
        order_id: orderId,
        outcome_side: 'yes',
        remaining_count_fp: '12.50',
        self_trade_prevention_type: 'taker_at_cross',
        side: 'yes',
        status: 'resting',
        subaccount_number: 0,
        taker_fees_dollars: '0.000000',
        taker_fill_cost_dollars: '0.000000',
        ticker: 'T',
        type: 'limit',
        yes_price_dollars: '0.4200',
      })

      const cancelled = await alice.cancel(orderId)
      assert.equal(cancelled.status, 200)
      assert.deepEqual(
        { ...cancelled.body, ts_ms: 0 },
        { order_id: orderId, client_order_id: 'mine', reduced_by: '12.50', ts_ms: 0 },
      )
      const again = (await alice.get(`/portfolio/orders/${orderId}`)).body.order
      assert.deepEqual([again.status, again.remaining_count_fp], ['canceled', '0.00'])
    })

    it('that trade tell the average price and fee, and show as fills, position and balance', async () => {
      const before = (await bob.get('/portfolio/balance')).body
      sim.house({ side: 'ask', priceTicks: 5200, count: 100 })
      sim.house({ side: 'ask', priceTicks: 5400, count: 100 })
      const taken = await bob.order({
        side: 'bid',
        price: '0.5400',
        count: '2.00',
        time_in_force: 'immediate_or_cancel',
      })
      assert.equal(taken.status, 201)
      const { average_fill_price: price, average_fee_paid: fee, fill_count: filled, remaining_count: left } = taken.body
      // 0.0175 and 0.0174 dollars of fee, rounded to four places.
      assert.deepEqual([price, fee, filled, left], ['0.5300', '0.0175', '2.00', '0.00'])

      const { fills, cursor } = (await bob.get(`/portfolio/fills?order_id=${taken.body.order_id}`)).body
      assert.equal(cursor, '')
      assert.deepEqual(
        fills.map((fill: Record<string, unknown>) => [
          fill.yes_price_dollars,
          fill.count_fp,
          fill.fee_cost,
          fill.is_taker,
        ]),
        [
          ['0.5400', '1.00', '0.017400', true],
          ['0.5200', '1.00', '0.017500', true],
        ],
      )
      const [position] = (await bob.get('/portfolio/positions?ticker=T')).body.market_positions
      assert.deepEqual(
        [position.position_fp, position.market_exposure_dollars, position.fees_paid_dollars, position.exchange_index],
        ['2.00', '1.060000', '0.034900', 2],
      )
      const balance = (await bob.get('/portfolio/balance')).body
      assert.equal(Math.round((before.balance_dollars - balance.balance_dollars) * 10_000), 10_600 + 349)
      assert.equal(balance.balance, Math.trunc(balance.balance_dollars * 100))
      assert.deepEqual(balance.balance_breakdown, [{ balance: balance.balance_dollars, exchange_index: 2 }])
    })

    it('are listed newest first, by page, status and ticker', async () => {
      const carol = sim.as('alice')
      const ids: string[] = []
      for (let i = 0; i < 5; i++) ids.unshift((await carol.order({ ticker: 'U', price: '0.0100' })).body.order_id)
      await carol.cancel(ids[0] as string)
      const first = (await carol.get('/portfolio/orders?ticker=U&limit=2')).body
      const second = (await carol.get(`/portfolio/orders?ticker=U&limit=2&cursor=${first.cursor}`)).body
      const third = (await carol.get(`/portfolio/orders?ticker=U&limit=2&cursor=${second.cursor}`)).body
      const pages = [first, second, third].map(({ orders }) =>
        orders.map(({ order_id: id }: { order_id: string }) => id),
      )
      assert.deepEqual(pages.flat(), ids)
      assert.equal(third.cursor, '')
      const resting = (await carol.get('/portfolio/orders?ticker=U&status=resting')).body.orders
      assert.equal(resting.length, 4)
      assert.equal((await carol.get('/portfolio/orders?ticker=U&cursor=garbage')).body.orders.length, 5)
      assert.equal((await carol.get('/portfolio/orders?event_ticker=other')).body.orders.length, 0)
    })

    it('are refused in the venue’s four shapes', async () => {
      sim.house({ side: 'ask', priceTicks: 9000, count: 100 })
      assert.deepEqual(pick(await alice.order({ price: '0.5050' })), error(400, 'invalid_price'))
      assert.deepEqual(pick(await alice.order({ ticker: 'NONE' })), error(404, 'market_not_found'))
      assert.deepEqual(pick(await alice.order({ exchange_index: 0 })), error(404, 'market_not_found'))
      assert.deepEqual(pick(await alice.order({ count: '50000.00' })), error(400, 'insufficient_balance'))
      assert.deepEqual(
        pick(await alice.order({ price: '0.9000', post_only: true })),
        error(400, 'invalid_order', { details: 'post only cross' }),
      )
      assert.deepEqual(
        pick(await alice.order({ price: '0.9000', count: '5.00', time_in_force: 'fill_or_kill' })),
        error(409, 'fill_or_kill_insufficient_resting_volume'),
      )
      assert.equal((await alice.order({ client_order_id: 'once', price: '0.0100' })).status, 201)
      assert.deepEqual(pick(await alice.order({ client_order_id: 'once' })), error(409, 'order_already_exists'))

      const flat = await alice.order({ count: 10 })
      assert.deepEqual([flat.status, Object.keys(flat.body)], [400, ['code', 'message', 'details']])
      assert.match(flat.body.details, /count/)
      assert.equal((await alice.call('POST', '/portfolio/events/orders', '{"ticker":')).body.code, 'bad_request')

      for (const fields of [
        { side: 'yes' },
        { count: '1.005' },
        { count: '-1.00' },
        { time_in_force: 'day' },
        { price: '' },
      ]) {
        const bare = await alice.order(fields)
        assert.deepEqual([bare.status, Object.keys(bare.body)], [400, ['msg']], JSON.stringify(fields))
      }
      const bare = await alice.get('/portfolio/orders?limit=1001')
      assert.deepEqual([bare.status, Object.keys(bare.body)], [400, ['msg']])
    })

    it('that are gone, foreign or unknown cannot be cancelled, and are all alike', async () => {
      const { order_id: gone } = (await alice.order({ price: '0.0200' })).body
      assert.equal((await alice.cancel(gone)).status, 200)
      const { order_id: foreign } = (await bob.order({ price: '0.0200' })).body
      for (const id of [gone, foreign, 'unknown'])
        assert.deepEqual(pick(await alice.cancel(id)), error(404, 'not_found'))
    })

    it('are routed by shard or by ticker; a cancel that names neither looks on shard 0', async () => {
      const create = async () => (await alice.order({ price: '0.0300' })).body.order_id
      const lost = await create()
      assert.equal((await alice.cancel(lost, '')).status, 404)
      assert.equal((await alice.cancel(lost, 'exchange_index=1')).status, 404)
      assert.equal((await alice.cancel(lost, 'market_ticker=T')).status, 200)
      assert.equal((await alice.cancel(await create(), 'exchange_index=-1&market_ticker=T')).status, 200)
    })

    it('are all cancelled by one call, without a body', async () => {
      for (const ticker of ['T', 'U']) await bob.order({ ticker, price: '0.0100' })
      const { status, text } = await bob.call('DELETE', '/portfolio/events/orders')
      assert.deepEqual([status, text], [204, ''])
      assert.equal((await bob.get('/portfolio/orders?status=resting')).body.orders.length, 0)
    })

    it('are refused for an order group that does not exist and for other subaccounts', async () => {
      assert.equal((await alice.order({ order_group_id: 'g' })).body.error.code, 'order_group_not_found')
      assert.equal((await alice.order({ subaccount: 3 })).status, 400)
    })
  })

  it('tells markets and books: bids only on both sides, the best one last', async () => {
    const markets = (await alice.get('/markets?status=open')).body
    assert.deepEqual(
      markets.markets.map(({ ticker, status }: { ticker: string; status: string }) => [ticker, status]),
      [
        ['T', 'active'],
        ['U', 'active'],
      ],
    )
    assert.equal((await alice.get('/markets?status=closed')).body.markets.length, 0)
    assert.equal((await alice.get('/markets?tickers=U')).body.markets.length, 1)
    const { market } = (await alice.get('/markets/U')).body
    assert.deepEqual(market.price_ranges, [{ start: '0.0000', end: '1.0000', step: '0.0100' }])
    assert.deepEqual(pick(await alice.get('/markets/NONE')), error(404, 'not_found', {}))

    sim.house({ ticker: 'U', side: 'bid', priceTicks: 3000, count: 1000 })
    sim.house({ ticker: 'U', side: 'bid', priceTicks: 4000, count: 500 })
    sim.house({ ticker: 'U', side: 'ask', priceTicks: 7000, count: 250 })
    assert.deepEqual((await alice.get('/markets/U/orderbook')).body.orderbook_fp.no_dollars, [['0.3000', '2.50']])
    const top = (await alice.get('/markets/U/orderbook?depth=1')).body.orderbook_fp
    assert.deepEqual(top, { no_dollars: [['0.3000', '2.50']], yes_dollars: [['0.4000', '5.00']] })
    assert.deepEqual(Object.keys((await alice.get('/markets/U/orderbook?depth=101')).body), ['msg'])
  })

  it('answers 404 where it has nothing and 413 to a body beyond its limit', async () => {
    assert.equal((await alice.get('/portfolio/orders/unknown')).status, 404)
    assert.equal((await alice.get('/no/such/path')).status, 404)
    assert.equal((await alice.call('PUT', '/portfolio/events/orders', {})).status, 404)
    assert.equal((await alice.call('POST', '/portfolio/events/orders', 'x'.repeat(70_000))).status, 413)
  })

  it('keeps the connection open from call to call', async () => {
    const { headers } = await alice.get('/exchange/status')
    assert.equal(headers.connection, 'keep-alive')
    assert.equal(headers['content-type'], 'application/json')
  })
})

describe('rate limits', () => {
  it('refuse what the bucket cannot pay, with no header and no penalty, reads and writes apart', async (t) => {
    const sim = await startSimulator({ tier: TIERS[0] as (typeof TIERS)[number] })
    t.after(() => sim.stop())
    const alice = sim.as('alice')
    // Basic: 100 write tokens, 10 for each order. The eleventh may just fit if a second passes: so forty.
    const answers: Reply[] = []
    for (let i = 0; i < 40; i++) answers.push(await alice.order({ price: '0.0100' }))
    const refused = answers.filter(({ status }) => status === 429)
    assert.ok(answers.slice(0, 10).every(({ status }) => status === 201))
    assert.ok(refused.length > 0)
    const { text, headers } = refused[0] as Reply
    assert.equal(text, '{"error":"too many requests"}')
    assert.equal(headers['retry-after'], undefined)
    assert.equal((await alice.get('/portfolio/balance')).status, 200, 'reads have their own')
    const ids = answers.filter(({ status }) => status === 201).map(({ body }) => body.order_id)
    await until(async () => (await alice.cancel(ids[0])).status === 200, 'tokens come back')
    const { usage_tier: tier, read, write } = (await alice.get('/account/limits')).body
    assert.deepEqual(
      [tier, read, write],
      ['basic', { bucket_capacity: 400, refill_rate: 200 }, { bucket_capacity: 100, refill_rate: 100 }],
    )
    const costs = (await alice.get('/account/endpoint_costs')).body
    assert.equal(costs.default_cost, 10)
    assert.ok(costs.endpoint_costs.every(({ cost }: { cost: number }) => cost === 2))

    const counted = sim.simulator.stats()
    assert.equal(counted.ordersReceived, 40)
    assert.equal(counted.ordersAccepted, ids.length)
    assert.equal(counted.ordersRejected, 40 - ids.length)
    assert.ok(counted.rateLimited >= refused.length)
  })

  it('charge a write that names its shard to that shard', async (t) => {
    const sim = await startSimulator({ tier: TIERS[0] as (typeof TIERS)[number] })
    t.after(() => sim.stop())
    const alice = sim.as('alice')
    const common = await Promise.all(Array.from({ length: 10 }, () => alice.order({ price: '0.0100' })))
    const shard = await Promise.all(
      Array.from({ length: 10 }, () => alice.order({ price: '0.0100', exchange_index: 2 })),
    )
    assert.ok([...common, ...shard].every(({ status }) => status === 201))
  })
})

describe('portfolio reads', () => {
  it('lag behind what the engine has already done', async (t) => {
    const sim = await startSimulator({ readLagMs: 300 })
    t.after(() => sim.stop())
    const alice = sim.as('alice')
    const { order_id: id } = (await alice.order()).body
    const status = async () => (await alice.get(`/portfolio/orders/${id}`)).body.order.status
    assert.equal(await status(), 'resting')
    assert.equal((await alice.cancel(id)).status, 200)
    assert.equal(await status(), 'resting')
    assert.equal((await alice.cancel(id)).status, 404)
    await until(async () => (await status()) === 'canceled', 'the cancel shows')
  })
})
