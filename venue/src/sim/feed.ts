/**
 * The WebSocket feed: subscriptions, sequence numbers, and the delay between the engine's event and its message.
 *
 * Everything that goes out, replies to commands included, passes one queue in the order it happened, each entry with
 * the instant it is due. So a snapshot taken from the engine when its command came stands in the queue exactly where
 * the deltas before it end and those after it begin, whatever the delay. The delay is drawn anew when the queue is
 * empty, or after 20 ms, and kept otherwise: bursts stay bursts.
 *
 * `seq` counts per subscription, over all its markets, snapshots, deltas, `ok` and `unsubscribed` alike; of the other
 * channels only `trade` has one.
 */
import type { WebSocket } from 'ws'
import { type FeedCommand, parseCommand } from '../kalshi/message.ts'
import type { BookSide } from '../kalshi/order.ts'
import type { Account } from './account.ts'
import type { Order } from './book.ts'
import { epochMs } from './clock.ts'
import type { EngineMarket, Fill, UpdateReason } from './engine.ts'
import type { LatencyModel } from './latency.ts'
import type { Counters, TickType } from './stats.ts'
import {
  deltaMsg,
  fillMsg,
  marketPositionMsg,
  type PublicTrade,
  snapshotMsg,
  tickerMsg,
  tradeMsg,
  userOrderMsg,
} from './wire.ts'

const CHANNELS = [
  'orderbook_delta',
  'ticker',
  'trade',
  'fill',
  'market_positions',
  'user_orders',
  'market_lifecycle_v2',
  'order_group_updates',
] as const
type Channel = (typeof CHANNELS)[number]

/** Channels whose messages carry `seq`. */
const SEQUENCED: readonly Channel[] = ['orderbook_delta', 'trade', 'market_lifecycle_v2', 'order_group_updates']
/** Channels that hear of every market, whatever the tickers named. */
const UNFILTERED: readonly Channel[] = ['market_lifecycle_v2', 'order_group_updates']

/** Limits of the venue: commands a second, markets of one session. */
const COMMANDS_PER_SECOND = 10_000
const MARKETS_MAX = 500_000

/** A client this far behind loses its subscriptions (error 25), bytes waiting in its socket. */
const SEND_BUFFER_MAX = 32 * 1024 * 1024

/** Entries due within this are sent too: timers count in whole ms and come late, never early. */
const SLACK_MS = 0.5
/** Longest that one drawn delay holds. */
const REDRAW_MS = 20

const ERRORS = {
  1: 'Unable to process message',
  2: 'Params required',
  3: 'Channels required',
  4: 'Subscription IDs required',
  5: 'Unknown command',
  7: 'Unknown subscription ID',
  8: 'Unknown channel name',
  11: 'Invalid parameter',
  12: 'Exactly one subscription ID is required',
  13: 'Unsupported action',
  14: 'Market Ticker required',
  15: 'Action required',
  25: 'Subscription buffer overflow',
  26: 'Subscription market limit exceeded',
  27: 'Too many requests',
} as const
type ErrorCode = keyof typeof ERRORS

type Command<C extends FeedCommand['cmd']> = Extract<FeedCommand, { readonly cmd: C }>

interface Subscription {
  readonly sid: number
  readonly channel: Channel
  /** Markets asked for; undefined hears all. */
  readonly tickers: Set<string> | undefined
  /** Of a book: markets whose first snapshot is out, so that deltas make sense. */
  readonly live: Set<string>
  readonly useYesPrice: boolean
  /** `subscribed` is out: messages may follow. */
  open: boolean
  /** Unsubscribed by command; messages end when the reply is out. */
  ending: boolean
  seq: number
  /** Numbered messages still to be lost by a fault. */
  toLose: number
  loseUntilMs: number
}

export class Connection {
  readonly socket: WebSocket
  readonly account: Account
  readonly counters: Counters
  readonly subscriptions = new Map<number, Subscription>()
  nextSid = 1
  commandSecond = 0
  commandCount = 0
  alive = true

  constructor(socket: WebSocket, account: Account, counters: Counters) {
    this.socket = socket
    this.account = account
    this.counters = counters
  }

  /** The subscription that a command for this channel is about. */
  of(channel: Channel): Subscription | undefined {
    for (const subscription of this.subscriptions.values())
      if (subscription.channel === channel && !subscription.ending) return subscription
    return undefined
  }
}

interface Entry {
  readonly dueMs: number
  readonly send: () => void
}

export interface FeedOptions {
  readonly markets: ReadonlyMap<string, EngineMarket>
  readonly latency: LatencyModel
  /** When an instant of `performance.now()` may be sent: later than it while the feed is stalled. */
  readonly heldUntilMs: (nowMs: number) => number
}

export class Feed {
  readonly connections = new Set<Connection>()
  readonly #options: FeedOptions
  #queue: Entry[] = []
  #head = 0
  #delayMs = 0
  #drawnAtMs = 0
  #timer: NodeJS.Timeout | undefined
  /** While set, book changes are not told one by one: a snapshot follows. */
  #mutedMarket: EngineMarket | undefined

  constructor(options: FeedOptions) {
    this.#options = options
  }

  /** Messages and replies not sent yet. */
  get queued(): number {
    return this.#queue.length - this.#head
  }

  /** Bytes waiting in the socket of the slowest client. */
  bufferedBytes(): number {
    let most = 0
    for (const { socket } of this.connections) most = Math.max(most, socket.bufferedAmount)
    return most
  }

  hasMarket(ticker: string): boolean {
    return this.#options.markets.has(ticker)
  }

  /** Looks anew at when the next message may go: the stall it waited for may be over. */
  wake(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#arm(performance.now())
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#queue = []
    this.#head = 0
  }

  // What the engine tells.

  level(market: EngineMarket, side: BookSide, priceTicks: number, delta: number, atMs: number, cause?: Order): void {
    if (market === this.#mutedMarket) return
    this.#enqueue(() => {
      let noPrice: string | undefined
      let yesPrice: string | undefined
      this.#each('orderbook_delta', market, (connection, subscription) => {
        if (!subscription.live.has(market.spec.ticker)) return
        let msg: string
        if (subscription.useYesPrice) msg = yesPrice ??= deltaMsg(market, side, priceTicks, delta, atMs, true)
        else msg = noPrice ??= deltaMsg(market, side, priceTicks, delta, atMs, false)
        if (cause?.clientOrderId !== undefined && cause.account === connection.account)
          msg += `,"client_order_id":${JSON.stringify(cause.clientOrderId)},"subaccount":0`
        this.#data(connection, subscription, 'orderbook_delta', msg)
      })
    })
  }

  fill(fill: Fill): void {
    const { account, market } = fill.order
    const msg = fillMsg(fill)
    const position = marketPositionMsg(account, account.position(market))
    this.#enqueue(() => {
      this.#eachOf(account, 'fill', market, (connection, subscription) =>
        this.#private(connection, subscription, 'fill', msg),
      )
      this.#eachOf(account, 'market_positions', market, (connection, subscription) =>
        this.#private(connection, subscription, 'market_position', position),
      )
    })
  }

  order(order: Order, reason?: UpdateReason): void {
    const { account, market } = order
    const msg = userOrderMsg(order, reason)
    this.#enqueue(() =>
      this.#eachOf(account, 'user_orders', market, (connection, subscription) =>
        this.#private(connection, subscription, 'user_order', msg),
      ),
    )
  }

  // What the flow tells.

  publicTrade(trade: PublicTrade): void {
    const { market } = trade
    this.#enqueue(() => {
      const msg = tradeMsg(trade)
      this.#each('trade', market, (connection, subscription) => this.#data(connection, subscription, 'trade', msg))
    })
  }

  /** @param msg inside of the message; by default the market as it is now */
  ticker(market: EngineMarket, atMs: number, msg = tickerMsg(market, atMs)): void {
    this.#enqueue(() =>
      this.#each('ticker', market, (connection, subscription) => this.#data(connection, subscription, 'ticker', msg)),
    )
  }

  /** Changes a whole book inside `change` and tells it as one snapshot. */
  replaceBook(market: EngineMarket, change: () => void): void {
    this.#mutedMarket = market
    change()
    this.#mutedMarket = undefined
    const ticker = market.spec.ticker
    const msg = { no: snapshotMsg(market, false), yes: snapshotMsg(market, true) }
    this.#enqueue(() =>
      this.#each('orderbook_delta', market, (connection, subscription) => {
        if (!subscription.live.has(ticker)) return
        this.#data(connection, subscription, 'orderbook_snapshot', subscription.useYesPrice ? msg.yes : msg.no)
      }),
    )
  }

  /** @param untilMs messages after this instant of `performance.now()` are not lost any more */
  loseMessages(count: number, untilMs: number): void {
    for (const { subscriptions } of this.connections) {
      for (const subscription of subscriptions.values()) {
        subscription.toLose = count
        subscription.loseUntilMs = untilMs
      }
    }
  }

  // What clients say.

  command(connection: Connection, text: string): void {
    const command = parseCommand(text)
    const { id } = command
    if (!this.#withinRate(connection)) {
      this.#error(connection, id, 27)
      return
    }
    switch (command.cmd) {
      case 'invalid':
        this.#error(connection, id, command.code as ErrorCode)
        return
      case 'list_subscriptions': {
        const list = [...connection.subscriptions.values()].map(({ channel, sid }) => ({ channel, sid }))
        this.#enqueue(() => this.#reply(connection, { type: 'ok', ...(id && { id }), msg: list }))
        return
      }
      case 'subscribe':
        this.#subscribe(connection, command)
        return
      case 'unsubscribe':
        for (const sid of command.sids) this.#unsubscribe(connection, id, sid)
        return
      case 'update_subscription':
        this.#update(connection, command)
    }
  }

  #subscribe(connection: Connection, command: Command<'subscribe'>): void {
    const { id, channels, marketTickers } = command
    for (const name of new Set(channels)) {
      const channel = CHANNELS.find((known) => known === name)
      if (channel === undefined) this.#error(connection, id, 8)
      else if (marketTickers.length === 0 || UNFILTERED.includes(channel)) {
        if (channel === 'orderbook_delta') this.#error(connection, id, 14)
        else this.#open(connection, channel, undefined, command)
      } else {
        const tickers = this.#known(connection, id, marketTickers)
        if (tickers.length > 0) this.#open(connection, channel, tickers, command)
      }
    }
  }

  /** A second subscription to a channel adds its markets to the first one. */
  #open(
    connection: Connection,
    channel: Channel,
    tickers: readonly string[] | undefined,
    command: Command<'subscribe'>,
  ): void {
    const { id } = command
    const open = connection.of(channel)
    if (open) {
      if (open.tickers !== undefined && tickers !== undefined) this.#add(connection, id, open, tickers)
      else this.#ok(connection, id, open)
      return
    }
    const subscription: Subscription = {
      sid: connection.nextSid++,
      channel,
      tickers: tickers && new Set(tickers),
      live: new Set(),
      useYesPrice: command.useYesPrice ?? false,
      open: false,
      ending: false,
      seq: 0,
      toLose: 0,
      loseUntilMs: 0,
    }
    connection.subscriptions.set(subscription.sid, subscription)
    const msg = { channel, sid: subscription.sid }
    this.#enqueue(() => {
      subscription.open = true
      this.#reply(connection, { type: 'subscribed', ...(id && { id }), msg })
    })
    if (channel === 'orderbook_delta')
      for (const ticker of tickers ?? []) this.#snapshot(connection, subscription, ticker)
    if (channel === 'ticker' && command.sendInitialSnapshot) {
      for (const ticker of tickers ?? this.#options.markets.keys()) {
        const tickerText = tickerMsg(this.#options.markets.get(ticker) as EngineMarket, epochMs())
        this.#enqueue(() => this.#data(connection, subscription, 'ticker', tickerText))
      }
    }
  }

  #unsubscribe(connection: Connection, id: number, sid: number): void {
    const subscription = connection.subscriptions.get(sid)
    if (subscription === undefined || subscription.ending) {
      this.#error(connection, id, 7)
      return
    }
    subscription.ending = true
    this.#enqueue(() => {
      if (!connection.subscriptions.delete(sid)) return
      this.#reply(connection, { type: 'unsubscribed', ...(id && { id }), sid, seq: ++subscription.seq })
    })
  }

  #update(connection: Connection, { id, sid, action, marketTickers }: Command<'update_subscription'>): void {
    const subscription = connection.subscriptions.get(sid)
    if (subscription === undefined || subscription.ending) {
      this.#error(connection, id, 7)
      return
    }
    if (marketTickers.length === 0) {
      this.#error(connection, id, 14, subscription)
      return
    }
    if (action === 'get_snapshot') {
      if (subscription.channel !== 'orderbook_delta') this.#error(connection, id, 13, subscription)
      else
        for (const ticker of this.#known(connection, id, marketTickers))
          this.#snapshot(connection, subscription, ticker, id)
      return
    }
    const { tickers } = subscription
    if (tickers === undefined) this.#ok(connection, id, subscription)
    else if (action === 'add_markets')
      this.#add(connection, id, subscription, this.#known(connection, id, marketTickers))
    else {
      for (const ticker of marketTickers) tickers.delete(ticker)
      this.#enqueue(() => {
        for (const ticker of marketTickers) subscription.live.delete(ticker)
      })
      this.#ok(connection, id, subscription)
    }
  }

  #add(connection: Connection, id: number, subscription: Subscription, tickers: readonly string[]): void {
    const wanted = subscription.tickers as Set<string>
    const fresh = tickers.filter((ticker) => !wanted.has(ticker))
    if (wanted.size + fresh.length > MARKETS_MAX) {
      this.#error(connection, id, 26, subscription)
      return
    }
    for (const ticker of fresh) wanted.add(ticker)
    this.#ok(connection, id, subscription)
    if (subscription.channel === 'orderbook_delta')
      for (const ticker of fresh) this.#snapshot(connection, subscription, ticker)
  }

  #ok(connection: Connection, id: number, subscription: Subscription): void {
    const msg = { market_tickers: [...(subscription.tickers ?? [])].sort() }
    this.#enqueue(() => {
      const { sid, channel } = subscription
      const seq = SEQUENCED.includes(channel) ? { seq: ++subscription.seq } : {}
      this.#reply(connection, { type: 'ok', ...(id && { id }), sid, ...seq, msg })
    })
  }

  /** The book as it is now; from there on its deltas make sense. A requested one repeats the command's id. */
  #snapshot(connection: Connection, subscription: Subscription, ticker: string, id?: number): void {
    const msg = snapshotMsg(this.#options.markets.get(ticker) as EngineMarket, subscription.useYesPrice)
    this.#enqueue(() => {
      // A requested snapshot leaves the subscription as it is.
      if (id === undefined && subscription.tickers?.has(ticker)) subscription.live.add(ticker)
      this.#write(connection, subscription, 'orderbook_snapshot', msg, id)
    })
  }

  /** Tickers that exist; the others are answered with an error each. */
  #known(connection: Connection, id: number, named: readonly string[]): string[] {
    return [...new Set(named)].filter((ticker) => {
      if (this.#options.markets.has(ticker)) return true
      this.#error(connection, id, 11, undefined, ticker)
      return false
    })
  }

  #withinRate(connection: Connection): boolean {
    const second = Math.floor(performance.now() / 1000)
    if (second !== connection.commandSecond) {
      connection.commandSecond = second
      connection.commandCount = 0
    }
    return ++connection.commandCount <= COMMANDS_PER_SECOND
  }

  // What goes out.

  #error(connection: Connection, id: number, code: ErrorCode, subscription?: Subscription, ticker?: string): void {
    this.#enqueue(() => {
      const tied = subscription && SEQUENCED.includes(subscription.channel)
      this.#reply(connection, {
        type: 'error',
        ...(id && { id }),
        ...(subscription && { sid: subscription.sid }),
        ...(tied && { seq: ++subscription.seq }),
        msg: { code, msg: ERRORS[code], ...(ticker !== undefined && { market_ticker: ticker }) },
      })
    })
  }

  #reply(connection: Connection, reply: object): void {
    const { socket } = connection
    if (socket.readyState === socket.OPEN) socket.send(`${JSON.stringify(reply)}\n`)
  }

  /** A message of the market; with a number, it can be lost. */
  #data(connection: Connection, subscription: Subscription, type: TickType, msg: string): void {
    const lost = subscription.toLose > 0 && SEQUENCED.includes(subscription.channel)
    if (lost && performance.now() < subscription.loseUntilMs) {
      subscription.toLose--
      subscription.seq++
      return
    }
    this.#write(connection, subscription, type, msg)
  }

  #write(connection: Connection, subscription: Subscription, type: TickType, msg: string, id?: number): void {
    if (!this.#writable(connection, subscription)) return
    const { sid, channel } = subscription
    const idPart = id ? `,"id":${id}` : ''
    const seqPart = SEQUENCED.includes(channel) ? `,"seq":${++subscription.seq}` : ''
    connection.socket.send(`{"type":"${type}"${idPart},"sid":${sid}${seqPart},"msg":{${msg}}}\n`)
    connection.counters.ticks[type]++
  }

  #private(connection: Connection, subscription: Subscription, type: string, msg: string): void {
    if (!this.#writable(connection, subscription)) return
    connection.socket.send(`{"type":"${type}","sid":${subscription.sid},"msg":{${msg}}}\n`)
  }

  /** Whether the socket takes more; a client too far behind loses the subscription. */
  #writable(connection: Connection, subscription: Subscription): boolean {
    const { socket } = connection
    if (socket.readyState !== socket.OPEN || !connection.subscriptions.has(subscription.sid)) return false
    if (socket.bufferedAmount <= SEND_BUFFER_MAX) return true
    connection.subscriptions.delete(subscription.sid)
    const { sid } = subscription
    this.#reply(connection, { type: 'error', sid, seq: ++subscription.seq, msg: { code: 25, msg: ERRORS[25] } })
    return false
  }

  #each(
    channel: Channel,
    market: EngineMarket,
    visit: (connection: Connection, subscription: Subscription) => void,
  ): void {
    const { ticker } = market.spec
    for (const connection of this.connections) {
      for (const subscription of connection.subscriptions.values()) {
        if (subscription.channel !== channel || !subscription.open) continue
        if (subscription.tickers === undefined || subscription.tickers.has(ticker)) visit(connection, subscription)
      }
    }
  }

  #eachOf(
    account: Account,
    channel: Channel,
    market: EngineMarket,
    visit: (connection: Connection, subscription: Subscription) => void,
  ): void {
    this.#each(channel, market, (connection, subscription) => {
      if (connection.account === account) visit(connection, subscription)
    })
  }

  #enqueue(send: () => void): void {
    const nowMs = performance.now()
    const last = this.#queue[this.#queue.length - 1]
    if (last === undefined || nowMs > this.#drawnAtMs + REDRAW_MS) {
      this.#delayMs = this.#options.latency.feedMs()
      this.#drawnAtMs = nowMs
    }
    this.#queue.push({ dueMs: Math.max(last?.dueMs ?? 0, nowMs + this.#delayMs), send })
    if (this.#timer === undefined) this.#arm(nowMs)
  }

  #arm(nowMs: number): void {
    const first = this.#queue[this.#head]
    if (first === undefined) return
    const atMs = Math.max(first.dueMs, this.#options.heldUntilMs(nowMs))
    this.#timer = setTimeout(this.#drain, Math.max(0, Math.floor(atMs - nowMs)))
  }

  #drain = () => {
    this.#timer = undefined
    const nowMs = performance.now()
    if (this.#options.heldUntilMs(nowMs) <= nowMs) {
      for (;;) {
        const entry = this.#queue[this.#head]
        if (entry === undefined || entry.dueMs > nowMs + SLACK_MS) break
        this.#head++
        entry.send()
      }
      if (this.#head === this.#queue.length) {
        this.#queue = []
        this.#head = 0
      } else if (this.#head > 4096) {
        this.#queue.splice(0, this.#head)
        this.#head = 0
      }
    }
    if (this.#timer === undefined) this.#arm(nowMs)
  }
}
