/** The ladder as a process, on this machine: what can be measured is, what cannot says why, and nothing stays behind. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { after, before, describe, it, type TestContext } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import { lowestOf } from '@tickscope/contract'
import type { LadderRow } from '../../src/bypass/ladder.ts'
import type { BypassResult } from '../../src/bypass/run.ts'
import { compareRatio } from '../../src/compare.ts'
import { nativeProgram } from '../../src/native.ts'
import {
  alive,
  descendantsOf,
  type Ended,
  hasCompiler,
  hasDpdk,
  installed,
  isRoot,
  lastLine,
  NO_TRACES,
  PROBE,
  run,
  traces,
  until,
} from './machine.ts'

const noCompiler = !hasCompiler && 'no C compiler and make here'
const needsRoot = noCompiler || (!isRoot && 'needs root, for network namespaces')

const KERNEL = [
  'udp_blocking',
  'udp_epoll',
  'udp_spinning',
  'udp_busy_poll',
  'tcp_blocking',
  'tcp_spinning',
  'io_uring',
  'af_xdp_generic',
  'af_xdp_native',
]
const DPDK = ['dpdk_af_packet', 'dpdk_af_xdp', 'dpdk_memif']

const bypass = (...args: string[]) => run(process.execPath, [PROBE, 'bypass', '--json', '--warm-up', '200', ...args])
const rowOf = ({ rows }: BypassResult, path: string): LadderRow => {
  const row = rows.find((one) => one.path === path)
  assert.ok(row, `no row ${path}`)
  return row
}

describe('probe bypass', { skip: needsRoot }, () => {
  let result: BypassResult

  before(async () => {
    const ended = await bypass('--rounds', '3', '--count', '400')
    assert.equal(ended.code, 0, ended.stderr)
    result = lastLine<BypassResult>(ended)
  })

  it('has a row for every path, with boundary, clock, modes and counts', () => {
    const paths = result.rows.map(({ path }) => path)
    for (const path of [...KERNEL, ...DPDK, 'preload:onload']) assert.ok(paths.includes(path), `no row ${path}`)
    for (const row of result.rows) {
      assert.deepEqual([row.boundary, row.clock, row.payloadBytes], ['user→user', 'CLOCK_MONOTONIC', 64])
      if (row.status !== 'measured')
        assert.ok(row.reason.length > 5, `${row.path} does not say why it is ${row.status}`)
      if (row.service === null) continue
      assert.ok(row.requestedMode && row.effectiveMode, row.path)
      assert.equal(row.sent, 1200, row.path)
      assert.equal(row.lost, 0, row.path)
      assert.equal(row.service.count, 1200, row.path)
      assert.equal(row.roundsP50Ns.length, 3, row.path)
      assert.ok((row.p50Ns ?? 0) <= (row.p99Ns ?? 0) && (row.p99Ns ?? 0) <= (row.maxNs ?? 0), row.path)
    }
    assert.deepEqual([result.rounds, result.roundsRequested, result.stopped], [3, 3, false])
    assert.deepEqual([result.controls.length, result.roundsContaminatedBy.length], [4, 3])
    assert.equal(result.contaminated, result.contaminatedBy.length > 0)
    if (!result.contaminated) assert.deepEqual(result.roundsContaminatedBy, [[], [], []])
    assert.ok(result.environment.kernel.release)
  })

  it('measures kernel sockets, and spinning ones are faster than blocking ones in most rounds', () => {
    const blocking = rowOf(result, 'udp_blocking')
    const spinning = rowOf(result, 'udp_spinning')
    for (const path of ['udp_blocking', 'udp_spinning', 'udp_epoll', 'tcp_blocking', 'tcp_spinning'])
      assert.equal(rowOf(result, path).status, 'measured', rowOf(result, path).reason)
    const faster = spinning.roundsP50Ns.filter((ns, i) => ns < (blocking.roundsP50Ns[i] as number)).length
    assert.ok(faster >= 2, `${spinning.roundsP50Ns} against ${blocking.roundsP50Ns}`)
  })

  it('calls busy-polling active only where packets name a NAPI context', () => {
    const row = rowOf(result, 'udp_busy_poll')
    if (row.status === 'measured') assert.match(row.effectiveMode, /NAPI id [1-9]/)
    else assert.match(`${row.status}: ${row.reason}`, /^inactive: .*SO_INCOMING_NAPI_ID is 0/)
    if (row.status !== 'measured') assert.ok(!result.gains.some(({ to }) => to === 'udp_busy_poll'))
  })

  it('names the XDP mode that was attached', () => {
    for (const [path, mode] of [
      ['af_xdp_generic', /^XDP generic, spinning, (zero-)?copy, 0 dropped$/],
      ['af_xdp_native', /^XDP native, spinning, (zero-)?copy, 0 dropped$/],
    ] as const) {
      const row = rowOf(result, path)
      if (row.status === 'measured') assert.match(row.effectiveMode, mode)
    }
  })

  it('measures DPDK where it is installed, and elsewhere says how to have it', () => {
    for (const path of DPDK) {
      const row = rowOf(result, path)
      if (hasDpdk) assert.equal(row.status, 'measured', row.reason)
      else assert.match(`${row.status}: ${row.reason}`, /^skipped: .*apt-get install libdpdk-dev/)
    }
  })

  it('leaves no device, namespace, mount or file behind', () => {
    assert.deepEqual(traces(), NO_TRACES)
  })
})

describe('budgets of the ladder', { skip: noCompiler }, () => {
  it('decide the exit code, and a path that was not measured keeps none', async () => {
    const ended = await bypass(
      ...['--rounds', '1', '--count', '50', '--paths', 'udp_spinning'],
      ...['--budget', 'udp_spinning=1us', '--budget', 'af_xdp_native=10s'],
    )
    assert.equal(ended.code, 1, ended.stderr)
    const { budgets } = lastLine<{ budgets: { path: string; ok: boolean }[] }>(ended)
    assert.deepEqual(
      budgets.map(({ path, ok }) => [path, ok]),
      [
        ['udp_spinning', false],
        ['af_xdp_native', false],
      ],
    )
    const kept = await bypass(
      '--rounds',
      '1',
      '--count',
      '50',
      '--paths',
      'udp_spinning',
      '--budget',
      'udp_spinning=60s',
    )
    assert.equal(kept.code, 0, kept.stderr)
  })
})

describe('a killed probe', { skip: needsRoot }, () => {
  for (const path of ['udp_blocking', 'af_xdp_generic', ...DPDK]) {
    const skip = path.startsWith('dpdk') && !hasDpdk && 'libdpdk is not here'
    it(`leaves nothing of ${path} behind`, { skip }, async (t) => {
      const args = ['--rounds', '100', '--count', '100000', '--paths', path]
      const probe = spawn(process.execPath, [PROBE, 'bypass', ...args], { stdio: 'ignore' })
      t.after(() => probe.kill('SIGKILL'))
      // Both ends are up when the program that makes the topology has a child of its own.
      const family = await until('both ends', () => {
        const all = descendantsOf(probe.pid as number)
        const ends = all.filter(({ command }) => command === (path.startsWith('dpdk') ? 'dpdk' : 'bypass'))
        return ends.length >= 2 && all
      })
      probe.kill('SIGKILL')
      await until('the end of every process', () => family.every(({ pid }) => !alive(pid)))
      await until('a clean machine', () => isDeepStrictEqual(traces(), NO_TRACES))
    })
  }
})

describe('a probe that is asked to stop', { skip: needsRoot }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'tickscope-stop-'))
  after(() => rmSync(folder, { recursive: true }))
  /** A stand-in for onload's wrapper that notes each start, and from one of them on waits instead of measuring. */
  const wrapper = (name: string, waitsFrom: number) => {
    const path = join(folder, name)
    const starts = join(path, 'starts')
    const script = `#!/bin/sh\necho >> ${starts}\nshift\n[ $(wc -l < ${starts}) -ge ${waitsFrom} ] && exec sleep 60\nexec "$@"\n`
    mkdirSync(path)
    writeFileSync(join(path, 'onload'), script, { mode: 0o755 })
    return { starts, env: { ...process.env, PATH: `${path}${delimiter}${process.env.PATH}` } }
  }
  const start = (t: TestContext, env: NodeJS.ProcessEnv, ...args: string[]) => {
    const probe = spawn(process.execPath, [PROBE, 'bypass', '--warm-up', '200', '--preload', 'onload', ...args], {
      env,
    })
    t.after(() => probe.kill('SIGKILL'))
    let stdout = ''
    probe.stdout.setEncoding('utf8').on('data', (text) => (stdout += text))
    const closed = once(probe, 'close', { signal: AbortSignal.timeout(30_000) })
    const family = (command: string, least: number) =>
      until(`${command} at work`, () => {
        const all = descendantsOf(probe.pid as number)
        return all.filter((one) => one.command === command).length >= least && all
      })
    const ended = async (): Promise<Ended> => {
      const [code] = (await closed) as [number | null]
      return { code, stdout, stderr: '' }
    }
    return { probe, family, ended }
  }

  it('prints what was measured, and compares only rounds that are whole', async (t) => {
    const { env } = wrapper('whole', 3)
    const paths = ['udp_blocking', 'udp_spinning']
    const { probe, family, ended } = start(t, env, '--json', '--rounds', '50', '--count', '50', '--paths', `${paths}`)
    // The third round has measured the kernel's paths and hangs in the stack after them.
    await family('sleep', 1)
    probe.kill('SIGTERM')
    const end = await ended()
    assert.equal(end.code, 0)
    const result = lastLine<BypassResult>(end)
    assert.deepEqual([result.rounds, result.roundsRequested, result.stopped], [2, 50, true])
    assert.equal(result.roundsContaminatedBy.length, 3)
    // On a busy machine the last sample may not be there in the second it has; then the run says so.
    const missing = /control sample is missing/.test(`${result.roundsContaminatedBy.at(-1)}`)
    assert.equal(result.controls.length, missing ? 3 : 4)
    if (missing) assert.ok(result.contaminated)
    const [blocking, spinning] = paths.map((path) => rowOf(result, path))
    assert.ok(blocking && spinning)
    assert.deepEqual(blocking.measuredRounds, [0, 1, 2])
    assert.equal(blocking.sent, 150)
    assert.deepEqual(rowOf(result, 'preload:onload').measuredRounds, [0, 1])
    const { ratio } = compareRatio(blocking.roundsP50Ns.slice(0, 2), spinning.roundsP50Ns.slice(0, 2))
    assert.equal(result.gains.find(({ to }) => to === 'udp_spinning')?.ratio, ratio)
    assert.deepEqual(result.stamps, [])
  })

  it('starts nothing any more, says so of every path it did not reach, and ends its children', async (t) => {
    const { starts, env } = wrapper('reached', 1)
    const paths = 'udp_blocking,udp_spinning,dpdk_memif'
    const { probe, family, ended } = start(t, env, '--json', '--count', '100000', '--paths', paths)
    const all = await family('bypass', 2)
    probe.kill('SIGINT')
    const end = await ended()
    assert.equal(end.code, 0)
    assert.equal(existsSync(starts), false, 'the stack was started')
    const result = lastLine<BypassResult>(end)
    assert.deepEqual([result.rounds, result.stopped, result.gains, result.shares], [0, true, [], null])
    for (const path of ['udp_blocking', 'udp_spinning', 'preload:onload', ...(hasDpdk ? ['dpdk_memif'] : [])]) {
      const { status, reason, sent } = rowOf(result, path)
      assert.deepEqual([status, reason, sent], ['skipped', 'the run was stopped before it', 0], path)
    }
    assert.deepEqual(
      all.filter(({ pid }) => alive(pid)),
      [],
    )
  })

  it('says in its table that it was stopped', async (t) => {
    const { env } = wrapper('table', 2)
    const { probe, family, ended } = start(t, env, '--count', '50', '--paths', 'udp_spinning')
    await family('sleep', 1)
    probe.kill('SIGTERM')
    const { code, stdout } = await ended()
    assert.equal(code, 0)
    assert.match(
      stdout,
      /1 interleaved rounds\nstopped: 1 of 5 rounds are whole; rows show what the unfinished one reached/,
    )
  })

  it('ends at once, with its children, when it is asked twice', async (t) => {
    const { env } = wrapper('twice', 1)
    const { probe, family, ended } = start(t, env, '--count', '100000', '--paths', 'udp_blocking')
    const all = await family('bypass', 2)
    probe.kill('SIGINT')
    probe.kill('SIGINT')
    await ended()
    await until('the end of every process', () => all.every(({ pid }) => !alive(pid)))
    await until('a clean machine', () => isDeepStrictEqual(traces(), NO_TRACES))
  })
})

describe('the loop', { skip: noCompiler }, () => {
  it('is open: messages are at least two round trips of their path apart', async () => {
    const program = await nativeProgram('bypass')
    const flags = ['--rounds', '1', '--count', '300', '--warmup', '300', '--interval-ns', '0', '--loopback']
    const { code, stdout, stderr } = await run(program, ['ladder', ...flags, '--paths', 'udp_blocking,udp_spinning'])
    assert.equal(code, 0, stderr)
    const lines = stdout.split('\n').filter((line) => line.startsWith('{"kind":"ladder"'))
    assert.equal(lines.length, 2)
    for (const line of lines) {
      const { path, intervalNs, service, response, slip } = JSON.parse(line)
      const shortestNs = lowestOf(service.cells[0])
      assert.ok(intervalNs >= 2 * shortestNs, `${path}: ${intervalNs} ns apart, the shortest took ${shortestNs} ns`)
      assert.deepEqual([service.count, response.count, slip.count], [300, 300, 300])
      assert.equal(response.sumNs, service.sumNs + slip.sumNs, path)
    }
  })
})

const NOBODY = 65534

describe('without root', { skip: needsRoot }, () => {
  const build = join(tmpdir(), `tickscope-native-${NOBODY}`)
  after(() => rmSync(build, { recursive: true, force: true }))
  const readable = spawnSync(process.execPath, ['--version'], { uid: NOBODY, gid: NOBODY, cwd: '/' }).status === 0
  const source = spawnSync('test', ['-r', PROBE], { uid: NOBODY, gid: NOBODY }).status === 0

  it('says so in a sentence, and measures over loopback what needs none', {
    skip: (!readable || !source) && 'this checkout is not readable to others',
  }, async () => {
    const ended = await run(process.execPath, [PROBE, 'bypass', '--json', '--rounds', '1', '--count', '100'], {
      uid: NOBODY,
      gid: NOBODY,
      env: { ...process.env, HOME: '/' },
    })
    assert.equal(ended.code, 0, ended.stderr)
    assert.match(ended.stderr, /bypass: without root there are no network namespaces and no AF_XDP: .*over loopback/)
    const result = lastLine<BypassResult & { topology: string }>(ended)
    assert.equal(result.topology, 'loopback')
    for (const path of ['udp_blocking', 'udp_spinning', 'tcp_blocking', 'tcp_spinning']) {
      assert.deepEqual(
        [rowOf(result, path).status, rowOf(result, path).lost],
        ['measured', 0],
        rowOf(result, path).reason,
      )
    }
    for (const path of ['af_xdp_generic', 'af_xdp_native']) {
      assert.deepEqual([rowOf(result, path).status, rowOf(result, path).p50Ns], ['unsupported', null])
      assert.match(rowOf(result, path).reason, /needs root/)
    }
    for (const path of DPDK) assert.match(rowOf(result, path).reason, /needs root/)
    assert.equal(result.shares, null)
  })
})

/** Stand-ins for OpenOnload: no NIC of its kind is here. They export the two questions the real one answers. */
describe('a preloaded stack (fakes)', { skip: needsRoot }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'tickscope-preload-'))
  after(() => rmSync(folder, { recursive: true }))
  const library = (name: string, present: number, carries: number | undefined) => {
    const path = join(folder, `lib${name}.so`)
    const question =
      carries === undefined ? '' : `int onload_fd_stat(int fd, void *stat) { return fd >= 0 ? ${carries} : -1; }`
    writeFileSync(`${path}.c`, `int onload_is_present(void) { return ${present}; }\n${question}\n`)
    const built = spawnSync('cc', ['-shared', '-fPIC', '-o', path, `${path}.c`], { encoding: 'utf8' })
    assert.equal(built.status, 0, built.stderr)
    return path
  }
  const short = ['--rounds', '1', '--count', '50', '--paths', 'udp_blocking']
  let result: BypassResult

  before(async () => {
    const names = [
      library('fakeactive', 1, 1),
      library('fakeidle', 1, 0),
      library('fakemute', 1, undefined),
      library('fakeabsent', 0, 1),
      'onload',
      '/nowhere/libvma.so',
    ]
    const ended = await bypass(...short, ...names.flatMap((name) => ['--preload', name]))
    assert.equal(ended.code, 0, ended.stderr)
    result = lastLine<BypassResult>(ended)
  })

  it('is measured only when it says that it carries the very socket', () => {
    const active = rowOf(result, 'preload:fakeactive')
    assert.deepEqual([active.status, active.sent, active.lost], ['measured', 50, 0])
    assert.match(active.requestedMode, /LD_PRELOAD=.*libfakeactive\.so/)
    for (const path of ['preload:fakeidle', 'preload:fakemute']) {
      assert.equal(rowOf(result, path).status, 'inactive')
      assert.match(rowOf(result, path).reason, /no proof that it carries this socket/)
    }
  })

  it('that is loaded and not present, or says nothing, is inactive', () => {
    assert.equal(rowOf(result, 'preload:fakeabsent').status, 'inactive')
    assert.match(rowOf(result, 'preload:fakeabsent').reason, /no proof that it is there/)
  })

  it('that is not installed is skipped, with what is missing', () => {
    assert.match(rowOf(result, 'preload:onload').reason, /no onload on PATH/)
    const absent = result.rows.find(({ path }) => path.includes('vma'))
    assert.equal(absent?.status, 'skipped')
  })

  it('of OpenOnload is run through its own wrapper, with its latency profile', async () => {
    const active = library('fakewrapped', 1, 1)
    const said = join(folder, 'profile')
    writeFileSync(join(folder, 'onload'), `#!/bin/sh\necho "$1" > ${said}\nshift\nLD_PRELOAD=${active} exec "$@"\n`, {
      mode: 0o755,
    })
    const ended = await run(process.execPath, [PROBE, 'bypass', '--json', ...short, '--preload', 'onload'], {
      env: { ...process.env, PATH: `${folder}${delimiter}${process.env.PATH}` },
    })
    assert.equal(ended.code, 0, ended.stderr)
    const row = rowOf(lastLine<BypassResult>(ended), 'preload:onload')
    assert.deepEqual([row.status, row.lost], ['measured', 0], row.reason)
    assert.match(row.requestedMode, /onload --profile=latency/)
    assert.equal(spawnSync('cat', [said], { encoding: 'utf8' }).stdout.trim(), '--profile=latency')
  })
})

describe('a real network', { skip: needsRoot || (!installed('ip', '-V') && 'iproute2 is not here') }, () => {
  /** Flags of this end of the network. */
  const here = [
    '--device',
    'near',
    '--address',
    '198.19.0.1',
    '--peer',
    '198.19.0.2',
    '--peer-mac',
    '02:00:00:00:01:0b',
  ]
  const [near, far] = [`tsn${process.pid}`, `tsf${process.pid}`]
  const ip = (...args: string[]) => {
    const { status, stderr } = spawnSync('ip', args, { encoding: 'utf8' })
    assert.equal(status, 0, `ip ${args.join(' ')}: ${stderr}`)
  }
  before(() => {
    ip('netns', 'add', near)
    ip('netns', 'add', far)
    ip('link', 'add', 'near', 'netns', near, 'type', 'veth', 'peer', 'name', 'far', 'netns', far)
    for (const [namespace, device, mac, address] of [
      [near, 'near', '02:00:00:00:01:0a', '198.19.0.1/24'],
      [far, 'far', '02:00:00:00:01:0b', '198.19.0.2/24'],
    ] as const) {
      ip('-n', namespace, 'addr', 'add', address, 'dev', device)
      ip('-n', namespace, 'link', 'set', device, 'address', mac, 'up')
    }
  })
  after(() => {
    for (const namespace of [near, far]) spawnSync('ip', ['netns', 'del', namespace])
  })

  it('is measured against a `bypass serve` at its far end', async (t) => {
    const program = await nativeProgram('bypass')
    const there = [
      '--device',
      'far',
      '--address',
      '198.19.0.2',
      '--peer',
      '198.19.0.1',
      '--peer-mac',
      '02:00:00:00:01:0a',
    ]
    const server = spawn('ip', ['netns', 'exec', far, program, 'serve', ...there], { stdio: 'ignore' })
    t.after(() => server.kill('SIGKILL'))
    const listens = ['netns', 'exec', far, 'sh', '-c', 'grep -q "020013C6:4E1F" /proc/net/tcp']
    await until('the far end', () => spawnSync('ip', listens).status === 0)
    const paths = ['--paths', 'udp_blocking,udp_spinning,tcp_spinning,af_xdp_generic,dpdk_memif']
    const probe = [PROBE, 'bypass', '--json', '--rounds', '1', '--count', '100', ...paths, ...here]
    const ended = await run('ip', ['netns', 'exec', near, process.execPath, ...probe])
    assert.equal(ended.code, 0, ended.stderr)
    const result = lastLine<BypassResult & { topology: string }>(ended)
    assert.equal(result.topology, 'near to 198.19.0.2')
    for (const path of ['udp_blocking', 'udp_spinning', 'tcp_spinning', 'af_xdp_generic'])
      assert.deepEqual(
        [rowOf(result, path).status, rowOf(result, path).lost],
        ['measured', 0],
        rowOf(result, path).reason,
      )
    assert.match(rowOf(result, 'dpdk_memif').reason, /of the veth pair/)
  })

  it('is named whole or not at all', async () => {
    const ended = await bypass('--device', 'near')
    assert.deepEqual([ended.code, ended.stdout], [2, ''])
    assert.match(ended.stderr, /needs all of --device, --address, --peer and --peer-mac/)
  })

  it('without a far end is one sentence and exit code 3', async () => {
    const ended = await run('ip', ['netns', 'exec', near, process.execPath, PROBE, 'bypass', '--json', ...here])
    assert.equal(ended.code, 3, ended.stderr)
    assert.match(ended.stderr, /no `bypass serve` answers at the peer/)
  })
})
