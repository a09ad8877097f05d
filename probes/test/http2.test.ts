/** HTTP/2 through the http probe, on real TLS servers of this machine. */
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import {
  createSecureServer,
  type Http2SecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
} from 'node:http2'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { UserError } from '@tickscope/contract'
import { AUTH_HEADERS, loadPublicKey, resolveEnvironment, verify } from '@tickscope/venue/kalshi'
import { type HttpOptions, httpProbe } from '../src/http.ts'
import type { ProbeContext } from '../src/probe.ts'
import { contextOf, tallyOf } from './measurement.ts'
import { createCertificate, lastLine, runProbe, startTarget, type TlsFiles } from './target.ts'

type Listener = (request: Http2ServerRequest, response: Http2ServerResponse) => void

function measure(options: Partial<HttpOptions> & { readonly url: string }, context: Partial<ProbeContext> = {}) {
  return httpProbe.run(
    {
      http: '2',
      connection: 'both',
      arrivals: 'constant',
      seed: 1,
      wait: 'precise',
      timeout: 5_000,
      warmUp: 4,
      rate: 100,
      ...options,
    },
    contextOf({ durationMs: 300, ...context }),
  )
}

describe('the http probe on HTTP/2', () => {
  const tls = createCertificate()
  const skip = tls === undefined ? 'no openssl on PATH to make a certificate' : false
  const servers: Http2SecureServer[] = []
  let sessions = 0
  const start = async (listener: Listener): Promise<string> => {
    const { certFile, keyFile } = tls as TlsFiles
    const server = createSecureServer({ cert: readFileSync(certFile), key: readFileSync(keyFile) }, listener)
    servers.push(server)
    server.on('session', (session) => {
      sessions++
      session.on('error', () => {})
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return `https://localhost:${(server.address() as AddressInfo).port}/`
  }
  const ca = () => ({ caFile: (tls as TlsFiles).certFile })
  before(() => {
    sessions = 0
  })
  after(() => {
    for (const server of servers) server.close()
    if (tls) rmSync(tls.folder, { recursive: true })
  })

  it('splits each request into phases that add up to it, and warms one connection', { skip }, async () => {
    sessions = 0
    const url = await start((_, response) => {
      response.write('first')
      setImmediate(() => response.end('last'))
    })
    const run = await measure({ url, ...ca() })
    assert.equal(run.all.outcomes.ok, 30)
    for (const { tally } of run.rows) {
      const sums = [...tally.phases.values()].map(({ sumNs }) => sumNs)
      assert.equal(
        sums.reduce((sum, ns) => sum + ns, 0),
        tally.service.sumNs,
      )
    }
    assert.deepEqual([...tallyOf(run, 'new').phases.keys()], ['dns', 'tcp', 'tls', 'ttfb', 'body'])
    assert.deepEqual([...tallyOf(run, 'warm').phases.keys()], ['ttfb', 'body'])
    assert.equal(tallyOf(run, 'warm').opened, 0)
    // 15 new ones, 2 new ones of the warm-up, and the one that all warm requests shared.
    assert.equal(sessions, 15 + 2 + 1)
    assert.deepEqual(
      run.rows.map(({ mode }) => [mode.name, mode.effectiveMode, mode.status]),
      [
        ['warm', 'warm, HTTP/2', 'measured'],
        ['new', 'new, HTTP/2', 'measured'],
      ],
    )
  })

  it('sends beside a request that waits, on the same connection', { skip }, async () => {
    sessions = 0
    const url = await start((_, response) => setTimeout(() => response.end('late'), 100))
    const run = await measure({ url, ...ca(), connection: 'warm', warmUp: 1 })
    assert.equal(run.all.outcomes.ok, 30)
    assert.equal(sessions, 1)
    // One after the other they would take 3 s.
    assert.ok(run.all.response.quantileNs(0.5) < 1_000e6)
  })

  it('gives up on one answer and keeps the connection for the others', { skip }, async () => {
    sessions = 0
    let requests = 0
    const url = await start((_, response) => {
      if (++requests % 3 !== 0) response.end()
    })
    const run = await measure({ url, ...ca(), connection: 'warm', warmUp: 1, timeout: 150, rate: 30 })
    assert.equal(run.all.outcomes.timeout, 3)
    assert.equal(run.all.outcomes.ok, 6)
    assert.equal(sessions, 1)
  })

  it('opens another connection when the server ends one', { skip }, async () => {
    let requests = 0
    const url = await start((request, response) => {
      if (++requests === 5) request.stream.session?.destroy()
      else response.end()
    })
    const run = await measure({ url, ...ca(), connection: 'warm', warmUp: 1 })
    assert.equal(run.all.lost, 1)
    assert.equal(run.all.outcomes.ok, 29)
    assert.equal(run.all.opened, 1)
  })

  it('is unsupported, with the reason, where the server chooses HTTP/1.1', { skip }, async () => {
    const target = await startTarget((_, response) => response.end(), { tls: tls as TlsFiles })
    const run = await measure({ url: target.url, ...ca() })
    await target.stop()
    assert.equal(run.all.scheduled, 0)
    for (const { mode } of run.rows) {
      assert.equal(mode.status, 'unsupported')
      assert.equal(mode.effectiveMode, 'none')
      assert.match(mode.reason as string, /^the server chose (http\/1\.1|no protocol) in the TLS handshake$/)
    }
  })

  it('is unsupported, with the reason, without TLS; a service refuses', async () => {
    const ended = await runProbe(['http', '--url', 'http://127.0.0.1:1/', '--http', '2', '--json'])
    assert.equal(ended.code, 0, ended.stderr)
    const result = lastLine(ended)
    assert.equal(result.sent, 0)
    assert.deepEqual(result.budgets, [])
    assert.deepEqual(
      result.rows.map((row: { status: string; reason: string }) => [row.status, row.reason]),
      Array(2).fill(['unsupported', 'HTTP/2 is agreed on in the TLS handshake, and http:// has none']),
    )
    assert.throws(() => measure({ url: 'http://127.0.0.1:1/' }, { serve: true }), UserError)
  })

  it('signs each request so that the venue can verify it', { skip }, async () => {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519')
    const keyFile = join((tls as TlsFiles).folder, 'api.pem')
    writeFileSync(keyFile, privateKey.export({ type: 'pkcs8', format: 'pem' }))
    const key = loadPublicKey(publicKey.export({ type: 'spki', format: 'pem' }).toString(), 'test')
    let verified = 0
    const url = await start(({ headers, method, url: path }, response) => {
      const timestamp = String(headers[AUTH_HEADERS.timestamp.toLowerCase()])
      const signature = String(headers[AUTH_HEADERS.signature.toLowerCase()])
      if (headers[AUTH_HEADERS.key.toLowerCase()] === 'id' && verify(key, { timestamp, method, path }, signature))
        verified++
      response.end()
    })
    const run = await measure({ url, ...ca(), keyId: 'id', keyFile, connection: 'warm', rate: 20, warmUp: 1 })
    assert.equal(verified, run.all.outcomes.ok + 1)
  })
})

describe('a preset', () => {
  const defaults = (options: object) => httpProbe.defaults?.(options as HttpOptions)

  it('names a venue and its label', () => {
    assert.deepEqual(defaults({ preset: 'kalshi-demo' }), {
      url: resolveEnvironment('demo').restOrigin,
      venue: 'kalshi',
    })
    assert.equal(defaults({ preset: 'kalshi-prod' })?.url, resolveEnvironment('prod').restOrigin)
    assert.deepEqual(defaults({ preset: 'polymarket' }), {
      url: 'https://clob.polymarket.com/time',
      venue: 'polymarket',
    })
    assert.deepEqual(defaults({ url: 'http://h' }), {})
  })

  it('stands instead of a URL', () => {
    assert.throws(() => defaults({ preset: 'polymarket', url: 'http://h' }), /--preset names the target/)
  })

  it('of a venue whose signature this probe cannot make refuses a key', () => {
    const folder = mkdtempSync(join(tmpdir(), 'tickscope-preset-'))
    const keyFile = join(folder, 'api.pem')
    writeFileSync(keyFile, generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }))
    assert.throws(
      () => measure({ url: 'http://127.0.0.1:1/', http: '1.1', preset: 'polymarket', keyId: 'id', keyFile }),
      /^UserError: --preset polymarket makes no signed calls/,
    )
    rmSync(folder, { recursive: true })
  })
})
