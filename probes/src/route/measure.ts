/**
 * One round on one route: the probe `http` on new connections, then on a warm one, with three series kept apart.
 *
 *   edge RTT      SYN to SYN-ACK: how far the next machine that answers TCP is. Behind a CDN that is its edge, not the
 *                 venue.
 *   behind edge   first byte of the answer minus the edge RTT of the same connection: what happens behind the machine that
 *                 answered, the way to the venue and the venue itself
 *   event age     of the feed's messages, when a result of the probe `feed` is given: the only one that starts at the
 *                 venue's matching engine
 *
 * Comparisons and budgets are of warm requests, as a bot sends them.
 */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { boundCells, decodeHistogram, EXIT, encodeHistogram, LatencyHistogram, UserError } from '@tickscope/contract'
import { PROBE_MAIN, runChild } from '../child.ts'
import { httpProbe } from '../http.ts'
import type { ProbeContext } from '../probe.ts'
import type { Reporter } from '../reporter.ts'
import type { Measurement } from '../result.ts'
import { INJECTED_LABEL, parseHostPort, type Route } from './routes.ts'

export interface RoundOptions {
  /** Requests a kind of connection. */
  readonly count: number
  readonly ratePerSecond: number
  readonly timeoutMs: number
  readonly path?: string
  readonly caFile?: string
}

/** Series of a route, each a histogram that merges over rounds and machines. */
export const SERIES = ['response', 'service', 'slip', 'edgeRtt', 'behindEdge', 'dns', 'tls', 'ttfb', 'body'] as const
export type Series = (typeof SERIES)[number]
export type RoundFigure = 'response' | 'edgeRtt' | 'behindEdge'
export const ROUND_FIGURES: readonly RoundFigure[] = ['response', 'edgeRtt', 'behindEdge']

/** What a route measured, over any number of rounds. */
export class RouteTally {
  readonly series: { readonly [name in Series]: LatencyHistogram }
  scheduled = 0
  sent = 0
  lost = 0
  dropped = 0
  /** Of warm requests, which the budget judges. */
  warmScheduled = 0
  /** Connections whose first byte came sooner than a round trip to the edge; counted as nothing behind it. */
  behindClamped = 0
  readonly reasons = new Map<string, number>()
  readonly roundsP50Ns: { readonly [figure in RoundFigure]: (number | null)[] } = {
    response: [],
    edgeRtt: [],
    behindEdge: [],
  }

  constructor(apiRttThresholdNs: number) {
    const bounds = boundCells([apiRttThresholdNs])
    this.series = Object.fromEntries(
      SERIES.map((name) => [name, new LatencyHistogram(name === 'response' ? bounds : undefined)]),
    ) as { [name in Series]: LatencyHistogram }
  }

  /** Merges a round, or everything of a result file. */
  add(other: RouteTally): void {
    for (const name of SERIES) this.series[name].add(other.series[name])
    this.scheduled += other.scheduled
    this.sent += other.sent
    this.lost += other.lost
    this.dropped += other.dropped
    this.warmScheduled += other.warmScheduled
    this.behindClamped += other.behindClamped
    for (const [reason, times] of other.reasons) this.reasons.set(reason, (this.reasons.get(reason) ?? 0) + times)
    for (const figure of ROUND_FIGURES) this.roundsP50Ns[figure].push(...other.roundsP50Ns[figure])
  }

  /** Ends a round: its medians are the figures that comparisons pair. */
  closeRound(): void {
    for (const figure of ROUND_FIGURES) {
      const histogram = this.series[figure]
      this.roundsP50Ns[figure].push(histogram.count > 0 ? histogram.quantileNs(0.5) : null)
    }
  }

  failRound(): void {
    for (const figure of ROUND_FIGURES) this.roundsP50Ns[figure].push(null)
  }

  encode(): { [name in Series]: string } {
    return Object.fromEntries(SERIES.map((name) => [name, encodeHistogram(this.series[name])])) as {
      [name in Series]: string
    }
  }

  /** Takes histograms as `encode` wrote them. @throws HistogramError */
  decode(encoded: { readonly [name: string]: unknown }, sumsNs: { readonly [name: string]: unknown }): void {
    for (const name of SERIES) {
      const text = encoded[name]
      if (typeof text !== 'string') continue
      const histogram = decodeHistogram(text)
      const sumNs = sumsNs[name]
      if (typeof sumNs === 'number' && Number.isSafeInteger(sumNs)) histogram.sumNs = sumNs
      this.series[name].add(histogram)
    }
  }
}

/** The clients of a route that outlive a round. */
export interface Vantage {
  round(): Promise<RouteTally>
  stop(): Promise<void>
}

/** @throws UserError when the route cannot be set up; `round` rejects when the venue cannot be reached on it */
export async function openVantage(
  route: Route,
  options: RoundOptions,
  context: Pick<ProbeContext, 'slos' | 'signal' | 'reporter' | 'note'>,
): Promise<Vantage> {
  const { via } = route
  if (via !== null && 'namespace' in via) {
    if (process.getuid?.() !== 0)
      throw new UserError('ROOT_NEEDED', `entering the network namespace ${via.namespace} needs root`, EXIT.environment)
    return { round: () => roundElsewhere(route, via.namespace, options, context), stop: async () => {} }
  }
  if (via !== null && 'injectDelayMs' in via) {
    const port = Number(route.url.port) || (route.url.protocol === 'https:' ? 443 : 80)
    const relay = await spawnRelay(`${route.url.hostname}:${port}`, via.injectDelayMs)
    const reach = { connectTo: { host: '127.0.0.1', port: relay.port } }
    return { round: () => roundHere(route, reach, options, context), stop: relay.stop }
  }
  const reach =
    via === null
      ? {}
      : 'relay' in via
        ? { connectTo: parseHostPort(via.relay, (why) => new UserError('ROUTES_INVALID', `via.relay ${why}`)) }
        : { localAddress: via.localAddress }
  return { round: () => roundHere(route, reach, options, context), stop: async () => {} }
}

async function roundHere(
  route: Route,
  reach: { localAddress?: string; connectTo?: { host: string; port: number } },
  options: RoundOptions,
  context: Pick<ProbeContext, 'slos' | 'signal' | 'reporter' | 'note'>,
): Promise<RouteTally> {
  const { count, ratePerSecond, timeoutMs, path, caFile } = options
  const { slos, signal, reporter, note } = context
  const tally = new RouteTally(slos.api_rtt.thresholdNs)
  const run = (connection: 'new' | 'warm', listener: Reporter): Promise<Measurement> =>
    httpProbe.run(
      {
        url: route.url.href,
        rate: ratePerSecond,
        connection,
        arrivals: 'constant',
        seed: 1,
        wait: 'precise',
        timeout: timeoutMs,
        warmUp: 2,
        ...(path === undefined ? {} : { path }),
        ...(caFile === undefined ? {} : { caFile }),
        ...reach,
      },
      {
        durationMs: (count / ratePerSecond) * 1000,
        serve: false,
        signal,
        slos,
        reporter: listener,
        measuring: () => {},
        note,
        progress: () => {},
      },
    )
  const opened = await run('new', edgeListener(tally, reporter))
  const warm = await run('warm', reporter)
  tally.series.response.add(warm.all.response)
  tally.series.service.add(warm.all.service)
  tally.series.slip.add(opened.slip)
  tally.series.slip.add(warm.slip)
  for (const [name, from] of [
    ['dns', opened],
    ['tls', opened],
    ['ttfb', warm],
    ['body', warm],
  ] as const) {
    const phase = from.all.phases.get(name)
    if (phase !== undefined) tally.series[name].add(phase)
  }
  for (const { all } of [opened, warm]) {
    tally.scheduled += all.scheduled
    tally.sent += all.sent
    tally.lost += all.lost
    tally.dropped += all.outcomes.dropped
    for (const [reason, times] of all.reasons) tally.reasons.set(reason, (tally.reasons.get(reason) ?? 0) + times)
  }
  tally.warmScheduled = warm.all.scheduled
  tally.closeRound()
  return tally
}

/**
 * Hears the phases of one new connection after the other, in their order, and pairs each first byte with the handshake
 * of its own connection. Only what is of a connection goes on to `reporter`: requests on it are not a bot's.
 */
function edgeListener(tally: RouteTally, reporter: Reporter): Reporter {
  let edgeNs: number | undefined
  return {
    ...reporter,
    phase(phase, ns) {
      if (phase === 'dns' || phase === 'tls') reporter.phase(phase, ns)
      if (phase === 'tcp') {
        edgeNs = ns
        tally.series.edgeRtt.record(ns)
        reporter.phase('tcp', ns)
      }
      if (phase !== 'ttfb' || edgeNs === undefined) return
      if (ns < edgeNs) tally.behindClamped++
      const behindNs = Math.max(0, ns - edgeNs)
      tally.series.behindEdge.record(behindNs)
      reporter.phase('behind_edge', behindNs)
      edgeNs = undefined
    },
  }
}

const START_TIMEOUT_MS = 15_000
const CHILD_SLACK_MS = 30_000

/** A relay as a process of its own, so that its delays do not turn on the event loop that is timed. */
export async function spawnRelay(to: string, delayMs: number): Promise<{ port: number; stop: () => Promise<void> }> {
  // A relay without a delay still relays: the other side of a comparison.
  const delay = `${Math.max(delayMs, 0.001)}ms`
  const child = spawn(process.execPath, [PROBE_MAIN, 'relay', '--to', to, '--delay', delay], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, TICKSCOPE_CHILD: '1' },
  })
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()))
  const stop = () => {
    child.stdin.end()
    return closed
  }
  const port = await new Promise<number | undefined>((resolve) => {
    const timer = setTimeout(() => resolve(undefined), START_TIMEOUT_MS)
    const settle = (value: number | undefined) => {
      clearTimeout(timer)
      resolve(value)
    }
    createInterface({ input: child.stdout }).once('line', (line) => settle((JSON.parse(line) as { port: number }).port))
    child.once('close', () => settle(undefined))
    child.once('error', () => settle(undefined))
  })
  if (port !== undefined) return { port, stop }
  child.kill('SIGKILL')
  throw new UserError('RELAY_START', `the ${INJECTED_LABEL} did not start`, EXIT.environment)
}

/** One round by a process inside a network namespace: this very probe, whose result comes back like any other vantage's. */
async function roundElsewhere(
  route: Route,
  namespace: string,
  { count, ratePerSecond, timeoutMs, path, caFile }: RoundOptions,
  { slos, signal }: Pick<ProbeContext, 'slos' | 'signal'>,
): Promise<RouteTally> {
  const netns = namespace.startsWith('/') ? namespace : `/run/netns/${namespace}`
  const flags = [
    ...['--url', route.url.href, '--rounds', '1', '--count', `${count}`, '--rate', `${ratePerSecond}`, '--json'],
    ...['--timeout', `${timeoutMs}ms`, ...(path ? ['--path', path] : []), ...(caFile ? ['--ca-file', caFile] : [])],
  ]
  const command = [`--net=${netns}`, process.execPath, PROBE_MAIN, 'route', ...flags]
  const { lastLine, said } = await runChild('nsenter', command, {
    timeoutMs: ((2 * count) / ratePerSecond) * 1000 + CHILD_SLACK_MS,
    signal,
    killSignal: 'SIGKILL',
  })
  if (!lastLine.startsWith('{'))
    throw new UserError('ROUTE_FAILED', `the probe inside ${netns} measured nothing: ${said}`, EXIT.environment)
  const tally = new RouteTally(slos.api_rtt.thresholdNs)
  // biome-ignore lint/suspicious/noExplicitAny: our own result, written a moment ago
  const row = (JSON.parse(lastLine) as { rows: any[] }).rows[0]
  if (row?.status !== 'measured')
    throw new UserError('ROUTE_FAILED', `inside ${netns}: ${row?.reason ?? 'no row'}`, EXIT.environment)
  readRow(tally, row)
  return tally
}

/** Counts and histograms of a row of a result; anything that is not a count is left out. @throws HistogramError */
export function readRow(tally: RouteTally, row: { readonly [field: string]: unknown }): void {
  const count = (value: unknown) => (Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : 0)
  const record = (value: unknown) =>
    (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>
  tally.decode(record(row.histograms), record(row.sumsNs))
  tally.scheduled += count(row.scheduled)
  tally.sent += count(row.sent)
  tally.lost += count(row.lost)
  tally.dropped += count(row.dropped)
  tally.warmScheduled += count(row.warmScheduled)
  tally.behindClamped += count(row.behindClamped)
  for (const [reason, times] of Object.entries(record(row.reasons)).slice(0, 32))
    tally.reasons.set(reason.slice(0, 64), count(times))
  const rounds = record(row.roundsP50Ns)
  for (const figure of ROUND_FIGURES) {
    const values = rounds[figure]
    if (!Array.isArray(values)) continue
    for (const value of values.slice(0, 1000))
      tally.roundsP50Ns[figure].push(typeof value === 'number' && value >= 0 ? value : null)
  }
}
