import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { DEFAULT_SLOS, findOnPath } from '@tickscope/contract'
import { PRICE_FILE, readPrices } from '../../src/route/price.ts'
import { type Relay, startRelay } from '../../src/route/relay.ts'
import { readRoutes } from '../../src/route/routes.ts'
import { runRoutes } from '../../src/route/run.ts'
import { startTarget, type Target } from '../target.ts'

const CAN =
  ['ip', 'nsenter', 'unshare'].every((name) => findOnPath(name)) && spawnSync('unshare', ['-n', 'true']).status === 0
const START_TIMEOUT_MS = 10_000
/** The relays' own timers on a busy machine, beside the interval of the rounds, ns. */
const RELAY_NS = 1e6

interface Namespace {
  readonly path: string
  /** Address of this side of its veth pair, from the range for benchmarks (RFC 2544). */
  readonly gateway: string
  stop(): Promise<void>
}

/** A namespace joined to this one by a veth pair. It lives as long as its holder, and the pair as long as it. */
async function createNamespace(index: number): Promise<Namespace> {
  const holder: ChildProcess = spawn('unshare', ['-n', 'cat'], { stdio: ['pipe', 'ignore', 'inherit'] })
  const path = `/proc/${holder.pid}/ns/net`
  const deadline = Date.now() + START_TIMEOUT_MS
  while (readlinkSync(path) === readlinkSync('/proc/self/ns/net')) {
    assert.ok(Date.now() < deadline, 'the namespace was not created')
    await new Promise((resolve) => setImmediate(resolve))
  }
  const run = (command: string) => execFileSync('sh', ['-ec', command])
  const device = `ts${process.pid % 100_000}r${index}`
  const gateway = `198.18.${100 + index}.1`
  run(`ip link add ${device} type veth peer name uplink netns ${holder.pid}
    ip addr add ${gateway}/30 dev ${device}
    ip link set ${device} up
    nsenter --net=${path} ip addr add 198.18.${100 + index}.2/30 dev uplink
    nsenter --net=${path} ip link set uplink up`)
  const stop = () =>
    new Promise<void>((resolve) => {
      holder.once('close', () => resolve())
      holder.stdin?.end()
    })
  return { path, gateway, stop }
}

describe('routes through network namespaces and veth pairs', {
  skip: CAN ? false : 'needs root, ip, nsenter and unshare',
}, () => {
  const namespaces: Namespace[] = []
  const relays: Relay[] = []
  let target: Target
  let folder: string
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'tickscope-route-'))
    target = await startTarget((_, response) => response.end('{}'))
    for (const [index, delayMs] of [30, 5].entries()) {
      const namespace = await createNamespace(index)
      namespaces.push(namespace)
      const to = { host: '127.0.0.1', port: target.port }
      relays.push(await startRelay({ host: namespace.gateway, port: 0, to, delayMs }))
    }
  })
  after(async () => {
    await Promise.all([...relays, ...namespaces].map((part) => part.stop()))
    await target.stop()
    rmSync(folder, { recursive: true })
  })

  it('differ by the delay injected into them, within the reported interval', async () => {
    const file = join(folder, 'routes.json')
    const entries = namespaces.map(({ path, gateway }, i) => ({
      name: `uplink ${i}`,
      route: 'relay with injected delay',
      url: `http://${gateway}:${relays[i]?.port}/`,
      via: { namespace: path },
    }))
    writeFileSync(file, JSON.stringify(entries))
    const result = await runRoutes({
      rounds: 3,
      count: 6,
      ratePerSecond: 40,
      timeoutMs: 5_000,
      routes: readRoutes(file, readPrices(PRICE_FILE)),
      imports: [],
      slos: DEFAULT_SLOS,
      signal: new AbortController().signal,
      note: () => {},
      progress: () => {},
    })
    for (const row of result.rows) {
      assert.equal(row.status, 'measured', row.reason)
      assert.match(row.effectiveMode, /^namespace \/proc\/\d+\/ns\/net$/)
      assert.equal(row.response?.count, 18)
      assert.equal(row.edgeRtt?.count, 18)
    }
    const response = result.comparisons.find(({ figure }) => figure === 'response')
    assert.ok(response && response.lowNs !== null && response.highNs !== null)
    assert.equal(response.rounds, 3)
    assert.ok(response.lowNs - RELAY_NS <= -25e6 && -25e6 <= response.highNs + RELAY_NS, JSON.stringify(response))
  })
})
