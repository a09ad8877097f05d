/**
 * The REST client. Orders and cancels go over lanes of their own (`lane.ts`); reads over an undici pool, so that a
 * slow list never delays an order.
 *
 * Creates and cancels settle, they do not reject: a `CallResult` says whether the venue applied it, refused it, or
 * nobody knows (`ambiguous`), in which case the caller looks the order up by its `client_order_id`. Nothing is ever
 * retried here. Reads reject with `VenueError`, `ConnectionError` or `WireError`.
 *
 * Instants of a create or cancel are told through callbacks, as `performance.now()`:
 * - `encoded`: serialised and signed
 * - `sent`: the write to the socket returned, so the bytes are with the kernel. When a lane was idle this is before
 *   `createOrder` returns
 * - `acked`: head and body of the answer were read, not yet parsed. A refusal is an answer too
 */
import { Pool } from 'undici'
import { ConnectionError, parseErrorBody, type VenueError, WireError } from './error.ts'
import { asObject, parseJson } from './json.ts'
import { type Exchange, Lanes } from './lane.ts'
import {
  type AccountLimits,
  type Balance,
  type ExchangeStatus,
  type Market,
  parseAccountLimits,
  parseBalance,
  parseExchangeStatus,
  parseMarket,
  parseRestBook,
  type RestBook,
} from './market.ts'
import {
  type CancelOrder,
  type CancelOrderResult,
  type CreateOrder,
  type CreateOrderResult,
  encodeCreateOrder,
  type Fill,
  type Order,
  type OrderStatus,
  type Page,
  type Position,
  parseCancelOrderResult,
  parseCreateOrderResult,
  parseFill,
  parseOrder,
  parsePage,
  parsePosition,
} from './order.ts'
import { AUTH_HEADERS, type Signer } from './sign.ts'
import { REST_BASE_PATH } from './url.ts'

/** What became of a create or a cancel. */
export type CallResult<T> =
  | { readonly outcome: 'ok'; readonly value: T }
  /** The venue refused; nothing was applied. */
  | { readonly outcome: 'rejected'; readonly error: VenueError; readonly ambiguous: false }
  /**
   * A failing server, a lost connection, an unreadable answer (`error`), or no answer in time (`timeout`). When
   * `ambiguous`, the venue may have applied it.
   */
  | {
      readonly outcome: 'error' | 'timeout'
      readonly error: VenueError | ConnectionError | WireError
      readonly ambiguous: boolean
    }

/** Told the instants of calls; one object serves every call, `token` tells them apart. They must not throw. */
export interface CallInstants {
  encoded?(atMs: number, token: number): void
  sent?(atMs: number, token: number): void
  acked?(atMs: number, token: number): void
}

export interface RestOptions {
  /** `http://…` or `https://…`, see `resolveEnvironment`. */
  readonly origin: string
  readonly signer: Signer
  /** Certificate authority for `https`, PEM; the system's when absent. */
  readonly ca?: string
  /** Most connections for orders; each carries one order at a time. */
  readonly orderLanesMax?: number
  /** Most orders waiting for a connection. */
  readonly ordersWaitingMax?: number
  readonly orderTimeoutMs?: number
  /** Longest an order connection idles before it is refreshed with `GET /exchange/status`. */
  readonly refreshMs?: number
  readonly readConnectionsMax?: number
  readonly readTimeoutMs?: number
  readonly connectTimeoutMs?: number
}

const DEFAULTS = {
  orderLanesMax: 8,
  ordersWaitingMax: 64,
  orderTimeoutMs: 10_000,
  refreshMs: 20_000,
  readConnectionsMax: 2,
  readTimeoutMs: 10_000,
  connectTimeoutMs: 5_000,
} as const

/** Longest answer read, bytes. */
const BODY_MAX_BYTES = 1024 * 1024

/** Pages `collectPages` reads at most: a hundred thousand rows at the venue's 1000 a page. */
const PAGES_MAX = 100

const ORDERS_PATH = `${REST_BASE_PATH}/portfolio/events/orders`
const STATUS_PATH = `${REST_BASE_PATH}/exchange/status`

export interface ListOrdersQuery {
  readonly ticker?: string
  readonly eventTicker?: string
  readonly status?: OrderStatus
  /** Unix seconds. */
  readonly minTs?: number
  readonly maxTs?: number
  /** 1 … 1000. */
  readonly limit?: number
  readonly cursor?: string
  readonly subaccount?: number
}

export interface ListFillsQuery {
  readonly ticker?: string
  readonly orderId?: string
  /** Unix seconds. */
  readonly minTs?: number
  readonly maxTs?: number
  readonly limit?: number
  readonly cursor?: string
  readonly subaccount?: number
}

export interface ListPositionsQuery {
  readonly ticker?: string
  readonly eventTicker?: string
  readonly limit?: number
  readonly cursor?: string
  readonly subaccount?: number
}

export interface ListMarketsQuery {
  readonly status?: 'unopened' | 'open' | 'paused' | 'closed' | 'settled'
  readonly eventTicker?: string
  readonly seriesTicker?: string
  readonly tickers?: readonly string[]
  readonly limit?: number
  readonly cursor?: string
}

export interface Rest {
  /**
   * Opens `count` order connections and keeps that many open. With two or more, the refresh of one never delays an
   * order.
   *
   * @throws ConnectionError
   */
  warm(count: number): Promise<void>
  /** Order connections that are open and free. */
  readonly idleLanes: number
  /** @throws RangeError when a price or count of `order` is not an integer: our mistake, nothing was sent */
  createOrder(order: CreateOrder, instants?: CallInstants, token?: number): Promise<CallResult<CreateOrderResult>>
  cancelOrder(order: CancelOrder, instants?: CallInstants, token?: number): Promise<CallResult<CancelOrderResult>>
  /** Orders that arrive within the next minute may be cancelled too. */
  cancelAll(options?: { readonly subaccount?: number }): Promise<CallResult<undefined>>
  /** Reads lag writes: an order just cancelled may still show as resting. */
  getOrder(orderId: string): Promise<Order>
  listOrders(query?: ListOrdersQuery): Promise<Page<Order>>
  listFills(query?: ListFillsQuery): Promise<Page<Fill>>
  positions(query?: ListPositionsQuery): Promise<Page<Position>>
  balance(): Promise<Balance>
  accountLimits(): Promise<AccountLimits>
  /** Public reads below are unsigned and cost no tokens. */
  markets(query?: ListMarketsQuery): Promise<Page<Market>>
  market(ticker: string): Promise<Market>
  /** @param depth 0 (all) … 100 levels a side */
  orderbook(ticker: string, depth?: number): Promise<RestBook>
  exchangeStatus(): Promise<ExchangeStatus>
  /** Ends idle connections at once and waits for answers that are due. */
  stop(options?: { readonly graceMs?: number }): Promise<void>
}

type Query = { readonly [name: string]: string | number | undefined }

/** @throws RangeError when an option is out of range */
export function createRest(options: RestOptions): Rest {
  const given = { ...DEFAULTS, ...options }
  for (const name of Object.keys(DEFAULTS) as (keyof typeof DEFAULTS)[]) {
    const value = given[name]
    if (!Number.isSafeInteger(value) || value < 1)
      throw new RangeError(`${name} must be an integer above 0, not ${value}`)
  }
  const { origin, signer, ca } = given
  const host = new URL(origin).host
  const common = `host: ${host}\r\nuser-agent: tickscope\r\naccept: application/json\r\n`
  /** Everything of a signed request's head that never changes, up to the timestamp's value. */
  const auth = `${common}${AUTH_HEADERS.key}: ${signer.keyId}\r\n${AUTH_HEADERS.timestamp}: `
  const createHead = `POST ${ORDERS_PATH} HTTP/1.1\r\ncontent-type: application/json\r\n${auth}`

  const lanes = new Lanes({
    origin,
    ca,
    lanesMax: given.orderLanesMax,
    waitingMax: given.ordersWaitingMax,
    connectTimeoutMs: given.connectTimeoutMs,
    requestTimeoutMs: given.orderTimeoutMs,
    refreshMs: given.refreshMs,
    bodyMaxBytes: BODY_MAX_BYTES,
    refreshText: `GET ${STATUS_PATH} HTTP/1.1\r\n${common}\r\n`,
  })
  const pool = new Pool(origin, {
    connections: given.readConnectionsMax,
    pipelining: 1,
    allowH2: false,
    connectTimeout: given.connectTimeoutMs,
    headersTimeout: given.readTimeoutMs,
    bodyTimeout: given.readTimeoutMs,
    maxResponseSize: BODY_MAX_BYTES,
    ...(ca === undefined ? {} : { connect: { ca } }),
  })

  async function read(path: string, query: Query, signed: boolean): Promise<unknown> {
    const fullPath = REST_BASE_PATH + path
    const call = `GET ${fullPath}`
    let status: number
    let text: string
    try {
      const answer = await pool.request({
        method: 'GET',
        path: fullPath + encodeQuery(query),
        headers: {
          'user-agent': 'tickscope',
          accept: 'application/json',
          ...(signed ? signer.headers('GET', fullPath) : {}),
        },
        signal: AbortSignal.timeout(given.readTimeoutMs),
      })
      status = answer.statusCode
      text = await answer.body.text()
    } catch (error) {
      throw connectionError(error, `${call} at ${origin}`, given.readTimeoutMs)
    }
    if (status < 200 || status > 299) throw parseErrorBody(status, text)
    return parseJson(text, `answer to ${call}`)
  }

  function deleteText(path: string, query: string): string {
    const timestamp = String(Date.now())
    const signature = signer.sign(timestamp, 'DELETE', path)
    return `DELETE ${path}${query} HTTP/1.1\r\n${auth}${timestamp}\r\n${AUTH_HEADERS.signature}: ${signature}\r\n\r\n`
  }

  return {
    warm: (count) => lanes.warm(count),
    get idleLanes() {
      return lanes.idleCount
    },
    createOrder(order, instants, token = 0) {
      const body = encodeCreateOrder(order)
      const timestamp = String(Date.now())
      const signature = signer.sign(timestamp, 'POST', ORDERS_PATH)
      const text = `${createHead}${timestamp}\r\n${AUTH_HEADERS.signature}: ${signature}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
      instants?.encoded?.(performance.now(), token)
      return submit(lanes, text, instants, token, (answer) => {
        const result = parseCreateOrderResult(answer)
        const { clientOrderId } = order
        if (clientOrderId !== undefined && result.clientOrderId !== undefined && result.clientOrderId !== clientOrderId)
          throw new WireError(`the answer is for client order ${result.clientOrderId}, not ${clientOrderId}`)
        return result
      })
    },
    cancelOrder(order, instants, token = 0) {
      const { orderId, subaccount, exchangeIndex, marketTicker } = order
      const text = deleteText(
        `${ORDERS_PATH}/${encodeURIComponent(orderId)}`,
        encodeQuery({ subaccount, exchange_index: exchangeIndex, market_ticker: marketTicker }),
      )
      instants?.encoded?.(performance.now(), token)
      return submit(lanes, text, instants, token, (answer) => {
        const result = parseCancelOrderResult(answer)
        if (result.orderId !== orderId) throw new WireError(`the answer is for order ${result.orderId}, not ${orderId}`)
        return result
      })
    },
    cancelAll(cancel = {}) {
      return submit(lanes, deleteText(ORDERS_PATH, encodeQuery({ ...cancel })), undefined, 0, () => undefined)
    },
    async getOrder(orderId) {
      const body = await read(`/portfolio/orders/${encodeURIComponent(orderId)}`, {}, true)
      return parseOrder(asObject(body, 'answer').order)
    },
    async listOrders(query = {}) {
      const { ticker, eventTicker, status, minTs, maxTs, limit, cursor, subaccount } = query
      const names = {
        ticker,
        event_ticker: eventTicker,
        status,
        min_ts: minTs,
        max_ts: maxTs,
        limit,
        cursor,
        subaccount,
      }
      return parsePage(await read('/portfolio/orders', names, true), 'orders', parseOrder)
    },
    async listFills(query = {}) {
      const { ticker, orderId, minTs, maxTs, limit, cursor, subaccount } = query
      const names = { ticker, order_id: orderId, min_ts: minTs, max_ts: maxTs, limit, cursor, subaccount }
      return parsePage(await read('/portfolio/fills', names, true), 'fills', parseFill)
    },
    async positions(query = {}) {
      const { ticker, eventTicker, limit, cursor, subaccount } = query
      const names = { ticker, event_ticker: eventTicker, limit, cursor, subaccount }
      return parsePage(await read('/portfolio/positions', names, true), 'market_positions', parsePosition)
    },
    balance: async () => parseBalance(await read('/portfolio/balance', {}, true)),
    accountLimits: async () => parseAccountLimits(await read('/account/limits', {}, true)),
    async markets(query = {}) {
      const { status, eventTicker, seriesTicker, tickers, limit, cursor } = query
      const names = {
        status,
        event_ticker: eventTicker,
        series_ticker: seriesTicker,
        tickers: tickers?.join(','),
        limit,
        cursor,
      }
      return parsePage(await read('/markets', names, false), 'markets', parseMarket)
    },
    async market(ticker) {
      const body = await read(`/markets/${encodeURIComponent(ticker)}`, {}, false)
      return parseMarket(asObject(body, 'answer').market)
    },
    orderbook: async (ticker, depth) =>
      parseRestBook(await read(`/markets/${encodeURIComponent(ticker)}/orderbook`, { depth }, false)),
    exchangeStatus: async () => parseExchangeStatus(await read('/exchange/status', {}, false)),
    async stop({ graceMs = 1_000 } = {}) {
      await Promise.all([lanes.stop(graceMs), pool.destroy()])
    },
  }
}

/**
 * Reads a list to its end. The venue ignores a cursor it does not know and starts over, so a cursor that repeats ends
 * the list, as does the limit of pages.
 *
 * @throws WireError when the list has more than 100 pages
 */
export async function collectPages<T>(readPage: (cursor: string | undefined) => Promise<Page<T>>): Promise<T[]> {
  const items: T[] = []
  const seen = new Set<string>()
  let cursor: string | undefined
  for (let pages = 0; pages < PAGES_MAX; pages++) {
    const page = await readPage(cursor)
    items.push(...page.items)
    if (page.cursor === '' || seen.has(page.cursor)) return items
    seen.add(page.cursor)
    cursor = page.cursor
  }
  throw new WireError(`the list has more than ${PAGES_MAX} pages`)
}

function submit<T>(
  lanes: Lanes,
  text: string,
  instants: CallInstants | undefined,
  token: number,
  parse: (answer: unknown) => T,
): Promise<CallResult<T>> {
  return new Promise((resolve) => {
    const exchange: Exchange = {
      text,
      sent: (atMs) => instants?.sent?.(atMs, token),
      answered(httpStatus, body, atMs) {
        instants?.acked?.(atMs, token)
        resolve(readAnswer(httpStatus, body, parse))
      },
      failed(error, sent) {
        resolve({ outcome: error.code === 'TIMEOUT' ? 'timeout' : 'error', error, ambiguous: sent })
      },
    }
    lanes.submit(exchange)
  })
}

function readAnswer<T>(httpStatus: number, body: string, parse: (answer: unknown) => T): CallResult<T> {
  if (httpStatus >= 200 && httpStatus <= 299) {
    try {
      return { outcome: 'ok', value: parse(body === '' ? undefined : parseJson(body, 'answer')) }
    } catch (error) {
      if (error instanceof WireError) return { outcome: 'error', error, ambiguous: true }
      throw error
    }
  }
  const error = parseErrorBody(httpStatus, body)
  // Only a 4xx says for certain that nothing was applied; a server or proxy in trouble may have passed the order on.
  return httpStatus >= 400 && httpStatus <= 499
    ? { outcome: 'rejected', error, ambiguous: false }
    : { outcome: 'error', error, ambiguous: true }
}

function encodeQuery(query: Query): string {
  let text = ''
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined) text += `${text === '' ? '?' : '&'}${name}=${encodeURIComponent(value)}`
  }
  return text
}

/** undici's errors in our words. */
function connectionError(error: unknown, call: string, timeoutMs: number): ConnectionError {
  const { name, code = '', message } = error as NodeJS.ErrnoException
  const options = { cause: error }
  if (name === 'TimeoutError' || code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT')
    return new ConnectionError('TIMEOUT', `${call} was not answered within ${timeoutMs} ms`, options)
  if (code === 'UND_ERR_DESTROYED' || code === 'UND_ERR_CLOSED')
    return new ConnectionError('STOPPED', `${call}: the client was stopped`, options)
  if (code === 'UND_ERR_RES_EXCEEDED_MAX_SIZE')
    return new ConnectionError('PROTOCOL', `${call}: the answer is longer than ${BODY_MAX_BYTES} bytes`, options)
  if (code.startsWith('HPE_')) return new ConnectionError('PROTOCOL', `${call}: ${message}`, options)
  if (code === 'UND_ERR_SOCKET' || code === 'ECONNRESET' || code === 'EPIPE')
    return new ConnectionError('CONNECTION_LOST', `${call}: the connection was lost`, options)
  return new ConnectionError('CONNECT_FAILED', `${call}: cannot connect: ${code === '' ? message : code}`, options)
}
