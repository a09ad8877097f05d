/**
 * What can go wrong on this wire: `WireError` for text that is not what the venue's documents promise, `VenueError`
 * for a refusal in the venue's own words, `ConnectionError` when no whole answer was read.
 *
 * The venue answers errors in four shapes (nested, flat, bare `msg`, plain string); all four become one `VenueError`.
 * Match its codes loosely: they have changed without notice.
 */

import { EXIT, UserError } from '@tickscope/contract'

/** Longest piece of somebody else's text repeated in a message of ours, UTF-16 code units. */
const QUOTE_MAX = 200

/** Malformed wire text. A retry of the same text cannot help. */
export class WireError extends Error {
  readonly code = 'WIRE_INVALID'

  constructor(message: string) {
    super(message)
    this.name = 'WireError'
  }
}

/** No whole answer was read: refused, reset, timed out, or not the protocol it should be. */
export class ConnectionError extends Error {
  /**
   * - `CONNECT_FAILED`: no connection, so nothing was sent
   * - `CONNECTION_LOST`: it ended before the answer did
   * - `TIMEOUT`: the limit passed first
   * - `PROTOCOL`: the answer was not HTTP/1.1, or too long
   * - `REFUSED`: the feed answered a command with an error
   * - `BUSY`: every connection was taken and the queue for them full; nothing was sent
   * - `STOPPED`: by our own side
   */
  readonly code: 'CONNECT_FAILED' | 'CONNECTION_LOST' | 'TIMEOUT' | 'PROTOCOL' | 'REFUSED' | 'BUSY' | 'STOPPED'

  /** @param message names the address, and the limit where there is one */
  constructor(code: ConnectionError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'ConnectionError'
    this.code = code
  }
}

/** The venue said no. */
export class VenueError extends Error {
  readonly httpStatus: number
  /** As the venue wrote it, e.g. `order_already_exists`; made up as `http_<status>` when it wrote none. */
  readonly code: string
  readonly details: string | undefined
  /** Whether the same request may succeed later, unchanged: rate limit, pause, a server in trouble. */
  readonly retryable: boolean

  constructor(httpStatus: number, code: string, text: string, details: string | undefined) {
    const reason = text === '' || text === code ? '' : `: ${text}`
    super(`venue answered ${httpStatus} ${code}${reason}${details === undefined ? '' : ` (${details})`}`)
    this.name = 'VenueError'
    this.httpStatus = httpStatus
    this.code = code
    this.details = details
    this.retryable = httpStatus === 429 || httpStatus >= 500 || /paused/.test(code)
  }
}

/**
 * Errors of the venue or the way to it as one sentence for the user, exit code `EXIT.environment`; others come back as
 * they are.
 *
 * @param doing what was tried and where, e.g. `opening the feed at wss://…`: a refusal does not say it by itself
 */
export function venueUserError(error: unknown, doing: string): unknown {
  if (error instanceof VenueError) return new UserError('VENUE_REFUSED', `${doing}: ${error.message}`, EXIT.environment)
  if (error instanceof ConnectionError) return new UserError('VENUE_UNREACHABLE', error.message, EXIT.environment)
  if (error instanceof WireError)
    return new UserError('VENUE_MALFORMED', `${doing}: malformed answer: ${error.message}`, EXIT.environment)
  return error
}

/**
 * Reads the body of an answer that is not a success; never throws.
 *
 * | shape | body |
 * | --- | --- |
 * | nested, most calls | `{"error":{"code","message","details"?}}` |
 * | flat, JSON decoding | `{"code","message","details"}` |
 * | bare, parameter validation | `{"msg":"…"}` |
 * | string, rate limit | `{"error":"too many requests"}` |
 *
 * Anything else, such as a load balancer's page, keeps its status and the start of its text.
 */
export function parseErrorBody(httpStatus: number, body: string): VenueError {
  const fallback = `http_${httpStatus}`
  let json: unknown
  try {
    json = JSON.parse(body)
  } catch {
    return new VenueError(httpStatus, fallback, cut(body.trim()), undefined)
  }
  const outer = (typeof json === 'object' && json !== null ? json : {}) as Record<string, unknown>
  if (typeof outer.error === 'string')
    return new VenueError(httpStatus, codeOf(outer.error, fallback), cut(outer.error), undefined)
  const inner = (typeof outer.error === 'object' && outer.error !== null ? outer.error : outer) as typeof outer
  const text = typeof inner.message === 'string' ? inner.message : typeof inner.msg === 'string' ? inner.msg : ''
  const details =
    inner.details === undefined || inner.details === null || inner.details === ''
      ? undefined
      : cut(typeof inner.details === 'string' ? inner.details : JSON.stringify(inner.details))
  return new VenueError(
    httpStatus,
    typeof inner.code === 'string' ? codeOf(inner.code, fallback) : fallback,
    cut(text),
    details,
  )
}

/** `Too many requests` and `too_many_requests` are one code. */
function codeOf(text: string, fallback: string): string {
  const code = text
    .slice(0, 64)
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '_')
    .replaceAll(/^_+|_+$/g, '')
  return code === '' ? fallback : code
}

function cut(text: string): string {
  return text.length > QUOTE_MAX ? `${text.slice(0, QUOTE_MAX)}…` : text
}

/** @returns text of the other side, cut and in quotes, fit for a message of ours */
export function quote(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value))
  return `'${cut(text)}'`
}
