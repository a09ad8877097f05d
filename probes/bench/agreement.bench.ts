/**
 * Do the C probes say what established tools say of the same machine in the same minute? sockperf for the kernel sockets
 * of the bypass ladder, cyclictest for the wakes of jitter.
 *
 * Unit of work: one round trip of a 64-byte UDP message between two network namespaces, client on core 0 and server on
 * core 1, 5,000 a second; and one wake of a SCHED_FIFO thread at an absolute time, each 200 µs. Rounds alternate between
 * the tools, which take turns at being first; each gives its p50. They agree when the median of the rounds' ratios is
 * within 10 % of 1. Beside it stands the 99 % interval of these ratios: when it includes agreement although the median
 * does not, the machine moved too much to tell. A disagreement means: one of the two times something else than it says.
 * Exit code 1 unless all agree.
 *
 * Usage: node probes/bench/agreement.bench.ts [rounds=11]     as root, with sockperf, cyclictest and iproute2
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { EXIT, formatNs, runMain } from '@tickscope/contract'
import type { LadderLine } from '../src/bypass/ladder.ts'
import { compareRatio } from '../src/compare.ts'
import type { WakeLine } from '../src/jitter/scenario.ts'
import { nativeProgram, nativeQuantileNs, runNative } from '../src/native.ts'

const ROUNDS = Number(process.argv[2] ?? 11)
const TOLERANCE = 0.1
const PER_SECOND = 5_000
const MESSAGES = 5_000
const WAKES = 1_500
const TIMEOUT_MS = 20_000
/** cyclictest prints a line for each ns of its histogram. */
const OUTPUT_BYTES_MAX = 32 * 1024 * 1024
/** sockperf's UDP sockets are not connected: they name their peer with every message. Ours do so here, too. */
const AS_SOCKPERF = ['--unconnected']
const CLIENT_CPU = '0'
const SERVER_CPU = '1'
const SOCKPERF_PORT = 21_000
const NEAR = { namespace: `tsagn${process.pid}`, device: 'near', address: '198.19.1.1', mac: '02:00:00:00:02:0a' }
const FAR = { namespace: `tsagf${process.pid}`, device: 'far', address: '198.19.1.2', mac: '02:00:00:00:02:0b' }

interface Comparison {
  readonly what: string
  readonly peer: string
  readonly missing: string | false
  readonly ours: () => Promise<number>
  readonly theirs: () => Promise<number>
}

function installed(command: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${command}`]).status === 0
}

function must(command: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    timeout: TIMEOUT_MS,
    maxBuffer: OUTPUT_BYTES_MAX,
  })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? stderr.trim()}`)
  return stdout
}

function createNetwork(): void {
  for (const { namespace } of [NEAR, FAR]) must('ip', 'netns', 'add', namespace)
  const pair = ['link', 'add', NEAR.device, 'netns', NEAR.namespace, 'type', 'veth']
  must('ip', ...pair, 'peer', 'name', FAR.device, 'netns', FAR.namespace)
  for (const [{ namespace, device, address, mac }, peer] of [
    [NEAR, FAR],
    [FAR, NEAR],
  ] as const) {
    must('ip', '-n', namespace, 'addr', 'add', `${address}/24`, 'dev', device)
    must('ip', '-n', namespace, 'link', 'set', device, 'address', mac, 'up')
    // No ARP in the loop, for either tool.
    must('ip', '-n', namespace, 'neigh', 'add', peer.address, 'lladdr', peer.mac, 'dev', device, 'nud', 'permanent')
  }
}

function removeNetwork(): void {
  for (const { namespace } of [NEAR, FAR]) spawnSync('ip', ['netns', 'del', namespace])
}

/** A server in the far namespace while `measure` runs, once it listens: `listening` is a pattern in /proc/net. */
async function withServer(args: readonly string[], listening: string, measure: () => Promise<number>): Promise<number> {
  const server: ChildProcess = spawn('ip', ['netns', 'exec', FAR.namespace, ...args], { stdio: 'ignore' })
  try {
    const listens = [
      'netns',
      'exec',
      FAR.namespace,
      'sh',
      '-c',
      `cat /proc/net/udp /proc/net/tcp | grep -q ${listening}`,
    ]
    const deadline = Date.now() + TIMEOUT_MS
    while (spawnSync('ip', listens).status !== 0) {
      if (Date.now() > deadline) throw new Error(`${args.join(' ')} does not listen`)
      await delay(20)
    }
    return await measure()
  } finally {
    server.kill('SIGKILL')
    if (server.exitCode === null && server.signalCode === null) await once(server, 'exit')
  }
}

const hexPort = (port: number) => `:${port.toString(16).toUpperCase().padStart(4, '0')}`
const CONTROL_PORT = 19_999

/** p50 of the service time of a path, ns. */
function ladderP50(program: string, path: string): Promise<number> {
  const end = (self: typeof NEAR, peer: typeof NEAR) => [
    ...['--device', self.device, '--address', self.address, '--peer', peer.address, '--peer-mac', peer.mac],
    ...['--client-cpu', CLIENT_CPU, '--server-cpu', SERVER_CPU, ...AS_SOCKPERF],
  ]
  return withServer([program, 'serve', ...end(FAR, NEAR)], hexPort(CONTROL_PORT), async () => {
    let p50Ns = Number.NaN
    const amount = ['--rounds', '1', '--count', `${MESSAGES}`, '--interval-ns', `${1e9 / PER_SECOND}`]
    const { said } = await runNative({
      program: 'ip',
      args: ['netns', 'exec', NEAR.namespace, program, 'ladder', '--paths', path, ...amount, ...end(NEAR, FAR)],
      timeoutMs: TIMEOUT_MS,
      onLine: (line: LadderLine) => {
        if (line.service) p50Ns = nativeQuantileNs(line.service, 0.5)
      },
    })
    if (Number.isNaN(p50Ns)) throw new Error(`bypass ladder: ${said}`)
    return p50Ns
  })
}

/** p50 of sockperf's round trip, ns: its last figures are in µs. */
function sockperfP50(...mode: string[]): Promise<number> {
  const where = ['-i', FAR.address, '-p', `${SOCKPERF_PORT}`]
  const server = ['sockperf', 'server', ...where, '--cpu-affinity', SERVER_CPU, ...mode]
  return withServer(server, hexPort(SOCKPERF_PORT), async () => {
    const shape = ['-m', '64', '-t', `${Math.ceil(MESSAGES / PER_SECOND)}`, '--mps', `${PER_SECOND}`, '--full-rtt']
    const client = ['sockperf', 'ping-pong', ...where, ...shape, '--sender-affinity', CLIENT_CPU, ...mode]
    const output = must('ip', 'netns', 'exec', NEAR.namespace, ...client)
    const p50Us = Number(/percentile 50\.000 =\s*([\d.]+)/.exec(output)?.[1])
    if (!(p50Us > 0)) throw new Error(`sockperf printed no median: ${output.slice(-200)}`)
    return p50Us * 1000
  })
}

const SCHEDULE = { cpu: SERVER_CPU, intervalUs: '200', priority: '80' }

async function wakeP50(program: string): Promise<number> {
  let p50Ns = Number.NaN
  const { cpu, intervalUs, priority } = SCHEDULE
  const { said } = await runNative({
    program,
    args: [
      ...['wake', '--cpu', cpu, '--policy', 'fifo', '--priority', priority],
      ...['--interval-us', intervalUs, '--count', `${WAKES}`, '--task-us', '0'],
    ],
    timeoutMs: TIMEOUT_MS,
    onLine: ({ wake }: WakeLine) => {
      p50Ns = nativeQuantileNs(wake, 0.5)
    },
  })
  if (Number.isNaN(p50Ns)) throw new Error(`jitter wake: ${said}`)
  return p50Ns
}

/** Median of cyclictest's histogram, which `-N` keeps in ns. */
async function cyclictestP50(folder: string): Promise<number> {
  const { cpu, intervalUs, priority } = SCHEDULE
  const file = join(folder, 'cyclictest.json')
  // Unless told not to, cyclictest keeps the cores from idling (/dev/cpu_dma_latency): that is another machine.
  const histogram = ['--default-system', '-N', '-h', '1000000', `--json=${file}`]
  must('cyclictest', '-q', '-t', '1', '-a', cpu, '-p', priority, '-i', intervalUs, '-l', `${WAKES}`, ...histogram)
  const { thread } = JSON.parse(readFileSync(file, 'utf8')) as {
    thread: { '0': { histogram: { [ns: string]: number } } }
  }
  let left = WAKES / 2
  for (const [ns, times] of Object.entries(thread['0'].histogram).sort(([a], [b]) => Number(a) - Number(b))) {
    left -= times
    if (left <= 0) return Number(ns)
  }
  throw new Error('cyclictest: more than half of its wakes are beyond 1 ms')
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2
}

/** @returns whether both agree; undefined when one is missing */
async function compare({ what, peer, missing, ours, theirs }: Comparison): Promise<boolean | undefined> {
  if (missing !== false) {
    console.log(`${what.padEnd(16)} skipped: ${missing}`)
    return undefined
  }
  const [mine, other]: [number[], number[]] = [[], []]
  for (let round = 0; round < ROUNDS; round++) {
    for (const first of round % 2 === 0 ? [true, false] : [false, true]) {
      if (first) mine.push(await ours())
      else other.push(await theirs())
    }
  }
  const ratio = median(mine.map((ns, round) => ns / (other[round] as number)))
  const { low, high } = compareRatio(other, mine)
  const agrees = Math.abs(ratio - 1) <= TOLERANCE
  const verdict = agrees
    ? 'agrees'
    : low < 1 + TOLERANCE && high > 1 - TOLERANCE
      ? 'undecided: the machine moved more than the tools differ'
      : 'DISAGREES'
  console.log(
    `${what.padEnd(16)}${formatNs(median(mine)).padStart(10)}${`${formatNs(median(other))} (${peer})`.padStart(26)}${ratio.toFixed(3).padStart(8)}  ${`${low.toFixed(2)} … ${high.toFixed(2)}`.padEnd(14)} ${verdict}`,
  )
  console.log(`${''.padEnd(16)}ours ${mine.map(formatNs).join(', ')}; ${peer} ${other.map(formatNs).join(', ')}`)
  return agrees
}

await runMain('agreement', async () => {
  const root = process.getuid?.() === 0 ? false : 'needs root'
  const noNetwork = root || (!installed('ip') && 'apt-get install iproute2')
  const noSockperf = noNetwork || (!installed('sockperf') && 'apt-get install sockperf')
  const noCyclictest = root || (!installed('cyclictest') && 'apt-get install rt-tests')
  const bypass = await nativeProgram('bypass')
  const jitter = await nativeProgram('jitter')
  const folder = mkdtempSync(join(tmpdir(), 'tickscope-agreement-'))
  console.log(`p50, medians of ${ROUNDS} rounds a tool, and of the rounds' ratios`)
  console.log(`${''.padEnd(16)}${'ours'.padStart(10)}${'theirs'.padStart(26)}${'ratio'.padStart(8)}  99 % interval`)
  try {
    if (!noSockperf) createNetwork()
    const verdicts = [
      await compare({
        what: 'udp_blocking',
        peer: 'sockperf',
        missing: noSockperf,
        ours: () => ladderP50(bypass, 'udp_blocking'),
        theirs: () => sockperfP50(),
      }),
      await compare({
        what: 'udp_spinning',
        peer: 'sockperf',
        missing: noSockperf,
        ours: () => ladderP50(bypass, 'udp_spinning'),
        theirs: () => sockperfP50('--nonblocked'),
      }),
      await compare({
        what: 'tcp_blocking',
        peer: 'sockperf',
        missing: noSockperf,
        ours: () => ladderP50(bypass, 'tcp_blocking'),
        theirs: () => sockperfP50('--tcp'),
      }),
      await compare({
        what: 'tcp_spinning',
        peer: 'sockperf',
        missing: noSockperf,
        ours: () => ladderP50(bypass, 'tcp_spinning'),
        theirs: () => sockperfP50('--tcp', '--nonblocked'),
      }),
      await compare({
        what: 'wake, FIFO',
        peer: 'cyclictest',
        missing: noCyclictest,
        ours: () => wakeP50(jitter),
        theirs: () => cyclictestP50(folder),
      }),
    ]
    return verdicts.includes(false) ? EXIT.budget : EXIT.ok
  } finally {
    removeNetwork()
    rmSync(folder, { recursive: true })
  }
})
