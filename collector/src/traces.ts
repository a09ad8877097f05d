/**
 * `POST /v1/traces`: takes OTLP/HTTP (specification 1.11) and passes it on to a backend as it came.
 *
 * Protobuf and JSON, plain or gzip; the body is not read beyond its size, also after decompression, and reaches the
 * backend byte for byte. The sender waits for the backend's answer and gets it, partial success included, so nothing is
 * acknowledged that nobody has. Requests in flight are bounded in number and time; beyond that senders are told to come
 * back (503, retryable). Every error is a `google.rpc.Status` in the sender's encoding. Without a backend, traces are
 * accepted and discarded, and counted as such.
 */
import { createGunzip } from 'node:zlib'
import { Pool } from 'undici'
import { RequestError } from './error.ts'

export const TRACE_LIMITS = {
  /** Body as sent, bytes. */
  wireBytes: 8 * 1024 * 1024,
  /** Body after decompression, bytes: what the OTLP specification recommends. */
  bodyBytes: 64 * 1024 * 1024,
  /** Requests waiting for the backend; with `wireBytes`, at most 128 MiB. */
  inFlight: 16,
  /** Connections to the backend. */
  connections: 8,
  timeoutMs: 10_000,
  /** Answer of the backend: what the OTLP specification lets a client accept. */
  answerBytes: 4 * 1024 * 1024,
} as const

export const TRACE_TYPES = ['application/x-protobuf', 'application/json'] as const
export type TraceType = (typeof TRACE_TYPES)[number]

export interface TraceAnswer {
  readonly status: number
  readonly body: Buffer
  /** As the backend gave it. */
  readonly retryAfter?: string | undefined
}

export interface TraceForwarder {
  /** @throws RequestError */
  forward(body: Buffer, type: TraceType, gzip: boolean): Promise<TraceAnswer>
  close(): Promise<void>
}

export type TraceOutcome = 'forwarded' | 'failed' | 'discarded'

export interface TraceOptions {
  /** Base URL of the OTLP/HTTP backend, `/v1/traces` is added; undefined discards. */
  readonly backendUrl: string | undefined
  readonly onOutcome: (outcome: TraceOutcome) => void
  /** Time the backend has for one request, waiting for a connection included. */
  readonly timeoutMs?: number
}

export function createTraceForwarder(options: TraceOptions): TraceForwarder {
  const { backendUrl, onOutcome, timeoutMs = TRACE_LIMITS.timeoutMs } = options
  const target = backendUrl === undefined ? undefined : new URL(`${backendUrl.replace(/\/+$/, '')}/v1/traces`)
  const pool =
    target &&
    new Pool(target.origin, { connections: TRACE_LIMITS.connections, maxResponseSize: TRACE_LIMITS.answerBytes })
  let inFlight = 0

  async function post(body: Buffer, type: TraceType, gzip: boolean): Promise<TraceAnswer> {
    if (!target || !pool) {
      onOutcome('discarded')
      return { status: 200, body: emptyResponse(type) }
    }
    try {
      const answer = await pool.request({
        method: 'POST',
        path: target.pathname + target.search,
        headers: { 'content-type': type, ...(gzip && { 'content-encoding': 'gzip' }) },
        body,
        signal: AbortSignal.timeout(timeoutMs),
      })
      const bytes = Buffer.from(await answer.body.arrayBuffer())
      const ok = answer.statusCode >= 200 && answer.statusCode <= 299
      onOutcome(ok ? 'forwarded' : 'failed')
      const sameType = `${answer.headers['content-type'] ?? ''}`.split(';')[0]?.trim().toLowerCase() === type
      if (ok) return { status: 200, body: sameType ? bytes : emptyResponse(type) }
      const text = `the trace backend answered ${answer.statusCode}`
      return {
        status: relayedStatus(answer.statusCode),
        body: sameType ? bytes : rpcStatus(type, text),
        retryAfter: answer.headers['retry-after']?.toString(),
      }
    } catch (error) {
      onOutcome('failed')
      if ((error as Error).name === 'TimeoutError')
        throw new RequestError(504, 'BACKEND_TIMEOUT', `the trace backend took longer than ${timeoutMs} ms`, 1)
      const why = (error as NodeJS.ErrnoException).code ?? (error as Error).message
      throw new RequestError(502, 'BACKEND_UNREACHABLE', `the trace backend cannot be reached: ${why}`, 1)
    }
  }

  return {
    async forward(body, type, gzip) {
      if (inFlight >= TRACE_LIMITS.inFlight)
        throw new RequestError(503, 'TRACES_BUSY', `${TRACE_LIMITS.inFlight} trace requests are already under way`, 1)
      inFlight++
      try {
        if (gzip) await checkInflatedSize(body)
        return await post(body, type, gzip)
      } finally {
        inFlight--
      }
    },
    close: async () => pool?.destroy(),
  }
}

/** An OTLP client retries 429, 502, 503 and 504 only; any other failure of a backend but a refusal is passing too. */
function relayedStatus(status: number): number {
  return (status >= 400 && status < 500) || [502, 503, 504].includes(status) ? status : 502
}

/** Inflates into nothing: the size is checked in the memory of one piece. @throws RequestError 413 or 400 */
async function checkInflatedSize(body: Buffer): Promise<void> {
  const inflated = createGunzip()
  inflated.end(body)
  let bytes = 0
  try {
    for await (const piece of inflated) {
      bytes += (piece as Buffer).length
      if (bytes > TRACE_LIMITS.bodyBytes) break
    }
  } catch {
    throw new RequestError(400, 'TRACES_INVALID', 'the body is not a whole gzip stream')
  }
  if (bytes > TRACE_LIMITS.bodyBytes)
    throw new RequestError(413, 'BODY_TOO_LARGE', `the body inflates to more than ${TRACE_LIMITS.bodyBytes} bytes`)
}

/** An `ExportTraceServiceResponse` of full success: no field is set. */
function emptyResponse(type: TraceType): Buffer {
  return Buffer.from(type === 'application/json' ? '{}' : '')
}

/** `google.rpc.Status` with its message: field 2, length-delimited. */
export function rpcStatus(type: TraceType, message: string): Buffer {
  if (type === 'application/json') return Buffer.from(JSON.stringify({ message }))
  const text = Buffer.from(message)
  const length: number[] = []
  for (let rest = text.length; ; rest = Math.floor(rest / 128)) {
    length.push(rest >= 128 ? (rest % 128) + 128 : rest)
    if (rest < 128) break
  }
  return Buffer.concat([Buffer.from([0x12, ...length]), text])
}
