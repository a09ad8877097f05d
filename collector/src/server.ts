/**
 * The collector's HTTP surface: routes, limits, and errors in the encoding their reader expects.
 *
 * Bodies are taken as bytes with a limit per route and never parsed here. Refusals that need no body (no token, wrong
 * type, too many at once) are given before it is read.
 */
import { Readable } from 'node:stream'
import { BATCH_LIMITS } from '@tickscope/contract'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { bearerCheck } from './auth.ts'
import { RequestError } from './error.ts'
import { CONTENT_TYPES, type Format, negotiate } from './exposition.ts'
import type { Verdict } from './ingest.ts'
import type { Summary } from './summary.ts'
import { rpcStatus, TRACE_LIMITS, TRACE_TYPES, type TraceForwarder, type TraceType } from './traces.ts'

export interface ServerParts {
  readonly token: string | undefined
  readonly takeBatch: (body: Buffer, gzip: boolean) => Promise<Verdict>
  readonly onBatchRefused: () => void
  readonly traces: TraceForwarder
  readonly renderMetrics: (format: Format) => AsyncIterable<string>
  readonly summary: () => Summary
  readonly healthy: () => boolean
  readonly log: (line: string) => void
}

/** Batch requests at a time; each holds at most `BATCH_LIMITS.wireBytes` while it waits. */
const BATCHES_IN_FLIGHT = 64
const CONNECTIONS_MAX = 1024
/** A request must have arrived whole after this; looked at every `CONNECTION_CHECK_MS`. */
const REQUEST_TIMEOUT_MS = 15_000
const CONNECTION_CHECK_MS = 5000
/** Longer than an agent's second between batches, so that it keeps its connection. */
const KEEP_ALIVE_MS = 65_000

const METHODS: { readonly [path: string]: 'GET' | 'POST' } = {
  '/v1/batches': 'POST',
  '/v1/traces': 'POST',
  '/v1/summary': 'GET',
  '/metrics': 'GET',
  '/healthz': 'GET',
}

export function createServer(parts: ServerParts): FastifyInstance {
  const server = Fastify({
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    http: { connectionsCheckingInterval: CONNECTION_CHECK_MS },
    forceCloseConnections: 'idle',
    exposeHeadRoutes: false,
  })
  server.server.maxConnections = CONNECTIONS_MAX
  server.removeAllContentTypeParsers()
  server.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))

  const authorized = parts.token === undefined ? () => true : bearerCheck(parts.token)
  server.addHook('onRequest', async (request, reply) => {
    if (pathOf(request) === '/healthz' || authorized(request.headers.authorization)) return
    reply.header('www-authenticate', 'Bearer')
    throw new RequestError(401, 'TOKEN_REQUIRED', 'this collector wants its token as Authorization: Bearer')
  })

  let batches = 0
  server.post('/v1/batches', {
    bodyLimit: BATCH_LIMITS.wireBytes,
    onRequest: async (request, reply) => {
      checkMedia(request, ['application/json'])
      if (batches >= BATCHES_IN_FLIGHT)
        throw new RequestError(503, 'BATCHES_BUSY', `${BATCHES_IN_FLIGHT} batches are already under way`, 1)
      batches++
      reply.raw.once('close', () => {
        batches--
      })
    },
    handler: (request) => parts.takeBatch(bodyOf(request), isGzip(request)),
  })

  server.post('/v1/traces', {
    bodyLimit: TRACE_LIMITS.wireBytes,
    onRequest: async (request) => checkMedia(request, TRACE_TYPES),
    handler: async (request, reply) => {
      const type = mediaType(request) as TraceType
      const answer = await parts.traces.forward(bodyOf(request), type, isGzip(request))
      if (answer.retryAfter !== undefined) reply.header('retry-after', answer.retryAfter)
      return reply.code(answer.status).type(type).send(answer.body)
    },
  })

  server.get('/metrics', (request, reply) => {
    const format = negotiate(request.headers.accept)
    return reply.type(CONTENT_TYPES[format]).send(Readable.from(parts.renderMetrics(format)))
  })
  server.get('/v1/summary', async () => parts.summary())
  server.get('/healthz', async (_request, reply) => {
    const healthy = parts.healthy()
    return reply.code(healthy ? 200 : 503).send({ status: healthy ? 'ok' : 'the journal cannot be kept' })
  })

  server.setNotFoundHandler(async (request, reply) => {
    const allowed = METHODS[pathOf(request)]
    if (allowed === undefined) throw new RequestError(404, 'NOT_FOUND', 'there is nothing at this path')
    reply.header('allow', allowed)
    throw new RequestError(405, 'METHOD_NOT_ALLOWED', `this path takes ${allowed} only`)
  })
  server.setErrorHandler((error, request, reply) => {
    const refusal = asRequestError(error, request, parts.log)
    if (pathOf(request) === '/v1/batches') parts.onBatchRefused()
    return sendError(refusal, request, reply)
  })
  return server
}

function sendError(error: RequestError, request: FastifyRequest, reply: FastifyReply) {
  reply.code(error.status)
  if (error.retryAfterSeconds !== undefined) reply.header('retry-after', `${error.retryAfterSeconds}`)
  if (pathOf(request) !== '/v1/traces') return reply.send({ error: error.message, code: error.code })
  const given = mediaType(request) as TraceType
  const type = TRACE_TYPES.includes(given) ? given : 'application/json'
  return reply.type(type).send(rpcStatus(type, error.message))
}

function asRequestError(error: unknown, request: FastifyRequest, log: (line: string) => void): RequestError {
  if (error instanceof RequestError) return error
  const { statusCode, code, message } = error as { statusCode?: number; code?: string; message: string }
  if (statusCode === 413) {
    const limit = request.routeOptions.bodyLimit
    return new RequestError(413, 'BODY_TOO_LARGE', `the body is larger than ${limit} bytes`)
  }
  if (statusCode !== undefined && statusCode < 500)
    return new RequestError(statusCode, code ?? 'BAD_REQUEST', message.split('\n')[0] as string)
  log(`${request.method} ${pathOf(request)} failed: ${message}`)
  return new RequestError(500, 'INTERNAL', 'the collector made a mistake; its log says which')
}

/** @throws RequestError 415 */
function checkMedia(request: FastifyRequest, types: readonly string[]): void {
  if (!types.includes(mediaType(request)))
    throw new RequestError(415, 'MEDIA_TYPE', `Content-Type must be ${types.join(' or ')}`)
  const encoding = request.headers['content-encoding']?.toLowerCase() ?? 'identity'
  if (!['identity', 'gzip'].includes(encoding))
    throw new RequestError(415, 'CONTENT_ENCODING', 'Content-Encoding must be gzip or absent')
}

function mediaType(request: FastifyRequest): string {
  return (request.headers['content-type'] ?? '').split(';', 1)[0]?.trim().toLowerCase() as string
}

function isGzip(request: FastifyRequest): boolean {
  return request.headers['content-encoding']?.toLowerCase() === 'gzip'
}

/** A request without a body has none to parse. */
function bodyOf(request: FastifyRequest): Buffer {
  return (request.body as Buffer | undefined) ?? Buffer.alloc(0)
}

function pathOf(request: FastifyRequest): string {
  return request.url.split('?', 1)[0] as string
}
