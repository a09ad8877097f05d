import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { describe, it } from 'node:test'
import { gzipSync } from 'node:zlib'
import { BATCH_LIMITS, decodeBatch, summarize } from '@tickscope/contract'
import fc from 'fast-check'
import { RequestError } from '../src/error.ts'
import { acceptBatch, LIMITS, State } from '../src/merge.ts'
import {
  API_OK,
  batchOf,
  getMetrics,
  getSummary,
  histogramOf,
  postBatch,
  sample,
  series,
  startCollector,
} from './fixture.ts'

const ticks = (value: number) => [{ metric: 'tickscope_ticks_total' as const, labels: { outcome: 'quiet' }, value }]

describe('POST /v1/batches', () => {
  it('adds up what agents measured: exactly the histogram of all events, and all counters', async (t) => {
    const { url } = await startCollector(t)
    const all: number[] = []
    const stages = ['decoded', 'sent'] as const
    let sumNs = 0
    for (let sequence = 1; sequence <= 5; sequence++) {
      for (const agent of ['a', 'b']) {
        const values = Array.from(
          { length: 50 },
          (_, i) => 1000 + sequence * 7919 * i + (agent === 'a' ? 0 : 3_333_333),
        )
        all.push(...values)
        sumNs += values.reduce((sum, value) => sum + value, 0)
        const { status, body } = await postBatch(
          url,
          batchOf({
            agent,
            sequence,
            resource: { service: 'bot', instance: agent },
            series: [
              series('tickscope_tick_to_trade_seconds', {}, values),
              ...stages.map((stage) => series('tickscope_stage_seconds', { stage, outcome: 'order' }, [100, 200])),
              series('tickscope_stage_seconds', { stage: 'decoded', outcome: 'quiet' }, [999]),
              series('tickscope_api_rtt_seconds', API_OK, [7e6]),
              series('tickscope_probe_phase_seconds', { probe: 'http', phase: 'dns' }, [5e5]),
              series('tickscope_probe_phase_seconds', { probe: 'http', phase: 'total' }, [6e6]),
            ],
            counters: [
              ...ticks(3),
              { metric: 'tickscope_ticks_total', labels: { outcome: 'order' }, value: 50 },
              { metric: 'tickscope_breaches_total', labels: { slo: 'api_rtt', cause: 'venue' }, value: 2 },
              { metric: 'tickscope_breaches_total', labels: { slo: 'api_rtt', cause: 'gc' }, value: 1 },
              { metric: 'tickscope_agent_dropped_total', labels: { reason: 'clock' }, value: 4 },
            ],
          }),
        )
        assert.deepEqual([status, body], [200, { status: 'applied' }])
      }
    }
    const summary = await getSummary(url)
    assert.deepEqual(summary.tickToTrade, summarize(histogramOf(all)))
    assert.equal(summary.tickToTrade.count, 500)
    assert.equal(summary.orders, 500)
    assert.equal(summary.ticks, 530)
    assert.equal(summary.sumsNs.tickToTrade, sumNs)
    assert.deepEqual(summary.sumsNs.stages, {
      decoded: 3000,
      booked: 0,
      decided: 0,
      checked: 0,
      encoded: 0,
      sent: 3000,
    })
    assert.equal(summary.stages.decoded?.count, 20)
    assert.equal(summary.apiRtt.count, 10)
    assert.deepEqual(summary.breaches, { api_rtt: 30, processing: 0, utilization: 0 })
    assert.equal(summary.dropped, 40)
    assert.deepEqual(Object.keys(summary.probe.http?.phases ?? {}), ['dns'])
    assert.equal(summary.probe.http?.total.count, 10)
    assert.deepEqual(
      [summary.recent.windowMs, summary.recent.ticks, summary.recent.orders, summary.recent.apiRtt.count],
      [1000, 106, 100, 2],
    )
  })

  it('applies a batch once however often and however concurrently it is sent', async (t) => {
    const { url } = await startCollector(t)
    const batch = batchOf({ counters: ticks(10), series: [series('tickscope_tick_to_trade_seconds', {}, [5, 6])] })
    const verdicts = await Promise.all(Array.from({ length: 8 }, () => postBatch(url, batch)))
    assert.deepEqual(
      verdicts.map(({ status }) => status),
      Array(8).fill(200),
    )
    assert.equal(verdicts.filter(({ body }) => body.status === 'applied').length, 1)
    assert.equal(verdicts.filter(({ body }) => body.status === 'duplicate').length, 7)
    assert.deepEqual((await postBatch(url, batch)).body, { status: 'duplicate' })
    const summary = await getSummary(url)
    assert.deepEqual([summary.ticks, summary.orders], [10, 2])
    const metrics = await getMetrics(url)
    assert.equal(sample(metrics, 'tickscope_collector_batches_total', { outcome: 'applied' }), 1)
    assert.equal(sample(metrics, 'tickscope_collector_batches_total', { outcome: 'duplicate' }), 8)
  })

  it('counts sequences per agent and epoch, and knows a late batch of a former epoch', async (t) => {
    const { url, notes } = await startCollector(t)
    const send = async (agent: string, epoch: string, sequence: number) =>
      (await postBatch(url, batchOf({ agent, epoch, sequence, counters: ticks(1) }))).body.status
    assert.equal(await send('a', 'one', 1), 'applied')
    assert.equal(await send('b', 'one', 1), 'applied')
    assert.equal(await send('a', 'two', 1), 'applied')
    assert.equal(await send('a', 'one', 1), 'duplicate')
    assert.equal(await send('a', 'one', 2), 'applied')
    assert.equal((await getSummary(url)).ticks, 4)
    assert.ok(!notes.some((note) => note.includes('sequence')))
  })

  it('accepts a hole in the sequence, counts what is missing and says so', async (t) => {
    const { url, notes } = await startCollector(t)
    await postBatch(url, batchOf({ sequence: 1 }))
    assert.deepEqual((await postBatch(url, batchOf({ sequence: 5 }))).body, { status: 'applied' })
    assert.deepEqual((await postBatch(url, batchOf({ sequence: 3 }))).body, { status: 'duplicate' })
    assert.equal((await getSummary(url)).lostBatches, 3)
    assert.equal(sample(await getMetrics(url), 'tickscope_collector_lost_batches_total', {}), 3)
    assert.ok(
      notes.includes(
        'agent agent-1 epoch epoch-1: sequence 5 follows 1; the batches between were lost, or another collector has them',
      ),
      notes.join('\n'),
    )
  })

  it('turns a flood of bad sequences into a few notes', async (t) => {
    const { url, notes } = await startCollector(t)
    for (let n = 1; n <= 60; n++) await postBatch(url, batchOf({ sequence: n * 2 }))
    assert.equal((await getSummary(url)).lostBatches, 60)
    assert.ok(notes.length <= 20, `${notes.length} notes`)
  })

  it('takes gzip', async (t) => {
    const { url } = await startCollector(t)
    const body = gzipSync(JSON.stringify(batchOf({ counters: ticks(7) })))
    assert.equal((await postBatch(url, body, { 'content-encoding': 'gzip' })).status, 200)
    assert.equal((await getSummary(url)).ticks, 7)
  })

  it('refuses what is not a batch with one sentence that names the field', async (t) => {
    const { url } = await startCollector(t)
    const good = batchOf({ counters: ticks(1), series: [series('tickscope_tick_to_trade_seconds', {}, [5])] })
    const cases: [string, unknown, RegExp][] = [
      ['no JSON', '{', /not JSON in UTF-8/],
      ['bad UTF-8', new Uint8Array([0x22, 0xff, 0x22]), /not JSON in UTF-8/],
      ['nothing', '', /not JSON in UTF-8/],
      ['null', 'null', /batch: top level/],
      ['another version', { ...good, version: 2 }, /batch: version/],
      [
        'an unknown metric',
        { ...good, counters: [{ metric: 'tickscope_x', labels: {}, value: 1 }] },
        /counters\.0\.metric/,
      ],
      [
        'a label outside its set',
        { ...good, counters: [{ ...good.counters[0], labels: { outcome: 'x' } }] },
        /label outcome cannot be 'x'/,
      ],
      [
        'a broken histogram',
        { ...good, series: [{ ...good.series[0], histogram: 'HISTFAAAA' }] },
        /series\.0: histogram/,
      ],
      [
        'control characters in a resource label',
        { ...good, resource: { ...good.resource, venue: 'a\nb' } },
        /resource\.venue has a character that is not text/,
      ],
      [
        'half a surrogate pair',
        `{"resource":{"service":"s","instance":"i","region":"\\ud800"},${JSON.stringify({ ...good, resource: undefined }).slice(1)}`,
        /resource\.region has a character/,
      ],
      [
        "the collector's own metric",
        {
          ...good,
          counters: [{ metric: 'tickscope_collector_batches_total', labels: { outcome: 'applied' }, value: 1 }],
        },
        /collector's own/,
      ],
      ['a sum beyond exact integers', { ...good, series: [{ ...good.series[0], sumNs: 1e300 }] }, /sumNs/],
    ]
    for (const [name, batch, expected] of cases) {
      const { status, body } = await postBatch(url, batch)
      assert.equal(status, 400, name)
      assert.match(body.error ?? '', expected, name)
      assert.ok(!body.error?.includes('\n'), name)
    }
    assert.equal(
      sample(await getMetrics(url), 'tickscope_collector_batches_total', { outcome: 'refused' }),
      cases.length,
    )
    assert.equal((await getSummary(url)).ticks, 0)
  })

  it('refuses other content types and encodings before it reads the body', async (t) => {
    const { url } = await startCollector(t)
    for (const headers of [{ 'content-type': 'text/plain' }, { 'content-type': '' }, { 'content-encoding': 'br' }]) {
      assert.equal(
        (await postBatch(url, batchOf(), headers as Record<string, string>)).status,
        415,
        JSON.stringify(headers),
      )
    }
    const type = { 'content-type': 'Application/JSON; charset=utf-8' }
    assert.equal((await postBatch(url, batchOf(), type)).status, 200)
  })

  it('refuses bodies over the limit, as sent and after decompression', async (t) => {
    const { url } = await startCollector(t)
    const large = await postBatch(url, Buffer.alloc(BATCH_LIMITS.wireBytes + 1, 32))
    assert.deepEqual([large.status, large.body.error], [413, `the body is larger than ${BATCH_LIMITS.wireBytes} bytes`])
    const bomb = gzipSync(Buffer.alloc(BATCH_LIMITS.bodyBytes + 1, 32))
    assert.ok(bomb.length < 20_000)
    const inflated = await postBatch(url, bomb, { 'content-encoding': 'gzip' })
    assert.deepEqual(
      [inflated.status, inflated.body.error],
      [413, `the body inflates to more than ${BATCH_LIMITS.bodyBytes} bytes`],
    )
    const broken = await postBatch(url, bomb.subarray(0, 1000), { 'content-encoding': 'gzip' })
    assert.deepEqual([broken.status, broken.body.error], [400, 'the body is not a whole gzip stream'])
  })

  it('answers any bytes with 4xx and goes on', async (t) => {
    const { url } = await startCollector(t)
    const good = batchOf({ counters: ticks(1), series: [series('tickscope_tick_to_trade_seconds', {}, [5])] })
    const paths: (string | number)[][] = [
      ['agent'],
      ['sequence'],
      ['resource'],
      ['resource', 'service'],
      ['series', 0, 'labels'],
      ['series', 0, 'histogram'],
      ['series', 0, 'sumNs'],
      ['counters', 0, 'value'],
      ['intervalEndMs'],
      ['gauges'],
      ['firstBreachAtMs'],
    ]
    const wrong = fc.oneof(
      fc.constantFrom(null, -1, 0.5, '', [], {}, true, 1e308, '\u0000', { __proto__: null, constructor: 1 }),
      fc.base64String({ maxLength: 200 }).map((text) => `HISTFAAAA${text}`),
    )
    const changed = fc.tuple(fc.constantFrom(...paths), wrong).map(([path, value]) => {
      const copy = structuredClone(good) as never as Record<string | number, never>
      let at = copy
      for (const key of path.slice(0, -1)) at = at[key] as never
      at[path.at(-1) as string] = value as never
      return { bytes: Buffer.from(JSON.stringify(copy)), gzip: false }
    })
    const hostile = fc.oneof(
      fc.record({ bytes: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)), gzip: fc.boolean() }),
      fc.json({ maxDepth: 4 }).map((text) => ({ bytes: Buffer.from(text), gzip: false })),
      fc
        .nat(JSON.stringify(good).length - 1)
        .map((cut) => ({ bytes: Buffer.from(JSON.stringify(good).slice(0, cut)), gzip: false })),
      changed,
    )
    let applied = 0
    await fc.assert(
      fc.asyncProperty(hostile, async ({ bytes, gzip }) => {
        const { status } = await postBatch(url, bytes, gzip ? { 'content-encoding': 'gzip' } : {})
        // A changed field can still make a batch: then it was taken, once.
        if (status === 200) applied++
        else assert.ok(status >= 400 && status < 500, `${status}`)
      }),
      { numRuns: 400 },
    )
    const before = await getSummary(url)
    assert.equal((await postBatch(url, { ...good, agent: 'honest' })).status, 200)
    assert.equal((await getSummary(url)).orders, before.orders + 1)
    assert.ok(applied < 200)
  })

  it('is not held up by a request that never arrives whole, nor by its end', async (t) => {
    const { url } = await startCollector(t)
    const { port, hostname } = new URL(url)
    const socket = connect(Number(port), hostname)
    t.after(() => socket.destroy())
    await once(socket, 'connect')
    socket.write(
      'POST /v1/batches HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{',
    )
    assert.equal((await postBatch(url, batchOf())).status, 200)
    socket.destroy()
    assert.equal((await postBatch(url, batchOf({ sequence: 2 }))).status, 200)
  })

  it('says what is at other paths and methods', async (t) => {
    const { url } = await startCollector(t)
    const get = await fetch(`${url}/v1/batches`)
    assert.deepEqual([get.status, get.headers.get('allow')], [405, 'POST'])
    const post = await fetch(`${url}/metrics`, { method: 'POST' })
    assert.deepEqual([post.status, post.headers.get('allow')], [405, 'GET'])
    assert.equal((await fetch(`${url}/nothing`)).status, 404)
    assert.deepEqual(await (await fetch(`${url}/healthz`)).json(), { status: 'ok' })
  })
})

describe('the token', () => {
  it('is wanted by everything but /healthz, and no other will do', async (t) => {
    const { url } = await startCollector(t, { token: 'correct-horse' })
    const paths = ['/metrics', '/v1/summary', '/nothing']
    for (const authorization of [
      undefined,
      'Bearer',
      'Bearer wrong',
      'Bearer correct-hors',
      'Basic correct-horse',
      'correct-horse',
    ]) {
      const headers = authorization === undefined ? {} : { authorization }
      for (const path of paths) {
        const response = await fetch(url + path, { headers })
        assert.deepEqual(
          [response.status, response.headers.get('www-authenticate')],
          [401, 'Bearer'],
          `${path} ${authorization}`,
        )
      }
      assert.equal((await postBatch(url, batchOf(), headers)).status, 401)
      assert.equal((await fetch(`${url}/v1/traces`, { method: 'POST', headers })).status, 401)
    }
    assert.equal((await fetch(`${url}/healthz`)).status, 200)
    const right = { authorization: 'Bearer correct-horse' }
    assert.equal((await postBatch(url, batchOf(), right)).status, 200)
    assert.equal((await fetch(`${url}/metrics`, { headers: right })).status, 200)
  })

  it('must be there to listen beyond loopback', async (t) => {
    await assert.rejects(startCollector(t, { host: '0.0.0.0' }), { code: 'HOST_UNSAFE' })
    const { notes } = await startCollector(t, { host: '0.0.0.0', token: 'correct-horse' })
    assert.match(notes[0] ?? '', /^listening on http:\/\/0\.0\.0\.0:\d+; a token is required$/)
  })
})

describe('the limits of what is remembered', () => {
  const accepted = (agent: string, receivedAtMs: number, sequence = 1) => {
    const batch = batchOf({ agent, sequence, resource: { service: 'bot', instance: agent }, counters: ticks(1) })
    return acceptBatch(decodeBatch(batch), [], receivedAtMs)
  }

  it('refuse newcomers while nobody is idle, and let the idlest make room', () => {
    const state = new State()
    const startMs = 1_700_000_000_000
    for (let i = 0; i < LIMITS.resources; i++) state.apply(accepted(`agent-${i}`, startMs + i))
    const soon = startMs + LIMITS.idleMs - 1
    assert.throws(
      () => state.checkRoom(accepted('newcomer', soon)),
      (error) => error instanceof RequestError && error.status === 429 && error.retryAfterSeconds !== undefined,
    )
    state.checkRoom(accepted('agent-0', soon, 2))
    state.apply(accepted('agent-0', soon, 2))
    const later = startMs + LIMITS.idleMs + 1
    state.checkRoom(accepted('newcomer', later))
    state.apply(accepted('newcomer', later))
    assert.equal(state.resources.size, LIMITS.resources)
    assert.ok(![...state.resources.values()].some(({ labels }) => labels.instance === 'agent-1'))
    assert.equal(state.lastSequence('agent-0', 'epoch-1'), 2)
  })

  it('forget an epoch only after newer ones, and leave out what would not be exact', () => {
    const state = new State()
    for (let epoch = 0; epoch <= LIMITS.epochs; epoch++) {
      const batch = batchOf({ epoch: `epoch-${epoch}`, counters: ticks(Number.MAX_SAFE_INTEGER - 1) })
      state.apply(acceptBatch(decodeBatch(batch), [], 1))
    }
    assert.equal(state.place('agent-1', 'epoch-0', 1), 'next')
    assert.equal(state.place('agent-1', 'epoch-1', 1), 'duplicate')
    const [resource] = [...state.resources.values()]
    assert.equal([...(resource?.counters.values() ?? [])][0]?.value, Number.MAX_SAFE_INTEGER - 1)
    assert.equal(state.overflows, LIMITS.epochs)
  })
})
