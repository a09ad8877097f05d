import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { DEFAULT_SLOS, decodeBatch, PAGING, type SloId } from '@tickscope/contract'
import { Detector } from '../src/detector.ts'
import { type Episode, episodeKey } from '../src/episode.ts'
import { acceptBatch } from '../src/merge.ts'
import type { Alert, Notifier } from '../src/notify.ts'
import { API_OK, type BatchInput, batchOf, series } from './fixture.ts'

const MS = 1e6
const START_MS = 1_750_000_000_000

/** A detector, a clock to turn, and a sink for posts that can fail. */
function bench(options: { expires?: boolean; notify?: boolean } = {}) {
  let nowMs = 0
  const posts: { status: string; alert: Alert; atMs: number }[] = []
  const episodes = new Map<string, Episode>()
  const outcomes: string[] = []
  const notes: string[] = []
  let failing = false
  const notifier: Notifier = {
    expires: options.expires ?? true,
    async post(status, alert) {
      if (failing) throw new Error('nobody there')
      posts.push({ status, alert, atMs: nowMs })
    },
    async close() {},
  }
  const make = () =>
    new Detector({
      slos: DEFAULT_SLOS,
      clock: { epochMs: () => START_MS + nowMs, monotonicMs: () => 5000 + nowMs },
      notifier: options.notify === false ? undefined : notifier,
      runbookBase: 'https://runbooks',
      dashboardUrl: 'https://dashboards/d/x',
      log: (line) => notes.push(line),
      onEpisode: (episode) => episodes.set(episodeKey(episode), episode),
      onPost: (outcome) => outcomes.push(outcome),
    })
  const settle = () => new Promise((resolve) => setImmediate(resolve))
  const self = {
    detector: make(),
    posts,
    outcomes,
    notes,
    get episodes() {
      return [...episodes.values()]
    },
    fail(now: boolean) {
      failing = now
    },
    /** A new process on the same journal. */
    restart() {
      self.detector = make()
      self.detector.restore(episodes.values())
    },
    /** Turns the clock, sweeping four times a second as the collector does. */
    async turnTo(ms: number) {
      while (nowMs < ms) {
        nowMs = Math.min(ms, nowMs + 250)
        self.detector.sweep()
        await settle()
      }
    },
    /** The batch of the second that ends now. */
    async batch(fields: BatchInput) {
      const endMs = START_MS + nowMs
      const batch = batchOf({ intervalStartMs: endMs - 1000, intervalEndMs: endMs, ...fields })
      const accepted = acceptBatch(
        decodeBatch(batch),
        batch.series.map(({ histogram }) => histogram),
        endMs,
      )
      self.detector.observe(accepted, 5000 + nowMs)
      await settle()
    },
    /** Two merged seconds of API calls, as many as the detector asks for: so many fast, so many slow. */
    api: (fast: number, slow: number, fields: BatchInput = {}) =>
      self.batch({
        intervalStartMs: START_MS + nowMs - PAGING.fastWindowSeconds * 1000,
        series: [
          series('tickscope_api_rtt_seconds', API_OK, [
            ...Array<number>(fast).fill(2 * MS),
            ...Array<number>(slow).fill(40 * MS),
          ]),
        ],
        ...(slow > 0 && { firstBreachAtMs: { api_rtt: START_MS + nowMs - 700 } }),
        ...fields,
      }),
    /** One second of them. */
    apiSecond: (fast: number, slow: number, fields: BatchInput = {}) =>
      self.api(fast, slow, { intervalStartMs: START_MS + nowMs - 1000, ...fields }),
    cpu: (value: number, fields: BatchInput = {}) =>
      self.batch({
        gauges: [{ metric: 'tickscope_utilization_ratio', labels: { resource: 'cpu' }, value }],
        ...fields,
      }),
  }
  return self
}

describe('the breach detector', () => {
  it('posts at once when the share of slow events reaches its limit, with the figures a person needs', async () => {
    const b = bench()
    await b.turnTo(1000)
    await b.apiSecond(10, 1)
    assert.equal(b.posts.length, 0)
    await b.turnTo(2000)
    await b.apiSecond(19, 28, {
      counters: [
        { metric: 'tickscope_breaches_total', labels: { slo: 'api_rtt', cause: 'venue' }, value: 27 },
        { metric: 'tickscope_breaches_total', labels: { slo: 'api_rtt', cause: 'gc' }, value: 1 },
      ],
    })
    assert.equal(b.posts.length, 1)
    const [{ status, alert }] = b.posts as [(typeof b.posts)[0]]
    assert.equal(status, 'firing')
    assert.deepEqual(alert, {
      labels: {
        alertname: 'TickscopeApiRttOverBudget',
        slo: 'api_rtt',
        severity: 'page',
        service: 'bot',
        venue: 'kalshi',
      },
      annotations: {
        summary: 'API round trip over 20.0 ms: 50% of the last 2 s (bot → kalshi)',
        description:
          '29 of 58 events of the last 2 s took longer than 20.0 ms: p99 40.0 ms, max 40.0 ms. Cause named most: venue.',
        path: 'fast',
        first_breach_at_ms: `${START_MS + 300}`,
        runbook_url: 'https://runbooks/TickscopeApiRttOverBudget.md',
        dashboard: 'https://dashboards/d/x?from=now-15m&var-service=bot&var-venue=kalshi',
      },
      startsAtMs: START_MS + 300,
      endsAtMs: START_MS + 2000 + PAGING.holdSeconds * 1000,
    })
    assert.deepEqual(
      b.episodes.map(({ slo, firstBreachAtMs, postedAtMs, resolvedAtMs }) => [
        slo,
        firstBreachAtMs,
        postedAtMs,
        resolvedAtMs,
      ]),
      [['api_rtt', START_MS + 300, START_MS + 2000, null]],
    )
  })

  it('stays quiet below the share', async () => {
    const b = bench()
    for (let second = 1; second <= 10; second++) {
      await b.turnTo(second * 1000)
      await b.apiSecond(51, 49 + (second % 2))
    }
    assert.deepEqual([b.posts, b.episodes], [[], []])
  })

  it('stays quiet below the least number of slow events, and counts those of two intervals together', async () => {
    const b = bench()
    await b.turnTo(1000)
    await b.apiSecond(0, PAGING.minimumBad - 1)
    await b.turnTo(4000)
    await b.apiSecond(0, PAGING.minimumBad - 1)
    assert.equal(b.posts.length, 0)
    await b.turnTo(5000)
    await b.apiSecond(0, 1)
    assert.equal(b.posts.length, 1)
  })

  it('stays quiet on a stall that made all events of one second slow', async () => {
    const b = bench()
    for (let second = 1; second <= 10; second++) {
      await b.turnTo(second * 1000)
      await b.apiSecond(5, second % 2 === 0 ? 50 : 0)
    }
    assert.deepEqual([b.posts, b.episodes], [[], []])
  })

  it('takes an event at the threshold as within it', async () => {
    const b = bench()
    const at = (valueNs: number) => ({ series: [series('tickscope_api_rtt_seconds', API_OK, Array(10).fill(valueNs))] })
    await b.turnTo(1000)
    await b.batch(at(20 * MS))
    assert.equal(b.posts.length, 0)
    await b.turnTo(2000)
    await b.batch(at(20 * MS + 1))
    assert.equal(b.posts.length, 0)
    await b.turnTo(3000)
    await b.batch(at(20 * MS + 1))
    assert.equal(b.posts.length, 1)
  })

  it('judges processing on tick-to-trade, and instances of a service together', async () => {
    const b = bench()
    const slow = (instance: string): BatchInput => ({
      resource: { service: 'bot', instance },
      series: [series('tickscope_tick_to_trade_seconds', {}, [6 * MS, 6 * MS])],
    })
    await b.turnTo(1000)
    await b.batch(slow('bot-1'))
    await b.batch(slow('bot-2'))
    assert.equal(b.posts.length, 0, 'one second, seen twice')
    await b.turnTo(2000)
    await b.batch(slow('bot-2'))
    assert.deepEqual(b.posts[0]?.alert.labels, {
      alertname: 'TickscopeProcessingOverBudget',
      slo: 'processing',
      severity: 'page',
      service: 'bot',
    })
    assert.equal(
      b.posts[0]?.alert.annotations.first_breach_at_ms,
      `${START_MS}`,
      'the interval when no instant was sent',
    )
  })

  it('keeps services and venues apart', async () => {
    const b = bench()
    await b.turnTo(1000)
    await b.apiSecond(0, 2, { resource: { service: 'bot', instance: 'i', venue: 'kalshi' } })
    await b.apiSecond(0, 2, { resource: { service: 'bot', instance: 'i', venue: 'polymarket' } })
    await b.apiSecond(0, 2, { resource: { service: 'probe', instance: 'i', venue: 'kalshi' } })
    assert.equal(b.posts.length, 0)
    await b.turnTo(2000)
    await b.apiSecond(0, 2, { resource: { service: 'bot', instance: 'i', venue: 'polymarket' } })
    assert.deepEqual(
      b.posts.map(({ alert }) => [alert.labels.service, alert.labels.venue]),
      [['bot', 'polymarket']],
    )
  })

  it('makes one episode of breaches that go on, prolonging it, and ends it after the hold time', async () => {
    const b = bench()
    for (let second = 1; second <= 5; second++) {
      await b.turnTo(second * 1000)
      await b.api(0, 10)
    }
    assert.equal(b.posts.length, 5)
    assert.deepEqual(new Set(b.posts.map(({ alert }) => alert.startsAtMs)), new Set([START_MS + 300]))
    assert.deepEqual(
      b.posts.map(({ alert }) => alert.endsAtMs - START_MS),
      [15_000, 16_000, 17_000, 18_000, 19_000],
    )
    for (let second = 6; second <= 18; second++) {
      await b.turnTo(second * 1000)
      await b.api(10, 0)
    }
    assert.equal(b.posts.length, 5, 'nothing new, nothing posted: the alert ends by itself')
    assert.equal(b.episodes[0]?.resolvedAtMs, null)
    await b.turnTo(19_000)
    assert.deepEqual(
      b.episodes.map(({ resolvedAtMs }) => resolvedAtMs),
      [START_MS + 19_000],
    )
    await b.turnTo(30_000)
    await b.api(0, 10)
    assert.equal(b.episodes.length, 2)
    assert.equal(b.posts.at(-1)?.alert.startsAtMs, START_MS + 29_300)
  })

  it('takes a breach within the hold time for the same episode', async () => {
    const b = bench({ expires: false })
    await b.turnTo(1000)
    await b.api(0, 10)
    await b.turnTo(14_000)
    await b.api(0, 10)
    await b.turnTo(27_999)
    assert.deepEqual([b.episodes.length, b.episodes[0]?.resolvedAtMs], [1, null])
    await b.turnTo(28_000)
    assert.equal(b.episodes[0]?.resolvedAtMs, START_MS + 28_000)
    assert.deepEqual(
      b.posts.map(({ status }) => status),
      ['firing', 'resolved'],
    )
  })

  it('posts once and resolves where alerts do not expire by themselves', async () => {
    const b = bench({ expires: false })
    for (let second = 1; second <= 3; second++) {
      await b.turnTo(second * 1000)
      await b.api(0, 10)
    }
    await b.turnTo(30_000)
    assert.deepEqual(
      b.posts.map(({ status, atMs }) => [status, atMs]),
      [
        ['firing', 1000],
        ['resolved', 17_000],
      ],
    )
    assert.equal(b.posts[1]?.alert.endsAtMs, START_MS + 17_000)
    assert.deepEqual(b.outcomes, ['ok', 'ok'])
  })

  it('tries again while the episode lasts, and then says that nobody was told', async () => {
    const b = bench()
    b.fail(true)
    await b.turnTo(1000)
    await b.api(0, 10)
    await b.turnTo(3000)
    assert.ok(b.outcomes.length >= 4 && b.outcomes.length <= 6, `${b.outcomes.length} tries in 2 s`)
    b.fail(false)
    await b.turnTo(4000)
    assert.deepEqual([b.posts.length, b.episodes[0]?.postedAtMs], [1, START_MS + 3500])
    await b.turnTo(20_000)
    b.fail(true)
    await b.api(0, 10)
    await b.turnTo(60_000)
    assert.equal(b.posts.length, 1)
    assert.deepEqual([b.episodes[1]?.postedAtMs, b.episodes[1]?.resolvedAtMs], [null, START_MS + 34_000])
    assert.match(b.notes[0] ?? '', /^an alert could not be delivered: TickscopeApiRttOverBudget of bot at kalshi/)
    assert.ok(b.outcomes.length < 40, 'tries are bounded')
  })

  it('tries the end of an episode for a minute', async () => {
    const b = bench({ expires: false })
    await b.turnTo(1000)
    await b.api(0, 10)
    b.fail(true)
    await b.turnTo(20_000)
    b.fail(false)
    await b.turnTo(21_000)
    assert.deepEqual(
      b.posts.map(({ status }) => status),
      ['firing', 'resolved'],
    )
    await b.api(0, 10)
    b.fail(true)
    await b.turnTo(36_000)
    const tries = b.outcomes.length
    await b.turnTo(200_000)
    assert.ok(b.outcomes.length > tries && b.outcomes.length < tries + 150)
    assert.match(b.notes[0] ?? '', /^the end of an alert could not be delivered/)
  })

  it('goes on with an open episode after a restart: one incident, one page, one end', async () => {
    const b = bench({ expires: false })
    await b.turnTo(1000)
    await b.api(0, 10)
    b.restart()
    await b.turnTo(3000)
    await b.api(0, 10)
    assert.deepEqual([b.posts.length, b.episodes.length], [1, 1])
    await b.turnTo(17_000)
    assert.deepEqual(
      b.posts.map(({ status }) => status),
      ['firing', 'resolved'],
    )
    b.restart()
    await b.turnTo(60_000)
    assert.equal(b.posts.length, 2)
  })

  it('keeps episodes also when nobody is to be told', async () => {
    const b = bench({ notify: false })
    await b.turnTo(1000)
    await b.api(0, 10)
    await b.turnTo(20_000)
    assert.deepEqual(
      b.episodes.map(({ postedAtMs, resolvedAtMs }) => [postedAtMs, resolvedAtMs]),
      [[null, START_MS + 15_000]],
    )
    assert.deepEqual(b.notes, [])
  })

  it('never dates an alert into the future for an agent whose clock runs ahead', async () => {
    const b = bench()
    await b.turnTo(1000)
    await b.api(0, 10, { firstBreachAtMs: { api_rtt: START_MS + 900_000 } })
    assert.equal(b.posts[0]?.alert.startsAtMs, START_MS + 1000)
  })

  it('pages on utilisation only after it stood above its budget in every interval', async () => {
    const b = bench()
    const slo: SloId = 'utilization'
    for (let second = 1; second <= 4; second++) {
      await b.turnTo(second * 1000)
      await b.cpu(0.95, { firstBreachAtMs: { utilization: START_MS + second * 1000 - 10 } })
    }
    await b.turnTo(5000)
    await b.cpu(0.8)
    for (let second = 6; second <= 9; second++) {
      await b.turnTo(second * 1000)
      await b.cpu(0.95, { firstBreachAtMs: { utilization: START_MS + second * 1000 - 10 } })
    }
    assert.equal(b.posts.length, 0)
    await b.turnTo(10_000)
    await b.cpu(0.91)
    assert.equal(b.posts.length, 1)
    assert.deepEqual(b.posts[0]?.alert.labels, {
      alertname: 'TickscopeUtilizationOverBudget',
      slo,
      severity: 'page',
      service: 'bot',
      venue: 'kalshi',
    })
    assert.equal(b.posts[0]?.alert.annotations.summary, 'Resource utilisation over 80%: cpu at 91% (bot → kalshi)')
    assert.equal(b.posts[0]?.alert.annotations.first_breach_at_ms, `${START_MS + 5990}`)
  })

  it('does not join utilisation across silence, nor trust one gauge for a long interval', async () => {
    const b = bench()
    await b.turnTo(1000)
    await b.cpu(0.95)
    await b.turnTo(7000)
    await b.cpu(0.95)
    await b.turnTo(30_000)
    await b.cpu(0.95, { intervalStartMs: START_MS + 7000, intervalEndMs: START_MS + 30_000 })
    assert.equal(b.posts.length, 0)
  })
})
