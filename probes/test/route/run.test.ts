import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { DEFAULT_SLOS, decodeHistogram, UserError } from '@tickscope/contract'
import { PRICE_FILE, readPrices } from '../../src/route/price.ts'
import { startRelay } from '../../src/route/relay.ts'
import { INJECTED_LABEL, readRoutes } from '../../src/route/routes.ts'
import { type RouteOptions, type RouteResult, runRoutes } from '../../src/route/run.ts'
import { routeText } from '../../src/route/text.ts'
import { lastLine, runProbe, startProbe, startTarget, type Target } from '../target.ts'

const OPTIONS = {
  rounds: 3,
  count: 6,
  ratePerSecond: 40,
  timeoutMs: 5_000,
  imports: [],
  slos: DEFAULT_SLOS,
  signal: new AbortController().signal,
  note: () => {},
  progress: () => {},
}
/** The relays' own timers on a busy machine, beside the interval of the rounds, ns. */
const RELAY_NS = 1e6

let target: Target
let folder: string
const sources: string[] = []
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tickscope-route-'))
  target = await startTarget((request, response) => {
    sources.push(request.socket.remoteAddress ?? '')
    response.end('{}')
  })
})
after(async () => {
  await target.stop()
  rmSync(folder, { recursive: true })
})

function fileOf(name: string, content: unknown): string {
  const file = join(folder, name)
  writeFileSync(file, JSON.stringify(content))
  return file
}

function run(entries: readonly object[], more: Partial<RouteOptions> = {}): Promise<RouteResult> {
  const routes = entries.length === 0 ? [] : readRoutes(fileOf('routes.json', entries), readPrices(PRICE_FILE))
  return runRoutes({ ...OPTIONS, routes, ...more })
}

function assertInside(result: RouteResult, figure: string, expectedNs: number): void {
  const comparison = result.comparisons.find((c) => c.figure === figure)
  const { lowNs, highNs } = comparison ?? {}
  assert.ok(lowNs !== null && lowNs !== undefined && highNs !== null && highNs !== undefined, figure)
  assert.ok(
    lowNs - RELAY_NS <= expectedNs && expectedNs <= highNs + RELAY_NS,
    `${figure}: ${lowNs} … ${highNs} does not include ${expectedNs}`,
  )
}

describe('two routes through relays with injected delay', () => {
  let result: RouteResult
  before(async () => {
    result = await run([
      { name: 'far', url: target.url, via: { injectDelayMs: 30 }, pricePerMonth: 'public_internet' },
      { name: 'near', url: target.url, via: { injectDelayMs: 5 }, pricePerMonth: 100 },
    ])
  })

  it('differ by what was injected, within the reported interval', () => {
    assertInside(result, 'response', -25e6)
    assertInside(result, 'behindEdge', -25e6)
  })

  it('have the injected delay behind the edge, not in the edge RTT', () => {
    for (const row of result.rows) {
      assert.ok(row.edgeRtt && row.behindEdge)
      assert.equal(row.edgeRtt.count, 18)
      assert.equal(row.behindEdge.count, 18)
    }
    const [far] = result.rows
    assert.ok((far?.behindEdge?.p50Ns ?? 0) >= 29e6)
    assert.ok((far?.edgeRtt?.p50Ns ?? Number.NaN) < 29e6)
  })

  it('are labelled as a rehearsal in every row', () => {
    for (const { route, effectiveMode, boundary, clock } of result.rows) {
      assert.equal(route, INJECTED_LABEL)
      assert.match(effectiveMode, /^relay with injected delay \(\d+ ms\)$/)
      assert.equal(boundary, 'user→user')
      assert.match(clock, /MONOTONIC/)
    }
  })

  it('carry the age of events as absent, with the reason', () => {
    for (const { eventAge } of result.rows)
      assert.deepEqual([eventAge.status, 'reason' in eventAge && /probe feed/.test(eventAge.reason)], ['skipped', true])
  })

  it('break the budget where requests take longer than it', () => {
    assert.equal(result.budgets.find(({ row }) => row === 'far')?.ok, false)
  })

  it('keep their histograms whole on the way to another machine, with the surroundings they were measured in', async () => {
    const file = fileOf('elsewhere.json', result)
    const joined = await run([], { imports: [file], rounds: 0 })
    assert.deepEqual(
      joined.rows.map(({ name }) => name),
      result.rows.map(({ name }) => `${name} @ ${result.environment.host}`),
    )
    for (const [i, row] of joined.rows.entries()) {
      const original = result.rows[i]
      assert.deepEqual(row.response, original?.response)
      assert.deepEqual(row.edgeRtt, original?.edgeRtt)
      assert.equal(decodeHistogram(row.histograms.response ?? '').count, original?.response?.count)
      assert.deepEqual(row.imported?.environment, JSON.parse(JSON.stringify(result.environment)))
      assert.equal(row.imported?.contaminated, result.contaminated)
    }
    const [comparison] = joined.comparisons
    assert.equal(comparison?.interleaved, false)
    const paired = result.comparisons[0]
    assert.ok(
      (comparison?.lowNs ?? 0) <= (paired?.lowNs ?? 0) + 1e3,
      'sides that share no rounds have the wider interval',
    )
  })
})

describe('a route', () => {
  it('that cannot be reached is a row with its reason beside those that were measured', async () => {
    const notes: string[] = []
    const result = await run(
      [
        { name: 'here', url: target.url },
        { name: 'nowhere', url: 'http://127.0.0.1:1' },
      ],
      { rounds: 1, note: (line) => notes.push(line) },
    )
    const [here, nowhere] = result.rows
    assert.equal(here?.status, 'measured')
    assert.equal(nowhere?.status, 'unsupported')
    assert.match(nowhere?.reason ?? '', /127\.0\.0\.1:1 cannot be reached/)
    assert.equal(nowhere?.response, null)
    assert.equal(notes.length, 1)
    assert.ok(result.comparisons.every(({ claimed, reason }) => !claimed && reason))
  })

  it('takes its source address, and a relay instead of the host, from the file', async () => {
    const relay = await startRelay({
      host: '127.0.0.1',
      port: 0,
      to: { host: '127.0.0.1', port: target.port },
      delayMs: 0,
    })
    sources.length = 0
    try {
      const result = await run(
        [
          { name: 'source', url: target.url, via: { localAddress: '127.0.0.2' } },
          { name: 'relay', url: 'http://venue.invalid/', via: { relay: `127.0.0.1:${relay.port}` } },
        ],
        { rounds: 1 },
      )
      assert.deepEqual(
        result.rows.map(({ status }) => status),
        ['measured', 'measured'],
      )
      assert.ok(sources.includes('127.0.0.2'))
      assert.ok(sources.includes('127.0.0.1'))
    } finally {
      await relay.stop()
    }
  })

  it('has the age of events of its feed result, and says when that has none', async () => {
    const age = { count: 9, p50Ns: 40e6, p90Ns: 41e6, p99Ns: 42e6, p999Ns: 42e6, maxNs: 42e6 }
    const feeds = [
      fileOf('feed.json', { probe: 'feed', rows: [{ name: 'age', uncertaintyNs: 2e5, phases: { message_age: age } }] }),
      fileOf('no-age.json', { probe: 'feed', rows: [{ name: 'age', reason: 'no bound on the clocks', phases: {} }] }),
      fileOf('http.json', { probe: 'http' }),
    ]
    const result = await run(
      feeds.map((feed, i) => ({ name: `route ${i}`, url: target.url, feed })),
      { rounds: 1, count: 1 },
    )
    const [measured, none, other] = result.rows.map(({ eventAge }) => eventAge)
    assert.deepEqual(measured, { status: 'measured', uncertaintyNs: 2e5, ...age })
    assert.match(none?.status === 'skipped' ? none.reason : '', /has no message age: no bound on the clocks/)
    assert.match(other?.status === 'skipped' ? other.reason : '', /no result of probe feed/)
    assert.match(routeText(result, process.stdout), /40\.0 ms.*\n.*\n.*event age ± 200 µs: two clocks/)
  })

  it('says beside each price where it is from', async () => {
    const prices = ['global_accelerator', 99, undefined].map((pricePerMonth, i) => ({
      name: `route ${i}`,
      pricePerMonth,
    }))
    const result = await run(
      prices.map((entry) => ({ ...entry, url: target.url })),
      { rounds: 1, count: 1 },
    )
    assert.deepEqual(
      result.rows.map(({ usdPerMonth, priceSource }) => [usdPerMonth, priceSource]),
      [
        [18.25, 'https://aws.amazon.com/global-accelerator/pricing/'],
        [99, 'the routes file'],
        [null, null],
      ],
    )
    const text = routeText(result, process.stdout)
    assert.match(text, /price: https:\/\/aws\.amazon\.com\/global-accelerator\/pricing\//)
    assert.match(text, /price: the routes file/)
  })
})

describe('an imported result', () => {
  for (const [what, content, message] of [
    ['of another probe', { probe: 'http', rows: [] }, /no result of probe route/],
    ['that is no object', 7, /no result of probe route/],
    [
      'with a broken histogram',
      { probe: 'route', rows: [{ name: 'x', status: 'measured', histograms: { response: 'HISTFAAAA' } }] },
      /row 'x': histogram/,
    ],
  ] as const) {
    it(`${what} is refused in a sentence`, async () => {
      const file = fileOf('bad.json', content)
      await assert.rejects(
        run([], { imports: [file] }),
        (error) => error instanceof UserError && message.test(error.message),
      )
    })
  }
})

describe('a baseline', () => {
  it('that is no route is refused before anything is measured', async () => {
    await assert.rejects(
      run([{ name: 'here', url: target.url }], { baseline: 'there' }),
      (error) => error instanceof UserError && /--baseline is 'there', none of the routes here/.test(error.message),
    )
  })
})

describe('the command', () => {
  it('prints one object with --json and ends with 1 when a budget is broken', async () => {
    const file = fileOf('slow.json', [{ name: 'far', url: target.url, via: { injectDelayMs: 25 } }])
    const finished = await runProbe([
      'route',
      '--routes',
      file,
      '--rounds',
      '1',
      '--count',
      '3',
      '--rate',
      '20',
      '--json',
    ])
    assert.equal(finished.code, 1, finished.stderr)
    const result = lastLine(finished)
    assert.equal(result.probe, 'route')
    assert.equal(result.sent, 6)
    assert.equal(result.budgets[0].ok, false)
  })

  it('watches routes as a service until it is stopped', async () => {
    const file = fileOf('watch.json', [{ name: 'here', url: target.url }])
    const flags = ['--count', '1', '--rate', '100', '--every', '100ms']
    const before = target.accepted
    const service = startProbe(['route', '--routes', file, '--serve', ...flags])
    await service.line(/"event":"ready"/)
    const deadline = Date.now() + 20_000
    // A round opens connections: three of the new kind and one warm.
    while (target.accepted < before + 8 && Date.now() < deadline) await new Promise((resolve) => setImmediate(resolve))
    service.child.kill('SIGTERM')
    const finished = await service.finished
    assert.equal(finished.code, 0, finished.stderr)
    assert.ok(lastLine(finished).rounds >= 2)
  })
})
