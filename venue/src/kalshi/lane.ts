/**
 * Lanes: warm keep-alive connections for orders, one request at a time on each, written the moment it is submitted.
 *
 * Why not the pool that reads use: undici holds back a request on a reused connection until the event loop's next
 * check phase (to catch a connection that died while idle). After one socket read that brought 300 ticks, that is
 * after all 300: 2.5 ms instead of 0.6 from the first tick to its order's write, on loopback with nothing else to do
 * per tick. Here `submit` has handed the bytes to the kernel when it returns, provided a lane is idle: an order
 * is smaller than an empty socket buffer, and a lane never has another request's bytes in it.
 *
 * The price is that a connection can be dead without our knowing; such an order fails as `CONNECTION_LOST`, outcome
 * unknown. It is kept rare: a lane that sat idle is refreshed with a cheap GET well before the server would drop it,
 * a lane that brings bytes nobody asked for is dropped, and callers check that an answer names their order.
 *
 * Bounded: lanes, requests waiting for one, answer size, time of connect and of each request. Nothing is ever sent
 * twice.
 */
import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { ConnectionError } from './error.ts'
import { ResponseParser } from './response.ts'

/** One request; exactly one of `answered` and `failed` is called, once. Instants are `performance.now()`. */
export interface Exchange {
  /** The whole request, ready to be written. */
  readonly text: string
  sent(atMs: number): void
  answered(httpStatus: number, body: string, atMs: number): void
  /** @param sent whether bytes were handed to the kernel: if so, the venue may have acted on them */
  failed(error: ConnectionError, sent: boolean): void
}

export interface LaneOptions {
  /** `http://…` or `https://…` */
  readonly origin: string
  /** Certificate authority for `https`, PEM; the system's when absent. */
  readonly ca?: string | undefined
  /** Most connections. */
  readonly lanesMax: number
  /** Most requests waiting for a lane; the next one fails with `BUSY`. */
  readonly waitingMax: number
  readonly connectTimeoutMs: number
  /** From submission to the last byte of the answer. */
  readonly requestTimeoutMs: number
  /** Longest an idle lane goes without a request; a server's own `keep-alive` hint shortens it. */
  readonly refreshMs: number
  readonly bodyMaxBytes: number
  /** A cheap request that changes nothing, whole; proves a connection before orders use it. */
  readonly refreshText: string
}

/** Delay before a lane that could not connect is tried again, doubling; ms. */
const RECONNECT_MIN_MS = 100
const RECONNECT_MAX_MS = 5_000

/** Upkeep looks at every lane this often, ms. */
const UPKEEP_MS = 500

/** A server that says it keeps an idle connection for S seconds gets a refresh this much earlier, ms. */
const KEEP_ALIVE_MARGIN_MS = 1_500

interface Waiting {
  readonly exchange: Exchange
  timer: NodeJS.Timeout
}

class Lane {
  readonly socket: Socket
  parser: ResponseParser | undefined
  exchange: Exchange | undefined
  timer: NodeJS.Timeout | undefined
  connected = false
  /** Dropped: nothing that still happens on its socket matters. */
  closed = false
  /** Told once: that the lane carried a request and its answer, or why it never did. */
  opened: ((error?: ConnectionError) => void) | undefined
  usedAtMs = 0
  refreshMs: number

  constructor(socket: Socket, refreshMs: number, opened: (error?: ConnectionError) => void) {
    this.socket = socket
    this.refreshMs = refreshMs
    this.opened = opened
  }
}

export class Lanes {
  readonly #options: LaneOptions
  readonly #host: string
  readonly #port: number
  readonly #secure: boolean
  readonly #lanes = new Set<Lane>()
  /** Connected and free; the last one used is on top. */
  readonly #idle: Lane[] = []
  readonly #waiting: Waiting[] = []
  /** How many lanes upkeep keeps open. */
  #wanted = 0
  #reconnectDelayMs = RECONNECT_MIN_MS
  #reconnectAtMs = 0
  #upkeep: NodeJS.Timeout | undefined
  #stopped = false
  /** Told when the last lane is gone after `stop`. */
  #allGone: (() => void) | undefined

  constructor(options: LaneOptions) {
    this.#options = options
    const url = new URL(options.origin)
    this.#secure = url.protocol === 'https:'
    this.#host = url.hostname.replace(/^\[(.*)\]$/, '$1')
    this.#port = url.port === '' ? (this.#secure ? 443 : 80) : Number(url.port)
  }

  /** Lanes that are connected and free. */
  get idleCount(): number {
    return this.#idle.length
  }

  /**
   * Hot path: writes at once when a lane is idle, else opens one, up to the limit, or waits for one.
   */
  submit(exchange: Exchange): void {
    const lane = this.#idle.pop()
    if (lane !== undefined) this.#write(lane, exchange)
    else this.#wait(exchange)
  }

  /**
   * Opens lanes until `count` are there, and keeps that many open from now on. A lane counts once it has carried a
   * request and its answer.
   *
   * @throws ConnectionError when one cannot be opened
   */
  async warm(count: number): Promise<void> {
    this.#wanted = Math.min(count, this.#options.lanesMax)
    this.#startUpkeep()
    const opening: Promise<void>[] = []
    while (this.#lanes.size < this.#wanted) {
      opening.push(
        new Promise((resolve, reject) =>
          this.#open((error) => {
            if (error === undefined) resolve()
            else reject(error)
          }),
        ),
      )
    }
    await Promise.all(opening)
  }

  /** Closes idle lanes, lets busy ones finish for at most `graceMs`, then ends them. */
  async stop(graceMs: number): Promise<void> {
    this.#stopped = true
    clearInterval(this.#upkeep)
    for (const waiting of this.#waiting.splice(0)) {
      clearTimeout(waiting.timer)
      waiting.exchange.failed(
        new ConnectionError('STOPPED', 'the client was stopped before the request was sent'),
        false,
      )
    }
    const stopped = new ConnectionError('STOPPED', 'the client was stopped')
    for (const lane of [...this.#lanes]) if (lane.exchange === undefined) this.#fail(lane, stopped)
    if (this.#lanes.size > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, graceMs)
        this.#allGone = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    for (const lane of [...this.#lanes]) this.#fail(lane, stopped)
  }

  #write(lane: Lane, exchange: Exchange): void {
    lane.socket.write(exchange.text)
    const atMs = performance.now()
    lane.exchange = exchange
    lane.parser = new ResponseParser(this.#options.bodyMaxBytes)
    lane.timer = setTimeout(this.#timedOut, this.#options.requestTimeoutMs, lane)
    exchange.sent(atMs)
  }

  #wait(exchange: Exchange): void {
    const { lanesMax, waitingMax, requestTimeoutMs } = this.#options
    if (this.#stopped || this.#waiting.length >= waitingMax) {
      exchange.failed(
        this.#stopped
          ? new ConnectionError('STOPPED', 'the client was stopped')
          : new ConnectionError(
              'BUSY',
              `all ${lanesMax} connections to ${this.#options.origin} are busy and ${waitingMax} requests wait`,
            ),
        false,
      )
      return
    }
    const timer = setTimeout(() => {
      this.#waiting.splice(this.#waiting.indexOf(waiting), 1)
      exchange.failed(
        new ConnectionError(
          'TIMEOUT',
          `no connection to ${this.#options.origin} was free within ${requestTimeoutMs} ms`,
        ),
        false,
      )
    }, requestTimeoutMs)
    const waiting: Waiting = { exchange, timer }
    this.#waiting.push(waiting)
    // One lane for each that waits: those already opening serve the earlier ones.
    let opening = 0
    for (const lane of this.#lanes) if (!lane.connected) opening++
    if (this.#lanes.size < lanesMax && opening < this.#waiting.length) {
      this.#startUpkeep()
      this.#open(this.#openedForWaiting)
    }
  }

  /** Opens a lane; it carries a waiting request first if there is one, else the refresh request. */
  #open(opened: (error?: ConnectionError) => void): void {
    const { origin, ca, connectTimeoutMs, refreshMs } = this.#options
    const address = { host: this.#host, port: this.#port }
    const socket = this.#secure
      ? connectTls({
          ...address,
          ...(isIP(this.#host) === 0 ? { servername: this.#host } : {}),
          ...(ca === undefined ? {} : { ca }),
          ALPNProtocols: ['http/1.1'],
        })
      : connectTcp(address)
    const lane = new Lane(socket, refreshMs, opened)
    this.#lanes.add(lane)
    lane.timer = setTimeout(
      () =>
        this.#fail(
          lane,
          new ConnectionError('CONNECT_FAILED', `no connection to ${origin} within ${connectTimeoutMs} ms`),
        ),
      connectTimeoutMs,
    )
    socket.once(this.#secure ? 'secureConnect' : 'connect', () => {
      if (lane.closed) return
      clearTimeout(lane.timer)
      socket.setNoDelay(true)
      socket.setKeepAlive(true)
      lane.connected = true
      this.#reconnectDelayMs = RECONNECT_MIN_MS
      this.#use(lane)
    })
    socket.on('data', (chunk: Buffer) => this.#read(lane, chunk))
    socket.on('end', () => {
      if (lane.parser?.end() === true) this.#finish(lane)
      else this.#lost(lane, 'closed by the venue')
    })
    socket.on('error', (error: NodeJS.ErrnoException) => this.#lost(lane, error.code ?? error.message, error))
    socket.on('close', () => this.#lost(lane, 'closed'))
  }

  #lost(lane: Lane, reason: string, cause?: Error): void {
    const { origin } = this.#options
    this.#fail(
      lane,
      lane.connected
        ? new ConnectionError('CONNECTION_LOST', `the connection to ${origin} was lost: ${reason}`, { cause })
        : new ConnectionError('CONNECT_FAILED', `cannot connect to ${origin}: ${reason}`, { cause }),
    )
  }

  /** First request of a fresh lane. */
  #use(lane: Lane): void {
    const waiting = this.#waiting.shift()
    if (waiting === undefined) {
      this.#refresh(lane)
      return
    }
    clearTimeout(waiting.timer)
    this.#write(lane, waiting.exchange)
  }

  #refresh(lane: Lane): void {
    this.#write(lane, { text: this.#options.refreshText, sent: ignore, answered: ignore, failed: ignore })
  }

  #read(lane: Lane, chunk: Buffer): void {
    const { parser } = lane
    if (lane.closed) return
    if (parser === undefined) {
      this.#lost(lane, 'the venue sent bytes nobody asked for')
      return
    }
    let complete: boolean
    try {
      complete = parser.push(chunk)
    } catch (error) {
      const reason = `${this.#options.origin} broke HTTP/1.1: ${(error as Error).message}`
      this.#fail(lane, new ConnectionError('PROTOCOL', reason, { cause: error }))
      return
    }
    if (complete) this.#finish(lane)
  }

  /** The answer is whole: the lane is free again before the caller hears of it, so that its next request finds it. */
  #finish(lane: Lane): void {
    const atMs = performance.now()
    const { exchange, opened, parser } = lane
    if (exchange === undefined || parser === undefined) return
    clearTimeout(lane.timer)
    lane.exchange = undefined
    lane.parser = undefined
    lane.opened = undefined
    lane.usedAtMs = atMs
    if (parser.keepAliveSeconds !== undefined)
      lane.refreshMs = Math.min(
        this.#options.refreshMs,
        Math.max(0, parser.keepAliveSeconds * 1000 - KEEP_ALIVE_MARGIN_MS),
      )
    if (!parser.keepAlive || this.#stopped) this.#drop(lane)
    else this.#free(lane)
    opened?.()
    exchange.answered(parser.status, parser.body, atMs)
  }

  #free(lane: Lane): void {
    const waiting = this.#waiting.shift()
    if (waiting === undefined) {
      this.#idle.push(lane)
      return
    }
    clearTimeout(waiting.timer)
    this.#write(lane, waiting.exchange)
  }

  readonly #timedOut = (lane: Lane): void => {
    const { origin, requestTimeoutMs } = this.#options
    // A late answer could be taken for that of the next request: the lane ends with this one.
    this.#fail(lane, new ConnectionError('TIMEOUT', `${origin} did not answer within ${requestTimeoutMs} ms`))
  }

  /** Ends a lane, and with it the request it carries. */
  #fail(lane: Lane, error: ConnectionError): void {
    if (lane.closed) return
    const { exchange, opened } = lane
    if (!lane.connected) {
      this.#reconnectAtMs = performance.now() + this.#reconnectDelayMs
      this.#reconnectDelayMs = Math.min(RECONNECT_MAX_MS, this.#reconnectDelayMs * 2)
    }
    this.#drop(lane)
    opened?.(error)
    exchange?.failed(error, true)
  }

  readonly #openedForWaiting = (error?: ConnectionError): void => {
    if (error?.code !== 'CONNECT_FAILED') return
    // Lanes that are still up will serve those who wait; without any, waiting out the limit would help nobody.
    for (const lane of this.#lanes) if (lane.connected) return
    for (const waiting of this.#waiting.splice(0)) {
      clearTimeout(waiting.timer)
      waiting.exchange.failed(error, false)
    }
  }

  #drop(lane: Lane): void {
    lane.closed = true
    clearTimeout(lane.timer)
    lane.exchange = undefined
    lane.parser = undefined
    lane.opened = undefined
    this.#lanes.delete(lane)
    const index = this.#idle.indexOf(lane)
    if (index >= 0) this.#idle.splice(index, 1)
    lane.socket.destroy()
    if (this.#stopped) {
      if (this.#lanes.size === 0) this.#allGone?.()
    } else if (lane.connected && this.#waiting.length > 0) {
      this.#open(this.#openedForWaiting)
    }
  }

  #startUpkeep(): void {
    if (this.#upkeep !== undefined || this.#stopped) return
    this.#upkeep = setInterval(() => this.#keepUp(), UPKEEP_MS)
    this.#upkeep.unref()
  }

  /** Replaces lanes that ended and refreshes the one that has been idle longest; one of each a round, so they spread. */
  #keepUp(): void {
    const nowMs = performance.now()
    const missing = this.#lanes.size < this.#wanted || (this.#waiting.length > 0 && this.#lanes.size === 0)
    if (missing && nowMs >= this.#reconnectAtMs) this.#open(this.#openedForWaiting)
    const lane = this.#idle[0]
    if (lane === undefined || nowMs - lane.usedAtMs < lane.refreshMs) return
    this.#idle.shift()
    this.#refresh(lane)
  }
}

function ignore(): void {}
