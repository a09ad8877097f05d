/**
 * One connection to a venue, one request at a time, with the instant of each step taken where it happens.
 *
 * The socket is opened by the first request, so a connection's set-up is timed as part of it; later requests find it
 * warm. Nothing is retried, queued or reopened behind the caller's back. TLS sessions are not resumed: every new
 * connection pays the full handshake. Nagle's algorithm is off.
 */
import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { nowNs } from './clock.ts'
import { ProtocolError, ResponseReader } from './http1.ts'

/** Who is connected to. */
export interface Endpoint {
  readonly host: string
  readonly port: number
  readonly tls: boolean
  /** Certificates to trust instead of the system's, PEM. */
  readonly ca?: string
  /** Source address. */
  readonly localAddress?: string
  /** Connected to instead of `host`, whose name stays in TLS. */
  readonly connectTo?: { readonly host: string; readonly port: number }
}

/**
 * The steps of one exchange, in order, ns on the probe's clock; null for a step that did not happen: no name was looked
 * up for an address, nothing connects on a warm connection.
 */
export interface Instants {
  /** the request was handed over: its set-up begins, or, on a warm connection, its bytes are written */
  readonly startedAtNs: number
  readonly lookedUpAtNs: number | null
  /** TCP handshake done */
  readonly connectedAtNs: number | null
  /** TLS handshake done, certificate checked */
  readonly securedAtNs: number | null
  /** first bytes of the answer read by this process, decrypted */
  readonly firstByteAtNs: number | null
  /** last byte of the answer read, or the failure seen */
  readonly endedAtNs: number
}

/** Those of an exchange under way, filled in as it goes. */
export type RunningInstants = { -readonly [step in keyof Instants]: Instants[step] }

export function beginInstants(startedAtNs: number): RunningInstants {
  return {
    startedAtNs,
    lookedUpAtNs: null,
    connectedAtNs: null,
    securedAtNs: null,
    firstByteAtNs: null,
    endedAtNs: 0,
  }
}

export interface Exchange {
  /** `abandoned`: ended by the probe itself, says nothing about the venue. */
  readonly outcome: 'answered' | 'timeout' | 'error' | 'abandoned'
  /** What went wrong, a short and bounded name: a code of the system, `PROTOCOL`, `CLOSED`. */
  readonly reason: string | undefined
  readonly detail: string | undefined
  /** Whether this exchange had to open the connection. */
  readonly opened: boolean
  readonly status: number
  readonly instants: Instants
}

interface Pending {
  readonly resolve: (exchange: Exchange) => void
  readonly opened: boolean
  readonly timer: NodeJS.Timeout
  readonly instants: RunningInstants
}

export class Connection {
  readonly #endpoint: Endpoint
  readonly #reader = new ResponseReader()
  #socket: Socket | undefined
  #pending: Pending | undefined
  #usable = true

  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint
  }

  /** Whether another exchange may be tried on it. */
  get usable(): boolean {
    return this.#usable && this.#pending === undefined
  }

  /**
   * Sends a request and waits for the whole answer. Never rejects.
   *
   * @param startedAtNs the caller's reading of the clock, so that its own series ends where this one begins
   * @param timeoutMs bound on the whole exchange, set-up included; the connection is destroyed when it passes
   */
  exchange(request: Buffer, startedAtNs: number, timeoutMs: number): Promise<Exchange> {
    return new Promise((resolve) => {
      const opened = this.#socket === undefined
      this.#pending = {
        resolve,
        opened,
        timer: setTimeout(
          () => this.#finish('timeout', 'TIMEOUT', `no whole answer within ${timeoutMs} ms`),
          timeoutMs,
        ),
        instants: beginInstants(startedAtNs),
      }
      if (this.#socket === undefined) this.#open(request)
      else this.#socket.write(request)
    })
  }

  /** Ends it; an exchange in flight is abandoned. */
  destroy(): void {
    this.#finish('abandoned', undefined, undefined)
    this.#discard()
  }

  #open(request: Buffer): void {
    const { host, tls, ca, localAddress, connectTo = this.#endpoint } = this.#endpoint
    const address = { host: connectTo.host, port: connectTo.port, ...(localAddress ? { localAddress } : {}) }
    const socket = tls
      ? connectTls({
          ...address,
          servername: isIP(host) ? '' : host,
          ALPNProtocols: ['http/1.1'],
          ...(ca ? { ca } : {}),
        })
      : connectTcp(address)
    this.#socket = socket
    socket.setNoDelay(true)
    // A host with several addresses may be tried at several; the first answer of the resolver ends the lookup.
    socket.once('lookup', (error) => {
      if (!error) this.#step('lookedUpAtNs')
    })
    socket.once('connect', () => {
      this.#step('connectedAtNs')
      if (!tls) socket.write(request)
    })
    socket.once('secureConnect', () => {
      this.#step('securedAtNs')
      socket.write(request)
    })
    socket.on('data', (bytes) => this.#read(bytes))
    socket.on('end', () => {
      if (this.#reader.end()) this.#answered()
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      const cause = firstCause(error)
      this.#finish('error', (cause.code ?? 'SOCKET').slice(0, 48), cause.message)
    })
    socket.on('close', () => {
      this.#finish('error', 'CLOSED', 'the connection was closed before the whole answer')
      this.#discard()
    })
  }

  #step(step: 'lookedUpAtNs' | 'connectedAtNs' | 'securedAtNs'): void {
    if (this.#pending) this.#pending.instants[step] = nowNs()
  }

  #read(bytes: Buffer): void {
    const readAtNs = nowNs()
    const pending = this.#pending
    // Bytes nobody asked for: not an answer, and whatever follows could be taken for one.
    if (pending === undefined) {
      this.#discard()
      return
    }
    pending.instants.firstByteAtNs ??= readAtNs
    try {
      this.#reader.push(bytes)
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error
      this.#finish('error', error.code, error.message)
      return
    }
    if (this.#reader.done) this.#answered()
  }

  #answered(): void {
    const { status, keepAlive } = this.#reader
    this.#reader.reset()
    if (!keepAlive) this.#discard()
    this.#finish('answered', undefined, undefined, status)
  }

  #finish(outcome: Exchange['outcome'], reason: string | undefined, detail: string | undefined, status = 0): void {
    const pending = this.#pending
    if (pending === undefined) return
    const { resolve, opened, timer, instants } = pending
    instants.endedAtNs = nowNs()
    clearTimeout(timer)
    this.#pending = undefined
    if (outcome !== 'answered') this.#discard()
    resolve({ outcome, reason, detail, opened, status, instants })
  }

  #discard(): void {
    this.#usable = false
    this.#socket?.destroy()
  }
}

/** Several addresses tried in vain come as one `AggregateError`; its first error says why. */
function firstCause(error: NodeJS.ErrnoException): NodeJS.ErrnoException {
  const inner = error instanceof AggregateError ? error.errors[0] : undefined
  return inner instanceof Error ? inner : error
}
