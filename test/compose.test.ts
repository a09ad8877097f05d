/**
 * The stack of docker-compose.yml: what it allows itself, and a fault at the venue that becomes a page, through the
 * Prometheus and Alertmanager in it.
 *
 * Where no container registry can be reached, `../shared/compose-lab/prepare` (when present) installs an engine and
 * builds stand-ins for the images that are not ours; what has none (Grafana, Tempo) is left out.
 */
import assert from 'node:assert/strict'
import { type SpawnSyncReturns, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createServer } from 'node:net'
import { join, resolve } from 'node:path'
import { after, afterEach, before, describe, it, type TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { ALERT_NAMES } from '@tickscope/contract'

const ROOT = resolve(import.meta.dirname, '..')
const PREPARE = join(ROOT, '../shared/compose-lab/prepare')
const PROJECT = `tickscope-test-${process.pid}`
/** Long enough after the venue's start for the whole stack to be up, on a slow machine too. */
const FAULT_AT_S = 60
const FAULT_FOR_S = 20
/** Age of a container's first process, seconds: uptime less its start in ticks of 10 ms (proc_pid_stat(5), field 22). */
const AGE_S = `const read = (file) => fs.readFileSync(file, 'utf8').split(' ')
read('/proc/uptime')[0] - read('/proc/1/stat')[21] / 100`
const PREPARE_TIMEOUT_MS = 300_000
const UP_TIMEOUT_MS = 240_000

function run(command: string, args: readonly string[], timeoutMs = 60_000): SpawnSyncReturns<string> {
  return spawnSync(command, args, { cwd: ROOT, encoding: 'utf8', timeout: timeoutMs, maxBuffer: 64 * 1024 * 1024 })
}

/** Compose files to use, or why there is no engine. */
function prepareEngine(): { files: string[] } | { missing: string } {
  const files = ['docker-compose.yml']
  if (existsSync(PREPARE) && process.getuid?.() === 0) {
    console.log('preparing a Docker engine and stand-ins for its images; minutes the first time')
    const { status, stdout, stderr } = run(PREPARE, ['.'], PREPARE_TIMEOUT_MS)
    const override = stdout?.trim().split('\n').at(-1)
    if (status === 0 && override) return { files: [...files, override] }
    return { missing: `no Docker engine: ${PREPARE} failed: ${(stderr ?? '').trim().split('\n').at(-1)}` }
  }
  if (run('docker', ['info']).status !== 0) return { missing: 'no Docker engine answers' }
  if (run('docker', ['compose', 'version']).status !== 0) return { missing: 'no Docker engine with Compose v2' }
  return { files }
}

const engine = prepareEngine()
const skip = 'missing' in engine && engine.missing

function compose(args: readonly string[], timeoutMs?: number): SpawnSyncReturns<string> {
  const files = 'files' in engine ? engine.files.flatMap((file) => ['-f', file]) : []
  return run('docker', ['compose', '-p', PROJECT, ...files, ...args], timeoutMs)
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

/** Polls until `probe` gives something; errors of the world count as not yet. */
async function eventually<T>(what: string, timeoutMs: number, probe: () => Promise<T | undefined>): Promise<T> {
  const deadline = performance.now() + timeoutMs
  let last: unknown
  for (;;) {
    try {
      const found = await probe()
      if (found !== undefined) return found
    } catch (error) {
      last = error
    }
    assert.ok(performance.now() < deadline, `${what} did not happen within ${timeoutMs / 1000} s; ${last ?? ''}`)
    await delay(500)
  }
}

interface Service {
  readonly image: string
  readonly mem_limit?: string
  readonly read_only?: boolean
  readonly cap_drop?: readonly string[]
  readonly security_opt?: readonly string[]
  readonly privileged?: boolean
  readonly network_mode?: string
  readonly healthcheck?: { readonly test: readonly string[] }
  readonly ports?: readonly { readonly host_ip?: string }[]
  readonly pids_limit?: number
}

describe('the compose file', { skip }, () => {
  /** As written, without the override that leaves services out. */
  const services = (): [string, Service][] => {
    const { status, stdout, stderr } = run('docker', ['compose', '--profile', '*', 'config', '--format', 'json'])
    assert.equal(status, 0, stderr)
    return Object.entries((JSON.parse(stdout) as { services: Record<string, Service> }).services)
  }

  it('has every part of the suite', () => {
    assert.deepEqual(
      services()
        .map(([name]) => name)
        .sort(),
      ['alertmanager', 'bot', 'collector', 'grafana', 'keys', 'pager', 'probes', 'prometheus', 'tempo', 'venue'],
    )
  })

  it('gives each service a version, a memory limit, a health check, and no more rights than it needs', () => {
    let limitBytes = 0
    for (const [name, service] of services()) {
      assert.match(service.image, /:v?\d+\.\d+\.\d+$/, `${name}: an exact version`)
      assert.ok(Number(service.mem_limit) > 0, `${name}: a memory limit`)
      limitBytes += Number(service.mem_limit)
      assert.equal(service.read_only, true, `${name}: a file system that is read only`)
      assert.deepEqual(service.cap_drop, ['ALL'], name)
      assert.deepEqual(service.security_opt, ['no-new-privileges:true'], name)
      assert.ok(!service.privileged, name)
      assert.ok((service.pids_limit ?? 0) > 0, `${name}: a limit of processes`)
      if (name !== 'keys') assert.ok((service.healthcheck?.test.length ?? 0) > 1, `${name}: a health check`)
      for (const port of service.ports ?? []) assert.equal(port.host_ip, '127.0.0.1', `${name}: published here only`)
    }
    assert.ok(limitBytes <= 1.5 * 1024 ** 3, `memory limits add up to ${limitBytes / 1024 ** 2} MiB`)
  })
})

describe('the compose stack', { skip }, () => {
  const ports = new Map<string, number>()
  const url = (service: string) => `http://127.0.0.1:${ports.get(service)}`
  let token = ''
  /** When the venue's process began, on the clock of `performance.now`: that of the machine may step. */
  let venueStartedAtMs = 0

  async function get<T>(service: string, path: string): Promise<T> {
    const answer = await fetch(`${url(service)}${path}`, {
      headers: { authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(5_000),
    })
    assert.equal(answer.status, 200, `${service}${path}`)
    return (await answer.json()) as T
  }

  async function query(promql: string): Promise<{ metric: Record<string, string>; value: [number, string] }[]> {
    type Answer = { data: { result: { metric: Record<string, string>; value: [number, string] }[] } }
    return (await get<Answer>('prometheus', `/api/v1/query?query=${encodeURIComponent(promql)}`)).data.result
  }

  before(async () => {
    for (const service of ['venue', 'collector', 'prometheus', 'alertmanager', 'pager', 'grafana']) {
      const port = await freePort()
      ports.set(service, port)
      process.env[`TICKSCOPE_${service.toUpperCase()}_PORT`] = `${port}`
    }
    process.env.TICKSCOPE_VENUE_FAULT = `api-delay=40ms@${FAULT_AT_S}s+${FAULT_FOR_S}s`
    const { status, stdout, stderr } = compose(['up', '--build', '--detach', '--wait'], UP_TIMEOUT_MS)
    const logs = status === 0 ? '' : compose(['logs', '--tail', '20']).stdout
    assert.equal(status, 0, `${stdout}${stderr}`.slice(-4000) + logs)
    token = compose(['exec', '-T', 'pager', 'cat', '/token/token']).stdout.trim()
    assert.match(token, /^[0-9a-f]{64}$/)
    const age = compose(['exec', '-T', 'venue', 'node', '-p', AGE_S])
    assert.equal(age.status, 0, age.stderr)
    venueStartedAtMs = performance.now() - Number(age.stdout) * 1000
  })

  // What the stack was at when a test failed: nothing of it is left afterwards.
  afterEach((t) => {
    if ((t as TestContext & { readonly passed: boolean }).passed) return // not in the types yet
    console.log(compose(['ps', '--all']).stdout)
    console.log(compose(['logs', '--timestamps', '--tail', '40']).stdout)
  })

  after(() => {
    const { status, stderr } = compose(['down', '--volumes', '--remove-orphans', '--timeout', '10'], 120_000)
    assert.equal(status, 0, stderr)
  })

  /** Alerts that Prometheus has handed to Alertmanager, by its own count. */
  async function deliveries(): Promise<number> {
    const text = await (await fetch(`${url('prometheus')}/metrics`, { signal: AbortSignal.timeout(5_000) })).text()
    const total = (name: string) =>
      [...text.matchAll(new RegExp(`^${name}{.*} (\\d+)$`, 'gm'))].reduce((sum, [, value]) => sum + Number(value), 0)
    return total('prometheus_notifications_sent_total') - total('prometheus_notifications_errors_total')
  }

  it('runs every process as an ordinary user', () => {
    const running = compose(['ps', '--services', '--status', 'running']).stdout.trim().split('\n')
    for (const service of ['venue', 'bot', 'probes', 'collector', 'prometheus', 'alertmanager', 'pager'])
      assert.ok(running.includes(service), `${service} runs`)
    for (const service of running) {
      const { stdout } = compose(['exec', '-T', service, 'cat', '/proc/1/status'])
      if (stdout === '') continue // an image without cat
      assert.doesNotMatch(stdout, /^Uid:\s+0/m, `${service} runs as root`)
      assert.match(stdout, /^CapEff:\s+0+$/m, `${service} has capabilities`)
    }
  })

  it('counts ticks and orders from the venue to Prometheus', async () => {
    const orders = await eventually('an order in Prometheus', 60_000, async () => {
      const [total] = await query('sum(tickscope_tick_to_trade_seconds_count{service="bot"})')
      return Number(total?.value[1]) > 0 ? Number(total?.value[1]) : undefined
    })
    const summary = await get<{ ticks: number; orders: number; dropped: number }>('collector', '/v1/summary')
    assert.ok(summary.orders >= orders)
    assert.ok(summary.ticks >= summary.orders)
    const [probe] = await query('tickscope_probe_up{probe="http"}')
    assert.equal(probe?.value[1], '1')
  })

  it('answers nobody without the token', async () => {
    for (const [service, path] of [
      ['collector', '/metrics'],
      ['collector', '/v1/summary'],
      ['pager', '/v1/pages'],
    ] as const)
      assert.equal((await fetch(`${url(service)}${path}`)).status, 401, `${service}${path}`)
  })

  it('turns a slow venue into a page, through Prometheus and Alertmanager, and tells its end', async () => {
    type Page = { slo: string; service: string; path: string; resolvedAtMs: number | null }
    const faultStartsAtMs = venueStartedAtMs + FAULT_AT_S * 1000
    const faultEndsAtMs = faultStartsAtMs + FAULT_FOR_S * 1000
    const pageOf = async () =>
      (await get<Page[]>('pager', '/v1/pages')).findLast(({ slo, service }) => slo === 'api_rtt' && service === 'bot')
    const deliveredBefore = await deliveries()
    // Before the fault a busy machine may break the budget too: what counts is what happens from here on.
    await delay(Math.max(0, faultStartsAtMs - performance.now()))

    await eventually('the alert of Prometheus', faultEndsAtMs - performance.now() + 5_000, async () => {
      const firing = await query(`ALERTS{alertname="${ALERT_NAMES.api_rtt}", service="bot", alertstate="firing"}`)
      return firing.length > 0 || undefined
    })
    // Not by the alert's own words in Alertmanager: the fast path renews them each second.
    await eventually(
      'its delivery to Alertmanager',
      15_000,
      async () => (await deliveries()) > deliveredBefore || undefined,
    )
    await eventually('the page', 15_000, async () => ((await pageOf())?.resolvedAtMs === null ? true : undefined))
    await delay(Math.max(0, faultEndsAtMs - performance.now()))
    await eventually('its end', 90_000, async () => ((await pageOf())?.resolvedAtMs ? true : undefined))
    const printed = compose(['logs', '--no-log-prefix', 'pager']).stdout
    assert.match(printed, /┌─ PAGE [\s\S]+TickscopeApiRttOverBudget · bot → kalshi/)
  })

  it('has what the probes need beside their source: programs built, prices, other runtimes', () => {
    /** Rows of a short run: their names and whether they were measured. */
    const measured = (probe: string, ...args: string[]) => {
      const command = ['run', '--rm', '--no-deps', '-T', 'probes', 'node', 'probes/src/main.ts', probe]
      const { stdout, stderr } = compose([...command, '--rounds', '1', '--count', '50', '--json', ...args], 120_000)
      const last = stdout.trim().split('\n').at(-1) ?? ''
      assert.match(last, /^{/, `${probe}: ${stdout}${stderr}`)
      type Row = { readonly name?: string; readonly path?: string; readonly status: string; readonly reason?: string }
      return (JSON.parse(last) as { rows: Row[] }).rows.map((row) => [row.name ?? row.path, row.status, row.reason])
    }
    assert.deepEqual(measured('runtime', '--runtimes', 'c,node'), [
      ['c', 'measured', undefined],
      ['node', 'measured', undefined],
    ])
    assert.deepEqual(measured('jitter', '--scenarios', 'quiet_unpinned'), [['quiet_unpinned', 'measured', '']])
    assert.deepEqual(measured('bypass', '--paths', 'udp_blocking'), [['udp_blocking', 'measured', '']])
    const [row] = measured('route', '--url', 'http://venue:8090')
    assert.equal(row?.[0], 'here')
  })
})
