/** One run of the ladder: builds what can be built, interleaves the rounds, and says why a row is missing. */
import { availableParallelism } from 'node:os'
import { UserError } from '@tickscope/contract'
import { collectEnvironment, type Environment } from '../environment.ts'
import { nativeProgram, runNative } from '../native.ts'
import { type LadderControl, RunControls, sampleLadderControl } from './controls.ts'
import {
  DPDK_PATHS,
  gainsOf,
  KERNEL_PATHS,
  Ladder,
  type LadderGain,
  type LadderLine,
  type LadderRow,
  missing,
  type Shares,
  sharesOf,
  type Worth,
  worthOf,
} from './ladder.ts'
import { detectPreload, type Preload } from './preload.ts'
import { runStamps, type Stamps } from './stamps.ts'

export interface BypassOptions {
  readonly rounds: number
  readonly count: number
  /** Messages of each path and round that are thrown away first. */
  readonly warmUp: number
  readonly payloads: readonly number[]
  readonly intervalNs: number
  readonly paths?: readonly string[]
  readonly preload: readonly string[]
  /** ns; of the bot whose gain is asked for. */
  readonly endToEndNs?: number
  readonly network?: {
    readonly device: string
    readonly address: string
    readonly peer: string
    readonly peerMac: string
  }
  readonly clientCpu: number
  readonly serverCpu: number
  readonly signal: AbortSignal
  readonly note: (line: string) => void
  readonly progress: (ratio: number) => void
  /** Takes the lines of each round once it is over. */
  readonly report?: (lines: readonly LadderLine[]) => Promise<void>
}

export interface BypassResult {
  readonly probe: 'bypass'
  readonly topology: string
  /** Rounds that visited every path; only these are compared. Fewer than `roundsRequested` when the run was stopped. */
  readonly rounds: number
  readonly roundsRequested: number
  /** Whether it was asked to stop before it had measured everything. The rows also hold what an unfinished round reached. */
  readonly stopped: boolean
  /** Messages of each path and round that were thrown away first. */
  readonly warmUp: number
  readonly contaminated: boolean
  readonly contaminatedBy: readonly string[]
  /** The same of each round alone, by its controls before and after it; of an unfinished last one too. */
  readonly roundsContaminatedBy: readonly (readonly string[])[]
  readonly controls: readonly LadderControl[]
  readonly environment: Environment
  readonly rows: readonly LadderRow[]
  readonly gains: readonly LadderGain[]
  readonly shares: Shares | null
  readonly stamps: readonly Stamps[]
  readonly worth: readonly Worth[]
}

/**
 * What a run may take before it is killed: a start, the losses after which the programs themselves give a path up (10 of
 * 1 s), and per message the longest interval they take of their own accord.
 */
const START_MS = 10_000
const LOSSES_MS = 10_000
const MESSAGE_NS = 1_000_000
/** What the last control sample may take once the run was asked to stop. */
const STOPPED_CONTROL_MS = 1_000

function timeoutMs({ count, warmUp, intervalNs }: BypassOptions, paths: number): number {
  return START_MS + paths * (LOSSES_MS + ((count + warmUp) * Math.max(MESSAGE_NS, intervalNs)) / 1e6)
}

export async function runBypass(options: BypassOptions): Promise<BypassResult> {
  const { payloads, paths, network, signal, note, progress } = options
  const wanted = (path: string) => paths === undefined || paths.includes(path)
  const root = process.getuid?.() === 0
  const loopback = !root && network === undefined
  if (!root && network !== undefined)
    throw new UserError('ROOT_NEEDED', 'a real network needs root, for the XDP program')
  if (loopback)
    note('without root there are no network namespaces and no AF_XDP: kernel sockets are measured over loopback')
  if (availableParallelism() < 2) note('this machine has one core: both ends share it, and spinning rows mean little')

  const program = await nativeProgram('bypass', signal)
  // All that was measured, and what of it belongs to rounds that visited every path.
  const ladder = new Ladder()
  const whole = new Ladder()
  const cpus = ['--client-cpu', `${options.clientCpu}`, '--server-cpu', `${options.serverCpu}`]
  const common = [
    ...cpus,
    ...['--count', `${options.count}`, '--warmup', `${options.warmUp}`, '--interval-ns', `${options.intervalNs}`],
  ]
  const where = network
    ? ['--device', network.device, '--address', network.address, '--peer', network.peer, '--peer-mac', network.peerMac]
    : loopback
      ? ['--loopback']
      : []
  const preloads = options.preload.map((name) => detectPreload(name))
  const drivers = DPDK_PATHS.filter(wanted)
  const dpdk = await dpdkProgram(drivers, ladder, options, { root, network: network !== undefined })
  const kernelPaths = KERNEL_PATHS.filter(wanted)

  const controls = new RunControls((timeoutMs) => sampleLadderControl(program, cpus, timeoutMs))
  if (!signal.aborted) await controls.start()
  let rounds = 0
  for (let round = 0; round < options.rounds && !signal.aborted; round++) {
    const lines: LadderLine[] = []
    const take = (line: LadderLine) => {
      lines.push({ ...line, round })
      ladder.add({ ...line, round })
    }
    const one = ['--rounds', '1', '--round', `${round}`, '--payloads', payloads.join(',')]
    if (kernelPaths.length > 0) {
      const end = await runNative({
        program,
        args: ['ladder', ...common, ...one, ...where, '--paths', kernelPaths.join(',')],
        timeoutMs: timeoutMs(options, kernelPaths.length * payloads.length),
        signal,
        onLine: (line: LadderLine) => line.kind === 'ladder' && take(line),
      })
      if (end.code !== 0 && !signal.aborted) {
        const said = end.said.replace(/^bypass: /, '')
        if (end.code !== null && rounds === 0 && lines.length === 0)
          throw new UserError('LADDER_FAILED', said, end.code)
        // It failed on the way, or was killed for its time: what it did not reach is missing, what it measured stays.
        takeMissing(kernelPaths, payloads, said, lines, take)
      }
    }
    for (const driver of dpdk.drivers)
      for (const payload of payloads) await runDpdk(dpdk.program, driver, payload, common, options, take)
    for (const preload of preloads) await runPreload(preload, program, [...common, ...one, ...where], options, take)
    const finished = !signal.aborted
    if (finished) {
      rounds++
      for (const line of lines) whole.add(line)
    }
    if (finished || lines.some(({ service }) => service))
      await controls.endRound(finished ? undefined : STOPPED_CONTROL_MS)
    await options.report?.(lines)
    progress((round + 1) / (options.rounds + 1))
  }
  const stamps =
    loopback || signal.aborted || !wanted('udp_blocking')
      ? []
      : await runStamps(program, [...common, ...where, '--payloads', `${payloads[0] ?? 64}`], signal)
  const stopped = signal.aborted
  if (stopped)
    for (const path of [...kernelPaths, ...drivers, ...preloads.map(({ name }) => `preload:${name}`)])
      for (const payload of payloads)
        if (!ladder.has(path, payload)) ladder.add(missing(path, payload, 'skipped', 'the run was stopped before it'))
  const compared = whole.rows()
  const gains = gainsOf(compared)
  const contaminatedBy = controls.judge()
  return {
    probe: 'bypass',
    topology: network
      ? `${network.device} to ${network.peer}`
      : loopback
        ? 'loopback'
        : 'two network namespaces and a veth pair',
    rounds,
    roundsRequested: options.rounds,
    stopped,
    warmUp: options.warmUp,
    contaminated: contaminatedBy.length > 0,
    contaminatedBy,
    roundsContaminatedBy: controls.rounds,
    controls: controls.samples,
    environment: collectEnvironment(),
    rows: ladder.rows(),
    gains,
    shares: sharesOf(compared, payloads[0] ?? 64),
    stamps,
    worth: options.endToEndNs === undefined ? [] : worthOf(compared, gains, options.endToEndNs),
  }
}

/** A row for each path and payload of which there is no line. */
function takeMissing(
  paths: readonly string[],
  payloads: readonly number[],
  reason: string,
  lines: readonly LadderLine[],
  take: (line: LadderLine) => void,
): void {
  for (const path of paths)
    for (const payload of payloads)
      if (!lines.some((line) => line.path === path && line.payloadBytes === payload))
        take(missing(path, payload, 'unsupported', reason))
}

/** The DPDK program and the drivers to run, or rows that say why not. */
async function dpdkProgram(
  drivers: readonly string[],
  ladder: Ladder,
  { payloads, signal }: BypassOptions,
  { root, network }: { root: boolean; network: boolean },
): Promise<{ program: string; drivers: readonly string[] }> {
  const skip = (reason: string) => {
    for (const path of drivers) for (const payload of payloads) ladder.add(missing(path, payload, 'skipped', reason))
    return { program: '', drivers: [] }
  }
  if (drivers.length === 0) return { program: '', drivers }
  if (!root) return skip('needs root, for network namespaces')
  if (network) return skip('the DPDK rows are of the veth pair; a real NIC must be bound to DPDK first')
  try {
    return { program: await nativeProgram('dpdk', signal), drivers }
  } catch (error) {
    if (error instanceof UserError) return skip('libdpdk is not here: apt-get install libdpdk-dev pkg-config gcc make')
    throw error
  }
}

async function runDpdk(
  program: string,
  path: string,
  payload: number,
  common: readonly string[],
  options: BypassOptions,
  take: (line: LadderLine) => void,
): Promise<void> {
  let seen = false
  const end = await runNative({
    program,
    args: [path.replace('dpdk_', ''), ...common, '--payload', `${payload}`],
    timeoutMs: timeoutMs(options, 1),
    signal: options.signal,
    onLine: (line: LadderLine) => {
      seen = true
      take(line)
    },
  })
  if (!seen && !options.signal.aborted) take(missing(path, payload, 'unsupported', end.said.replace(/^dpdk: /, '')))
}

/** A blocking UDP socket of the unchanged program under another stack; `inactive` unless the stack proves its work. */
async function runPreload(
  { name, command, args, env, reason }: Preload,
  program: string,
  ladderArgs: readonly string[],
  options: BypassOptions,
  take: (line: LadderLine) => void,
): Promise<void> {
  const path = `preload:${name}`
  if (reason !== undefined) {
    for (const payload of options.payloads) take(missing(path, payload, 'skipped', reason))
    return
  }
  const requestedMode = command ? `${command} ${args.join(' ')}, blocking` : `LD_PRELOAD=${env.LD_PRELOAD}, blocking`
  let said: PreloadLine | undefined
  const lines: LadderLine[] = []
  const end = await runNative({
    program: command ?? program,
    args: [...args, ...(command ? [program] : []), 'ladder', ...ladderArgs, '--paths', 'udp_blocking'],
    env,
    timeoutMs: timeoutMs(options, options.payloads.length),
    signal: options.signal,
    onLine: (line: LadderLine | PreloadLine) => {
      if (line.kind === 'preload') {
        said = line
        return
      }
      const why = said?.accelerated
        ? undefined
        : said?.present
          ? `${name} is loaded, but gives no proof that it carries this socket (onload_fd_stat)`
          : `${name} gives no proof that it is there (onload_is_present)`
      const inactive =
        line.status === 'measured' && why !== undefined ? ({ status: 'inactive', reason: why } as const) : {}
      lines.push({ ...line, path, requestedMode, ...inactive })
      take(lines.at(-1) as LadderLine)
    },
  })
  if (!options.signal.aborted)
    takeMissing([path], options.payloads, end.said || `it ended with code ${end.code}`, lines, take)
}

/** What `bypass ladder` says of a preloaded stack before its rows. */
interface PreloadLine {
  readonly kind: 'preload'
  readonly present: boolean
  readonly accelerated: boolean
}
