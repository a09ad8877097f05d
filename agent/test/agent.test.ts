import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { DEFAULT_SLOS, ORDER_STAGES } from '@tickscope/contract'
import { type Agent, type AgentOptions, type Breach, createAgent, ENDPOINT, INSTANT, OUTCOME } from '../src/index.ts'
import { CollectorStandIn } from './collector.ts'
import { answer, orderAt, orderTick, quietTick } from './tick.ts'

let collector: CollectorStandIn
const agents: Agent[] = []
const said: string[] = []

beforeEach(async () => {
  said.length = 0
  collector = await new CollectorStandIn().start()
})

afterEach(async () => {
  await Promise.all(agents.splice(0).map((agent) => agent.stop({ timeoutMs: 0 })))
  await collector.stop()
})

async function start(options: Partial<AgentOptions> = {}): Promise<Agent> {
  const agent = await createAgent({
    service: 'bot',
    collectorUrl: collector.url,
    intervalMs: 50,
    traces: false,
    log: (message) => said.push(message),
    ...options,
  })
  agents.push(agent)
  return agent
}

/** Σ of the stages of orders at the collector, ns. */
function stageSumNs(): number {
  return ORDER_STAGES.map(
    (stage) => collector.histogram('tickscope_stage_seconds', { stage, outcome: 'order' }).sumNs,
  ).reduce((sum, ns) => sum + ns, 0)
}

for (const inline of [false, true]) {
  describe(`the agent, drained ${inline ? 'inline' : 'by its worker'}`, () => {
    it('delivers every tick, order and call exactly once, stages adding up to tick-to-trade', async () => {
      const agent = await start({ inline })
      for (let round = 0; round < 20; round++) {
        for (let i = 0; i < 90; i++) quietTick(agent)
        const orders = Array.from({ length: 10 }, () => orderTick(agent))
        await delay(5)
        for (const order of orders) answer(agent, order)
        const call = agent.call(ENDPOINT.cancel_order)
        agent.mark(call, INSTANT.sent)
        answer(agent, call, OUTCOME.rejected)
      }
      const result = await agent.stop()
      assert.deepEqual(said, [])
      assert.deepEqual(result, {
        acknowledged: true,
        dropped: 0,
        batches: collector.received.length,
        refused: 0,
        spilled: 0,
      })
      assert.equal(collector.counter('tickscope_ticks_total', { outcome: 'quiet' }), 1800)
      assert.equal(collector.counter('tickscope_ticks_total', { outcome: 'order' }), 200)
      assert.equal(collector.histogram('tickscope_tick_to_decision_seconds').count, 1800)
      const tickToTrade = collector.histogram('tickscope_tick_to_trade_seconds')
      assert.equal(tickToTrade.count, 200)
      assert.equal(stageSumNs(), tickToTrade.sumNs)
      const rtt = (endpoint: string, outcome: string) =>
        collector.histogram('tickscope_api_rtt_seconds', { endpoint, outcome })
      assert.equal(rtt('create_order', 'ok').count, 200)
      assert.ok(rtt('create_order', 'ok').quantileNs(0) > 1e6)
      assert.equal(rtt('cancel_order', 'rejected').count, 20)
    })

    it('counts what a full ring could not take, live and at the collector, and delivers the rest', async () => {
      const agent = await start({ inline, ringSlots: 64, loopSampleMs: 0 })
      for (let i = 0; i < 10_000; i++) quietTick(agent)
      assert.ok(agent.dropped > 0)
      const { dropped } = await agent.stop()
      assert.equal(dropped, agent.dropped)
      assert.equal(collector.counter('tickscope_agent_dropped_total', { reason: 'ring_full' }), dropped)
      assert.equal(collector.counter('tickscope_ticks_total', { outcome: 'quiet' }) + dropped, 10_000)
    })

    it('takes series of any metric of the catalogue, however soon after they were named', async () => {
      const agent = await start({ inline })
      const phases = ['dns', 'tcp', 'tls', 'ttfb', 'total']
      for (const [i, phase] of phases.entries()) {
        const series = agent.series('tickscope_probe_phase_seconds', { probe: 'http', phase })
        agent.record(series, 1000 * (i + 1))
        assert.equal(agent.series('tickscope_probe_phase_seconds', { phase, probe: 'http' }), series)
      }
      const requests = agent.series('tickscope_probe_requests_total', { probe: 'http', outcome: 'ok' })
      agent.count(requests)
      agent.count(requests, 4)
      const up = agent.series('tickscope_probe_up', { probe: 'http' })
      agent.set(up, 0)
      agent.set(up, 1)
      const { dropped } = await agent.stop()
      assert.equal(dropped, 0)
      for (const [i, phase] of phases.entries()) {
        const histogram = collector.histogram('tickscope_probe_phase_seconds', { probe: 'http', phase })
        assert.deepEqual([histogram.count, histogram.sumNs], [1, 1000 * (i + 1)])
      }
      assert.equal(collector.counter('tickscope_probe_requests_total', { probe: 'http', outcome: 'ok' }), 5)
      assert.equal(collector.gauge('tickscope_probe_up', { probe: 'http' }), 1)
    })

    it('says once that a series does not fit the catalogue, and counts what it is given for it', async () => {
      const agent = await start({ inline })
      const wrong = agent.series('tickscope_probe_phase_seconds', { probe: 'http', phase: 'lunch' })
      agent.series('tickscope_probe_phase_seconds', { probe: 'http', phase: 'lunch' })
      const unknown = agent.series('tickscope_lunch_total' as never)
      agent.record(wrong, 1)
      agent.count(unknown)
      agent.set(agent.series('tickscope_probe_requests_total', { probe: 'http', outcome: 'ok' }), 1)
      assert.equal((await agent.stop()).dropped, 3)
      assert.equal(collector.counter('tickscope_agent_dropped_total', { reason: 'series_limit' }), 3)
      assert.deepEqual(said, [
        "a series is not recorded: label phase cannot be 'lunch'",
        'a series is not recorded: no metric is called tickscope_lunch_total',
      ])
    })

    it('tells the bot of a slow answer while it runs, and the collector when the first was', async () => {
      const agent = await start({ inline })
      const breaches: Breach[] = []
      const { promise, resolve } = Promise.withResolvers<void>()
      agent.onBreach(() => {
        throw new Error('a listener of the bot that fails')
      })
      agent.onBreach((breach) => {
        breaches.push(breach)
        resolve()
      })
      const beforeMs = Date.now()
      const order = orderTick(agent)
      await delay(120)
      answer(agent, order)
      const afterMs = Date.now()
      await promise
      const [breach] = breaches as [Breach]
      assert.equal(breach.slo, 'api_rtt')
      assert.ok(breach.durationNs >= 115e6)
      assert.ok(breach.atMs >= beforeMs + 115 && breach.atMs <= afterMs + 2, `${breach.atMs} ${beforeMs} ${afterMs}`)
      await agent.stop()
      assert.equal(collector.counter('tickscope_breaches_total', { slo: 'api_rtt', cause: breach.cause }), 1)
      const firsts = collector.received.flatMap(({ batch }) => batch.firstBreachAtMs.api_rtt ?? [])
      assert.deepEqual(firsts, [breach.atMs])
      assert.deepEqual(said, ['a breach listener threw: a listener of the bot that fails'])
    })

    it('counts slots still open at stop as incomplete, and stops once however often it is asked', async () => {
      const agent = await start({ inline })
      orderTick(agent)
      agent.begin(1)
      const [first, second] = await Promise.all([agent.stop(), agent.stop()])
      assert.equal(first, second)
      assert.equal(first.dropped, 2)
      assert.equal(collector.counter('tickscope_agent_dropped_total', { reason: 'incomplete' }), 2)
    })

    it('takes every call after stop without effect', async () => {
      const agent = await start({ inline })
      await agent.stop()
      const order = orderTick(agent)
      answer(agent, order)
      agent.record(agent.series('tickscope_probe_phase_seconds', { probe: 'http', phase: 'dns' }), 1)
      agent.onBreach(() => {})
      assert.ok(agent.dropped > 0)
    })
  })
}

describe('the cause of a breach', () => {
  const slos = {
    ...DEFAULT_SLOS,
    processing: { ...DEFAULT_SLOS.processing, thresholdNs: 1_000_000 },
  }

  /** The first breach of what `work` does. */
  async function breachOf(work: (agent: Agent) => void | Promise<void>): Promise<Breach> {
    const agent = await start({ slos })
    const { promise, resolve } = Promise.withResolvers<Breach>()
    agent.onBreach((breach) => {
      if (breach.slo !== 'utilization') resolve(breach)
    })
    // The loop has come round since the start.
    await delay(10)
    await work(agent)
    return promise
  }

  it('is the collector when it ran during the tick', async () => {
    const { setFlagsFromString } = await import('node:v8')
    const { runInNewContext } = await import('node:vm')
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    const breach = await breachOf((agent) => {
      const tick = agent.begin(performance.now())
      for (let i = 0; i < 5; i++) collect()
      for (const instant of [INSTANT.decoded, INSTANT.booked, INSTANT.decided]) agent.mark(tick, instant)
      const order = agent.order(tick)
      for (const instant of [INSTANT.checked, INSTANT.encoded, INSTANT.sent]) agent.mark(order, instant)
      agent.close(tick, OUTCOME.ok)
      answer(agent, order)
    })
    assert.deepEqual([breach.slo, breach.cause], ['processing', 'gc'])
  })

  it('is the event loop when the bot was busy while the answer waited', async () => {
    const breach = await breachOf((agent) => {
      const order = orderTick(agent)
      const untilMs = performance.now() + 40
      while (performance.now() < untilMs);
      answer(agent, order)
    })
    assert.deepEqual([breach.slo, breach.cause], ['api_rtt', 'event_loop'])
  })

  it('is the venue when the bot was idle and the answer late', async () => {
    const agent = await start()
    const causes: string[] = []
    agent.onBreach(({ slo, cause }) => {
      if (slo === 'api_rtt') causes.push(cause)
    })
    // On a machine busy with others the loop may truly have been kept from running: then it is asked again.
    for (let attempt = 1; attempt <= 20 && !causes.includes('venue'); attempt++) {
      const order = orderTick(agent)
      await delay(60)
      answer(agent, order)
      while (causes.length < attempt) await delay(5)
    }
    assert.ok(causes.includes('venue'), causes.join())
  })
})

describe('a batch', () => {
  it('names the agent, counts from 1 without holes, and abuts the one before', async () => {
    const agent = await start({
      instance: 'one',
      venue: 'kalshi',
      region: 'us-east-2',
      route: 'direct',
      token: 's3cret',
    })
    await collector.until(() => collector.received.length >= 3)
    await agent.stop()
    const batches = collector.received.map(({ batch }) => batch)
    assert.deepEqual(
      batches.map(({ sequence }) => sequence),
      batches.map((_, i) => i + 1),
    )
    assert.equal(new Set(batches.map(({ epoch }) => epoch)).size, 1)
    for (const [i, { agent: id, resource, intervalStartMs, intervalEndMs }] of batches.entries()) {
      assert.equal(id, 'bot:one')
      assert.deepEqual(resource, {
        service: 'bot',
        instance: 'one',
        venue: 'kalshi',
        region: 'us-east-2',
        route: 'direct',
      })
      assert.equal(intervalStartMs, batches[i - 1]?.intervalEndMs ?? intervalStartMs)
      assert.ok(intervalEndMs >= intervalStartMs)
    }
    for (const { headers } of collector.received) assert.equal(headers.authorization, 'Bearer s3cret')
  })

  it('counts an order over each of its budgets once, exactly at the bucket bound', async () => {
    const agent = await start()
    const fast = [10, 11, 12, 13, 14, 14.5, 15, 35]
    const slow = [10, 11, 12, 13, 14, 14.5, 15.000001, 35.000002]
    for (const instantsMs of [fast, slow, slow]) orderAt(agent, instantsMs)
    await agent.stop()
    const tickToTrade = collector.histogram('tickscope_tick_to_trade_seconds')
    assert.deepEqual([tickToTrade.countAtMost(5_000_000), tickToTrade.count], [1, 3])
    const rtt = collector.histogram('tickscope_api_rtt_seconds', { endpoint: 'create_order', outcome: 'ok' })
    assert.deepEqual([rtt.countAtMost(20_000_000), rtt.count], [1, 3])
    const breaches = (slo: string, cause: string) => collector.counter('tickscope_breaches_total', { slo, cause })
    assert.equal(breaches('processing', 'unattributed'), 2)
    assert.equal(breaches('api_rtt', 'venue'), 2)
  })
})
