import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { type AddressInfo, createConnection, createServer as createTcpServer, type Socket } from 'node:net'
import { test } from 'node:test'
import { UserError } from '@tickscope/contract'
import { type WebSocket, WebSocketServer } from 'ws'
import {
  AUTH_HEADERS,
  createFeed,
  createSigner,
  FEED_PATH,
  type FeedCommand,
  type FeedMessage,
  type FeedOptions,
  loadPublicKey,
  parseCommand,
  verify,
} from '../../src/kalshi/index.ts'
import { ED25519_PRIVATE_PEM, ED25519_PUBLIC_PEM } from './keys.ts'
import { until } from './wait.ts'

const signer = createSigner({ keyId: 'key-1', privateKeyPem: ED25519_PRIVATE_PEM })
const publicKey = loadPublicKey(ED25519_PUBLIC_PEM, 'the test key')
const TICKERS = ['A', 'B']

/** The venue's end of one connection, with the numbers it has given out. */
class Peer {
  readonly socket: WebSocket
  /** Below the WebSocket: to write frames cut in pieces. */
  readonly tcp: Socket
  readonly commands: FeedCommand[] = []
  readonly sidByChannel = new Map<string, number>()
  seq = 0
  closeCode: number | undefined
  pongs = 0

  constructor(socket: WebSocket, tcp: Socket, onCommand: (peer: Peer, command: FeedCommand) => void) {
    this.socket = socket
    this.tcp = tcp
    socket.on('message', (data) => {
      const command = parseCommand(String(data))
      assert.ok(command.cmd !== 'invalid', String(data))
      this.commands.push(command)
      onCommand(this, command)
    })
    socket.on('pong', () => this.pongs++)
    socket.on('error', () => {})
    socket.on('close', (code) => {
      this.closeCode = code
    })
  }

  get bookSid(): number {
    return this.sidByChannel.get('orderbook_delta') as number
  }

  send(message: unknown): void {
    this.socket.send(typeof message === 'string' ? message : `${JSON.stringify(message)}\n`)
  }

  snapshot(ticker: string, id?: number): void {
    const msg = { market_ticker: ticker, market_id: 'm', yes_dollars_fp: [['0.4200', '13.00']] }
    this.send({ type: 'orderbook_snapshot', id, sid: this.bookSid, seq: ++this.seq, msg })
  }

  deltaText(ticker: string): string {
    const msg = {
      market_ticker: ticker,
      market_id: 'm',
      price_dollars: '0.4200',
      delta_fp: '1.00',
      side: 'yes',
      ts_ms: 1,
    }
    return `${JSON.stringify({ type: 'orderbook_delta', sid: this.bookSid, seq: ++this.seq, msg })}\n`
  }

  delta(ticker: string): void {
    this.send(this.deltaText(ticker))
  }
}

/** Sids of each connection start where no other connection's do, as a venue may choose them. */
let nextSid = 1

/** What a well-behaved venue answers. */
function obey(peer: Peer, command: FeedCommand): void {
  if (command.cmd === 'subscribe') {
    for (const channel of command.channels) {
      const sid = nextSid++
      peer.sidByChannel.set(channel, sid)
      peer.send({ type: 'subscribed', id: command.id, msg: { channel, sid } })
      if (channel === 'orderbook_delta') {
        peer.seq = 0
        for (const ticker of command.marketTickers) peer.snapshot(ticker)
      }
    }
  } else if (command.cmd === 'update_subscription' && command.action === 'get_snapshot') {
    for (const ticker of command.marketTickers) peer.snapshot(ticker, command.id)
  }
}

async function venue(onCommand: (peer: Peer, command: FeedCommand) => void = obey, http: Server = createServer()) {
  const peers: Peer[] = []
  const upgrades: IncomingMessage[] = []
  const server = new WebSocketServer({ noServer: true })
  http.on('upgrade', (request, socket, head) => {
    upgrades.push(request)
    server.handleUpgrade(request, socket, head, (ws) => {
      peers.push(new Peer(ws, socket as Socket, onCommand))
    })
  })
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  return {
    peers,
    upgrades,
    origin: `ws://127.0.0.1:${(http.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      for (const { socket } of peers) socket.terminate()
      http.closeAllConnections()
      http.close()
      await once(http, 'close')
    },
  }
}

/** A feed with everything its handlers were told, in order. */
function client(origin: string, options: Partial<FeedOptions> = {}) {
  const told: string[] = []
  const events: { message: FeedMessage; receivedAtMs: number; decodedAtMs: number; text: string }[] = []
  const disconnects: { error: Error; retryInMs: number }[] = []
  let raw = { text: '', receivedAtMs: 0 }
  let ready = 0
  const feed = createFeed(
    { origin, signer, marketTickers: TICKERS, reconnectMinMs: 1, random: () => 0.5, ...options },
    {
      onMessage(text, receivedAtMs) {
        raw = { text, receivedAtMs }
      },
      onEvent(message, receivedAtMs, decodedAtMs) {
        assert.equal(raw.receivedAtMs, receivedAtMs)
        told.push(message.type)
        events.push({ message, receivedAtMs, decodedAtMs, text: raw.text })
      },
      onSuspect(tickers, reason) {
        assert.deepEqual(tickers, options.marketTickers ?? TICKERS)
        told.push(`suspect: ${reason}`)
      },
      onReady() {
        ready++
        told.push('ready')
      },
      onDisconnect(error, retryInMs) {
        disconnects.push({ error, retryInMs })
        told.push('disconnect')
      },
    },
  )
  return Object.assign(feed, {
    told,
    events,
    disconnects,
    readyCount: () => ready,
    /** Text of everything told since the last call. */
    tell: () => told.splice(0),
    [Symbol.asyncDispose]: () => feed.stop(),
  })
}

/** Server frames: unmasked, final. */
function frame(opcode: number, payload: string): Buffer {
  const body = Buffer.from(payload)
  const head = body.length < 126 ? Buffer.from([0x80 | opcode, body.length]) : Buffer.alloc(4)
  if (body.length >= 126) {
    head[0] = 0x80 | opcode
    head[1] = 126
    head.writeUInt16BE(body.length, 2)
  }
  return Buffer.concat([head, body])
}

const TEXT = 1
const PING = 9

test('the upgrade is signed, each channel subscribed with the flag spelled out, and ready comes with the last book', async () => {
  await using server = await venue()
  await using feed = client(server.origin)
  await feed.start()
  const request = server.upgrades[0] as IncomingMessage
  const header = (name: string) => String(request.headers[name.toLowerCase()])
  const timestamp = header(AUTH_HEADERS.timestamp)
  assert.ok(verify(publicKey, { timestamp, method: 'GET', path: FEED_PATH }, header(AUTH_HEADERS.signature)))
  assert.equal(header(AUTH_HEADERS.key), 'key-1')
  assert.equal(request.url, FEED_PATH)
  assert.equal(request.headers['sec-websocket-extensions'], undefined)
  assert.deepEqual(server.peers[0]?.commands, [
    {
      id: 1,
      cmd: 'subscribe',
      channels: ['orderbook_delta', 'ticker', 'trade'],
      marketTickers: TICKERS,
      useYesPrice: false,
      sendInitialSnapshot: undefined,
    },
    {
      id: 2,
      cmd: 'subscribe',
      channels: ['fill', 'user_orders'],
      marketTickers: [],
      useYesPrice: undefined,
      sendInitialSnapshot: undefined,
    },
  ])
  assert.deepEqual(feed.tell().toSorted(), [
    'orderbook_snapshot',
    'orderbook_snapshot',
    'ready',
    ...Array<string>(5).fill('subscribed'),
  ])
  assert.equal(feed.useYesPrice, false)
})

test('a message is told before it is parsed, with instants in order', async () => {
  await using server = await venue()
  await using feed = client(server.origin, { useYesPrice: true })
  const startedMs = performance.now()
  await feed.start()
  server.peers[0]?.delta('A')
  const { message, receivedAtMs, decodedAtMs, text } = await until('the delta', () =>
    feed.events.find(({ message }) => message.type === 'orderbook_delta'),
  )
  assert.ok(message.type === 'orderbook_delta')
  assert.equal(message.deltaHundredths, 100)
  assert.match(text, /^\{"type":"orderbook_delta"/)
  assert.ok(startedMs < receivedAtMs && receivedAtMs <= decodedAtMs && decodedAtMs <= performance.now())
  const command = server.peers[0]?.commands[0]
  assert.equal(command?.cmd === 'subscribe' && command.useYesPrice, true)
})

test('a message cut in two by the network was received when its first byte was', async () => {
  await using server = await venue()
  await using feed = client(server.origin)
  await feed.start()
  const peer = server.peers[0] as Peer
  for (const cut of [1, 2, 3, 50]) {
    feed.events.length = 0
    const [first, bytes, last] = ['B', 'A', 'B'].map((ticker) => frame(TEXT, peer.deltaText(ticker))) as [
      Buffer,
      Buffer,
      Buffer,
    ]
    const pongs = peer.pongs
    peer.tcp.write(Buffer.concat([first, frame(PING, 'heartbeat'), bytes.subarray(0, cut)]))
    // The answer to the ping proves that the first piece, in the same write, was read; same process, same clock.
    await until('the pong', () => peer.pongs > pongs)
    const firstPieceReadByMs = performance.now()
    peer.tcp.write(Buffer.concat([bytes.subarray(cut), last]))
    await until('all three', () => feed.events.length === 3)
    const [before, straddling, after] = feed.events.map(({ receivedAtMs }) => receivedAtMs) as [number, number, number]
    assert.equal(straddling, before, `cut after ${cut} bytes`)
    assert.ok(straddling <= firstPieceReadByMs)
    assert.ok(after >= firstPieceReadByMs)
    assert.ok((feed.events[1]?.decodedAtMs ?? 0) >= firstPieceReadByMs)
  }
  assert.equal(feed.stats.gaps, 0)
})

test('messages that came in one read with the answer to the upgrade are received at that read', async () => {
  const sockets: Socket[] = []
  const server = createTcpServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    socket.once('data', (request) => {
      const key = /sec-websocket-key: (.*)\r\n/i.exec(String(request))?.[1]
      const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
      const head = `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`
      const subscribed = (channel: string, sid: number) =>
        frame(TEXT, JSON.stringify({ type: 'subscribed', id: 1, msg: { channel, sid } }))
      const ticker = frame(TEXT, '{"type":"ticker","sid":1,"msg":{"market_ticker":"A","ts_ms":1}}')
      socket.write(
        Buffer.concat([Buffer.from(head), subscribed('ticker', 1), ticker, frame(PING, ''), ticker.subarray(0, 7)]),
      )
      socket.once('data', () => socket.write(ticker.subarray(7)))
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  {
    await using feed = client(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`, { channels: ['ticker'] })
    await feed.start()
    await until('all three', () => feed.events.length === 3)
    const [subscribed, whole, straddling] = feed.events
    assert.equal(whole?.receivedAtMs, subscribed?.receivedAtMs)
    assert.equal(straddling?.receivedAtMs, subscribed?.receivedAtMs)
    assert.ok((straddling?.decodedAtMs ?? 0) > (straddling?.receivedAtMs ?? 0))
    for (const socket of sockets) socket.destroy()
  }
  server.close()
})

test('TLS works with the given authority and is refused without it', async () => {
  const read = (name: string) => readFileSync(new URL(`fixtures/${name}`, import.meta.url), 'utf8')
  const ca = read('localhost-cert.pem')
  const tls = createTlsServer({ cert: ca, key: read('localhost-key.pem') })
  await using server = await venue(obey, tls as unknown as Server)
  const origin = server.origin.replace('ws:', 'wss:')
  {
    await using feed = client(origin, { ca })
    await feed.start()
    server.peers[0]?.delta('A')
    await until('the delta', () => feed.told.includes('orderbook_delta'))
  }
  await using feed = client(origin)
  await assert.rejects(feed.start(), {
    message: `cannot connect to ${origin}${FEED_PATH}: DEPTH_ZERO_SELF_SIGNED_CERT`,
  })
})

test('a gap makes every book of the subscription suspect before its message is told, and snapshots are asked for', async () => {
  await using server = await venue()
  await using feed = client(server.origin)
  await feed.start()
  const peer = server.peers[0] as Peer
  peer.delta('A')
  await until('the delta', () => feed.told.includes('orderbook_delta'))
  feed.tell()
  const lost = peer.deltaText('A')
  peer.delta('B')
  await until(
    'the snapshots',
    () => feed.events.filter(({ message }) => message.type === 'orderbook_snapshot').length === 4,
  )
  const sid = peer.bookSid
  assert.deepEqual(feed.tell(), [
    `suspect: gap in the sequence of sid ${sid} before 5`,
    'orderbook_delta',
    'orderbook_snapshot',
    'orderbook_snapshot',
  ])
  assert.ok(lost.includes('"seq":4'))
  assert.deepEqual(peer.commands.at(-1), {
    id: 3,
    cmd: 'update_subscription',
    sid,
    action: 'get_snapshot',
    marketTickers: TICKERS,
  })
  assert.deepEqual([feed.stats.gaps, feed.stats.repairs, feed.stats.reconnects, feed.readyCount()], [1, 1, 0, 1])
})

test('ok, unsubscribed and unknown messages take numbers of the sequence', async () => {
  await using server = await venue()
  await using feed = client(server.origin)
  await feed.start()
  const peer = server.peers[0] as Peer
  const sid = peer.bookSid
  peer.send({ type: 'ok', id: 9, sid, seq: ++peer.seq, msg: { market_tickers: TICKERS } })
  peer.send({ type: 'order_group_updates', sid, seq: ++peer.seq, msg: {} })
  peer.send({ type: 'unsubscribed', id: 9, sid, seq: ++peer.seq })
  peer.delta('A')
  await until('the delta', () => feed.told.includes('orderbook_delta'))
  assert.deepEqual([feed.stats.gaps, feed.stats.unknown], [0, 1])
})

test('a gap in a sequence of trades is counted and spoils no book', async () => {
  await using server = await venue()
  await using feed = client(server.origin)
  await feed.start()
  feed.tell()
  const peer = server.peers[0] as Peer
  const trade = {
    trade_id: 't',
    market_ticker: 'A',
    yes_price_dollars: '0.5',
    count_fp: '1.00',
    taker_book_side: 'bid',
    ts_ms: 1,
  }
  peer.send({ type: 'trade', sid: peer.sidByChannel.get('trade'), seq: 5, msg: trade })
  await until('the trade', () => feed.told.includes('trade'))
  assert.deepEqual(feed.tell(), ['trade'])
  assert.equal(feed.stats.gaps, 1)
})

test('a malformed message makes the books suspect, is told as a value, and the connection lives on', async () => {
  await using server = await venue()
  await using feed = client(server.origin)
  await feed.start()
  feed.tell()
  const peer = server.peers[0] as Peer
  peer.send('{"type":')
  await until('the repair', () => feed.told.filter((what) => what === 'orderbook_snapshot').length === 2)
  const told = feed.tell()
  assert.match(told[0] as string, /^suspect: message is not JSON/)
  assert.equal(told[1], 'malformed')
  peer.socket.send(Buffer.from('{}'), { binary: true })
  await until('the second repair', () => feed.told.filter((what) => what === 'orderbook_snapshot').length === 2)
  assert.deepEqual([feed.stats.malformed, feed.stats.repairs, feed.stats.reconnects], [2, 2, 0])
})

for (const code of [10, 25]) {
  test(`error ${code} ends a subscription: its books are suspect and it is subscribed anew`, async () => {
    await using server = await venue()
    await using feed = client(server.origin)
    await feed.start()
    const peer = server.peers[0] as Peer
    const sid = peer.bookSid
    feed.tell()
    peer.send({ type: 'error', id: 0, sid, seq: ++peer.seq, msg: { code, msg: 'gone' } })
    await until('the new books', () => feed.told.filter((what) => what === 'orderbook_snapshot').length === 2)
    const told = feed.tell()
    assert.deepEqual(told.slice(0, 3), ['error', `suspect: error ${code} 'gone' ended the book channel`, 'subscribed'])
    assert.notEqual(peer.bookSid, sid)
    peer.delta('A')
    await until('a delta', () => feed.told.includes('orderbook_delta'))
    assert.deepEqual([feed.stats.gaps, feed.stats.repairs, feed.stats.reconnects], [0, 1, 0])
  })
}

test('a lost connection makes every book suspect and is opened again with new sids', async () => {
  await using server = await venue()
  await using feed = client(server.origin)
  await feed.start()
  const first = server.peers[0] as Peer
  feed.tell()
  first.socket.terminate()
  await until('ready again', () => feed.readyCount() === 2)
  const told = feed.tell()
  assert.match(told[0] as string, /^suspect: /)
  assert.equal(told[1], 'disconnect')
  assert.equal(told.at(-1), 'ready')
  const second = server.peers[1] as Peer
  assert.notEqual(second.bookSid, first.bookSid)
  second.delta('A')
  await until('a delta', () => feed.told.includes('orderbook_delta'))
  assert.deepEqual([feed.stats.gaps, feed.stats.reconnects], [0, 1])
  assert.match(feed.disconnects[0]?.error.message ?? '', /closed the feed: 1006|was lost/)
})

test('delays between attempts double, jittered over their whole range, up to the bound', async () => {
  let refuse = false
  const sockets = new Set<Socket>()
  await using server = await venue()
  const gate = createTcpServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    if (refuse) socket.destroy()
    else {
      const { port } = new URL(server.origin)
      const through = createConnection(Number(port))
      socket.pipe(through).pipe(socket)
      through.on('error', () => {})
    }
  }).listen(0, '127.0.0.1')
  await once(gate, 'listening')
  const draws = [1, 0.5, 0.25, 1, 0]
  let drawn = 0
  {
    await using feed = client(`ws://127.0.0.1:${(gate.address() as AddressInfo).port}`, {
      reconnectMinMs: 2,
      reconnectMaxMs: 10,
      random: () => draws[drawn++ % draws.length] as number,
    })
    await feed.start()
    refuse = true
    for (const socket of sockets) socket.destroy()
    await until('five attempts', () => feed.disconnects.length >= 5)
    assert.deepEqual(
      feed.disconnects.slice(0, 5).map(({ retryInMs }) => retryInMs),
      [2, 2, 2, 10, 0],
    )
    refuse = false
    await until('ready again', () => feed.readyCount() === 2)
  }
  gate.close()
})

test('pings keep a quiet connection alive; silence ends it', async () => {
  await using server = await venue()
  await using feed = client(server.origin, { silenceMs: 200 })
  await feed.start()
  const peer = server.peers[0] as Peer
  const pinging = setInterval(() => peer.socket.ping('heartbeat'), 25)
  await until('half a second of pings', () => peer.pongs >= 20)
  clearInterval(pinging)
  assert.equal(feed.stats.reconnects, 0)
  await until('a new connection', () => feed.readyCount() >= 2)
  assert.match(feed.disconnects[0]?.error.message ?? '', /sent nothing for 200 ms$/)
})

test('more gaps than repairs allow end in a fresh connection', async () => {
  await using server = await venue()
  await using feed = client(server.origin)
  await feed.start()
  const peer = server.peers[0] as Peer
  for (let gap = 0; gap < 11; gap++) {
    peer.seq++
    peer.delta('A')
  }
  await until('ready again', () => feed.readyCount() === 2)
  assert.equal(feed.stats.repairs, 10)
  assert.match(feed.disconnects[0]?.error.message ?? '', /lost more than 10 messages or subscriptions within 10000 ms$/)
})

test('a refused upgrade rejects start with the reason the venue gave', async () => {
  const http = createServer()
  http.on('upgrade', (_request, socket) => {
    const body =
      '{"error":{"code":"authentication_error","message":"authentication_error","details":"INCORRECT_API_KEY_SIGNATURE"}}'
    socket.end(
      `HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    )
  })
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  const origin = `ws://127.0.0.1:${(http.address() as AddressInfo).port}`
  await using feed = client(origin)
  await assert.rejects(feed.start(), (error: UserError) => {
    assert.ok(error instanceof UserError)
    assert.equal(error.code, 'VENUE_REFUSED')
    assert.equal(
      error.message,
      `opening the feed at ${origin}${FEED_PATH}: venue answered 401 authentication_error (INCORRECT_API_KEY_SIGNATURE)`,
    )
    return true
  })
  assert.deepEqual(feed.disconnects, [])
  http.closeAllConnections()
  http.close()
})

test('a venue that is not there rejects start with its address', async () => {
  const gone = createTcpServer().listen(0, '127.0.0.1')
  await once(gone, 'listening')
  const origin = `ws://127.0.0.1:${(gone.address() as AddressInfo).port}`
  gone.close()
  await once(gone, 'close')
  await using feed = client(origin)
  await assert.rejects(feed.start(), {
    code: 'VENUE_UNREACHABLE',
    message: `cannot connect to ${origin}${FEED_PATH}: ECONNREFUSED`,
  })
})

test('a refused subscription rejects start with what was asked and the error', async () => {
  await using server = await venue((peer, command) => {
    peer.send({ type: 'error', id: command.id, msg: { code: 8, msg: 'Unknown channel name' } })
  })
  await using feed = client(server.origin)
  await assert.rejects(feed.start(), {
    code: 'VENUE_UNREACHABLE',
    message: `${server.origin}${FEED_PATH} refused to subscribe to orderbook_delta, ticker, trade: error 8 'Unknown channel name'`,
  })
})

test('a venue that never acknowledges, or never sends a book, rejects start with the limit', async () => {
  await using silent = await venue(() => {})
  await using feed = client(silent.origin, { replyTimeoutMs: 100 })
  await assert.rejects(feed.start(), /did not acknowledge channel orderbook_delta within 100 ms$/)
  await using bookless = await venue((peer, command) => {
    if (command.cmd !== 'subscribe') return
    for (const channel of command.channels)
      peer.send({ type: 'subscribed', id: command.id, msg: { channel, sid: nextSid++ } })
  })
  await using other = client(bookless.origin, { replyTimeoutMs: 100 })
  await assert.rejects(other.start(), /sent no book of 'A' within 100 ms$/)
})

test('stop closes politely, and nothing is told afterwards', async () => {
  await using server = await venue()
  const feed = client(server.origin)
  await feed.start()
  const peer = server.peers[0] as Peer
  feed.tell()
  const stopped = feed.stop()
  peer.delta('A')
  await stopped
  await until('the close', () => peer.closeCode !== undefined)
  assert.equal(peer.closeCode, 1000)
  assert.deepEqual(feed.tell(), [])
  assert.equal(server.upgrades.length, 1)
})

test('stop while connecting rejects start and leaves nothing behind', async () => {
  const sockets: Socket[] = []
  const mute = createTcpServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => {}).resume()
  }).listen(0, '127.0.0.1')
  await once(mute, 'listening')
  const feed = client(`ws://127.0.0.1:${(mute.address() as AddressInfo).port}`)
  const started = feed.start()
  await until('the connection', () => sockets.length === 1)
  const refused = assert.rejects(started, { code: 'STOPPED' })
  await feed.stop()
  await refused
  await until('the connection to end', () => sockets[0]?.destroyed)
  mute.close()
})

test('options that cannot work are refused', () => {
  const handlers = { onEvent: () => {} }
  assert.throws(() => createFeed({ origin: 'ws://x', signer, marketTickers: [] }, handlers), RangeError)
  assert.throws(
    () => createFeed({ origin: 'ws://x', signer, marketTickers: ['A'], silenceMs: 0 }, handlers),
    RangeError,
  )
})
