/**
 * One order path in several runtimes: the same ticks, the same bytes on the same kind of socket, signed the way each
 * ecosystem signs, sent to the same venue, interleaved by round.
 *
 * What a runtime changes is the client's share: parse, decide, sign, encode, and read the answer. From the write to the
 * answer read (`io`) everybody waits for the same venue and the same kernel. Here that venue is on loopback; in the field
 * its share is the route's and the venue's, tens of milliseconds, and this table says what is left of a runtime's
 * advantage then.
 */
import { randomUUID } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { EXIT, LatencyHistogram, type LatencySummary, summarize, UserError } from '@tickscope/contract'
import { REST_BASE_PATH } from '@tickscope/venue/kalshi'
// Only its types: the program runs as a process of its own.
import type { OrderLine } from '../../runtimes/order.ts'
import { nowNs } from '../clock.ts'
import { compareDifference, compareRatio } from '../compare.ts'
import { type ControlReport, worstReasons } from '../controls.ts'
import { collectEnvironment } from '../environment.ts'
import { runNative } from '../native.ts'
import { type InterleavedResult, interleave } from '../rounds.ts'
import { type ClaimVerdict, judgeRuntimes } from './claims.ts'
import type { Kind, Runtime } from './interpreter.ts'
import { type GivenVenue, joinVenue, type KeyType, type OrderVenue, startOwnVenue } from './venue.ts'

/** Phases of one order in their order; they sum to the service time. `io` is the write and the wait for the answer. */
export const ORDER_PHASES = ['parse', 'decide', 'sign', 'encode', 'io', 'answer'] as const
export const CLIENT_PHASES = ['parse', 'decide', 'sign', 'encode', 'answer'] as const
export const CPU_WORK = ['parse', 'decide', 'sign', 'encode'] as const
export type CpuWork = (typeof CPU_WORK)[number]

export interface RuntimeOptions {
  readonly rounds: number
  /** Orders a runtime and round. */
  readonly count: number
  readonly ratePerSecond: number
  /** Orders before the measurement, in each round: a process starts cold. */
  readonly warmUp: number
  readonly keyType: KeyType
  /** A simulator that runs already; one of its own when left out. */
  readonly venue?: GivenVenue
  /** One row each; what is missing is skipped with its reason. */
  readonly runtimes: readonly Runtime[]
  readonly signal: AbortSignal
  readonly note: (line: string) => void
  readonly progress: (ratio: number) => void
  /** Takes the orders of each runtime and round, once they are over. */
  readonly report?: (runtime: Runtime, orders: readonly OrderTimes[]) => Promise<void>
}

/** One order: the client's own work, from the write to the answer read, both, and both from the intended send. */
export interface OrderTimes {
  readonly clientNs: number
  readonly ioNs: number
  readonly serviceNs: number
  readonly totalNs: number
}

export interface RuntimeRow {
  readonly name: string
  readonly kind: Kind
  readonly status: 'measured' | 'inactive' | 'skipped' | 'unsupported'
  readonly reason?: string
  readonly interpreter: string
  readonly version: string
  readonly requestedMode: string
  /** The event loop that ran. */
  readonly effectiveMode: string
  readonly signing: string
  readonly boundary: 'user→user'
  readonly clock: string
  readonly sent: number
  readonly lost: number
  readonly reasons: { readonly [reason: string]: number }
  /** From the intended send to the answer parsed; null unless something was measured. */
  readonly response: LatencySummary | null
  /** From the tick taken up to the answer parsed. */
  readonly service: LatencySummary | null
  readonly slip: LatencySummary | null
  /** The client's own work of one order. */
  readonly client: LatencySummary | null
  /** From the write to the last byte of the answer read. */
  readonly io: LatencySummary | null
  readonly phases: { readonly [phase: string]: LatencySummary }
  /** p50 of each round, ns; null for a round it did not finish. */
  readonly roundsP50Ns: { readonly [figure in Figure]: readonly (number | null)[] }
  /** The same work in a hot loop, ns an operation: the fastest batch of each round, since this is cost, not latency. */
  readonly cpuRoundsNs: { readonly [work in CpuWork]: readonly (number | null)[] }
}

export type Figure = 'service' | 'client' | 'io'

/** `to` against `from`, paired by round; absent figures mean that fewer than three rounds had both. */
export interface RuntimeComparison {
  readonly from: string
  readonly to: string
  /** A figure of an order (difference in ns), or `cpu:` work of the hot loop (ratio). */
  readonly quantity: Figure | `cpu:${CpuWork}`
  readonly as: 'difference_ns' | 'ratio'
  readonly rounds: number
  readonly mean: number
  readonly low: number
  readonly high: number
  readonly claimed: boolean
}

export interface RuntimeResult extends InterleavedResult {
  readonly probe: 'runtime'
  readonly rows: readonly RuntimeRow[]
  readonly comparisons: readonly RuntimeComparison[]
  readonly claims: readonly ClaimVerdict[]
}

const CPU_BATCHES = 15
const TICK_COUNT = 2_000
const TIMEOUT_SLACK_MS = 60_000

export async function runRuntimes(options: RuntimeOptions): Promise<RuntimeResult> {
  const { rounds, count, ratePerSecond, warmUp, keyType, runtimes, signal, note } = options
  const startedAtMs = Date.now()
  const startedAtNs = nowNs()
  const venue = await (options.venue === undefined ? startOwnVenue(keyType) : joinVenue(options.venue))
  const columns = runtimes.map((runtime) => new Column(runtime))
  let controls: readonly ControlReport[]
  try {
    const ticksFile = join(venue.folder, 'ticks.jsonl')
    writeFileSync(ticksFile, createTicks(venue.ticker).join('\n'))
    const runnable = columns.filter(({ runtime }) => runtime.missing === undefined)
    controls = await interleave(runnable, options, async (column, round) => {
      const orders = await runOne(column, round, venue, ticksFile, options)
      await options.report?.(column.runtime, orders)
    })
  } finally {
    await venue.stop()
  }
  for (const { runtime, failure } of columns) if (failure) note(`${runtime.name}: ${failure}`)
  const all = Column.all(columns)
  if (all.service.count === 0 && !signal.aborted)
    throw new UserError(
      'NO_RUNTIME',
      `no runtime sent an order: ${columns.map(({ runtime, failure }) => runtime.missing?.reason ?? failure).join('; ')}`,
      EXIT.environment,
    )
  const rows = columns.map((column) => column.row(rounds))
  const comparisons = compareRows(rows)
  const contaminatedBy = worstReasons(controls)
  return {
    probe: 'runtime',
    target: `simulated venue at ${venue.url.origin}${REST_BASE_PATH}/portfolio/events/orders`,
    startedAtMs,
    durationMs: Math.round((nowNs() - startedAtNs) / 1e6),
    settings: {
      rounds,
      ordersPerRound: count,
      ratePerSecond,
      warmUpOrders: warmUp,
      keyType: venue.keyType,
      cpuBatches: CPU_BATCHES,
    },
    boundary: 'user→user',
    clock: 'each runtime reads CLOCK_MONOTONIC its own way',
    sent: rows.reduce((sum, { sent }) => sum + sent, 0),
    lost: rows.reduce((sum, { lost }) => sum + lost, 0),
    response: summarize(all.response),
    service: summarize(all.service),
    slip: summarize(all.slip),
    phases: all.summaries(),
    rows,
    comparisons,
    claims: judgeRuntimes(rows, comparisons, contaminatedBy),
    contaminated: contaminatedBy.length > 0,
    contaminatedBy,
    controls,
    environment: collectEnvironment(),
  }
}

async function runOne(
  column: Column,
  round: number,
  venue: OrderVenue,
  ticksFile: string,
  { count, ratePerSecond, warmUp, signal }: RuntimeOptions,
): Promise<readonly OrderTimes[]> {
  const { program, args } = column.runtime
  const flags = {
    host: venue.url.hostname,
    port: venue.url.port,
    'key-file': venue.keyFile,
    'key-id': venue.keyId,
    ticker: venue.ticker,
    ticks: ticksFile,
    // Unique in each run: the venue takes a client order id once.
    prefix: randomUUID().slice(0, 23),
    rate: ratePerSecond,
    count,
    'warm-up': warmUp,
    'cpu-batches': CPU_BATCHES,
  }
  const orders: OrderTimes[] = []
  const end = await runNative({
    program,
    args: [...args, ...Object.entries(flags).flatMap(([name, value]) => [`--${name}`, `${value}`])],
    timeoutMs: ((count + warmUp) / ratePerSecond) * 1000 + TIMEOUT_SLACK_MS,
    signal,
    onLine: (line: OrderLine) => orders.push(...column.add(round, line)),
  })
  if (end.code !== 0 && !signal.aborted) column.failure = end.said || `ended with ${end.code ?? end.signal}`
  return orders
}

/** Deltas of one book as the venue writes them, the same in every run: levels fill around 50 cents, and empty again. */
export function createTicks(ticker: string): string[] {
  let state = 12_345
  const random = (below: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff
    return (state >>> 8) % below
  }
  return Array.from({ length: TICK_COUNT }, (_, i) => {
    const cents = 20 + random(30)
    const contracts = (random(100) < 60 ? 1 : -1) * (1 + random(500))
    const side = random(2) === 0 ? 'yes' : 'no'
    return `{"type":"orderbook_delta","sid":1,"seq":${i + 1},"msg":{"market_ticker":"${ticker}","market_id":"9b0f6b43-5b68-4f9f-9f02-9a2d1b8ac1a1","price_dollars":"0.${cents}00","delta_fp":"${contracts}.00","side":"${side}","ts":"2026-11-20T22:51:37.561Z","ts_ms":1795215097561}}`
  })
}

/** What one runtime measured over all rounds. */
class Column {
  readonly runtime: Runtime
  readonly response = new LatencyHistogram()
  readonly service = new LatencyHistogram()
  readonly slip = new LatencyHistogram()
  readonly client = new LatencyHistogram()
  readonly phases = new Map(ORDER_PHASES.map((phase) => [phase, new LatencyHistogram()]))
  readonly #roundsP50Ns = new Map<number, { [figure in Figure]: number }>()
  readonly #cpuRoundsNs = new Map<number, { [work in CpuWork]: number }>()
  readonly #reasons: Record<string, number> = {}
  #last: OrderLine | undefined
  #sent = 0
  #lost = 0
  failure: string | undefined

  constructor(runtime: Runtime) {
    this.runtime = runtime
  }

  /** @returns the orders of this line */
  add(round: number, line: OrderLine): readonly OrderTimes[] {
    this.#last = line
    this.#sent += line.sent
    this.#lost += line.lost
    for (const [reason, times] of Object.entries(line.reasons))
      this.#reasons[reason] = (this.#reasons[reason] ?? 0) + times
    const { samplesNs, cpuNs } = line
    const own = { service: new LatencyHistogram(), client: new LatencyHistogram(), io: new LatencyHistogram() }
    const orders: OrderTimes[] = []
    for (let i = 0; i < (samplesNs.slip?.length ?? 0); i++) {
      const value = (name: string) => samplesNs[name]?.[i] as number
      const clientNs = CLIENT_PHASES.reduce((sum, phase) => sum + value(phase), 0)
      const serviceNs = clientNs + value('io')
      own.service.record(serviceNs)
      own.client.record(clientNs)
      own.io.record(value('io'))
      this.slip.record(value('slip'))
      this.response.record(value('slip') + serviceNs)
      orders.push({ clientNs, ioNs: value('io'), serviceNs, totalNs: value('slip') + serviceNs })
      for (const [phase, histogram] of this.phases) histogram.record(value(phase))
    }
    this.service.add(own.service)
    this.client.add(own.client)
    if (own.service.count > 0)
      this.#roundsP50Ns.set(round, {
        service: own.service.quantileNs(0.5),
        client: own.client.quantileNs(0.5),
        io: own.io.quantileNs(0.5),
      })
    this.#cpuRoundsNs.set(
      round,
      Object.fromEntries(CPU_WORK.map((work) => [work, Math.min(...(cpuNs[work] ?? []))])) as {
        [work in CpuWork]: number
      },
    )
    return orders
  }

  summaries(): { [phase: string]: LatencySummary } {
    return Object.fromEntries([...this.phases].map(([phase, histogram]) => [phase, summarize(histogram)]))
  }

  row(rounds: number): RuntimeRow {
    const { kind, name, requestedMode, program, missing } = this.runtime
    const measured = this.service.count > 0
    const effectiveMode = this.#last?.loop ?? ''
    const inactive = kind === 'uvloop' && measured && effectiveMode !== 'uvloop'
    const stopped = !measured && this.failure === undefined
    const reason =
      missing?.reason ??
      (inactive
        ? 'uvloop was asked for and asyncio ran'
        : stopped
          ? 'the run was stopped before it'
          : measured
            ? undefined
            : this.failure)
    const status =
      missing?.status ?? (inactive ? 'inactive' : measured ? 'measured' : stopped ? 'skipped' : 'unsupported')
    const summary = (histogram: LatencyHistogram) => (measured ? summarize(histogram) : null)
    const byRound = <Name extends string>(figures: ReadonlyMap<number, { [name in Name]: number }>, name: Name) =>
      Array.from({ length: rounds }, (_, round) => figures.get(round)?.[name] ?? null)
    return {
      name,
      kind,
      status,
      ...(reason === undefined ? {} : { reason }),
      interpreter: program,
      version: this.#last?.version ?? '',
      requestedMode,
      effectiveMode,
      signing: this.#last?.signing ?? '',
      boundary: 'user→user',
      clock: this.#last?.clock ?? '',
      sent: this.#sent,
      lost: this.#lost,
      reasons: this.#reasons,
      response: summary(this.response),
      service: summary(this.service),
      slip: summary(this.slip),
      client: summary(this.client),
      io: summary(this.phases.get('io') as LatencyHistogram),
      phases: measured ? this.summaries() : {},
      roundsP50Ns: {
        service: byRound(this.#roundsP50Ns, 'service'),
        client: byRound(this.#roundsP50Ns, 'client'),
        io: byRound(this.#roundsP50Ns, 'io'),
      },
      cpuRoundsNs: Object.fromEntries(CPU_WORK.map((work) => [work, byRound(this.#cpuRoundsNs, work)])) as {
        [work in CpuWork]: (number | null)[]
      },
    }
  }

  /** Everything of `columns` in one. */
  static all(columns: readonly Column[]): Column {
    const all = new Column({ kind: 'c', name: 'all', requestedMode: '', program: '', args: [] })
    for (const column of columns) {
      all.response.add(column.response)
      all.service.add(column.service)
      all.slip.add(column.slip)
      for (const [phase, histogram] of column.phases) all.phases.get(phase)?.add(histogram)
    }
    return all
  }
}

/** Every runtime against C, uvloop against the same interpreter's asyncio, PyPy against CPython. */
export function compareRows(rows: readonly RuntimeRow[]): RuntimeComparison[] {
  const measured = rows.filter(({ status }) => status === 'measured')
  const comparisons: RuntimeComparison[] = []
  const against = (from: RuntimeRow, to: RuntimeRow) => {
    for (const quantity of ['client', 'io', 'service'] as const) {
      const [a, b] = bothMeasured(from.roundsP50Ns[quantity], to.roundsP50Ns[quantity])
      if (a.length === 0) continue
      const { mean, low, high, claimed } = compareDifference(a, b)
      const common = { from: from.name, to: to.name, rounds: a.length }
      comparisons.push({ ...common, quantity, as: 'difference_ns', mean, low, high, claimed })
    }
    for (const work of CPU_WORK) {
      const [a, b] = bothMeasured(from.cpuRoundsNs[work], to.cpuRoundsNs[work])
      if (a.length === 0) continue
      const { ratio, low, high, claimed } = compareRatio(a, b)
      const common = { from: from.name, to: to.name, rounds: a.length }
      comparisons.push({ ...common, quantity: `cpu:${work}`, as: 'ratio', mean: ratio, low, high, claimed })
    }
  }
  const c = measured.find(({ kind }) => kind === 'c')
  const cpython = measured.find(({ kind }) => kind === 'asyncio')
  for (const row of measured) {
    if (c !== undefined && row !== c) against(c, row)
    const peer =
      row.kind === 'uvloop'
        ? measured.find(({ kind, interpreter }) => kind === 'asyncio' && interpreter === row.interpreter)
        : row.kind === 'pypy'
          ? cpython
          : undefined
    if (peer !== undefined) against(peer, row)
  }
  return comparisons
}

/** Figures of the rounds both sides finished; a figure of 0 is a clock too coarse for a ratio. */
function bothMeasured(
  from: readonly (number | null)[],
  to: readonly (number | null)[],
): readonly [from: number[], to: number[]] {
  const pairs = from.flatMap((a, i) => {
    const b = to[i] ?? null
    return a === null || b === null || !(a > 0 && b > 0 && a + b < Number.POSITIVE_INFINITY) ? [] : [[a, b] as const]
  })
  return [pairs.map(([a]) => a), pairs.map(([, b]) => b)]
}
