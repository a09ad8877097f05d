import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { type Agent, type Breach, createAgent } from '../src/index.ts'
import { CollectorStandIn } from './collector.ts'

let collector: CollectorStandIn
let agent: Agent

beforeEach(async () => {
  collector = await new CollectorStandIn().start()
  agent = await createAgent({ service: 'bot', collectorUrl: collector.url, intervalMs: 100, traces: false })
})

afterEach(async () => {
  await agent.stop({ timeoutMs: 0 })
  await collector.stop()
})

/** Holds the thread, as a bot that computes too long. */
function block(ms: number): void {
  const untilMs = performance.now() + ms
  while (performance.now() < untilMs);
}

describe('the runtime', () => {
  it('is reported each interval: CPU, event loop and memory in use, context switches', async () => {
    const ratio = (resource: string) => collector.gauge('tickscope_utilization_ratio', { resource })
    await collector.until(() => ratio('event_loop') !== undefined)
    for (const resource of ['cpu', 'event_loop', 'memory']) {
      const value = ratio(resource) as number
      assert.ok(value > 0 && value <= 1, `${resource} ${value}`)
    }
    const residentBytes = collector.gauge('tickscope_resident_memory_bytes') as number
    assert.ok(residentBytes > 20e6 && residentBytes < 4e9)
    await collector.until(() => collector.counter('tickscope_context_switches_total', { kind: 'voluntary' }) > 0)
  })

  it('shows a stall of the event loop at its full length, and every beat that was due meanwhile', async () => {
    const delays = () => collector.histogram('tickscope_event_loop_delay_seconds')
    await collector.until(() => delays().count > 20)
    block(200)
    await collector.until(() => delays().maxNs >= 190e6)
    assert.ok(delays().count - delays().countAtMost(100e6) >= 90)
  })

  it('shows the pauses of the garbage collector on the thread that trades', async () => {
    const { setFlagsFromString } = await import('node:v8')
    const { runInNewContext } = await import('node:vm')
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    const pauses = () => collector.histogram('tickscope_gc_pause_seconds', { kind: 'major' })
    const before = pauses().count
    for (let i = 0; i < 3; i++) collect()
    await collector.until(() => pauses().count >= before + 3)
    assert.ok(pauses().sumNs > 0)
  })

  it('calls an interval with a resource over 80 % a breach of utilization', async () => {
    const { promise, resolve } = Promise.withResolvers<Breach>()
    agent.onBreach((breach) => {
      if (breach.slo === 'utilization') resolve(breach)
    })
    await collector.until(
      () => collector.gauge('tickscope_utilization_ratio', { resource: 'event_loop' }) !== undefined,
    )
    const busy = setInterval(() => block(60), 1)
    const breach = await promise
    clearInterval(busy)
    assert.equal(breach.cause, 'resource')
    const counted = () => collector.counter('tickscope_breaches_total', { slo: 'utilization', cause: 'resource' })
    await collector.until(() => counted() > 0)
    assert.ok(collector.received.some(({ batch }) => batch.firstBreachAtMs.utilization !== undefined))
  })
})
