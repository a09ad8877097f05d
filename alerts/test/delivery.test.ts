/**
 * From a slow request in /metrics to a page, through the real Prometheus and Alertmanager with the real configurations:
 * once by Prometheus alone, once with the collector's fast path posting the same alert first.
 */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { ALERT_NAMES, bucketBoundsNs, DEFAULT_SLOS, findOnPath, leOf, PAGING } from '@tickscope/contract'
import { skipWithout } from '../../contract/test/program.ts'
import { renderAlertmanager, renderPrometheus, renderRules } from '../src/index.ts'
import { type Pager, startPager } from '../src/pager/app.ts'
import type { Incident } from '../src/pager/incidents.ts'

const prometheus = findOnPath('prometheus')
const alertmanager = findOnPath('alertmanager', 'prometheus-alertmanager')

/** A collector of two bots: each scrape finds ten more requests, of 1 ms, or of 40 ms while the bot is slow. */
class Exporter {
  readonly #bots = new Map(['lone', 'both'].map((service) => [service, { quick: 0, slow: 0, isSlow: false }]))
  readonly #server: Server
  scrapes = 0

  constructor() {
    this.#server = createServer((_request, response) => {
      this.scrapes++
      response.setHeader('content-type', 'text/plain; version=0.0.4; charset=utf-8')
      response.end(this.#exposition())
    })
  }

  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  setSlow(service: string, isSlow: boolean): void {
    const bot = this.#bots.get(service)
    assert.ok(bot)
    bot.isSlow = isSlow
  }

  close(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }

  #exposition(): string {
    const lines = [
      '# TYPE tickscope_api_rtt_seconds histogram',
      '# TYPE tickscope_agent_last_batch_timestamp_seconds gauge',
    ]
    for (const [service, bot] of this.#bots) {
      bot[bot.isSlow ? 'slow' : 'quick'] += 10
      const resource = `service="${service}",instance="${service}-1",venue="kalshi"`
      const labels = `${resource},endpoint="create_order",outcome="ok"`
      const name = 'tickscope_api_rtt_seconds'
      for (const boundNs of bucketBoundsNs(DEFAULT_SLOS)) {
        const count = (boundNs >= 1e6 ? bot.quick : 0) + (boundNs >= 40e6 ? bot.slow : 0)
        lines.push(`${name}_bucket{${labels},le="${leOf(boundNs)}"} ${count}`)
      }
      lines.push(`${name}_bucket{${labels},le="+Inf"} ${bot.quick + bot.slow}`)
      lines.push(`${name}_count{${labels}} ${bot.quick + bot.slow}`)
      lines.push(`${name}_sum{${labels}} ${(bot.quick * 1e-3 + bot.slow * 40e-3).toFixed(6)}`)
      lines.push(`tickscope_agent_last_batch_timestamp_seconds{${resource}} ${Date.now() / 1000}`)
    }
    return `${lines.join('\n')}\n`
  }
}

/** Polls until `probe` gives something. */
async function eventually<T>(what: string, timeoutMs: number, probe: () => Promise<T | undefined> | T | undefined) {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const found = await probe()
    if (found !== undefined) return found
    assert.ok(performance.now() < deadline, `${what} did not happen within ${timeoutMs / 1000} s`)
    await delay(100)
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

describe('a breach', { skip: skipWithout({ prometheus, alertmanager }), concurrency: true, timeout: 90_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'tickscope-delivery-'))
  const exporter = new Exporter()
  const children: ChildProcess[] = []
  let pager: Pager
  let alertmanagerUrl = ''
  let prometheusUrl = ''

  async function startServer(name: string, command: string, args: string[], url: string): Promise<void> {
    const log = openSync(join(folder, `${name}.log`), 'a')
    const child = spawn(command, args, { stdio: ['ignore', log, log] })
    children.push(child)
    await eventually(`${name} ready`, 20_000, async () => {
      assert.equal(child.exitCode, null, readFileSync(join(folder, `${name}.log`), 'utf8').slice(-2000))
      const answer = await fetch(`${url}/-/ready`).catch(() => undefined)
      return answer?.ok || undefined
    })
  }

  before(async () => {
    const collectorTarget = await exporter.listen()
    pager = await startPager({ write: () => {} })
    const port = await freePort()
    alertmanagerUrl = `http://127.0.0.1:${port}`
    writeFileSync(join(folder, 'alertmanager.yml'), renderAlertmanager({ pagerUrl: `${pager.url}/page` }))
    await startServer(
      'alertmanager',
      alertmanager as string,
      [
        `--config.file=${join(folder, 'alertmanager.yml')}`,
        `--storage.path=${join(folder, 'alertmanager')}`,
        `--web.listen-address=127.0.0.1:${port}`,
        '--cluster.listen-address=',
      ],
      alertmanagerUrl,
    )
    const rulesPath = join(folder, 'tickscope.rules.yml')
    writeFileSync(rulesPath, renderRules(DEFAULT_SLOS))
    writeFileSync(
      join(folder, 'prometheus.yml'),
      renderPrometheus({ collectorTarget, alertmanagerTarget: `127.0.0.1:${port}`, rulesPath }),
    )
    const prometheusPort = await freePort()
    prometheusUrl = `http://127.0.0.1:${prometheusPort}`
    mkdirSync(join(folder, 'prometheus'))
    await startServer(
      'prometheus',
      prometheus as string,
      [
        `--config.file=${join(folder, 'prometheus.yml')}`,
        `--storage.tsdb.path=${join(folder, 'prometheus')}`,
        `--web.listen-address=127.0.0.1:${prometheusPort}`,
      ],
      prometheusUrl,
    )
    const seen = exporter.scrapes
    await eventually('two scrapes', 10_000, () => exporter.scrapes >= seen + 2 || undefined)
  })

  after(async () => {
    for (const child of children.reverse()) {
      if (child.exitCode !== null) continue
      child.kill('SIGTERM')
      await once(child, 'exit')
    }
    await pager.stop()
    exporter.close()
    rmSync(folder, { recursive: true })
  })

  async function pagesOf(service: string): Promise<Incident[]> {
    const all = (await (await fetch(`${pager.url}/v1/pages`)).json()) as Incident[]
    return all.filter((page) => page.service === service)
  }

  /** Every alert of this service that Prometheus has in hand. */
  async function firingInPrometheus(service: string): Promise<string[]> {
    const answer = await fetch(`${prometheusUrl}/api/v1/alerts`)
    const { data } = (await answer.json()) as { data: { alerts: { state: string; labels: Record<string, string> }[] } }
    return data.alerts
      .filter(({ state, labels }) => state === 'firing' && labels.service === service)
      .map(({ labels }) => labels.alertname as string)
  }

  it('that Prometheus alone sees is one page, which ends when the breach does', async () => {
    const breachAtMs = Date.now()
    exporter.setSlow('lone', true)
    const page = await eventually('a page', 15_000, async () => (await pagesOf('lone'))[0])
    assert.equal(page.alertname, ALERT_NAMES.api_rtt)
    assert.equal(page.slo, 'api_rtt')
    assert.equal(page.severity, 'page')
    assert.equal(page.venue, 'kalshi')
    assert.equal(page.path, 'prometheus')
    assert.match(page.summary, /^API round trip over 20 ms: .+% of the last 10s \(lone → kalshi\)$/)
    assert.match(page.description, /^\d+ of \d+ events of the last 10s took longer than 20 ms\.$/)
    assert.ok(page.firstBreachAtMs >= breachAtMs && page.firstBreachAtMs <= page.deliveredAtMs)
    exporter.setSlow('lone', false)
    await eventually('the end', 30_000, async () => (await pagesOf('lone'))[0]?.resolvedAtMs ?? undefined)
    const pages = await pagesOf('lone')
    assert.equal(pages.length, 1)
    assert.equal(pages[0]?.notifications, 1)
  })

  it('that the fast path tells first is one page too, and Prometheus adds none to it', async () => {
    const firstBreachAtMs = Date.now()
    exporter.setSlow('both', true)
    const startsAt = new Date(firstBreachAtMs).toISOString()
    /** What the collector's detector posts. */
    const post = async (endsAtMs: number) => {
      const answer = await fetch(`${alertmanagerUrl}/api/v2/alerts`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify([
          {
            labels: {
              alertname: ALERT_NAMES.api_rtt,
              slo: 'api_rtt',
              severity: 'page',
              service: 'both',
              venue: 'kalshi',
            },
            annotations: { summary: 'fast', path: 'fast', first_breach_at_ms: `${firstBreachAtMs}` },
            startsAt,
            endsAt: new Date(endsAtMs).toISOString(),
          },
        ]),
      })
      assert.equal(answer.status, 200, await answer.text())
    }
    await post(Date.now() + PAGING.holdSeconds * 1000)
    const page = await eventually('a page', 15_000, async () => (await pagesOf('both'))[0])
    assert.equal(page.path, 'fast')
    assert.equal(page.firstBreachAtMs, firstBreachAtMs)
    // Prometheus raises the same alert, and Alertmanager has it from there as well.
    await eventually('the alert in Prometheus', 15_000, async () =>
      (await firingInPrometheus('both')).includes(ALERT_NAMES.api_rtt) ? true : undefined,
    )
    await eventually('the alert of Prometheus in Alertmanager', 15_000, async () => {
      const answer = await fetch(`${alertmanagerUrl}/api/v2/alerts?filter=service="both"`)
      const alerts = (await answer.json()) as { annotations: Record<string, string> }[]
      assert.equal(alerts.length, 1, JSON.stringify(alerts))
      return alerts[0]?.annotations.path === 'prometheus' ? true : undefined
    })
    exporter.setSlow('both', false)
    const lastBreachAtMs = Date.now()
    await post(lastBreachAtMs + PAGING.holdSeconds * 1000)
    const resolvedAtMs = await eventually(
      'the end',
      30_000,
      async () => (await pagesOf('both'))[0]?.resolvedAtMs ?? undefined,
    )
    assert.ok(resolvedAtMs > lastBreachAtMs)
    assert.deepEqual(await firingInPrometheus('both'), [])
    await delay(Math.max(0, lastBreachAtMs + PAGING.holdSeconds * 1000 - Date.now()))
    await post(Date.now())
    const pages = await pagesOf('both')
    assert.equal(pages.length, 1, JSON.stringify(pages))
    assert.equal(pages[0]?.notifications, 1)
  })
})
