/**
 * The probe `load`: what response times a target keeps at a rate, and up to which rate it keeps them.
 *
 * Connections are autocannon's (`load/cannon.ts`); when each request is sent, and from when its time counts, is this
 * probe's open-loop schedule. Boundary user→user; per request, in ns: response = slip + queue + service, where
 *
 *   slip     intended send to the probe's own readiness: how late the probe was
 *   queue    to a free connection: the target's slowness, or too few `--connections`
 *   service  request written to last byte of the answer: what a closed loop would have called latency
 *   ttfb     of the service, to the answer's header fields read; body: the rest
 *
 * An answer was read when its bytes came off the socket, before they are parsed. While one is awaited the event loop turns
 * without sleeping (from 10/s on, where there are two cores): otherwise it would show this machine's waking up. What is left
 * of the probe itself is some 0.5 ms a request, mostly the kernel's loopback and code that has gone cold.
 *
 * `--steps` raises the rate step by step until the knee (`load/knee.ts`).
 *
 * A load is an attack on a server that is not yours: other hosts than this one need `--allow-remote`, and the venues'
 * own hosts are refused. No key is sent.
 */
import { availableParallelism } from 'node:os'
import { boundCells, EXIT, LatencyHistogram, UserError } from '@tickscope/contract'
import { type Command, Option } from 'commander'
import { nowNs } from './clock.ts'
import { durationFlag, integerFlag } from './flag.ts'
import { isLoopbackHost } from './host.ts'
import { targetUrl } from './http.ts'
import { type Cannon, createCannon, type Shot } from './load/cannon.ts'
import { findKnee, type Knee, type Step } from './load/knee.ts'
import type { CommonOptions, LatencyProbe, ProbeContext } from './probe.ts'
import { judgeBudget, type Measurement } from './result.ts'
import { constantArrivals, type OpenLoop, openLoop, poissonArrivals } from './schedule.ts'
import { Tally } from './tally.ts'

export interface LoadOptions extends CommonOptions {
  readonly path?: string
  readonly connections: number
  /** Ascending rates, or `auto`: doubling from `--rate`. */
  readonly steps?: readonly number[] | 'auto'
  readonly arrivals: 'constant' | 'poisson'
  readonly seed: number
  /** ms */
  readonly timeout: number
  readonly maxInFlight: number
  readonly warmUp: number
  readonly allowRemote: boolean
}

const RATE_DEFAULT_PER_SECOND = 100
const RATE_MAX_PER_SECOND = 10_000
const STEPS_MAX = 32
/** Length of a step of `--steps auto`, ms: at 100/s, 200 requests; the probe says which percentiles that is too few for. */
const AUTO_STEP_MS = 2_000
const MAX_SLIP_NS = 1_000_000_000
const STOP_GRACE_MS = 500
const PROGRESS_MS = 500
/**
 * From this rate on the loop turns without sleeping while an answer is awaited. Measured on two virtual cores against a
 * server of 50 ms, p50 with sleep and without: at 20/s 51.0 and 50.5 ms. At 5/s a thread that began to turn after a long
 * sleep stood in the target's way for up to 2 ms in two of seven runs; from 10/s on in none of sixteen.
 */
const AWAKE_FROM_PER_SECOND = 10
/** Whose servers a load test would abuse, whoever asks. */
const VENUE_DOMAINS = ['kalshi.com', 'kalshi.co', 'polymarket.com']

export const loadProbe: LatencyProbe<LoadOptions> = {
  name: 'load',
  description: 'response times of a server of yours at a constant rate, and the rate up to which it keeps them',

  configure(command: Command) {
    command
      .option('--path <path>', 'path to GET (default: that of --url)')
      .option('--connections <count>', 'connections to send on', integerFlag('--connections', 1, 900), 64)
      .option(
        '--steps <rates>',
        'rates to try one after the other, each for its share of --for, such as 100,200,400; or auto: double from ' +
          `--rate, ${AUTO_STEP_MS / 1000} s each; ends at the knee`,
        stepsFlag,
      )
      .option('--timeout <duration>', 'longest wait for an answer', durationFlag('--timeout', 60_000), 10_000)
      .addOption(new Option('--arrivals <kind>', 'intended sends').choices(['constant', 'poisson']).default('constant'))
      .option('--seed <number>', 'seed of poisson arrivals', integerFlag('--seed', 0, 2 ** 32 - 1), 1)
      .option(
        '--max-in-flight <count>',
        'requests sent or waiting for a connection at once; further ones are dropped and counted',
        integerFlag('--max-in-flight', 1, 1_000_000),
        10_000,
      )
      .option('--warm-up <count>', 'requests before the measurement', integerFlag('--warm-up', 1, 10_000), 100)
      .option('--allow-remote', 'the target is another machine, and you may load it', false)
      .addHelpText(
        'after',
        `
Examples:
  probe load --url http://127.0.0.1:8080/health --rate 500 --for 30s
  probe load --url http://127.0.0.1:8080/health --rate 100 --steps auto --for 60s --json`,
      )
  },

  run: (options, context) => new LoadRun(options, context).run(),
}

function stepsFlag(text: string): readonly number[] | 'auto' {
  if (text === 'auto') return text
  const rates = text.split(',').map(Number)
  const ascending = rates.every((rate, index) => index === 0 || rate > (rates[index - 1] as number))
  if (rates.length > STEPS_MAX || !ascending || !rates.every((rate) => rate >= 0.1 && rate <= RATE_MAX_PER_SECOND))
    throw new UserError(
      'FLAG_INVALID',
      `--steps is '${text}', neither auto nor up to ${STEPS_MAX} ascending rates from 0.1 to ${RATE_MAX_PER_SECOND}`,
    )
  return rates
}

class LoadRun {
  readonly #options: LoadOptions
  readonly #context: ProbeContext
  readonly #url: URL
  readonly #bounds
  readonly #slip = new LatencyHistogram()
  #cannon: Cannon | undefined
  #loop: OpenLoop | undefined
  #isUp: boolean | undefined

  constructor(options: LoadOptions, context: ProbeContext) {
    this.#options = options
    this.#context = context
    this.#bounds = boundCells([context.slos.api_rtt.thresholdNs])
    const { steps, rate, path } = options
    if (steps !== undefined && context.serve)
      throw new UserError('FLAG_CONFLICT', '--serve keeps one rate: leave out --steps')
    if (steps === 'auto' && context.durationMs < AUTO_STEP_MS)
      throw new UserError(
        'FLAG_CONFLICT',
        `--steps auto needs --for of at least ${AUTO_STEP_MS / 1000} s, a step's length`,
      )
    if (Array.isArray(steps) && rate !== undefined)
      throw new UserError('FLAG_CONFLICT', '--steps names the rates itself: leave out --rate')
    // As given: only the http probe knows a venue's calls.
    const given = URL.parse(options.url)
    this.#url = targetUrl(options.url, path ?? (given ? given.pathname + given.search : undefined), false)
    const { hostname } = this.#url
    if (VENUE_DOMAINS.some((domain) => hostname === domain || hostname.endsWith(`.${domain}`)))
      throw new UserError('LOAD_REFUSED', `${hostname} is a venue's own host; a load test is for servers of yours`)
    if (!isLoopbackHost(hostname) && !options.allowRemote)
      throw new UserError('LOAD_REMOTE', `${hostname} is another machine: add --allow-remote if you may load it`)
  }

  async run(): Promise<Measurement> {
    const { signal, measuring, serve } = this.#context
    const { connections, timeout, warmUp } = this.#options
    let grace: NodeJS.Timeout | undefined
    const stop = () => {
      this.#loop?.stop()
      grace = setTimeout(() => this.#cannon?.abandon(), STOP_GRACE_MS)
    }
    signal.addEventListener('abort', stop, { once: true })
    const cannon = await createCannon({ url: this.#url.href, connections, timeoutMs: timeout })
    this.#cannon = cannon
    try {
      const reason = cannon.failure ?? (await this.#warmUp(warmUp))
      if (reason !== undefined && !serve && !signal.aborted)
        throw new UserError('TARGET_UNREACHABLE', `${this.#url.href} cannot be loaded: ${reason}`, EXIT.environment)
      measuring()
      return this.#measurement(await this.#steps())
    } finally {
      clearTimeout(grace)
      signal.removeEventListener('abort', stop)
      await cannon.stop()
    }
  }

  /** So that code is compiled and every connection has carried a request. @returns why it did not work */
  async #warmUp(requests: number): Promise<string | undefined> {
    for (let left = requests; left > 0 && !this.#context.signal.aborted; left -= this.#options.connections) {
      const shots = Array.from({ length: Math.min(left, this.#options.connections) }, () =>
        (this.#cannon as Cannon).fire(),
      )
      const failed = (await Promise.all(shots)).find((shot) => !isGood(shot))
      if (failed !== undefined) return failed.reason ?? `it answered ${failed.status}`
    }
    return undefined
  }

  async #steps(): Promise<{ steps: readonly Step[]; knee?: Knee }> {
    const { durationMs, signal, progress } = this.#context
    const { steps = [], rate = RATE_DEFAULT_PER_SECOND } = this.#options
    const auto = steps === 'auto'
    if (!auto && steps.length === 0) return { steps: [await this.#step(rate, durationMs, (ratio) => progress(ratio))] }
    const stepMs = auto ? AUTO_STEP_MS : durationMs / steps.length
    const endsAtNs = nowNs() + durationMs * 1e6
    const doubling = Array.from({ length: STEPS_MAX }, (_, index) => rate * 2 ** index)
    const rates = auto ? doubling.filter((each) => each <= RATE_MAX_PER_SECOND) : steps
    const startedAtNs = nowNs()
    return findKnee(rates, async (ratePerSecond) => {
      // Steps of a list run to the end of the list; a confirmation may take the run past --for.
      if (signal.aborted || (auto && nowNs() + stepMs * 1e6 > endsAtNs)) return undefined
      const passed = () => Math.min(1, (nowNs() - startedAtNs) / (durationMs * 1e6))
      return this.#step(ratePerSecond, stepMs, () => progress(passed()))
    })
  }

  async #step(ratePerSecond: number, durationMs: number, progress: (ratio: number) => void): Promise<Step> {
    const { signal, reporter } = this.#context
    const { arrivals, seed, maxInFlight } = this.#options
    const tally = new Tally(this.#bounds)
    const beganAtNs = nowNs()
    let firstAnswerAtNs: number | undefined
    let answeredInTime = 0
    const loop = openLoop({
      arrivals: arrivals === 'constant' ? constantArrivals(ratePerSecond) : poissonArrivals(ratePerSecond, seed),
      untilNs: signal.aborted ? 0 : durationMs * 1e6,
      maxInFlight,
      maxSlipNs: MAX_SLIP_NS,
      wait: 'precise',
      // The target's machine may be this one: with one core the target needs it.
      awake: ratePerSecond >= AWAKE_FROM_PER_SECOND && availableParallelism() > 1,
      send: async (slot, startedAtNs) => {
        const shot = await (this.#cannon as Cannon).fire()
        if (shot.outcome === 'abandoned') return
        this.#count(tally, shot, slot.intendedAtNs, startedAtNs)
        if (!isGood(shot)) return
        firstAnswerAtNs ??= shot.endedAtNs
        if (shot.endedAtNs <= firstAnswerAtNs + durationMs * 1e6) answeredInTime++
      },
      dropped: (_, reason) => {
        tally.dropped(reason)
        reporter.request('dropped')
      },
    })
    this.#loop = loop
    const ticker = setInterval(() => progress(loop.progress), PROGRESS_MS)
    await loop.done
    clearInterval(ticker)
    this.#slip.add(loop.slip)
    const stepMs = signal.aborted ? (nowNs() - beganAtNs) / 1e6 : durationMs
    return {
      ratePerSecond,
      tally,
      achievedPerSecond: answeredInTime / (stepMs / 1000),
      short: tally.scheduled - answeredInTime,
      slipP99Ns: loop.slip.quantileNs(0.99),
      ...(signal.aborted ? { stopped: true } : {}),
    }
  }

  #count(tally: Tally, shot: Shot, intendedAtNs: number, startedAtNs: number): void {
    const { reporter, note } = this.#context
    const isUp = isGood(shot)
    reporter.up(isUp)
    if (isUp !== this.#isUp && (this.#isUp !== undefined || !isUp))
      note(`${this.#url.href} ${isUp ? 'answers again' : `does not answer well: ${shot.reason ?? shot.status}`}`)
    this.#isUp = isUp
    if (!isUp) {
      const outcome = shot.outcome === 'timeout' ? 'timeout' : 'error'
      tally.failed(outcome, shot.reason ?? `STATUS_${shot.status}`)
      reporter.request(outcome)
      return
    }
    const slipNs = startedAtNs - intendedAtNs
    const queueNs = shot.sentAtNs - startedAtNs
    const serviceNs = shot.endedAtNs - shot.sentAtNs
    const ttfbNs = shot.headAtNs - shot.sentAtNs
    const bodyNs = shot.endedAtNs - shot.headAtNs
    tally.ok(
      slipNs,
      serviceNs,
      [
        ['queue', queueNs],
        ['ttfb', ttfbNs],
        ['body', bodyNs],
      ],
      queueNs,
    )
    reporter.request('ok')
    reporter.phase('slip', slipNs)
    reporter.phase('service', serviceNs)
    reporter.phase('ttfb', ttfbNs)
    reporter.phase('body', bodyNs)
    reporter.phase('total', slipNs + queueNs + serviceNs)
  }

  #measurement({ steps, knee }: { steps: readonly Step[]; knee?: Knee }): Measurement {
    const { connections, arrivals, seed, timeout, maxInFlight, warmUp } = this.#options
    const { slos, durationMs } = this.#context
    const open = this.#cannon?.open ?? 0
    const nameOf = ({ ratePerSecond }: Step) => `${ratePerSecond}/s`
    const steady = steps.find(({ ratePerSecond }) => ratePerSecond === knee?.steadyPerSecond) ?? steps[0]
    const headline = steady === undefined ? '' : nameOf(steady)
    return {
      target: this.#url.href,
      settings: {
        ratePerSecond: steps.map(({ ratePerSecond }) => ratePerSecond).join(','),
        ...(Number.isFinite(durationMs) ? { forMs: durationMs } : {}),
        arrivals,
        ...(arrivals === 'poisson' ? { seed } : {}),
        connections,
        timeoutMs: timeout,
        maxInFlight,
        warmUpRequests: warmUp,
        certificateChecked: false,
      },
      all: Tally.merged(steps.map(({ tally }) => tally)),
      slip: this.#slip,
      rows: steps.map((step) => ({
        mode: {
          name: nameOf(step),
          requestedMode: `${connections} connections`,
          effectiveMode: `${open} connections`,
          ...(open < connections
            ? { status: 'inactive', reason: `only ${open} of ${connections} connections were open at the end` }
            : { status: 'measured', ...(step.stopped ? { reason: 'stopped before its end' } : {}) }),
        },
        tally: step.tally,
      })),
      headline,
      budgets: steady === undefined ? [] : judgeBudget(slos.api_rtt, headline, steady.tally),
      details: {
        steps: steps.map(({ ratePerSecond, achievedPerSecond, slipP99Ns }) => ({
          ratePerSecond,
          achievedPerSecond: +achievedPerSecond.toFixed(2),
          slipP99Ns,
        })),
        ...(knee === undefined ? {} : { knee }),
      },
      findings:
        knee === undefined
          ? []
          : [
              knee.ratePerSecond === null
                ? `no knee found: ${knee.reason}`
                : `knee at ${knee.ratePerSecond}/s: ${knee.reason}; ${knee.steadyPerSecond === null ? 'no rate kept up' : `${knee.steadyPerSecond}/s kept up`}`,
              `knee: ${knee.method}`,
            ],
    }
  }
}

function isGood({ outcome, status }: Shot): boolean {
  return outcome === 'answered' && status >= 200 && status < 300
}
