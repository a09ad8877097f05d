/** The order probe against the real simulator, with the faults it must survive. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { UserError } from '@tickscope/contract'
import { collectPages, resolveEnvironment } from '@tickscope/venue/kalshi'
import { moneyAt } from '../src/access.ts'
import { checkConsent, Levels } from '../src/order/limit.ts'
import { type OrderOptions, orderProbe } from '../src/order.ts'
import type { ProbeContext } from '../src/probe.ts'
import type { Measurement } from '../src/result.ts'
import { contextOf, tallyOf } from './measurement.ts'
import { type Simulator, startSimulator } from './simulator.ts'
import { lastLine, runProbe, startProbe } from './target.ts'

const OPTIONS = {
  live: false,
  yesITradeRealMoney: false,
  keyId: 'probe',
  band: 5,
  warmUp: 1,
  timeout: 5_000,
  seenTimeout: 2_000,
  expire: 60_000,
  rate: 20,
} as const

function measure(
  { url, keyFile }: Simulator,
  options: Partial<OrderOptions> = {},
  context: Partial<ProbeContext> = {},
): Promise<Measurement> {
  return orderProbe.run({ ...OPTIONS, url, keyFile, ...options }, contextOf({ durationMs: 500, ...context }))
}

/** What rests for the account in the simulator's own words, once its reads have caught up. */
async function restingAt(simulator: Simulator): Promise<number> {
  const rest = simulator.client()
  await new Promise((later) => setTimeout(later, 200))
  return (await collectPages(() => rest.listOrders({ status: 'resting' }))).length
}

describe('the order probe', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tickscope-order-'))
  const simulators: Simulator[] = []
  const venue = async (...args: string[]) => {
    const started = await startSimulator(...args)
    simulators.push(started)
    return started
  }
  let calm: Simulator
  before(async () => {
    calm = await venue()
    await calm.start()
  })
  after(async () => {
    for (const simulator of simulators) await simulator.stop()
    rmSync(folder, { recursive: true })
  })

  it('places, sees, cancels and sees each order, and leaves none', async () => {
    const ended = await runProbe([
      'order',
      ...calm.access,
      '--rate',
      '20',
      '--for',
      '500ms',
      '--warm-up',
      '1',
      '--json',
    ])
    const result = lastLine(ended)
    assert.ok(ended.code === 0 || (ended.code === 1 && !result.budgets[0].ok), ended.stderr)
    assert.equal(result.probe, 'order')
    assert.equal(result.settings.money, 'simulator')
    const [first, place, cancel] = result.rows
    assert.deepEqual([first.name, place.name, cancel.name], ['first', 'place', 'cancel'])
    assert.equal(first.phases.place_ack.count, 1)
    assert.equal(place.scheduled, 10)
    assert.equal(place.phases.place_ack.count, place.sent)
    assert.equal(place.phases.place_seen.count, place.sent)
    assert.equal(cancel.phases.cancel_seen.count, place.sent)
    assert.equal(result.details.seenBy.nothing, 0)
    assert.deepEqual(result.details.leftResting, [])
    const stats = await calm.stats()
    assert.equal(stats.ordersAccepted, result.details.ordersSent)
    assert.equal(stats.cancelsReceived, result.details.ordersSent)
    assert.equal(stats.fills, 0)
    assert.equal(await restingAt(calm), 0)
  })

  it('adds up: the service time of a place is its signature, its write and its acknowledgement', async () => {
    const run = await measure(calm)
    for (const [row, ack] of [
      ['place', 'place_ack'],
      ['cancel', 'cancel_ack'],
    ] as const) {
      const { phases, service, response, slip } = tallyOf(run, row)
      const sum = ['sign', 'write', ack].reduce((ns, phase) => ns + (phases.get(phase)?.sumNs ?? 0), 0)
      assert.equal(sum, service.sumNs)
      assert.equal(slip.sumNs + service.sumNs, response.sumNs)
    }
  })

  // Each has a venue of its own and mostly waits.
  describe('of a venue in trouble', { concurrency: 4 }, () => {
    it('tells a late acknowledgement from the order, which the feed shows on time', async () => {
      const slow = await venue('--fault', 'api-delay=300ms@0s+10m')
      await slow.start()
      const run = await measure(slow, { rate: 8, warmUp: 0, timeout: 10_000 })
      const { phases, response } = tallyOf(run, 'place')
      assert.equal(response.count, 4)
      assert.ok((phases.get('place_ack')?.quantileNs(0) as number) >= 300e6)
      assert.ok((phases.get('place_seen')?.quantileNs(0) as number) < 300e6)
      assert.equal(run.budgets[0]?.ok, false)
      assert.equal(run.checks?.[0]?.ok, true)
    })

    it('cancels what it could not cancel while the venue failed', async () => {
      const failing = await venue('--fault', 'api-error=1@200ms+1500ms')
      const run = await measure(failing, {}, { measuring: () => void failing.start(), durationMs: 600 })
      const place = tallyOf(run, 'place')
      assert.ok(place.lost > 0, 'the venue failed meanwhile')
      assert.deepEqual(run.details?.leftResting, [])
      assert.equal(await restingAt(failing), 0)
      const { ordersAccepted, ordersRejected } = await failing.stats()
      assert.equal(ordersAccepted + ordersRejected, run.details?.ordersSent)
    })

    it('goes on without the word of a silent feed, and says how often it had none', async () => {
      const silent = await venue('--fault', 'feed-stall@0s+1500ms')
      const run = await measure(silent, { seenTimeout: 100, rate: 10 }, { measuring: () => void silent.start() })
      assert.equal(tallyOf(run, 'place').outcomes.ok, 5)
      const { seenBy } = run.details as { seenBy: { nothing: number } }
      assert.ok(seenBy.nothing > 0)
      assert.equal(await restingAt(silent), 0)
    })

    it('places nothing while its book is not whole', async () => {
      const cut = await venue('--fault', 'disconnect@0s+10m')
      const run = await measure(cut, {}, { measuring: () => void cut.start().then(() => {}), durationMs: 1_000 })
      const { reasons, scheduled, sent } = tallyOf(run, 'place')
      assert.equal(scheduled, 20)
      assert.equal((reasons.get('DROPPED_BAND') ?? 0) + sent, 20)
      assert.ok((reasons.get('DROPPED_BAND') ?? 0) >= 10)
    })
  })

  it('cancels all when it is interrupted, and still says what it measured', async () => {
    const probe = startProbe(['order', ...calm.access, '--rate', '20', '--for', '60s', '--json'])
    const { ordersReceived } = await calm.stats()
    const deadline = AbortSignal.timeout(20_000)
    while ((await calm.stats()).ordersReceived < ordersReceived + 10) {
      deadline.throwIfAborted()
      await new Promise((later) => setTimeout(later, 20))
    }
    probe.child.kill('SIGINT')
    const ended = await probe.finished
    const result = lastLine(ended)
    assert.ok(result.rows[1].sent > 0)
    assert.deepEqual(result.details.leftResting, [])
    assert.equal(await restingAt(calm), 0)
  })

  it('stops at its caps and at the kill switch', async () => {
    const capped = await measure(calm, { maxOrders: 5 })
    assert.equal(capped.details?.ordersSent, 5)
    assert.match(String(capped.details?.endedBy), /^--max-orders 5 were sent$/)
    const { scheduled, sent, reasons } = tallyOf(capped, 'place')
    assert.deepEqual([scheduled, [...reasons]], [sent, []], 'a limit of the probe is no request the venue missed')
    const killFile = join(folder, 'kill')
    const killed = await measure(
      calm,
      { killFile },
      { durationMs: 60_000, measuring: () => void setTimeout(() => writeFileSync(killFile, ''), 200) },
    )
    assert.match(String(killed.details?.endedBy), /kill exists$/)
    assert.equal(await restingAt(calm), 0)
    assert.throws(() => measure(calm, { killFile }), /^UserError: the kill switch file .* exists: no order is sent$/)
    const tight = await measure(calm, { maxNotional: 0.01, rate: 500, durationMs: 200 } as Partial<OrderOptions>)
    assert.ok((tallyOf(tight, 'place').reasons.get('DROPPED_MAX_NOTIONAL') ?? 0) > 0, 'one cent is one resting order')
  })

  it('ends with the words of a venue that refuses the first order', async () => {
    const ended = await runProbe(['order', ...calm.access, '--ticker', 'NONE', '--for', '1s'])
    assert.equal(ended.code, 3)
    assert.equal(ended.stderr.trimEnd().split('\n').length, 1, ended.stderr)
  })

  it('runs on as a service while the venue is away, and ends when asked', async () => {
    const [, , ...key] = calm.access
    const service = startProbe(['order', '--url', 'http://127.0.0.1:1', ...key, '--ticker', 'T', '--serve'])
    await service.line(/"ready"/)
    await service.line(/cannot connect to ws:\/\/127\.0\.0\.1:1/)
    service.child.kill('SIGTERM')
    const ended = await service.finished
    assert.equal(ended.code, 0, ended.stderr)
    assert.equal(lastLine(ended).sent, 0)
  })

  it('refuses to sign without a key', () => {
    assert.throws(
      () => orderProbe.run({ ...OPTIONS, url: 'demo', keyFile: '' } as OrderOptions, {} as ProbeContext),
      UserError,
    )
  })
})

describe('the consent to trade', () => {
  const all = { live: true, yesITradeRealMoney: true, ticker: 'T', maxOrders: 1, maxNotional: 1, killFile: 'k' }

  it('is asked for wherever money is not known to be play money', () => {
    const at = (url: string) => moneyAt(resolveEnvironment(url))
    assert.deepEqual(
      ['http://127.0.0.1:1', 'http://localhost:1', 'http://[::1]:1', 'demo', 'prod', 'https://127.0.0.1.example'].map(
        at,
      ),
      ['simulator', 'simulator', 'simulator', 'demo', 'live', 'live'],
    )
    assert.equal(at('https://external-api.demo.kalshi.co'), 'demo')
  })

  it('names every flag that is missing', () => {
    checkConsent('live', 'o', all)
    checkConsent('demo', 'o', { live: false, yesITradeRealMoney: false })
    assert.throws(
      () => checkConsent('live', 'https://v', { live: true, yesITradeRealMoney: false, ticker: 'T' }),
      /orders at https:\/\/v are real money: --yes-i-trade-real-money, --max-orders, --max-notional, --kill-file missing$/,
    )
    for (const flag of Object.keys(all))
      assert.throws(() => checkConsent('live', 'o', { ...all, [flag]: false || undefined } as never), UserError, flag)
  })
})

describe('a quote', () => {
  const level = (priceTicks: number) => ({ priceTicks, countHundredths: 100 })
  const quoteOf = (yes: number[], no: number[], bandTicks: number) => {
    const levels = new Levels()
    levels.reset({ yes: yes.map(level), no: no.map(level) })
    return levels.quote(bandTicks)
  }

  it('is a cent, at least the band below the best bid of its side', () => {
    assert.deepEqual(quoteOf([200, 600], [], 500), { side: 'bid', priceTicks: 100 })
    assert.deepEqual(quoteOf([599], [600], 500), { side: 'ask', priceTicks: 9_900 })
    assert.equal(quoteOf([599], [599], 500), undefined)
    assert.equal(quoteOf([], [], 100), undefined)
  })

  it('is none without a whole book', () => {
    const levels = new Levels()
    levels.apply({ side: 'yes', priceTicks: 5_000, deltaHundredths: 100 })
    assert.equal(levels.quote(500), undefined)
    levels.reset({ yes: [], no: [] })
    levels.apply({ side: 'yes', priceTicks: 5_000, deltaHundredths: 100 })
    assert.ok(levels.quote(500))
    levels.apply({ side: 'yes', priceTicks: 5_000, deltaHundredths: -100 })
    assert.equal(levels.quote(500), undefined)
  })
})
