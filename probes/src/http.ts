/**
 * The probe `http`: how long the venue's API takes, phase by phase, as a client on this machine sees it.
 *
 * Requests leave on an open-loop schedule. With `--connection both` (the default) they alternate between a warm
 * connection, as a bot uses it, and a new one, which shows DNS, TCP and TLS. Phases of a request, in order; each ends
 * where the next begins, so they add up to its service time exactly, and with its slip to its response time:
 *
 *   dns    name looked up; absent for an address          tcp    connected, SYN to SYN-ACK
 *   tls    full handshake, certificate checked            ttfb   request written to first byte of the answer read
 *   body   to the last byte of the answer
 *
 * Boundary user→user: from this process's call to this process's reading, kernel and event loop included. A request that
 * finds no warm connection free opens one and pays for it in its own figures, as a bot would.
 *
 * With `--http 2`, warm requests share one connection, as a bot's would (`http2.ts`); where the server does not agree to it,
 * the rows are `unsupported`, never of HTTP/1.1.
 *
 * In the collector, `total`, `service`, `slip`, `ttfb` and `body` are those of warm requests (of new ones with
 * `--connection new`), so that their quantiles mean one thing; `dns`, `tcp` and `tls` are of every connection opened.
 */
import { boundCells, EXIT, UserError } from '@tickscope/contract'
import { createSigner, REST_BASE_PATH, resolveEnvironment, type Signer } from '@tickscope/venue/kalshi'
import { type Command, Option } from 'commander'
import { nowNs } from './clock.ts'
import { Connection, type Endpoint, type Exchange, type Instants } from './connection.ts'
import { durationFlag, integerFlag, readCertificates, readFlagFile } from './flag.ts'
import { ALPN, Http2Connection, type Http2Request } from './http2.ts'
import type { CommonOptions, LatencyProbe, ProbeContext } from './probe.ts'
import { judgeBudget, type Measurement, type Mode } from './result.ts'
import { constantArrivals, type OpenLoop, openLoop, poissonArrivals, type Slot } from './schedule.ts'
import { Tally } from './tally.ts'

type ConnectionMode = 'warm' | 'new'
type AnyConnection = Connection | Http2Connection
type AnyRequest = Buffer | Http2Request

export interface HttpOptions extends CommonOptions {
  readonly preset?: keyof typeof PRESETS
  /** `1.1` when left out. */
  readonly http?: '1.1' | '2'
  readonly path?: string
  readonly connection: ConnectionMode | 'both'
  readonly arrivals: 'constant' | 'poisson'
  readonly seed: number
  readonly wait: 'precise' | 'timer'
  /** ms */
  readonly timeout: number
  readonly maxInFlight?: number
  /** Requests sent before the measurement and counted nowhere. */
  readonly warmUp: number
  readonly keyId?: string
  readonly keyFile?: string
  readonly caFile?: string
  /** How the target is reached; not flags, the probe `route` sets them. */
  readonly localAddress?: string
  readonly connectTo?: Endpoint['connectTo']
}

/** Requests per second: enough for a p90 in ten seconds; a service shares the account's rate limit with the bot. */
const RATE_DEFAULT = { once: 10, serve: 5 } as const
/** Sends later than this are dropped: the probe was asleep, and a burst would only hit the venue's rate limit. */
const MAX_SLIP_NS = 1_000_000_000
/** Most sends in flight unless told otherwise: sockets, and so file descriptors, of the default limit of 1024. */
const IN_FLIGHT_MAX = 900
/** How long answers in flight are waited for when the run is stopped early. */
const STOP_GRACE_MS = 500
const PROGRESS_MS = 500

/** HTTP/2 without TLS exists, but no venue offers it: a figure of it would compare with nothing. */
const HTTP2_PLAIN = 'HTTP/2 is agreed on in the TLS handshake, and http:// has none'

/** Phases of opening a connection, the same whatever the request on it is for. */
const SETUP_PHASES: ReadonlySet<string> = new Set(['dns', 'tcp', 'tls'])

const PUBLIC_ENDPOINT = `${REST_BASE_PATH}/exchange/status`
const SIGNED_ENDPOINT = `${REST_BASE_PATH}/portfolio/balance`

/** Where venues are, with a cheap read-only call of each; Kalshi's becomes a signed one when a key is given. */
const PRESETS = {
  'kalshi-prod': { url: resolveEnvironment('prod').restOrigin, venue: 'kalshi' },
  'kalshi-demo': { url: resolveEnvironment('demo').restOrigin, venue: 'kalshi' },
  polymarket: { url: 'https://clob.polymarket.com/time', venue: 'polymarket' },
} as const

export const httpProbe: LatencyProbe<HttpOptions> = {
  name: 'http',
  description: "phases of the venue's API: DNS, TCP, TLS, first byte, body; on new and warm connections",

  defaults({ preset, url }) {
    if (preset === undefined) return {}
    if (url !== undefined) throw new UserError('FLAG_CONFLICT', '--preset names the target: leave out --url')
    return PRESETS[preset]
  },

  configure(command: Command) {
    command
      .addOption(
        new Option('--preset <venue>', 'a venue and a read-only call of it, instead of --url').choices(
          Object.keys(PRESETS),
        ),
      )
      .addOption(new Option('--http <version>', 'version of HTTP').choices(['1.1', '2']).default('1.1'))
      .addOption(
        new Option('--connection <kind>', 'connection of each request')
          .choices(['both', 'warm', 'new'])
          .default('both'),
      )
      .option('--path <path>', `path to GET (default: that of --url, or ${PUBLIC_ENDPOINT})`)
      .option('--key-id <id>', `API key id: makes signed calls (default path then ${SIGNED_ENDPOINT})`)
      .option('--key-file <pem>', 'private key of --key-id')
      .option('--ca-file <pem>', "certificates to trust instead of the system's")
      .option('--timeout <duration>', 'longest wait for an answer', durationFlag('--timeout', 60_000), 5_000)
      .addOption(new Option('--arrivals <kind>', 'intended sends').choices(['constant', 'poisson']).default('constant'))
      .option('--seed <number>', 'seed of poisson arrivals', integerFlag('--seed', 0, 2 ** 32 - 1), 1)
      .addOption(
        new Option('--wait <kind>', 'precise: on time, at up to 2 ms of a core a request; timer: free, about 1 ms late')
          .choices(['precise', 'timer'])
          .default('precise'),
      )
      .option(
        '--max-in-flight <count>',
        'requests waiting for an answer at once; further ones are dropped and counted (default: rate × timeout, ' +
          `at most ${IN_FLIGHT_MAX})`,
        integerFlag('--max-in-flight', 1, 20_000),
      )
      .option('--warm-up <count>', 'requests before the measurement', integerFlag('--warm-up', 1, 10_000), 10)
      .addHelpText(
        'after',
        `
Examples:
  probe http --preset kalshi-demo --for 60s
  probe http --preset kalshi-prod --http 2
  probe http --preset kalshi-demo --key-id ID --key-file key.pem --connection warm --rate 2
  probe http --url http://127.0.0.1:8080/health --rate 100 --json
Signed calls and calls beyond a venue's public limit count against the account's rate limit.`,
      )
  },

  run: (options, context) => new HttpRun(options, context).run(),
}

class HttpRun {
  readonly #options: HttpOptions
  readonly #context: ProbeContext
  readonly #url: URL
  readonly #endpoint: Endpoint
  readonly #signer: Signer | undefined
  readonly #modes: readonly ConnectionMode[]
  /** The mode whose times are the headline: a bot's own requests are on warm connections. */
  readonly #headline: ConnectionMode
  readonly #tallies: { readonly [mode in ConnectionMode]: Tally }
  /** Warm connections without a request, latest used last. */
  readonly #idle: AnyConnection[] = []
  readonly #busy = new Set<AnyConnection>()
  readonly #isHttp2: boolean
  #request: AnyRequest
  #isUp: boolean | undefined

  constructor(options: HttpOptions, context: ProbeContext) {
    this.#options = options
    this.#context = context
    this.#signer = loadSigner(options)
    this.#url = targetUrl(options.url, options.path, this.#signer !== undefined)
    const { hostname, port, protocol } = this.#url
    const tls = protocol === 'https:'
    this.#endpoint = {
      host: hostname.replace(/^\[(.*)\]$/, '$1'),
      port: port === '' ? (tls ? 443 : 80) : Number(port),
      tls,
      ...(options.caFile ? { ca: readCertificates('--ca-file', options.caFile) } : {}),
      ...(options.localAddress ? { localAddress: options.localAddress } : {}),
      ...(options.connectTo ? { connectTo: options.connectTo } : {}),
    }
    this.#isHttp2 = options.http === '2'
    if (this.#isHttp2 && !tls && context.serve) throw new UserError('HTTP2_NEEDS_TLS', `--http 2: ${HTTP2_PLAIN}`)
    if (this.#signer !== undefined && options.preset === 'polymarket')
      throw new UserError(
        'FLAG_CONFLICT',
        '--preset polymarket makes no signed calls: leave out --key-id and --key-file',
      )
    this.#modes = options.connection === 'both' ? ['warm', 'new'] : [options.connection]
    this.#headline = this.#modes[0] as ConnectionMode
    const bounds = boundCells([context.slos.api_rtt.thresholdNs])
    this.#tallies = { warm: new Tally(bounds), new: new Tally(bounds) }
    this.#request = this.#encode()
  }

  async run(): Promise<Measurement> {
    const { signal, durationMs, measuring, progress, slos } = this.#context
    const { arrivals, seed, wait, timeout, warmUp, connection } = this.#options
    const ratePerSecond = this.#options.rate ?? (this.#context.serve ? RATE_DEFAULT.serve : RATE_DEFAULT.once)
    const maxInFlight =
      this.#options.maxInFlight ?? Math.min(IN_FLIGHT_MAX, Math.ceil((ratePerSecond * timeout) / 1000) + 1)
    let loop: OpenLoop | undefined
    let grace: NodeJS.Timeout | undefined
    const stop = () => {
      loop?.stop()
      grace = setTimeout(() => this.#abandon(), STOP_GRACE_MS)
    }
    signal.addEventListener('abort', stop, { once: true })
    const unsupported = this.#isHttp2 && !this.#endpoint.tls ? HTTP2_PLAIN : await this.#warmUp(warmUp)
    measuring()
    loop = openLoop({
      arrivals: arrivals === 'constant' ? constantArrivals(ratePerSecond) : poissonArrivals(ratePerSecond, seed),
      // Stopped during the warm-up: a send now would wait for its answer with nobody left to abandon it.
      untilNs: signal.aborted || unsupported !== undefined ? 0 : durationMs * 1e6,
      maxInFlight,
      maxSlipNs: MAX_SLIP_NS,
      wait,
      prepare: () => {
        if (this.#signer) this.#request = this.#encode()
      },
      send: (slot, startedAtNs) => this.#send(slot, startedAtNs),
      dropped: (slot, reason) => {
        this.#tallies[this.#modeOf(slot)].dropped(reason)
        this.#context.reporter.request('dropped')
      },
    })
    const ticker = setInterval(() => progress(loop.progress), PROGRESS_MS)
    await loop.done
    clearInterval(ticker)
    clearTimeout(grace)
    signal.removeEventListener('abort', stop)
    this.#abandon()
    return {
      target: this.#url.href,
      settings: {
        connection,
        http: this.#isHttp2 ? '2' : '1.1',
        ratePerSecond,
        arrivals,
        ...(arrivals === 'poisson' ? { seed } : {}),
        wait,
        timeoutMs: timeout,
        maxInFlight,
        warmUpRequests: warmUp,
        signed: this.#signer?.algorithm ?? false,
      },
      all: Tally.merged(this.#modes.map((mode) => this.#tallies[mode])),
      slip: loop.slip,
      rows: this.#modes.map((mode) => ({
        mode: this.#describe(mode, unsupported),
        tally: this.#tallies[mode],
      })),
      headline: this.#headline,
      budgets: judgeBudget(slos.api_rtt, this.#headline, this.#tallies[this.#headline]),
    }
  }

  /**
   * One request after the other, so that code is compiled, caches are filled and a warm connection is there. A single run
   * ends here when the venue does not answer.
   *
   * @returns why the version of HTTP asked for cannot be had
   */
  async #warmUp(requests: number): Promise<string | undefined> {
    for (let index = 0; index < requests && !this.#context.signal.aborted; index++) {
      if (this.#signer) this.#request = this.#encode()
      const exchange = await this.#exchange(this.#modes[index % this.#modes.length] as ConnectionMode, nowNs())
      if (isGood(exchange) || this.#context.signal.aborted) continue
      if (this.#context.serve) return undefined
      if (exchange.reason === ALPN) return exchange.detail
      throw this.#failure(exchange)
    }
    return undefined
  }

  #describe(mode: ConnectionMode, unsupported: string | undefined): Mode {
    const described = modeOf(mode, this.#tallies[mode])
    if (!this.#isHttp2) return described
    const requestedMode = `${mode}, HTTP/2`
    if (unsupported !== undefined)
      return { name: mode, requestedMode, effectiveMode: 'none', status: 'unsupported', reason: unsupported }
    return { ...described, requestedMode, effectiveMode: `${described.effectiveMode}, HTTP/2` }
  }

  #failure(exchange: Exchange): UserError {
    const { host, port } = this.#endpoint
    if (exchange.outcome === 'answered') {
      const call = this.#signer ? `the call signed with key id ${this.#signer.keyId}` : 'the call'
      return new UserError(
        'VENUE_REFUSED',
        `${this.#url.href} answered ${exchange.status} to ${call}`,
        EXIT.environment,
      )
    }
    return new UserError(
      'VENUE_UNREACHABLE',
      `${this.#url.protocol}//${host}:${port} cannot be reached: ${whyNot(exchange)}`,
      EXIT.environment,
    )
  }

  #modeOf(slot: Slot): ConnectionMode {
    return this.#modes[slot.index % this.#modes.length] as ConnectionMode
  }

  async #send(slot: Slot, startedAtNs: number): Promise<void> {
    const { reporter } = this.#context
    const mode = this.#modeOf(slot)
    const tally = this.#tallies[mode]
    const exchange = await this.#exchange(mode, startedAtNs)
    if (exchange.outcome === 'abandoned') return
    if (exchange.opened) tally.opened++
    if (!isGood(exchange)) {
      const outcome = exchange.outcome === 'timeout' ? 'timeout' : 'error'
      tally.failed(outcome, exchange.reason ?? `STATUS_${exchange.status}`)
      reporter.request(outcome)
      return this.#sayUp(false, exchange)
    }
    const slipNs = startedAtNs - slot.intendedAtNs
    const serviceNs = exchange.instants.endedAtNs - startedAtNs
    const phases = phasesOf(exchange.instants)
    tally.ok(slipNs, serviceNs, phases)
    reporter.request('ok')
    for (const [phase, ns] of phases) {
      if (mode === this.#headline || SETUP_PHASES.has(phase)) reporter.phase(phase, ns)
    }
    if (mode === this.#headline) {
      reporter.phase('slip', slipNs)
      reporter.phase('service', serviceNs)
      reporter.phase('total', slipNs + serviceNs)
    }
    this.#sayUp(true, exchange)
  }

  async #exchange(mode: ConnectionMode, startedAtNs: number): Promise<Exchange> {
    if (this.#isHttp2) return this.#exchangeHttp2(mode, startedAtNs)
    const connection = ((mode === 'warm' ? this.#takeIdle() : undefined) ??
      new Connection(this.#endpoint)) as Connection
    this.#busy.add(connection)
    const exchange = await connection.exchange(this.#request as Buffer, startedAtNs, this.#options.timeout)
    this.#busy.delete(connection)
    if (mode === 'warm' && connection.usable) this.#idle.push(connection)
    else connection.destroy()
    return exchange
  }

  /** Warm requests share one connection, also while others wait on it: that is what HTTP/2 is for. */
  async #exchangeHttp2(mode: ConnectionMode, startedAtNs: number): Promise<Exchange> {
    const warm = mode === 'warm'
    const connection = ((warm ? this.#takeIdle() : undefined) ?? new Http2Connection(this.#endpoint)) as Http2Connection
    if (warm) this.#idle.push(connection)
    else this.#busy.add(connection)
    const exchange = await connection.exchange(this.#request as Http2Request, startedAtNs, this.#options.timeout)
    if (warm) return exchange
    this.#busy.delete(connection)
    connection.destroy()
    return exchange
  }

  #takeIdle(): AnyConnection | undefined {
    for (;;) {
      const connection = this.#idle.pop()
      if (connection === undefined || connection.usable) return connection
    }
  }

  #abandon(): void {
    for (const connection of [...this.#idle, ...this.#busy]) connection.destroy()
  }

  #sayUp(isUp: boolean, exchange: Exchange): void {
    this.#context.reporter.up(isUp)
    if (this.#isUp === isUp) return
    if (!isUp) this.#context.note(this.#failure(exchange).message)
    else if (this.#isUp === false) this.#context.note(`${this.#url.href} answers again`)
    this.#isUp = isUp
  }

  #encode(): AnyRequest {
    const { pathname, search, host } = this.#url
    const signed = Object.entries(this.#signer?.headers('GET', pathname) ?? {})
    if (this.#isHttp2) {
      const lower = signed.map(([name, value]) => [name.toLowerCase(), value])
      const fields = { 'user-agent': 'tickscope-probe', accept: '*/*', ...Object.fromEntries(lower) }
      return { authority: host, path: `${pathname}${search}`, fields }
    }
    const fields = [['host', host], ['user-agent', 'tickscope-probe'], ['accept', '*/*'], ...signed]
    const lines = fields.map(([name, value]) => `${name}: ${value}\r\n`)
    return Buffer.from(`GET ${pathname}${search} HTTP/1.1\r\n${lines.join('')}\r\n`, 'latin1')
  }
}

/** The path of a full URL stands; that of a venue's base becomes a cheap read-only call. */
export function targetUrl(text: string, path: string | undefined, signed: boolean): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !['http:', 'https:'].includes(url.protocol))
    throw new UserError(
      'URL_INVALID',
      `--url is '${text}', not an http or https URL such as https://demo-api.kalshi.co`,
    )
  if (url.username !== '' || url.password !== '')
    throw new UserError('URL_INVALID', '--url carries a user name or password; the probe sends none')
  if (path !== undefined) {
    if (!path.startsWith('/')) throw new UserError('PATH_INVALID', `--path is '${path}', it must begin with /`)
    return new URL(path, url.origin)
  }
  url.hash = ''
  const isBase = ['', REST_BASE_PATH].includes(url.pathname.replace(/\/+$/, ''))
  return isBase ? new URL(signed ? SIGNED_ENDPOINT : PUBLIC_ENDPOINT, url.origin) : url
}

function loadSigner({ keyId, keyFile }: HttpOptions): Signer | undefined {
  if (keyId === undefined && keyFile === undefined) return undefined
  if (keyId === undefined || keyFile === undefined)
    throw new UserError('KEY_INCOMPLETE', '--key-id and --key-file belong together; one of them is missing')
  return createSigner({ keyId, privateKeyPem: readFlagFile('--key-file', keyFile), source: `--key-file ${keyFile}` })
}

const UNTRUSTED =
  /^(?:DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_(?:GET_ISSUER_CERT|VERIFY_LEAF_SIGNATURE))/

/** Why an exchange failed, as one clause; of TLS in other words than OpenSSL's. */
function whyNot({ reason = '', detail = '' }: Exchange): string {
  if (reason === 'ERR_SSL_WRONG_VERSION_NUMBER') return `it does not speak TLS there (${reason})`
  if (UNTRUSTED.test(reason)) return `its certificate is not trusted (${reason}); --ca-file names one that is`
  return detail.trim()
}

function isGood(exchange: Exchange): boolean {
  return exchange.outcome === 'answered' && exchange.status >= 200 && exchange.status < 300
}

/** Phases of an answered request that happened, ns; each begins where the one before it ended. */
function phasesOf(instants: Instants): [string, number][] {
  const phases: [string, number][] = []
  let fromNs = instants.startedAtNs
  for (const [phase, atNs] of [
    ['dns', instants.lookedUpAtNs],
    ['tcp', instants.connectedAtNs],
    ['tls', instants.securedAtNs],
    ['ttfb', instants.firstByteAtNs],
    ['body', instants.endedAtNs],
  ] as const) {
    if (atNs === null) continue
    phases.push([phase, atNs - fromNs])
    fromNs = atNs
  }
  return phases
}

function modeOf(requested: ConnectionMode, { sent, opened }: Tally): Mode {
  const neverWarm = requested === 'warm' && sent > 0 && opened >= sent
  return {
    name: requested,
    requestedMode: requested,
    effectiveMode: neverWarm ? 'new' : requested,
    ...(neverWarm
      ? { status: 'inactive', reason: 'the server kept no connection open until the next request' }
      : { status: 'measured' }),
  }
}
