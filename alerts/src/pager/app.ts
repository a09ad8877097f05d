/**
 * The pager: takes Alertmanager's webhook (version 4), prints each page, and keeps what it delivered.
 *
 * `POST /page` takes notifications, `GET /v1/pages` lists the pages and `GET /v1/tickets` everything less urgent,
 * oldest first, `GET /healthz` answers while it runs. With a token, all but `/healthz` want it as a bearer token.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import { listenError } from '@tickscope/contract'
import Fastify from 'fastify'
import { Incidents, type Notification } from './incidents.ts'
import { pageText } from './text.ts'

export interface PagerOptions {
  readonly host?: string
  /** 0 takes any free port. */
  readonly port?: number
  readonly token?: string | undefined
  /** Incidents kept. */
  readonly capacity?: number
  readonly color?: boolean
  /** Where pages are printed. */
  readonly write?: (text: string) => void
}

export interface Pager {
  readonly url: string
  readonly incidents: Incidents
  stop(): Promise<void>
}

/** Largest payload, bytes: Alertmanager sends all alerts of a group at once, about 1 kB each. */
const BODY_BYTES_MAX = 1024 * 1024
const REQUEST_TIMEOUT_MS = 10_000

const texts = { type: 'object', maxProperties: 64, additionalProperties: { type: 'string' } } as const

const PAYLOAD = {
  type: 'object',
  required: ['alerts'],
  properties: {
    version: { const: '4' },
    alerts: {
      type: 'array',
      maxItems: 1000,
      items: {
        type: 'object',
        required: ['status', 'labels', 'startsAt'],
        properties: {
          status: { enum: ['firing', 'resolved'] },
          labels: texts,
          annotations: texts,
          startsAt: { type: 'string', format: 'date-time' },
          endsAt: { type: 'string', format: 'date-time' },
        },
      },
    },
  },
} as const

const digest = (text: string) => createHash('sha256').update(text).digest()

/** @throws UserError when the address cannot be had */
export async function startPager(options: PagerOptions = {}): Promise<Pager> {
  const { host = '127.0.0.1', port = 0, token, capacity, color = false } = options
  const write = options.write ?? ((text) => process.stderr.write(text))
  const incidents = new Incidents(capacity)
  const expected = token === undefined ? undefined : digest(`Bearer ${token}`)
  const app = Fastify({
    bodyLimit: BODY_BYTES_MAX,
    requestTimeout: REQUEST_TIMEOUT_MS,
    forceCloseConnections: true,
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false } },
  })
  app.setErrorHandler((error: { statusCode?: number; message: string }, _request, reply) => {
    const status = error.statusCode ?? 500
    return reply.code(status).send({ error: status < 500 ? error.message : 'internal error' })
  })
  app.addHook('onRequest', async (request, reply) => {
    if (expected === undefined || request.url === '/healthz') return
    // Digests have one length, so the comparison takes the same time whatever was sent.
    if (timingSafeEqual(digest(request.headers.authorization ?? ''), expected)) return
    return reply.code(401).header('www-authenticate', 'Bearer').send({ error: 'this pager wants its bearer token' })
  })
  app.post<{ Body: { alerts: readonly Notification[] } }>('/page', { schema: { body: PAYLOAD } }, async (request) => {
    const nowMs = Date.now()
    for (const notification of request.body.alerts) {
      const received = incidents.receive(notification, nowMs)
      if (received) write(pageText(received.outcome, received.incident, nowMs, color))
    }
    return { received: request.body.alerts.length }
  })
  app.get('/v1/pages', async () => incidents.list().filter(({ severity }) => severity === 'page'))
  app.get('/v1/tickets', async () => incidents.list().filter(({ severity }) => severity !== 'page'))
  app.get('/healthz', async () => ({ status: 'ok' }))
  try {
    await app.listen({ host, port })
  } catch (error) {
    throw listenError(error, host, port)
  }
  const { address, family, port: bound } = app.server.address() as AddressInfo
  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${bound}`,
    incidents,
    stop: () => app.close(),
  }
}
