/** The whole chain as a user starts it: simulated venue to delivered page, through `npm start`. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { findOnPath } from '@tickscope/contract'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const RECORDING = join(ROOT, '../shared/data/kalshi-kxbtc15m-ws.jsonl.zst')
const MEASURED_LATENCY = join(ROOT, '../shared/data/latency/kalshi-order-submit-latency.csv')
const HAS_SERVERS = [findOnPath('prometheus'), findOnPath('alertmanager', 'prometheus-alertmanager')].every(Boolean)

// biome-ignore lint/suspicious/noExplicitAny: the summary is read as a script would read it
type Summary = any

interface Finished {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

function tickscope(args: string[], onStart?: (child: ChildProcess) => void): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = spawn('npm', ['start', '--silent', '--', ...args], { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (chunk) => (stdout += chunk))
    child.stderr.on('data', (chunk) => (stderr += chunk))
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, stdout, stderr }))
    onStart?.(child)
  })
}

async function summaryOf(args: string[], onStart?: (child: ChildProcess) => void): Promise<Summary> {
  const { code, stdout, stderr } = await tickscope([...args, '--json'], onStart)
  assert.equal(code, 0, stderr.slice(-3000))
  return JSON.parse(stdout.trimEnd().split('\n').at(-1) as string)
}

/** What must hold of every run: nobody lost or invented anything, and the stages are the whole. */
function assertCountsAgree(run: Summary): void {
  assert.equal(run.bot.ticksReceived, run.venue.ticksDelivered, 'ticks received = ticks delivered')
  assert.equal(run.collector.ticks, run.venue.ticksDelivered, 'ticks counted = ticks delivered')
  assert.equal(run.bot.ordersSent, run.venue.ordersReceived, 'orders sent = orders received')
  assert.equal(run.collector.tickToTrade.count, run.venue.ordersReceived, 'tick-to-trade counted = orders received')
  assert.equal(run.agent.dropped, 0)
  assert.equal(run.collector.dropped, 0)
  assert.ok(run.venue.ticksDelivered > 100, `only ${run.venue.ticksDelivered} ticks`)
  assert.ok(run.venue.ordersReceived > 10, `only ${run.venue.ordersReceived} orders`)
  const stages = Object.values<number>(run.collector.sumsNs.stages)
  assert.equal(stages.length, 6)
  assert.equal(
    stages.reduce((a, b) => a + b, 0),
    run.collector.sumsNs.tickToTrade,
    'stages sum to tick-to-trade, to the nanosecond',
  )
  for (const stage of Object.values<Summary>(run.collector.stages)) {
    assert.equal(stage.count, run.collector.tickToTrade.count)
  }
}

describe('npm start', () => {
  it('counts every tick and every order once, from the venue to the collector', async () => {
    const run = await summaryOf(['--for', '10s', '--seed', '7'])
    assertCountsAgree(run)
    assert.equal(run.seed, 7)
    assert.ok(run.durationMs >= 10_000 && run.durationMs < 15_000)
    assert.ok(run.probe.http.total.count > 0)
    assert.deepEqual(run.pages, [])
  })

  it('delivers one page within 3 s of a slow API, resolves it, and Prometheus raises the same alert', async (t) => {
    const run = await summaryOf(['--for', '40s', '--fault', 'api-delay=40ms@10s+10s'])
    assertCountsAgree(run)
    assert.equal(run.pages.length, 1, JSON.stringify(run.pages))
    const [page] = run.pages
    assert.equal(page.slo, 'api_rtt')
    // When the flow is dense just then, Prometheus's rule can be first by a moment; the fast path posts all the same.
    assert.ok(['fast', 'prometheus'].includes(page.path), page.path)
    const episode = run.collector.episodes.findLast(({ slo }: Summary) => slo === 'api_rtt')
    const told = JSON.stringify({ page, episode })
    assert.ok(episode.postedAtMs !== null && episode.postedAtMs - episode.firstBreachAtMs < 3_000, told)
    assert.ok(page.deliveredAtMs - episode.firstBreachAtMs < 3_000, told)
    assert.ok(page.deliveredAtMs > episode.firstBreachAtMs, told)
    assert.ok(page.resolvedAtMs > page.deliveredAtMs, JSON.stringify(page))
    assert.ok(run.collector.breaches.api_rtt > 20)
    if (HAS_SERVERS) {
      assert.ok(
        run.prometheus.alerts.some((alert: Summary) => alert.alertname === 'TickscopeApiRttOverBudget'),
        JSON.stringify(run.prometheus),
      )
    } else t.diagnostic('Prometheus or Alertmanager is not on PATH: only the fast path was seen')
  })

  it('loses nothing when the collector is killed and comes back', async () => {
    let killed = false
    const run = await summaryOf(['--for', '12s', '--no-prometheus'], (child) => {
      let text = ''
      child.stderr?.on('data', (chunk) => {
        text += chunk
        const pid = /^ {2}collector .*pid (\d+)$/m.exec(text)?.[1]
        if (pid === undefined || killed) return
        killed = true
        setTimeout(() => process.kill(Number(pid), 'SIGKILL'), 4_000)
      })
    })
    assert.ok(killed)
    assert.equal(run.collector.restarts, 1)
    assertCountsAgree(run)
  })

  it('trades on a real recording and under a measured latency table', {
    skip: existsSync(RECORDING) ? false : 'no recorded data beside the project',
  }, async () => {
    const run = await summaryOf([
      '--for',
      '12s',
      '--no-prometheus',
      '--replay',
      RECORDING,
      '--venue-latency',
      MEASURED_LATENCY,
    ])
    assertCountsAgree(run)
    // Half of the measured calls took 47 ms or more, so the API budget of 20 ms cannot have held.
    assert.ok(run.collector.apiRtt.p50Ns > 20e6, JSON.stringify(run.collector.apiRtt))
  })

  it('recovers its books after missed feed messages and a lost connection', async () => {
    const run = await summaryOf([
      '--for',
      '12s',
      '--no-prometheus',
      '--fault',
      'feed-gap=3@3s+1s',
      '--fault',
      'disconnect=1@6s+1s',
    ])
    assert.ok(run.bot.gaps >= 1, JSON.stringify(run.bot))
    assert.ok(run.bot.resyncs >= 1, JSON.stringify(run.bot))
    assert.ok(run.bot.reconnects >= 1, JSON.stringify(run.bot))
    assert.equal(run.collector.ticks, run.bot.ticksReceived)
  })
})

describe('bad input ends in one sentence and a non-zero exit', () => {
  let folder = ''
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'tickscope-test-'))
  })
  after(() => rmSync(folder, { recursive: true }))

  async function refuses(args: string[], sentence: RegExp): Promise<void> {
    const { code, stdout, stderr } = await tickscope(args)
    assert.notEqual(code, 0)
    assert.match(stderr, sentence)
    assert.doesNotMatch(stdout + stderr, /\n\s+at .*[:(]\d+|node:internal/, 'no stack trace')
  }

  it('for an unknown flag', () => refuses(['--fro', '30s'], /unknown option '--fro'/))
  it('for a fault that is none', () => refuses(['--fault', 'api-delay=40@10s'], /--fault/))
  it('for a duration without a unit', () => refuses(['--for', '30'], /--for is '30'/))
  it('for a recording that is not there', () => refuses(['--replay', join(folder, 'none.zst')], /none\.zst/))

  it('for a corrupt recording', async () => {
    const file = join(folder, 'corrupt.jsonl')
    writeFileSync(file, '{"t":1,"c":1,"raw":{"type":"orderbook_snapshot"}}\n{"t":2,"c"\n')
    await refuses(['--for', '5s', '--no-prometheus', '--replay', file], /corrupt\.jsonl/)
  })

  it('for a truncated recording', {
    skip: existsSync(RECORDING) ? false : 'no recorded data beside the project',
  }, async () => {
    const file = join(folder, 'cut.jsonl.zst')
    writeFileSync(file, readFileSync(RECORDING).subarray(0, 2_000))
    await refuses(['--for', '5s', '--no-prometheus', '--replay', file], /cut\.jsonl\.zst/)
  })

  it('for a busy port', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
    const { port } = server.address() as { port: number }
    try {
      for (const name of ['venue', 'collector', 'pager']) {
        await refuses(
          ['--for', '5s', '--no-prometheus', `--${name}-port`, `${port}`],
          new RegExp(`port ${port} .*already in use`),
        )
      }
    } finally {
      server.close()
    }
  })
})
