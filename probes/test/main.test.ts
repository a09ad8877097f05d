/** The probe as its user runs it: a process, its output, its exit code; and as a service that feeds a collector. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { RequestListener } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { startCollector } from './collector.ts'
import { lastLine, type Running, runProbe, startProbe, startTarget, type Target } from './target.ts'

const folder = mkdtempSync(join(tmpdir(), 'tickscope-main-'))
const targets: Target[] = []
const start = async (listener: RequestListener, options: Parameters<typeof startTarget>[1] = {}) => {
  const target = await startTarget(listener, options)
  targets.push(target)
  return target
}
after(async () => {
  for (const target of targets) await target.stop()
  rmSync(folder, { recursive: true })
})

const fast: RequestListener = (_, response) => response.end('{}')
const slow: RequestListener = (_, response) => {
  setTimeout(() => response.end('{}'), 30)
}
const UNREACHABLE = 'http://127.0.0.1:1'
/** Budgets no machine misses against `fast`, and every machine against `slow`. */
const generous = join(folder, 'generous.json')
writeFileSync(generous, '{"slos":{"api_rtt":{"thresholdMs":20000}}}')

describe('a single run of the http probe', () => {
  it('ends with one JSON object that holds everything needed to judge it', async () => {
    const target = await start(fast)
    const args = ['http', '--url', target.url, '--for', '1s', '--rate', '40', '--config', generous, '--json']
    const finished = await runProbe(args)
    assert.equal(finished.code, 0, finished.stderr)
    assert.equal(finished.stdout.trimEnd().split('\n').length, 1)
    const result = lastLine(finished)
    assert.equal(result.probe, 'http')
    assert.equal(result.target, `${target.url}/trade-api/v2/exchange/status`)
    assert.ok(result.durationMs >= 1_000)
    assert.equal(result.boundary, 'user→user')
    assert.match(result.clock, /CLOCK_MONOTONIC/)
    assert.deepEqual([result.sent, result.lost, result.dropped], [40, 0, 0])
    for (const series of [result.response, result.service, result.slip, result.phases.ttfb]) {
      assert.deepEqual(Object.keys(series), ['count', 'p50Ns', 'p90Ns', 'p99Ns', 'p999Ns', 'maxNs'])
      assert.equal(series.count, 40)
    }
    const [warm, opening] = result.rows
    assert.equal(opening.opened, 20)
    assert.equal(result.phases.tcp.count, warm.opened + opening.opened)
    assert.deepEqual(
      result.rows.map(({ name, sent, boundary, effectiveMode }: { [field: string]: unknown }) => [
        name,
        sent,
        boundary,
        effectiveMode,
      ]),
      [
        ['warm', 20, 'user→user', 'warm'],
        ['new', 20, 'user→user', 'new'],
      ],
    )
    assert.equal(result.environment.process.node, process.version)
    assert.equal(typeof result.contaminated, 'boolean')
    assert.equal(result.contaminated, result.controls.contaminatedBy.length > 0)
    assert.deepEqual(result.budgets, [
      { slo: 'api_rtt', thresholdMs: 20_000, objectiveRatio: 0.99, withinRatio: 1, row: 'warm', ok: true },
    ])
    assert.equal(result.settings.warmUpRequests, 10)
  })

  it('prints a table, and ends with code 1 when the budget is broken', async () => {
    const target = await start(slow)
    const finished = await runProbe([
      'http',
      '--url',
      target.url,
      '--for',
      '500ms',
      '--rate',
      '20',
      '--arrivals',
      'poisson',
    ])
    assert.equal(finished.code, 1, finished.stderr)
    assert.match(finished.stdout, /^ {2}response +\d+ /m)
    assert.match(finished.stdout, /^ {4}tcp +\d+ /m)
    assert.match(finished.stdout, /budget api_rtt BROKEN: 0 % of warm requests within 20 ms/)
    assert.equal(finished.stderr, '')
  })

  it('shows what it has when it is interrupted', async () => {
    const target = await start(fast)
    const running = startProbe([
      'http',
      '--url',
      target.url,
      '--for',
      '1h',
      '--rate',
      '50',
      '--config',
      generous,
      '--json',
    ])
    while (target.accepted < 20 && running.child.exitCode === null) await new Promise((later) => setTimeout(later, 20))
    running.child.kill('SIGINT')
    const finished = await running.finished
    assert.equal(finished.code, 0, finished.stderr)
    const result = lastLine(finished)
    assert.ok(result.response.count > 10 && result.response.count === result.sent)
    assert.ok(result.durationMs < 60_000)
  })

  for (const [what, args, code, message] of [
    ['an unreachable venue', [], 3, /^probe: http:\/\/127\.0\.0\.1:1 cannot be reached: connect ECONNREFUSED/],
    ['an unknown flag', ['--fast'], 2, /^probe: unknown option '--fast'/],
    ['a collector that is no URL', ['--collector', 'here'], 2, /^probe: agent option collectorUrl is 'here'/],
    [
      'a path of a service that is none',
      ['--serve', '--path', 'x'],
      2,
      /^probe: --path is 'x', it must begin with \/$/m,
    ],
    ['a missing configuration', ['--config', '/no/such'], 2, /^probe: config file \/no\/such cannot be read/],
  ] as const) {
    it(`refuses ${what} in one sentence`, async () => {
      const finished = await runProbe(['http', '--url', UNREACHABLE, ...args])
      assert.equal(finished.code, code, finished.stderr)
      assert.match(finished.stderr, message)
      assert.doesNotMatch(finished.stderr, /\n {4}at /)
      assert.equal(finished.stdout, '')
    })
  }

  it('refuses an unknown probe, and helps', async () => {
    const [unknown, help] = await Promise.all([runProbe(['htp']), runProbe(['http', '--help'])])
    assert.equal(unknown.code, 2)
    assert.match(unknown.stderr, /^probe: unknown command 'htp'/)
    assert.equal(help.code, 0)
    assert.match(help.stdout, /--connection <kind>/)
    assert.match(help.stdout, /Examples:/)
  })
})

describe('the http probe as a service', () => {
  const running: Running[] = []
  after(() => {
    for (const { child } of running) child.kill('SIGKILL')
  })
  const serve = (args: string[], env: NodeJS.ProcessEnv = {}) => {
    const one = startProbe(['http', '--serve', ...args], env)
    running.push(one)
    return one
  }

  it('feeds the collector every request once, by outcome and phase, and tells down from up', async () => {
    const collector = await startCollector()
    let target = await start(fast)
    const service = serve([
      ...['--url', target.url, '--rate', '50', '--timeout', '300ms'],
      ...['--collector', collector.url, '--service', 'probe-a', '--region', 'us-east-2'],
    ])
    assert.deepEqual(JSON.parse(await service.line(/"ready"/)), { event: 'ready', probe: 'http', url: target.url })
    await collector.until(() => collector.gauge('tickscope_probe_up') === 1)
    await target.stop()
    await service.line(/cannot be reached/)
    await collector.until(() => collector.gauge('tickscope_probe_up') === 0)
    target = await start(fast, { port: target.port })
    await service.line(/answers again/)
    await collector.until(() => collector.gauge('tickscope_probe_up') === 1)
    service.child.kill('SIGTERM')
    const finished = await service.finished
    assert.equal(finished.code, 0, finished.stderr)
    const summary = lastLine(finished)
    assert.equal(summary.event, 'summary')
    assert.equal(summary.acknowledged, true)
    assert.ok(summary.lost > 0)
    assert.deepEqual(collector.resource, { service: 'probe-a', venue: 'kalshi', region: 'us-east-2' })
    const outcomes = collector.counters('tickscope_probe_requests_total', 'outcome')
    assert.equal((outcomes.error ?? 0) + (outcomes.timeout ?? 0), summary.lost)
    assert.equal(outcomes.ok, summary.sent - summary.lost)
    const { total, phases } = summary.http
    const reported = collector.histograms('tickscope_probe_phase_seconds', 'phase')
    assert.equal(reported.total?.count, total.count)
    assert.deepEqual(Object.keys(reported).sort(), ['body', 'service', 'slip', 'tcp', 'total', 'ttfb'])
    for (const phase of ['body', 'service', 'slip', 'ttfb']) {
      assert.equal(reported[phase]?.count, total.count)
      assert.equal(reported[phase]?.quantileNs(0.5), phases[phase].p50Ns)
    }
    assert.equal(
      (reported.slip?.sumNs as number) + (reported.service?.sumNs as number),
      reported.total?.sumNs,
      'slip and service add up to total',
    )
    await collector.stop()
  })

  it('runs on while the venue is away from the start, and says so once', async () => {
    const service = serve(['--url', UNREACHABLE, '--rate', '50'])
    await service.line(/"ready"/)
    await service.line(/^http: http:\/\/127\.0\.0\.1:1 cannot be reached: connect ECONNREFUSED/)
    await new Promise((later) => setTimeout(later, 300))
    service.child.kill('SIGTERM')
    const finished = await service.finished
    assert.equal(finished.code, 0)
    assert.equal(finished.stderr.trimEnd().split('\n').length, 1)
    const summary = lastLine(finished)
    assert.ok(summary.sent > 1)
    assert.equal(summary.lost, summary.sent)
    assert.equal(summary.http.total.count, 0)
  })

  it('ends soon after it is asked to, also while the venue answers nothing', async () => {
    const target = await start(() => {})
    const service = serve(['--url', target.url, '--timeout', '60s'])
    await service.line(/"ready"/)
    while (target.accepted === 0) await new Promise((later) => setTimeout(later, 10))
    const askedAtMs = performance.now()
    service.child.kill('SIGTERM')
    const finished = await service.finished
    assert.equal(finished.code, 0)
    assert.ok(performance.now() - askedAtMs < 30_000, 'well before the timeout of the request')
    assert.deepEqual([lastLine(finished).sent, lastLine(finished).lost], [0, 0])
  })

  it('ends when its parent is gone', async () => {
    const target = await start(fast)
    const service = serve(['--url', target.url], { TICKSCOPE_CHILD: '1' })
    await service.line(/"ready"/)
    service.child.stdin?.end()
    const finished = await service.finished
    assert.equal(finished.code, 0)
    assert.equal(lastLine(finished).event, 'summary')
  })
})
