/** What several tests of the simulator need: a simulator on a real port, and clients that speak to it raw. */
import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { Agent, type IncomingHttpHeaders, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ClientOptions, WebSocket } from 'ws'
import { createSigner, type Signer } from '../../src/kalshi/sign.ts'
import { Account } from '../../src/sim/account.ts'
import { epochMs } from '../../src/sim/clock.ts'
import type { Engine, EngineMarket, MarketSpec, OrderRequest } from '../../src/sim/engine.ts'
import { parseFault } from '../../src/sim/fault.ts'
import type { Feed } from '../../src/sim/feed.ts'
import type { Flow } from '../../src/sim/flow.ts'
import { TIERS } from '../../src/sim/ratelimit.ts'
import { type FlowContext, Simulator, type SimulatorOptions } from '../../src/sim/simulator.ts'

/** Longest wait for anything that must come. */
export const DEADLINE_MS = 5_000

/** A whole-cent market on shard 2. */
export function marketSpec(ticker: string, options: Partial<MarketSpec> = {}): MarketSpec {
  return {
    ticker,
    marketId: `market-${ticker}`,
    eventTicker: 'E',
    seriesTicker: 'S',
    title: ticker,
    priceLevelStructure: 'linear_cent',
    priceRanges: [{ startTicks: 0, endTicks: 10_000, stepTicks: 100 }],
    feeType: 'quadratic',
    exchangeIndex: 2,
    openAtMs: 0,
    closeAtMs: 4e12,
    ...options,
  }
}

const pem = (key: KeyObject, type: 'pkcs8' | 'spki') => key.export({ type: type as 'spki', format: 'pem' }).toString()

/** Keys are made once: RSA takes a while. */
function makeKey(keyId: string, type: 'ed25519' | 'rsa') {
  const { privateKey, publicKey } =
    type === 'rsa' ? generateKeyPairSync('rsa', { modulusLength: 2048 }) : generateKeyPairSync('ed25519')
  return { keyId, publicKey, publicKeyPem: pem(publicKey, 'spki'), privateKeyPem: pem(privateKey, 'pkcs8') }
}
export const KEYS = [makeKey('alice', 'ed25519'), makeKey('bob', 'rsa')] as const
export const SIGNERS: { readonly [keyId: string]: Signer } = Object.fromEntries(
  KEYS.map(({ keyId, privateKeyPem }) => [keyId, createSigner({ keyId, privateKeyPem })]),
)

/** Two markets in which nobody trades by himself. */
function stillFlow({ engine }: FlowContext): Flow {
  const tickers = ['T', 'U']
  for (const ticker of tickers) engine.addMarket(marketSpec(ticker))
  const nothing = () => {}
  return { tickers, start: nothing, pause: nothing, stop: nothing, stats: () => ({}), ended: new Promise(nothing) }
}

export interface RunningSimulator {
  readonly url: string
  readonly simulator: Simulator
  readonly engine: Engine
  readonly feed: Feed
  readonly market: EngineMarket
  /** An order of the exchange's own liquidity. */
  house(order: Pick<OrderRequest, 'side' | 'priceTicks' | 'count'> & Partial<OrderRequest>): void
  as(keyId: string): Client
  stop(): Promise<void>
}

/** With markets `T` and `U`, nobody trading in them, and every call taking 1 ms, unless told otherwise. */
export async function startSimulator(
  options: Partial<Omit<SimulatorOptions, 'faults'>> & { readonly faults?: readonly string[] } = {},
): Promise<RunningSimulator> {
  let engine!: Engine
  let feed!: Feed
  const { faults = [], createFlow = stillFlow, ...more } = options
  const simulator = new Simulator({
    keys: KEYS,
    seed: 1,
    tier: TIERS.find(({ name }) => name === 'prestige') as (typeof TIERS)[number],
    balanceMicros: 1_000e6,
    measuredMs: [1],
    readLagMs: 0,
    ...more,
    faults: faults.map(parseFault),
    createFlow: (context) => {
      engine = context.engine
      feed = context.feed
      return createFlow(context)
    },
  })
  const crowd = new Account({ id: 'house', userId: '', balanceMicros: 0, house: true })
  const url = await simulator.listen('127.0.0.1', 0)
  const clients: Client[] = []
  return {
    url,
    simulator,
    engine,
    feed,
    get market() {
      return engine.markets.get('T') as EngineMarket
    },
    house: (order) => {
      engine.create(
        crowd,
        { ticker: 'T', timeInForce: 'good_till_canceled', selfTradePrevention: 'taker_at_cross', ...order },
        epochMs(),
      )
    },
    as: (keyId) => {
      const client = new Client(url, SIGNERS[keyId] as Signer)
      clients.push(client)
      return client
    },
    stop: async () => {
      for (const client of clients) client.close()
      await simulator.stop()
    },
  }
}

export interface Reply {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  // biome-ignore lint/suspicious/noExplicitAny: answers are read as a client would read them
  readonly body: any
}

let orderCount = 0

/** A raw client of one key, over one connection. */
export class Client {
  readonly #url: string
  readonly #signer: Signer
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 })
  readonly #feeds: FeedClient[] = []

  constructor(url: string, signer: Signer) {
    this.#url = url
    this.#signer = signer
  }

  /** @param headers instead of the signed ones */
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Reply> {
    const full = path.startsWith('/sim/') ? path : `/trade-api/v2${path}`
    const text = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body)
    return new Promise((resolve, reject) => {
      const outgoing = request(
        `${this.#url}${full}`,
        {
          method,
          agent: this.#agent,
          timeout: DEADLINE_MS,
          headers: { ...(headers ?? this.#signer.headers(method, full)), 'content-type': 'application/json' },
        },
        (response) => {
          const chunks: Buffer[] = []
          response.on('data', (chunk) => chunks.push(chunk))
          response.on('end', () => {
            const answer = Buffer.concat(chunks).toString()
            const { statusCode: status = 0, headers: given } = response
            resolve({ status, headers: given, text: answer, body: answer && JSON.parse(answer) })
          })
        },
      )
      outgoing.on('timeout', () => outgoing.destroy(new Error(`${method} ${path}: no answer in ${DEADLINE_MS} ms`)))
      outgoing.on('error', reject)
      outgoing.end(text)
    })
  }

  get(path: string): Promise<Reply> {
    return this.call('GET', path)
  }

  /** A bid of one contract at 50 cents in market T, unless told otherwise. */
  order(fields: Record<string, unknown> = {}): Promise<Reply> {
    return this.call('POST', '/portfolio/events/orders', {
      ticker: 'T',
      side: 'bid',
      count: '1.00',
      price: '0.5000',
      time_in_force: 'good_till_canceled',
      self_trade_prevention_type: 'taker_at_cross',
      client_order_id: `${this.#signer.keyId}-${++orderCount}`,
      ...fields,
    })
  }

  cancel(orderId: string, query = 'exchange_index=2'): Promise<Reply> {
    return this.call('DELETE', `/portfolio/events/orders/${orderId}?${query}`)
  }

  async feed(options: ClientOptions = {}): Promise<FeedClient> {
    const feed = new FeedClient(this.#url, this.#signer.headers('GET', '/trade-api/ws/v2'), options)
    this.#feeds.push(feed)
    await feed.opened
    return feed
  }

  close(): void {
    this.#agent.destroy()
    for (const feed of this.#feeds) feed.socket.terminate()
  }
}

// biome-ignore lint/suspicious/noExplicitAny: messages are read as a client would read them
export type Message = any

/** A raw WebSocket: everything it heard, in order, and waiting for more. */
export class FeedClient {
  readonly socket: WebSocket
  readonly opened: Promise<void>
  readonly closed: Promise<{ readonly code: number }>
  readonly messages: Message[] = []
  readonly texts: string[] = []
  readonly pings: string[] = []
  #heard: () => void = () => {}

  constructor(url: string, headers: Record<string, string>, options: ClientOptions) {
    this.socket = new WebSocket(`${url.replace('http', 'ws')}/trade-api/ws/v2`, {
      headers,
      perMessageDeflate: false,
      ...options,
    })
    this.opened = new Promise((resolve, reject) => {
      this.socket.once('open', () => resolve())
      this.socket.once('error', reject)
    })
    this.closed = new Promise((resolve) => this.socket.once('close', (code) => resolve({ code })))
    this.socket.on('ping', (data) => this.pings.push(data.toString()))
    this.socket.on('message', (data) => {
      const text = data.toString()
      this.texts.push(text)
      this.messages.push(JSON.parse(text))
      this.#heard()
    })
  }

  send(command: unknown): void {
    this.socket.send(typeof command === 'string' ? command : JSON.stringify(command))
  }

  /** Waits until so many messages fit. @returns them */
  async wait(fits: (message: Message) => boolean, count = 1): Promise<Message[]> {
    const deadline = performance.now() + DEADLINE_MS
    for (;;) {
      const fitting = this.messages.filter(fits)
      if (fitting.length >= count) return fitting
      const leftMs = deadline - performance.now()
      if (leftMs <= 0) throw new Error(`${fitting.length} of ${count} messages came: ${this.texts.slice(-5).join('')}`)
      const heard = Promise.withResolvers<void>()
      this.#heard = heard.resolve
      const timer = setTimeout(heard.resolve, leftMs)
      await heard.promise
      clearTimeout(timer)
    }
  }

  /** Subscribes and waits for the reply and, of a book, the first snapshots. @returns the sid */
  async subscribe(channel: string, tickers?: string[], more: object = {}): Promise<number> {
    this.send({ id: 1, cmd: 'subscribe', params: { channels: [channel], market_tickers: tickers, ...more } })
    const [reply] = await this.wait(({ type, msg }) => type === 'subscribed' && msg.channel === channel)
    const { sid } = reply.msg
    if (channel === 'orderbook_delta')
      await this.wait((message) => message.type === 'orderbook_snapshot' && message.sid === sid, tickers?.length)
    return sid
  }
}

/** Polls until it holds. */
export async function until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not within ${DEADLINE_MS} ms: ${what}`)
    await sleep(5)
  }
}
