import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { type Agent, type AgentOptions, createAgent, ENDPOINT, INSTANT, OUTCOME } from '../src/index.ts'
import { SPANS_PER_INTERVAL } from '../src/tail.ts'
import { attributesOf, CollectorStandIn, type OtlpSpan } from './collector.ts'
import { orderAt, quietTick } from './tick.ts'

let collector: CollectorStandIn
const agents: Agent[] = []

beforeEach(async () => {
  collector = await new CollectorStandIn().start()
})

afterEach(async () => {
  await Promise.all(agents.splice(0).map((agent) => agent.stop({ timeoutMs: 0 })))
  await collector.stop()
})

async function start(options: Partial<AgentOptions> = {}): Promise<Agent> {
  const agent = await createAgent({
    service: 'bot',
    instance: 'one',
    collectorUrl: collector.url,
    intervalMs: 50,
    traces: true,
    log: () => {},
    ...options,
  })
  agents.push(agent)
  return agent
}

const startNs = (span: OtlpSpan) => BigInt(span.startTimeUnixNano)
const endNs = (span: OtlpSpan) => BigInt(span.endTimeUnixNano)

/** Root spans, each with its children in order of time. */
function traces(): { root: OtlpSpan; children: OtlpSpan[] }[] {
  return collector.spans
    .filter(({ parentSpanId }) => !parentSpanId)
    .map((root) => ({
      root,
      children: collector.spans
        .filter(({ parentSpanId, traceId }) => parentSpanId === root.spanId && traceId === root.traceId)
        .sort((a, b) => (startNs(a) < startNs(b) ? -1 : 1)),
    }))
}

/** An order of now whose tick-to-trade is `totalMs`; fractions make each instant a different nanosecond. */
function orderOf(agent: Agent, totalMs: number, rttMs = 1): void {
  const now = performance.now()
  const shares = [0, 0.1, 0.2, 0.45, 0.6, 0.9, 1].map((share) => now + share * totalMs)
  orderAt(agent, [...shares, now + totalMs + rttMs])
}

describe('the traces of an agent', () => {
  for (const inline of [false, true]) {
    it(`show an order over budget with its recorded times to the nanosecond, ${inline ? 'inline' : 'from the worker'}`, async () => {
      const agent = await start({ inline, token: 's3cret', venue: 'kalshi' })
      const beforeMs = Date.now()
      orderOf(agent, 7.000321, 25.5)
      await agent.stop()
      const slow = traces().filter(({ root }) => attributesOf(root)['tickscope.reason'] === 'over_budget')
      assert.equal(slow.length, 1)
      const { root, children } = slow[0] as (typeof slow)[0]
      assert.equal(root.name, 'tick')
      assert.deepEqual(
        children.map(({ name }) => name),
        ['decoded', 'booked', 'decided', 'checked', 'encoded', 'sent', 'api call'],
      )
      // Children tile their parent: each begins where the one before ended.
      let at = startNs(root)
      for (const child of children) {
        assert.equal(startNs(child), at)
        at = endNs(child)
      }
      assert.equal(at, endNs(root))
      const tickToTrade = collector.histogram('tickscope_tick_to_trade_seconds')
      const sent = children.at(-2) as OtlpSpan
      assert.equal(Number(endNs(sent) - startNs(root)), tickToTrade.sumNs)
      assert.ok(Math.abs(Number(startNs(root) / 1_000_000n) - beforeMs) < 1_000)
      const attributes = attributesOf(root)
      assert.equal(attributes['tickscope.breach.processing'], 'unattributed')
      assert.ok(attributes['tickscope.breach.api_rtt'])
      assert.equal(attributes['tickscope.outcome'], 'ok')
      assert.equal(attributesOf(children.at(-1) as OtlpSpan)['tickscope.endpoint'], 'create_order')
      assert.equal(collector.traceResource['service.name'], 'bot')
      assert.equal(collector.traceResource['service.instance.id'], 'one')
      assert.equal(collector.traceResource['tickscope.venue'], 'kalshi')
      for (const headers of collector.traceHeaders) assert.equal(headers.authorization, 'Bearer s3cret')
    })
  }

  it('start at times of their own, children always inside parents', async () => {
    const agent = await start()
    for (let i = 0; i < 100; i++) orderOf(agent, 6 + i / 977)
    await agent.stop()
    const all = traces()
    assert.equal(all.length, 100)
    assert.ok(new Set(collector.spans.map(startNs)).size > 0.95 * 7 * 100)
    for (const { root, children } of all) {
      assert.equal(children.length, 7)
      for (const child of children) assert.ok(startNs(child) >= startNs(root) && endNs(child) <= endNs(root))
    }
  })

  it('are all ticks over budget, the slowest of the interval and a few others, not the rest', async () => {
    const agent = await start({ intervalMs: 60_000 })
    for (let i = 0; i < 500; i++) orderOf(agent, 1 + i / 1000)
    for (let i = 0; i < 3; i++) orderOf(agent, 10 + i)
    const tick = agent.begin(1)
    for (const instant of [INSTANT.decoded, INSTANT.booked, INSTANT.decided])
      agent.markAt(tick, instant, 1 + 3 * instant)
    agent.close(tick, OUTCOME.ok)
    await agent.stop()
    const durationsMs = (reason: string) =>
      traces()
        .filter(({ root }) => attributesOf(root)['tickscope.reason'] === reason)
        .map(({ root, children }) => {
          const last = children.find(({ name }) => name === 'sent') ?? root
          return Math.round(Number(endNs(last) - startNs(root)) / 1e3) / 1e3
        })
        .sort((a, b) => a - b)
    assert.deepEqual(durationsMs('over_budget'), [9, 10, 11, 12])
    assert.deepEqual(durationsMs('slowest'), [1.499])
    const sampled = durationsMs('sample').length
    // Four, of which the slowest may be one.
    assert.ok(sampled >= 3 && sampled <= 4, `${sampled}`)
  })

  it('are counted by what became of them, and what exceeds the bound of an interval is counted as left out', async () => {
    const agent = await start({ intervalMs: 60_000 })
    const orders = SPANS_PER_INTERVAL / 8 + 72
    for (let i = 0; i < orders; i++) orderOf(agent, 6)
    const { dropped } = await agent.stop()
    assert.equal(collector.spans.length, SPANS_PER_INTERVAL)
    assert.equal(collector.counter('tickscope_agent_spans_total', { outcome: 'exported' }), SPANS_PER_INTERVAL)
    assert.equal(collector.counter('tickscope_agent_spans_total', { outcome: 'dropped' }), 72 * 8)
    // No measurement was lost: a trace left out is still in the histograms.
    assert.equal(dropped, 0)
    assert.equal(collector.histogram('tickscope_tick_to_trade_seconds').count, orders)
  })

  it('that nobody takes are counted as failed, and cost no measurement', async () => {
    collector.behaviour = () => ({ status: 200 })
    const agent = await start({ intervalMs: 50 })
    collector.tracesStatus = 400
    orderOf(agent, 6)
    const failed = () => collector.counter('tickscope_agent_spans_total', { outcome: 'failed' })
    await collector.until(() => failed() === 8)
    const { dropped, acknowledged } = await agent.stop()
    assert.deepEqual({ dropped, acknowledged }, { dropped: 0, acknowledged: true })
  })

  it('show a slow API call by itself, and one that failed as an error', async () => {
    const agent = await start()
    const call = agent.call(ENDPOINT.cancel_order)
    agent.mark(call, INSTANT.sent)
    await delay(30)
    agent.close(call, OUTCOME.timeout)
    await agent.stop()
    const [trace] = traces()
    assert.equal(trace?.root.name, 'api call')
    assert.deepEqual(trace?.children, [])
    const attributes = attributesOf(trace?.root as OtlpSpan)
    assert.equal(attributes['tickscope.endpoint'], 'cancel_order')
    assert.equal(attributes['tickscope.outcome'], 'timeout')
    assert.ok(attributes['tickscope.breach.api_rtt'])
    assert.equal(trace?.root.status?.code, 2)
  })

  it('are off when asked, and by default with an inline drain', async () => {
    for (const options of [{ traces: false }, { inline: true, traces: undefined }]) {
      const agent = await start(options)
      orderOf(agent, 50)
      quietTick(agent)
      await agent.stop()
    }
    assert.deepEqual(collector.traceHeaders, [])
    assert.equal(collector.histogram('tickscope_tick_to_trade_seconds').count, 2)
  })
})
