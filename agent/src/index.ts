/**
 * The agent: attached to a bot, it records every tick, order and API call at the cost of a clock read and a store per
 * instant, and ships lossless histograms, breaches and the traces that matter to the collector from a thread of its own.
 *
 * It promises never to throw into the bot, never to block it, never to keep its process alive (save while `stop` is
 * awaited), and to count what it could not record. Start-up costs one thread, awaited once: 40 MiB and 0.2 s
 * on a quiet machine; 50 MiB with traces.
 */
import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import { Worker } from 'node:worker_threads'
import {
  DEFAULT_SLOS,
  LABEL_VALUE_MAX,
  type Labels,
  labelsError,
  labelsKey,
  METRICS,
  type MetricName,
  type Resource,
  type Slos,
} from '@tickscope/contract'
import { originEpochMs } from './clock.ts'
import { optionError, startError } from './error.ts'
import type { Breach } from './judge.ts'
import type { FromWorker, ToWorker } from './message.ts'
import { Pipeline, type PipelineOptions } from './pipeline.ts'
import { Recorder } from './recorder.ts'
import { createRingMemory, KIND, openRing, RING_SLOTS_DEFAULT, RING_SLOTS_MAX, RING_SLOTS_MIN } from './ring.ts'
import { watchRuntime } from './runtime.ts'
import type { ShipperResult } from './shipper.ts'
import { openSpill } from './spill.ts'

export { INSTANT } from '@tickscope/contract'
export type { Breach } from './judge.ts'
export { ENDPOINT, OUTCOME } from './recorder.ts'

export interface AgentOptions {
  /** Name of the bot, as its series and pages carry it. */
  readonly service: string
  /** Tells bots of one service apart; the host's name by default, so two on one host need one each. */
  readonly instance?: string | undefined
  readonly venue?: string | undefined
  readonly region?: string | undefined
  readonly route?: string | undefined
  /** `http://127.0.0.1:4319`, with a path in front of `/v1/batches` if it has one. */
  readonly collectorUrl: string
  /** Sent as `Authorization: Bearer …`. */
  readonly token?: string | undefined
  /** Budgets; those of the contract by default. */
  readonly slos?: Slos | undefined
  /** Export ticks that matter as OpenTelemetry spans. On by default with a worker, off with an inline drain. */
  readonly traces?: boolean | undefined
  /** Time between batches, 10 … 60,000 ms; 1,000 by default. */
  readonly intervalMs?: number | undefined
  /** Records that can wait for the drain: a power of two, 64 … 131,072; 16,384 by default. 88 bytes each. */
  readonly ringSlots?: number | undefined
  /**
   * Drain on the bot's own thread, for a machine of one core: no second thread, but each order then costs its thread
   * about 2 µs more, and an interval's end about 20 times 0.5 ms, in turns between the bot's.
   */
  readonly inline?: boolean | undefined
  /** Period of the event-loop beat, 0 (off) … 1,000 ms; 1 by default. */
  readonly loopSampleMs?: number | undefined
  /** Longest wait for one answer of the collector, 100 … 60,000 ms; 5,000 by default. */
  readonly requestTimeoutMs?: number | undefined
  /** Directory for batches still unacknowledged at `stop`; the next agent given it ships them first. */
  readonly spillDir?: string | undefined
  /** Takes the agent's few sentences (collector away, batch refused); stderr by default. */
  readonly log?: ((message: string) => void) | undefined
}

export interface StopResult {
  /** Whether the collector acknowledged everything recorded. */
  readonly acknowledged: boolean
  /** Measurements lost since the start, as `agent.dropped`. */
  readonly dropped: number
  /** Batches acknowledged, refused for good, and written to `spillDir`. */
  readonly batches: number
  readonly refused: number
  readonly spilled: number
}

const DEFAULTS = {
  intervalMs: 1_000,
  ringSlots: RING_SLOTS_DEFAULT,
  inline: false,
  loopSampleMs: 1,
  requestTimeoutMs: 5_000,
  stopTimeoutMs: 5_000,
} as const
/** The thread's first message; its modules take 0.1 to 0.2 s to load on a quiet machine. */
const START_TIMEOUT_MS = 30_000
/** Given to the thread beyond the time a stop was given, for its last words. */
const STOP_GRACE_MS = 1_000

/** Series one agent may name; the drain keeps fewer, by type. */
const SERIES_MAX = 1_024
/** Id of the series that is recorded nowhere: its samples are counted as dropped. */
const NO_SERIES = 0

/**
 * The hot path is `begin`, `mark`, `markAt`, `order`, `call` and `close`: each costs tens of nanoseconds, none allocates,
 * throws or waits. They hand out and take handles of slots; 0 is the handle of a record that was dropped for want of a
 * slot, and every method accepts and ignores it, as it ignores a handle that was closed.
 */
export interface Agent {
  /**
   * Opens the record of a tick.
   *
   * @param receivedAtMs `performance.now()` of this thread when the first byte of the message was read
   */
  begin(receivedAtMs: number): number
  /** Stores now as an instant of a slot. */
  mark(handle: number, instant: number): void
  /** Stores a time taken earlier, `performance.now()` of this thread, as an instant of a slot. */
  markAt(handle: number, instant: number, atMs: number): void
  /** Opens the record of an order the tick causes, with the tick's instants: after `decided`, before the tick is closed. */
  order(tick: number): number
  /** Opens the record of an API call that is no order (see `ENDPOINT`); mark `sent` and `acked` on it. */
  call(endpoint: number): number
  /**
   * Ends a slot; see `OUTCOME`.
   *
   * A tick: once, after its last synchronous work. `ok` says that it reached `decided`; one that ended early (a message
   * that could not be parsed) is counted as a tick and measured no further. An order or a call: when its answer was
   * read (`ok`, `rejected`), or will not come (`error`, `timeout`): what was sent then ends now, what was never sent is
   * not measured.
   */
  close(handle: number, outcome: number): void

  /** The series of a metric and its labels. One that does not fit the catalogue is said once and records nothing. */
  series(metric: MetricName, labels?: Labels): number
  /** Records a duration, ns, in a histogram. */
  record(series: number, durationNs: number): void
  /** Adds to a counter. */
  count(series: number, increment?: number): void
  /** Sets a gauge. */
  set(series: number, value: number): void

  /**
   * Calls back for events over budget, some 10 ms after them: a circuit breaker on latency. At most 64 of 5 ms are told.
   * What the callback throws is ignored.
   */
  onBreach(listener: (breach: Breach) => void): void
  /** Measurements lost so far, live. Traces left out are not measurements. */
  readonly dropped: number
  /**
   * Drains, ships and waits for the acknowledgement of the last batch, 5 s by default; then ends the thread. Slots still
   * open are lost, and counted. The same promise each time; never rejects. A process that ends without it loses what was
   * recorded since the last batch.
   */
  stop(options?: { timeoutMs?: number }): Promise<StopResult>
}

/** What runs the pipeline: the worker, or the bot's own thread. */
interface Runner {
  define(id: number, metric: MetricName, labels: Labels): void
  watch(): void
  stop(timeoutMs: number, open: number): Promise<ShipperResult>
}

/** What a runner tells the bot's thread. */
interface Listener {
  log(message: string): void
  breached(breaches: readonly Breach[]): void
}

/**
 * Starts an agent. It needs no collector to be there.
 *
 * @throws UserError `AGENT_OPTION` when an option is wrong, `AGENT_START` when its thread does not start
 */
export async function createAgent(options: AgentOptions): Promise<Agent> {
  const pipeline = checkOptions(options)
  const log = options.log ?? ((message: string) => process.stderr.write(`tickscope agent: ${message}\n`))
  const agent = new LiveAgent(pipeline, log)
  const listener: Listener = {
    log: (message) => agent.log(message),
    breached: (breaches) => agent.breached(breaches),
  }
  const run = (options.inline ?? DEFAULTS.inline) ? runInline : runWorker
  agent.attach(await run(pipeline, listener))
  return agent
}

class LiveAgent extends Recorder implements Agent {
  readonly #options: PipelineOptions
  readonly #log: (message: string) => void
  readonly #seriesIds = new Map<string, number>()
  /** Type of each series by id. */
  readonly #seriesTypes: string[] = ['none']
  readonly #listeners: ((breach: Breach) => void)[] = []
  #runner: Runner | undefined
  #unwatch: () => void = () => {}
  #stopped: Promise<StopResult> | undefined

  constructor(options: PipelineOptions, log: (message: string) => void) {
    super(openRing(options.memory, options.ringSlots))
    this.#options = options
    this.#log = log
  }

  attach(runner: Runner): void {
    this.#runner = runner
    this.#unwatch = watchRuntime(this, this.#options)
  }

  log(message: string): void {
    try {
      this.#log(message)
    } catch {
      // The bot's log function failed: nothing of the agent's may reach the bot.
    }
  }

  breached(breaches: readonly Breach[]): void {
    for (const breach of breaches) {
      for (const listener of this.#listeners) {
        try {
          listener(breach)
        } catch (error) {
          this.log(`a breach listener threw: ${(error as Error).message}`)
        }
      }
    }
  }

  series(metric: MetricName, labels: Labels = {}): number {
    const problem = Object.hasOwn(METRICS, metric) ? labelsError(metric, labels) : `no metric is called ${metric}`
    const key = problem === undefined ? `${metric}${labelsKey(labels)}` : problem
    const known = this.#seriesIds.get(key)
    if (known !== undefined) return known
    if (this.#seriesIds.size >= SERIES_MAX) return NO_SERIES
    if (problem !== undefined) {
      this.#seriesIds.set(key, NO_SERIES)
      this.log(`a series is not recorded: ${problem}`)
      return NO_SERIES
    }
    const id = this.#seriesTypes.length
    this.#seriesIds.set(key, id)
    this.#seriesTypes.push(METRICS[metric].type)
    this.#runner?.define(id, metric, { ...labels })
    return id
  }

  record(series: number, durationNs: number): void {
    this.#sample(series, 'histogram', durationNs)
  }

  count(series: number, increment = 1): void {
    this.#sample(series, 'counter', increment)
  }

  set(series: number, value: number): void {
    this.#sample(series, 'gauge', value)
  }

  #sample(series: number, type: string, value: number): void {
    this.push(KIND.sample, this.#seriesTypes[series] === type ? series : NO_SERIES, value, 0, 0)
  }

  onBreach(listener: (breach: Breach) => void): void {
    if (this.#listeners.length === 0) this.#runner?.watch()
    this.#listeners.push(listener)
  }

  stop({ timeoutMs = DEFAULTS.stopTimeoutMs }: { timeoutMs?: number } = {}): Promise<StopResult> {
    this.#stopped ??= this.#stop(Math.max(0, timeoutMs))
    return this.#stopped
  }

  async #stop(timeoutMs: number): Promise<StopResult> {
    this.#unwatch()
    const open = this.halt()
    let result: ShipperResult | undefined
    try {
      result = await this.#runner?.stop(timeoutMs, open)
    } catch (error) {
      this.log(`stopping failed: ${(error as Error).message}`)
    }
    const { acknowledged, batches, refused, spilled } = result ?? NOTHING_SHIPPED
    return { acknowledged, dropped: this.dropped, batches, refused, spilled }
  }
}

const NOTHING_SHIPPED: ShipperResult = { acknowledged: false, batches: 0, refused: 0, spilled: 0 }

async function runInline(options: PipelineOptions, listener: Listener): Promise<Runner> {
  const pipeline = new Pipeline(options, {
    inline: true,
    log: (message) => listener.log(message),
    breached: (breaches) => listener.breached(breaches),
    definitions: () => {},
  })
  await pipeline.prepare()
  return {
    define: (id, metric, labels) => pipeline.define(id, metric, labels),
    watch: () => {},
    stop: (timeoutMs, open) => pipeline.stop(timeoutMs, open),
  }
}

async function runWorker(options: PipelineOptions, listener: Listener): Promise<Runner> {
  // Not the bot's own flags: what it loads with --import has no place in this thread.
  const worker = new Worker(new URL('./worker.ts', import.meta.url), {
    workerData: options,
    name: 'tickscope-agent',
    execArgv: [],
    // Running out of memory then ends the thread, not the bot.
    resourceLimits: { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 32 },
  })
  const ready = Promise.withResolvers<void>()
  const ended = Promise.withResolvers<ShipperResult>()
  const timer = setTimeout(() => ready.reject(startError(`no word within ${START_TIMEOUT_MS} ms`)), START_TIMEOUT_MS)
  let started = false
  worker.on('message', (message: FromWorker) => {
    switch (message.type) {
      case 'ready':
        started = true
        ready.resolve()
        break
      case 'log':
        listener.log(message.message)
        break
      case 'breaches':
        listener.breached(message.breaches)
        break
      case 'stopped':
        ended.resolve(message.result)
        break
    }
  })
  worker.on('error', (error) => {
    ready.reject(startError(error.message))
    if (started) listener.log(`the agent's thread failed, nothing is recorded any more: ${error.message}`)
  })
  worker.on('exit', () => {
    ready.reject(startError('it ended at once'))
    ended.resolve(NOTHING_SHIPPED)
  })
  try {
    await ready.promise
  } catch (error) {
    await worker.terminate()
    throw error
  } finally {
    clearTimeout(timer)
  }
  worker.unref()
  const say = (message: ToWorker) => worker.postMessage(message)
  return {
    define: (id, metric, labels) => say({ type: 'define', id, metric, labels }),
    watch: () => say({ type: 'watch' }),
    async stop(timeoutMs, open) {
      worker.ref()
      say({ type: 'stop', timeoutMs, open })
      const late = setTimeout(() => ended.resolve(NOTHING_SHIPPED), timeoutMs + STOP_GRACE_MS)
      const result = await ended.promise
      clearTimeout(late)
      await worker.terminate()
      return result
    },
  }
}

const IDENTIFIER = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/
/** The agent's id is `service:instance`, itself an identifier of at most 128 characters. */
const NAME_MAX = 63

/** @throws UserError `AGENT_OPTION` */
function checkOptions(options: AgentOptions): PipelineOptions {
  const name = (option: 'service' | 'instance', value: unknown) => {
    if (typeof value !== 'string' || !IDENTIFIER.test(value) || value.length > NAME_MAX) {
      const limit = `a name of 1 to ${NAME_MAX} letters, digits and ._:- that starts with a letter or digit`
      throw optionError(option, `is '${String(value).slice(0, NAME_MAX)}', not ${limit}`)
    }
    return value
  }
  const integer = (
    option: 'intervalMs' | 'loopSampleMs' | 'requestTimeoutMs' | 'ringSlots',
    min: number,
    max: number,
  ) => {
    const value = options[option] ?? DEFAULTS[option]
    if (!Number.isInteger(value) || value < min || value > max) {
      throw optionError(option, `is ${String(value)}, not a whole number from ${min} to ${max}`)
    }
    return value
  }
  const service = name('service', options.service)
  const instance = name('instance', options.instance ?? hostInstance())
  const resource: Resource = { service, instance }
  for (const label of ['venue', 'region', 'route'] as const) {
    const value = options[label]
    if (value === undefined || value === '') continue
    if (typeof value !== 'string' || value.length > LABEL_VALUE_MAX || /\p{Cc}/u.test(value)) {
      throw optionError(label, `is not a text of at most ${LABEL_VALUE_MAX} characters without control characters`)
    }
    resource[label] = value
  }
  const ringSlots = integer('ringSlots', RING_SLOTS_MIN, RING_SLOTS_MAX)
  if ((ringSlots & (ringSlots - 1)) !== 0) throw optionError('ringSlots', `is ${ringSlots}, not a power of two`)
  const { token, spillDir } = options
  if (token !== undefined && !/^[\x21-\x7e]+$/.test(token)) {
    throw optionError('token', 'is empty or has characters that cannot go into an HTTP header')
  }
  if (spillDir !== undefined) {
    try {
      openSpill(spillDir)
    } catch (error) {
      throw optionError('spillDir', `${spillDir} cannot be used: ${(error as NodeJS.ErrnoException).code}`)
    }
  }
  return {
    memory: createRingMemory(ringSlots),
    ringSlots,
    originEpochMs: originEpochMs(),
    agentId: `${service}:${instance}`,
    epoch: randomBytes(8).toString('hex'),
    resource,
    collectorUrl: checkUrl(options.collectorUrl),
    token,
    slos: options.slos ?? DEFAULT_SLOS,
    traces: options.traces ?? !(options.inline ?? DEFAULTS.inline),
    intervalMs: integer('intervalMs', 10, 60_000),
    loopSampleMs: integer('loopSampleMs', 0, 1_000),
    requestTimeoutMs: integer('requestTimeoutMs', 100, 60_000),
    spillDir,
  }
}

function checkUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !['http:', 'https:'].includes(url.protocol)) {
    throw optionError('collectorUrl', `is '${text}', not an http or https URL such as http://127.0.0.1:4319`)
  }
  if (url.username !== '' || url.search !== '' || url.hash !== '') {
    throw optionError('collectorUrl', 'has a user name, query or fragment; a secret goes into the option token')
  }
  return url.href.replace(/\/+$/, '')
}

/** The host's name as an identifier. */
function hostInstance(): string {
  const clean = hostname()
    .replaceAll(/[^A-Za-z0-9._:-]/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
    .slice(0, NAME_MAX)
  return clean === '' ? 'host' : clean
}
