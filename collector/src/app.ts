/**
 * The collector as a whole: HTTP in front, journal and state behind, the detector beside.
 *
 *   POST /v1/batches   what agents measured; answered once it is on disk
 *   POST /v1/traces    OTLP/HTTP, passed on
 *   GET  /metrics      Prometheus 0.0.4 or OpenMetrics 1.0
 *   GET  /v1/summary   everything in one JSON object
 *   GET  /healthz      200 while batches can be kept, else 503; needs no token
 *
 * Listens on loopback unless a token is given, which then every other request must carry as `Authorization: Bearer`.
 */
import type { AddressInfo } from 'node:net'
import { DEFAULT_SLOS, listenError, type Slos, UserError } from '@tickscope/contract'
import type { FastifyInstance } from 'fastify'
import { isLoopback } from './auth.ts'
import { type Clock, systemClock } from './clock.ts'
import { Detector } from './detector.ts'
import type { JournalError } from './error.ts'
import { Exposition, OwnMetrics } from './exposition.ts'
import { Ingest } from './ingest.ts'
import { Journal } from './journal/journal.ts'
import { encodeEpisode } from './journal/record.ts'
import type { State } from './merge.ts'
import { alertmanagerNotifier, type Notifier, webhookNotifier } from './notify.ts'
import { createServer } from './server.ts'
import { type Summary, summaryOf } from './summary.ts'
import { createTraceForwarder, type TraceForwarder } from './traces.ts'

export type { Summary } from './summary.ts'

export interface CollectorOptions {
  readonly dataDir: string
  readonly host?: string
  /** 0 takes any free port. */
  readonly port?: number
  readonly slos?: Slos
  /** Bearer token; without one the host must be loopback. */
  readonly token?: string | undefined
  /** Base URL of an Alertmanager. */
  readonly alertmanagerUrl?: string | undefined
  /** Gets pages when there is no Alertmanager. */
  readonly webhookUrl?: string | undefined
  /** Base URL of an OTLP/HTTP backend for traces. */
  readonly otlpBackendUrl?: string | undefined
  /** Prefix of `runbook_url` in alerts, without a slash at its end. */
  readonly runbookBase?: string
  /** Dashboard that alerts link to, without query string. */
  readonly dashboardUrl?: string
  readonly journalRotateBytes?: number
  readonly journalRetainBytes?: number
  readonly clock?: Clock
  /** Notes for people, one line each. */
  readonly log?: (line: string) => void
}

export const DEFAULTS = {
  host: '127.0.0.1',
  port: 9464,
  slos: DEFAULT_SLOS,
  runbookBase: 'alerts/runbooks',
  dashboardUrl: 'http://127.0.0.1:3000/d/tickscope-overview',
  /** A start reads about as much again, some 4 s; a busy bot fills it in a quarter of an hour. */
  journalRotateBytes: 16 * 1024 * 1024,
  journalRetainBytes: 1024 * 1024 * 1024,
  clock: systemClock,
  log: () => {},
} as const

/** How often the detector looks at its episodes, ms. */
const SWEEP_MS = 250
/** What a stop waits for requests under way, ms. */
const STOP_MS = 3000
/** Notes within `NOTES_MS`; a flood of bad input must not become a flood of log. */
const NOTES_MAX = 20
const NOTES_MS = 10_000

export interface Collector {
  /**
   * Reads the journal back and listens.
   *
   * @throws UserError `HOST_UNSAFE`, `PORT_BUSY` …; JournalError
   */
  start(): Promise<void>
  /** Answers what is under way, writes what waits, lets go of everything. @returns its last summary */
  stop(): Promise<Summary>
  /** Base URL, once started. */
  readonly url: string
  /** Resolves when the journal cannot be kept any more and the process should end. */
  readonly failed: Promise<JournalError>
}

interface Running {
  readonly state: State
  readonly journal: Journal
  readonly server: FastifyInstance
  readonly detector: Detector
  readonly notifier: Notifier | undefined
  readonly traces: TraceForwarder
  readonly sweeps: NodeJS.Timeout
}

export function createCollector(given: CollectorOptions): Collector {
  const options = { ...DEFAULTS, ...given }
  const { clock, slos, host, port, token } = options
  const log = limited(options.log, clock)
  const failure = Promise.withResolvers<JournalError>()
  let healthy = true
  let url = ''
  let running: Running | undefined

  async function open() {
    let synced: ((durationNs: number) => void) | undefined
    const { journal, state } = await Journal.open({
      dir: options.dataDir,
      rotateBytes: options.journalRotateBytes,
      retainBytes: options.journalRetainBytes,
      log,
      onFailed: (error) => {
        healthy = false
        failure.resolve(error)
      },
      onSync: (durationNs) => synced?.(durationNs),
    })
    const own = new OwnMetrics({ state, journalBytes: () => journal.bytes })
    synced = (durationNs) => own.journalSynced(durationNs)
    return { journal, state, own }
  }

  function wire({ journal, state, own }: Awaited<ReturnType<typeof open>>): Running {
    const notifier =
      options.alertmanagerUrl !== undefined
        ? alertmanagerNotifier(options.alertmanagerUrl)
        : options.webhookUrl !== undefined
          ? webhookNotifier(options.webhookUrl)
          : undefined
    const detector = new Detector({
      slos,
      clock,
      notifier,
      runbookBase: options.runbookBase,
      dashboardUrl: options.dashboardUrl,
      log,
      onEpisode: (episode) => {
        state.recordEpisode(episode)
        // Kept when it can be: an alert must not wait for a disk.
        journal.append(encodeEpisode(episode)).catch(() => {})
      },
      onPost: (outcome) => own.count('tickscope_collector_alert_posts_total', outcome),
    })
    detector.restore(state.episodes.values())
    const ingest = new Ingest({
      state,
      journal,
      clock,
      log,
      onApplied: (batch, arrivedAtMonotonicMs) => detector.observe(batch, arrivedAtMonotonicMs),
    })
    const exposition = new Exposition({ state, own, clock, slos })
    const traces = createTraceForwarder({
      backendUrl: options.otlpBackendUrl,
      onOutcome: (outcome) => own.count('tickscope_collector_traces_total', outcome),
    })
    const server = createServer({
      token,
      async takeBatch(body, gzip) {
        const verdict = await ingest.take(body, gzip)
        own.count('tickscope_collector_batches_total', verdict.status)
        return verdict
      },
      onBatchRefused: () => own.count('tickscope_collector_batches_total', 'refused'),
      traces,
      renderMetrics: (format) => exposition.render(format),
      summary: () => summaryOf(state, clock),
      healthy: () => healthy,
      log,
    })
    const sweeps = setInterval(() => detector.sweep(), SWEEP_MS)
    return { state, journal, server, detector, notifier, traces, sweeps }
  }

  async function release({ journal, server, detector, notifier, traces, sweeps }: Running): Promise<void> {
    const lastCall = setTimeout(() => server.server.closeAllConnections(), STOP_MS)
    await server.close()
    clearTimeout(lastCall)
    clearInterval(sweeps)
    await detector.stop()
    await notifier?.close()
    await traces.close()
    await journal.close()
  }

  return {
    failed: failure.promise,
    get url() {
      return url
    },

    async start() {
      if (token === undefined && !isLoopback(host))
        throw new UserError(
          'HOST_UNSAFE',
          `${host} can be reached from other machines, so it needs a token: give --token-file or COLLECTOR_TOKEN, or listen on 127.0.0.1`,
        )
      running = wire(await open())
      try {
        await running.server.listen({ host, port })
      } catch (error) {
        await release(running)
        throw listenError(error, host, port)
      }
      const { address, family, port: bound } = running.server.server.address() as AddressInfo
      url = `http://${family === 'IPv6' ? `[${address}]` : address}:${bound}`
      log(
        `listening on ${url}${isLoopback(host) ? ', reachable from this machine only' : ''}; ` +
          (token === undefined ? 'no token is required' : 'a token is required'),
      )
      if (options.otlpBackendUrl === undefined) log('traces are accepted and discarded: no --otlp-backend was given')
      if (options.alertmanagerUrl !== undefined && options.webhookUrl !== undefined)
        log('pages go to Alertmanager; the webhook is not used')
    },

    async stop() {
      if (!running) throw new Error('the collector was not started')
      await release(running)
      return summaryOf(running.state, clock)
    },
  }
}

/** Passes on `NOTES_MAX` notes in any `NOTES_MS`, then only how many more there were. */
function limited(log: (line: string) => void, clock: Clock): (line: string) => void {
  let sinceMs = Number.NEGATIVE_INFINITY
  let notes = 0
  return (line) => {
    const nowMs = clock.monotonicMs()
    if (nowMs - sinceMs > NOTES_MS) {
      if (notes > NOTES_MAX) log(`${notes - NOTES_MAX} more notes were left out`)
      sinceMs = nowMs
      notes = 0
    }
    if (++notes <= NOTES_MAX) log(line)
  }
}
