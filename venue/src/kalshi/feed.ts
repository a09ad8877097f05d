/**
 * The feed: one authenticated WebSocket, its subscriptions, and the promise that a book is either complete or known to
 * be suspect.
 *
 * For each message the handlers are called in this order, synchronously:
 * 1. `onMessage(text, receivedAtMs)`: before parsing
 * 2. `onSuspect(tickers, reason)`: only when the message shows that something was lost
 * 3. `onEvent(message, receivedAtMs, decodedAtMs)`: parsed and validated
 * 4. `onReady()`: only when the message completed the subscriptions and the last missing book
 *
 * A book named by `onSuspect` is whole again with its next `orderbook_snapshot` event; deltas in between are passed on
 * but mean nothing. After a gap the feed asks for snapshots itself; after a lost connection, an ended subscription or
 * silence it reconnects or resubscribes, with growing, jittered delays, until stopped. Private channels have no
 * sequence numbers: the caller reconciles by REST at each `onReady`.
 *
 * Both instants are `performance.now()`. `receivedAtMs` is when the first byte of the frame was read from the socket
 * (`arrival.ts`).
 */
import type { ClientRequest, IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { WebSocket } from 'ws'
import { Arrivals } from './arrival.ts'
import { ConnectionError, parseErrorBody, quote, venueUserError, WireError } from './error.ts'
import { type Channel, encodeCommand, FEED_ERROR, type FeedError, type FeedMessage, parseMessage } from './message.ts'
import { Sequences } from './sequence.ts'
import type { Signer } from './sign.ts'
import { FEED_PATH } from './url.ts'

export interface FeedOptions {
  /** `ws://…` or `wss://…`, see `resolveEnvironment`. */
  readonly origin: string
  readonly signer: Signer
  /** Markets of the market-data channels; private channels always cover the whole account. */
  readonly marketTickers: readonly string[]
  readonly channels?: readonly Channel[]
  /**
   * Whether NO levels come at YES prices. Sent explicitly either way, because the venue's default is going to flip.
   * Off by default: both sides are then bids at their own price, as in REST books and in recordings.
   */
  readonly useYesPrice?: boolean
  /** Certificate authority for `wss`, PEM; the system's when absent. */
  readonly ca?: string
  /** Without a byte for this long the connection is taken for dead; the venue pings every 10 s. */
  readonly silenceMs?: number
  readonly connectTimeoutMs?: number
  /** From a command to what it asked for: acknowledgements and snapshots. */
  readonly replyTimeoutMs?: number
  /** Bound of the first delay; each further attempt doubles it, and the delay is drawn between 0 and the bound. */
  readonly reconnectMinMs?: number
  readonly reconnectMaxMs?: number
  /** 0 … 1, for the jitter. */
  readonly random?: () => number
}

const DEFAULTS = {
  silenceMs: 30_000,
  connectTimeoutMs: 10_000,
  replyTimeoutMs: 10_000,
  reconnectMinMs: 250,
  reconnectMaxMs: 30_000,
} as const

const DEFAULT_CHANNELS: readonly Channel[] = ['orderbook_delta', 'ticker', 'trade', 'fill', 'user_orders']

/** Channels that are about markets and take tickers. */
const MARKET_CHANNELS: readonly string[] = ['orderbook_delta', 'ticker', 'trade']

/** Longest message, bytes: a book with every price of both sides taken is half a megabyte. */
const MESSAGE_MAX_BYTES = 8 * 1024 * 1024

/** Text of a refused upgrade that is read, bytes. */
const REFUSAL_MAX_BYTES = 64 * 1024

/** Repairs (snapshots asked for, channels resubscribed) in one window before a fresh connection is tried instead. */
const REPAIRS_MAX = 10
const REPAIR_WINDOW_MS = 10_000

/** A connection that was ready this long was a good one: the next delays start small again. */
const STEADY_MS = 10_000

/** The watchdog looks this many times in the shortest of its limits. */
const WATCHES = 4
const WATCH_MAX_MS = 1_000

/** How long the venue may take to answer our close. */
const CLOSE_MS = 1_000

export interface FeedHandlers {
  onMessage?(text: string, receivedAtMs: number): void
  onEvent(message: FeedMessage, receivedAtMs: number, decodedAtMs: number): void
  onSuspect?(marketTickers: readonly string[], reason: string): void
  /** Subscribed to everything, every book delivered; again after each reconnect. */
  onReady?(): void
  /** Every book is suspect from here to the next `onReady`. */
  onDisconnect?(error: Error, retryInMs: number): void
}

export interface FeedStats {
  readonly messages: number
  /** Messages of a type this client does not read. */
  readonly unknown: number
  readonly malformed: number
  /** Breaks in a sequence. */
  readonly gaps: number
  /** Snapshots asked for and channels resubscribed after a gap or an ended subscription. */
  readonly repairs: number
  readonly reconnects: number
}

export interface Feed {
  readonly useYesPrice: boolean
  readonly stats: FeedStats
  /**
   * Connects; resolves when ready for the first time.
   *
   * @throws UserError when the first connection is refused or lost before it was ready; later ones are retried
   * @throws ConnectionError `STOPPED` when `stop` came first
   */
  start(): Promise<void>
  /** Closes the connection; no handler is called afterwards. */
  stop(): Promise<void>
}

/** @throws RangeError when an option is out of range */
export function createFeed(options: FeedOptions, handlers: FeedHandlers): Feed {
  return new FeedClient(options, handlers)
}

/** What belongs to one connection and dies with it. */
class Session {
  readonly socket: WebSocket
  readonly arrivals = new Arrivals()
  readonly sequences = new Sequences()
  readonly channelBySid = new Map<number, string>()
  /** Commands by id, in words, while their answer may still be an error. */
  readonly commands = new Map<number, string>()
  /** Channels without their `subscribed`, and books without their snapshot: since when, ms. */
  readonly unacknowledged = new Map<string, number>()
  readonly missingBooks = new Map<string, number>()
  nextId = 1
  stream: Duplex | undefined
  /** Bytes noted already that the stream has yet to hand out. */
  headBytes = 0
  lastByteAtMs = performance.now()
  openedAtMs: number | undefined
  readyAtMs: number | undefined
  repairs = 0
  repairWindowAtMs = 0
  /** Why it ended; the first reason counts. */
  reason: Error | undefined

  constructor(socket: WebSocket) {
    this.socket = socket
  }

  /** Hot path: every read of the socket. */
  noteRead(chunk: Buffer): void {
    const known = Math.min(this.headBytes, chunk.length)
    this.headBytes -= known
    if (known === chunk.length) return
    this.lastByteAtMs = performance.now()
    this.arrivals.note(known === 0 ? chunk : chunk.subarray(known), this.lastByteAtMs)
  }
}

class FeedClient implements Feed {
  readonly useYesPrice: boolean
  readonly stats = { messages: 0, unknown: 0, malformed: 0, gaps: 0, repairs: 0, reconnects: 0 }
  readonly #options: FeedOptions & { readonly [name in keyof typeof DEFAULTS]: number }
  readonly #handlers: FeedHandlers
  readonly #channels: readonly Channel[]
  readonly #url: string
  #session: Session | undefined
  #watchdog: NodeJS.Timeout | undefined
  #retry: NodeJS.Timeout | undefined
  /** Connections in a row that were not steady. */
  #failures = 0
  #stopped = false
  /** Of `start()`, until settled. */
  #starting: { resolve: () => void; reject: (error: unknown) => void } | undefined

  constructor(options: FeedOptions, handlers: FeedHandlers) {
    this.#options = { ...DEFAULTS, ...options }
    for (const name of Object.keys(DEFAULTS) as (keyof typeof DEFAULTS)[]) {
      const value = this.#options[name]
      if (!Number.isFinite(value) || value <= 0) throw new RangeError(`${name} must be above 0, not ${value}`)
    }
    this.#handlers = handlers
    this.#channels = options.channels ?? DEFAULT_CHANNELS
    if (this.#channels.includes('orderbook_delta') && options.marketTickers.length === 0)
      throw new RangeError('the book channel needs at least one market ticker')
    this.useYesPrice = options.useYesPrice ?? false
    this.#url = options.origin + FEED_PATH
  }

  start(): Promise<void> {
    if (this.#session !== undefined || this.#retry !== undefined || this.#stopped)
      throw new Error('a feed starts only once')
    const { silenceMs, replyTimeoutMs } = this.#options
    const started = new Promise<void>((resolve, reject) => {
      this.#starting = { resolve, reject }
    })
    this.#watchdog = setInterval(
      // After a stall of our own, bytes may already wait in the kernel: let the loop read them before judging.
      () => setImmediate(() => this.#watch()),
      Math.min(WATCH_MAX_MS, Math.ceil(Math.min(silenceMs, replyTimeoutMs) / WATCHES)),
    )
    this.#connect()
    return started
  }

  async stop(): Promise<void> {
    if (this.#stopped) return
    this.#stopped = true
    clearInterval(this.#watchdog)
    clearTimeout(this.#retry)
    this.#starting?.reject(new ConnectionError('STOPPED', 'the feed was stopped before it was ready'))
    this.#starting = undefined
    const socket = this.#session?.socket
    this.#session = undefined
    if (socket === undefined || socket.readyState === WebSocket.CLOSED) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => socket.terminate(), CLOSE_MS)
      socket.once('close', () => {
        clearTimeout(timer)
        resolve()
      })
      socket.close(1000)
    })
  }

  #connect(): void {
    const { signer, ca, connectTimeoutMs } = this.#options
    const socket = new WebSocket(this.#url, {
      headers: signer.headers('GET', FEED_PATH),
      perMessageDeflate: false,
      maxPayload: MESSAGE_MAX_BYTES,
      handshakeTimeout: connectTimeoutMs,
      ...(ca === undefined ? {} : { ca }),
      finishRequest: (request) => {
        request.prependListener('upgrade', (_response: IncomingMessage, stream: Duplex, head: Buffer) => {
          const atMs = performance.now()
          session.lastByteAtMs = atMs
          session.stream = stream
          // Bytes that came in one read with the end of the answer; the stream hands them out once more.
          session.headBytes = head.length
          session.arrivals.note(head, atMs)
        })
        request.end()
      },
    })
    const session = new Session(socket)
    this.#session = session
    socket.on('open', () => {
      // First in line, and before the stream flows: reads are noted before the library sees them.
      session.stream?.prependListener('data', (chunk: Buffer) => session.noteRead(chunk))
      if (session === this.#session) this.#opened(session)
    })
    socket.on('message', (data: Buffer, isBinary: boolean) => {
      if (session === this.#session) this.#receive(session, data, isBinary)
    })
    socket.on('unexpected-response', (request, response) => this.#refused(session, request, response))
    socket.on('error', (error: NodeJS.ErrnoException) => {
      session.reason ??= connectError(error, this.#url, session.openedAtMs !== undefined)
    })
    socket.on('close', (code: number, reason: Buffer) => {
      if (session !== this.#session) return
      const words = reason.length === 0 ? '' : ` ${quote(reason.toString())}`
      session.reason ??= new ConnectionError('CONNECTION_LOST', `${this.#url} closed the feed: ${code}${words}`)
      this.#ended(session, session.reason)
    })
  }

  #opened(session: Session): void {
    session.openedAtMs = performance.now()
    const market = this.#channels.filter((channel) => MARKET_CHANNELS.includes(channel))
    const account = this.#channels.filter((channel) => !MARKET_CHANNELS.includes(channel))
    if (market.length > 0) this.#subscribe(session, market)
    if (account.length > 0) this.#subscribe(session, account)
  }

  #subscribe(session: Session, channels: readonly string[]): void {
    const atMs = performance.now()
    for (const channel of channels) session.unacknowledged.set(channel, atMs)
    const ofMarkets = channels.some((channel) => MARKET_CHANNELS.includes(channel))
    const ofBooks = channels.includes('orderbook_delta')
    if (ofBooks) for (const ticker of this.#options.marketTickers) session.missingBooks.set(ticker, atMs)
    const id = session.nextId++
    session.commands.set(id, `subscribe to ${channels.join(', ')}`)
    session.socket.send(
      encodeCommand({
        id,
        cmd: 'subscribe',
        channels,
        marketTickers: ofMarkets ? this.#options.marketTickers : [],
        useYesPrice: ofBooks ? this.useYesPrice : undefined,
      }),
    )
  }

  /** Hot path: every message of the feed. */
  #receive(session: Session, data: Buffer, isBinary: boolean): void {
    const receivedAtMs = session.arrivals.take()
    const text = data.toString('utf8')
    this.#handlers.onMessage?.(text, receivedAtMs)
    const message: FeedMessage = isBinary
      ? { type: 'malformed', error: new WireError('the message is binary') }
      : parseMessage(text)
    const decodedAtMs = performance.now()
    this.stats.messages++
    this.#checkSequence(session, message)
    this.#handlers.onEvent(message, receivedAtMs, decodedAtMs)
    if (message.type !== 'orderbook_delta' && session === this.#session) this.#follow(session, message)
  }

  #checkSequence(session: Session, message: FeedMessage): void {
    const { sid, seq } = message as { readonly sid?: number | undefined; readonly seq?: number | undefined }
    const whole = sid === undefined || seq === undefined || session.sequences.accept(sid, seq)
    if (!whole) this.stats.gaps++
    if (message.type === 'malformed') {
      this.stats.malformed++
      // What it would have changed is lost. Without a sid it may have been any book.
      for (const [known, channel] of session.channelBySid)
        if (channel === 'orderbook_delta' && (sid === undefined || sid === known))
          this.#repairBooks(session, known, message.error.message)
      return
    }
    if (whole || sid === undefined) return
    if (
      message.type === 'orderbook_delta' ||
      message.type === 'orderbook_snapshot' ||
      session.channelBySid.get(sid) === 'orderbook_delta'
    )
      this.#repairBooks(session, sid, `gap in the sequence of sid ${sid} before ${seq}`)
  }

  /** What a message means for the subscriptions. */
  #follow(session: Session, message: FeedMessage): void {
    switch (message.type) {
      case 'orderbook_snapshot':
        session.missingBooks.delete(message.marketTicker)
        this.#checkReady(session)
        return
      case 'subscribed':
        session.channelBySid.set(message.sid, message.channel)
        session.unacknowledged.delete(message.channel)
        this.#checkReady(session)
        return
      case 'error':
        this.#followError(session, message)
        return
      case 'unknown':
        this.stats.unknown++
        return
    }
  }

  #followError(session: Session, error: FeedError): void {
    const words = `error ${error.code} ${quote(error.message)}`
    const ends = error.code === FEED_ERROR.bufferOverflow || error.code === FEED_ERROR.channelFailure
    const command = session.commands.get(error.id)
    if (command !== undefined && !ends) {
      this.#end(session, new ConnectionError('REFUSED', `${this.#url} refused to ${command}: ${words}`))
      return
    }
    if (!ends) return
    const channel = error.sid === undefined ? undefined : session.channelBySid.get(error.sid)
    if (error.sid === undefined || channel === undefined) {
      this.#end(session, new ConnectionError('CONNECTION_LOST', `${this.#url} ended a subscription: ${words}`))
      return
    }
    session.channelBySid.delete(error.sid)
    session.sequences.forget(error.sid)
    if (channel === 'orderbook_delta') this.#suspect(`${words} ended the book channel`)
    if (this.#mayRepair(session)) this.#subscribe(session, [channel])
  }

  #checkReady(session: Session): void {
    if (session.unacknowledged.size > 0 || session.missingBooks.size > 0) return
    session.commands.clear()
    if (session.readyAtMs !== undefined) return
    session.readyAtMs = performance.now()
    this.#starting?.resolve()
    this.#starting = undefined
    this.#handlers.onReady?.()
  }

  #repairBooks(session: Session, sid: number, reason: string): void {
    this.#suspect(reason)
    if (!this.#mayRepair(session)) return
    const atMs = performance.now()
    const { marketTickers } = this.#options
    for (const ticker of marketTickers) session.missingBooks.set(ticker, atMs)
    const id = session.nextId++
    session.commands.set(id, 'send snapshots')
    session.socket.send(encodeCommand({ id, cmd: 'update_subscription', sid, action: 'get_snapshot', marketTickers }))
  }

  #suspect(reason: string): void {
    this.#handlers.onSuspect?.(this.#options.marketTickers, reason)
  }

  /** Counts a repair; too many in a window end the session instead. */
  #mayRepair(session: Session): boolean {
    if (session !== this.#session || session.reason !== undefined) return false
    const atMs = performance.now()
    if (atMs - session.repairWindowAtMs > REPAIR_WINDOW_MS) {
      session.repairWindowAtMs = atMs
      session.repairs = 0
    }
    if (++session.repairs > REPAIRS_MAX) {
      const reason = `${this.#url} lost more than ${REPAIRS_MAX} messages or subscriptions within ${REPAIR_WINDOW_MS} ms`
      this.#end(session, new ConnectionError('CONNECTION_LOST', reason))
      return false
    }
    this.stats.repairs++
    return true
  }

  #watch(): void {
    const session = this.#session
    if (session === undefined || session.openedAtMs === undefined) return
    const { silenceMs, replyTimeoutMs } = this.#options
    const atMs = performance.now()
    if (atMs - session.lastByteAtMs > silenceMs) {
      this.#end(session, new ConnectionError('TIMEOUT', `${this.#url} sent nothing for ${silenceMs} ms`))
      return
    }
    for (const [channel, sinceMs] of session.unacknowledged)
      if (atMs - sinceMs > replyTimeoutMs) {
        const reason = `${this.#url} did not acknowledge channel ${channel} within ${replyTimeoutMs} ms`
        this.#end(session, new ConnectionError('TIMEOUT', reason))
        return
      }
    for (const [ticker, sinceMs] of session.missingBooks)
      if (atMs - sinceMs > replyTimeoutMs) {
        const reason = `${this.#url} sent no book of ${quote(ticker)} within ${replyTimeoutMs} ms`
        this.#end(session, new ConnectionError('TIMEOUT', reason))
        return
      }
  }

  /** The upgrade was answered with something else; its body says why. */
  #refused(session: Session, request: ClientRequest, response: IncomingMessage): void {
    const status = response.statusCode ?? 0
    let body = ''
    const settle = () => {
      this.#end(session, parseErrorBody(status, body))
      request.destroy()
    }
    response.setEncoding('utf8')
    response.on('data', (text: string) => {
      body += text
      if (body.length > REFUSAL_MAX_BYTES) settle()
    })
    response.on('end', settle)
    response.on('error', settle)
  }

  /** Ends a session from our side. */
  #end(session: Session, reason: Error): void {
    session.reason ??= reason
    session.socket.terminate()
  }

  #ended(session: Session, reason: Error): void {
    this.#session = undefined
    if (this.#starting !== undefined) {
      const { reject } = this.#starting
      this.#starting = undefined
      this.#stopped = true
      clearInterval(this.#watchdog)
      reject(venueUserError(reason, `opening the feed at ${this.#url}`))
      return
    }
    const { reconnectMinMs, reconnectMaxMs, random = Math.random } = this.#options
    const steady = session.readyAtMs !== undefined && performance.now() - session.readyAtMs > STEADY_MS
    this.#failures = steady ? 1 : this.#failures + 1
    const boundMs = Math.min(reconnectMaxMs, reconnectMinMs * 2 ** (this.#failures - 1))
    const delayMs = random() * boundMs
    this.stats.reconnects++
    this.#retry = setTimeout(() => {
      this.#retry = undefined
      this.#connect()
    }, delayMs)
    this.#suspect(reason.message)
    this.#handlers.onDisconnect?.(reason, delayMs)
  }
}

function connectError(error: NodeJS.ErrnoException, url: string, opened: boolean): ConnectionError {
  const reason = error.code ?? error.message
  return opened
    ? new ConnectionError('CONNECTION_LOST', `the feed at ${url} was lost: ${reason}`, { cause: error })
    : new ConnectionError('CONNECT_FAILED', `cannot connect to ${url}: ${reason}`, { cause: error })
}
