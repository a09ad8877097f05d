/**
 * One HTTP/2 connection to a venue, with the same instants as `connection.ts` takes on HTTP/1.1.
 *
 * HTTP/2 is agreed on in the TLS handshake (ALPN); a server that chooses another protocol ends the exchange with the
 * reason `ALPN`, it is never spoken to in that other one. Requests share the connection: one that comes while another
 * waits for its answer is sent beside it, and one that comes while the connection is being set up waits for that in its
 * `ttfb`. The first byte is that of the answer's header block: the library hands over nothing smaller.
 */
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2, constants } from 'node:http2'
import { isIP } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { nowNs } from './clock.ts'
import { beginInstants, type Endpoint, type Exchange, type RunningInstants } from './connection.ts'
import { BODY_BYTES_MAX } from './http1.ts'

/** Reason of an exchange with a server that chose another protocol. */
export const ALPN = 'ALPN'

export interface Http2Request {
  /** As it is in a URL: with the port unless it is the scheme's own. */
  readonly authority: string
  readonly path: string
  readonly fields: { readonly [name: string]: string }
}

interface Pending {
  readonly request: Http2Request
  readonly resolve: (exchange: Exchange) => void
  readonly opened: boolean
  readonly timer: NodeJS.Timeout
  readonly instants: RunningInstants
  stream: ClientHttp2Stream | undefined
  status: number
}

export class Http2Connection {
  readonly #endpoint: Endpoint
  readonly #pending = new Set<Pending>()
  #socket: TLSSocket | undefined
  #session: ClientHttp2Session | undefined
  #usable = true

  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint
  }

  /** Whether another exchange may be tried on it, also while one is in flight. */
  get usable(): boolean {
    return this.#usable
  }

  /**
   * Sends a GET and waits for the whole answer. Never rejects.
   *
   * @param startedAtNs the caller's reading of the clock
   * @param timeoutMs bound on the whole exchange, set-up included
   */
  exchange(request: Http2Request, startedAtNs: number, timeoutMs: number): Promise<Exchange> {
    return new Promise((resolve) => {
      const pending: Pending = {
        request,
        resolve,
        opened: this.#socket === undefined,
        timer: setTimeout(() => {
          this.#finish(pending, 'timeout', 'TIMEOUT', `no whole answer within ${timeoutMs} ms`)
          // The others on this connection are not to suffer; but one that is not even set up is of no use to them.
          if (pending.stream !== undefined) pending.stream.close(constants.NGHTTP2_CANCEL)
          else this.#end('CLOSED', 'the connection was not set up in time')
        }, timeoutMs),
        instants: beginInstants(startedAtNs),
        stream: undefined,
        status: 0,
      }
      this.#pending.add(pending)
      if (this.#socket === undefined) this.#open(pending)
      else if (this.#session !== undefined) this.#send(this.#session, pending)
    })
  }

  /** Ends it; exchanges in flight are abandoned. */
  destroy(): void {
    for (const pending of this.#pending) this.#finish(pending, 'abandoned', undefined, undefined)
    this.#discard()
  }

  #open({ instants, request }: Pending): void {
    const { host, port, ca } = this.#endpoint
    const socket = connectTls({
      host,
      port,
      servername: isIP(host) ? '' : host,
      ALPNProtocols: ['h2', 'http/1.1'],
      ...(ca ? { ca } : {}),
    })
    this.#socket = socket
    socket.setNoDelay(true)
    socket.once('lookup', (error) => {
      if (!error) instants.lookedUpAtNs = nowNs()
    })
    socket.once('connect', () => {
      instants.connectedAtNs = nowNs()
    })
    const failed = (error: NodeJS.ErrnoException) => this.#end((error.code ?? 'SOCKET').slice(0, 48), error.message)
    socket.on('error', failed)
    socket.on('close', () => this.#end('CLOSED', 'the connection was closed before the whole answer'))
    socket.once('secureConnect', () => {
      instants.securedAtNs = nowNs()
      if (socket.alpnProtocol !== 'h2') {
        const chosen = socket.alpnProtocol === false ? 'no protocol' : socket.alpnProtocol
        this.#end(ALPN, `the server chose ${chosen} in the TLS handshake`)
        return
      }
      const session = connectHttp2(`https://${request.authority}`, { createConnection: () => socket })
      session.on('error', failed)
      session.on('goaway', () => {
        // Streams in flight may still be answered; new ones may not be tried.
        this.#usable = false
      })
      session.on('close', () => this.#end('CLOSED', 'the connection was closed before the whole answer'))
      this.#session = session
      for (const pending of this.#pending) this.#send(session, pending)
    })
  }

  #send(session: ClientHttp2Session, pending: Pending): void {
    if (session.closed || session.destroyed) {
      this.#finish(pending, 'error', 'CLOSED', 'the connection was closed before the request was sent')
      return
    }
    const { authority, path, fields } = pending.request
    const stream = session.request(
      { ':method': 'GET', ':scheme': 'https', ':authority': authority, ':path': path, ...fields },
      { endStream: true },
    )
    pending.stream = stream
    let bytes = 0
    stream.on('response', (head) => {
      pending.instants.firstByteAtNs = nowNs()
      pending.status = Number(head[':status'])
    })
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes <= BODY_BYTES_MAX) return
      this.#finish(pending, 'error', 'PROTOCOL', `the answer's body is longer than ${BODY_BYTES_MAX} bytes`)
      stream.close(constants.NGHTTP2_CANCEL)
    })
    stream.on('end', () => {
      if (pending.status !== 0) this.#finish(pending, 'answered', undefined, undefined)
    })
    stream.on('error', (error: NodeJS.ErrnoException) =>
      this.#finish(pending, 'error', (error.code ?? 'STREAM').slice(0, 48), error.message),
    )
    stream.on('close', () => this.#finish(pending, 'error', 'CLOSED', 'the stream was closed before the whole answer'))
  }

  #finish(
    pending: Pending,
    outcome: Exchange['outcome'],
    reason: string | undefined,
    detail: string | undefined,
  ): void {
    if (!this.#pending.delete(pending)) return
    const { resolve, opened, timer, instants, status } = pending
    instants.endedAtNs = nowNs()
    clearTimeout(timer)
    resolve({ outcome, reason, detail, opened, status, instants })
  }

  #end(reason: string, detail: string): void {
    for (const pending of this.#pending) this.#finish(pending, 'error', reason, detail)
    this.#discard()
  }

  #discard(): void {
    if (!this.#usable && this.#socket?.destroyed) return
    this.#usable = false
    this.#session?.destroy()
    this.#socket?.destroy()
  }
}
