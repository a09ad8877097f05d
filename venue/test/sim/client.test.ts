/** The project's own client against the simulator: what one says the other understands. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  type BookLevel,
  createFeed,
  createRest,
  type FeedMessage,
  isMarketData,
  resolveEnvironment,
  type Signer,
} from '../../src/kalshi/index.ts'
import { Crowd } from '../../src/sim/crowd.ts'
import { SIGNERS, startSimulator, until } from './fixture.ts'

/** Books by ticker and side, as the feed tells them. */
class Books {
  readonly #levels = new Map<string, Map<number, number>>()

  hear(message: FeedMessage): void {
    if (message.type === 'orderbook_snapshot') {
      for (const side of ['yes', 'no'] as const) {
        const levels = message[side].map(({ priceTicks, countHundredths }) => [priceTicks, countHundredths] as const)
        this.#levels.set(`${message.marketTicker} ${side}`, new Map(levels))
      }
    } else if (message.type === 'orderbook_delta') {
      const levels = this.#levels.get(`${message.marketTicker} ${message.side}`)
      const left = (levels?.get(message.priceTicks) ?? 0) + message.deltaHundredths
      if (left === 0) levels?.delete(message.priceTicks)
      else levels?.set(message.priceTicks, left)
    }
  }

  side(ticker: string, side: 'yes' | 'no'): BookLevel[] {
    return [...(this.#levels.get(`${ticker} ${side}`) ?? [])]
      .map(([priceTicks, countHundredths]) => ({ priceTicks, countHundredths }))
      .sort((a, b) => a.priceTicks - b.priceTicks)
  }
}

describe('the client against the simulator', () => {
  it('trades, hears of it, and agrees on every book, tick and fill, through a gap and a lost connection', async (t) => {
    const sim = await startSimulator({
      createFlow: (context) => new Crowd(context, { markets: 3, ratePerSecond: 600 }),
      faults: ['feed-gap=2@300ms', 'disconnect@700ms'],
    })
    t.after(() => sim.stop())
    const { restOrigin, feedOrigin } = resolveEnvironment(sim.url)
    const signer = SIGNERS.alice as Signer
    const rest = createRest({ origin: restOrigin, signer })
    t.after(() => rest.stop())
    const { items: markets } = await rest.markets({ status: 'open' })
    const tickers = markets.map(({ ticker }) => ticker)

    const books = new Books()
    const heard: FeedMessage[] = []
    const feed = createFeed(
      { origin: feedOrigin, signer, marketTickers: tickers, reconnectMinMs: 10 },
      {
        onEvent: (message) => {
          heard.push(message)
          books.hear(message)
        },
      },
    )
    t.after(() => feed.stop())
    await feed.start()
    sim.simulator.start()
    await until(() => feed.stats.gaps >= 1, 'the gap')
    await until(() => feed.stats.reconnects >= 1, 'the lost connection')
    await until(
      () => heard.filter(({ type }) => type === 'orderbook_snapshot').length >= 3 * tickers.length,
      'new books',
    )

    const market = markets[1]
    assert.ok(market?.exchangeIndex !== undefined)
    const { ticker, exchangeIndex } = market
    const common = { ticker, exchangeIndex, countHundredths: 100, selfTradePrevention: 'taker_at_cross' } as const
    const taken = await rest.createOrder({
      ...common,
      side: 'bid',
      priceTicks: 9_900,
      timeInForce: 'immediate_or_cancel',
      clientOrderId: 'taker',
    })
    assert.ok(taken.outcome === 'ok' && taken.value.fillCountHundredths === 100, JSON.stringify(taken))
    const resting = await rest.createOrder({
      ...common,
      side: 'bid',
      priceTicks: 100,
      timeInForce: 'good_till_canceled',
      clientOrderId: 'maker',
      postOnly: true,
    })
    assert.ok(resting.outcome === 'ok', JSON.stringify(resting))
    const { orderId } = resting.value
    const again = await rest.createOrder({
      ...common,
      side: 'bid',
      priceTicks: 100,
      timeInForce: 'good_till_canceled',
      clientOrderId: 'maker',
    })
    assert.ok(again.outcome === 'rejected' && again.error.code === 'order_already_exists', JSON.stringify(again))
    assert.equal((await rest.getOrder(orderId)).status, 'resting')
    const cancelled = await rest.cancelOrder({ orderId, exchangeIndex })
    assert.ok(cancelled.outcome === 'ok' && cancelled.value.reducedByHundredths === 100)
    const gone = await rest.cancelOrder({ orderId, marketTicker: ticker })
    assert.ok(gone.outcome === 'rejected' && gone.error.code === 'not_found')

    sim.simulator.pause()
    await until(() => sim.feed.queued === 0, 'the feed to drain')
    const ticks = () => heard.filter(isMarketData).length
    await until(
      () => heard.some((message) => message.type === 'user_order' && message.status === 'canceled'),
      'the cancel',
    )
    for (const one of tickers) {
      const book = await rest.orderbook(one)
      await until(() => books.side(one, 'yes').length === book.yes.length, 'the last delta')
      assert.deepEqual([books.side(one, 'yes'), books.side(one, 'no')], [book.yes, book.no], one)
    }
    const { items: fills } = await rest.listFills({ orderId: taken.value.orderId })
    const told = heard.filter((message) => message.type === 'fill')
    assert.deepEqual(fills.map(({ tradeId }) => tradeId).toSorted(), told.map(({ tradeId }) => tradeId).toSorted())
    const [position] = (await rest.positions({ ticker })).items
    assert.equal(position?.positionHundredths, 100)
    assert.ok((await rest.balance()).balanceCents < 100_000)
    assert.equal((await rest.accountLimits()).usageTier, 'prestige')
    assert.equal((await rest.exchangeStatus()).tradingActive, true)
    assert.ok(heard.every(({ type }) => type !== 'malformed' && type !== 'unknown' && type !== 'error'))
    const { ticksDelivered, fills: executed } = sim.simulator.stats()
    assert.equal(executed, told.length)
    assert.ok(ticksDelivered >= ticks() && ticks() > 300, `${ticks()} of ${ticksDelivered}`)
  })

  it('agrees on the number of ticks and orders to the last one, in a run without faults', async (t) => {
    const sim = await startSimulator({
      createFlow: (context) => new Crowd(context, { markets: 2, ratePerSecond: 1_000 }),
    })
    t.after(() => sim.stop())
    const signer = SIGNERS.bob as Signer
    const { restOrigin, feedOrigin } = resolveEnvironment(sim.url)
    const rest = createRest({ origin: restOrigin, signer })
    t.after(() => rest.stop())
    let ticks = 0
    const feed = createFeed(
      { origin: feedOrigin, signer, marketTickers: [...sim.simulator.flow.tickers] },
      { onEvent: (message) => (ticks += isMarketData(message) ? 1 : 0) },
    )
    t.after(() => feed.stop())
    await feed.start()
    sim.simulator.start()
    await until(() => ticks > 500, '500 ticks')
    for (let i = 0; i < 10; i++) {
      await rest.createOrder({
        ticker: sim.simulator.flow.tickers[0] as string,
        side: 'ask',
        priceTicks: 9_900,
        countHundredths: 100,
        timeInForce: 'good_till_canceled',
        selfTradePrevention: 'maker',
      })
    }
    sim.simulator.pause()
    await until(() => sim.feed.queued === 0 && ticks === sim.simulator.stats().ticksDelivered, 'all is read')
    const { ordersReceived, ordersAccepted } = sim.simulator.stats()
    assert.deepEqual([ordersReceived, ordersAccepted], [10, 10])
  })
})
