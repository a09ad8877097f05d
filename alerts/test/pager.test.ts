/** The pager as its senders and its reader see it. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, describe, it, type TestContext } from 'node:test'
import { type PagerOptions, startPager } from '../src/pager/app.ts'
import { type Incident, Incidents, type Notification } from '../src/pager/incidents.ts'

const MAIN = join(import.meta.dirname, '../src/pager/main.ts')
const LABELS = {
  alertname: 'TickscopeApiRttOverBudget',
  slo: 'api_rtt',
  severity: 'page',
  service: 'bot',
  venue: 'kalshi',
}
const T0 = Date.parse('2026-01-02T03:04:05Z')

function firing(fields: Partial<Notification> = {}): Notification {
  return {
    status: 'firing',
    labels: LABELS,
    annotations: { summary: 'API round trip over 20 ms', path: 'fast', first_breach_at_ms: `${T0 - 800}` },
    startsAt: new Date(T0).toISOString(),
    endsAt: '0001-01-01T00:00:00Z',
    ...fields,
  }
}

const resolved = (fields: Partial<Notification> = {}): Notification =>
  firing({ status: 'resolved', endsAt: new Date(T0 + 10_000).toISOString(), ...fields })

/** As Alertmanager wraps them. */
const payload = (...alerts: Notification[]) => ({
  version: '4',
  groupKey: '{}:{alertname="x"}',
  truncatedAlerts: 0,
  status: 'firing',
  receiver: 'pager',
  groupLabels: {},
  commonLabels: {},
  commonAnnotations: {},
  externalURL: 'http://127.0.0.1:9093',
  alerts: alerts.map((alert) => ({ ...alert, generatorURL: '', fingerprint: '0123456789abcdef' })),
})

async function pagerOf(t: TestContext, options: PagerOptions = {}) {
  let printed = ''
  const pager = await startPager({ write: (text) => (printed += text), ...options })
  t.after(() => pager.stop())
  const post = (body: unknown, headers: Record<string, string> = {}) =>
    fetch(`${pager.url}/page`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    })
  const pages = async () => (await (await fetch(`${pager.url}/v1/pages`)).json()) as Incident[]
  return { ...pager, post, pages, printed: () => printed }
}

describe('the incidents', () => {
  it('fold repeats of one incident into one page and count them', () => {
    const incidents = new Incidents()
    assert.equal(incidents.receive(firing(), T0 + 500)?.outcome, 'new')
    // The other path renews it: a later start, other annotations, labels in another order.
    const labels = Object.fromEntries(Object.entries(LABELS).reverse())
    const other = firing({ labels, annotations: { path: 'prometheus' }, startsAt: new Date(T0 + 3000).toISOString() })
    assert.equal(incidents.receive(other, T0 + 3500)?.outcome, 'again')
    assert.equal(incidents.pages, 1)
    const [page] = incidents.list()
    assert.equal(page?.notifications, 2)
    assert.equal(page.path, 'fast')
    assert.equal(page.firstBreachAtMs, T0 - 800)
    assert.equal(page.deliveredAtMs, T0 + 500)
  })

  it('reopen an incident that is renewed with a start before its end, and open another after it', () => {
    const incidents = new Incidents()
    incidents.receive(firing(), T0)
    assert.equal(incidents.receive(resolved(), T0 + 11_000)?.outcome, 'resolved')
    assert.equal(incidents.list()[0]?.resolvedAtMs, T0 + 11_000)
    assert.equal(incidents.receive(resolved(), T0 + 12_000)?.outcome, 'known')
    assert.equal(incidents.receive(firing(), T0 + 13_000)?.outcome, 'again')
    assert.equal(incidents.list()[0]?.resolvedAtMs, null)
    incidents.receive(resolved(), T0 + 14_000)
    const later = firing({ startsAt: new Date(T0 + 10_001).toISOString() })
    assert.equal(incidents.receive(later, T0 + 15_000)?.outcome, 'new')
    assert.equal(incidents.list().length, 2)
  })

  it('keep alerts with other labels apart', () => {
    const incidents = new Incidents()
    incidents.receive(firing(), T0)
    incidents.receive(firing({ labels: { ...LABELS, service: 'other' } }), T0)
    incidents.receive(firing({ labels: { ...LABELS, severity: 'ticket' } }), T0)
    assert.deepEqual([incidents.pages, incidents.tickets], [2, 1])
  })

  it('take the end of an incident they never saw for nothing', () => {
    const incidents = new Incidents()
    assert.equal(incidents.receive(resolved(), T0), undefined)
    assert.deepEqual(incidents.list(), [])
  })

  it('date the first event by the alert when it does not say', () => {
    const incidents = new Incidents()
    incidents.receive(firing({ annotations: { first_breach_at_ms: 'soon' } }), T0 + 5)
    assert.equal(incidents.list()[0]?.firstBreachAtMs, T0)
  })

  it('stay bounded, and forget a resolved incident before one that lasts', () => {
    const incidents = new Incidents(3)
    const of = (service: string) => firing({ labels: { ...LABELS, service } })
    for (const service of ['a', 'b', 'c']) incidents.receive(of(service), T0)
    incidents.receive(resolved({ labels: { ...LABELS, service: 'b' } }), T0 + 1)
    for (const service of ['d', 'e']) incidents.receive(of(service), T0 + 2)
    assert.deepEqual(
      incidents.list().map(({ service }) => service),
      ['c', 'd', 'e'],
    )
    assert.equal(incidents.pages, 5)
  })
})

describe('the pager', () => {
  it('delivers a page with its delay, then its end', async (t) => {
    const pager = await pagerOf(t)
    const before = Date.now()
    assert.equal((await pager.post(payload(firing()))).status, 200)
    assert.equal((await pager.post(payload(resolved()))).status, 200)
    const [page, ...others] = await pager.pages()
    assert.deepEqual(others, [])
    assert.ok(page)
    const { slo, path, alertname, service, firstBreachAtMs, notifications } = page
    assert.deepEqual(
      { slo, path, alertname, service, firstBreachAtMs, notifications },
      {
        slo: 'api_rtt',
        path: 'fast',
        alertname: LABELS.alertname,
        service: 'bot',
        firstBreachAtMs: T0 - 800,
        notifications: 1,
      },
    )
    assert.ok(page.deliveredAtMs >= before && (page.resolvedAtMs as number) >= page.deliveredAtMs)
  })

  it('prints a page as a phone shows it, and once, however often it is sent', async (t) => {
    const pager = await pagerOf(t)
    const annotations = {
      summary: 'API round trip over 20 ms: 87% of the last 10s (bot → kalshi)',
      description: '41 of 47 events of the last 10s took longer than 20 ms. Cause named most: venue.',
      path: 'prometheus',
      runbook_url: 'alerts/runbooks/TickscopeApiRttOverBudget.md',
    }
    const at = firing({ annotations, startsAt: new Date().toISOString() })
    await pager.post(payload(at))
    const first = pager.printed()
    assert.match(first, /^┌─ PAGE ─+ \d\d:\d\d:\d\d\.\d{3}Z\n/)
    for (const part of [
      '│ API round trip over 20 ms: 87% of the last 10s (bot →\n│ kalshi)\n',
      '│ TickscopeApiRttOverBudget · bot → kalshi\n',
      'Cause named most: venue.',
      ' after the first event, path prometheus\n',
      '│ alerts/runbooks/TickscopeApiRttOverBudget.md\n',
    ])
      assert.ok(first.includes(part), `${part} in\n${first}`)
    await pager.post(payload(at))
    assert.match(pager.printed().slice(first.length), /^┌─ PAGE, told 2 times ─/)
    await pager.post(payload({ ...at, status: 'resolved', endsAt: new Date().toISOString() }))
    assert.match(pager.printed(), /┌─ RESOLVED ─[\s\S]+│ after \d/)
    for (const line of pager.printed().split('\n')) assert.ok(line.length <= 60, line)
    assert.ok(!pager.printed().includes('\x1b'))
  })

  it('lets an alert draw nothing on the terminal but letters', async (t) => {
    const pager = await pagerOf(t)
    await pager.post(payload(firing({ annotations: { summary: 'a\x1b[2Jb\r\nc\u0007\u202e' } })))
    assert.match(pager.printed(), /│ a \[2Jb c\n/)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: their absence is what is tested
    assert.doesNotMatch(pager.printed(), /[\x00-\x09\x0b-\x1f\u202e]/)
  })

  it('keeps tickets apart from pages', async (t) => {
    const pager = await pagerOf(t)
    await pager.post(payload(firing({ labels: { ...LABELS, severity: 'ticket' } })))
    assert.deepEqual(await pager.pages(), [])
    const tickets = (await (await fetch(`${pager.url}/v1/tickets`)).json()) as Incident[]
    assert.equal(tickets.length, 1)
    assert.match(pager.printed(), /^┌─ TICKET ─/)
  })

  it('refuses what is no payload, in words, and keeps running', async (t) => {
    const pager = await pagerOf(t)
    const refused: [unknown, number, RegExp][] = [
      ['{"alerts": [', 400, /JSON/],
      ['[]', 400, /object/],
      [{ ...payload(), version: '5' }, 400, /version/],
      [payload(firing({ status: 'broken' as 'firing' })), 400, /status/],
      [payload(firing({ startsAt: 'yesterday' })), 400, /startsAt/],
      [payload(firing({ labels: { alertname: 1 as unknown as string } })), 400, /labels\/alertname/],
      ['x'.repeat(1024 * 1024 + 1), 413, /too large/],
    ]
    for (const [body, status, words] of refused) {
      const answer = await pager.post(body)
      assert.equal(answer.status, status, JSON.stringify(body).slice(0, 200))
      assert.match(((await answer.json()) as { error: string }).error, words)
    }
    assert.deepEqual(await pager.pages(), [])
    assert.equal((await pager.post(payload(firing()))).status, 200)
  })

  it('wants its token when it has one, for reading too', async (t) => {
    const pager = await pagerOf(t, { token: 'a-token-of-some-length' })
    assert.equal((await pager.post(payload(firing()))).status, 401)
    assert.equal((await pager.post(payload(firing()), { authorization: 'Bearer wrong' })).status, 401)
    assert.equal((await fetch(`${pager.url}/v1/pages`)).status, 401)
    assert.equal((await fetch(`${pager.url}/healthz`)).status, 200)
    const given = { authorization: 'Bearer a-token-of-some-length' }
    assert.equal((await pager.post(payload(firing()), given)).status, 200)
    const pages = (await (await fetch(`${pager.url}/v1/pages`, { headers: given })).json()) as Incident[]
    assert.equal(pages.length, 1)
  })
})

describe('the pager process', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'tickscope-pager-'))
  after(() => rmSync(scratch, { recursive: true }))

  function start(t: TestContext, args: string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
    const child = spawn(process.execPath, [MAIN, ...args], { env: { ...process.env, ...env }, stdio: 'pipe' })
    t.after(() => child.kill('SIGKILL'))
    return child
  }

  async function failure(t: TestContext, args: string[]): Promise<{ code: number; stderr: string }> {
    const child = start(t, args)
    let stderr = ''
    child.stderr?.on('data', (chunk) => (stderr += chunk))
    const [code] = await once(child, 'close')
    return { code, stderr }
  }

  it('is ready, prints pages on stderr without colour, and ends with its parent', async (t) => {
    const child = start(t, ['--port', '0'], { TICKSCOPE_CHILD: '1' })
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]()
    const ready = JSON.parse((await lines.next()).value as string)
    assert.equal(ready.event, 'ready')
    let stderr = ''
    child.stderr?.on('data', (chunk) => (stderr += chunk))
    const body = JSON.stringify(payload(firing()))
    await fetch(`${ready.url}/page`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
    child.stdin?.end()
    assert.deepEqual(JSON.parse((await lines.next()).value as string), {
      event: 'summary',
      pages: 1,
      tickets: 0,
      notifications: 1,
    })
    const [code] = await once(child, 'close')
    assert.equal(code, 0)
    assert.match(stderr, /^┌─ PAGE /)
  })

  it('ends in one sentence when it cannot run', async (t) => {
    const busy = createServer()
    busy.listen(0, '127.0.0.1')
    await once(busy, 'listening')
    t.after(() => busy.close())
    const { port } = busy.address() as { port: number }
    const short = join(scratch, 'short')
    writeFileSync(short, 'abc\n')
    const cases: [string[], number, RegExp][] = [
      [['--port', `${port}`], 3, new RegExp(`^pager: port ${port} on 127\\.0\\.0\\.1 is already in use\n$`)],
      [['--port', '70000'], 2, /^pager: --port is '70000', not a port from 0 to 65535\n$/],
      [['--host', '0.0.0.0'], 2, /^pager: --host 0\.0\.0\.0 is not loopback: give a --token-file or .+\n$/],
      [['--token-file', join(scratch, 'none')], 2, /^pager: token file .+ cannot be read: ENOENT\n$/],
      [['--token-file', short], 2, /^pager: the token in .+ is shorter than 16 characters\n$/],
      [['--nope'], 2, /^pager: unknown option '--nope'\n$/],
    ]
    await Promise.all(
      cases.map(async ([args, code, sentence]) => {
        const result = await failure(t, args)
        assert.equal(result.code, code, result.stderr)
        assert.match(result.stderr, sentence)
      }),
    )
  })
})
