/**
 * Reads one HTTP/1.1 answer after the other from the bytes of a connection, and bounds what it takes.
 *
 * Ours, because a probe needs its own instants at the socket and nothing in between: against the same server on
 * loopback, a warm request took 0.35 ms at the median this way, 0.6 ms through undici's `Client` and 0.8 ms through
 * `node:http`, which also retry or queue on their own. The reader is strict: what RFC 9112 calls an error ends the
 * connection. Bodies are counted, not kept.
 */

/** Longest status line and header fields together, bytes; nginx and Node accept 8 and 16 KiB. */
const HEAD_BYTES_MAX = 64 * 1024
/** Longest body, bytes; a venue's largest answer, all its markets, is under 2 MiB. */
export const BODY_BYTES_MAX = 16 * 1024 * 1024
/** Longest chunk size line with its extensions, or trailer section, bytes. */
const CHUNK_LINE_BYTES_MAX = 8 * 1024
/** Interim (1xx) answers before a final one. */
const INTERIM_MAX = 16

/** The peer speaks something that is not HTTP/1.1, or more than the limits allow; the connection is of no more use. */
export class ProtocolError extends Error {
  readonly code = 'PROTOCOL'
}

const CR = 13
const LF = 10

type State = 'head' | 'length' | 'chunk-size' | 'chunk-data' | 'chunk-end' | 'trailer' | 'until-close' | 'done'

export class ResponseReader {
  /** Status of the final answer, 0 before its head was read. */
  status = 0
  bodyBytes = 0
  /** Whether the peer will answer another request on this connection; meaningful when done. */
  keepAlive = false
  #state: State = 'head'
  #head: Buffer[] = []
  #headBytes = 0
  /** Bytes of CR LF CR LF seen at the end of the head so far. */
  #terminator = 0
  #interims = 0
  /** Bytes left of the body, or of the current chunk. */
  #left = 0
  #line = ''
  #lineBytes = 0

  get done(): boolean {
    return this.#state === 'done'
  }

  /**
   * Takes the next bytes of the connection.
   *
   * @throws ProtocolError
   */
  push(bytes: Buffer): void {
    let at = 0
    while (at < bytes.length) {
      switch (this.#state) {
        case 'head':
          at = this.#pushHead(bytes, at)
          break
        case 'length':
        case 'chunk-data': {
          const taken = Math.min(this.#left, bytes.length - at)
          at += taken
          this.#left -= taken
          this.#countBody(taken)
          if (this.#left === 0) this.#state = this.#state === 'length' ? 'done' : 'chunk-end'
          break
        }
        case 'chunk-size':
        case 'chunk-end':
        case 'trailer':
          at = this.#pushLine(bytes, at)
          break
        case 'until-close':
          this.#countBody(bytes.length - at)
          at = bytes.length
          break
        case 'done':
          throw new ProtocolError('bytes after the end of the answer')
      }
    }
  }

  /**
   * The peer ended the connection.
   *
   * @returns whether that completes the answer
   */
  end(): boolean {
    if (this.#state === 'until-close') this.#state = 'done'
    return this.done
  }

  /** Ready for the next answer on the same connection. */
  reset(): void {
    this.status = 0
    this.bodyBytes = 0
    this.keepAlive = false
    this.#state = 'head'
    this.#interims = 0
    this.#resetHead()
    this.#resetLine()
  }

  #resetHead(): void {
    this.#head = []
    this.#headBytes = 0
    this.#terminator = 0
  }

  #resetLine(): void {
    this.#line = ''
    this.#lineBytes = 0
  }

  #countBody(bytes: number): void {
    this.bodyBytes += bytes
    if (this.bodyBytes > BODY_BYTES_MAX) throw new ProtocolError(`body of more than ${BODY_BYTES_MAX} bytes`)
  }

  /** @returns the offset behind what it took */
  #pushHead(bytes: Buffer, from: number): number {
    let at = from
    while (at < bytes.length && this.#terminator < 4) {
      const byte = bytes[at++]
      const expected = this.#terminator % 2 === 0 ? CR : LF
      this.#terminator = byte === expected ? this.#terminator + 1 : byte === CR ? 1 : 0
    }
    this.#headBytes += at - from
    if (this.#headBytes > HEAD_BYTES_MAX) throw new ProtocolError(`head of more than ${HEAD_BYTES_MAX} bytes`)
    this.#head.push(bytes.subarray(from, at))
    if (this.#terminator === 4) {
      const head = this.#head.length === 1 ? (this.#head[0] as Buffer) : Buffer.concat(this.#head)
      this.#resetHead()
      this.#readHead(head.toString('latin1', 0, head.length - 4))
    }
    return at
  }

  #readHead(text: string): void {
    const [statusLine, ...fields] = text.split('\r\n')
    const match = /^HTTP\/1\.([01]) (\d{3})(?: .*)?$/.exec(statusLine as string)
    if (match === null) throw new ProtocolError('no HTTP/1.1 status line')
    const status = Number(match[2])
    if (status < 200) {
      if (status < 100 || status === 101) throw new ProtocolError(`unexpected status ${status}`)
      if (++this.#interims > INTERIM_MAX) throw new ProtocolError(`more than ${INTERIM_MAX} interim answers`)
      return
    }
    let length: number | undefined
    let chunked = false
    let connection = ''
    for (const field of fields) {
      const colon = field.indexOf(':')
      if (colon < 1 || /\s/.test(field.slice(0, colon))) throw new ProtocolError('malformed header field')
      const value = field.slice(colon + 1).trim()
      switch (field.slice(0, colon).toLowerCase()) {
        case 'content-length': {
          const bytes = /^\d{1,15}$/.test(value) ? Number(value) : Number.NaN
          if (!(bytes <= BODY_BYTES_MAX)) throw new ProtocolError(`content-length not a number up to ${BODY_BYTES_MAX}`)
          if (length !== undefined && length !== bytes) throw new ProtocolError('two values of content-length')
          length = bytes
          break
        }
        case 'transfer-encoding':
          if (chunked || value.toLowerCase() !== 'chunked') throw new ProtocolError('transfer-encoding not chunked')
          chunked = true
          break
        case 'connection':
          connection = `${connection},${value.toLowerCase()}`
          break
      }
    }
    if (chunked && length !== undefined) throw new ProtocolError('both transfer-encoding and content-length')
    this.status = status
    const options = connection.split(',').map((option) => option.trim())
    this.keepAlive = match[1] === '1' ? !options.includes('close') : options.includes('keep-alive')
    if (status === 204 || status === 304 || length === 0) this.#state = 'done'
    else if (chunked) this.#state = 'chunk-size'
    else if (length !== undefined) {
      this.#state = 'length'
      this.#left = length
    } else {
      this.#state = 'until-close'
      this.keepAlive = false
    }
  }

  /** Collects a line of the chunked coding up to its CR LF, then reads it. */
  #pushLine(bytes: Buffer, from: number): number {
    const newline = bytes.indexOf(LF, from)
    const end = newline < 0 ? bytes.length : newline + 1
    this.#lineBytes += end - from
    if (this.#lineBytes > CHUNK_LINE_BYTES_MAX)
      throw new ProtocolError(`chunk line or trailers of more than ${CHUNK_LINE_BYTES_MAX} bytes`)
    this.#line += bytes.toString('latin1', from, end)
    if (newline >= 0) {
      if (!this.#line.endsWith('\r\n')) throw new ProtocolError('chunk line without CR')
      this.#readLine(this.#line.slice(0, -2))
    }
    return end
  }

  #readLine(line: string): void {
    this.#line = ''
    if (this.#state === 'trailer') {
      if (line === '') this.#state = 'done'
      return
    }
    this.#lineBytes = 0
    if (this.#state === 'chunk-end') {
      if (line !== '') throw new ProtocolError('chunk longer than its size')
      this.#state = 'chunk-size'
      return
    }
    const match = /^([0-9a-f]{1,8})[ \t]*(?:;.*)?$/i.exec(line)
    if (match === null) throw new ProtocolError('malformed chunk size')
    this.#left = Number.parseInt(match[1] as string, 16)
    this.#state = this.#left === 0 ? 'trailer' : 'chunk-data'
  }
}
