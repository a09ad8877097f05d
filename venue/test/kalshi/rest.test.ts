import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import {
  AUTH_HEADERS,
  type CallInstants,
  type CallResult,
  type ConnectionError,
  type CreateOrder,
  collectPages,
  createRest,
  createSigner,
  loadPublicKey,
  type RestOptions,
  type VenueError,
  verify,
  WireError,
} from '../../src/kalshi/index.ts'
import { ED25519_PRIVATE_PEM, ED25519_PUBLIC_PEM } from './keys.ts'
import { until } from './wait.ts'

const ORDERS = '/trade-api/v2/portfolio/events/orders'
const STATUS = '/trade-api/v2/exchange/status'
const signer = createSigner({ keyId: 'key-1', privateKeyPem: ED25519_PRIVATE_PEM })
const publicKey = loadPublicKey(ED25519_PUBLIC_PEM, 'the test key')

const ORDER: CreateOrder = {
  ticker: 'KXX-1',
  side: 'bid',
  countHundredths: 1000,
  priceTicks: 5600,
  timeInForce: 'good_till_canceled',
  selfTradePrevention: 'taker_at_cross',
  clientOrderId: 'c-1',
}
const CREATED = { order_id: 'o-1', client_order_id: 'c-1', fill_count: '0.00', remaining_count: '10.00', ts_ms: 1 }

function fixture(name: string): string {
  return readFileSync(new URL(`fixtures/${name}`, import.meta.url), 'utf8')
}

interface Seen {
  readonly method: string
  readonly path: string
  readonly query: string
  readonly headers: IncomingMessage['headers']
  readonly body: string
  readonly port: number
}

/** A venue of one handler, on a real socket; everything asked of it is kept. */
async function venue(
  answer: (request: Seen, response: ServerResponse) => void,
  open: (listener: RequestListener) => Server = createServer,
) {
  const seen: Seen[] = []
  const sockets = new Set<Socket>()
  const server = open(async (request, response) => {
    let body = ''
    for await (const chunk of request.setEncoding('utf8')) body += chunk
    const [path = '', query = ''] = (request.url ?? '').split('?')
    const { method = '', headers } = request
    const item = { method, path, query, headers, body, port: request.socket.remotePort ?? 0 }
    seen.push(item)
    if (path === STATUS) reply(response, 200, { exchange_active: true, trading_active: true })
    else answer(item, response)
  })
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    seen,
    sockets,
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    orders: () => seen.filter((request) => request.path.startsWith(ORDERS)),
    async [Symbol.asyncDispose]() {
      server.close()
      for (const socket of sockets) socket.destroy()
      await until('the server to close', () => !server.listening && sockets.size === 0)
    },
  }
}

function reply(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(typeof body === 'string' ? body : JSON.stringify(body))
}

function client(origin: string, options: Partial<RestOptions> = {}) {
  const rest = createRest({ origin, signer, ...options })
  return Object.assign(rest, { [Symbol.asyncDispose]: () => rest.stop({ graceMs: 100 }) })
}

/** Instants in the order they were told, with their tokens. */
function recorder() {
  const told: { name: string; atMs: number; token: number }[] = []
  const instants: CallInstants = {
    encoded: (atMs, token) => told.push({ name: 'encoded', atMs, token }),
    sent: (atMs, token) => told.push({ name: 'sent', atMs, token }),
    acked: (atMs, token) => told.push({ name: 'acked', atMs, token }),
  }
  return { told, instants, names: () => told.map(({ name }) => name) }
}

function failure<T>(result: CallResult<T>) {
  assert.ok(result.outcome !== 'ok')
  const { code } = result.error
  return { outcome: result.outcome, code, ambiguous: result.ambiguous }
}

test('a create is signed over path without body, and its answer is read', async () => {
  await using server = await venue((_request, response) => reply(response, 201, CREATED))
  await using rest = client(server.origin)
  const result = await rest.createOrder(ORDER)
  assert.deepEqual(result.outcome === 'ok' && result.value.remainingCountHundredths, 1000)
  const [request] = server.orders()
  assert.ok(request)
  assert.equal(request.method, 'POST')
  assert.equal(
    request.body,
    '{"ticker":"KXX-1","side":"bid","count":"10.00","price":"0.5600","time_in_force":"good_till_canceled","self_trade_prevention_type":"taker_at_cross","client_order_id":"c-1"}',
  )
  const timestamp = String(request.headers[AUTH_HEADERS.timestamp.toLowerCase()])
  const signature = String(request.headers[AUTH_HEADERS.signature.toLowerCase()])
  assert.equal(request.headers[AUTH_HEADERS.key.toLowerCase()], 'key-1')
  assert.ok(Math.abs(Number(timestamp) - Date.now()) < 10_000)
  assert.ok(verify(publicKey, { timestamp, method: 'POST', path: ORDERS }, signature))
})

test('on a warm connection an order is with the kernel before createOrder returns, reused or not', async () => {
  await using server = await venue((_request, response) => reply(response, 201, CREATED))
  await using rest = client(server.origin)
  await rest.warm(1)
  for (let order = 0; order < 5; order++) {
    const { told, instants, names } = recorder()
    const beforeMs = performance.now()
    const answer = rest.createOrder(ORDER, instants, order)
    assert.deepEqual(names(), ['encoded', 'sent'])
    await answer
    assert.deepEqual(names(), ['encoded', 'sent', 'acked'])
    const instantsMs = [beforeMs, ...told.map((instant) => instant.atMs), performance.now()]
    assert.deepEqual(
      instantsMs,
      instantsMs.toSorted((a, b) => a - b),
    )
    assert.ok(told.every(({ token }) => token === order))
  }
  assert.equal(new Set(server.seen.map(({ port }) => port)).size, 1)
})

for (const tls of [false, true]) {
  test(`over ${tls ? 'TLS' : 'TCP'} the venue reads an order while the thread that sent it is blocked`, async () => {
    const arrived = new Int32Array(new SharedArrayBuffer(4))
    const worker = new Worker(new URL('fixtures/order-server.ts', import.meta.url), { workerData: { arrived, tls } })
    const [port] = await once(worker, 'message')
    try {
      await using rest = client(
        `http${tls ? 's' : ''}://127.0.0.1:${port}`,
        tls ? { ca: fixture('localhost-cert.pem') } : {},
      )
      await rest.warm(1)
      for (let order = 0; order < 3; order++) {
        Atomics.store(arrived, 0, 0)
        const answer = rest.createOrder(ORDER)
        // Nothing but the kernel can carry the order from here.
        assert.notEqual(Atomics.wait(arrived, 0, 0, 5_000), 'timed-out', `order ${order}`)
        assert.equal((await answer).outcome, 'ok')
      }
    } finally {
      await worker.terminate()
    }
  })
}

test('warm opens that many connections with unsigned status requests, and orders at once spread over them', async () => {
  const held: ServerResponse[] = []
  await using server = await venue((_request, response) => held.push(response))
  await using rest = client(server.origin)
  await rest.warm(3)
  assert.equal(rest.idleLanes, 3)
  assert.deepEqual(
    server.seen.map(({ path, headers }) => [path, headers[AUTH_HEADERS.key.toLowerCase()]]),
    [
      [STATUS, undefined],
      [STATUS, undefined],
      [STATUS, undefined],
    ],
  )
  const { instants, names } = recorder()
  const answers = [1, 2, 3].map(() => rest.createOrder(ORDER, instants))
  assert.deepEqual(names(), ['encoded', 'sent', 'encoded', 'sent', 'encoded', 'sent'])
  await until('all three orders', () => held.length === 3)
  assert.equal(new Set(server.orders().map(({ port }) => port)).size, 3)
  assert.equal(server.sockets.size, 3)
  for (const response of held) reply(response, 201, CREATED)
  for (const answer of await Promise.all(answers)) assert.equal(answer.outcome, 'ok')
})

test('beyond its connections orders wait in turn, beyond the queue they fail unsent', async () => {
  const held: ServerResponse[] = []
  await using server = await venue((_request, response) => held.push(response))
  await using rest = client(server.origin, { orderLanesMax: 1, ordersWaitingMax: 1 })
  await rest.warm(1)
  const first = rest.createOrder(ORDER)
  const { instants, names } = recorder()
  const second = rest.createOrder({ ...ORDER, clientOrderId: 'c-2' }, instants)
  assert.deepEqual(names(), ['encoded'])
  assert.deepEqual(failure(await rest.createOrder(ORDER)), { outcome: 'error', code: 'BUSY', ambiguous: false })
  await until('the first order', () => held.length === 1)
  reply(held[0] as ServerResponse, 201, CREATED)
  assert.equal((await first).outcome, 'ok')
  await until('the second order', () => held.length === 2)
  assert.deepEqual(names(), ['encoded', 'sent'])
  reply(held[1] as ServerResponse, 201, { ...CREATED, client_order_id: 'c-2' })
  assert.equal((await second).outcome, 'ok')
  assert.equal(server.sockets.size, 1)
})

test('an order that waits for a connection gets a fresh one when that ends', async () => {
  await using server = await venue(({ body }, response) => {
    if (body.includes('c-1')) response.socket?.destroy()
    else response.setHeader('connection', 'close').end(JSON.stringify({ ...CREATED, client_order_id: undefined }))
  })
  await using rest = client(server.origin, { orderLanesMax: 1 })
  const ids = ['c-1', 'c-2', 'c-3']
  const results = await Promise.all(ids.map((clientOrderId) => rest.createOrder({ ...ORDER, clientOrderId })))
  assert.deepEqual(
    results.map(({ outcome }) => outcome),
    ['error', 'ok', 'ok'],
  )
  assert.equal(new Set(server.orders().map(({ port }) => port)).size, 3)
})

test('each refusal of the venue is a rejected order with its code, whatever shape the body has', async () => {
  const bodies: [number, string, string][] = [
    [400, '{"error":{"code":"invalid_order","message":"invalid order","details":"post only cross"}}', 'invalid_order'],
    [400, '{"code":"json_decode_error","message":"x","details":"y"}', 'json_decode_error'],
    [400, '{"msg":"missing ticker"}', 'http_400'],
    [429, '{"error":"too many requests"}', 'too_many_requests'],
    [409, '{"error":{"code":"order_already_exists","message":"order already exists"}}', 'order_already_exists'],
  ]
  let next = 0
  await using server = await venue((_request, response) => {
    const [status, body] = bodies[next++] as (typeof bodies)[number]
    reply(response, status, body)
  })
  await using rest = client(server.origin)
  for (const [, , code] of bodies) {
    const { instants, names } = recorder()
    const result = await rest.createOrder(ORDER, instants)
    assert.deepEqual(failure(result), { outcome: 'rejected', code, ambiguous: false })
    assert.deepEqual(names(), ['encoded', 'sent', 'acked'])
  }
})

test('a failing server and an unreadable or foreign answer leave the outcome open', async () => {
  const bodies: [number, unknown, string][] = [
    [503, '{"error":{"code":"exchange_unavailable","message":"x"}}', 'exchange_unavailable'],
    [502, '<html>bad gateway</html>', 'http_502'],
    [201, '{"order_id":', 'WIRE_INVALID'],
    [201, { ...CREATED, fill_count: 0 }, 'WIRE_INVALID'],
    [201, { ...CREATED, client_order_id: 'another' }, 'WIRE_INVALID'],
    [302, '', 'http_302'],
  ]
  let next = 0
  await using server = await venue((_request, response) => {
    const [status, body] = bodies[next++] as (typeof bodies)[number]
    reply(response, status, body)
  })
  await using rest = client(server.origin)
  for (const [, , code] of bodies)
    assert.deepEqual(failure(await rest.createOrder(ORDER)), { outcome: 'error', code, ambiguous: true })
})

test('an order without an answer in time is ambiguous, is not sent again, and its connection is not used again', async () => {
  await using server = await venue(({ body }, response) => {
    if (body.includes('c-1')) return
    reply(response, 201, { ...CREATED, client_order_id: 'c-2' })
  })
  await using rest = client(server.origin, { orderTimeoutMs: 100 })
  await rest.warm(1)
  const { instants, names } = recorder()
  assert.deepEqual(failure(await rest.createOrder(ORDER, instants)), {
    outcome: 'timeout',
    code: 'TIMEOUT',
    ambiguous: true,
  })
  assert.deepEqual(names(), ['encoded', 'sent'])
  assert.equal((await rest.createOrder({ ...ORDER, clientOrderId: 'c-2' })).outcome, 'ok')
  const orders = server.orders()
  assert.equal(orders.length, 2)
  assert.notEqual(orders[0]?.port, orders[1]?.port)
})

test('an order whose connection dies is ambiguous and not sent again', async () => {
  await using server = await venue((_request, response) => response.socket?.destroy())
  await using rest = client(server.origin)
  await rest.warm(1)
  assert.deepEqual(failure(await rest.createOrder(ORDER)), {
    outcome: 'error',
    code: 'CONNECTION_LOST',
    ambiguous: true,
  })
  assert.equal(server.orders().length, 1)
})

test('an order that found no venue was certainly not applied', async () => {
  const closed = createTcpServer().listen(0, '127.0.0.1')
  await once(closed, 'listening')
  const origin = `http://127.0.0.1:${(closed.address() as AddressInfo).port}`
  closed.close()
  await once(closed, 'close')
  await using rest = client(origin)
  const result = await rest.createOrder(ORDER)
  assert.deepEqual(failure(result), { outcome: 'error', code: 'CONNECT_FAILED', ambiguous: false })
  assert.ok(result.outcome === 'error' && result.error.message.includes(`cannot connect to ${origin}: ECONNREFUSED`))
  await assert.rejects(rest.warm(2), (error: ConnectionError) => error.code === 'CONNECT_FAILED')
  await assert.rejects(rest.balance(), (error: ConnectionError) => error.code === 'CONNECT_FAILED')
})

test('an answer longer than 1 MiB is cut off, for orders and for reads', async () => {
  await using server = await venue((_request, response) => reply(response, 200, 'x'.repeat(1024 * 1024 + 1)))
  await using rest = client(server.origin)
  assert.deepEqual(failure(await rest.createOrder(ORDER)), { outcome: 'error', code: 'PROTOCOL', ambiguous: true })
  await assert.rejects(rest.balance(), (error: ConnectionError) => error.code === 'PROTOCOL')
})

test('a cancel signs its path without the query, and a 404 is a rejection', async () => {
  let found = true
  await using server = await venue((_request, response) => {
    if (found) reply(response, 200, { order_id: 'o/1', reduced_by: '7.50', ts_ms: 2 })
    else reply(response, 404, { error: { code: 'not_found', message: 'not found' } })
  })
  await using rest = client(server.origin)
  const { instants, names } = recorder()
  const result = await rest.cancelOrder({ orderId: 'o/1', exchangeIndex: 2, marketTicker: 'KXX-1' }, instants)
  assert.deepEqual(result.outcome === 'ok' && result.value.reducedByHundredths, 750)
  assert.deepEqual(names(), ['encoded', 'sent', 'acked'])
  const [request] = server.orders()
  assert.ok(request)
  assert.deepEqual(
    [request.method, request.path, request.query],
    ['DELETE', `${ORDERS}/o%2F1`, 'exchange_index=2&market_ticker=KXX-1'],
  )
  const timestamp = String(request.headers[AUTH_HEADERS.timestamp.toLowerCase()])
  const signature = String(request.headers[AUTH_HEADERS.signature.toLowerCase()])
  assert.ok(verify(publicKey, { timestamp, method: 'DELETE', path: request.path }, signature))
  found = false
  assert.deepEqual(failure(await rest.cancelOrder({ orderId: 'o/1' })), {
    outcome: 'rejected',
    code: 'not_found',
    ambiguous: false,
  })
})

test('cancel-all is one DELETE answered with no content', async () => {
  await using server = await venue((_request, response) => response.writeHead(204).end())
  await using rest = client(server.origin)
  assert.deepEqual(await rest.cancelAll({ subaccount: 3 }), { outcome: 'ok', value: undefined })
  const [request] = server.orders()
  assert.deepEqual([request?.method, request?.path, request?.query], ['DELETE', ORDERS, 'subaccount=3'])
})

test('account reads are signed, public reads are not, and both are parsed', async () => {
  const market = {
    ticker: 'KXX-1',
    status: 'active',
    price_ranges: [{ start: '0.0000', end: '1.0000', step: '0.0100' }],
  }
  const order = {
    order_id: 'o-1',
    client_order_id: 'c-1',
    ticker: 'KXX-1',
    book_side: 'bid',
    status: 'resting',
    yes_price_dollars: '0.5600',
    initial_count_fp: '10.00',
    fill_count_fp: '0.00',
    remaining_count_fp: '10.00',
  }
  const bucket = { refill_rate: 100, bucket_capacity: 200 }
  const answers: { readonly [path: string]: unknown } = {
    '/portfolio/orders/o-1': { order },
    '/portfolio/orders': { orders: [order], cursor: 'next' },
    '/portfolio/fills': { fills: [], cursor: '' },
    '/portfolio/positions': {
      market_positions: [{ ticker: 'KXX-1', position_fp: '-5.00' }],
      event_positions: [],
      cursor: '',
    },
    '/portfolio/balance': { balance: 100, balance_dollars: '1.0050', portfolio_value: 0 },
    '/account/limits': { usage_tier: 'premier', read: bucket, write: bucket },
    '/markets': { markets: [market], cursor: '' },
    '/markets/KXX-1': { market },
    '/markets/KXX-1/orderbook': { orderbook_fp: { yes_dollars: [['0.4200', '13.00']] } },
  }
  await using server = await venue(({ path }, response) =>
    reply(response, 200, answers[path.slice('/trade-api/v2'.length)]),
  )
  await using rest = client(server.origin)
  assert.equal((await rest.getOrder('o-1')).priceTicks, 5600)
  const page = await rest.listOrders({ ticker: 'KXX-1', status: 'resting', limit: 10 })
  assert.deepEqual([page.items.length, page.cursor], [1, 'next'])
  assert.deepEqual(await rest.listFills({ orderId: 'o-1' }), { items: [], cursor: '' })
  assert.equal((await rest.positions()).items[0]?.positionHundredths, -500)
  assert.equal((await rest.balance()).balanceMicros, 1_005_000)
  assert.equal((await rest.accountLimits()).usageTier, 'premier')
  assert.equal(server.seen[1]?.query, 'ticker=KXX-1&status=resting&limit=10')
  for (const { headers, method, path } of server.seen.splice(0)) {
    const timestamp = String(headers[AUTH_HEADERS.timestamp.toLowerCase()])
    assert.ok(
      verify(publicKey, { timestamp, method, path }, String(headers[AUTH_HEADERS.signature.toLowerCase()])),
      path,
    )
  }
  assert.equal((await rest.markets({ status: 'open' })).items[0]?.ticker, 'KXX-1')
  assert.equal((await rest.market('KXX-1')).priceRanges[0]?.stepTicks, 100)
  assert.deepEqual((await rest.orderbook('KXX-1', 5)).yes, [{ priceTicks: 4200, countHundredths: 1300 }])
  assert.equal((await rest.exchangeStatus()).tradingActive, true)
  for (const { headers } of server.seen) assert.equal(headers[AUTH_HEADERS.key.toLowerCase()], undefined)
})

test('a read that is refused, garbled or late rejects with its reason', async () => {
  let mode: 'refuse' | 'garble' | 'hang' = 'refuse'
  await using server = await venue((_request, response) => {
    if (mode === 'refuse') reply(response, 401, { error: { code: 'header_timestamp_expired', message: 'x' } })
    if (mode === 'garble') reply(response, 200, 'nonsense')
  })
  await using rest = client(server.origin, { readTimeoutMs: 100 })
  await assert.rejects(rest.balance(), (error: VenueError) => error.code === 'header_timestamp_expired')
  mode = 'garble'
  await assert.rejects(rest.balance(), WireError)
  mode = 'hang'
  await assert.rejects(rest.balance(), (error: ConnectionError) => error.code === 'TIMEOUT')
})

test('an idle connection is refreshed before the server would drop it, and one that ended is replaced', async () => {
  await using server = await venue((_request, response) => reply(response, 201, CREATED))
  await using rest = client(server.origin, { refreshMs: 1 })
  await rest.warm(2)
  const statusCount = () => server.seen.filter(({ path }) => path === STATUS).length
  await until('a refresh', () => statusCount() > 2)
  const before = new Set(server.sockets)
  for (const socket of server.sockets) socket.destroy()
  await until(
    'new connections',
    () => rest.idleLanes === 2 && [...server.sockets].every((socket) => !before.has(socket)),
  )
  assert.equal((await rest.createOrder(ORDER)).outcome, 'ok')
})

test('a connection that brings bytes nobody asked for never carries an order', async () => {
  const sockets: Socket[] = []
  const ok = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}'
  const server = createTcpServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    socket.on('data', () => socket.write(ok))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  {
    await using rest = client(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    await rest.warm(1)
    sockets[0]?.write('HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}')
    await until('the connection to be dropped', () => rest.idleLanes === 0)
    await until('another to take its place', () => rest.idleLanes === 1)
    assert.equal(sockets.length, 2)
  }
  server.close()
})

test('a server that does not speak HTTP is a protocol error, and the order is ambiguous', async () => {
  const server = createTcpServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', () => socket.write('220 smtp ready\r\n'))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  {
    await using rest = client(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    assert.deepEqual(failure(await rest.createOrder(ORDER)), { outcome: 'error', code: 'PROTOCOL', ambiguous: true })
  }
  server.close()
})

test('TLS works with the given authority and fails without it', async () => {
  const ca = fixture('localhost-cert.pem')
  await using server = await venue(
    ({ path }, response) => reply(response, 200, path === ORDERS ? CREATED : { balance: 1 }),
    (listener) => createTlsServer({ cert: ca, key: fixture('localhost-key.pem') }, listener) as unknown as Server,
  )
  const origin = server.origin.replace('http:', 'https:')
  {
    await using rest = client(origin, { ca })
    await rest.warm(1)
    const { instants, names } = recorder()
    const answer = rest.createOrder(ORDER, instants)
    assert.deepEqual(names(), ['encoded', 'sent'])
    assert.equal((await answer).outcome, 'ok')
    assert.equal((await rest.balance()).balanceCents, 1)
  }
  await using rest = client(origin)
  const result = await rest.createOrder(ORDER)
  assert.deepEqual(failure(result), { outcome: 'error', code: 'CONNECT_FAILED', ambiguous: false })
})

test('stop waits for an answer that is due, refuses what comes after, and leaves no connection', async () => {
  const held: ServerResponse[] = []
  await using server = await venue((_request, response) => held.push(response))
  const rest = createRest({ origin: server.origin, signer })
  await rest.warm(2)
  const order = rest.createOrder(ORDER)
  await until('the order', () => held.length === 1)
  const stopped = rest.stop({ graceMs: 5_000 })
  assert.deepEqual(failure(await rest.createOrder(ORDER)), { outcome: 'error', code: 'STOPPED', ambiguous: false })
  reply(held[0] as ServerResponse, 201, CREATED)
  assert.equal((await order).outcome, 'ok')
  await stopped
  await until('connections to end', () => server.sockets.size === 0)
})

test('stop ends a wait that has no end', async () => {
  await using server = await venue(() => {})
  const rest = createRest({ origin: server.origin, signer })
  const order = rest.createOrder(ORDER)
  await until('the order', () => server.orders().length === 1)
  await rest.stop({ graceMs: 20 })
  assert.deepEqual(failure(await order), { outcome: 'error', code: 'STOPPED', ambiguous: true })
})

test('a list is read to its end, and a cursor the venue ignores does not make it endless', async () => {
  const pages: { readonly [cursor: string]: { items: number[]; cursor: string } } = {
    '': { items: [1], cursor: 'a' },
    a: { items: [2], cursor: 'b' },
    b: { items: [3], cursor: '' },
  }
  assert.deepEqual(
    await collectPages(async (cursor) => pages[cursor ?? ''] as { items: number[]; cursor: string }),
    [1, 2, 3],
  )
  assert.deepEqual(await collectPages(async () => ({ items: [1], cursor: 'same' })), [1, 1])
  let page = 0
  await assert.rejects(
    collectPages(async () => ({ items: [], cursor: String(page++) })),
    WireError,
  )
})

test('options out of range are refused', () => {
  assert.throws(() => createRest({ origin: 'http://127.0.0.1:1', signer, orderLanesMax: 0 }), RangeError)
  assert.throws(() => createRest({ origin: 'http://127.0.0.1:1', signer, orderTimeoutMs: Number.NaN }), RangeError)
})
