import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Account } from '../../src/sim/account.ts'
import { Crowd, CrowdModel } from '../../src/sim/crowd.ts'
import { Engine } from '../../src/sim/engine.ts'
import { startSimulator, until } from './fixture.ts'

/** A crowd on an engine of its own, in the crowd's own time. */
function watch(seed: number, options = { markets: 4, ratePerSecond: 100 }) {
  const log: string[] = []
  /** When each message of `log` was caused, ms. */
  const atMs: number[] = []
  let nowMs = 0
  let trades = 0
  let ids = 0
  const note = (text: string) => {
    log.push(text)
    atMs.push(nowMs)
  }
  const engine = new Engine({
    newId: () => `${++ids}`,
    sink: {
      level: (market, side, priceTicks, delta) => note(`${market.spec.title} ${side} ${priceTicks} ${delta}`),
      trade: ({ priceTicks, count }) => {
        trades++
        note(`trade ${priceTicks} ${count}`)
      },
      fill: () => {},
      order: () => {},
    },
  })
  const crowd = new CrowdModel(engine, seed, options)
  const runTo = (ms: number) => {
    while (crowd.nextMs < ms) {
      nowMs = crowd.nextMs
      crowd.step(nowMs)
    }
  }
  return { engine, crowd, log, atMs, trades: () => trades, runTo }
}

describe('the crowd', () => {
  it('does the same in every run of one seed, and something else with another', () => {
    const [a, b, c] = [watch(1), watch(1), watch(2)]
    for (const one of [a, b, c]) one.runTo(20_000)
    assert.ok(a.log.length > 500)
    assert.deepEqual([a.log, a.atMs], [b.log, b.atMs])
    assert.notDeepEqual(a.log.slice(0, 500), c.log.slice(0, 500))
  })

  it('keeps the average rate it was given, whatever the rate and the number of markets', () => {
    for (const { seconds, ...options } of [
      { markets: 4, ratePerSecond: 100, seconds: 1_000 },
      { markets: 1, ratePerSecond: 50, seconds: 2_000 },
      { markets: 12, ratePerSecond: 1_000, seconds: 200 },
    ]) {
      const one = watch(3, options)
      const before = one.log.length
      one.runTo(seconds * 1_000)
      const share = (one.log.length - before) / seconds / options.ratePerSecond
      assert.ok(share > 0.8 && share < 1.25, `${share} of ${options.ratePerSecond}`)
    }
  })

  it('comes in bursts, with silences between them, as recorded traffic does', () => {
    const one = watch(4)
    const from = one.atMs.length
    one.runTo(1_200_000)
    const gaps = one.atMs.slice(from + 1).map((ms, i) => ms - (one.atMs[from + i] as number))
    gaps.sort((a, b) => a - b)
    const at = (share: number) => gaps[Math.floor(share * gaps.length)] as number
    // Recorded KXBTC15M by venue time: 35 % zero, p50 1.3, p90 27, p99 133 ms. A metronome would have 10 everywhere.
    assert.equal(at(0.25), 0)
    assert.ok(at(0.5) > 0.3 && at(0.5) < 4, `p50 ${at(0.5)}`)
    assert.ok(at(0.9) > 15 && at(0.9) < 45, `p90 ${at(0.9)}`)
    assert.ok(at(0.99) > 80 && at(0.99) < 300, `p99 ${at(0.99)}`)
  })

  it('keeps two-sided books a few cents wide, never crossed, of a bounded size, and trades', () => {
    const one = watch(5)
    const spreads: number[] = []
    for (let second = 1; second <= 600; second++) {
      one.runTo(second * 1_000)
      for (const { market, resting } of one.crowd.markets) {
        const { bids, asks } = market.book
        assert.ok(bids.best && asks.best && bids.best.priceTicks < asks.best.priceTicks)
        spreads.push((asks.best.priceTicks - bids.best.priceTicks) / 100)
        assert.ok(resting.length < 400)
        assert.ok([...bids.levels()].length > 2 && [...asks.levels()].length > 2)
      }
    }
    spreads.sort((a, b) => a - b)
    assert.ok((spreads[Math.floor(spreads.length / 2)] as number) <= 3)
    assert.ok(one.trades() > 600, `${one.trades()} trades in ten minutes`)
  })

  it('fills the quotes of somebody else, and moves enough to make that a risk', () => {
    const one = watch(6)
    const market = one.crowd.markets[1]?.market
    assert.ok(market)
    const quoter = new Account({ id: 'q', userId: 'q', balanceMicros: 1e12 })
    const prices = new Set<number>()
    for (let second = 1; second <= 300; second++) {
      one.runTo(second * 1_000)
      one.engine.cancelAll(quoter, second * 1_000)
      for (const side of ['bid', 'ask'] as const) {
        const best = market.book.ladder(side).best
        if (!best) continue
        if (side === 'bid') prices.add(best.priceTicks)
        one.engine.create(
          quoter,
          {
            ticker: market.spec.ticker,
            side,
            priceTicks: best.priceTicks,
            count: 1_000,
            timeInForce: 'good_till_canceled',
            selfTradePrevention: 'maker',
          },
          second * 1_000,
        )
      }
    }
    const sides = new Set(quoter.fills.map(({ order }) => order.side))
    assert.ok(quoter.fills.length > 10, `${quoter.fills.length} fills`)
    assert.equal(sides.size, 2)
    assert.ok(prices.size >= 5, `${prices.size} prices in five minutes`)
  })

  it('runs in real time, tells tickers, stops when paused and goes on', async (t) => {
    const sim = await startSimulator({
      createFlow: (context) => new Crowd(context, { markets: 2, ratePerSecond: 400 }),
    })
    t.after(() => sim.stop())
    const feed = await sim.as('alice').feed()
    await feed.subscribe('orderbook_delta', [...sim.simulator.flow.tickers])
    await feed.subscribe('ticker')
    assert.equal(feed.messages.filter(({ type }) => type === 'orderbook_delta').length, 0, 'held')
    sim.simulator.start()
    await feed.wait(({ type }) => type === 'orderbook_delta', 100)
    await feed.wait(({ type }) => type === 'ticker', 2)
    sim.simulator.pause()
    await until(() => sim.feed.queued === 0, 'the feed to drain')
    const { events } = sim.simulator.stats().flow as { events: number }
    const { ticksDelivered } = sim.simulator.stats()
    await until(
      () => feed.messages.filter(({ type }) => /^(orderbook_|ticker|trade)/.test(type)).length === ticksDelivered,
      'all is read',
    )
    assert.equal((sim.simulator.stats().flow as { events: number }).events, events)
    sim.simulator.start()
    await until(() => (sim.simulator.stats().flow as { events: number }).events > events, 'it goes on')
  })
})
