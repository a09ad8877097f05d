/**
 * The ladder: one message there and back over each path, interleaved by round, and what each rung gains.
 *
 * The paths are the C programs' (`native/`): kernel sockets, io_uring and AF_XDP from `bypass`; DPDK's drivers from
 * `dpdk`, only where libdpdk is; any preloaded stack by running `bypass` again under it. Each round visits every path,
 * so what the machine does to one it does to all, and comparisons pair rounds.
 */
import { LatencyHistogram, type LatencySummary, summarize } from '@tickscope/contract'
import { compareRatio, type Gain } from '../compare.ts'
import { mergeNative, type NativeHistogram, nativeQuantileNs } from '../native.ts'

export const KERNEL_PATHS = [
  'udp_blocking',
  'udp_epoll',
  'udp_spinning',
  'udp_busy_poll',
  'tcp_blocking',
  'tcp_spinning',
  'io_uring',
  'af_xdp_generic',
  'af_xdp_native',
] as const
export const DPDK_PATHS = ['dpdk_af_packet', 'dpdk_af_xdp', 'dpdk_memif'] as const

export type Status = 'measured' | 'inactive' | 'unsupported' | 'skipped'

/** A line of a C program: one path, one payload, one round. */
export interface LadderLine {
  readonly kind: 'ladder'
  readonly path: string
  readonly payloadBytes: number
  readonly status: Status
  readonly reason: string
  readonly requestedMode: string
  readonly effectiveMode: string
  readonly sent?: number
  readonly lost?: number
  readonly voluntarySwitches?: number
  readonly response?: NativeHistogram
  readonly service?: NativeHistogram
  readonly slip?: NativeHistogram
}

/** One path with one payload over all rounds; durations in ns. */
export interface LadderRow {
  readonly path: string
  readonly status: Status
  readonly reason: string
  readonly requestedMode: string
  readonly effectiveMode: string
  readonly boundary: 'user→user'
  readonly clock: 'CLOCK_MONOTONIC'
  readonly payloadBytes: number
  readonly sent: number
  readonly lost: number
  /** Response times, from the intended send. Null unless something was measured. */
  readonly p50Ns: number | null
  readonly p90Ns: number | null
  readonly p99Ns: number | null
  readonly p999Ns: number | null
  readonly maxNs: number | null
  /** p50 of the service time, from the actual send, of each round. */
  readonly roundsP50Ns: readonly number[]
  /** From the actual send: what a closed loop would have measured. */
  readonly service: LatencySummary | null
  /** How late the program itself sent. */
  readonly slip: LatencySummary | null
  /** Times the client slept per message: about 1 when blocking, 0 when spinning. */
  readonly sleepsPerMessage: number | null
}

/** Collects lines of one path and payload. */
class Rung {
  readonly #response = new LatencyHistogram()
  readonly #service = new LatencyHistogram()
  readonly #slip = new LatencyHistogram()
  readonly #roundsP50Ns: number[] = []
  #last: LadderLine
  #sent = 0
  #lost = 0
  #sleeps = 0

  constructor(first: LadderLine) {
    this.#last = first
  }

  add(line: LadderLine): void {
    this.#last = line
    this.#sent += line.sent ?? 0
    this.#lost += line.lost ?? 0
    this.#sleeps += line.voluntarySwitches ?? 0
    if (line.response) mergeNative(this.#response, line.response)
    if (line.slip) mergeNative(this.#slip, line.slip)
    if (line.service) {
      mergeNative(this.#service, line.service)
      this.#roundsP50Ns.push(nativeQuantileNs(line.service, 0.5))
    }
  }

  row(): LadderRow {
    const { path, payloadBytes, status, reason, requestedMode, effectiveMode } = this.#last
    const measured = this.#service.count > 0
    const response = measured ? summarize(this.#response) : null
    return {
      path,
      status,
      reason,
      requestedMode,
      effectiveMode,
      boundary: 'user→user',
      clock: 'CLOCK_MONOTONIC',
      payloadBytes,
      sent: this.#sent,
      lost: this.#lost,
      p50Ns: response?.p50Ns ?? null,
      p90Ns: response?.p90Ns ?? null,
      p99Ns: response?.p99Ns ?? null,
      p999Ns: response?.p999Ns ?? null,
      maxNs: response?.maxNs ?? null,
      roundsP50Ns: this.#roundsP50Ns,
      service: measured ? summarize(this.#service) : null,
      slip: measured ? summarize(this.#slip) : null,
      sleepsPerMessage: this.#sent > 0 ? Math.round((this.#sleeps / this.#sent) * 100) / 100 : null,
    }
  }
}

export class Ladder {
  readonly #rungs = new Map<string, Rung>()

  add(line: LadderLine): void {
    const key = `${line.path} ${line.payloadBytes}`
    const rung = this.#rungs.get(key) ?? new Rung(line)
    this.#rungs.set(key, rung)
    rung.add(line)
  }

  /** A path that did not run. */
  note(path: string, payloadBytes: number, status: 'skipped' | 'unsupported' | 'inactive', reason: string): void {
    this.add({ kind: 'ladder', path, payloadBytes, status, reason, requestedMode: '', effectiveMode: '' })
  }

  rows(): LadderRow[] {
    return [...this.#rungs.values()].map((rung) => rung.row())
  }
}

export interface LadderGain extends Gain {
  readonly from: string
  readonly to: string
  readonly payloadBytes: number
  readonly quantile: 0.5
}

/** The steps worth reading: waiting against spinning, then the stack against what bypasses it. */
const STEPS: readonly (readonly [from: string, to: string])[] = [
  ['udp_blocking', 'udp_epoll'],
  ['udp_blocking', 'udp_busy_poll'],
  ['udp_blocking', 'io_uring'],
  ['udp_blocking', 'udp_spinning'],
  ['tcp_blocking', 'tcp_spinning'],
  ['udp_spinning', 'af_xdp_generic'],
  ['udp_spinning', 'af_xdp_native'],
  ['udp_spinning', 'dpdk_af_packet'],
  ['udp_spinning', 'dpdk_af_xdp'],
  ['udp_spinning', 'dpdk_memif'],
  ['udp_blocking', 'af_xdp_generic'],
]

/** Gains between measured rows of equal payload; a row that is inactive is compared with nothing. */
export function gainsOf(rows: readonly LadderRow[]): LadderGain[] {
  return rows.flatMap((to) => {
    const steps = to.path.startsWith('preload:')
      ? [[`udp_${to.path.split('/')[1]}`, to.path] as const]
      : STEPS.filter(([, path]) => path === to.path)
    return steps.flatMap(([fromPath]) => {
      const from = rows.find((row) => row.path === fromPath && row.payloadBytes === to.payloadBytes)
      if (from?.status !== 'measured' || to.status !== 'measured') return []
      const rounds = Math.min(from.roundsP50Ns.length, to.roundsP50Ns.length)
      if (rounds === 0) return []
      const gain = compareRatio(from.roundsP50Ns.slice(0, rounds), to.roundsP50Ns.slice(0, rounds))
      return [{ from: from.path, to: to.path, payloadBytes: to.payloadBytes, quantile: 0.5 as const, ...gain }]
    })
  })
}

/**
 * Where the round trip of a blocking kernel socket goes, as shares of its p50: waking up the waiting threads (blocking
 * less spinning), the kernel's network stack (spinning less the fastest bypass), and what is left under the bypass.
 */
export interface Shares {
  readonly wakeUp: number
  readonly stack: number
  readonly bypass: number
  /** The row that stands for the bypass. */
  readonly bypassPath: string
}

/** @returns null unless blocking, spinning and a bypass were measured, each faster than the one before */
export function sharesOf(rows: readonly LadderRow[], payloadBytes: number): Shares | null {
  const p50 = (path: string) => {
    const row = rows.find((r) => r.path === path && r.payloadBytes === payloadBytes && r.status === 'measured')
    return row?.service?.p50Ns
  }
  const blocking = p50('udp_blocking')
  const spinning = p50('udp_spinning')
  const candidates = ['af_xdp_generic', 'af_xdp_native', 'dpdk_af_xdp', 'dpdk_af_packet'].flatMap((path) => {
    const ns = p50(path)
    return ns === undefined ? [] : [{ path, ns }]
  })
  const best = candidates.sort((a, b) => a.ns - b.ns)[0]
  if (blocking === undefined || spinning === undefined || best === undefined) return null
  if (!(blocking > spinning && spinning > best.ns)) return null
  const share = (ns: number) => Math.round((ns / blocking) * 1000) / 1000
  return {
    wakeUp: share(blocking - spinning),
    stack: share(spinning - best.ns),
    bypass: share(best.ns),
    bypassPath: best.path,
  }
}

/** What the gain would be worth to a bot whose whole round trip takes `endToEndNs`. */
export interface Worth {
  readonly from: string
  readonly to: string
  readonly savedNs: number
  readonly endToEndNs: number
  /** Share of the whole that is saved. */
  readonly ratio: number
}

export function worthOf(rows: readonly LadderRow[], gains: readonly LadderGain[], endToEndNs: number): Worth[] {
  return gains
    .filter((gain) => gain.claimed && gain.ratio < 1)
    .flatMap(({ from, to, payloadBytes }) => {
      const p50 = (path: string) =>
        rows.find((row) => row.path === path && row.payloadBytes === payloadBytes)?.service?.p50Ns
      const before = p50(from)
      const after = p50(to)
      if (before === undefined || after === undefined) return []
      const savedNs = before - after
      return [{ from, to, savedNs, endToEndNs, ratio: savedNs / endToEndNs }]
    })
}
