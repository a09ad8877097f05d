/** The probes feed, order and load as services: what the collector is sent is what they counted. */
import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { startAnswerer } from './answerer.ts'
import { startCollector } from './collector.ts'
import { type Simulator, startSimulator } from './simulator.ts'
import { lastLine, type Running, startProbe } from './target.ts'

const PHASES = 'tickscope_probe_phase_seconds'
const OUTCOMES = 'tickscope_probe_requests_total'

describe('a probe as a service', () => {
  const running: Running[] = []
  const simulators: Simulator[] = []
  after(async () => {
    for (const { child } of running) child.kill('SIGKILL')
    for (const simulator of simulators) await simulator.stop()
  })
  const venue = async (...args: string[]) => {
    const started = await startSimulator('--rate', '200', ...args)
    simulators.push(started)
    return started
  }
  const serve = (...args: string[]) => {
    const one = startProbe([...args, '--serve'])
    running.push(one)
    return one
  }
  const end = async (service: Running) => {
    service.child.kill('SIGTERM')
    const ended = await service.finished
    assert.equal(ended.code, 0, ended.stderr)
    const summary = lastLine(ended)
    assert.equal(summary.event, 'summary')
    assert.equal(summary.acknowledged, true)
    return summary
  }

  it('reports the feed: every message, every gap, and up and down', async () => {
    const collector = await startCollector()
    const simulator = await venue('--fault', 'feed-gap=2@1s', '--fault', 'feed-stall@2500ms+2500ms')
    const service = serve('feed', ...simulator.access, '--collector', collector.url, '--clock-offset-bound', '5ms')
    // The clock of the faults starts once the feed is there; until then it is silent.
    await collector.until(() => collector.histograms(PHASES, 'phase').subscribe !== undefined)
    await simulator.start()
    const isUp = (up: number) => collector.until(() => collector.gauge('tickscope_probe_up') === up)
    await isUp(1)
    await isUp(0)
    await isUp(1)
    const summary = await end(service)
    const outcomes = collector.counters(OUTCOMES, 'outcome')
    assert.equal(outcomes.ok, summary.sent - summary.lost)
    assert.equal(outcomes.error, summary.lost)
    assert.ok(summary.lost >= 2)
    const phases = collector.histograms(PHASES, 'phase')
    assert.equal(phases.inter_arrival?.count, (outcomes.ok as number) - 1)
    assert.ok((phases.silent_gap?.count ?? 0) >= 1)
    assert.equal(phases.connect?.count, 1)
    assert.ok((phases.message_age?.count ?? 0) > 0)
    await collector.stop()
  })

  it('reports orders: places, cancels, and each of their four instants', async () => {
    const collector = await startCollector()
    const simulator = await venue()
    await simulator.start()
    const service = serve('order', ...simulator.access, '--rate', '10', '--collector', collector.url)
    await collector.until(() => (collector.counters(OUTCOMES, 'outcome').ok ?? 0) >= 10)
    const summary = await end(service)
    const outcomes = collector.counters(OUTCOMES, 'outcome')
    assert.equal(outcomes.ok, summary.sent - summary.lost)
    const phases = collector.histograms(PHASES, 'phase')
    assert.equal(phases.total?.count, summary.order.total.count)
    assert.equal(phases.place_ack?.count, phases.total?.count)
    assert.equal(phases.total?.sumNs, (phases.slip?.sumNs as number) + (phases.service?.sumNs as number))
    for (const phase of ['place_seen', 'cancel_ack', 'cancel_seen']) assert.ok((phases[phase]?.count ?? 0) > 0, phase)
    const { ordersAccepted, cancelsReceived } = await simulator.stats()
    assert.ok(cancelsReceived >= ordersAccepted, 'all were cancelled')
    await collector.stop()
  })

  it('reports a load: every request once', async () => {
    const collector = await startCollector()
    const server = await startAnswerer({ kind: 'constant', delayMs: 5 })
    const service = serve('load', '--url', server.url, '--rate', '50', '--collector', collector.url)
    await collector.until(() => (collector.counters(OUTCOMES, 'outcome').ok ?? 0) >= 30)
    const summary = await end(service)
    await server.stop()
    assert.equal(collector.counters(OUTCOMES, 'outcome').ok, summary.sent)
    const phases = collector.histograms(PHASES, 'phase')
    assert.equal(phases.total?.count, summary.sent)
    assert.equal(phases.total?.quantileNs(0.5), summary.load.total.p50Ns)
    assert.equal((phases.ttfb?.sumNs as number) + (phases.body?.sumNs as number), phases.service?.sumNs)
    await collector.stop()
  })

  /** Ends a service that says how many runs it finished. */
  const endRuns = async (service: Running) => {
    service.child.kill('SIGTERM')
    const ended = await service.finished
    assert.equal(ended.code, 0, ended.stderr)
    assert.doesNotMatch(ended.stderr, /did not acknowledge/)
    return lastLine(ended) as { event: string; runs: number }
  }

  it('reports runtimes: every order of every run, its parts adding up', async () => {
    const collector = await startCollector()
    const flags = ['--runtimes', 'node', '--rounds', '1', '--count', '20', '--warm-up', '2', '--key-type', 'ed25519']
    const service = serve('runtime', ...flags, '--every', '100ms', '--collector', collector.url)
    const orders = () => collector.histograms('tickscope_runtime_order_seconds', 'part')
    // Orders of a third run: the first two have ended.
    await collector.until(() => (orders().total?.count ?? 0) >= 60)
    const { event, runs } = await endRuns(service)
    assert.equal(event, 'summary')
    assert.ok(runs >= 2)
    const { client, io, service: whole, total } = orders()
    assert.ok(client && io && whole && total)
    // A run that was stopped in its middle is in the collector and not among those finished.
    assert.ok(total.count >= runs * 20 && total.count % 20 === 0)
    assert.equal(client.sumNs + io.sumNs, whole.sumNs)
    assert.ok(total.sumNs >= whole.sumNs)
    await collector.stop()
  })

  it('goes on after a run that was not possible once one was, and says how many failed', async () => {
    const collector = await startCollector()
    const simulator = await startSimulator()
    const flags = ['--runtimes', 'node', '--rounds', '1', '--count', '5', '--warm-up', '0', '--every', '100ms']
    const service = serve('runtime', ...simulator.access, ...flags, '--collector', collector.url)
    const orders = () => collector.histograms('tickscope_runtime_order_seconds', 'part').total?.count ?? 0
    // Orders of a second run: the first was possible.
    await collector.until(() => orders() >= 10)
    await simulator.stop()
    await service.line(/^runtime: a run failed: /)
    service.child.kill('SIGTERM')
    const ended = await service.finished
    assert.equal(ended.code, 0, ended.stderr)
    const { runs, failed } = lastLine(ended)
    assert.ok(failed >= 1 && runs >= 1, `${failed} of ${runs}`)
    await collector.stop()
  })

  it('ends when its first run is not possible', async () => {
    const flags = ['--url', 'http://127.0.0.1:1', '--key-id', 'a', '--key-file', '/nowhere/key.pem']
    const ended = await serve('runtime', ...flags).finished
    assert.deepEqual([ended.code, ended.stderr], [2, 'probe: --key-file /nowhere/key.pem cannot be read: ENOENT\n'])
  })

  it('reports codecs: medians and sizes of the last run', async () => {
    const collector = await startCollector()
    const service = serve('codec', '--rounds', '5', '--no-peer', '--every', '100ms', '--collector', collector.url)
    await collector.until(() => collector.gauge('tickscope_codec_message_bytes') !== undefined)
    const { runs } = await endRuns(service)
    assert.ok(runs >= 1)
    const seconds = collector.gauge('tickscope_codec_operation_seconds') ?? 0
    assert.ok(seconds > 1e-9 && seconds < 1e-2, `${seconds} s`)
    assert.ok((collector.gauge('tickscope_codec_signature_seconds') ?? 0) > 1e-7)
    await collector.stop()
  })

  it('and no result are asked for together', async () => {
    for (const probe of ['codec', 'runtime']) {
      const ended = await serve(probe, '--json').finished
      assert.equal(ended.code, 2)
      assert.match(ended.stderr, /--serve prints no result: leave out --json\n$/)
    }
    const judged = await serve('jitter', '--budget', '1ms').finished
    assert.equal(judged.code, 2)
    assert.match(judged.stderr, /leave out --budget\n$/)
  })
})
