import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { BookSide, SelfTradePrevention, TimeInForce } from '../../src/kalshi/order.ts'
import { Account } from '../../src/sim/account.ts'
import type { Order } from '../../src/sim/book.ts'
import {
  Engine,
  type EngineMarket,
  type EngineSink,
  type Fill,
  type OrderRequest,
  Refusal,
  type Trade,
  type UpdateReason,
} from '../../src/sim/engine.ts'
import { makerFeeMicros, takerFeeMicros } from '../../src/sim/fee.ts'
import { marketSpec } from './fixture.ts'

interface Recorded extends EngineSink {
  readonly levels: { side: BookSide; priceTicks: number; delta: number; cause: Order | undefined }[]
  readonly trades: Trade[]
  readonly fills: Fill[]
  readonly orders: { order: Order; status: string; reason: UpdateReason | undefined }[]
}

function setUp(options: { feeType?: 'quadratic' | 'quadratic_with_maker_fees' } = {}) {
  const sink: Recorded = {
    levels: [],
    trades: [],
    fills: [],
    orders: [],
    level: (_market, side, priceTicks, delta, _atMs, cause) => sink.levels.push({ side, priceTicks, delta, cause }),
    trade: (trade) => sink.trades.push(trade),
    fill: (fill) => sink.fills.push(fill),
    order: (order, reason) => sink.orders.push({ order, status: order.status, reason }),
  }
  let ids = 0
  const engine = new Engine({ sink, newId: () => `id-${++ids}` })
  const market = engine.addMarket(marketSpec('T', options))
  return { engine, market, sink }
}

const account = (id: string, dollars = 1_000) => new Account({ id, userId: id, balanceMicros: dollars * 1e6 })

function request(side: BookSide, priceTicks: number, count: number, more: Partial<OrderRequest> = {}): OrderRequest {
  return {
    ticker: 'T',
    side,
    priceTicks,
    count,
    timeInForce: 'good_till_canceled',
    selfTradePrevention: 'taker_at_cross',
    ...more,
  }
}

const refuses = (code: string, run: () => unknown, details?: string) =>
  assert.throws(run, (error) => error instanceof Refusal && error.code === code && error.details === details)

function depth(market: EngineMarket, side: BookSide): [number, number][] {
  return [...market.book.ladder(side).levels()].map((level) => [level.priceTicks, level.total])
}

describe('the engine', () => {
  it('trades at the price of the order that waited, oldest first within a price, best price first', () => {
    const { engine, sink, market } = setUp()
    const [a, b, c, taker] = ['a', 'b', 'c', 'taker'].map((id) => account(id)) as [Account, Account, Account, Account]
    engine.create(a, request('ask', 5200, 1000), 1)
    engine.create(b, request('ask', 5100, 300), 2)
    engine.create(c, request('ask', 5100, 300), 3)
    const order = engine.create(taker, request('bid', 5200, 700), 4)
    assert.equal(order.status, 'executed')
    assert.deepEqual(
      sink.trades.map(({ priceTicks, count, maker }) => [priceTicks, count, maker.account.id]),
      [
        [5100, 300, 'b'],
        [5100, 300, 'c'],
        [5200, 100, 'a'],
      ],
    )
    assert.deepEqual(depth(market, 'ask'), [[5200, 900]])
    assert.equal(market.volume, 700)
    assert.equal(market.openInterest, 700)
  })

  it('tells the sink each execution as level, trade, fills and maker order, and the taker last', () => {
    const { engine, sink } = setUp()
    const [maker, taker] = [account('maker'), account('taker')]
    engine.create(maker, request('bid', 4000, 500), 1)
    sink.levels.length = sink.orders.length = 0
    const order = engine.create(taker, request('ask', 4000, 800), 2)
    assert.deepEqual(
      sink.levels.map(({ side, priceTicks, delta, cause }) => [side, priceTicks, delta, cause?.id]),
      [
        ['bid', 4000, -500, order.id],
        ['ask', 4000, 300, order.id],
      ],
    )
    assert.deepEqual(
      sink.orders.map(({ order, status, reason }) => [order.account.id, status, reason]),
      [
        ['maker', 'executed', 'Trade'],
        ['taker', 'resting', 'Trade'],
      ],
    )
    assert.deepEqual(
      sink.fills.map(({ order, isTaker, position }) => [order.account.id, isTaker, position]),
      [
        ['maker', false, 500],
        ['taker', true, -500],
      ],
    )
  })

  it('cancels what an immediate-or-cancel order leaves and refuses a fill-or-kill order it cannot fill', () => {
    const { engine, market } = setUp()
    const [maker, taker] = [account('maker'), account('taker')]
    engine.create(maker, request('ask', 5000, 400), 1)
    refuses('fill_or_kill_insufficient_resting_volume', () =>
      engine.create(taker, request('bid', 5000, 500, { timeInForce: 'fill_or_kill' }), 2),
    )
    assert.deepEqual(depth(market, 'ask'), [[5000, 400]])
    const order = engine.create(taker, request('bid', 5000, 500, { timeInForce: 'immediate_or_cancel' }), 3)
    assert.deepEqual([order.status, order.filled, order.remaining], ['canceled', 400, 0])
    assert.deepEqual(depth(market, 'bid'), [])
  })

  it('refuses a post-only order that would cross and rests one that would not', () => {
    const { engine, market } = setUp()
    engine.create(account('maker'), request('ask', 5000, 400), 1)
    const poster = account('poster')
    refuses(
      'invalid_order',
      () => engine.create(poster, request('bid', 5000, 1, { postOnly: true }), 2),
      'post only cross',
    )
    assert.equal(engine.create(poster, request('bid', 4900, 100, { postOnly: true }), 3).status, 'resting')
    assert.deepEqual(depth(market, 'bid'), [[4900, 100]])
  })

  it('lets a reduce-only order close a position and never open one', () => {
    const { engine } = setUp()
    const [maker, holder] = [account('maker'), account('holder')]
    engine.create(maker, request('ask', 5000, 300), 1)
    engine.create(holder, request('bid', 5000, 300), 2)
    engine.create(maker, request('bid', 4500, 1000), 3)
    const ioc = { timeInForce: 'immediate_or_cancel', reduceOnly: true } as const
    const order = engine.create(holder, request('ask', 4500, 500, ioc), 4)
    assert.deepEqual([order.filled, order.remaining, order.status], [300, 0, 'canceled'])
    assert.equal(holder.position(order.market).count, 0)
    const flat = engine.create(holder, request('ask', 4500, 500, ioc), 5)
    assert.deepEqual([flat.filled, flat.status], [0, 'canceled'])
  })

  it('prevents self-trades by ending the taker or by cancelling the maker, as the taker asks', () => {
    const { engine, market } = setUp()
    const self = account('self')
    const resting = engine.create(self, request('ask', 5000, 300), 1)
    const ended = engine.create(self, request('bid', 5000, 100), 2)
    assert.deepEqual([ended.filled, ended.remaining, ended.status, resting.status], [0, 0, 'canceled', 'resting'])
    const winner = engine.create(self, request('bid', 5000, 100, { selfTradePrevention: 'maker' }), 3)
    assert.deepEqual([winner.status, resting.status], ['resting', 'canceled'])
    assert.deepEqual(depth(market, 'ask'), [])
  })

  it('keeps a client order id taken for good, also after a cancel, but not after a refusal', () => {
    const { engine } = setUp()
    const self = account('self')
    refuses('invalid_price', () => engine.create(self, request('bid', 5050, 100, { clientOrderId: 'c' }), 1))
    const order = engine.create(self, request('bid', 5000, 100, { clientOrderId: 'c' }), 2)
    refuses('order_already_exists', () => engine.create(self, request('bid', 5000, 100, { clientOrderId: 'c' }), 3))
    engine.cancel(self, order.id, 4)
    refuses('order_already_exists', () => engine.create(self, request('bid', 5000, 100, { clientOrderId: 'c' }), 5))
    assert.equal(
      engine.create(account('other'), request('bid', 5000, 100, { clientOrderId: 'c' }), 6).status,
      'resting',
    )
  })

  it('answers a cancel of a cancelled, filled, foreign or unknown order alike', () => {
    const { engine } = setUp()
    const [self, other] = [account('self'), account('other')]
    const cancelled = engine.create(self, request('bid', 5000, 100), 1)
    assert.equal(engine.cancel(self, cancelled.id, 2).reducedBy, 100)
    const filled = engine.create(self, request('bid', 5000, 100), 3)
    engine.create(other, request('ask', 5000, 100), 4)
    const foreign = engine.create(other, request('bid', 4000, 100), 5)
    for (const id of [cancelled.id, filled.id, foreign.id, 'unknown'])
      refuses('not_found', () => engine.cancel(self, id, 6))
    assert.equal(foreign.status, 'resting')
  })

  it('takes expired orders off the book before anything else can trade with them', () => {
    const { engine, sink, market } = setUp()
    const [maker, taker] = [account('maker'), account('taker')]
    const late = engine.create(maker, request('ask', 5000, 100, { expiresAtMs: 300 }), 1)
    const early = engine.create(maker, request('ask', 5000, 100, { expiresAtMs: 200 }), 2)
    assert.equal(engine.nextExpiryAtMs, 200)
    const order = engine.create(taker, request('bid', 5000, 200), 200)
    assert.deepEqual([early.status, late.status, order.filled], ['canceled', 'executed', 100])
    assert.equal(
      sink.orders.find((event) => event.order === early && event.status === 'canceled')?.reason,
      'ExpiryCancel',
    )
    engine.expire(300)
    assert.deepEqual(depth(market, 'ask'), [])
    const past = engine.create(maker, request('ask', 5100, 100, { expiresAtMs: 100 }), 400)
    assert.deepEqual([past.status, past.remaining], ['canceled', 0])
  })

  it('keeps orders within the collateral, counts resting orders as spent, and lets closing orders through', () => {
    const { engine, market } = setUp()
    const [self, other] = [account('self', 5), account('other')]
    refuses('insufficient_balance', () => engine.create(self, request('bid', 5100, 1000), 1))
    const order = engine.create(self, request('bid', 5000, 1000), 2)
    refuses('insufficient_balance', () => engine.create(self, request('bid', 100, 100), 3))
    engine.cancel(self, order.id, 4)
    engine.create(other, request('ask', 4800, 1000), 5)
    engine.create(self, request('bid', 4800, 1000), 6)
    assert.equal(self.position(market).count, 1000)
    assert.equal(self.balanceMicros, 5e6 - 4.8e6 - takerFeeMicros(4800, 1000))
    // Selling what is held needs no cash; selling more needs the price of NO.
    refuses('insufficient_balance', () => engine.create(self, request('ask', 6000, 2000), 7))
    assert.equal(engine.create(self, request('ask', 6000, 1000), 8).status, 'resting')
    // A better ask would fill first: it closes, so the first one now opens, for 0.40 a contract.
    refuses('insufficient_balance', () => engine.create(self, request('ask', 5900, 1000), 9))
  })

  it('asks no cash for the orders that fill first as long as they close a position', () => {
    const { engine } = setUp()
    const [self, other] = [account('self', 8), account('other')]
    engine.create(other, request('bid', 4000, 1000), 1)
    engine.create(self, request('ask', 4000, 1000), 2)
    // Holds NO for 6 dollars, 2 left less the fee. The dear bid closes it; only the cheap one has to be paid for.
    engine.create(self, request('bid', 9000, 1000), 3)
    assert.equal(engine.create(self, request('bid', 1000, 1000), 4).status, 'resting')
    refuses('insufficient_balance', () => engine.create(self, request('bid', 1000, 1000), 5))
  })

  it('books costs, fees and realised profit of a round trip', () => {
    const { engine, market } = setUp()
    const [self, other] = [account('self'), account('other')]
    engine.create(other, request('ask', 4000, 1000), 1)
    engine.create(self, request('bid', 4000, 1000), 2)
    engine.create(other, request('bid', 4500, 400), 3)
    engine.create(self, request('ask', 4500, 400), 4)
    const position = self.position(market)
    assert.deepEqual(
      [position.count, position.costMicros, position.realizedPnlMicros, position.tradedMicros],
      [600, 6 * 400_000, 4 * 50_000, 10 * 400_000 + 4 * 550_000],
    )
    const fees = takerFeeMicros(4000, 1000) + takerFeeMicros(4500, 400)
    assert.equal(position.feesMicros, fees)
    assert.equal(self.balanceMicros, 1e9 - 4e6 + 1.8e6 - fees)
    // The other side held NO and paid no fee as a maker; both sides together lost just the fees.
    assert.equal(other.position(market).count, -600)
    assert.equal(other.balanceMicros, 1e9 - 6e6 + 2.2e6)
  })

  it('closes a market by cancelling every order, and refuses everything afterwards', () => {
    const { engine, market, sink } = setUp()
    const self = account('self')
    const order = engine.create(self, request('bid', 5000, 100), 1)
    engine.addExternal(market, 'ask', 5100, 700, 2)
    engine.close(market, 3)
    assert.deepEqual([depth(market, 'bid'), depth(market, 'ask')], [[], []])
    assert.equal(sink.orders.at(-1)?.reason, 'CloseCancel')
    refuses('market_inactive', () => engine.create(self, request('bid', 5000, 100), 4))
    refuses('market_inactive', () => engine.cancel(self, order.id, 4))
  })

  it('routes by ticker or to the named shard, where an unknown market is not found', () => {
    const { engine } = setUp()
    const self = account('self')
    refuses('market_not_found', () => engine.create(self, request('bid', 5000, 100, { ticker: 'U' }), 1))
    refuses('market_not_found', () => engine.create(self, request('bid', 5000, 100, { exchangeIndex: 0 }), 1))
    assert.equal(engine.create(self, request('bid', 5000, 100, { exchangeIndex: 2 }), 1).status, 'resting')
  })
})

describe('fees', () => {
  it('are those the venue charged for a real fill: 52 cents, one contract, 0.0175 dollars', () => {
    assert.equal(takerFeeMicros(5200, 100), 17_500)
    assert.equal(takerFeeMicros(9900, 100), 700)
  })

  it('round up to a hundredth of a cent, exactly, for any size', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9999 }), fc.integer({ min: 1, max: 100_000_000 }), (price, count) => {
        const exact = 7n * BigInt(count) * BigInt(price) * BigInt(10_000 - price)
        const steps = BigInt(takerFeeMicros(price, count) / 100)
        assert.ok(steps * 100_000_000n >= exact && (steps - 1n) * 100_000_000n < exact)
        const maker = BigInt(makerFeeMicros('quadratic_with_maker_fees', price, count) / 100)
        assert.ok(maker * 400_000_000n >= exact && (maker - 1n) * 400_000_000n < exact)
        assert.equal(makerFeeMicros('quadratic', price, count), 0)
      }),
    )
  })
})

describe('depth of others', () => {
  it('fills a member in its turn: only after what queued before it has traded', () => {
    const { engine, market } = setUp()
    const self = account('self')
    engine.addExternal(market, 'bid', 5000, 300, 1)
    const order = engine.create(self, request('bid', 5000, 200), 2)
    engine.addExternal(market, 'bid', 5000, 400, 3)
    assert.equal(engine.tradeExternal(market, 'bid', 5000, 250, 4), 0)
    assert.equal(engine.tradeExternal(market, 'bid', 5000, 100, 5), 50)
    assert.deepEqual([order.filled, depth(market, 'bid')], [50, [[5000, 850]]])
    // The recording takes the traded depth away itself: from behind, so the member keeps its place.
    assert.equal(engine.removeExternal(market, 'bid', 5000, 350, 6), 350)
    assert.equal(engine.tradeExternal(market, 'bid', 5000, 150, 7), 150)
    assert.equal(order.status, 'executed')
  })

  it('fills a member in full when others trade through its price, and never fills depth with depth', () => {
    const { engine, market, sink } = setUp()
    const self = account('self')
    const order = engine.create(self, request('ask', 5000, 200), 1)
    engine.addExternal(market, 'ask', 4900, 100, 2)
    assert.equal(engine.addExternal(market, 'bid', 4900, 500, 3), 500)
    assert.equal(sink.trades.length, 0)
    assert.equal(engine.tradeExternal(market, 'ask', 5100, 1000, 4), 200)
    assert.equal(order.status, 'executed')
    assert.deepEqual(depth(market, 'ask'), [[4900, 100]])
  })

  it('fills members that it crosses and shows only the rest', () => {
    const { engine, market } = setUp()
    const self = account('self')
    const order = engine.create(self, request('bid', 5000, 200), 1)
    assert.equal(engine.addExternal(market, 'ask', 4800, 150, 2), 0)
    assert.equal(order.filled, 150)
    assert.equal(engine.addExternal(market, 'ask', 4900, 150, 3), 100)
    assert.equal(order.status, 'executed')
    assert.deepEqual([depth(market, 'bid'), depth(market, 'ask')], [[], [[4900, 100]]])
  })

  it('never removes more than there is, nor any of a member', () => {
    const { engine, market } = setUp()
    const self = account('self')
    engine.addExternal(market, 'bid', 5000, 100, 1)
    engine.create(self, request('bid', 5000, 200), 2)
    assert.equal(engine.removeExternal(market, 'bid', 5000, 500, 3), 100)
    assert.equal(engine.removeExternal(market, 'bid', 4000, 500, 4), 0)
    assert.deepEqual(depth(market, 'bid'), [[5000, 200]])
  })
})

/** Matching the slow and plain way: one list of resting orders, searched anew for each execution. */
class NaiveExchange {
  resting: { key: number; owner: number; side: BookSide; price: number; left: number; at: number }[] = []
  trades: { price: number; count: number; maker: number }[] = []

  create(
    key: number,
    owner: number,
    side: BookSide,
    price: number,
    count: number,
    tif: TimeInForce,
    stp: SelfTradePrevention,
  ) {
    const crossing = () =>
      this.resting
        .filter((r) => r.side !== side && (side === 'bid' ? r.price <= price : r.price >= price))
        .sort((a, b) => (side === 'bid' ? a.price - b.price : b.price - a.price) || a.at - b.at)
    if (tif === 'fill_or_kill') {
      let available = 0
      for (const r of crossing()) {
        if (r.owner !== owner) available += r.left
        else if (stp === 'taker_at_cross') break
      }
      if (available < count) return
    }
    let left = count
    while (left > 0) {
      const maker = crossing()[0]
      if (!maker) break
      if (maker.owner === owner) {
        if (stp === 'taker_at_cross') return
        this.cancel(maker.key)
        continue
      }
      const traded = Math.min(left, maker.left)
      this.trades.push({ price: maker.price, count: traded, maker: maker.key })
      left -= traded
      maker.left -= traded
      if (maker.left === 0) this.cancel(maker.key)
    }
    if (left > 0 && tif === 'good_till_canceled') this.resting.push({ key, owner, side, price, left, at: key })
  }

  cancel(key: number) {
    this.resting = this.resting.filter((r) => r.key !== key)
  }

  depth(side: BookSide): [number, number][] {
    const levels = new Map<number, number>()
    for (const r of this.resting) if (r.side === side) levels.set(r.price, (levels.get(r.price) ?? 0) + r.left)
    return [...levels].sort(([a], [b]) => (side === 'bid' ? b - a : a - b))
  }
}

describe('by property', () => {
  const create = fc.record({
    kind: fc.constant('create' as const),
    owner: fc.integer({ min: 0, max: 3 }),
    side: fc.constantFrom<BookSide>('bid', 'ask'),
    price: fc.integer({ min: 45, max: 55 }).map((cents) => cents * 100),
    count: fc.integer({ min: 1, max: 1000 }),
    tif: fc.constantFrom<TimeInForce>(
      'good_till_canceled',
      'good_till_canceled',
      'immediate_or_cancel',
      'fill_or_kill',
    ),
    stp: fc.constantFrom<SelfTradePrevention>('taker_at_cross', 'maker'),
  })
  const cancel = fc.record({ kind: fc.constant('cancel' as const), which: fc.nat() })
  const actions = fc.array(fc.oneof({ weight: 4, arbitrary: create }, { weight: 1, arbitrary: cancel }), {
    maxLength: 80,
  })

  it('matches as a naive exchange does, never crosses, conserves contracts and money', () => {
    fc.assert(
      fc.property(actions, (sequence) => {
        const { engine, market, sink } = setUp({ feeType: 'quadratic_with_maker_fees' })
        const accounts = [0, 1, 2, 3].map((n) => account(`${n}`, 100_000))
        const naive = new NaiveExchange()
        const keyOf = new Map<Order, number>()
        const created: Order[] = []
        const levels = { bid: new Map<number, number>(), ask: new Map<number, number>() }
        let now = 0
        for (const action of sequence) {
          now++
          if (action.kind === 'cancel') {
            const order = created[action.which % Math.max(1, created.length)]
            if (order?.status !== 'resting') continue
            engine.cancel(order.account, order.id, now)
            naive.cancel(keyOf.get(order) as number)
          } else {
            const { owner, side, price, count, tif, stp } = action
            naive.create(now, owner, side, price, count, tif, stp)
            try {
              const more = { timeInForce: tif, selfTradePrevention: stp }
              const order = engine.create(accounts[owner] as Account, request(side, price, count, more), now)
              keyOf.set(order, now)
              created.push(order)
            } catch (error) {
              assert.equal((error as Refusal).code, 'fill_or_kill_insufficient_resting_volume')
            }
          }
          assert.deepEqual(depth(market, 'bid'), naive.depth('bid'))
          assert.deepEqual(depth(market, 'ask'), naive.depth('ask'))
          const [bid, ask] = [market.book.bids.best, market.book.asks.best]
          assert.ok(!bid || !ask || bid.priceTicks < ask.priceTicks, 'crossed')
        }
        assert.deepEqual(
          sink.trades.map(({ priceTicks, count, maker }) => ({ price: priceTicks, count, maker: keyOf.get(maker) })),
          naive.trades,
        )
        // The events alone rebuild the book.
        for (const { side, priceTicks, delta } of sink.levels) {
          const total = (levels[side].get(priceTicks) ?? 0) + delta
          assert.ok(total >= 0)
          if (total === 0) levels[side].delete(priceTicks)
          else levels[side].set(priceTicks, total)
        }
        for (const side of ['bid', 'ask'] as const) {
          assert.deepEqual(
            [...levels[side]].sort(([a], [b]) => (side === 'bid' ? b - a : a - b)),
            depth(market, side),
          )
        }
        const traded = sink.trades.reduce((sum, { count }) => sum + count, 0)
        assert.equal(
          created.reduce((sum, { filled }) => sum + filled, 0),
          2 * traded,
        )
        assert.equal(
          accounts.reduce((sum, a) => sum + a.position(market).count, 0),
          0,
        )
        assert.equal(
          market.openInterest,
          accounts.reduce((sum, a) => sum + Math.max(0, a.position(market).count), 0),
        )
        // Each pair of YES and NO in the world holds the $1 that was paid for it; the rest of what is missing are fees.
        const cash = accounts.reduce((sum, a) => sum + a.balanceMicros, 0)
        const fees = sink.fills.reduce((sum, { feeMicros }) => sum + feeMicros, 0)
        assert.equal(cash + fees + market.openInterest * 10_000, 4 * 100_000 * 1e6)
      }),
      { numRuns: 300 },
    )
  })

  it('never lets a member spend what it does not have, fees aside', () => {
    fc.assert(
      fc.property(actions, (sequence) => {
        const { engine, market } = setUp()
        const accounts = [0, 1, 2, 3].map((n) => account(`${n}`, 5))
        let now = 0
        for (const action of sequence) {
          if (action.kind === 'cancel') continue
          const { owner, side, price, count, tif, stp } = action
          try {
            const more = { timeInForce: tif, selfTradePrevention: stp }
            engine.create(accounts[owner] as Account, request(side, price, count, more), ++now)
          } catch (error) {
            assert.ok(error instanceof Refusal)
          }
          for (const { balanceMicros, positions } of accounts)
            assert.ok(balanceMicros + (positions.get(market)?.feesMicros ?? 0) >= 0)
        }
      }),
      { numRuns: 200 },
    )
  })
})
