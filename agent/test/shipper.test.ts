import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { type Agent, type AgentOptions, createAgent } from '../src/index.ts'
import { CollectorStandIn } from './collector.ts'
import { answer, orderTick, quietTick } from './tick.ts'

let collector: CollectorStandIn
let dir: string
const agents: Agent[] = []
const said: string[] = []

beforeEach(async () => {
  said.length = 0
  dir = mkdtempSync(join(tmpdir(), 'tickscope-agent-'))
  collector = await new CollectorStandIn().start()
})

afterEach(async () => {
  await Promise.all(agents.splice(0).map((agent) => agent.stop({ timeoutMs: 0 })))
  await collector.stop()
  rmSync(dir, { recursive: true })
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

/** Trades for a while: `rounds` times nine quiet ticks and one with an order. @returns the orders made */
async function trade(agent: Agent, rounds: number): Promise<number> {
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < 9; i++) quietTick(agent)
    answer(agent, orderTick(agent))
    await delay(2)
  }
  return rounds
}

/** What the collector has counted: ticks, orders, round trips. */
function counted(): { ticks: number; orders: number; roundTrips: number } {
  const ticks = (outcome: string) => collector.counter('tickscope_ticks_total', { outcome })
  return {
    ticks: ticks('quiet') + ticks('order'),
    orders: collector.histogram('tickscope_tick_to_trade_seconds').count,
    roundTrips: collector.histogram('tickscope_api_rtt_seconds', { endpoint: 'create_order', outcome: 'ok' }).count,
  }
}

const allOf = (orders: number) => ({ ticks: orders * 10, orders, roundTrips: orders })

for (const inline of [false, true]) {
  describe(`shipping ${inline ? 'inline' : 'from the worker'}`, () => {
    it('loses no count while the collector is down, for longer than many intervals', async () => {
      const agent = await start({ inline })
      let orders = await trade(agent, 20)
      await collector.until(() => collector.received.length > 0)
      await collector.stop()
      const before = collector.received.length
      orders += await trade(agent, 200)
      await collector.start()
      orders += await trade(agent, 20)
      const { acknowledged, dropped } = await agent.stop()
      assert.deepEqual({ acknowledged, dropped }, { acknowledged: true, dropped: 0 })
      assert.deepEqual(counted(), allOf(orders))
      // One batch was frozen, all later intervals merged behind it: the outage of eight intervals or more made two.
      assert.ok(collector.received.length - before < 8, `${collector.received.length - before} batches`)
      assert.equal(said.filter((line) => line.includes('does not take batches')).length, 1)
      assert.equal(said.filter((line) => line.includes('takes batches again')).length, 1)
    })

    it('keeps unacknowledged batches on disk at stop, and the next agent delivers them first, once', async () => {
      const first = await start({ inline, spillDir: dir })
      let orders = await trade(first, 20)
      await collector.until(() => collector.received.length > 0)
      // The next batch is taken, but its answer never arrives; then the collector is gone.
      const { promise: taken, resolve } = Promise.withResolvers<void>()
      collector.behaviour = () => {
        resolve()
        return undefined
      }
      await taken
      await collector.stop()
      orders += await trade(first, 50)
      const stopped = await first.stop({ timeoutMs: 200 })
      assert.equal(stopped.acknowledged, false)
      assert.equal(stopped.spilled, 2)
      assert.equal(readdirSync(dir).length, 2)

      collector.behaviour = () => ({ status: 200 })
      await collector.start()
      const before = collector.received.length
      const second = await start({ inline, spillDir: dir })
      orders += await trade(second, 5)
      assert.equal((await second.stop()).acknowledged, true)
      assert.deepEqual(counted(), allOf(orders))
      assert.deepEqual(readdirSync(dir), [])
      const epochs = collector.received.slice(before).map(({ batch }) => batch.epoch)
      assert.equal(epochs[0], epochs[1])
      assert.ok(epochs.length > 2 && !epochs.slice(2).includes(epochs[0] as string))
      assert.equal(collector.received[before]?.applied, false)
      assert.equal(collector.received[before + 1]?.applied, true)
    })
  })
}

describe('a batch in flight', () => {
  it('sends the very same bytes again until they are acknowledged', async () => {
    const bodies: string[] = []
    collector.behaviour = ({ body, batch }) => {
      if (batch.sequence === 1) bodies.push(body)
      return { status: bodies.length < 4 ? 503 : 200, headers: { 'retry-after': '0' } }
    }
    const agent = await start()
    const orders = await trade(agent, 50)
    assert.equal((await agent.stop()).acknowledged, true)
    assert.equal(bodies.length, 4)
    assert.equal(new Set(bodies).size, 1)
    assert.deepEqual(counted(), allOf(orders))
  })

  it('is applied once when the answer was lost after the batch was taken', async () => {
    const cut = new Set<number>()
    collector.behaviour = ({ batch: { sequence } }) => {
      if (sequence % 2 === 0 || cut.has(sequence)) return { status: 200 }
      cut.add(sequence)
      return undefined
    }
    const agent = await start()
    const orders = await trade(agent, 60)
    assert.equal((await agent.stop()).acknowledged, true)
    const twice = collector.received.filter(({ applied }) => !applied)
    assert.equal(twice.length, cut.size)
    for (const { batch, body } of twice) {
      assert.deepEqual(
        collector.received.filter((it) => it.batch.sequence === batch.sequence).map((it) => it.body),
        [body, body],
      )
    }
    assert.deepEqual(counted(), allOf(orders))
  })

  it('is applied once when the answer comes after the agent gave up on it', async () => {
    let late = 0
    collector.behaviour = async ({ batch: { sequence } }) => {
      if (sequence === 1 && late++ === 0) await delay(300)
      return { status: 200 }
    }
    const agent = await start({ requestTimeoutMs: 100 })
    const orders = await trade(agent, 50)
    assert.equal((await agent.stop()).acknowledged, true)
    await collector.until(() => collector.received.filter(({ batch }) => batch.sequence === 1).length >= 2)
    assert.deepEqual(counted(), allOf(orders))
  })

  it('does not press a batch on a collector that refuses it: says so once, counts it and goes on', async () => {
    collector.behaviour = ({ batch: { sequence } }) =>
      sequence <= 2 ? { status: 400, body: 'batch: top level: no' } : { status: 200 }
    const agent = await start()
    await collector.until(() => collector.received.length > 0)
    const orders = await trade(agent, 10)
    const { acknowledged, refused } = await agent.stop()
    assert.deepEqual({ acknowledged, refused }, { acknowledged: false, refused: 2 })
    assert.deepEqual(said, [`collector ${collector.url} refused a batch: 400 batch: top level: no`])
    assert.deepEqual(counted(), allOf(orders))
    assert.equal(collector.received[0]?.batch.sequence, 3)
  })

  it('tries again what was answered 408, 429 or 5xx', async () => {
    const statuses = [408, 429, 502]
    collector.behaviour = () => ({ status: statuses.shift() ?? 200 })
    const agent = await start()
    const orders = await trade(agent, 10)
    assert.equal((await agent.stop()).acknowledged, true)
    assert.deepEqual(statuses, [])
    assert.deepEqual(counted(), allOf(orders))
  })
})

describe('an agent whose collector never existed', () => {
  it('does not hold up the bot, says so once, and stops when its time is over', async () => {
    await collector.stop()
    const agent = await start()
    const orders = await trade(agent, 100)
    assert.equal(agent.dropped, 0)
    const before = performance.now()
    const result = await agent.stop({ timeoutMs: 300 })
    assert.ok(performance.now() - before < 300 + 5_000)
    assert.deepEqual(result, { acknowledged: false, dropped: 0, batches: 0, refused: 0, spilled: 0 })
    assert.equal(orders, 100)
    assert.equal(said.length, 2)
    assert.match(said[0] as string, /does not take batches: ECONNREFUSED; measurements are kept/)
    assert.match(said[1] as string, /stopped before 2 batches were acknowledged/)
    await collector.start()
  })
})

describe('the spill directory', () => {
  it('leaves alone what is no batch of its own, and what a collector never answered for', async () => {
    writeFileSync(join(dir, 'notes.txt'), 'mine')
    collector.behaviour = () => ({ status: 503 })
    const agent = await start({ spillDir: dir })
    quietTick(agent)
    await agent.stop({ timeoutMs: 100 })
    const files = readdirSync(dir).filter((name) => name !== 'notes.txt')
    assert.ok(files.length > 0)
    const contents = files.map((name) => readFileSync(join(dir, name), 'utf8'))
    const next = await start({ spillDir: dir })
    await next.stop({ timeoutMs: 100 })
    for (const [i, name] of files.entries()) assert.equal(readFileSync(join(dir, name), 'utf8'), contents[i])
    assert.equal(readFileSync(join(dir, 'notes.txt'), 'utf8'), 'mine')
  })

  it('keeps everything at a stop that leaves no time at all', async () => {
    const agent = await start({ spillDir: dir, intervalMs: 60_000 })
    const orders = await trade(agent, 10)
    assert.equal((await agent.stop({ timeoutMs: 0 })).spilled, 1)
    const next = await start({ spillDir: dir })
    await next.stop()
    assert.deepEqual(counted(), allOf(orders))
  })
})
