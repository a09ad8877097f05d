/**
 * The ladder: one message there and back over each path, interleaved by round, and what each rung gains.
 *
 * The paths are the C programs' (`native/`): kernel sockets, io_uring and AF_XDP from `bypass`; DPDK's drivers from
 * `dpdk`, only where libdpdk is; any preloaded stack by running `bypass` again under it. Each round visits every path,
 * so what the machine does to one it does to all, and comparisons pair rounds.
 */
import { BYPASS_PATHS, LatencyHistogram, type LatencySummary, summarize } from '@tickscope/contract'
import { compareRatio, type Gain } from '../compare.ts'
import { mergeNative, type NativeHistogram, nativeQuantileNs } from '../native.ts'

type BypassPath = (typeof BYPASS_PATHS)[number]
const isDpdk = (path: BypassPath) => path.startsWith('dpdk_')
/** Paths of the program `bypass`. */
export const KERNEL_PATHS: readonly BypassPath[] = BYPASS_PATHS.filter((path) => !isDpdk(path))
/** Paths of the program `dpdk`. */
export const DPDK_PATHS: readonly BypassPath[] = BYPASS_PATHS.filter(isDpdk)

export type Status = 'measured' | 'inactive' | 'unsupported' | 'skipped'

/** A line of a C program: one path, one payload, one round. */
export interface LadderLine {
  readonly kind: 'ladder'
  /** Counted by the caller where a program knows no rounds. */
  readonly round?: number
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
  /** p50 of the service time, from the actual send, of each round that was measured. */
  readonly roundsP50Ns: readonly number[]
  /** Which rounds these are, so that comparisons pair them. */
  readonly measuredRounds: readonly number[]
  /** From the actual send: what a closed loop would have measured. */
  readonly service: LatencySummary | null
  /** How late the program itself sent. */
  readonly slip: LatencySummary | null
  /** Times the client slept per message: about 1 when blocking, 0 when spinning. */
  readonly sleepsPerMessage: number | null
}

/** A row is only as good as its worst round. */
const SEVERITY: readonly Status[] = ['measured', 'inactive', 'skipped', 'unsupported']

/** Collects lines of one path and payload. */
class Rung {
  readonly #response = new LatencyHistogram()
  readonly #service = new LatencyHistogram()
  readonly #slip = new LatencyHistogram()
  readonly #roundsP50Ns = new Map<number, number>()
  #worst: LadderLine
  #sent = 0
  #lost = 0
  #sleeps = 0

  constructor(first: LadderLine) {
    this.#worst = first
  }

  add(line: LadderLine): void {
    if (SEVERITY.indexOf(line.status) >= SEVERITY.indexOf(this.#worst.status)) this.#worst = line
    this.#sent += line.sent ?? 0
    this.#lost += line.lost ?? 0
    this.#sleeps += line.voluntarySwitches ?? 0
    if (line.response) mergeNative(this.#response, line.response)
    if (line.slip) mergeNative(this.#slip, line.slip)
    if (line.service && line.service.count > 0) {
      mergeNative(this.#service, line.service)
      this.#roundsP50Ns.set(line.round ?? this.#roundsP50Ns.size, nativeQuantileNs(line.service, 0.5))
    }
  }

  row(): LadderRow {
    const { path, payloadBytes, status, reason, requestedMode, effectiveMode } = this.#worst
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
      roundsP50Ns: [...this.#roundsP50Ns.values()],
      measuredRounds: [...this.#roundsP50Ns.keys()],
      service: measured ? summarize(this.#service) : null,
      slip: measured ? summarize(this.#slip) : null,
      sleepsPerMessage: this.#sent > 0 ? Math.round((this.#sleeps / this.#sent) * 100) / 100 : null,
    }
  }
}

/** The line of a path that did not run. */
export function missing(
  path: string,
  payloadBytes: number,
  status: 'skipped' | 'unsupported',
  reason: string,
): LadderLine {
  return { kind: 'ladder', path, payloadBytes, status, reason, requestedMode: '', effectiveMode: '' }
}

export class Ladder {
  readonly #rungs = new Map<string, Rung>()

  add(line: LadderLine): void {
    const key = `${line.path} ${line.payloadBytes}`
    const rung = this.#rungs.get(key) ?? new Rung(line)
    this.#rungs.set(key, rung)
    rung.add(line)
  }

  has(path: string, payloadBytes: number): boolean {
    return this.#rungs.has(`${path} ${payloadBytes}`)
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

/** The steps worth reading: how the socket waits, then the stack against what bypasses it, then the whole way. */
const BYPASSES = ['af_xdp_generic', 'af_xdp_native', ...DPDK_PATHS]
const STEPS: readonly (readonly [from: string, to: string])[] = [
  ...['udp_epoll', 'udp_busy_poll', 'io_uring', 'udp_spinning'].map((to) => ['udp_blocking', to] as const),
  ['tcp_blocking', 'tcp_spinning'],
  ...BYPASSES.map((to) => ['udp_spinning', to] as const),
  ...BYPASSES.map((to) => ['udp_blocking', to] as const),
]

/** Gains between measured rows of equal payload; a row that is inactive is compared with nothing. */
export function gainsOf(rows: readonly LadderRow[]): LadderGain[] {
  const preloaded = rows
    .filter(({ path }) => path.startsWith('preload:'))
    .map(({ path }) => ['udp_blocking', path] as const)
  const payloads = [...new Set(rows.map(({ payloadBytes }) => payloadBytes))]
  const rowOf = (path: string, payload: number) =>
    rows.find((row) => row.path === path && row.payloadBytes === payload && row.status === 'measured')
  return payloads.flatMap((payloadBytes) =>
    [...STEPS, ...preloaded].flatMap(([fromPath, toPath]) => {
      const from = rowOf(fromPath, payloadBytes)
      const to = rowOf(toPath, payloadBytes)
      if (from === undefined || to === undefined) return []
      const rounds = from.measuredRounds.filter((round) => to.measuredRounds.includes(round))
      if (rounds.length === 0) return []
      const p50s = (row: LadderRow) =>
        rounds.map((round) => row.roundsP50Ns[row.measuredRounds.indexOf(round)] as number)
      return [
        { from: fromPath, to: toPath, payloadBytes, quantile: 0.5 as const, ...compareRatio(p50s(from), p50s(to)) },
      ]
    }),
  )
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
