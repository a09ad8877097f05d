import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, it, type TestContext } from 'node:test'
import { gzipSync } from 'node:zlib'
import { createTraceForwarder, TRACE_LIMITS } from '../src/traces.ts'
import { eventually, getMetrics, sample, startCollector, startPeer } from './fixture.ts'

const PROTOBUF = 'application/x-protobuf'
const JSON_TYPE = 'application/json'

async function send(url: string, body: Uint8Array | string, headers: Record<string, string>) {
  const response = await fetch(`${url}/v1/traces`, { method: 'POST', body: body as Uint8Array<ArrayBuffer>, headers })
  return { status: response.status, headers: response.headers, body: Buffer.from(await response.arrayBuffer()) }
}

/** The message of a `google.rpc.Status`, decoded by hand: field 2 of the protobuf. */
function statusMessage({ headers, body }: { headers: Headers; body: Buffer }): string {
  if (headers.get('content-type') === JSON_TYPE) return (JSON.parse(body.toString()) as { message: string }).message
  assert.equal(headers.get('content-type'), PROTOBUF)
  assert.equal(body[0], 0x12)
  const long = (body[1] as number) >= 128
  const length = long ? ((body[1] as number) & 127) + 128 * (body[2] as number) : (body[1] as number)
  const start = long ? 3 : 2
  assert.equal(body.length, start + length)
  return body.toString('utf8', start)
}

async function outcomes(url: string) {
  const metrics = await getMetrics(url)
  const of = (outcome: string) => sample(metrics, 'tickscope_collector_traces_total', { outcome })
  return { forwarded: of('forwarded'), failed: of('failed'), discarded: of('discarded') }
}

async function withBackend(t: TestContext) {
  const backend = await startPeer(t)
  const { url } = await startCollector(t, { otlpBackendUrl: `${backend.url}/otlp/` })
  return { backend, url }
}

describe('POST /v1/traces', { concurrency: true }, () => {
  it('passes bodies on byte for byte, in both encodings, plain and gzip', async (t) => {
    const { backend, url } = await withBackend(t)
    const bytes = randomBytes(10_000)
    const cases: [Uint8Array, Record<string, string>][] = [
      [bytes, { 'content-type': PROTOBUF }],
      [gzipSync(bytes), { 'content-type': PROTOBUF, 'content-encoding': 'gzip' }],
      [Buffer.from('{"resourceSpans":[]}'), { 'content-type': `${JSON_TYPE}; charset=utf-8` }],
      [Buffer.alloc(0), { 'content-type': PROTOBUF }],
    ]
    for (const [body, headers] of cases) {
      const type = headers['content-type']?.split(';')[0]
      const answer = await send(url, body, headers)
      assert.deepEqual([answer.status, answer.headers.get('content-type')], [200, type])
      const got = backend.received.at(-1)
      assert.ok(got)
      assert.ok(got.body.equals(body))
      assert.deepEqual([got.method, got.path], ['POST', '/otlp/v1/traces'])
      assert.deepEqual(
        [got.headers['content-type'], got.headers['content-encoding']],
        [type, headers['content-encoding']],
      )
    }
    assert.deepEqual(await outcomes(url), { forwarded: 4, failed: 0, discarded: 0 })
  })

  it("hands the backend's answer back: partial success, refusal, overload", async (t) => {
    const { backend, url } = await withBackend(t)
    const partial = '{"partialSuccess":{"rejectedSpans":"3","errorMessage":"no"}}'
    backend.answer = () => ({ status: 200, headers: { 'content-type': JSON_TYPE }, body: partial })
    const taken = await send(url, '{}', { 'content-type': JSON_TYPE })
    assert.deepEqual([taken.status, taken.body.toString()], [200, partial])

    backend.answer = () => ({ status: 400, headers: { 'content-type': JSON_TYPE }, body: '{"message":"bad span"}' })
    const refused = await send(url, '{}', { 'content-type': JSON_TYPE })
    assert.deepEqual([refused.status, statusMessage(refused)], [400, 'bad span'])

    backend.answer = () => ({ status: 429, headers: { 'retry-after': '7' }, body: 'slow down' })
    const busy = await send(url, 'x', { 'content-type': PROTOBUF })
    assert.deepEqual(
      [busy.status, busy.headers.get('retry-after'), statusMessage(busy)],
      [429, '7', 'the trace backend answered 429'],
    )

    for (const [given, expected] of [
      [500, 502],
      [503, 503],
      [302, 502],
    ] as const) {
      backend.answer = () => ({ status: given })
      assert.equal((await send(url, 'x', { 'content-type': PROTOBUF })).status, expected)
    }
    assert.deepEqual(await outcomes(url), { forwarded: 1, failed: 5, discarded: 0 })
  })

  it('says retryably, in the encoding of the sender, that the backend is away', async (t) => {
    const { backend, url } = await withBackend(t)
    backend.server.close()
    backend.server.closeAllConnections()
    for (const type of [PROTOBUF, JSON_TYPE]) {
      const answer = await send(url, '{}', { 'content-type': type })
      assert.deepEqual([answer.status, answer.headers.get('retry-after')], [502, '1'])
      assert.equal(statusMessage(answer), 'the trace backend cannot be reached: ECONNREFUSED')
    }
  })

  it('gives up on a backend that does not answer, and bounds what waits for it', async (t) => {
    const silent = await startPeer(t)
    silent.server.removeAllListeners('request')
    let waiting = 0
    silent.server.on('request', () => waiting++)
    const seen: string[] = []
    const forwarder = createTraceForwarder({ backendUrl: silent.url, onOutcome: (o) => seen.push(o), timeoutMs: 1500 })
    t.after(() => forwarder.close())
    const first = Array.from({ length: TRACE_LIMITS.inFlight }, () =>
      forwarder.forward(Buffer.from('{}'), JSON_TYPE, false).catch((error) => error),
    )
    await assert.rejects(forwarder.forward(Buffer.from('{}'), JSON_TYPE, false), { status: 503, retryAfterSeconds: 1 })
    await eventually('the backend has its share', () => waiting === TRACE_LIMITS.connections)
    for (const error of await Promise.all(first)) assert.deepEqual([error.status, error.code], [504, 'BACKEND_TIMEOUT'])
    assert.equal(seen.length, TRACE_LIMITS.inFlight)
  })

  it('refuses bodies over the limit, as sent and after decompression, without holding them', async (t) => {
    const { backend, url } = await withBackend(t)
    const large = await send(url, Buffer.alloc(TRACE_LIMITS.wireBytes + 1), { 'content-type': PROTOBUF })
    assert.deepEqual(
      [large.status, statusMessage(large)],
      [413, `the body is larger than ${TRACE_LIMITS.wireBytes} bytes`],
    )
    const bomb = gzipSync(Buffer.alloc(TRACE_LIMITS.bodyBytes + 1))
    const inflated = await send(url, bomb, { 'content-type': PROTOBUF, 'content-encoding': 'gzip' })
    assert.deepEqual(
      [inflated.status, statusMessage(inflated)],
      [413, `the body inflates to more than ${TRACE_LIMITS.bodyBytes} bytes`],
    )
    const cut = await send(url, bomb.subarray(0, 500), { 'content-type': JSON_TYPE, 'content-encoding': 'gzip' })
    assert.deepEqual([cut.status, statusMessage(cut)], [400, 'the body is not a whole gzip stream'])
    assert.equal(backend.received.length, 0)
  })

  it('refuses other types, encodings and methods', async (t) => {
    const { backend, url } = await withBackend(t)
    assert.equal((await send(url, 'x', { 'content-type': 'text/plain' })).status, 415)
    assert.equal((await send(url, 'x', { 'content-type': PROTOBUF, 'content-encoding': 'deflate' })).status, 415)
    const get = await fetch(`${url}/v1/traces`)
    assert.deepEqual([get.status, get.headers.get('allow')], [405, 'POST'])
    assert.equal(backend.received.length, 0)
  })

  it('accepts and discards without a backend, counts that, and says so once', async (t) => {
    const { url, notes } = await startCollector(t)
    const protobuf = await send(url, randomBytes(100), { 'content-type': PROTOBUF })
    assert.deepEqual([protobuf.status, protobuf.body.length, protobuf.headers.get('content-type')], [200, 0, PROTOBUF])
    const json = await send(url, '{}', { 'content-type': JSON_TYPE })
    assert.deepEqual([json.status, json.body.toString(), json.headers.get('content-type')], [200, '{}', JSON_TYPE])
    assert.deepEqual(await outcomes(url), { forwarded: 0, failed: 0, discarded: 2 })
    assert.equal(notes.filter((note) => note.includes('discarded')).length, 1)
  })
})
