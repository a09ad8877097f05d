/** The jitter probe as a process, on this machine. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import type { WakeRow } from '../../src/jitter/rows.ts'
import type { JitterResult } from '../../src/jitter/run.ts'
import { tasksetPresent } from '../../src/jitter/scenario.ts'
import { alive, descendantsOf, hasCompiler, isRoot, lastLine, PROBE, run, until } from '../bypass/machine.ts'

const noCompiler = !hasCompiler && 'no C compiler and make here'
const jitter = (...args: string[]) => run(process.execPath, [PROBE, 'jitter', ...args])
const rowOf = ({ rows }: JitterResult, name: string): WakeRow => {
  const row = rows.find((one) => one.name === name)
  assert.ok(row, `no row ${name}`)
  return row
}

describe('probe jitter', { skip: noCompiler }, () => {
  const names = [
    'quiet_unpinned',
    'quiet_pinned',
    'quiet_fifo',
    'isolated_pinned',
    'noisy_pinned_beside',
    'node_unpinned',
    'node_pinned',
  ]
  let result: JitterResult

  before(async () => {
    const ended = await jitter(
      '--json',
      '--rounds',
      '3',
      '--count',
      '200',
      '--scenarios',
      names.join(),
      '--pid',
      `${process.pid}`,
    )
    assert.equal(ended.code, 0, ended.stderr)
    result = lastLine<JitterResult>(ended)
  })

  it('prints the common shape, headed by a thread as it is started', () => {
    assert.deepEqual(
      [result.probe, result.boundary, result.clock, result.headline, result.sent, result.lost, result.rounds],
      ['jitter', 'timer→user', 'CLOCK_MONOTONIC', 'quiet_unpinned', 600, 0, 3],
    )
    assert.equal(result.phases.wake?.count, 600)
    assert.equal(result.response?.count, 600)
    assert.ok(result.environment.kernel.release)
    assert.equal(result.controls.length, 4)
    assert.equal(typeof result.contaminated, 'boolean')
  })

  it('counts every wake of every row, in C and in Node', () => {
    for (const name of ['quiet_unpinned', 'quiet_pinned', 'noisy_pinned_beside']) {
      const row = rowOf(result, name)
      assert.deepEqual([row.status, row.count, row.roundsP99Ns.length], ['measured', 600, 3], row.reason)
      assert.ok(row.wake && row.response && row.service)
      assert.ok(row.service.p50Ns >= 12_000, 'the work is part of the service time')
      assert.ok(row.response.p50Ns >= row.service.p50Ns)
    }
    const node = rowOf(result, 'node_unpinned')
    assert.deepEqual(
      [node.status, node.runtime, node.count, node.migrations],
      ['measured', 'Node', 150, null],
      node.reason,
    )
  })

  it('says where each row ran, and why one could not', () => {
    const pinned = rowOf(result, 'quiet_pinned')
    const cpu = /core (\d+)$/.exec(pinned.requestedMode)?.[1]
    assert.match(pinned.effectiveMode, new RegExp(`pinned, ran on core ${cpu},`))
    assert.equal(pinned.migrations, 0)
    const isolated = rowOf(result, 'isolated_pinned')
    if (result.plan.isolation.isolatedCpus.length === 0)
      assert.match(`${isolated.status}: ${isolated.reason}`, /^skipped: the kernel isolates no core/)
    const fifo = rowOf(result, 'quiet_fifo')
    if (isRoot) assert.match(fifo.effectiveMode, /SCHED_FIFO/)
    else assert.match(fifo.reason, /SCHED_FIFO \(needs root or CAP_SYS_NICE\)/)
    if (tasksetPresent()) assert.match(rowOf(result, 'node_pinned').effectiveMode, new RegExp(`ran on core ${cpu},`))
  })

  it('looks at the throttle, at the named process, and at the machine', () => {
    const status = (id: string) => result.footguns.find((footgun) => footgun.id === id)?.status
    for (const id of ['rt_throttle', 'taskset_all_threads', 'slow_clocksource', 'service_time_only'])
      assert.ok(status(id), id)
    assert.ok(result.seenElsewhere.length > 5)
  })

  it('ends with code 1 when its budget breaks', async () => {
    const quick = ['--json', '--rounds', '1', '--count', '50', '--scenarios', 'quiet_unpinned']
    const broken = await jitter(...quick, '--budget', '0.001us')
    assert.equal(broken.code, 1, broken.stderr)
    assert.deepEqual(
      lastLine<{ budgets: { ok: boolean }[] }>(broken).budgets.map(({ ok }) => ok),
      [false],
    )
    assert.equal((await jitter(...quick, '--budget', '60s')).code, 0)
  })

  it('proposes cores without measuring', async () => {
    const text = await jitter('--plan')
    assert.equal(text.code, 0, text.stderr)
    assert.match(text.stdout, /^NUMA: /)
    assert.ok(lastLine<{ plan: { status: string } }>(await jitter('--plan', '--json')).plan.status)
  })

  it('refuses a row that does not exist, with those that do', async () => {
    const ended = await jitter('--scenarios', 'loud')
    assert.equal(ended.code, 2)
    assert.match(ended.stderr, /--scenarios has 'loud'; there are quiet_unpinned, /)
  })

  it('leaves no neighbour behind when it is killed', async (t) => {
    const probe = spawn(process.execPath, [PROBE, 'jitter', '--scenarios', 'crowded_unpinned', '--count', '100000'], {
      stdio: 'ignore',
    })
    t.after(() => probe.kill('SIGKILL'))
    const family = await until('neighbours and the waiting thread', () => {
      const all = descendantsOf(probe.pid as number).filter(({ command }) => command === 'jitter')
      return all.length >= 2 && all
    })
    probe.kill('SIGKILL')
    await until('the end of every process', () => family.every(({ pid }) => !alive(pid)))
  })
})

/** Not the nobody of other tests: the folder its programs are built in is its own. */
const NOBODY = 65533

describe('probe jitter without root', { skip: noCompiler || (!isRoot && 'runs as root, to be nobody') }, () => {
  after(() => rmSync(join(tmpdir(), `tickscope-native-${NOBODY}`), { recursive: true, force: true }))
  const readable = spawnSync('test', ['-r', PROBE], { uid: NOBODY, gid: NOBODY }).status === 0

  it('measures the rest, and says of SCHED_FIFO what it needs', {
    skip: !readable && 'this checkout is not readable to others',
  }, async () => {
    const args = ['jitter', '--json', '--rounds', '1', '--count', '50', '--scenarios', 'quiet_pinned,quiet_fifo']
    const ended = await run(process.execPath, [PROBE, ...args], {
      uid: NOBODY,
      gid: NOBODY,
      env: { ...process.env, HOME: '/' },
    })
    assert.equal(ended.code, 0, ended.stderr)
    const result = lastLine<JitterResult>(ended)
    assert.equal(rowOf(result, 'quiet_pinned').status, 'measured')
    assert.equal(rowOf(result, 'quiet_fifo').status, 'unsupported')
    assert.match(
      rowOf(result, 'quiet_fifo').reason,
      /SCHED_FIFO \(needs root or CAP_SYS_NICE\): Operation not permitted/,
    )
    assert.equal(result.footguns.find(({ id }) => id === 'rt_throttle')?.status, 'unknown')
  })
})
