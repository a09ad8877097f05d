import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { PAGING } from '@tickscope/contract'
import {
  API_OK,
  batchOf,
  eventually,
  getMetrics,
  getSummary,
  type Peer,
  postBatch,
  sample,
  series,
  startCollector,
  startPeer,
  temporaryDir,
} from './fixture.ts'
import { freePort, programOrSkip, startServer } from './servers.ts'

interface Webhook {
  readonly version: string
  readonly status: string
  readonly groupKey: string
  readonly groupLabels: Record<string, string>
  readonly commonLabels: Record<string, string>
  readonly alerts: {
    readonly status: string
    readonly labels: Record<string, string>
    readonly annotations: Record<string, string>
    readonly startsAt: string
    readonly endsAt: string
    readonly fingerprint: string
  }[]
}

const LABELS = {
  alertname: 'TickscopeApiRttOverBudget',
  slo: 'api_rtt',
  severity: 'page',
  service: 'bot',
  venue: 'kalshi',
}

/** Two merged seconds of slow calls: what the detector asks for. */
function slowSeconds(sequence: number, firstBreachAtMs?: number) {
  const intervalEndMs = Date.now()
  return batchOf({
    sequence,
    intervalStartMs: intervalEndMs - 2000,
    intervalEndMs,
    series: [series('tickscope_api_rtt_seconds', API_OK, Array<number>(10).fill(40e6))],
    ...(firstBreachAtMs !== undefined && { firstBreachAtMs: { api_rtt: firstBreachAtMs } }),
  })
}

const pagesOf = (peer: Peer) => peer.received.map(({ body }) => JSON.parse(body.toString()) as Webhook)

describe('a page', { concurrency: true }, () => {
  it('reaches a webhook in the form of Alertmanager, once, and its end after the hold time', async (t) => {
    const pager = await startPeer(t)
    pager.answer = (_request, n) => ({ status: n === 1 ? 500 : 200 })
    let aheadMs = 0
    const clock = { epochMs: () => Date.now() + aheadMs, monotonicMs: () => performance.now() + aheadMs }
    const { url } = await startCollector(t, { webhookUrl: `${pager.url}/page?team=a`, clock })
    const firstBreachAtMs = Date.now() - 500
    await postBatch(url, slowSeconds(1, firstBreachAtMs))
    await postBatch(url, slowSeconds(2))
    await eventually('the second try', () => pager.received.length === 2)
    assert.equal(pager.received[0]?.path, '/page?team=a')
    const [failed, page] = pagesOf(pager) as [Webhook, Webhook]
    assert.equal(failed.groupKey, page.groupKey)
    assert.deepEqual([page.version, page.status, page.alerts.length], ['4', 'firing', 1])
    assert.equal(page.groupKey, '{}:{alertname="TickscopeApiRttOverBudget", service="bot", venue="kalshi"}')
    assert.deepEqual(page.commonLabels, LABELS)
    const [alert] = page.alerts
    assert.deepEqual([alert?.status, alert?.labels, alert?.annotations.path], ['firing', LABELS, 'fast'])
    assert.equal(alert?.annotations.first_breach_at_ms, `${firstBreachAtMs}`)
    assert.equal(Date.parse(alert?.startsAt ?? ''), firstBreachAtMs)
    assert.match(alert?.fingerprint ?? '', /^[0-9a-f]{16}$/)
    const open = await eventually('a posted episode', async () =>
      (await getSummary(url)).episodes.find(({ postedAtMs }) => postedAtMs !== null),
    )
    assert.deepEqual(
      [open.slo, open.service, open.venue, open.firstBreachAtMs, open.resolvedAtMs],
      ['api_rtt', 'bot', 'kalshi', firstBreachAtMs, null],
    )

    aheadMs = PAGING.holdSeconds * 1000 + 100
    await eventually('its end', () => pager.received.length === 3)
    const resolved = pagesOf(pager)[2] as Webhook
    assert.deepEqual(
      [resolved.status, resolved.alerts[0]?.status, resolved.alerts[0]?.fingerprint],
      ['resolved', 'resolved', alert?.fingerprint],
    )
    const [episode] = (await getSummary(url)).episodes
    assert.equal(episode?.resolvedAtMs, Date.parse(resolved.alerts[0]?.endsAt ?? ''))
    const metrics = await getMetrics(url)
    assert.equal(sample(metrics, 'tickscope_collector_alert_posts_total', { outcome: 'failed' }), 1)
    assert.equal(sample(metrics, 'tickscope_collector_alert_posts_total', { outcome: 'ok' }), 2)
  })

  it('goes on over a restart of the collector without a second page', async (t) => {
    const pager = await startPeer(t)
    const first = await startCollector(t, { webhookUrl: pager.url })
    await postBatch(first.url, slowSeconds(1))
    await eventually('the page', async () => (await getSummary(first.url)).episodes[0]?.postedAtMs ?? undefined)
    await first.stop()
    let aheadMs = 0
    const clock = { epochMs: () => Date.now() + aheadMs, monotonicMs: () => performance.now() + aheadMs }
    const second = await startCollector(t, { webhookUrl: pager.url, dataDir: first.dir, clock })
    await postBatch(second.url, slowSeconds(2))
    aheadMs = PAGING.holdSeconds * 1000 + 100
    await eventually('its end', () => pager.received.length === 2)
    assert.deepEqual(
      pagesOf(pager).map(({ status }) => status),
      ['firing', 'resolved'],
    )
    assert.equal((await getSummary(second.url)).episodes.length, 1)
  })

  it('is one incident in a real Alertmanager, though Prometheus posts the same alert and ends it first', async (t) => {
    const alertmanager = programOrSkip(t, 'prometheus-alertmanager', 'alertmanager')
    if (!alertmanager) return
    const pager = await startPeer(t)
    const dir = temporaryDir(t)
    writeFileSync(
      join(dir, 'alertmanager.yml'),
      JSON.stringify({
        route: {
          receiver: 'pager',
          group_by: ['alertname', 'service', 'venue'],
          group_wait: '0s',
          group_interval: '1s',
          repeat_interval: '1h',
        },
        receivers: [{ name: 'pager', webhook_configs: [{ url: `${pager.url}/page`, send_resolved: true }] }],
      }),
    )
    const address = `127.0.0.1:${await freePort()}`
    const alertmanagerUrl = `http://${address}`
    await startServer(
      t,
      alertmanager,
      [
        `--config.file=${join(dir, 'alertmanager.yml')}`,
        `--storage.path=${join(dir, 'data')}`,
        `--web.listen-address=${address}`,
        '--cluster.listen-address=',
      ],
      `${alertmanagerUrl}/-/ready`,
    )
    const { url } = await startCollector(t, {
      alertmanagerUrl: `${alertmanagerUrl}/`,
      webhookUrl: 'http://127.0.0.1:1/unused',
    })
    const firstBreachAtMs = Date.now() - 300
    await postBatch(url, slowSeconds(1, firstBreachAtMs))
    await eventually('the page', () => pager.received.length === 1)
    const [page] = pagesOf(pager) as [Webhook]
    assert.deepEqual([page.status, page.alerts.length], ['firing', 1])
    assert.deepEqual([page.alerts[0]?.labels, page.alerts[0]?.annotations.path], [LABELS, 'fast'])
    assert.equal(Date.parse(page.alerts[0]?.startsAt ?? ''), firstBreachAtMs)

    const alerts = async () =>
      (await (await fetch(`${alertmanagerUrl}/api/v2/alerts`)).json()) as {
        labels: object
        startsAt: string
        endsAt: string
        annotations: { path: string }
      }[]
    const asPrometheus = (startsAtMs: number, endsAtMs: number) =>
      fetch(`${alertmanagerUrl}/api/v2/alerts`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify([
          {
            labels: LABELS,
            annotations: { path: 'prometheus' },
            startsAt: new Date(startsAtMs),
            endsAt: new Date(endsAtMs),
          },
        ]),
      })
    const firedAtMs = Date.now()
    assert.equal((await asPrometheus(firedAtMs, firedAtMs + 240_000)).status, 200)
    await postBatch(url, slowSeconds(2))
    await eventually('the collector prolonged it', async () => {
      const [alert, ...others] = await alerts()
      assert.deepEqual([others, alert?.labels], [[], LABELS])
      assert.equal(Date.parse(alert?.startsAt ?? ''), firstBreachAtMs, 'the earliest start stays')
      return alert?.annotations.path === 'fast'
    })
    assert.equal((await asPrometheus(firedAtMs, Date.now())).status, 200)
    await eventually('the end', () => pagesOf(pager).some(({ status }) => status === 'resolved'))
    assert.deepEqual(
      pagesOf(pager).map(({ status }) => status),
      ['firing', 'resolved'],
    )
    assert.equal((await getSummary(url)).episodes.length, 1)
  })
})
