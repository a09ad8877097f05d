/**
 * The exchange on real sockets: REST over HTTP/1.1 keep-alive and the signed WebSocket, with the venue's order of
 * checks: path, signature, injected errors, token bucket, body; then the delay, then the engine.
 *
 * A write reaches the engine after a share of its drawn time, in order of arrival within each market; its answer
 * follows at the end of that time. A read is answered with what holds at the end of its time. An injected delay comes
 * on top of the answer and leaves the book alone.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { listenError } from '@tickscope/contract'
import { WebSocketServer } from 'ws'
import { FEED_PATH, REST_BASE_PATH } from '../kalshi/url.ts'
import { Connection, type Feed } from './feed.ts'
import { type LatencyModel, MATCHED_AFTER_SHARE } from './latency.ts'
import type { Member, Members } from './member.ts'
import type { Random } from './random.ts'
import { type Answer, errorAnswer, json, type Prepared, type Route } from './rest.ts'
import type { Scheduler } from './scheduler.ts'
import type { Stats } from './stats.ts'

const BODY_BYTES_MAX = 64 * 1024
const COMMAND_BYTES_MAX = 1024 * 1024
const SOCKETS_MAX = 1_024
const FEEDS_PER_KEY_MAX = 200
/** As the venue: a ping every 10 s. A client that has answered none of three is gone. */
const PING_INTERVAL_MS = 10_000
const MISSED_PINGS_MAX = 3
/** Longer than any idle time between a bot's requests, so that the client decides when a connection ends. */
const KEEP_ALIVE_MS = 75_000

/** What the run does to calls now. */
export interface Disturbance {
  apiDelayMs(): number
  apiErrorShare(): number
  refusesConnections(): boolean
}

/** `POST /sim/start` and the like, for the process that runs the simulator; only from this machine. */
export interface Control {
  start(): void
  pause(): void
  stats(): unknown
}

export interface ServerOptions {
  readonly routes: readonly Route[]
  readonly members: Members
  readonly feed: Feed
  readonly latency: LatencyModel
  readonly scheduler: Scheduler
  readonly disturbance: Disturbance
  readonly control: Control
  readonly stats: Stats
  readonly random: Random
  readonly pingIntervalMs?: number | undefined
}

const TOO_MANY: Answer = json(429, { error: 'too many requests' })
const SERVER_ERRORS: readonly Answer[] = [
  errorAnswer(500, { code: 'internal_server_error', message: 'internal server error' }),
  errorAnswer(503, { code: 'service_unavailable', message: 'service unavailable' }),
]

export class ExchangeServer {
  readonly #options: ServerOptions
  readonly #http: Server
  readonly #upgrades: WebSocketServer
  readonly #pings: NodeJS.Timeout
  readonly #missedPings = new WeakMap<Connection, number>()
  /** When the last write of each market reaches the engine, instants of `performance.now()`. */
  readonly #lanes = new Map<string, number>()
  #errors = 0

  constructor(options: ServerOptions) {
    this.#options = options
    this.#http = createServer(
      { keepAliveTimeout: KEEP_ALIVE_MS, headersTimeout: 10_000, requestTimeout: 30_000 },
      (request, response) => this.#request(request, response),
    )
    this.#http.maxConnections = SOCKETS_MAX
    this.#http.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head))
    this.#upgrades = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: COMMAND_BYTES_MAX })
    this.#pings = setInterval(() => this.#ping(), options.pingIntervalMs ?? PING_INTERVAL_MS)
    this.#pings.unref()
  }

  /**
   * @returns its URL
   * @throws UserError when the port cannot be had
   */
  listen(host: string, port: number): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#http.once('error', (error) => reject(listenError(error, host, port)))
      this.#http.listen(port, host, () => {
        const { address, port: bound, family } = this.#http.address() as AddressInfo
        resolve(`http://${family === 'IPv6' ? `[${address}]` : address}:${bound}`)
      })
    })
  }

  async stop(): Promise<void> {
    clearInterval(this.#pings)
    for (const { socket } of this.#options.feed.connections) socket.terminate()
    const closed = new Promise((resolve) => this.#http.close(resolve))
    this.#http.closeAllConnections()
    await closed
  }

  /** Cuts WebSockets as a broken network does: without a close frame. @param share of those open, the oldest first */
  disconnect(share: number): void {
    const connections = [...this.#options.feed.connections]
    for (const { socket } of connections.slice(0, Math.ceil(share * connections.length))) socket.terminate()
  }

  #request(request: IncomingMessage, response: ServerResponse): void {
    const [path, query] = splitUrl(request.url)
    const chunks: Buffer[] = []
    let bytes = 0
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes <= BODY_BYTES_MAX) chunks.push(chunk)
    })
    request.on('error', () => {})
    request.on('end', () => {
      const arrivedMs = performance.now()
      if (bytes > BODY_BYTES_MAX)
        send(response, json(413, { code: 'bad_request', message: 'request body too large', details: '' }))
      else if (path.startsWith('/sim/')) this.#control(request, response, path)
      else this.#call(request, response, path, query, Buffer.concat(chunks).toString('utf8'), arrivedMs)
    })
  }

  #call(
    request: IncomingMessage,
    response: ServerResponse,
    path: string,
    query: string,
    body: string,
    arrivedMs: number,
  ): void {
    const { members, stats, disturbance } = this.#options
    const found = path.startsWith(REST_BASE_PATH) ? this.#route(request.method as string, path) : undefined
    if (found === undefined) {
      send(response, errorAnswer(404, { code: 'not_found', message: 'not found' }))
      return
    }
    const { route, params } = found
    const answer = (result: Answer) =>
      this.#answerAfter(response, arrivedMs + this.#options.latency.callMs(route.kind), result)

    let member: Member | undefined
    if (route.signed || request.headers['kalshi-access-key'] !== undefined) {
      const known = members.authenticate(request.headers, route.method, path)
      if ('code' in known) {
        stats.unauthorized++
        answer(errorAnswer(401, known))
        return
      }
      member = known
      member.counters.requests++
    } else stats.publicRequests++

    const counters = member?.counters
    if (route.counts === 'order' && counters) counters.ordersReceived++
    if (route.counts === 'cancel' && counters) counters.cancelsReceived++
    const counted = (result: Answer): Answer => {
      if (route.counts === 'order' && counters) {
        if (result.status < 300) counters.ordersAccepted++
        else counters.ordersRejected++
      }
      return result
    }

    if (this.#options.random.unit() < disturbance.apiErrorShare()) {
      if (counters) counters.faultErrors++
      answer(counted(SERVER_ERRORS[this.#errors++ % SERVER_ERRORS.length] as Answer))
      return
    }
    const prepared = route.prepare({ member, params, query: new URLSearchParams(query), body })
    const shard = 'run' in prepared ? prepared.shard : 0
    const nowMs = performance.now()
    const { cost } = route
    const fits =
      member === undefined ||
      (route.method === 'GET' ? member.limit.read(cost, nowMs) : member.limit.write(cost, shard, nowMs))
    if (!fits) {
      if (counters) counters.rateLimited++
      answer(counted(TOO_MANY))
    } else if ('run' in prepared) this.#run(response, route, prepared, arrivedMs, counted)
    else answer(counted(prepared))
  }

  #run(
    response: ServerResponse,
    { kind }: Route,
    prepared: Prepared,
    arrivedMs: number,
    counted: (answer: Answer) => Answer,
  ): void {
    const { latency, scheduler } = this.#options
    const tookMs = latency.callMs(kind)
    if (kind !== 'write') {
      this.#answerAfter(response, arrivedMs + tookMs, () => prepared.run())
      return
    }
    const matchMs = this.#turn(prepared.lane, arrivedMs + tookMs * MATCHED_AFTER_SHARE)
    scheduler.at(matchMs, () => {
      const answer = counted(prepared.run())
      this.#answerAfter(response, Math.max(matchMs, arrivedMs + tookMs), answer)
    })
  }

  /** When a write that would like to meet the engine at `wishMs` does: not before those that arrived earlier. */
  #turn(lane: string | undefined, wishMs: number): number {
    let atMs = wishMs
    if (lane === '*') for (const lastMs of this.#lanes.values()) atMs = Math.max(atMs, lastMs)
    else if (lane !== undefined) atMs = Math.max(atMs, this.#lanes.get('*') ?? 0, this.#lanes.get(lane) ?? 0)
    // Lanes are named by clients: only those of real markets are kept.
    if (lane === '*' || (lane !== undefined && this.#options.feed.hasMarket(lane))) this.#lanes.set(lane, atMs)
    return atMs
  }

  #answerAfter(response: ServerResponse, dueMs: number, answer: Answer | (() => Answer)): void {
    this.#options.scheduler.at(dueMs + this.#options.disturbance.apiDelayMs(), () =>
      send(response, typeof answer === 'function' ? answer() : answer),
    )
  }

  #route(method: string, path: string): { route: Route; params: string[] } | undefined {
    for (const route of this.#options.routes) {
      if (route.method !== method) continue
      const match = route.pattern.exec(path)
      if (match) return { route, params: match.slice(1) }
    }
    return undefined
  }

  #control(request: IncomingMessage, response: ServerResponse, path: string): void {
    const { control } = this.#options
    if (!isLoopback(request.socket.remoteAddress)) {
      send(response, errorAnswer(403, { code: 'forbidden', message: 'only from this machine' }))
      return
    }
    const call = `${request.method} ${path}`
    if (call === 'POST /sim/start') control.start()
    else if (call === 'POST /sim/pause') control.pause()
    else if (call !== 'GET /sim/stats') {
      send(response, errorAnswer(404, { code: 'not_found', message: 'not found' }))
      return
    }
    send(response, json(200, control.stats()))
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const { members, feed, disturbance, stats } = this.#options
    socket.on('error', () => socket.destroy())
    const [path] = splitUrl(request.url)
    if (path !== FEED_PATH) {
      refuse(socket, '404 Not Found', { code: 'not_found', message: 'not found' })
      return
    }
    if (disturbance.refusesConnections()) {
      refuse(socket, '503 Service Unavailable', { code: 'service_unavailable', message: 'service unavailable' })
      return
    }
    const member = members.authenticate(request.headers, 'GET', path)
    if ('code' in member) {
      stats.unauthorized++
      refuse(socket, '401 Unauthorized', member)
      return
    }
    let open = 0
    for (const { account } of feed.connections) if (account === member.account) open++
    if (open >= FEEDS_PER_KEY_MAX) {
      refuse(socket, '429 Too Many Requests', 'too many requests')
      return
    }
    this.#upgrades.handleUpgrade(request, socket, head, (ws) => {
      const connection = new Connection(ws, member.account, member.counters)
      feed.connections.add(connection)
      member.counters.connections++
      ws.on('message', (data, binary) => {
        if (!binary) feed.command(connection, data.toString())
      })
      ws.on('pong', () => this.#missedPings.set(connection, 0))
      ws.on('close', () => feed.connections.delete(connection))
      ws.on('error', () => ws.terminate())
    })
  }

  #ping(): void {
    for (const connection of this.#options.feed.connections) {
      const missed = this.#missedPings.get(connection) ?? 0
      if (missed >= MISSED_PINGS_MAX) connection.socket.terminate()
      else {
        this.#missedPings.set(connection, missed + 1)
        connection.socket.ping('heartbeat')
      }
    }
  }
}

function splitUrl(url = '/'): [path: string, query: string] {
  const mark = url.indexOf('?')
  return mark < 0 ? [url, ''] : [url.slice(0, mark), url.slice(mark + 1)]
}

function isLoopback(address: string | undefined): boolean {
  return address !== undefined && /^(::1|(::ffff:)?127\.\d+\.\d+\.\d+)$/.test(address)
}

function send(response: ServerResponse, { status, body }: Answer): void {
  if (response.destroyed) return
  if (body === undefined) response.writeHead(status).end()
  else
    response
      .writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) })
      .end(body)
}

function refuse(socket: Duplex, status: string, error: object | string): void {
  const body = JSON.stringify({ error })
  socket.end(
    `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n` +
      `connection: close\r\n\r\n${body}`,
  )
}
