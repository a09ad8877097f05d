/** One run of the ladder: builds what can be built, interleaves the rounds, and says why a row is missing. */
import { availableParallelism } from 'node:os'
import { UserError } from '@tickscope/contract'
import { collectEnvironment, type Environment, parseCpuTicks, readText, stealRatio } from '../environment.ts'
import { nativeProgram, runNative } from '../native.ts'
import { judgeLadderControls, type LadderControl, sampleLadderControl } from './controls.ts'
import {
  DPDK_PATHS,
  gainsOf,
  Ladder,
  type LadderGain,
  type LadderLine,
  type LadderRow,
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
}

export interface BypassResult {
  readonly probe: 'bypass'
  readonly topology: string
  readonly rounds: number
  readonly contaminated: boolean
  readonly contaminatedBy: readonly string[]
  readonly controls: readonly LadderControl[]
  readonly environment: Environment
  readonly rows: readonly LadderRow[]
  readonly gains: readonly LadderGain[]
  readonly shares: Shares | null
  readonly stamps: readonly Stamps[]
  readonly worth: readonly Worth[]
}

/** Longest one path of one round may take: 20,000 messages at 200 µs are 4 s. */
const RUN_TIMEOUT_MS = 300_000

export async function runBypass(options: BypassOptions): Promise<BypassResult> {
  const { rounds, payloads, paths, network, signal, note, progress } = options
  const wanted = (path: string) => paths === undefined || paths.includes(path)
  const root = process.getuid?.() === 0
  const loopback = !root && network === undefined
  if (!root && network !== undefined)
    throw new UserError('ROOT_NEEDED', 'a real network needs root, for the XDP program')
  if (loopback)
    note('without root there are no network namespaces and no AF_XDP: kernel sockets are measured over loopback')
  if (availableParallelism() < 2) note('this machine has one core: both ends share it, and spinning rows mean little')

  const program = await nativeProgram('bypass')
  const ladder = new Ladder()
  const cpus = ['--client-cpu', `${options.clientCpu}`, '--server-cpu', `${options.serverCpu}`]
  const common = [...cpus, '--count', `${options.count}`, '--interval-ns', `${options.intervalNs}`]
  const where = network
    ? ['--device', network.device, '--address', network.address, '--peer', network.peer, '--peer-mac', network.peerMac]
    : loopback
      ? ['--loopback']
      : []
  const preloads = options.preload.map((name) => detectPreload(name))
  const dpdk = await dpdkProgram(DPDK_PATHS.filter(wanted), ladder, payloads, { root, network: network !== undefined })
  for (const preload of preloads)
    if (preload.reason) ladder.note(`preload:${preload.name}`, payloads[0] ?? 64, 'skipped', preload.reason)

  const ticksBefore = parseCpuTicks(readText('/proc/stat'))
  const controls: LadderControl[] = []
  const control = async () => {
    const sample = await sampleLadderControl(program, cpus)
    if (sample !== undefined) controls.push(sample)
  }
  await control()
  for (let round = 0; round < rounds && !signal.aborted; round++) {
    const one = ['--rounds', '1', '--round', `${round}`, '--payloads', payloads.join(',')]
    const selected = paths === undefined ? [] : ['--paths', paths.join(',')]
    const end = await runNative({
      program,
      args: ['ladder', ...common, ...one, ...selected, ...where],
      timeoutMs: RUN_TIMEOUT_MS,
      signal,
      onLine: (line: LadderLine) => line.kind === 'ladder' && ladder.add(line),
    })
    if (end.code !== 0 && !signal.aborted)
      throw new UserError('LADDER_FAILED', end.said.replace(/^bypass: /, ''), end.code ?? 70)
    for (const driver of dpdk.drivers) await runDpdk(dpdk.program, driver, payloads, common, signal, ladder)
    for (const preload of preloads)
      if (!preload.reason) await runPreload(preload, program, [...common, ...one, ...where], signal, ladder)
    await control()
    progress((round + 1) / (rounds + 1))
  }
  const stamps =
    loopback || signal.aborted
      ? []
      : await runStamps(program, [...common, ...where, '--payloads', `${payloads[0] ?? 64}`], signal)
  const rows = ladder.rows()
  const gains = gainsOf(rows)
  const contaminatedBy = judgeLadderControls(controls, stealRatio(parseCpuTicks(readText('/proc/stat')), ticksBefore))
  return {
    probe: 'bypass',
    topology: network
      ? `${network.device} to ${network.peer}`
      : loopback
        ? 'loopback'
        : 'two network namespaces and a veth pair',
    rounds,
    contaminated: contaminatedBy.length > 0,
    contaminatedBy,
    controls,
    environment: collectEnvironment(),
    rows,
    gains,
    shares: sharesOf(rows, payloads[0] ?? 64),
    stamps,
    worth: options.endToEndNs === undefined ? [] : worthOf(rows, gains, options.endToEndNs),
  }
}

/** The DPDK program and the drivers to run, or rows that say why not. */
async function dpdkProgram(
  drivers: readonly string[],
  ladder: Ladder,
  payloads: readonly number[],
  { root, network }: { root: boolean; network: boolean },
): Promise<{ program: string; drivers: readonly string[] }> {
  const skip = (reason: string) => {
    for (const path of drivers) for (const payload of payloads) ladder.note(path, payload, 'skipped', reason)
    return { program: '', drivers: [] }
  }
  if (drivers.length === 0) return { program: '', drivers }
  if (!root) return skip('needs root, for network namespaces')
  if (network) return skip('the DPDK rows are of the veth pair; a real NIC must be bound to DPDK first')
  try {
    return { program: await nativeProgram('dpdk'), drivers }
  } catch (error) {
    if (error instanceof UserError) return skip('libdpdk is not here: apt-get install libdpdk-dev pkg-config gcc make')
    throw error
  }
}

async function runDpdk(
  program: string,
  path: string,
  payloads: readonly number[],
  common: readonly string[],
  signal: AbortSignal,
  ladder: Ladder,
): Promise<void> {
  for (const payload of payloads) {
    let seen = false
    const end = await runNative({
      program,
      args: [path.replace('dpdk_', ''), ...common, '--payload', `${payload}`],
      timeoutMs: RUN_TIMEOUT_MS,
      signal,
      onLine: (line: LadderLine) => {
        seen = true
        ladder.add(line)
      },
    })
    if (!seen && !signal.aborted)
      ladder.note(path, payload, 'unsupported', end.said.replace(/^dpdk: /, '').replaceAll('"', "'"))
  }
}

/** The same program under another network stack; `inactive` unless the stack proves that it is there. */
async function runPreload(
  { name, command, args, env }: Preload,
  program: string,
  ladderArgs: readonly string[],
  signal: AbortSignal,
  ladder: Ladder,
): Promise<void> {
  let proved = false
  const end = await runNative({
    program: command ?? program,
    args: [...args, ...(command ? [program] : []), 'ladder', ...ladderArgs, '--paths', 'udp_blocking,udp_spinning'],
    env,
    timeoutMs: RUN_TIMEOUT_MS,
    signal,
    onLine: (line: LadderLine | { kind: 'preload'; onloadPresent: boolean }) => {
      if (line.kind === 'preload') {
        proved = line.onloadPresent
        return
      }
      const path = `preload:${name}/${line.path.replace('udp_', '')}`
      if (proved || line.status !== 'measured') ladder.add({ ...line, path })
      else
        ladder.add({
          ...line,
          path,
          status: 'inactive',
          reason: `${name} gives no proof that it accelerates these sockets (onload_is_present)`,
        })
    },
  })
  if (end.code !== 0 && !signal.aborted) ladder.note(`preload:${name}`, 64, 'unsupported', end.said)
}
