/**
 * The bot as a process against the simulated venue and the collector as processes: nothing is lost or invented on the
 * way, and it recovers from what venues do.
 */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { after as afterAll, afterEach, before as beforeAll, beforeEach, describe, it } from 'node:test'
import { EXIT } from '@tickscope/contract'
import { createRest, createSigner, type Rest } from '@tickscope/venue/kalshi'
import { getJson, type Json, Processes, post, type Running, until } from './processes.ts'

let processes: Processes
/** One for all runs: each is judged by what it added. */
let collector: Running
let before: Json
let rests: Rest[]

const collectorProcesses = new Processes()
beforeAll(async () => {
  collector = await collectorProcesses.collector()
})
afterAll(() => collectorProcesses.stopAll())

beforeEach(async () => {
  processes = new Processes()
  rests = []
  before = await getJson(`${collector.ready.url}/v1/summary`)
})

afterEach(async () => {
  for (const rest of rests) await rest.stop()
  await processes.stopAll()
})

/** The bot's account as the venue sees it. */
function accountAt(venue: Running): Rest {
  const privateKeyPem = readFileSync(processes.path('bot-key.pem'), 'utf8')
  const rest = createRest({ origin: venue.ready.url, signer: createSigner({ keyId: 'bot-key', privateKeyPem }) })
  rests.push(rest)
  return rest
}

const startFlow = (venue: Running) => post(`${venue.ready.url}/sim/start`)
const venueStats = (venue: Running): Promise<Json> => getJson(`${venue.ready.url}/sim/stats`)

/** Waits until the venue has received more orders than now. */
async function moreOrders(venue: Running, count: number): Promise<void> {
  const { ordersReceived } = await venueStats(venue)
  const enough = async () => (await venueStats(venue)).ordersReceived >= ordersReceived + count
  await until(`${count} more orders received`, 15_000, enough)
}

/** Ends a run as a user does: the flow first, then the bot. */
async function finish(venue: Running, bot: Running): Promise<Json> {
  await post(`${venue.ready.url}/sim/pause`)
  return await bot.stop()
}

/** What must hold after any run, faults or not: what the bot believes is what the venue knows. */
async function assertSettled(venue: Running, summary: Json): Promise<void> {
  const account = accountAt(venue)
  assert.equal(summary.leftResting, 0)
  await until('no order rests at the venue', 2_000, async () => {
    return (await account.listOrders({ status: 'resting' })).items.length === 0
  })
  const { items } = await account.positions()
  const held = Object.fromEntries(items.map(({ ticker, positionHundredths }) => [ticker, positionHundredths / 100]))
  for (const ticker of venue.ready.tickers) assert.equal(summary.position[ticker] ?? 0, held[ticker] ?? 0, ticker)
  assert.equal(summary.positionCorrections, 0)
  assert.equal((await venueStats(venue)).fills, summary.fills)
}

/** What must hold of every run: each tick and each order is counted once by everybody, and stages are the whole. */
async function assertCounted(summary: Json): Promise<void> {
  const after = await getJson(`${collector.ready.url}/v1/summary`)
  assert.equal(summary.acknowledged, true)
  assert.equal(summary.dropped, 0)
  assert.equal(after.ticks - before.ticks, summary.ticksReceived)
  assert.equal(after.tickToTrade.count - before.tickToTrade.count, summary.ordersSent)
  assert.equal(after.apiRtt.count - before.apiRtt.count, summary.ordersSent + summary.cancelsSent)
  const stages = Object.values<number>(after.sumsNs.stages)
  assert.equal(stages.length, 6)
  assert.equal(
    stages.reduce((sum, ns) => sum + ns, 0),
    after.sumsNs.tickToTrade,
  )
}

interface JournalLine {
  readonly event: string
  readonly ticker: string
  readonly state: string
  readonly why: string
}

function readJournal(): JournalLine[] {
  return readFileSync(processes.path('journal.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
}

const restingOrders = async (account: Rest) => (await account.listOrders({ status: 'resting' })).items
const ranFor = (venue: Running, ms: number) =>
  until(`${ms} ms of flow`, 15_000, async () => (await venueStats(venue)).ranMs > ms)

it('counts every tick and order once, from the venue to the collector, and knows its position', async () => {
  const venue = await processes.venue('--rate', '200')
  const bot = await processes.bot(venue, collector.ready.url)
  assert.deepEqual(bot.ready.tickers, venue.ready.tickers)
  await startFlow(venue)
  await moreOrders(venue, 30)
  const summary = await finish(venue, bot)
  const stats = await venueStats(venue)
  assert.equal(summary.ticksReceived, stats.ticksDelivered)
  assert.equal(summary.ordersSent, stats.ordersReceived)
  assert.equal(summary.cancelsSent, stats.cancelsReceived)
  assert.equal(summary.ordersAcked, stats.ordersAccepted)
  assert.equal(summary.ordersSent, summary.ordersAcked + summary.ordersRejected)
  assert.ok(summary.cancelsSent > 0)
  await assertCounted(summary)
  await assertSettled(venue, summary)
  assert.equal(bot.stderr(), '')
})

it('trades only the markets it was given, and stops cleanly when its parent goes while the flow runs', {
  timeout: 30_000,
}, async () => {
  const venue = await processes.venue('--rate', '400')
  const [ticker] = venue.ready.tickers
  const journal = ['--journal', processes.path('journal.jsonl')]
  // Stopped long before its time, it ends all the same.
  const bot = await processes.bot(venue, collector.ready.url, '--tickers', ticker, '--for', '1h', ...journal)
  assert.deepEqual(bot.ready.tickers, [ticker])
  await startFlow(venue)
  await moreOrders(venue, 4)
  bot.process.stdin?.end()
  const summary = await bot.summary
  await assertCounted(summary)
  assert.equal(summary.ordersSent, (await venueStats(venue)).ordersReceived)
  await assertSettled(venue, summary)
  assert.deepEqual([...new Set(readJournal().map((line) => line.ticker))], [ticker])
})

it('recovers its books after gaps, nonsense and a lost feed, and orders nothing on a suspect book', async (t) => {
  const faults = ['feed-gap=5@700ms', 'feed-gap=5@1200ms', 'disconnect@1700ms+300ms'].flatMap((fault) => [
    '--fault',
    fault,
  ])
  const venue = await processes.venue('--rate', '400', ...faults)
  const proxy = await startForger(new URL(venue.ready.url))
  t.after(() => proxy.stop())
  const behind = { ...venue, ready: { ...venue.ready, url: proxy.url } }
  const bot = await processes.bot(behind, collector.ready.url, '--journal', processes.path('journal.jsonl'))
  const connections = async () => (await venueStats(venue)).byKey['bot-key'].connections
  await startFlow(venue)
  await ranFor(venue, 2_100)
  await until('a feed again', 10_000, async () => (await connections()) > 1)
  await moreOrders(venue, 5)
  const before = await connections()
  proxy.forgeNext()
  await until('a fresh feed', 10_000, async () => (await connections()) > before)
  await moreOrders(venue, 5)
  const summary = await finish(venue, bot)
  const marketCount = venue.ready.tickers.length
  assert.ok(summary.gaps >= 2)
  assert.equal(summary.negativeLevels, 1)
  // Attempts that the venue refused count too.
  assert.ok(summary.reconnects >= (await connections()) - 1)
  assert.ok(summary.resyncs >= 4 * marketCount)
  assert.match(bot.stderr(), /contradicts itself: reading all books anew/)
  assert.equal(summary.ordersSent, (await venueStats(venue)).ordersReceived)
  await assertCounted(summary)
  await assertSettled(venue, summary)
  const suspect = new Set<string>()
  let doubted = 0
  for (const { event, ticker, state, why } of readJournal()) {
    if (event === 'book' && state === 'suspect') {
      suspect.add(ticker)
      doubted++
    } else if (event === 'book') suspect.delete(ticker)
    else if (why === 'created') assert.ok(!suspect.has(ticker), `an order in ${ticker} while its book was suspect`)
  }
  assert.ok(doubted >= 4 * marketCount)
  assert.equal(suspect.size, 0)
})

it('learns the fate of orders whose answers failed, and pulls its quotes while the feed is silent', async () => {
  const faults = ['--fault', 'api-error=0.5@400ms+800ms', '--fault', 'feed-stall@2s+1500ms']
  const venue = await processes.venue('--rate', '200', ...faults)
  const bot = await processes.bot(venue, collector.ready.url, '--stale-after', '300ms')
  const account = accountAt(venue)
  await startFlow(venue)
  await ranFor(venue, 1_500)
  await until('quotes after the errors', 10_000, async () => (await restingOrders(account)).length > 0)
  await ranFor(venue, 2_300)
  await until('no quote in the silence', 10_000, async () => (await restingOrders(account)).length === 0)
  assert.ok((await venueStats(venue)).ranMs < 3_500, 'pulled only after the silence')
  await until('quotes again', 10_000, async () => (await restingOrders(account)).length > 0)
  const summary = await finish(venue, bot)
  assert.ok(summary.ordersUnknown > 0)
  // A third of what the silence held back is older than a second.
  assert.ok(summary.lateTicks > 0)
  await assertCounted(summary)
  await assertSettled(venue, summary)
})

it('stops ordering while a latency budget is broken, and for good on the kill signal', async () => {
  const venue = await processes.venue('--rate', '200', '--fault', 'api-delay=60ms@700ms+700ms')
  const bot = await processes.bot(venue, collector.ready.url, '--breaker', '700ms')
  const account = accountAt(venue)
  await startFlow(venue)
  await ranFor(venue, 1_500)
  await moreOrders(venue, 3)
  bot.process.kill('SIGUSR2')
  await until('nothing rests', 5_000, async () => (await restingOrders(account)).length === 0)
  const killed = await venueStats(venue)
  await until('some more flow', 10_000, async () => {
    return (await venueStats(venue)).ticksDelivered > killed.ticksDelivered + 100
  })
  assert.equal((await venueStats(venue)).ordersReceived, killed.ordersReceived)
  const summary = await finish(venue, bot)
  assert.ok(summary.breakerTrips >= 1)
  assert.equal(summary.killedBy, 'SIGUSR2')
  await assertCounted(summary)
  await assertSettled(venue, summary)
})

it('cancels what a killed run of the same bot left resting, and takes over its position', async () => {
  const venue = await processes.venue('--rate', '200')
  const first = await processes.bot(venue, collector.ready.url)
  const account = accountAt(venue)
  await startFlow(venue)
  await until('quotes', 10_000, async () => (await restingOrders(account)).length > 0)
  first.process.kill('SIGKILL')
  await post(`${venue.ready.url}/sim/pause`)
  await first.summary
  const left = await restingOrders(account)
  assert.ok(left.length > 0)
  const second = await processes.bot(venue, collector.ready.url)
  await until('the old orders are gone', 5_000, async () => {
    const resting = await restingOrders(account)
    return left.every(({ orderId }) => !resting.some((order) => order.orderId === orderId))
  })
  const { position } = await second.stop()
  const { items } = await account.positions()
  for (const { ticker, positionHundredths } of items) assert.equal(position[ticker], positionHundredths / 100)
})

describe('what is wrong with its surroundings ends in one sentence', () => {
  async function refusal(url: string, ...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await processes.run(
      'bot/src/main.ts',
      processes.botArgs(url, 'http://127.0.0.1:1', ...args),
    )
    assert.equal(code, EXIT.environment, stderr)
    assert.equal(stdout, '')
    assert.equal(stderr.trimEnd().split('\n').length, 1, stderr)
    return stderr
  }

  it('a venue that cannot be reached', async () => {
    processes.createKey('bot-key')
    const port = await closedPort()
    assert.match(await refusal(`http://127.0.0.1:${port}`), new RegExp(`^bot: .*127\\.0\\.0\\.1:${port}.*ECONNREFUSED`))
  })

  it('a key the venue does not know or that is not the account’s, and a market that is not open', async () => {
    const venue = await processes.venue()
    processes.createKey('other')
    const [unknown, closed, foreign] = await Promise.all([
      refusal(venue.ready.url, '--key-id', 'nobody'),
      refusal(venue.ready.url, '--tickers', 'KXNONE'),
      refusal(venue.ready.url, '--key-file', processes.path('other.pem')),
    ])
    assert.match(unknown, /^bot: .*401.*NOT_FOUND/)
    assert.match(closed, /no open market 'KXNONE'/)
    assert.match(foreign, /^bot: .*401.*INCORRECT_API_KEY_SIGNATURE/)
  })

  it('a key file that is missing or no key', async () => {
    const file = processes.path('no.pem')
    assert.match(await refusal('http://127.0.0.1:1', '--key-file', file), /key file .*no\.pem cannot be read: ENOENT/)
    writeFileSync(file, 'not a key')
    assert.match(await refusal('http://127.0.0.1:1', '--key-file', file), /key file .*no\.pem is not a PEM private key/)
  })
})

/**
 * A venue's address that passes everything on, but for one delta: when told to, it moves the next removal of size to a
 * price where nothing stands. Frames of a server are not masked, so bytes can be changed in place.
 */
async function startForger(target: URL) {
  const removal = Buffer.from('"delta_fp":"-')
  const price = Buffer.from('"price_dollars":"')
  const sockets = new Set<Socket>()
  const forger = { url: '', forgeNext: () => {}, stop: () => {} }
  let armed = false
  const server = createServer((client) => {
    const upstream = connect(Number(target.port), target.hostname)
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket)
      socket.setNoDelay(true)
      socket.on('error', () => other.destroy())
      socket.on('close', () => other.destroy())
    }
    client.on('data', (chunk) => upstream.write(chunk))
    upstream.on('data', (chunk: Buffer) => {
      const at = armed ? chunk.indexOf(removal) : -1
      const priceAt = at < 0 ? -1 : chunk.lastIndexOf(price, at)
      if (priceAt >= 0) {
        chunk.write('0.0001', priceAt + price.length, 'latin1')
        armed = false
      }
      client.write(chunk)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  forger.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  forger.forgeNext = () => {
    armed = true
  }
  forger.stop = () => {
    server.close()
    for (const socket of sockets) socket.destroy()
  }
  return forger
}

async function closedPort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
