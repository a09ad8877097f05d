/**
 * Bytes on the wire of the same messages: HTTP heads, signatures and framing included, TLS and below left out (they are
 * the same for all; `TLS_RECORD_BYTES` says what TLS adds).
 *
 * FAST and SBE have no length of their own on a stream: a block size precedes a FAST message (§10 of its specification),
 * a Simple Open Framing Header an SBE message. WebSocket messages have their frame header.
 */
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { AUTH_HEADERS, resolveEnvironment, type Signer } from '@tickscope/venue/kalshi'
import * as fast from './fast/form.ts'
import { FastEncoder } from './fast/index.ts'
import { FixWriter } from './fix.ts'
import { quantile } from './measure.ts'
import type { MessageSet, NewOrder } from './message.ts'
import { SESSION } from './operations.ts'
import * as rest from './rest.ts'
import * as sbe from './sbe.ts'
import type { Signers } from './signing.ts'

/** TLS 1.3 record around application data: header 5, content type 1, tag 16 (RFC 8446 §5.2). */
export const TLS_RECORD_BYTES = 22

export interface Size {
  /** Median over the messages; of a stateful codec in the middle of its stream. */
  readonly bytes: number
  readonly minBytes: number
  readonly maxBytes: number
  /** The first message of a stateful codec's stream, which has nothing to refer to. */
  readonly firstBytes?: number
  /** Of an HTTP message: everything before the body, the signature's value in it. */
  readonly headBytes?: number
  readonly bodyBytes?: number
  readonly signatureBytes?: number
  readonly note?: string
}

export interface Sizes {
  readonly order: { readonly [form: string]: Size }
  readonly executionReport: { readonly [form: string]: Size }
  readonly bookUpdate: { readonly [form: string]: Size }
  readonly bookBatch: { readonly [form: string]: Size }
}

export async function measureSizes(set: MessageSet, { rsa, ed25519 }: Signers): Promise<Sizes> {
  const { orders, reports, updates, batches } = set
  const into = Buffer.alloc(4096)
  const sbeInto = new sbe.SbeBuffer(into)
  const writer = new FixWriter(SESSION)
  const fixSize = (write: () => void) => {
    write()
    return writer.end - writer.start
  }
  let sequence = 1_000
  const [order] = orders
  if (order === undefined) throw new RangeError('there are no messages')
  return {
    order: {
      'rest-rsa': httpSize(orders.map((each) => rest.signOrderRequest(each, rsa, Date.now()))),
      'rest-ed25519': httpSize(orders.map((each) => rest.signOrderRequest(each, ed25519, Date.now()))),
      'rest-fetch-rsa': {
        ...httpSize([await captureFetch(order, rsa)]),
        note: 'as Node’s fetch sends it, with the headers a general client adds',
      },
      fix: sizeOf(orders.map((each) => fixSize(() => writer.order(each, sequence++, reports[0]?.tsMs ?? 0)))),
      fast: fastSize(orders, fast.encodeNewOrder),
      sbe: sizeOf(orders.map((each) => sbe.SOFH_BYTES + sbe.encodeNewOrder(each, sbeInto))),
    },
    executionReport: {
      websocket: sizeOf(reports.map((each) => frame(rest.encodeReport(each)))),
      'rest-answer': {
        ...httpSize(reports.map(rest.encodeAnswer)),
        note: 'answer to a create: says less than a report, with the fewest headers a server can do with',
      },
      fix: sizeOf(reports.map((each) => fixSize(() => writer.report(each, sequence++, each.tsMs)))),
      fast: fastSize(reports, fast.encodeExecutionReport),
      sbe: sizeOf(reports.map((each) => sbe.SOFH_BYTES + sbe.encodeExecutionReport(each, sbeInto))),
    },
    bookUpdate: {
      websocket: sizeOf(updates.map((each) => frame(rest.encodeUpdate(each)))),
      fix: sizeOf(updates.map((each) => fixSize(() => writer.update(each)))),
      fast: fastSize(updates, fast.encodeBookUpdate),
      sbe: sizeOf(updates.map((each) => sbe.SOFH_BYTES + sbe.encodeBookUpdate(each, sbeInto))),
    },
    bookBatch: {
      websocket: {
        ...sizeOf(
          batches.map(({ entries, ...batch }) =>
            entries.reduce((sum, entry) => sum + frame(rest.encodeUpdate({ ...batch, ...entry })), 0),
          ),
        ),
        note: 'one message a change',
      },
      fast: fastSize(batches, fast.encodeBookBatch),
    },
  }
}

function sizeOf(bytes: readonly number[]): Size {
  const sorted = [...bytes].sort((a, b) => a - b)
  return {
    bytes: Math.round(quantile(sorted, 0.5)),
    minBytes: sorted[0] as number,
    maxBytes: sorted.at(-1) as number,
  }
}

function fastSize<T>(
  messages: readonly T[],
  encode: (message: T, encoder: FastEncoder, into: Uint8Array) => number,
): Size {
  const encoder = new FastEncoder(fast.TEMPLATES)
  const into = new Uint8Array(4096)
  const [firstBytes, ...steady] = messages.map((message) => {
    const bytes = encode(message, encoder, into)
    // Block sizes are stop-bit integers: one byte up to 127.
    return bytes + (bytes < 128 ? 1 : 2)
  })
  return { ...sizeOf(steady), firstBytes: firstBytes as number }
}

/** Around an unmasked text frame of the server. */
function frame(text: string): number {
  const bytes = Buffer.byteLength(text)
  return bytes + rest.webSocketHeaderBytes(bytes)
}

function httpSize(messages: readonly string[]): Size {
  const [message = ''] = messages
  const headBytes = message.indexOf('\r\n\r\n') + 4
  const signature = new RegExp(`^${AUTH_HEADERS.signature}: (.*)\r$`, 'im').exec(message)?.[1]
  return {
    ...sizeOf(messages.map((each) => Buffer.byteLength(each))),
    headBytes,
    bodyBytes: Buffer.byteLength(message) - headBytes,
    ...(signature === undefined ? {} : { signatureBytes: signature.length }),
  }
}

const CAPTURE_TIMEOUT_MS = 5_000

/** The order as `fetch` puts it on a socket of this machine, addressed to the venue. */
async function captureFetch(order: NewOrder, signer: Signer): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>()
  const server = createServer((socket) => {
    let text = ''
    socket.on('error', () => {})
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1')
      const end = text.indexOf('\r\n\r\n') + 4
      const length = Number(/^content-length: (\d+)\r$/im.exec(text)?.[1] ?? Number.NaN)
      if (end < 4 || !(text.length >= end + length)) return
      resolve(text)
      socket.end('HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}')
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    const { port } = server.address() as AddressInfo
    const answer = await fetch(`http://127.0.0.1:${port}${rest.ORDERS_PATH}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...signer.headers('POST', rest.ORDERS_PATH) },
      body: rest.encodeOrderBody(order),
      signal: AbortSignal.timeout(CAPTURE_TIMEOUT_MS),
    })
    await answer.text()
    const { host } = new URL(resolveEnvironment('prod').restOrigin)
    return (await promise).replace(/^host: .*\r$/im, `host: ${host}\r`)
  } finally {
    server.close()
  }
}
