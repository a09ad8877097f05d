import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { describe, it, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Summary } from '../src/app.ts'
import { API_OK, batchOf, eventually, getSummary, postBatch, series, startCollector, temporaryDir } from './fixture.ts'
import { end, freePort } from './servers.ts'

const MAIN = fileURLToPath(new URL('../src/main.ts', import.meta.url))

interface Process {
  readonly child: ChildProcess
  readonly lines: Record<string, unknown>[]
  readonly stderr: () => string
  readonly url: string
}

function launch(t: TestContext, args: readonly string[], env: Record<string, string> = {}, limitKib?: number) {
  const command = [MAIN, ...args]
  const stdio = ['ignore', 'pipe', 'pipe'] as const
  const options = { env: { ...process.env, TICKSCOPE_CONFIG: '', ...env }, stdio: [...stdio] }
  const child =
    limitKib === undefined
      ? spawn(process.execPath, command, options)
      : // The signal of the limit is ignored, so that the write fails as on a full disk.
        spawn(
          'bash',
          ['-c', `trap '' XFSZ; ulimit -f ${limitKib}; exec "$@"`, 'bash', process.execPath, ...command],
          options,
        )
  t.after(() => end(child, 'SIGKILL'))
  const lines: Record<string, unknown>[] = []
  let stderr = ''
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => lines.push(JSON.parse(line)))
  child.stderr?.on('data', (text) => {
    stderr += text
  })
  return { child, lines, stderr: () => stderr }
}

async function started(
  t: TestContext,
  args: readonly string[],
  env?: Record<string, string>,
  limitKib?: number,
): Promise<Process> {
  const running = launch(t, ['--port', '0', ...args], env, limitKib)
  const ready = await eventually('the ready line', () => {
    assert.equal(running.child.exitCode, null, running.stderr())
    return running.lines[0]
  })
  assert.equal(ready.event, 'ready')
  return { ...running, url: ready.url as string }
}

/** Runs to the end. */
async function ended(t: TestContext, args: readonly string[], env?: Record<string, string>) {
  const { child, stderr, lines } = launch(t, args, env)
  const [code] = await once(child, 'close')
  return { code: code as number, stderr: stderr(), lines }
}

/** An agent of the wire: one batch in flight, the same batch again until it is acknowledged. */
async function deliver(urlNow: () => string, agent: string, until: () => boolean) {
  const totals = { batches: 0, ticks: 0, orders: 0, sumNs: 0, duplicates: 0 }
  for (let sequence = 1; !until(); sequence++) {
    const values = Array.from({ length: 1 + (sequence % 7) }, (_, i) => 1000 * sequence + i)
    const batch = batchOf({
      agent,
      sequence,
      resource: { service: 'bot', instance: agent },
      series: [
        series('tickscope_tick_to_trade_seconds', {}, values),
        series('tickscope_api_rtt_seconds', API_OK, values),
      ],
      counters: [{ metric: 'tickscope_ticks_total', labels: { outcome: 'order' }, value: sequence }],
    })
    const verdict = await eventually('an acknowledgement', async () => {
      const answer = await postBatch(urlNow(), batch).catch(() => undefined)
      return answer?.status === 200 ? answer.body.status : undefined
    })
    totals.batches++
    totals.ticks += sequence
    totals.orders += values.length
    totals.sumNs += values.reduce((sum, value) => sum + value, 0)
    if (verdict === 'duplicate') totals.duplicates++
  }
  return totals
}

describe('the collector process', { concurrency: 3 }, () => {
  it('loses nothing that it acknowledged and counts nothing twice when it is killed, again and again', async (t) => {
    const dir = temporaryDir(t)
    let current = await started(t, ['--data', dir])
    let kills = 0
    let acknowledged = 0
    const agents = ['a', 'b', 'c', 'd'].map((agent) =>
      deliver(
        () => current.url,
        agent,
        () => {
          acknowledged++
          return kills === 3
        },
      ),
    )
    while (kills < 3) {
      const enough = acknowledged + 40
      await eventually('some more batches', () => acknowledged >= enough)
      await end(current.child, 'SIGKILL')
      current = await started(t, ['--data', dir])
      kills++
    }
    const totals = await Promise.all(agents)
    const sum = (field: keyof (typeof totals)[0]) => totals.reduce((all, each) => all + each[field], 0)
    const summary = await getSummary(current.url)
    assert.ok(sum('batches') > 120)
    assert.deepEqual(
      [summary.ticks, summary.orders, summary.apiRtt.count, summary.sumsNs.tickToTrade, summary.lostBatches],
      [sum('ticks'), sum('orders'), sum('orders'), sum('sumNs'), 0],
    )

    await end(current.child)
    const again = await started(t, ['--data', dir])
    const { recent: _, ...restored } = await getSummary(again.url)
    const { recent: __, ...before } = summary
    assert.deepEqual(restored, before)
  })

  it('stops cleanly on SIGTERM: the summary as its last line, exit code 0, the port free', async (t) => {
    const { child, lines, url, stderr } = await started(t, ['--data', temporaryDir(t)])
    await postBatch(
      url,
      batchOf({ counters: [{ metric: 'tickscope_ticks_total', labels: { outcome: 'quiet' }, value: 5 }] }),
    )
    child.kill('SIGTERM')
    const [code] = await once(child, 'close')
    assert.equal(code, 0)
    const last = lines.at(-1) as unknown as Summary & { event: string }
    assert.deepEqual([lines.length, last.event, last.ticks], [2, 'summary', 5])
    assert.match(
      stderr(),
      /^collector: listening on http:\/\/127\.0\.0\.1:\d+, reachable from this machine only; no token is required\n/,
    )
    await assert.rejects(fetch(`${url}/healthz`))
  })

  it('ends with its parent', async (t) => {
    const child = spawn(process.execPath, [MAIN, '--port', '0', '--data', temporaryDir(t)], {
      env: { ...process.env, TICKSCOPE_CHILD: '1' },
      stdio: ['pipe', 'pipe', 'ignore'],
    })
    t.after(() => end(child, 'SIGKILL'))
    await once(child.stdout, 'data')
    child.stdin.end()
    assert.equal((await once(child, 'close'))[0], 0)
  })

  it('refuses batches it cannot write, keeps what it acknowledged, and takes them when there is room', async (t) => {
    const dir = temporaryDir(t)
    const { child, url } = await started(t, ['--data', dir], {}, 64)
    let sequence = 0
    const refused = await eventually('a full disk', async () => {
      const route = 'x'.repeat(100)
      const counters = Array.from({ length: 100 }, () => ({
        metric: 'tickscope_ticks_total',
        labels: { outcome: 'quiet' },
        value: 1,
      }))
      const answer = await postBatch(url, {
        ...batchOf(),
        sequence: ++sequence,
        resource: { service: 'bot', instance: 'i', route },
        counters,
      })
      return answer.status === 200 ? undefined : answer
    })
    assert.deepEqual([refused.status, refused.headers.get('retry-after')], [503, '1'])
    assert.match(refused.body.error ?? '', /could not be written to disk: EFBIG/)
    assert.ok(sequence > 2)
    const { ticks } = await getSummary(url)
    assert.equal(ticks, (sequence - 1) * 100)
    assert.equal((await fetch(`${url}/healthz`)).status, 200)
    await end(child, 'SIGKILL')
    const again = await started(t, ['--data', dir])
    assert.equal((await getSummary(again.url)).ticks, ticks)
    assert.equal(again.stderr().includes('cut off'), false)
    assert.equal((await postBatch(again.url, batchOf({ sequence }))).status, 200)
    assert.equal((await getSummary(again.url)).lostBatches, 0)
  })

  it('wants a token beyond loopback, from a file or the environment, and says which it has', async (t) => {
    const dir = temporaryDir(t)
    const file = join(dir, 'token')
    writeFileSync(file, 'correct-horse\n')
    const args = ['--host', '0.0.0.0', '--data', join(dir, 'data')]
    const bare = await ended(t, ['--port', '0', ...args], { COLLECTOR_TOKEN: '' })
    assert.equal(bare.code, 2)
    assert.equal(
      bare.stderr,
      'collector: 0.0.0.0 can be reached from other machines, so it needs a token: give --token-file or COLLECTOR_TOKEN, or listen on 127.0.0.1\n',
    )
    const authorization = 'Bearer correct-horse'
    for (const [more, env] of [
      [['--token-file', file], {}],
      [[], { COLLECTOR_TOKEN: 'correct-horse' }],
    ] as const) {
      const { child, url, stderr } = await started(t, [...args, ...more], env)
      const local = url.replace('0.0.0.0', '127.0.0.1')
      assert.equal((await fetch(`${local}/metrics`)).status, 401)
      assert.equal((await fetch(`${local}/metrics`, { headers: { authorization } })).status, 200)
      assert.match(stderr(), /; a token is required\n/)
      assert.ok(!stderr().includes('horse'))
      await end(child)
    }
  })

  it('ends in one clear sentence and a non-zero exit code when it cannot start', async (t) => {
    const dir = temporaryDir(t)
    const data = ['--data', join(dir, 'data')]
    const busy = await startCollector(t)
    const busyPort = new URL(busy.url).port
    const damaged = join(dir, 'damaged')
    const former = await startCollector(t, { dataDir: damaged })
    for (let sequence = 1; sequence <= 3; sequence++) await postBatch(former.url, batchOf({ sequence }))
    await former.stop()
    const [journal] = readdirSync(damaged).filter((name) => name.endsWith('.hlog')) as [string]
    const bytes = readFileSync(join(damaged, journal))
    bytes[500] = (bytes[500] as number) ^ 1
    writeFileSync(join(damaged, journal), bytes)
    writeFileSync(join(dir, 'short'), 'abc')
    const port = `${await freePort()}`
    const cases: [string[], number, RegExp][] = [
      [[...data, '--bogus'], 2, /unknown option '--bogus'/],
      [[...data, 'extra'], 2, /too many arguments|unexpected argument/],
      [[], 2, /required option '--data <dir>' not specified/],
      [
        [...data, '--port', '70000'],
        2,
        /'--port <port>' argument '70000' is invalid. It must be a whole number from 0 to 65535/,
      ],
      [[...data, '--alertmanager', 'localhost:9093'], 2, /'--alertmanager <url>' argument 'localhost:9093' is invalid/],
      [[...data, '--config', join(dir, 'none.json')], 2, /none\.json cannot be read: ENOENT/],
      [[...data, '--token-file', join(dir, 'none')], 2, /token file .*none cannot be read: ENOENT/],
      [
        [...data, '--token-file', join(dir, 'short')],
        2,
        /token file .*short must hold 8 to 512 visible ASCII characters/,
      ],
      [[...data, '--port', busyPort], 3, new RegExp(`port ${busyPort} on 127\\.0\\.0\\.1 is already in use`)],
      [[...data, '--host', '192.0.2.1', '--port', port], 2, /192\.0\.2\.1 can be reached from other machines/],
      [['--port', '0', '--data', busy.dir], 3, /is in use by another collector \(pid \d+\)/],
      [
        ['--port', '0', '--data', damaged],
        3,
        /journal-00000001\.hlog is damaged at byte \d+: .*; it was left as it is/,
      ],
    ]
    await Promise.all(
      cases.map(async ([args, code, message]) => {
        const result = await ended(t, args, { COLLECTOR_TOKEN: '' })
        assert.equal(result.code, code, `${args}: ${result.stderr}`)
        assert.match(result.stderr, /^collector: [^\n]+\n$/, `${args}`)
        assert.match(result.stderr, message)
        assert.deepEqual(result.lines, [])
      }),
    )
    assert.deepEqual(readFileSync(join(damaged, journal)), bytes)
  })

  it('explains its flags', async (t) => {
    const child = spawn(process.execPath, [MAIN, '--help'], { stdio: ['ignore', 'pipe', 'inherit'] })
    t.after(() => end(child, 'SIGKILL'))
    const [[code], help] = await Promise.all([once(child, 'close'), child.stdout.toArray()])
    assert.equal(code, 0)
    for (const flag of ['--data', '--port', '--token-file', '--alertmanager', '--otlp-backend'])
      assert.ok(`${help.join('')}`.includes(flag), flag)
  })
})
