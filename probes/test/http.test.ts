import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { RequestListener } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { Worker } from 'node:worker_threads'
import { type LatencyHistogram, UserError } from '@tickscope/contract'
import { AUTH_HEADERS, loadPublicKey, verify } from '@tickscope/venue/kalshi'
import { type HttpOptions, httpProbe, targetUrl } from '../src/http.ts'
import type { ProbeContext } from '../src/probe.ts'
import { figuresOf, type Measurement } from '../src/result.ts'
import { Tally } from '../src/tally.ts'
import { contextOf, tallyOf } from './measurement.ts'
import { createCertificate, startTarget, type Target, type TlsFiles } from './target.ts'

const OPTIONS = {
  connection: 'both',
  arrivals: 'constant',
  seed: 1,
  wait: 'precise',
  timeout: 5_000,
  warmUp: 4,
  rate: 100,
} as const

/** Runs the probe in this process, for half a second unless told otherwise. */
function measure(
  options: Partial<HttpOptions> & { readonly url: string },
  context: Partial<ProbeContext> = {},
): Promise<Measurement> {
  return httpProbe.run({ ...OPTIONS, ...options }, contextOf({ durationMs: 500, ...context }))
}

const above = (histogram: LatencyHistogram, ns: number) => histogram.count - histogram.countAtMost(ns)

describe('the http probe', () => {
  let tls: TlsFiles | undefined
  const targets: Target[] = []
  const start = async (listener: RequestListener, options: Parameters<typeof startTarget>[1] = {}) => {
    const target = await startTarget(listener, options)
    targets.push(target)
    return target
  }
  const folder = mkdtempSync(join(tmpdir(), 'tickscope-http-'))
  before(() => {
    tls = createCertificate()
  })
  after(async () => {
    for (const target of targets) await target.stop()
    rmSync(folder, { recursive: true })
    if (tls) rmSync(tls.folder, { recursive: true })
  })

  it('splits each request into phases that add up to it, to the nanosecond', async (t) => {
    const answer: RequestListener = (_, response) => {
      response.write('first')
      setImmediate(() => response.end('last'))
    }
    const plain = await start(answer)
    const runs = [await measure({ url: `http://localhost:${plain.port}/` })]
    if (tls) {
      const secure = await start(answer, { tls })
      runs.push(await measure({ url: secure.url, caFile: tls.certFile }))
    } else t.diagnostic('no openssl on PATH: TLS was not measured')
    for (const [index, run] of runs.entries()) {
      assert.equal(run.all.outcomes.ok, 50)
      for (const { tally } of run.rows) {
        assert.equal(tally.outcomes.ok, 25)
        const sums = [...tally.phases.values()].map(({ sumNs }) => sumNs)
        assert.equal(
          sums.reduce((sum, ns) => sum + ns, 0),
          tally.service.sumNs,
        )
        assert.equal(tally.slip.sumNs + tally.service.sumNs, tally.response.sumNs)
      }
      const warm = tallyOf(run, 'warm')
      // On a machine held up for 20 ms, a warm request finds the connection busy and opens another.
      assert.equal(warm.phases.has('tcp'), warm.opened > 0)
      assert.ok(warm.opened < 25)
      assert.deepEqual(
        [...tallyOf(run, 'new').phases.keys()],
        index === 0 ? ['dns', 'tcp', 'ttfb', 'body'] : ['dns', 'tcp', 'tls', 'ttfb', 'body'],
      )
    }
  })

  it('keeps to one warm connection, and opens one for each request that asks for a new one', async () => {
    const target = await start((_, response) => response.end())
    const run = await measure({ url: target.url, rate: 40 })
    assert.equal(run.all.sent, 20)
    assert.equal(tallyOf(run, 'new').opened, 10)
    // More than one only when the machine was held up for the 50 ms between two warm requests.
    const { opened } = tallyOf(run, 'warm')
    assert.ok(opened <= 2, `${opened} of 10 warm requests opened a connection`)
    // Two requests of the warm-up asked for a new connection, the first of the other two opened the warm one.
    assert.equal(target.accepted, 10 + opened + 2 + 1)
    assert.deepEqual(
      run.rows.map(({ mode }) => [mode.name, mode.effectiveMode, mode.status]),
      [
        ['warm', 'warm', 'measured'],
        ['new', 'new', 'measured'],
      ],
    )
  })

  it('does not call a connection warm that the server closes after each answer', async () => {
    const target = await start((_, response) => response.writeHead(200, { connection: 'close' }).end())
    const run = await measure({ url: target.url, connection: 'warm' })
    const [row] = run.rows
    assert.equal(row?.mode.status, 'inactive')
    assert.equal(row?.mode.effectiveMode, 'new')
    assert.match(row?.mode.reason ?? '', /kept no connection open/)
    assert.equal(row?.tally.opened, 50)
  })

  it('reports no less than a server takes, and keeps its rate against a server slower than the interval', async () => {
    const target = await start((_, response) => {
      const dueAt = performance.now() + 50
      const answer = () => (performance.now() >= dueAt ? response.end() : setTimeout(answer, 1))
      answer()
    })
    const run = await measure({ url: target.url, connection: 'warm' })
    const { response, service, outcomes } = figuresOf(run.all)
    assert.equal(outcomes.ok, 50)
    assert.ok(response.p50Ns >= 50e6)
    assert.ok(response.p50Ns >= service.p50Ns && response.p99Ns >= service.p99Ns)
  })

  it('shows a pause of the server to every request that was due in it, not to one', async () => {
    let pausedUntil = 0
    let served = 0
    const target = await start((_, response) => {
      if (++served === 54) pausedUntil = performance.now() + 1_000
      setTimeout(() => response.end(), Math.max(0, pausedUntil - performance.now()))
    })
    const run = await measure({ url: target.url, connection: 'warm' }, { durationMs: 2_000 })
    assert.equal(run.all.outcomes.ok, 200)
    const { response } = run.all
    // Due in the pause: 100 requests, waiting for 1 s, 0.99 s, … 0.01 s. A closed loop would have one slow request.
    assert.ok(above(response, 500e6) >= 45, `${above(response, 500e6)} above 500 ms`)
    assert.ok(above(response, 100e6) >= 85, `${above(response, 100e6)} above 100 ms`)
    // Of 200, the two slowest lie beyond p99: it is 0.99 s.
    assert.ok(response.quantileNs(0.99) >= 0.95e9, `p99 ${response.quantileNs(0.99)}`)
  })

  it('charges its own lateness to response and slip, and leaves service time what it was', async () => {
    const worker = new Worker(
      `const { createServer } = require('node:http')
       const server = createServer((_, response) => response.end()).listen(0, '127.0.0.1', () =>
         require('node:worker_threads').parentPort.postMessage(server.address().port))`,
      { eval: true },
    )
    const [port] = await once(worker, 'message')
    const blocked = setTimeout(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300), 150)
    const run = await measure({ url: `http://127.0.0.1:${port}/`, connection: 'warm' }, { durationMs: 1_000 })
    clearTimeout(blocked)
    await worker.terminate()
    const { response, service, slip, outcomes } = run.all
    assert.equal(outcomes.ok, 100)
    assert.equal(response.sumNs, service.sumNs + slip.sumNs)
    // Due while it was blocked: 30 requests, 300 ms, 290 ms, … late. At most one was in flight.
    assert.ok(above(slip, 100e6) >= 18, `${above(slip, 100e6)} sent 100 ms late`)
    assert.ok(above(response, 100e6) >= above(slip, 100e6))
    assert.ok(above(service, 100e6) < above(slip, 100e6) / 2, `${above(service, 100e6)} served in 100 ms`)
  })

  it('counts errors and timeouts by reason, and keeps them out of the percentiles but not out of the budget', async () => {
    let served = 0
    const target = await start((_, response) => {
      served++
      if (served <= 4) response.end()
      else if (served % 5 === 0) response.writeHead(503).end()
      else if (served % 5 === 1) response.destroy()
      else if (served % 5 !== 2) response.end()
    })
    const run = await measure({ url: target.url, connection: 'new', timeout: 500 })
    const { sent, lost, response, reasons, outcomes } = figuresOf(run.all)
    assert.deepEqual(outcomes, { ok: 20, error: 20, timeout: 10, dropped: 0 })
    assert.deepEqual(reasons, { STATUS_503: 10, CLOSED: 10, TIMEOUT: 10 })
    assert.equal(sent, 50)
    assert.equal(lost, 30)
    assert.equal(response.count, 20)
    const [budget] = run.budgets
    assert.equal(budget?.ok, false)
    assert.ok((budget?.withinRatio as number) <= 0.4)
  })

  it('drops and counts what exceeds the requests in flight', async () => {
    let served = 0
    const target = await start((_, response) => {
      if (++served <= 4) response.end()
    })
    const run = await measure(
      { url: target.url, connection: 'new', maxInFlight: 3, timeout: 10_000 },
      {
        signal: AbortSignal.timeout(700),
        durationMs: 60_000,
      },
    )
    const { scheduled, dropped, outcomes, reasons } = figuresOf(run.all)
    assert.equal(outcomes.ok + outcomes.error + outcomes.timeout, 0)
    assert.ok(dropped >= 30)
    // The three in flight were abandoned by the stop: they are nobody's loss.
    assert.equal(scheduled, dropped)
    assert.deepEqual(reasons, { DROPPED_IN_FLIGHT: dropped })
  })

  it('signs its calls, each with its own timestamp, and asks for the balance', async () => {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519')
    const keyFile = join(folder, 'probe.pem')
    writeFileSync(keyFile, privateKey.export({ type: 'pkcs8', format: 'pem' }))
    const registered = loadPublicKey(publicKey.export({ type: 'spki', format: 'pem' }) as string, 'test')
    const timestamps = new Set<string>()
    const target = await start(({ headers, method, url }, response) => {
      const header = (name: string) => headers[name.toLowerCase()] as string
      const timestamp = header(AUTH_HEADERS.timestamp)
      const request = { timestamp, method: method as string, path: url as string }
      const good =
        url === '/trade-api/v2/portfolio/balance' &&
        header(AUTH_HEADERS.key) === 'probe-key' &&
        Math.abs(Number(timestamp) - Date.now()) < 5_000 &&
        verify(registered, request, header(AUTH_HEADERS.signature))
      timestamps.add(timestamp)
      response.writeHead(good ? 200 : 401).end()
    })
    const run = await measure({ url: target.url, keyId: 'probe-key', keyFile })
    assert.equal(run.all.outcomes.ok, 50)
    assert.equal(run.settings.signed, 'ed25519')
    assert.ok(timestamps.size > 25, `${timestamps.size} timestamps`)
  })

  it('reports the times of warm requests, the set-up of every connection, and every outcome', async () => {
    const target = await start((_, response) => response.end())
    const phases: { [phase: string]: number[] } = {}
    const outcomes: string[] = []
    const ups: boolean[] = []
    const run = await measure(
      { url: target.url },
      {
        reporter: {
          phase(phase, ns) {
            phases[phase] ??= []
            phases[phase].push(ns)
          },
          request: (outcome) => outcomes.push(outcome),
          up: (isUp) => ups.push(isUp),
          stop: () => Promise.resolve(true),
        },
      },
    )
    const warm = tallyOf(run, 'warm')
    const sum = (values: readonly number[] = []) => values.reduce((total, ns) => total + ns, 0)
    assert.equal(sum(phases.total), warm.response.sumNs)
    assert.equal(sum(phases.service), warm.service.sumNs)
    assert.equal(sum(phases.slip), warm.slip.sumNs)
    assert.equal(sum(phases.ttfb), warm.phases.get('ttfb')?.sumNs)
    assert.equal(sum(phases.body), warm.phases.get('body')?.sumNs)
    assert.equal(sum(phases.tcp), run.all.phases.get('tcp')?.sumNs)
    assert.equal(phases.total?.length, 25)
    assert.equal(phases.tcp?.length, run.all.opened)
    assert.ok(run.all.opened >= 25)
    assert.deepEqual(outcomes, Array(50).fill('ok'))
    assert.deepEqual(ups, Array(50).fill(true))
  })

  it('gives up before it measures when the venue refuses or is not there', async () => {
    const target = await start((_, response) => response.writeHead(401).end())
    let measuring = false
    const refused = measure({ url: target.url }, { measuring: () => (measuring = true) })
    await assert.rejects(refused, (error: UserError) => {
      assert.match(
        error.message,
        /^http:\/\/127\.0\.0\.1:\d+\/trade-api\/v2\/exchange\/status answered 401 to the call$/,
      )
      return error instanceof UserError && error.exitCode === 3
    })
    await target.stop()
    await assert.rejects(measure({ url: target.url }), { code: 'VENUE_UNREACHABLE', exitCode: 3 })
    assert.equal(measuring, false)
  })

  it('says in words why TLS did not come about', async (t) => {
    if (!tls) return t.skip('no openssl on PATH to make a certificate with')
    const { certFile, keyFile } = tls
    const answer: RequestListener = (_, response) => response.end('{}')
    const secure = await start(answer, { tls })
    const plain = await start(answer)
    const message = async (options: Partial<HttpOptions> & { readonly url: string }) =>
      measure(options).then(
        () => assert.fail('it was measured'),
        (error: UserError) => error.message,
      )
    assert.match(await message({ url: secure.url }), /its certificate is not trusted \(DEPTH_ZERO.*\); --ca-file names/)
    assert.match(
      await message({ url: plain.url.replace('http:', 'https:') }),
      /^https:\/\/127\.0\.0\.1:\d+ cannot be reached: it does not speak TLS there \(ERR_SSL_WRONG_VERSION_NUMBER\)$/,
    )
    assert.throws(() => measure({ url: secure.url, caFile: keyFile }), /^UserError: --ca-file .* holds no PEM cert/)
    assert.equal((await measure({ url: secure.url, caFile: certFile }, { durationMs: 200 })).all.lost, 0)
  })
})

describe('the key of the http probe', () => {
  for (const [what, options, code] of [
    ['has no file', { keyId: 'a' }, 'KEY_INCOMPLETE'],
    ['has no id', { keyFile: import.meta.filename }, 'KEY_INCOMPLETE'],
    ['is in a file that is not there', { keyId: 'a', keyFile: '/no/such' }, 'FILE_UNREADABLE'],
    ['is in a folder', { keyId: 'a', keyFile: import.meta.dirname }, 'FILE_UNREADABLE'],
    ['is no key', { keyId: 'a', keyFile: import.meta.filename }, 'KEY_INVALID'],
  ] as const) {
    it(`is refused when it ${what}`, async () => {
      await assert.rejects(async () => measure({ url: 'http://127.0.0.1:1', ...options }), { code, exitCode: 2 })
    })
  }
})

describe('the target of the http probe', () => {
  it('is a cheap read-only call on the base of a venue, and a full URL as it is', () => {
    const href = (...args: Parameters<typeof targetUrl>) => targetUrl(...args).href
    for (const base of ['https://venue.test', 'https://venue.test/', 'https://venue.test/trade-api/v2/']) {
      assert.equal(href(base, undefined, false), 'https://venue.test/trade-api/v2/exchange/status')
      assert.equal(href(base, undefined, true), 'https://venue.test/trade-api/v2/portfolio/balance')
    }
    assert.equal(href('http://h:81/a?b=c#d', undefined, false), 'http://h:81/a?b=c')
    assert.equal(href('https://venue.test', '/', false), 'https://venue.test/')
    assert.equal(href('https://venue.test/a', '/b?c', true), 'https://venue.test/b?c')
  })

  it('is refused with the reason when it is no URL, or carries a secret', () => {
    for (const text of ['venue.test', 'ftp://venue.test', 'http://', 'http://user:secret@venue.test']) {
      assert.throws(
        () => targetUrl(text, undefined, false),
        (error: UserError) => error.code === 'URL_INVALID' && !error.message.includes('secret'),
        text,
      )
    }
    assert.throws(() => targetUrl('http://h', 'status', false), { code: 'PATH_INVALID' })
  })
})

describe('a tally', () => {
  it('merges into the tally of everything', () => {
    const a = new Tally()
    const b = new Tally()
    a.ok(1, 10, [['ttfb', 10]])
    a.failed('timeout', 'TIMEOUT')
    b.ok(2, 20, [['body', 20]])
    b.dropped('late')
    b.failed('error', 'CLOSED')
    const all = Tally.merged([a, b])
    assert.deepEqual(all.outcomes, { ok: 2, error: 1, timeout: 1, dropped: 1 })
    assert.deepEqual([all.scheduled, all.sent, all.lost], [5, 4, 2])
    assert.equal(all.response.sumNs, 33)
    assert.equal(all.phases.get('ttfb')?.sumNs, 10)
    assert.deepEqual(Object.fromEntries(all.reasons), { TIMEOUT: 1, DROPPED_LATE: 1, CLOSED: 1 })
    assert.equal(a.response.sumNs, 11)
  })

  it('counts reasons beyond a bound together', () => {
    const tally = new Tally()
    for (let status = 100; status < 200; status++) tally.failed('error', `STATUS_${status}`)
    assert.equal(tally.reasons.size, 33)
    assert.equal(tally.reasons.get('OTHER'), 68)
  })
})
