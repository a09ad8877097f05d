/**
 * The whole suite as processes of this machine, in flow order: venue, pager, Alertmanager, collector, Prometheus, bot,
 * probe. The flow of ticks starts when all are ready, so every tick of the run is counted by everybody.
 *
 * At the end the flow is stopped first, then the bot (which waits for its last answers and ships its last batch), and
 * only then the figures are read: so they must agree to the tick.
 */
import { generateKeyPairSync, randomInt } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { renderAlertmanager, renderPrometheus, renderRules } from '@tickscope/alerts'
import { EXIT, findOnPath, loadSlos, stopRequested, UserError } from '@tickscope/contract'
import { type Child, startChild } from './child.ts'
import {
  awayLine,
  type CollectorSummary,
  LIVE_HEADER,
  liveLine,
  type Page,
  type RunSummary,
  summaryText,
} from './report.ts'
import { freePort, SERVERS_MISSING, type Server, startServer } from './server.ts'

export interface StackOptions {
  /** Duration of the run, ms. */
  readonly for?: number
  readonly json: boolean
  readonly fault: readonly string[]
  readonly replay?: string
  readonly replaySpeed: string
  readonly replayMaxGap?: string
  readonly venueLatency?: string
  readonly rate?: string
  readonly seed?: number
  readonly config?: string
  readonly data?: string
  readonly venuePort: number
  readonly collectorPort: number
  readonly pagerPort: number
  readonly prometheusPort: number
  readonly alertmanagerPort: number
  readonly prometheus: boolean
  readonly probe: boolean
}

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
/** Header of the live table again after this many lines. */
const LINES_PER_HEADER = 20
/** How often the collector is asked whether it has another interval. */
const POLL_MS = 100
/** Restarts of the collector before the run is given up. */
const COLLECTOR_RESTARTS_MAX = 10

/** @returns the exit code of the run */
export async function runStack(options: StackOptions): Promise<number> {
  const stopping = stopRequested()
  const kept = options.data !== undefined
  const folder = kept ? resolve(options.data as string) : mkdtempSync(join(tmpdir(), 'tickscope-'))
  mkdirSync(folder, { recursive: true })
  const stack = new Stack(options, folder)
  try {
    await stack.start()
    await stack.watch(stopping)
    const run = await stack.finish()
    process.stdout.write(`${options.json ? JSON.stringify(run) : summaryText(run)}\n`)
    if (!kept && run.agent.acknowledged) rmSync(folder, { recursive: true, force: true })
    else stack.say(`journal and configurations are in ${folder}`)
    return run.agent.acknowledged ? EXIT.ok : EXIT.environment
  } catch (error) {
    await stack.abort()
    if (!kept && !stack.recorded) rmSync(folder, { recursive: true, force: true })
    else stack.say(`what was recorded is in ${folder}`)
    throw error
  }
}

class Stack {
  readonly #options: StackOptions
  readonly #folder: string
  readonly #seed: number
  readonly #children: Child[] = []
  readonly #servers: Server[] = []
  #venue!: Child
  #pager!: Child
  #collector!: Child
  #bot!: Child
  #probe: Child | undefined
  #prometheus: Server | undefined
  #collectorArgs: string[] = []
  #collectorRestarts = 0
  #restarting: Promise<void> | undefined
  /** Who may end when: all must live while `running`, the collector also while `draining`. */
  #phase: 'running' | 'draining' | 'stopped' = 'running'
  #startedAtMs = 0
  #failure: Promise<never>
  #fail!: (error: Error) => void
  readonly #alerts = new Map<string, number>()
  /** Whether the flow has started, so that there is something to lose. */
  recorded = false

  constructor(options: StackOptions, folder: string) {
    this.#options = options
    this.#folder = folder
    this.#seed = options.seed ?? randomInt(2 ** 32)
    this.#failure = new Promise((_, reject) => {
      this.#fail = reject
    })
    this.#failure.catch(() => {})
  }

  /** A line for people: stdout, or stderr when stdout belongs to the JSON summary. */
  say(line: string): void {
    ;(this.#options.json ? process.stderr : process.stdout).write(`${line}\n`)
  }

  async start(): Promise<void> {
    const {
      fault,
      replay,
      replaySpeed,
      replayMaxGap,
      venueLatency,
      rate,
      config,
      venuePort,
      collectorPort,
      pagerPort,
    } = this.#options
    const slos = loadSlos(config)
    const path = (name: string) => join(this.#folder, name)
    this.#writeKeys()

    const venueArgs = [
      ...[
        '--port',
        `${venuePort}`,
        '--keys',
        path('keys.json'),
        '--seed',
        `${this.#seed}`,
        '--tier',
        'premier',
        '--hold',
      ],
      ...fault.flatMap((text) => ['--fault', text]),
      ...(replay ? ['--replay', replay, '--replay-speed', replaySpeed] : []),
      ...(replay && replayMaxGap ? ['--replay-max-gap', replayMaxGap] : []),
      ...(venueLatency ? ['--venue-latency', venueLatency] : []),
      ...(rate ? ['--rate', rate] : []),
    ]
    ;[this.#venue, this.#pager] = await all([
      this.#child('venue', 'venue/src/sim/main.ts', venueArgs),
      this.#child('pager', 'alerts/src/pager/main.ts', ['--port', `${pagerPort}`]),
    ])
    const alertmanager = await this.#startAlertmanager()

    this.#collectorArgs = [
      ...['--data', path('journal')],
      ...(config ? ['--config', config] : []),
      ...(alertmanager ? ['--alertmanager', alertmanager.url] : ['--webhook', `${this.#pager.ready.url}/page`]),
    ]
    this.#collector = await this.#child('collector', 'collector/src/main.ts', [
      ...['--port', `${collectorPort}`],
      ...this.#collectorArgs,
    ])
    this.#superviseCollector()

    const service = (name: string) => [
      ...['--collector', this.#collector.ready.url],
      ...['--key-id', `${name}-key`, '--key-file', path(`${name}.pem`), '--service', name],
      ...(config ? ['--config', config] : []),
    ]
    const venue = this.#venue.ready.url
    const botArgs = ['--venue', venue, ...service('bot'), '--seed', `${this.#seed}`]
    const probeArgs = ['http', '--serve', '--url', venue, ...service('probe')]
    writeFileSync(path('tickscope.rules.yml'), renderRules(slos))
    ;[this.#bot, this.#probe] = await all([
      this.#child('bot', 'bot/src/main.ts', botArgs),
      this.#options.probe ? this.#child('probe', 'probes/src/main.ts', probeArgs) : undefined,
      alertmanager && this.#startPrometheus(alertmanager),
    ])
    for (const child of this.#children) {
      if (child !== this.#collector) this.#failOnExit(child)
    }

    this.say(this.#processes())
    await this.#post('/sim/start')
    this.recorded = true
    this.#startedAtMs = performance.now()
  }

  /** Prints a line for each second's interval of the bot until the time is up, somebody stops the run, or a part fails. */
  async watch(stopping: Promise<string>): Promise<void> {
    const startedAt = performance.now()
    const endAt = startedAt + (this.#options.for ?? Number.POSITIVE_INFINITY)
    let stopped = false
    const asked = stopping.then(() => {
      stopped = true
    })
    let lines = 0
    let shownMs: number | undefined
    let spokeAt = startedAt
    for (;;) {
      await Promise.race([asked, this.#failure, sleep(Math.min(POLL_MS, endAt - performance.now()))])
      if (stopped || performance.now() >= endAt) return
      await this.#noteAlerts()
      const summary = await this.#summary().catch(() => undefined)
      const intervalMs = summary?.recent.intervalEndMs.bot
      if (summary && (intervalMs === undefined || intervalMs === shownMs)) continue
      if (!summary && performance.now() - spokeAt < 1000) continue
      spokeAt = performance.now()
      shownMs = intervalMs
      if (lines++ % LINES_PER_HEADER === 0) this.say(LIVE_HEADER)
      const pages = await this.#pages().catch(() => [])
      const elapsedMs = performance.now() - startedAt
      this.say(summary ? liveLine(elapsedMs, summary, pages.length) : awayLine(elapsedMs))
    }
  }

  async finish(): Promise<RunSummary> {
    await this.#post('/sim/pause')
    const durationMs = Math.round(performance.now() - this.#startedAtMs)
    this.#phase = 'draining'
    const bot = await this.#bot.stop(15_000)
    await this.#probe?.stop(5_000)
    await this.#restarting
    const collector = await this.#summary()
    await this.#noteAlerts()
    const pages = await this.#pages()
    const venue = await this.#venue.stop(5_000)
    if (!bot || !venue)
      throw new UserError('SUMMARY_MISSING', `${bot ? 'venue' : 'bot'} ended without its summary`, EXIT.environment)
    await this.abort()
    const { event: _venue, ...venueFields } = venue
    const { event: _bot, acknowledged, dropped, ...botFields } = bot
    const { ticks, tickToTrade, apiRtt, stages, sumsNs, breaches, episodes } = collector
    return {
      durationMs,
      seed: this.#seed,
      venue: venueFields as RunSummary['venue'],
      bot: botFields as unknown as RunSummary['bot'],
      agent: { dropped, acknowledged },
      collector: {
        ticks,
        tickToTrade,
        apiRtt,
        stages,
        sumsNs,
        episodes,
        breaches,
        dropped: collector.dropped,
        restarts: this.#collectorRestarts,
      },
      probe: collector.probe,
      pages,
      prometheus: this.#prometheus
        ? { alerts: [...this.#alerts].map(([alertname, firedAtMs]) => ({ alertname, firedAtMs })) }
        : null,
    }
  }

  /** Stops whatever still runs; the last started first. */
  async abort(): Promise<void> {
    this.#phase = 'stopped'
    await this.#restarting
    for (const server of this.#servers.toReversed()) await server.stop(5_000)
    for (const child of this.#children.toReversed()) await child.stop(5_000)
  }

  async #child(name: string, script: string, args: string[]): Promise<Child> {
    const child = await startChild({
      name,
      script: join(ROOT, script),
      args,
      // The pager's pages are drawn for people as they are.
      note: (line) => process.stderr.write(name === 'pager' ? `${line}\n` : `${name} | ${line}\n`),
    })
    this.#children.push(child)
    return child
  }

  #failOnExit(child: Child): void {
    child.exited.then((status) => {
      if (this.#phase === 'running') this.#fail(child.failure(status))
    })
  }

  /** The collector may die: its journal has what it acknowledged, the agents keep the rest, so it is started again. */
  #superviseCollector(): void {
    const dead = this.#collector
    dead.exited.then(({ code, signal }) => {
      if (this.#phase === 'stopped') return
      this.#children.splice(this.#children.indexOf(dead), 1)
      if (++this.#collectorRestarts > COLLECTOR_RESTARTS_MAX) {
        this.#fail(
          new UserError(
            'COLLECTOR_ENDED',
            `collector ended ${COLLECTOR_RESTARTS_MAX} times, last with ${signal ?? `code ${code}`}`,
            EXIT.environment,
          ),
        )
        return
      }
      this.say(`collector ended (${signal ?? `code ${code}`}); starting it again on its journal`)
      const port = new URL(dead.ready.url).port
      this.#restarting = this.#child('collector', 'collector/src/main.ts', [
        '--port',
        port,
        ...this.#collectorArgs,
      ]).then(
        (child) => {
          this.#collector = child
          this.#superviseCollector()
        },
        (error) => this.#fail(error),
      )
    })
  }

  async #startAlertmanager(): Promise<Server | undefined> {
    const command = findOnPath('alertmanager', 'prometheus-alertmanager')
    if (!this.#options.prometheus) return undefined
    if (!command || !findOnPath('prometheus')) {
      this.say(SERVERS_MISSING)
      return undefined
    }
    const port = await freePort(this.#options.alertmanagerPort)
    const file = join(this.#folder, 'alertmanager.yml')
    writeFileSync(file, renderAlertmanager({ pagerUrl: `${this.#pager.ready.url}/page` }))
    return this.#server('Alertmanager', command, port, [
      `--config.file=${file}`,
      `--storage.path=${join(this.#folder, 'alertmanager')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--cluster.listen-address=',
    ])
  }

  async #startPrometheus(alertmanager: Server): Promise<void> {
    const port = await freePort(this.#options.prometheusPort)
    const file = join(this.#folder, 'prometheus.yml')
    const config = renderPrometheus({
      collectorTarget: new URL(this.#collector.ready.url).host,
      alertmanagerTarget: new URL(alertmanager.url).host,
      rulesPath: join(this.#folder, 'tickscope.rules.yml'),
    })
    writeFileSync(file, config)
    this.#prometheus = await this.#server('Prometheus', findOnPath('prometheus') as string, port, [
      `--config.file=${file}`,
      `--storage.tsdb.path=${join(this.#folder, 'prometheus')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--enable-feature=exemplar-storage',
    ])
  }

  async #server(name: string, command: string, port: number, args: string[]): Promise<Server> {
    const log = join(this.#folder, `${name.toLowerCase()}.log`)
    const server = await startServer(name, command, args, port, log)
    this.#servers.push(server)
    return server
  }

  /** One Ed25519 key a client, for this run only; private keys are readable by this user alone. */
  #writeKeys(): void {
    const keys = ['bot', 'probe'].map((name) => {
      const { privateKey, publicKey } = generateKeyPairSync('ed25519')
      const pem = privateKey.export({ type: 'pkcs8', format: 'pem' })
      writeFileSync(join(this.#folder, `${name}.pem`), pem, { mode: 0o600 })
      return { keyId: `${name}-key`, publicKeyPem: publicKey.export({ type: 'spki', format: 'pem' }) }
    })
    writeFileSync(join(this.#folder, 'keys.json'), JSON.stringify(keys))
  }

  #processes(): string {
    const rows = this.#children.map(
      (child) => `  ${child.name.padEnd(13)}${(child.ready.url ?? '').padEnd(26)}pid ${child.pid}`,
    )
    const servers = this.#servers.map((server) => `  ${server.name.toLowerCase().padEnd(13)}${server.url}`)
    return ['tickscope is running:', ...rows, ...servers, 'Ctrl-C stops it.'].join('\n')
  }

  async #post(path: string): Promise<void> {
    const answer = await fetch(`${this.#venue.ready.url}${path}`, {
      method: 'POST',
      signal: AbortSignal.timeout(5_000),
    })
    if (!answer.ok)
      throw new UserError('VENUE_CONTROL', `the simulator answered ${answer.status} to ${path}`, EXIT.environment)
  }

  async #get<T>(url: string): Promise<T> {
    const answer = await fetch(url, { signal: AbortSignal.timeout(5_000) })
    if (!answer.ok) throw new UserError('HTTP_STATUS', `${url} answered ${answer.status}`, EXIT.environment)
    return (await answer.json()) as T
  }

  #summary = (): Promise<CollectorSummary> => this.#get(`${this.#collector.ready.url}/v1/summary`)
  #pages = (): Promise<Page[]> => this.#get(`${this.#pager.ready.url}/v1/pages`)

  async #noteAlerts(): Promise<void> {
    if (!this.#prometheus) return
    type Alerts = { data: { alerts: { state: string; activeAt: string; labels: { alertname: string } }[] } }
    const answer = await this.#get<Alerts>(`${this.#prometheus.url}/api/v1/alerts`).catch(() => undefined)
    for (const { state, labels } of answer?.data.alerts ?? []) {
      if (state === 'firing' && !this.#alerts.has(labels.alertname)) this.#alerts.set(labels.alertname, Date.now())
    }
  }
}

/** Waits for all, also when one has failed, so that what did start can be stopped; then throws the first failure. */
async function all<const T extends readonly unknown[]>(
  promises: T,
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  await Promise.allSettled(promises)
  return Promise.all(promises) as never
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)))
