/**
 * One HTTP/1.1 answer read from a socket, chunk by chunk: enough of RFC 9112 for a JSON API, strict where being
 * lenient could pair an answer with the wrong request.
 *
 * Bounded: head 16 KiB, body as given, a chunk-size line 256 bytes. An answer that comes in one read, the usual case, is not copied.
 */
import { quote, WireError } from './error.ts'

/** All header lines together, bytes. */
const HEAD_MAX_BYTES = 16 * 1024
/** A chunk-size line with its extensions, bytes. */
const CHUNK_LINE_MAX_BYTES = 256

const LINE_FEED = 10

type Await =
  | 'status line'
  | 'header'
  | 'body'
  | 'body until close'
  | 'chunk size'
  | 'chunk'
  | 'chunk end'
  | 'trailer'
  | 'nothing'

export class ResponseParser {
  readonly #bodyMaxBytes: number
  #await: Await = 'status line'
  /** Start of a line whose end has not come yet. */
  #line = ''
  #headBytes = 0
  /** Bytes of the body (or chunk) still to come. */
  #left = 0
  #contentLength: number | undefined
  #chunked = false
  #body: Buffer = Buffer.alloc(0)
  #bodyBytes = 0

  status = 0
  /** Whether the connection may carry another request. */
  keepAlive = true
  /** Seconds the server said it keeps an idle connection. */
  keepAliveSeconds: number | undefined

  constructor(bodyMaxBytes: number) {
    this.#bodyMaxBytes = bodyMaxBytes
  }

  /** Whether the answer is whole. */
  get complete(): boolean {
    return this.#await === 'nothing'
  }

  get body(): string {
    return this.#body.toString('utf8', 0, this.#bodyBytes)
  }

  /**
   * @returns whether the answer is whole now
   * @throws WireError on anything that is not an HTTP/1.1 answer within the limits
   */
  push(chunk: Buffer): boolean {
    let at = 0
    while (at < chunk.length) {
      switch (this.#await) {
        case 'nothing':
          // Bytes beyond the answer belong to no request of ours: this connection cannot be trusted with another.
          this.keepAlive = false
          return true
        case 'body':
        case 'chunk': {
          const end = Math.min(chunk.length, at + this.#left)
          this.#keep(chunk.subarray(at, end))
          this.#left -= end - at
          at = end
          if (this.#left === 0) this.#await = this.#await === 'body' ? 'nothing' : 'chunk end'
          break
        }
        case 'body until close':
          this.#keep(chunk.subarray(at))
          at = chunk.length
          break
        default: {
          const feed = chunk.indexOf(LINE_FEED, at)
          const end = feed < 0 ? chunk.length : feed + 1
          this.#countHead(end - at)
          this.#line += chunk.toString('latin1', at, end)
          at = end
          if (feed >= 0) {
            if (!this.#line.endsWith('\r\n')) throw new WireError('a line of the answer does not end in CR LF')
            const line = this.#line.slice(0, -2)
            this.#line = ''
            this.#readLine(line)
          }
        }
      }
    }
    return this.complete
  }

  /** The peer sent its last byte. @returns whether the answer is whole */
  end(): boolean {
    this.keepAlive = false
    if (this.#await === 'body until close') this.#await = 'nothing'
    return this.complete
  }

  #readLine(line: string): void {
    switch (this.#await) {
      case 'status line': {
        const match = /^HTTP\/1\.([01]) ([1-5]\d\d)(?: |$)/.exec(line)
        if (match === null) throw new WireError(`the answer does not start as HTTP/1.1 but with ${quote(line)}`)
        this.status = Number(match[2])
        this.keepAlive = match[1] === '1'
        this.keepAliveSeconds = undefined
        this.#contentLength = undefined
        this.#chunked = false
        this.#await = 'header'
        return
      }
      case 'header':
        if (line === '') this.#endOfHead()
        else this.#readHeader(line)
        return
      case 'chunk size': {
        const match = /^([0-9a-fA-F]{1,8})[ \t]*(?:;.*)?$/.exec(line)
        if (match === null) throw new WireError(`${quote(line)} is not a chunk size`)
        this.#left = Number.parseInt(match[1] as string, 16)
        this.#headBytes = 0
        this.#await = this.#left === 0 ? 'trailer' : 'chunk'
        return
      }
      case 'chunk end':
        if (line !== '') throw new WireError('a chunk is longer than it said')
        this.#await = 'chunk size'
        return
      case 'trailer':
        if (line === '') this.#await = 'nothing'
        return
      default:
        throw new Error(`no line is awaited in state ${this.#await}`)
    }
  }

  #readHeader(line: string): void {
    const colon = line.indexOf(':')
    if (colon <= 0 || line[0] === ' ' || line[0] === '\t') throw new WireError(`${quote(line)} is not a header`)
    // The four names that matter are told apart by length first: most headers never need lower-casing.
    if (colon !== 14 && colon !== 17 && colon !== 10) return
    const name = line.slice(0, colon).toLowerCase()
    const value = line.slice(colon + 1).trim()
    if (name === 'content-length') {
      if (!/^\d{1,10}$/.test(value)) throw new WireError(`content-length is ${quote(value)}`)
      const length = Number(value)
      if (this.#contentLength !== undefined && this.#contentLength !== length)
        throw new WireError('the answer has two content-lengths')
      this.#contentLength = length
    } else if (name === 'transfer-encoding') {
      if (value.toLowerCase() !== 'chunked') throw new WireError(`transfer-encoding is ${quote(value)}, not chunked`)
      this.#chunked = true
    } else if (name === 'connection') {
      if (/(?:^|,)[ \t]*close[ \t]*(?:,|$)/i.test(value)) this.keepAlive = false
    } else if (name === 'keep-alive') {
      const match = /(?:^|[,;\s])timeout=(\d{1,6})/i.exec(value)
      if (match !== null) this.keepAliveSeconds = Number(match[1])
    }
  }

  #endOfHead(): void {
    this.#headBytes = 0
    if (this.status === 101) throw new WireError('the venue switched protocols unasked')
    if (this.status < 200) {
      this.#await = 'status line'
    } else if (this.status === 204 || this.status === 304) {
      this.#await = 'nothing'
    } else if (this.#chunked) {
      // Both at once is how answers are smuggled past a proxy (RFC 9112 §6.3).
      if (this.#contentLength !== undefined) throw new WireError('the answer is chunked and has a content-length')
      this.#await = 'chunk size'
    } else if (this.#contentLength === undefined) {
      this.keepAlive = false
      this.#await = 'body until close'
    } else if (this.#contentLength > this.#bodyMaxBytes) {
      throw new WireError(`the answer is ${this.#contentLength} bytes long; the limit is ${this.#bodyMaxBytes}`)
    } else {
      this.#left = this.#contentLength
      this.#await = this.#left === 0 ? 'nothing' : 'body'
    }
  }

  #countHead(bytes: number): void {
    this.#headBytes += bytes
    const limit = this.#await === 'chunk size' || this.#await === 'chunk end' ? CHUNK_LINE_MAX_BYTES : HEAD_MAX_BYTES
    if (this.#headBytes > limit) throw new WireError(`the answer's head is longer than ${limit} bytes`)
  }

  #keep(part: Buffer): void {
    const bytes = this.#bodyBytes + part.length
    if (bytes > this.#bodyMaxBytes) throw new WireError(`the answer is longer than ${this.#bodyMaxBytes} bytes`)
    if (this.#bodyBytes === 0) {
      this.#body = part
    } else {
      if (bytes > this.#body.length) {
        const grown = Buffer.allocUnsafe(Math.min(this.#bodyMaxBytes, Math.max(bytes, 2 * this.#body.length)))
        this.#body.copy(grown, 0, 0, this.#bodyBytes)
        this.#body = grown
      }
      part.copy(this.#body, this.#bodyBytes)
    }
    this.#bodyBytes = bytes
  }
}
