/**
 * The REST endpoints: what each costs, how long it takes, and what it answers. No sockets here: `server.ts` reads
 * requests, authenticates, limits, delays, and calls `run` at the instant the engine gets to it.
 *
 * Refusals come in the venue's four shapes: nested `error` (most), flat (a body that does not decode), bare `msg`
 * (a parameter out of range), and a plain string (429).
 */
import { formatDollars, MICROS_PER_TICK } from '../kalshi/decimal.ts'
import { WireError } from '../kalshi/error.ts'
import { type CreateOrder, parseCreateOrder } from '../kalshi/order.ts'
import { REST_BASE_PATH } from '../kalshi/url.ts'
import { epochMs } from './clock.ts'
import { type Engine, type EngineMarket, Refusal, type RefusalCode } from './engine.ts'
import type { CallKind } from './latency.ts'
import type { Member } from './member.ts'
import { capacities, DEFAULT_COST, ENDPOINT_COSTS, type Tier } from './ratelimit.ts'
import {
  cancelledWire,
  createdWire,
  marketWire,
  orderbookWire,
  positionValueMicros,
  positionWire,
  rfc3339,
} from './wire.ts'

/** Shards of the exchange: default, combos, crypto, sports. */
export const SHARDS = [0, 1, 2, 3] as const

const LIST_LIMIT = 100
const LIST_LIMIT_MAX = 1_000
const DEPTH_MAX = 100

export interface Answer {
  readonly status: number
  /** JSON; undefined for no body. */
  readonly body: string | undefined
}

export interface Call {
  /** Undefined on a public read without a signature. */
  readonly member: Member | undefined
  /** Parts of the path that the pattern left open. */
  readonly params: readonly string[]
  readonly query: URLSearchParams
  readonly body: string
}

/** A request read and found good, waiting for its turn at the engine. */
export interface Prepared {
  /** Orders of one market reach the engine in the order they arrived; undefined waits for nobody, `*` for all. */
  readonly lane: string | undefined
  /** Write bucket to draw on. */
  readonly shard: number
  run(): Answer
}

export interface Route {
  readonly method: 'GET' | 'POST' | 'DELETE'
  readonly pattern: RegExp
  readonly kind: CallKind
  readonly cost: number
  /** Whether it needs a signature. */
  readonly signed: boolean
  /** What it is counted as. */
  readonly counts?: 'order' | 'cancel'
  /** Checks the request before the engine sees it; an answer ends it. */
  prepare(call: Call): Prepared | Answer
}

export const json = (status: number, body: unknown): Answer => ({ status, body: JSON.stringify(body) })

/** The nested shape. */
export function errorAnswer(status: number, error: { readonly code: string; readonly message: string }): Answer {
  return json(status, { error })
}

const badRequest = (details: string) => json(400, { code: 'bad_request', message: 'bad request', details })
const badParameter = (endpoint: string, why: string) =>
  json(400, { msg: `Parameter validation failed for ${endpoint}: ${why}` })
const NOT_FOUND = errorAnswer(404, { code: 'not_found', message: 'not found' })

const STATUS_OF: { readonly [code in RefusalCode]: number } = {
  market_not_found: 404,
  market_inactive: 409,
  order_already_exists: 409,
  invalid_price: 400,
  invalid_order: 400,
  insufficient_balance: 400,
  fill_or_kill_insufficient_resting_volume: 409,
  not_found: 404,
}

function refused(error: unknown): Answer {
  if (!(error instanceof Refusal)) throw error
  const { code, details } = error
  const message = code.replaceAll('_', ' ')
  return json(STATUS_OF[code], {
    error: { code, message, ...(details === undefined ? { service: 'exchange' } : { details }) },
  })
}

export interface RestOptions {
  readonly engine: Engine
  readonly tier: Tier
}

export function createRoutes({ engine, tier }: RestOptions): readonly Route[] {
  const route = (
    method: Route['method'],
    path: string,
    more: Omit<Route, 'method' | 'pattern' | 'cost' | 'signed'> & { readonly signed?: boolean },
  ): Route => {
    const listed = `${REST_BASE_PATH}${path}`
    return {
      method,
      pattern: new RegExp(`^${listed.replaceAll(/:[a-z_]+/g, '([^/]+)')}$`),
      cost: ENDPOINT_COSTS.find((known) => known.method === method && known.path === listed)?.cost ?? DEFAULT_COST,
      signed: more.signed ?? true,
      ...more,
    }
  }
  /** A read waits for nobody. */
  const read = (answer: (call: Call) => Answer) => (call: Call) => ({
    lane: undefined,
    shard: 0,
    run: () => answer(call),
  })
  const publicRead = (path: string, answer: (call: Call) => Answer) =>
    route('GET', path, { kind: 'publicRead', signed: false, prepare: read(answer) })
  const privateRead = (path: string, answer: (call: Call & { readonly member: Member }) => Answer) =>
    route('GET', path, { kind: 'privateRead', prepare: read((call) => answer(call as Call & { member: Member })) })
  const marketOf = (call: Call): EngineMarket | undefined => engine.markets.get(call.params[0] as string)

  return [
    route('POST', '/portfolio/events/orders', {
      kind: 'write',
      counts: 'order',
      prepare: (call) => prepareCreate(engine, call),
    }),
    route('DELETE', '/portfolio/events/orders', {
      kind: 'write',
      counts: 'cancel',
      prepare: ({ member, query }) => ({
        lane: '*',
        shard: 0,
        run: () => {
          if ((query.get('subaccount') ?? '0') === '0') engine.cancelAll((member as Member).account, epochMs())
          return { status: 204, body: undefined }
        },
      }),
    }),
    route('DELETE', '/portfolio/events/orders/:order_id', {
      kind: 'write',
      counts: 'cancel',
      prepare: (call) => prepareCancel(engine, call),
    }),

    privateRead('/portfolio/orders', ({ member, query }) => {
      const status = query.get('status')
      if (status !== null && !['resting', 'canceled', 'executed'].includes(status))
        return badParameter('GetOrders', `Key: 'GetOrdersParams.Status' Error:Field validation for 'Status' failed`)
      const orders = member.portfolio.orders().filter((order) => status === null || order.status === status)
      return list(
        'GetOrders',
        'orders',
        filterRows(engine, orders, query, ({ created_time: time }) => Date.parse(time)),
        query,
      )
    }),
    privateRead('/portfolio/orders/:order_id', ({ member, params }) => {
      const order = member.portfolio.order(params[0] as string)
      return order ? json(200, { order }) : NOT_FOUND
    }),
    privateRead('/portfolio/fills', ({ member, query }) => {
      const orderId = query.get('order_id')
      const fills = member.portfolio.fills().filter((fill) => orderId === null || fill.order_id === orderId)
      return list(
        'GetFills',
        'fills',
        filterRows(engine, fills, query, ({ ts }) => ts * 1000),
        query,
      )
    }),
    privateRead('/portfolio/positions', ({ member, query }) => {
      const positions = [...member.account.positions.values()].filter(({ volume }) => volume > 0)
      const rows = positions.map((position) => positionWire(member.account, position))
      return list('GetPositions', 'market_positions', filterRows(engine, rows, query), query, { event_positions: [] })
    }),
    route('GET', '/portfolio/balance', {
      kind: 'balanceRead',
      prepare: read(({ member }) => {
        const shards = new Set([...engine.markets.values()].map(({ spec }) => spec.exchangeIndex))
        return balance((member as Member).account, [...shards])
      }),
    }),
    privateRead('/account/limits', () => {
      const capacity = capacities(tier)
      return json(200, {
        grants: [],
        read: { bucket_capacity: capacity.read, refill_rate: tier.readPerSecond },
        usage_tier: tier.name,
        write: { bucket_capacity: capacity.write, refill_rate: tier.writePerSecond },
      })
    }),
    publicRead('/account/endpoint_costs', () =>
      json(200, { default_cost: DEFAULT_COST, endpoint_costs: ENDPOINT_COSTS }),
    ),

    publicRead('/exchange/status', () =>
      json(200, {
        exchange_active: true,
        exchange_index_statuses: SHARDS.map((shard) => ({
          description: `shard ${shard}`,
          exchange_active: true,
          exchange_index: shard,
          trading_active: true,
        })),
        trading_active: true,
      }),
    ),
    publicRead('/exchange/user_data_timestamp', () => json(200, { as_of_time: rfc3339(epochMs()) })),
    publicRead('/markets', ({ query }) => {
      const status = query.get('status')
      const tickers = query.get('tickers')?.split(',')
      const markets = [...engine.markets.values()].filter(
        ({ spec, status: now }) =>
          (status === null || status === (now === 'active' ? 'open' : now)) &&
          (tickers === undefined || tickers.includes(spec.ticker)) &&
          matches(query.get('event_ticker'), spec.eventTicker) &&
          matches(query.get('series_ticker'), spec.seriesTicker),
      )
      return list('GetMarkets', 'markets', markets, query, {}, marketWire)
    }),
    publicRead('/markets/:ticker', (call) => {
      const market = marketOf(call)
      return market ? json(200, { market: marketWire(market) }) : NOT_FOUND
    }),
    publicRead('/markets/:ticker/orderbook', (call) => {
      const market = marketOf(call)
      if (!market) return NOT_FOUND
      const depth = wholeNumber(call.query.get('depth') ?? '0', DEPTH_MAX)
      if (depth === undefined)
        return badParameter(
          'GetMarketOrderbook',
          `Key: 'Params.Depth' Error:Field validation for 'Depth' failed on the 'lte' tag`,
        )
      return json(200, orderbookWire(market, depth))
    }),
  ]
}

const matches = (asked: string | null, value: string) => asked === null || asked === value

function prepareCreate(engine: Engine, { member, body }: Call): Prepared | Answer {
  let decoded: unknown
  try {
    decoded = JSON.parse(body)
  } catch (error) {
    return badRequest((error as Error).message)
  }
  const misfit = misfitField(decoded)
  if (misfit !== undefined) return badRequest(`json: cannot unmarshal into CreateOrderV2Request.${misfit}`)
  let order: CreateOrder
  try {
    order = parseCreateOrder(decoded)
  } catch (error) {
    if (!(error instanceof WireError)) throw error
    return badParameter('CreateOrderV2', error.message)
  }
  if ((order.subaccount ?? 0) !== 0) return badParameter('CreateOrderV2', 'this simulator has subaccount 0 only')
  if (order.orderGroupId !== undefined && order.orderGroupId !== '')
    return errorAnswer(404, { code: 'order_group_not_found', message: 'order group not found' })
  const exchangeIndex = order.exchangeIndex === -1 ? undefined : order.exchangeIndex
  return {
    lane: order.ticker,
    shard: knownShard(exchangeIndex),
    run: () => {
      try {
        const created = engine.create(
          (member as Member).account,
          {
            ticker: order.ticker,
            side: order.side,
            count: order.countHundredths,
            priceTicks: order.priceTicks,
            timeInForce: order.timeInForce,
            selfTradePrevention: order.selfTradePrevention,
            clientOrderId: order.clientOrderId || undefined,
            expiresAtMs: order.expirationTimeS === undefined ? undefined : order.expirationTimeS * 1000,
            postOnly: order.postOnly,
            reduceOnly: order.reduceOnly,
            cancelOnPause: order.cancelOrderOnPause,
            exchangeIndex,
          },
          epochMs(),
        )
        return json(201, createdWire(created))
      } catch (error) {
        return refused(error)
      }
    },
  }
}

/** A field of a create that does not decode: strings where numbers stand, and the other way round. */
function misfitField(body: unknown): string | undefined {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return ''
  const strings = ['ticker', 'side', 'count', 'price', 'time_in_force', 'self_trade_prevention_type', 'client_order_id']
  const fields = body as { readonly [field: string]: unknown }
  return strings.find((name) => fields[name] !== undefined && fields[name] !== null && typeof fields[name] !== 'string')
}

/**
 * A cancel is routed by `exchange_index`, or by `market_ticker` when that is -1 or left out; with neither it goes to
 * shard 0, where an order of another shard is not found.
 */
function prepareCancel(engine: Engine, { member, params, query }: Call): Prepared | Answer {
  const { account } = member as Member
  const orderId = params[0] as string
  const given = query.get('exchange_index')
  const named = given === null || given === '-1' ? undefined : wholeNumber(given, 1_000)
  if (given !== null && given !== '-1' && named === undefined)
    return badParameter('CancelOrderV2', `Key: 'Params.ExchangeIndex' Error:Field validation failed`)
  const ticker = query.get('market_ticker')
  return {
    lane: account.orders.get(orderId)?.market.spec.ticker ?? ticker ?? undefined,
    shard: knownShard(named),
    run: () => {
      const order = account.orders.get(orderId)
      const shard = named ?? (ticker === null ? 0 : engine.markets.get(ticker)?.spec.exchangeIndex)
      try {
        if (!order || order.market.spec.exchangeIndex !== shard) throw new Refusal('not_found')
        const { reducedBy } = engine.cancel(account, orderId, epochMs())
        return json(200, cancelledWire(order, reducedBy))
      } catch (error) {
        return refused(error)
      }
    },
  }
}

/** Shards the exchange does not have draw on the common bucket, so that there are never more buckets than shards. */
function knownShard(exchangeIndex: number | undefined): number {
  return SHARDS.find((shard) => shard === exchangeIndex) ?? 0
}

function balance(account: Member['account'], shards: readonly number[]): Answer {
  const cents = (micros: number) => Math.trunc(micros / 10_000)
  const dollars = (micros: number) => formatDollars(Math.trunc(micros / MICROS_PER_TICK))
  const freeMicros = account.balanceMicros - account.requiredMicros()
  let valueMicros = 0
  for (const position of account.positions.values()) valueMicros += positionValueMicros(position)
  return json(200, {
    balance: cents(freeMicros),
    // One pool of collateral serves every shard here; it is shown where the markets are.
    balance_breakdown: shards.map((shard) => ({ balance: dollars(freeMicros), exchange_index: shard })),
    balance_dollars: dollars(freeMicros),
    portfolio_value: cents(valueMicros),
    updated_ts: Math.floor(epochMs() / 1000),
  })
}

/** Filters all portfolio lists share. @param timeMs for `min_ts` and `max_ts`, which are seconds */
function filterRows<T extends { readonly ticker: string }>(
  engine: Engine,
  rows: readonly T[],
  query: URLSearchParams,
  timeMs?: (row: T) => number,
): T[] {
  const ticker = query.get('ticker')
  const eventTicker = query.get('event_ticker')
  const minMs = Number(query.get('min_ts') ?? 0) * 1000
  const maxMs = Number(query.get('max_ts') ?? Number.POSITIVE_INFINITY) * 1000
  return rows.filter((row) => {
    if (!matches(ticker, row.ticker)) return false
    if (eventTicker !== null && engine.markets.get(row.ticker)?.spec.eventTicker !== eventTicker) return false
    return timeMs === undefined || (timeMs(row) >= minMs && timeMs(row) <= maxMs)
  })
}

/** One page. A cursor that is not one of ours starts from the beginning, silently, as the venue does. */
function list<T>(
  endpoint: string,
  name: string,
  rows: readonly T[],
  query: URLSearchParams,
  more: object = {},
  wire: (row: T) => unknown = (row) => row,
): Answer {
  const limit = wholeNumber(query.get('limit') ?? `${LIST_LIMIT}`, LIST_LIMIT_MAX)
  if (limit === undefined || limit === 0)
    return badParameter(
      endpoint,
      `Key: '${endpoint}Params.Limit' Error:Field validation for 'Limit' failed on the 'lte' tag`,
    )
  const start = wholeNumber(Buffer.from(query.get('cursor') ?? '', 'base64').toString('latin1'), rows.length) ?? 0
  const end = start + limit
  const cursor = end < rows.length ? Buffer.from(`${end}`).toString('base64') : ''
  return json(200, { cursor, ...more, [name]: rows.slice(start, end).map(wire) })
}

function wholeNumber(text: string, max: number): number | undefined {
  const number = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN
  return number <= max ? number : undefined
}
