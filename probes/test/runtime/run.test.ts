import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { UserError } from '@tickscope/contract'
import { findRuntimes } from '../../src/runtime/interpreter.ts'
import { type RuntimeOptions, runRuntimes } from '../../src/runtime/run.ts'
import { startSimulator } from '../simulator.ts'
import { lastLine, startProbe } from '../target.ts'

const OPTIONS: RuntimeOptions = {
  rounds: 3,
  count: 5,
  ratePerSecond: 100,
  warmUp: 2,
  keyType: 'ed25519',
  runtimes: await findRuntimes(['node', 'asyncio'], []),
  signal: new AbortController().signal,
  note: () => {},
  progress: () => {},
}

describe('a run of the runtimes', () => {
  it('sends every order to the simulated venue, none lost, and splits its time into client and waiting', async () => {
    const result = await runRuntimes(OPTIONS)
    const measured = result.rows.filter(({ status }) => status === 'measured')
    assert.ok(measured.some(({ kind }) => kind === 'node'))
    assert.equal(result.sent, measured.length * 15)
    assert.equal(result.lost, 0)
    for (const row of measured) {
      assert.equal(row.service?.count, 15, row.name)
      assert.equal(row.boundary, 'user→user')
      assert.notEqual(row.signing, '')
      const { client, io, service } = row
      assert.ok(client && io && service)
      assert.ok(client.maxNs <= service.maxNs && io.maxNs <= service.maxNs)
      assert.ok(row.roundsP50Ns.client.every((ns) => ns !== null))
      assert.ok(row.cpuRoundsNs.decide.every((ns) => ns !== null && ns > 0))
    }
    assert.equal(result.controls.length, 3)
    JSON.parse(JSON.stringify(result))
  })

  it('reports a runtime whose program fails as unsupported, with what it said', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tickscope-python-'))
    const python = join(folder, 'python')
    writeFileSync(
      python,
      `#!/bin/sh\n[ "$1" = -c ] && echo '${python}|CPython|9.9|' && exit\necho no sockets >&2; exit 1\n`,
    )
    chmodSync(python, 0o755)
    try {
      const runtimes = await findRuntimes(['node', 'asyncio'], [python])
      const { rows } = await runRuntimes({ ...OPTIONS, rounds: 1, runtimes })
      const row = rows.find(({ interpreter }) => interpreter === python)
      assert.equal(row?.status, 'unsupported')
      assert.equal(row?.reason, 'no sockets')
      assert.equal(row?.service, null)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  it('that is stopped says of which runtimes it knows nothing', async () => {
    const { rows } = await runRuntimes({ ...OPTIONS, signal: AbortSignal.abort() })
    assert.deepEqual([rows[0]?.status, rows[0]?.reason], ['skipped', 'the run was stopped before it'])
  })
})

describe('the command', () => {
  it('trades with a simulator that runs already, for about as long as asked', async () => {
    const simulator = await startSimulator()
    try {
      const flags = ['--runtimes', 'node', '--count', '5', '--warm-up', '0', '--rate', '100', '--for', '1ms', '--json']
      const ended = await startProbe(['runtime', ...simulator.access, ...flags]).finished
      assert.equal(ended.code, 0, ended.stderr)
      const result = lastLine(ended)
      assert.deepEqual([result.sent, result.lost, result.settings.rounds], [5, 0, 1])
      assert.ok(result.target.startsWith(`simulated venue at ${simulator.url}/`))
      assert.equal(result.settings.keyType, 'ed25519')
      assert.equal((await simulator.stats()).ordersReceived, 5)
    } finally {
      await simulator.stop()
    }
  })

  it('gives the time of --for to the runtimes that are installed', async () => {
    const flags = ['--runtimes', 'node,pypy', '--count', '5', '--warm-up', '0', '--rate', '100', '--json']
    // A round of one program is taken for 2.05 s.
    const probe = startProbe(['runtime', ...flags, '--for', '4100ms'], { PATH: '/nonexistent' })
    const ended = await probe.finished
    assert.equal(ended.code, 0, ended.stderr)
    const { settings, rows } = lastLine(ended)
    assert.equal(settings.rounds, 2)
    const statuses = rows.map(({ name, status }: { name: string; status: string }) => `${name} ${status}`)
    assert.deepEqual(statuses, ['node measured', 'pypy skipped'])
  })

  for (const [args, message] of [
    [
      ['--url', 'https://demo-api.kalshi.co', '--key-id', 'a', '--key-file', 'b'],
      /not the http URL of a simulator on this/,
    ],
    [['--url', 'http://127.0.0.1:1'], /^probe: --url, --key-id and --key-file belong together/],
  ] as const) {
    it(`refuses ${args[1]} with what is missing`, async () => {
      const ended = await startProbe(['runtime', ...args]).finished
      assert.equal(ended.code, 2)
      assert.match(ended.stderr, message)
    })
  }

  it('ends with code 1 when a budget is broken', async () => {
    const flags = ['--runtimes', 'node', '--rounds', '1', '--count', '5', '--warm-up', '0', '--key-type', 'ed25519']
    const probe = startProbe(['runtime', ...flags, '--json', '--budget', 'node=1us', '--budget', 'node=1h'])
    const ended = await probe.finished
    assert.equal(ended.code, 1, ended.stderr)
    assert.deepEqual(lastLine(ended).budgets, [
      { slo: 'order', row: 'node', thresholdMs: 0.001, ok: false },
      { slo: 'order', row: 'node', thresholdMs: 3_600_000, ok: true },
    ])
  })
})

describe('the runtimes of a machine', () => {
  it('that are absent are skipped, with how to have them', async () => {
    const path = process.env.PATH
    process.env.PATH = '/nonexistent'
    try {
      const [pypy] = await findRuntimes(['pypy'], [])
      assert.equal(pypy?.missing?.status, 'skipped')
      assert.match(pypy?.missing?.reason ?? '', /apt-get install pypy3/)
    } finally {
      process.env.PATH = path
    }
  })

  it('refuse an interpreter that does not answer by its name', async () => {
    await assert.rejects(
      findRuntimes(['asyncio'], ['/nonexistent/python3']),
      (error) => error instanceof UserError && /--python \/nonexistent\/python3/.test(error.message),
    )
  })
})
