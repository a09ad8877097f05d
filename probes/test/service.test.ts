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
})
