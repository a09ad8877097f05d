/** The feed probe against the real simulator and its faults, and the clocks it compares. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, describe, it } from 'node:test'
import { UserError } from '@tickscope/contract'
import { intersect, intervalOf, measureOffset, WallClock } from '../src/feed/offset.ts'
import { Books, Silence } from '../src/feed/silence.ts'
import { type FeedOptions, feedProbe } from '../src/feed.ts'
import type { ProbeContext } from '../src/probe.ts'
import { SILENT_REPORTER } from '../src/reporter.ts'
import type { Measurement } from '../src/result.ts'
import { contextOf } from './measurement.ts'
import { type Simulator, startSimulator } from './simulator.ts'
import { lastLine, runProbe, startProbe } from './target.ts'

function measure(
  { url, keyFile }: Simulator,
  options: Partial<FeedOptions> = {},
  context: Partial<ProbeContext> = {},
): Promise<Measurement> {
  return feedProbe.run(
    { url, keyFile, keyId: 'probe', staleAfter: 10_000, ...options },
    contextOf({ durationMs: 800, ...context }),
  )
}

/** Starts the flow, and with it the clock of the faults, once the feed is there to see them. */
function startWhenReady(simulator: Simulator): Pick<ProbeContext, 'reporter'> {
  let isStarted = false
  return {
    reporter: {
      ...SILENT_REPORTER,
      up(isUp) {
        if (isUp && !isStarted) void simulator.start()
        isStarted ||= isUp
      },
    },
  }
}

const phase = (run: Measurement, name: string) => run.rows[0]?.tally.phases.get(name)

const simulators: Simulator[] = []
const venue = async (...args: string[]) => {
  const started = await startSimulator('--rate', '200', ...args)
  simulators.push(started)
  return started
}
after(async () => {
  for (const simulator of simulators) await simulator.stop()
})

// Each has a venue of its own and mostly waits.
describe('the feed probe', { concurrency: 4 }, () => {
  it('counts every message that was sent to it, once', async () => {
    // Nothing is under way at the end: the venue has been silent for a while.
    const paused = await venue('--fault', 'feed-stall@500ms+10m')
    const run = await measure(paused, {}, { ...startWhenReady(paused), durationMs: 1_500 })
    assert.equal(run.all.outcomes.ok, (await paused.stats()).ticksDelivered)
    assert.equal(run.all.lost, 0)
  })

  it('shows no age without a bound on the clocks', async () => {
    const calm = await venue()
    await calm.start()
    const ended = await runProbe(['feed', ...calm.access, '--for', '800ms', '--json'])
    assert.equal(ended.code, 0, ended.stderr)
    const result = lastLine(ended)
    assert.equal(result.probe, 'feed')
    assert.equal(result.boundary, 'user→user')
    assert.ok(result.sent > 0)
    assert.equal(result.lost, 0)
    const [feed, age] = result.rows
    assert.equal(feed.phases.connect.count, 1)
    assert.equal(feed.phases.subscribe.count, 1)
    assert.equal(feed.phases.inter_arrival.count, result.sent - 1)
    assert.equal(age.status, 'unsupported')
    assert.equal(age.boundary, 'venue→user')
    assert.match(age.reason, /^no bound on the clock offset was given/)
    assert.equal(age.response.count, 0)
    assert.equal(result.response.count, 0)
  })

  it('shows ages with the error they carry', async () => {
    const calm = await venue()
    await calm.start()
    const run = await measure(calm, { clockOffsetBound: 5 })
    const age = run.rows[1]
    assert.equal(age?.mode.status, 'measured')
    assert.ok((age?.mode.uncertaintyNs as number) >= 6e6, 'bound and the venue’s whole ms')
    // The simulator delays each message by 2.5 ms at least; its stamps are cut to whole ms.
    assert.ok((age?.tally.response.quantileNs(0) as number) >= 2e6)
    assert.equal(run.headline, 'age')
    assert.ok(run.all.response.count > 0)
  })

  it('counts what a gap in the sequence swallowed, and how long the books were not whole', async () => {
    const gapped = await venue('--fault', 'feed-gap=3@100ms')
    const run = await measure(gapped, {}, { ...startWhenReady(gapped), durationMs: 1_500 })
    const details = run.details as { gaps: number; missing: number; books: { suspect: number; stale: unknown[] } }
    assert.ok(details.gaps >= 1)
    assert.equal(details.missing, 3 * details.gaps)
    assert.equal(run.all.lost, details.missing)
    assert.equal(run.all.reasons.get('MISSING'), details.missing)
    assert.equal(phase(run, 'stale_book')?.count, details.books.suspect)
    assert.deepEqual(details.books.stale, [])
  })

  it('times a lost connection until every book is whole again', async () => {
    const cut = await venue('--fault', 'disconnect@200ms+300ms')
    const notes: string[] = []
    const run = await measure(cut, {}, { ...startWhenReady(cut), durationMs: 2_500, note: (text) => notes.push(text) })
    assert.ok((run.details as { reconnects: number }).reconnects >= 1)
    assert.equal(phase(run, 'reconnect')?.count, 1)
    assert.ok((phase(run, 'reconnect')?.maxNs as number) >= 250e6, 'refused for 300 ms')
    assert.equal(phase(run, 'connect')?.count, 2)
    assert.equal(phase(run, 'subscribe')?.count, 2)
    assert.equal(run.all.lost, 0, 'a new connection counts anew')
    assert.match(notes.at(-1) as string, /^the feed is back after \d+ ms$/)
  })

  it('runs on as a service while the venue is away, and ends when asked', async () => {
    const calm = await venue()
    const [, , ...key] = calm.access
    for (const [tickers, said] of [
      [['--tickers', 'T'], /cannot connect to ws:\/\/127\.0\.0\.1:1/],
      [[], /GET \/trade-api\/v2\/markets at http:\/\/127\.0\.0\.1:1/],
    ] as const) {
      const service = startProbe(['feed', '--url', 'http://127.0.0.1:1', ...key, ...tickers, '--serve'])
      await service.line(/"ready"/)
      await service.line(said)
      service.child.kill('SIGTERM')
      const ended = await service.finished
      assert.equal(ended.code, 0, ended.stderr)
      assert.equal(lastLine(ended).event, 'summary')
    }
  })

  it('refuses an unreachable venue and a wrong key in one sentence', async () => {
    const calm = await venue()
    const [, , , , ...keyFile] = calm.access
    for (const url of ['http://127.0.0.1:1', calm.url]) {
      const ended = await runProbe(['feed', '--url', url, '--key-id', 'other', ...keyFile, '--tickers', 'T'])
      assert.equal(ended.code, 3)
      assert.equal(ended.stderr.trimEnd().split('\n').length, 1, ended.stderr)
    }
  })

  it('refuses flags that mean nothing for it', async () => {
    const calm = await venue()
    const refused = (options: Partial<FeedOptions>, serve: boolean) =>
      assert.throws(() => measure(calm, options, { serve }), UserError)
    refused({ rate: 5 }, false)
    refused({ clockOffsetBound: 'measure' }, true)
  })
})

describe('the offset of two clocks', () => {
  it('shows no age when messages come from further in the future than the bound allows', async () => {
    const calm = await venue()
    await calm.start()
    const now = Date.now
    // This machine's clock goes 2 s slow.
    Date.now = () => now() - 2_000
    try {
      const run = await measure(calm, { clockOffsetBound: 5 })
      assert.equal(run.rows[1]?.mode.status, 'unsupported')
      assert.match(String(run.rows[1]?.mode.reason), /^\d+ messages came before the venue had sent them/)
      assert.equal(run.all.response.count, 0)
    } finally {
      Date.now = now
    }
  })

  it('lies in the interval of every answer, and so in their intersection', () => {
    const offsetMs = 1_234.5
    let known = { fromMs: Number.NEGATIVE_INFINITY, toMs: Number.POSITIVE_INFINITY }
    for (let trip = 0; trip < 1_000; trip++) {
      const sentAtMs = 1_700_000_000_000 + trip * 37.7
      const readAtMs = sentAtMs + 3 + (trip % 5)
      const dateMs = Math.floor((sentAtMs + 1 + (trip % 2) + offsetMs) / 1_000) * 1_000
      const said = intervalOf(dateMs, sentAtMs, readAtMs)
      assert.ok(said.fromMs <= offsetMs && offsetMs <= said.toMs)
      known = intersect(known, said) as typeof known
    }
    assert.ok(known.fromMs <= offsetMs && offsetMs <= known.toMs)
    assert.ok(known.toMs - known.fromMs < 30)
  })

  it('is none where answers contradict each other', () => {
    assert.equal(intersect({ fromMs: 0, toMs: 1 }, { fromMs: 2, toMs: 3 }), undefined)
  })

  it('is measured against a Date header, whatever the venue’s clock says', async () => {
    const skewMs = 7_300
    const server = createServer((_, response) => {
      response.sendDate = false
      response.setHeader('date', new Date(Date.now() + skewMs).toUTCString())
      response.end('{}')
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    const signal = AbortSignal.timeout(20_000)
    const offset = await measureOffset(`http://127.0.0.1:${port}`, new WallClock(), { ca: undefined, signal })
    server.close()
    server.closeAllConnections()
    assert.ok(typeof offset !== 'string', String(offset))
    assert.ok(Math.abs(offset.offsetMs - skewMs) <= offset.boundMs, JSON.stringify(offset))
    assert.ok(offset.boundMs < 250, JSON.stringify(offset))
  })

  it('is refused with the reason where there is no Date header', async () => {
    const server = createServer((_, response) => {
      response.sendDate = false
      response.end()
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    const origin = `http://127.0.0.1:${port}`
    const signal = AbortSignal.timeout(20_000)
    assert.equal(
      await measureOffset(origin, new WallClock(), { ca: undefined, signal }),
      `${origin} sends no Date header`,
    )
    server.close()
    server.closeAllConnections()
  })

  it('is on a wall clock that agrees with the system’s', () => {
    const clock = new WallClock()
    const before = Date.now()
    const epochMs = clock.epochMs(performance.now())
    assert.ok(epochMs >= before - clock.errorMs && epochMs <= Date.now() + 1 + clock.errorMs)
  })
})

describe('silence', () => {
  it('finds a feed that is silent for 500 ms within a second, while it lasts', async () => {
    const stalled = await venue('--fault', 'feed-stall@300ms+1200ms')
    const notes: { text: string; atMs: number }[] = []
    const run = await measure(
      stalled,
      { silentAfter: 500 },
      {
        durationMs: 2_200,
        ...startWhenReady(stalled),
        note: (text) => notes.push({ text, atMs: performance.now() }),
      },
    )
    const { silent } = run.details as { silent: { count: number; gaps: { foundAfterMs: number; lengthMs: number }[] } }
    assert.equal(silent.count, 1)
    assert.ok((silent.gaps[0]?.foundAfterMs as number) >= 500)
    assert.ok((silent.gaps[0]?.foundAfterMs as number) < 1_000)
    assert.ok((silent.gaps[0]?.lengthMs as number) > 1_000)
    assert.equal(phase(run, 'silent_gap')?.count, 1)
    assert.match(notes[0]?.text as string, /^no market data for \d+ ms$/)
    assert.match(notes[1]?.text as string, /^market data again after \d+ ms$/)
    assert.equal(run.checks?.[0]?.ok, false)
  })

  it('begins at its limit and is found by the next look', () => {
    const silence = new Silence(500)
    assert.equal(silence.look(10_000), undefined, 'before the first message nothing is missed')
    silence.message(1_000)
    assert.equal(silence.look(1_499), undefined)
    assert.equal(silence.look(1_500)?.foundAfterMs, 500)
    assert.equal(silence.look(1_600), undefined, 'one silence, one finding')
    assert.ok(silence.isSilent)
    assert.equal(silence.message(1_700), 700)
    assert.deepEqual([silence.isSilent, silence.count, silence.totalMs], [false, 1, 700])
  })

  it('that ended between two looks is found by its end', () => {
    const silence = new Silence(500)
    silence.message(0)
    assert.equal(silence.message(499), undefined)
    assert.equal(silence.message(1_100), 601)
    assert.equal(silence.count, 1)
  })

  it('that lasts at the end counts so far', () => {
    const silence = new Silence(500)
    silence.message(0)
    silence.look(600)
    assert.equal(silence.stop(900), 900)
  })
})

describe('a book', () => {
  it('is stale when something of it was lost, until its next snapshot, or when it is quiet', () => {
    const books = new Books(1_000)
    books.snapshot('A', 0)
    books.snapshot('B', 0)
    books.suspect(['A'], 100)
    books.suspect(['A'], 200)
    books.delta('A', 300)
    assert.deepEqual(books.stale(400), [{ ticker: 'A', quietMs: 100, isSuspect: true }])
    assert.equal(books.snapshot('A', 500), 400)
    assert.equal(books.suspectCount, 1)
    assert.deepEqual(
      books.stale(1_200).map(({ ticker }) => ticker),
      ['B'],
    )
  })
})
