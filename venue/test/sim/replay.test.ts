import assert from 'node:assert/strict'
import { createReadStream, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, describe, it, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createZstdDecompress, zstdCompressSync } from 'node:zlib'
import { UserError } from '@tickscope/contract'
import { parseMessage } from '../../src/kalshi/message.ts'
import { type RecordedLine, readRecording, scanRecording } from '../../src/sim/recording.ts'
import { Replay } from '../../src/sim/replay.ts'
import { type Client, type FeedClient, type Message, type RunningSimulator, startSimulator, until } from './fixture.ts'

const REAL = fileURLToPath(new URL('../../../../shared/data/kalshi-kxbtc15m-ws.jsonl.zst', import.meta.url))
const REAL_LINES = 52_000

let folder = ''
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'tickscope-replay-'))
})
after(() => rmSync(folder, { recursive: true }))

let files = 0
function file(content: string | Buffer, name = `${++files}.jsonl`): string {
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

const line = (t: number, raw: object, c = 1) => `${JSON.stringify({ t, c, raw })}\n`
type Levels = [string, string][]
const snapshot = (ticker: string, yes: Levels, no: Levels, seq = 1) => ({
  type: 'orderbook_snapshot',
  sid: 2,
  seq,
  msg: {
    market_ticker: ticker,
    market_id: `id-${ticker}`,
    ...(yes.length && { yes_dollars_fp: yes }),
    ...(no.length && { no_dollars_fp: no }),
  },
})
const delta = (ticker: string, side: 'yes' | 'no', price: string, change: string, seq = 2) => ({
  type: 'orderbook_delta',
  sid: 2,
  seq,
  msg: {
    market_ticker: ticker,
    market_id: `id-${ticker}`,
    price_dollars: price,
    delta_fp: change,
    side,
    ts: '2026-05-13T13:33:13.232911Z',
    ts_ms: 1778679193232,
  },
})
const tickerMessage = (ticker: string, price: string, volume: string, lastSize: string) => ({
  type: 'ticker',
  sid: 1,
  msg: {
    market_ticker: ticker,
    market_id: `id-${ticker}`,
    price_dollars: price,
    yes_bid_dollars: '0.4000',
    yes_ask_dollars: '0.6000',
    volume_fp: volume,
    open_interest_fp: '5.00',
    dollar_volume: 12,
    dollar_open_interest: 3,
    yes_bid_size_fp: '1.00',
    yes_ask_size_fp: '1.00',
    last_trade_size_fp: lastSize,
    ts: 1778679194,
    ts_ms: 1778679194162,
    time: '2026-05-13T13:33:14.162364Z',
  },
})
const tradeMessage = (ticker: string, price: string, count: string, takerSide: 'bid' | 'ask') => ({
  type: 'trade',
  sid: 3,
  seq: 1,
  msg: {
    trade_id: '11111111-2222-4333-8444-555555555555',
    market_ticker: ticker,
    yes_price_dollars: price,
    no_price_dollars: '0.0000',
    count_fp: count,
    taker_outcome_side: takerSide === 'bid' ? 'yes' : 'no',
    taker_book_side: takerSide,
    ts: 1778679194,
    ts_ms: 1778679194162,
  },
})

async function replaying(t: TestContext, path: string, options: { speed?: number; maxGapMs?: number } = {}) {
  const maxGapMs = options.maxGapMs ?? Number.POSITIVE_INFINITY
  const recording = await scanRecording(path, maxGapMs)
  const speed = options.speed ?? Number.POSITIVE_INFINITY
  const sim = await startSimulator({ createFlow: (context) => new Replay(context, { recording, speed, maxGapMs }) })
  t.after(() => sim.stop())
  return sim
}

describe('a recording', () => {
  const market = snapshot('M', [['0.4000', '10.00']], [['0.4000', '5.00']])

  it('is read plain or compressed, told apart by content, and says what it holds', async () => {
    const text = line(1_000, { type: 'subscribed', id: 1, msg: { channel: 'ticker', sid: 1 } })
      .concat(line(1_000, market), line(1_500, delta('M', 'no', '0.4050', '2.50')), line(61_500, market, 2))
      .concat(line(61_600, snapshot('N-A-B', [], []), 2))
    for (const path of [file(text), file(zstdCompressSync(text), 'misleading.jsonl')]) {
      const { markets, messages, durationMs } = await scanRecording(path, 10_000)
      assert.deepEqual([messages, durationMs], [4, 10_600])
      assert.deepEqual(
        [...markets.values()].map((one) => [one.ticker, one.marketId, one.messages, one.subCent, one.endMs]),
        [
          ['M', 'id-M', 3, true, 10_500],
          ['N-A-B', 'id-N-A-B', 1, false, 10_600],
        ],
      )
    }
  })

  it('may lack the last line end, hold empty lines, and keep its fields in another order', async () => {
    const path = file(`\n${JSON.stringify({ raw: market, t: 5, note: 'x' })}\n\n${line(6, market).trimEnd()}`)
    const lines: RecordedLine[] = []
    for await (const some of readRecording(path)) lines.push(...some)
    assert.deepEqual(
      lines.map(({ line, atMs }) => [line, atMs]),
      [
        [2, 5],
        [4, 6],
      ],
    )
  })

  it('that cannot be read is one sentence with file, line and reason', async () => {
    const good = line(1, market)
    const compressed = zstdCompressSync(good.repeat(3_000))
    const broken = Buffer.from(compressed)
    broken.fill(0x5a, broken.length - 40, broken.length - 4)
    const cases: [string | Buffer, RegExp][] = [
      ['', /holds no market data/],
      [line(1, { type: 'subscribed', id: 1, msg: { channel: 'ticker', sid: 1 } }), /holds no market data/],
      [`${good}{"t":2,"c"\n`, /line 2: it is not JSON$/],
      [`${good}null\n`, /line 2: it has no time t in ms$/],
      [`${good}{"t":"2","raw":{}}\n`, /line 2: it has no time t in ms$/],
      [`${good}{"t":2,"raw":"x"}\n`, /line 2: it has no message raw$/],
      [good + line(2, { event_type: 'book' }), /line 2: it is no message of this venue/],
      [good + line(2, delta('M', 'yes', '0.4', 'many')), /line 2: .*delta_fp is 'many'/],
      [good + line(2, delta('M', 'yes', '1.4', '1.00')), /line 2: .*1\.4/],
      [compressed.subarray(0, compressed.length - 3), /line \d+: the compressed file ends early$/],
      [broken, /line \d+: /],
    ]
    for (const [content, sentence] of cases) {
      const path = file(content)
      await assert.rejects(scanRecording(path, 1), (error) => {
        assert.ok(error instanceof UserError, String(error))
        assert.match(error.message, sentence)
        assert.ok(error.message.startsWith(`recording ${path}`), error.message)
        assert.doesNotMatch(error.message, /\n/)
        return true
      })
    }
    await assert.rejects(scanRecording(join(folder, 'none'), 1), /none cannot be read \(ENOENT\)$/)
    await assert.rejects(scanRecording(folder, 1), /cannot be read \(EISDIR\)$/)
  })
})

describe('a replay', { concurrency: true }, () => {
  async function watching(sim: RunningSimulator, channels: string[]): Promise<[Client, FeedClient]> {
    const alice = sim.as('alice')
    const feed = await alice.feed()
    for (const channel of channels) await feed.subscribe(channel, ['M'])
    return [alice, feed]
  }
  const bookOf = async (client: Client, ticker = 'M') =>
    (await client.get(`/markets/${ticker}/orderbook`)).body.orderbook_fp
  const order = (client: Client, side: string, price: string, count: string, more: object = {}) =>
    client.order({ ticker: 'M', side, price, count, ...more })

  /** Recorded messages a second apart, at recorded speed, so that there is time to act between them. */
  async function stepping(t: TestContext, messages: readonly object[]) {
    const text = messages.map((raw, i) => line(i * 1_000, raw)).join('')
    const sim = await replaying(t, file(text), { speed: 1 })
    const [alice, feed] = await watching(sim, ['orderbook_delta', 'ticker', 'trade', 'fill', 'user_orders'])
    const seen = () => (sim.simulator.stats().flow as { messages: number }).messages
    sim.simulator.start()
    return { sim, alice, feed, reached: (count: number) => until(() => seen() >= count, `${count} messages`) }
  }

  it('presents one feed, numbered without a hole, whatever the recorder’s connections did', async (t) => {
    const text = line(1, snapshot('M', [['0.4000', '10.00']], []))
      .concat(line(2, delta('M', 'yes', '0.4000', '-4.00')), line(3, delta('M', 'no', '0.3000', '2.00', 3)))
      .concat(line(500, snapshot('M', [['0.4100', '7.00']], [['0.3000', '1.00']]), 2))
      .concat(
        line(501, delta('M', 'yes', '0.4100', '1.00'), 2),
        line(502, snapshot('N', [['0.1000', '1.00']], [], 3), 2),
      )
    const sim = await replaying(t, file(text))
    const alice = sim.as('alice')
    const feed = await alice.feed()
    const sid = await feed.subscribe('orderbook_delta', ['M', 'N'])
    sim.simulator.start()
    await until(() => sim.simulator.stats().state === 'ended', 'the end')
    const messages = await feed.wait((message) => message.sid === sid && message.seq, 9)
    assert.deepEqual(
      messages.map(({ type, seq, msg }) => [type.slice(10), seq, msg.market_ticker, msg.price_dollars, msg.delta_fp]),
      [
        ['snapshot', 1, 'M', undefined, undefined],
        ['snapshot', 2, 'N', undefined, undefined],
        ['snapshot', 3, 'M', undefined, undefined],
        ['delta', 4, 'M', '0.4000', '-4.00'],
        ['delta', 5, 'M', '0.3000', '2.00'],
        ['snapshot', 6, 'M', undefined, undefined],
        ['delta', 7, 'M', '0.4100', '1.00'],
        // M has no more messages: it closes, and its depth goes.
        ['delta', 8, 'M', '0.4100', '-8.00'],
        ['delta', 9, 'M', '0.3000', '-1.00'],
        ['snapshot', 10, 'N', undefined, undefined],
        ['delta', 11, 'N', '0.1000', '-1.00'],
      ].slice(0, messages.length),
    )
    assert.deepEqual(messages[5].msg.yes_dollars_fp, [['0.4100', '7.00']])
    assert.ok(Math.abs(messages[3].msg.ts_ms - Date.now()) < 60_000, 'instants are the simulator’s')
    assert.equal((await alice.get('/markets?status=open')).body.markets.length, 0)
    assert.deepEqual((await order(alice, 'bid', '0.4000', '1.00')).body.error.code, 'market_inactive')
  })

  it('lets a taker consume recorded depth once, and never lets a level go below nothing', async (t) => {
    const { alice, feed, reached } = await stepping(t, [
      snapshot(
        'M',
        [],
        [
          ['0.4000', '10.00'],
          ['0.4500', '10.00'],
        ],
      ),
      delta('M', 'no', '0.4500', '-7.00'),
      delta('M', 'no', '0.4500', '5.00'),
    ])
    await reached(1)
    const taken = await order(alice, 'bid', '0.5500', '8.00', { time_in_force: 'immediate_or_cancel' })
    assert.equal(taken.body.fill_count, '8.00')
    assert.deepEqual((await bookOf(alice)).no_dollars, [
      ['0.4000', '10.00'],
      ['0.4500', '2.00'],
    ])
    await reached(2)
    assert.deepEqual((await bookOf(alice)).no_dollars, [['0.4000', '10.00']], 'two were left to take away')
    await reached(3)
    const deltas = await feed.wait(({ type }: Message) => type === 'orderbook_delta', 3)
    assert.deepEqual(deltas.map(({ msg }) => msg.delta_fp).slice(0, 3), ['-8.00', '-2.00', '5.00'])
  })

  it('fills a resting order when recorded depth crosses it, and shows only the rest', async (t) => {
    const { alice, feed, reached } = await stepping(t, [
      snapshot('M', [['0.4000', '10.00']], [['0.5000', '10.00']]),
      delta('M', 'no', '0.5500', '5.00'),
      delta('M', 'yes', '0.4000', '1.00'),
    ])
    await reached(1)
    const { order_id: id } = (await order(alice, 'bid', '0.4700', '3.00')).body
    await reached(2)
    // An offer at 0.45 meets our bid at 0.47.
    const [fill] = await feed.wait(({ type }: Message) => type === 'fill')
    assert.deepEqual(
      [fill.msg.order_id, fill.msg.yes_price_dollars, fill.msg.count_fp, fill.msg.is_taker],
      [id, '0.4700', '3.00', false],
    )
    assert.deepEqual((await bookOf(alice)).no_dollars, [
      ['0.5000', '10.00'],
      ['0.5500', '2.00'],
    ])
  })

  it('fills a resting order in its turn by recorded trades', async (t) => {
    const { alice, feed, reached } = await stepping(t, [
      snapshot('M', [['0.4000', '10.00']], [['0.5000', '10.00']]),
      tradeMessage('M', '0.4000', '8.00', 'ask'),
      tradeMessage('M', '0.4000', '4.00', 'ask'),
      tradeMessage('M', '0.3900', '9.00', 'ask'),
      delta('M', 'no', '0.5000', '1.00'),
    ])
    await reached(1)
    const { order_id: id } = (await order(alice, 'bid', '0.4000', '5.00')).body
    await reached(4)
    const fills = await feed.wait(({ type }: Message) => type === 'fill', 2)
    assert.deepEqual(
      fills.map(({ msg }) => [msg.order_id, msg.count_fp]),
      [
        [id, '2.00'],
        [id, '3.00'],
      ],
      'ten were queued before it; the third trade went through its price',
    )
    const trades = await feed.wait(({ type }: Message) => type === 'trade', 5)
    assert.equal(trades.filter(({ msg }) => msg.trade_id === '11111111-2222-4333-8444-555555555555').length, 3)
  })

  it('takes the last trade of a ticker message for orders that rested since the ticker before', async (t) => {
    const { alice, feed, reached } = await stepping(t, [
      snapshot('M', [['0.4000', '2.00']], [['0.5000', '10.00']]),
      tickerMessage('M', '0.4000', '100.00', '1.00'),
      tickerMessage('M', '0.4000', '110.00', '5.00'),
      tickerMessage('M', '0.4000', '110.00', '5.00'),
      delta('M', 'no', '0.5000', '1.00'),
    ])
    await reached(1)
    const { order_id: id } = (await order(alice, 'bid', '0.4000', '9.00')).body
    await reached(2)
    assert.equal((await order(alice, 'bid', '0.4100', '9.00')).status, 201)
    await reached(4)
    const [fill, more] = await feed.wait(({ type }: Message) => type === 'fill')
    assert.deepEqual([fill.msg.order_id, fill.msg.count_fp, more], [id, '3.00', undefined])
    const tickers = await feed.wait(({ type }: Message) => type === 'ticker', 3)
    const { ts_ms: tsMs, ts, time, ...rest } = tickers[0].msg
    const { ts_ms: _, ts: __, time: ___, ...recorded } = tickerMessage('M', '0.4000', '100.00', '1.00').msg
    assert.deepEqual(rest, recorded)
    assert.ok(Math.abs(tsMs - Date.now()) < 60_000 && ts === Math.floor(tsMs / 1000) && Date.parse(time) === tsMs)
  })

  it('cancels what rests when a market closes', async (t) => {
    const { alice, feed, reached, sim } = await stepping(t, [
      snapshot('M', [['0.4000', '2.00']], []),
      delta('M', 'yes', '0.4000', '1.00'),
      snapshot('N', [], []),
    ])
    await reached(1)
    await order(alice, 'bid', '0.3000', '9.00')
    await until(() => sim.simulator.stats().state === 'ended', 'the end')
    const [, closed] = await feed.wait(({ type }: Message) => type === 'user_order', 2)
    assert.deepEqual([closed.msg.status, closed.msg.last_update_reason], ['canceled', 'CloseCancel'])
    assert.deepEqual(await bookOf(alice), { no_dollars: [], yes_dollars: [] })
  })

  it('waits while paused, skips what was recorded faster or slower as told, and ends by itself', async (t) => {
    const text = line(0, snapshot('M', [], []))
      .concat(line(3_600_000, delta('M', 'yes', '0.4000', '1.00')))
      .concat(line(3_600_400, delta('M', 'yes', '0.4000', '1.00')))
    const sim = await replaying(t, file(text), { speed: 2, maxGapMs: 4000 })
    const flow = () => sim.simulator.stats().flow as { messages: number; positionMs: number }
    const startedMs = performance.now()
    sim.simulator.start()
    await until(() => flow().messages === 1, 'the first message')
    sim.simulator.pause()
    assert.equal(sim.simulator.stats().state, 'paused')
    sim.simulator.start()
    await until(() => sim.simulator.stats().state === 'ended', 'the end')
    assert.deepEqual([flow().messages, flow().positionMs], [3, 4400])
    assert.ok(performance.now() - startedMs >= 2198, 'half of the recorded time, the silence cut')
  })
})

describe('a real recording', { skip: existsSync(REAL) ? false : 'no recorded data beside the project' }, () => {
  /** The first part of it: its first market whole, the second begun on another connection. */
  async function excerpt(): Promise<string[]> {
    const lines: string[] = []
    const source = createReadStream(REAL).pipe(createZstdDecompress())
    source.on('error', () => {})
    for await (const text of createInterface({ input: source })) {
      lines.push(text)
      if (lines.length === REAL_LINES) break
    }
    source.destroy()
    return lines
  }

  it('comes out as it went in, at maximum speed, while a member trades on it', async (t) => {
    const lines = await excerpt()
    const path = file(zstdCompressSync(`${lines.join('\n')}\n`), 'real.jsonl.zst')
    const sim = await replaying(t, path)
    const alice = sim.as('alice')
    const tickers = sim.simulator.flow.tickers as string[]
    const [watcher, second] = [await sim.as('bob').feed(), await alice.feed()]
    const sid = await watcher.subscribe('orderbook_delta', tickers)
    await watcher.subscribe('ticker')
    await second.subscribe('fill')
    sim.simulator.start()

    let accepted = 0
    while (sim.simulator.stats().state === 'running') {
      for (const ticker of tickers) {
        const { market } = (await alice.get(`/markets/${ticker}`)).body
        if (market.status !== 'active' || market.yes_bid_dollars === '0.0000') continue
        for (const [side, price] of [
          ['bid', market.yes_bid_dollars],
          ['bid', market.yes_ask_dollars],
          ['ask', market.yes_ask_dollars],
        ]) {
          if (
            (await alice.order({ ticker, side, price, count: '5.00', self_trade_prevention_type: 'maker' })).status ===
            201
          )
            accepted++
        }
      }
    }
    await until(() => sim.feed.queued === 0, 'the feed to drain')
    await until(() => watcher.messages.length >= (sim.simulator.stats().byKey.bob?.ticksDelivered ?? 0), 'all read')

    const recorded: Record<string, number> = {}
    for (const text of lines) {
      const { type } = parseMessage(text.slice(text.indexOf('"raw":') + 6, -1))
      recorded[type] = (recorded[type] ?? 0) + 1
    }
    const { flow, fills, ticksDelivered } = sim.simulator.stats()
    assert.equal((flow as { messages: number }).messages, REAL_LINES - (recorded.subscribed ?? 0))
    assert.ok(accepted > 0 && fills > 0, `${accepted} orders, ${fills} fills`)
    assert.equal(watcher.messages.filter(({ type }) => type === 'ticker').length, recorded.ticker)
    const numbered = watcher.messages.filter((message) => message.sid === sid && message.seq)
    assert.deepEqual([numbered.at(-1).seq, numbered.length], [numbered.length, numbered.length])

    // The feed alone rebuilds every book: never below nothing, never crossed by members, empty at the end.
    const books = new Map<string, Map<string, number>>()
    for (const { type, msg } of numbered) {
      let book = books.get(msg.market_ticker)
      if (type === 'orderbook_snapshot' || book === undefined) {
        book = new Map()
        books.set(msg.market_ticker, book)
        for (const [side, levels] of [
          ['yes', msg.yes_dollars_fp],
          ['no', msg.no_dollars_fp],
        ])
          for (const [price, count] of levels ?? []) book.set(`${side} ${price}`, Math.round(Number(count) * 100))
      } else {
        const key = `${msg.side} ${msg.price_dollars}`
        const left = (book.get(key) ?? 0) + Math.round(Number(msg.delta_fp) * 100)
        assert.ok(left >= 0, `${msg.market_ticker} ${key}: ${left}`)
        if (left === 0) book.delete(key)
        else book.set(key, left)
      }
    }
    for (const [ticker, book] of books) assert.equal(book.size, 0, ticker)
    t.diagnostic(`${ticksDelivered} ticks delivered, ${accepted} orders accepted, ${fills} fills`)
  })
})
