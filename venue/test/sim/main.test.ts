import assert from 'node:assert/strict'
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Client, KEYS, SIGNERS, until } from './fixture.ts'

const MAIN = fileURLToPath(new URL('../../src/sim/main.ts', import.meta.url))

// biome-ignore lint/suspicious/noExplicitAny: lines are read as a parent process reads them
type Line = any

describe('the simulator’s process', () => {
  let folder = ''
  let keys = ''
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'tickscope-sim-'))
    keys = join(folder, 'keys.json')
    writeFileSync(keys, JSON.stringify(KEYS.map(({ keyId, publicKeyPem }) => ({ keyId, publicKeyPem }))))
  })
  after(() => rmSync(folder, { recursive: true }))

  interface Started {
    readonly child: ChildProcessWithoutNullStreams
    /** The next line of stdout. */
    line(): Promise<Line>
    readonly exited: Promise<{ code: number | null; stderr: string }>
  }

  function start(args: string[], env: Record<string, string> = {}): Started {
    const child = spawn(process.execPath, [MAIN, ...args], { env: { ...process.env, ...env } })
    let stderr = ''
    child.stderr.on('data', (chunk) => (stderr += chunk))
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    return {
      child,
      line: async () => {
        const { value, done } = await lines.next()
        assert.ok(!done, `no line: ${stderr}`)
        return JSON.parse(value)
      },
      exited: once(child, 'close').then(([code]) => ({ code, stderr })),
    }
  }

  it('says when it is ready, holds the flow until told, and sums up when stopped', async () => {
    const sim = start(['--keys', keys, '--hold', '--rate', '500', '--markets', '2', '--seed', '3'])
    const ready = await sim.line()
    assert.equal(ready.event, 'ready')
    assert.equal(ready.tickers.length, 2)
    assert.match(ready.url, /^http:\/\/127\.0\.0\.1:\d+$/)
    const client = new Client(ready.url, SIGNERS.alice as (typeof SIGNERS)[string])
    const feed = await client.feed()
    await feed.subscribe('orderbook_delta', ready.tickers)
    assert.equal((await client.call('GET', '/sim/stats')).body.flow.events, 0)
    await client.call('POST', '/sim/start')
    await feed.wait(({ type }) => type === 'orderbook_delta', 50)
    await client.order({ ticker: ready.tickers[0], price: '0.0100' })
    await client.call('POST', '/sim/pause')
    await until(async () => (await client.call('GET', '/sim/stats')).body.feedQueued === 0, 'drained')
    feed.socket.close()
    await feed.closed
    sim.child.kill('SIGTERM')
    const summary = await sim.line()
    client.close()
    assert.equal((await sim.exited).code, 0)
    assert.equal(summary.event, 'summary')
    assert.equal(summary.ticksDelivered, feed.messages.filter(({ type }) => type.startsWith('orderbook_')).length)
    assert.equal(summary.ordersReceived, 1)
  })

  it('ends with its parent, after its time, and on SIGINT', async () => {
    const [orphan, timed, interrupted] = [
      start(['--keys', keys], { TICKSCOPE_CHILD: '1' }),
      start(['--keys', keys, '--for', '50ms']),
      start(['--keys', keys]),
    ]
    await orphan.line()
    orphan.child.stdin.end()
    await interrupted.line()
    interrupted.child.kill('SIGINT')
    for (const { exited } of [orphan, timed, interrupted]) assert.equal((await exited).code, 0)
  })

  it('refuses bad input in one sentence, with an exit code and without a stack trace', async () => {
    const file = (name: string, text: string) => {
      const path = join(folder, name)
      writeFileSync(path, text)
      return path
    }
    const busy = createServer().listen(0, '127.0.0.1')
    await once(busy, 'listening')
    const { port } = busy.address() as { port: number }
    const good = ['--keys', keys]
    const cases: [string[], RegExp, number][] = [
      [[], /required option '--keys <file>' not specified$/, 2],
      [[...good, '--fro'], /^sim: unknown option '--fro'/, 2],
      [[...good, '--port', `${port}`], new RegExp(`^sim: port ${port} on 127\\.0\\.0\\.1 is already in use$`), 3],
      [[...good, '--port', '70000'], /--port is '70000', not a whole number from 0 to 65535/, 2],
      [[...good, '--fault', 'api-delay=40@1s+1s'], /--fault 'api-delay=40@1s\+1s': .*accepted are/, 2],
      [[...good, '--tier', 'gold'], /'gold' is invalid. Allowed choices are basic, /, 2],
      [[...good, '--replay-speed', 'fast'], /--replay-speed is 'fast', neither max nor a factor/, 2],
      [[...good, '--replay', file('bad.jsonl', '{"t":1}\n')], /bad\.jsonl: line 1: it has no message raw$/, 2],
      [['--keys', join(folder, 'none.json')], /none\.json: it cannot be read \(ENOENT\)$/, 2],
    ]
    const results = await Promise.all(cases.map(([args]) => start(args).exited))
    busy.close()
    for (const [i, { code, stderr }] of results.entries()) {
      const [args, sentence, wanted] = cases[i] as (typeof cases)[number]
      assert.match(stderr.trimEnd(), sentence)
      assert.equal(code, wanted, args.join(' '))
      assert.doesNotMatch(stderr, /\n\s+at /)
      assert.equal(stderr.trimEnd().split('\n').length, 1, stderr)
    }
  })
})
