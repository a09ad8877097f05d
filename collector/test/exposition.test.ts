import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import {
  bucketBoundsNs,
  DEFAULT_SLOS,
  decodeBatch,
  type Labels,
  leOf,
  METRICS,
  type MetricName,
  quantileMetricName,
} from '@tickscope/contract'
import { systemClock } from '../src/clock.ts'
import { Exposition, negotiate, OwnMetrics } from '../src/exposition.ts'
import { acceptBatch, State } from '../src/merge.ts'
import {
  API_OK,
  batchOf,
  eventually,
  getMetrics,
  histogramOf,
  postBatch,
  sample,
  series,
  startCollector,
  temporaryDir,
} from './fixture.ts'
import { freePort, programOrSkip, promtoolComplaints, startServer } from './servers.ts'

const BOT = { service: 'bot', instance: 'bot-1', venue: 'kalshi' }
const MS = 1e6

/** One sample of every metric an agent may send. */
function everything(sequence = 1) {
  const first = (labels: { readonly [label: string]: readonly string[] | null }): Labels =>
    Object.fromEntries(Object.entries(labels).map(([label, values]) => [label, values?.[0] ?? 'x']))
  const of = (type: string) =>
    (Object.entries(METRICS) as [MetricName, (typeof METRICS)[MetricName]][])
      .filter(([name, metric]) => metric.type === type && !name.startsWith('tickscope_collector_'))
      .map(([metric, { labels }]) => ({ metric, labels: first(labels) }))
  return batchOf({
    sequence,
    series: of('histogram').map(({ metric, labels }) =>
      series(metric, labels, [1 * MS, 5 * MS, 20 * MS, 20 * MS + 1, 70 * MS]),
    ),
    counters: of('counter').map((counter) => ({ ...counter, value: 3 })),
    gauges: of('gauge').map((gauge) => ({ ...gauge, value: 0.5 })),
  })
}

/** Lines of a family: its HELP, TYPE, UNIT and samples. */
function family(metrics: string, name: string): string[] {
  return metrics
    .split('\n')
    .filter((line) => new RegExp(`^(# \\w+ )?${name}(_bucket|_sum|_count|_total)?[{ ]`).test(line))
}

describe('GET /metrics', { concurrency: true }, () => {
  it('exposes every metric of the catalogue with its help, type and labels, and passes promtool', async (t) => {
    const { url } = await startCollector(t)
    assert.equal((await postBatch(url, everything())).status, 200)
    const metrics = await getMetrics(url)
    for (const [name, { type, help, labels }] of Object.entries(METRICS)) {
      const exposed = 'quantile' in labels ? 'untyped' : type
      assert.ok(metrics.includes(`# HELP ${name} ${help}\n# TYPE ${name} ${exposed}\n`), name)
      const part = type === 'histogram' ? `${name}_count` : name
      assert.notEqual(sample(metrics, part, name.startsWith('tickscope_collector_') ? {} : BOT), undefined, name)
    }
    const promtool = programOrSkip(t, 'promtool')
    if (promtool) assert.equal(promtoolComplaints(promtool, metrics), '')
  })

  it('counts in cumulative buckets with canonical bounds, exact at every SLO threshold', async (t) => {
    const { url } = await startCollector(t)
    const values = [4.9 * MS, 5 * MS, 5 * MS + 1, 20 * MS - 1, 20 * MS, 20 * MS + 1, 20 * MS + 2, 61_000 * MS]
    await postBatch(url, batchOf({ series: [series('tickscope_api_rtt_seconds', API_OK, values)] }))
    const metrics = await getMetrics(url)
    const lines = family(metrics, 'tickscope_api_rtt_seconds').filter((line) => line.includes('_bucket'))
    assert.deepEqual(
      lines.map((line) => line.match(/le="([^"]+)"/)?.[1]),
      [...bucketBoundsNs(DEFAULT_SLOS).map(leOf), '+Inf'],
    )
    assert.equal(
      lines[0],
      'tickscope_api_rtt_seconds_bucket{service="bot",instance="bot-1",venue="kalshi",endpoint="create_order",outcome="ok",le="1e-06"} 0',
    )
    for (const boundNs of bucketBoundsNs(DEFAULT_SLOS)) {
      const expected = values.filter((value) => value <= boundNs).length
      assert.equal(
        sample(metrics, 'tickscope_api_rtt_seconds_bucket', { ...BOT, ...API_OK, le: leOf(boundNs) }),
        expected,
        leOf(boundNs),
      )
    }
    assert.equal(sample(metrics, 'tickscope_api_rtt_seconds_bucket', { le: '+Inf' }), 8)
    assert.equal(sample(metrics, 'tickscope_api_rtt_seconds_count', BOT), 8)
    assert.equal(sample(metrics, 'tickscope_api_rtt_seconds_sum', BOT), values.reduce((a, b) => a + b) / 1e9)
  })

  it('gives exact quantiles over sliding windows, and none while a window is empty', async (t) => {
    let nowMs = 1000
    const clock = { epochMs: () => Date.now(), monotonicMs: () => nowMs }
    const { url } = await startCollector(t, { clock })
    const name = quantileMetricName('tickscope_tick_to_trade_seconds')
    const at = async (quantile: string, window: string) =>
      sample(await getMetrics(url), name, { ...BOT, quantile, window })
    const slow = Array.from({ length: 100 }, (_, i) => (i + 1) * MS)
    await postBatch(url, batchOf({ series: [series('tickscope_tick_to_trade_seconds', {}, slow)] }))
    const exact = (values: number[], q: number) => histogramOf(values).quantileNs(q) / 1e9
    for (const window of ['10s', '60s']) {
      assert.equal(await at('0.5', window), exact(slow, 0.5))
      assert.equal(await at('0.999', window), exact(slow, 0.999))
      assert.equal(await at('1', window), exact(slow, 1))
    }
    nowMs = 9000
    const fast = Array.from({ length: 900 }, () => 10_000)
    await postBatch(url, batchOf({ sequence: 2, series: [series('tickscope_tick_to_trade_seconds', {}, fast)] }))
    assert.equal(await at('0.9', '10s'), exact([...slow, ...fast], 0.9))
    nowMs = 11_000
    assert.equal(await at('1', '10s'), exact(fast, 1))
    assert.equal(await at('1', '60s'), exact(slow, 1))
    nowMs = 61_000
    assert.equal(await at('1', '10s'), undefined)
    assert.equal(await at('1', '60s'), exact(fast, 1))
    nowMs = 69_000
    assert.equal(await at('1', '60s'), undefined)
    assert.equal(sample(await getMetrics(url), 'tickscope_tick_to_trade_seconds_count', BOT), 1000)
  })

  it('drops gauges of a process that fell silent, but not when it was last heard', async (t) => {
    let nowMs = Date.now()
    const { url } = await startCollector(t, { clock: { epochMs: () => nowMs, monotonicMs: () => nowMs } })
    const batch = batchOf({
      gauges: [{ metric: 'tickscope_utilization_ratio', labels: { resource: 'cpu' }, value: 0.93 }],
    })
    await postBatch(url, batch)
    assert.equal(sample(await getMetrics(url), 'tickscope_utilization_ratio', { resource: 'cpu' }), 0.93)
    nowMs += 31_000
    const metrics = await getMetrics(url)
    assert.equal(sample(metrics, 'tickscope_utilization_ratio', { resource: 'cpu' }), undefined)
    assert.equal(sample(metrics, 'tickscope_agent_last_batch_timestamp_seconds', BOT), batch.intervalEndMs / 1000)
  })

  it('escapes label values', async (t) => {
    const { url } = await startCollector(t)
    await postBatch(
      url,
      batchOf({
        resource: { ...BOT, route: 'a\\b"c' },
        counters: [{ metric: 'tickscope_ticks_total', labels: { outcome: 'quiet' }, value: 1 }],
      }),
    )
    assert.ok((await getMetrics(url)).includes('route="a\\\\b\\"c",outcome="quiet"} 1\n'))
  })

  it('speaks OpenMetrics when asked: counter families without _total, units, escaped help, an end', async (t) => {
    const { url } = await startCollector(t)
    await postBatch(url, everything())
    const response = await fetch(`${url}/metrics`, {
      headers: { accept: 'application/openmetrics-text;version=1.0.0' },
    })
    assert.equal(response.headers.get('content-type'), 'application/openmetrics-text; version=1.0.0; charset=utf-8')
    const metrics = await response.text()
    assert.ok(metrics.endsWith('\n# EOF\n'))
    assert.equal(metrics.indexOf('# EOF'), metrics.length - 6)
    assert.ok(metrics.includes('# TYPE tickscope_ticks counter\ntickscope_ticks_total{'))
    assert.ok(
      metrics.includes(
        '# TYPE tickscope_tick_to_trade_seconds histogram\n# UNIT tickscope_tick_to_trade_seconds seconds\n',
      ),
    )
    assert.ok(metrics.includes('# TYPE tickscope_tick_to_trade_quantile_seconds unknown\n'))
    assert.ok(metrics.includes('outcome=\\"order\\"'))
    for (const line of metrics.split('\n').slice(0, -2)) {
      assert.match(
        line,
        /^(# (HELP|TYPE|UNIT) [a-z0-9_]+ .+|[a-z0-9_]+(\{([a-z_]+="(?:[^"\\]|\\.)*",?)+\})? [-+0-9.eINnaf]+)$/,
      )
    }
    const names = metrics.matchAll(/^# TYPE (\S+)/gm)
    const seen = [...names].map(([, name]) => name)
    assert.equal(new Set(seen).size, seen.length, 'each family once')
    assert.match((await fetch(`${url}/metrics`)).headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/)
  })

  it('is scraped by a real Prometheus, in its own preferred format', async (t) => {
    const prometheus = programOrSkip(t, 'prometheus')
    if (!prometheus) return
    const { url } = await startCollector(t)
    await postBatch(url, everything())
    const dir = temporaryDir(t)
    writeFileSync(
      join(dir, 'prometheus.yml'),
      JSON.stringify({
        global: { scrape_interval: '250ms', scrape_timeout: '250ms' },
        scrape_configs: [
          { job_name: 'collector', honor_labels: true, static_configs: [{ targets: [new URL(url).host] }] },
        ],
      }),
    )
    const address = `127.0.0.1:${await freePort()}`
    const args = [
      `--config.file=${join(dir, 'prometheus.yml')}`,
      `--storage.tsdb.path=${join(dir, 'data')}`,
      `--web.listen-address=${address}`,
    ]
    await startServer(t, prometheus, args, `http://${address}/-/ready`)
    const query = async (text: string) => {
      const response = await fetch(`http://${address}/api/v1/query?query=${encodeURIComponent(text)}`)
      const { data } = (await response.json()) as { data: { result: { metric: Labels; value: [number, string] }[] } }
      return data.result
    }
    const [bucket] = await eventually('the scraped bucket', async () => {
      const found = await query('tickscope_api_rtt_seconds_bucket{le="0.02"}')
      return found.length > 0 ? found : undefined
    })
    assert.equal(bucket?.value[1], '3')
    assert.deepEqual(bucket?.metric, {
      __name__: 'tickscope_api_rtt_seconds_bucket',
      ...BOT,
      job: 'collector',
      ...API_OK,
      le: '0.02',
    })
    assert.equal((await query('up'))[0]?.value[1], '1')
    assert.equal((await query('tickscope_ticks_total'))[0]?.value[1], '3')
    assert.equal((await query('tickscope_tick_to_trade_quantile_seconds{quantile="1",window="60s"}')).length, 1)
    const metadata = (await (
      await fetch(`http://${address}/api/v1/metadata?metric=tickscope_tick_to_trade_seconds`)
    ).json()) as { data: { [name: string]: { type: string; unit: string }[] } }
    assert.equal(
      metadata.data.tickscope_tick_to_trade_seconds?.[0]?.unit,
      'seconds',
      'a unit says that it was OpenMetrics',
    )
  })

  it('renders thousands of samples in pieces, each sample once, whatever is applied between them', async () => {
    const state = new State()
    const apply = (instance: string, sequence: number) => {
      const batch = { ...everything(sequence), agent: instance, resource: { ...BOT, instance } }
      const encoded = batch.series.map(({ histogram }) => histogram)
      state.apply(acceptBatch(decodeBatch(batch), encoded, Date.now()), performance.now())
    }
    for (let i = 0; i < 40; i++) apply(`i${i}`, 1)
    const own = new OwnMetrics({ state, journalBytes: () => 0 })
    const exposition = new Exposition({ state, own, clock: systemClock, slos: DEFAULT_SLOS })
    let metrics = ''
    let pieces = 0
    for await (const piece of exposition.render('text')) {
      metrics += piece
      apply(`i${pieces++ % 40}`, 1 + pieces)
    }
    assert.ok(pieces >= 10, `${pieces} pieces`)
    const samples = metrics.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
    assert.ok(samples.length > 10_000, `${samples.length}`)
    assert.equal(new Set(samples.map((line) => line.slice(0, line.lastIndexOf(' ')))).size, samples.length)
  })
})

describe('the format', () => {
  const cases: [string | undefined, 'text' | 'openmetrics'][] = [
    [undefined, 'text'],
    ['', 'text'],
    ['*/*', 'text'],
    ['text/html, text/plain', 'text'],
    ['application/openmetrics-text', 'openmetrics'],
    ['application/openmetrics-text;version=0.0.1', 'text'],
    ['application/openmetrics-text; version=1.0.0; charset=utf-8', 'openmetrics'],
    ['application/openmetrics-text;version="1.0.0"', 'openmetrics'],
    ['application/openmetrics-text;q=0', 'text'],
    ['application/openmetrics-text;q=0.4,text/plain;version=0.0.4;q=0.5', 'text'],
    ['application/openmetrics-text;q=x', 'text'],
    // Prometheus 2.42
    [
      'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1',
      'openmetrics',
    ],
    // Prometheus 3
    [
      'application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1',
      'openmetrics',
    ],
    ['text/plain;version=0.0.4;q=0.9,application/openmetrics-text;version=1.0.0;q=0.1', 'text'],
  ]
  for (const [accept, expected] of cases) {
    it(`for Accept ${accept === undefined ? 'left out' : `'${accept.slice(0, 60)}'`} is ${expected}`, () => {
      assert.equal(negotiate(accept), expected)
    })
  }
})
