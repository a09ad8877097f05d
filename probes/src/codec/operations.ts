/**
 * What is timed: each codec's encoding and decoding of the same messages. The boundary is the same for all: from an
 * object of the suite to bytes in a buffer, and from bytes to such an object; text codecs pay for turning text into
 * bytes and back.
 *
 * - `rest`: the venue package's own encoders and parsers, checks included; an order with its HTTP head, the signature
 *   being there already (signatures are timed by themselves)
 * - `json`: bare `JSON.stringify` and `JSON.parse` of the same JSON, unchecked: what a client cannot go below
 * - `fix`, `fast`, `sbe`: ours. `scan` reads the integers a bot needs and makes no object; of FAST, which has to be read
 *   whole, it fills the values of an earlier message
 * - `fix-map`: every field as a string in a Map, the naive way
 * - `jspurefix`: the engine of the npm ecosystem; its `view` finds fields and structure
 */
import type { CODEC_MESSAGES, CODEC_OPERATIONS, CODECS } from '@tickscope/contract'
import type { CreateOrder } from '@tickscope/venue/kalshi'
import * as fast from './fast/form.ts'
import { FastDecoder, FastEncoder, type FastMessage } from './fast/index.ts'
import * as fix from './fix.ts'
import { type Operation, over } from './measure.ts'
import type { MessageSet } from './message.ts'
import type { FixPeer } from './peer.ts'
import * as rest from './rest.ts'
import * as sbe from './sbe.ts'

export type MessageName = (typeof CODEC_MESSAGES)[number]
export type CodecName = (typeof CODECS)[number]
export type OperationName = (typeof CODEC_OPERATIONS)[number]

export interface NamedOperation {
  readonly codec: CodecName
  readonly message: MessageName
  readonly operation: OperationName
  readonly side: Operation
}

/** Both ends of the FIX session measured; the sender is an API key's id. */
export const SESSION: fix.FixSession = { sender: '6f1c1e7c-9d6b-4a29-8a53-9c2a7c2d7a10', target: 'KalshiNR' }

const BUFFER_BYTES = 4096

/** @param signature base64, as long as the venue's */
export function createOperations(set: MessageSet, signature: string, peer: FixPeer | undefined): NamedOperation[] {
  const into = Buffer.alloc(BUFFER_BYTES)
  const operations: NamedOperation[] = []
  const add = (codec: CodecName, message: MessageName, operation: OperationName, side: Operation) =>
    operations.push({ codec, message, operation, side })
  addRest(add, set, into, signature)
  addFix(add, set, peer)
  addFast(add, set, into)
  addSbe(add, set)
  return operations
}

type Add = (codec: CodecName, message: MessageName, operation: OperationName, side: Operation) => void

function addRest(add: Add, { orders, reports, updates }: MessageSet, into: Buffer, signature: string): void {
  const put = (text: string) => into.write(text, 'latin1')
  const bytesOf = (texts: readonly string[]) => texts.map((text) => Buffer.from(text))
  const stamps = reports.map(({ tsMs }) => tsMs)
  let next = 0
  add(
    'rest',
    'order',
    'encode',
    over(orders, (order) =>
      put(rest.encodeOrderRequest(order, SESSION.sender, String(stamps[next++ % stamps.length]), signature)),
    ),
  )
  const bodies = orders.map(rest.encodeOrderBody)
  const wireOrders = bodies.map((body): CreateOrder => JSON.parse(body))
  add(
    'json',
    'order',
    'encode',
    over(wireOrders, (order) => put(JSON.stringify(order))),
  )
  add(
    'rest',
    'order',
    'decode',
    over(bytesOf(bodies), (bytes) => rest.decodeOrderBody(bytes.toString()).priceTicks),
  )
  add(
    'json',
    'order',
    'decode',
    over(bytesOf(bodies), (bytes) => JSON.parse(bytes.toString()).ticker.length),
  )

  const reportTexts = bytesOf(reports.map(rest.encodeReport))
  const reportObjects = reports.map(rest.reportObject)
  add(
    'rest',
    'executionReport',
    'encode',
    over(reports, (report) => put(rest.encodeReport(report))),
  )
  add(
    'json',
    'executionReport',
    'encode',
    over(reportObjects, (report) => put(JSON.stringify(report))),
  )
  add(
    'rest',
    'executionReport',
    'decode',
    over(reportTexts, (bytes) => rest.decodeReport(bytes.toString()).priceTicks),
  )
  add(
    'json',
    'executionReport',
    'decode',
    over(reportTexts, (bytes) => JSON.parse(bytes.toString()).sid),
  )

  const answers = bytesOf(reports.map(rest.encodeAnswer))
  add(
    'rest',
    'executionReport',
    'decode answer',
    over(answers, (bytes) => rest.decodeAnswer(bytes.toString()).tsMs),
  )

  const updateTexts = bytesOf(updates.map(rest.encodeUpdate))
  const updateObjects = updates.map(rest.updateObject)
  add(
    'rest',
    'bookUpdate',
    'encode',
    over(updates, (update) => put(rest.encodeUpdate(update))),
  )
  add(
    'json',
    'bookUpdate',
    'encode',
    over(updateObjects, (update) => put(JSON.stringify(update))),
  )
  add(
    'rest',
    'bookUpdate',
    'decode',
    over(updateTexts, (bytes) => rest.decodeUpdate(bytes.toString()).priceTicks),
  )
  add(
    'json',
    'bookUpdate',
    'decode',
    over(updateTexts, (bytes) => JSON.parse(bytes.toString()).sid),
  )
}

function addFix(add: Add, { orders, reports, updates }: MessageSet, peer: FixPeer | undefined): void {
  const writer = new fix.FixWriter(SESSION)
  const reader = new fix.FixReader()
  const scan = new fix.ExecutionScan()
  const written = () => Buffer.from(writer.bytes.subarray(writer.start, writer.end))
  let sequence = 1_000
  const encodeOrder = (order: (typeof orders)[number]) => {
    writer.order(order, sequence++, reports[0]?.tsMs ?? 0)
    return writer.end
  }
  const encodeReport = (report: (typeof reports)[number]) => {
    writer.report(report, sequence++, report.tsMs)
    return writer.end
  }
  const encodeUpdate = (update: (typeof updates)[number]) => {
    writer.update(update)
    return writer.end
  }
  const bytesOf = <T>(messages: readonly T[], encode: (message: T) => number) =>
    messages.map((message) => {
      encode(message)
      return written()
    })
  const orderBytes = bytesOf(orders, encodeOrder)
  const reportBytes = bytesOf(reports, encodeReport)
  const updateBytes = bytesOf(updates, encodeUpdate)

  add('fix', 'order', 'encode', over(orders, encodeOrder))
  add(
    'fix',
    'order',
    'decode',
    over(orderBytes, (bytes) => fix.decodeOrder(reader, bytes).priceTicks),
  )
  add(
    'fix-map',
    'order',
    'decode',
    over(orderBytes, (bytes) => fix.parseFix(reader, bytes).size),
  )
  add('fix', 'executionReport', 'encode', over(reports, encodeReport))
  add(
    'fix',
    'executionReport',
    'decode',
    over(reportBytes, (bytes) => fix.decodeReport(reader, bytes).priceTicks),
  )
  add(
    'fix',
    'executionReport',
    'scan',
    over(reportBytes, (bytes) => {
      fix.scanExecution(reader, bytes, 0, bytes.length, scan)
      return scan.filledHundredths
    }),
  )
  add(
    'fix-map',
    'executionReport',
    'decode',
    over(reportBytes, (bytes) => fix.parseFix(reader, bytes).size),
  )
  add('fix', 'bookUpdate', 'encode', over(updates, encodeUpdate))
  add(
    'fix',
    'bookUpdate',
    'decode',
    over(updateBytes, (bytes) => fix.decodeUpdate(reader, bytes).priceTicks),
  )
  add(
    'fix-map',
    'bookUpdate',
    'decode',
    over(updateBytes, (bytes) => fix.parseFix(reader, bytes).size),
  )
  if (peer === undefined) return
  const toObject = (bytes: Buffer) => (peer.parseObject(bytes) === null ? 0 : 1)
  add(
    'jspurefix',
    'order',
    'encode',
    over(orders, (order) => peer.encodeOrder(order).length),
  )
  add('jspurefix', 'order', 'decode', over(orderBytes, toObject))
  add(
    'jspurefix',
    'executionReport',
    'view',
    over(reportBytes, (bytes) => peer.parseView(bytes) & 1),
  )
  add('jspurefix', 'executionReport', 'decode', over(reportBytes, toObject))
  add('jspurefix', 'bookUpdate', 'decode', over(updateBytes, toObject))
}

function addFast(add: Add, { orders, reports, updates, batches }: MessageSet, into: Buffer): void {
  /** A stream of one kind of message, as its connection carries it. */
  const stream = <T>(
    message: MessageName,
    messages: readonly T[],
    encode: (message: T, encoder: FastEncoder, into: Uint8Array) => number,
    decode: (decoder: FastDecoder, bytes: Uint8Array) => number,
  ) => {
    const encoder = new FastEncoder(fast.TEMPLATES)
    const decoder = new FastDecoder(fast.TEMPLATES)
    const restart = () => {
      encoder.reset()
      decoder.reset()
    }
    const encoded = messages.map((each) => Buffer.from(into.subarray(0, encode(each, encoder, into))))
    add(
      'fast',
      message,
      'encode',
      over(messages, (each) => encode(each, encoder, into), restart),
    )
    add(
      'fast',
      message,
      'decode',
      over(encoded, (bytes) => decode(decoder, bytes), restart),
    )
    return { encoded, decoder, restart }
  }
  stream('order', orders, fast.encodeNewOrder, (decoder, bytes) => fast.decodeNewOrder(decoder, bytes).priceTicks)
  stream(
    'executionReport',
    reports,
    fast.encodeExecutionReport,
    (decoder, bytes) => fast.decodeExecutionReport(decoder, bytes).priceTicks,
  )
  stream(
    'bookUpdate',
    updates,
    fast.encodeBookUpdate,
    (decoder, bytes) => fast.decodeBookUpdate(decoder, bytes).priceTicks,
  )
  const { encoded, decoder, restart } = stream(
    'bookBatch',
    batches,
    fast.encodeBookBatch,
    (each, bytes) => fast.decodeBookBatch(each, bytes).entries.length,
  )
  let reuse: FastMessage | undefined
  add(
    'fast',
    'bookBatch',
    'scan',
    over(
      encoded,
      (bytes) => {
        reuse = decoder.decode(bytes, 0, bytes.length, reuse)
        return reuse.values.length
      },
      restart,
    ),
  )
}

function addSbe(add: Add, { orders, reports, updates }: MessageSet): void {
  const into = new sbe.SbeBuffer(Buffer.alloc(BUFFER_BYTES))
  const buffersOf = <T>(messages: readonly T[], encode: (message: T, into: sbe.SbeBuffer) => number) =>
    messages.map((message) => new sbe.SbeBuffer(Buffer.from(into.bytes.subarray(0, encode(message, into)))))
  const orderBuffers = buffersOf(orders, sbe.encodeNewOrder)
  const reportBuffers = buffersOf(reports, sbe.encodeExecutionReport)
  const updateBuffers = buffersOf(updates, sbe.encodeBookUpdate)
  add(
    'sbe',
    'order',
    'encode',
    over(orders, (order) => sbe.encodeNewOrder(order, into)),
  )
  add(
    'sbe',
    'order',
    'decode',
    over(orderBuffers, (from) => sbe.decodeNewOrder(from).priceTicks),
  )
  add(
    'sbe',
    'executionReport',
    'encode',
    over(reports, (report) => sbe.encodeExecutionReport(report, into)),
  )
  add(
    'sbe',
    'executionReport',
    'decode',
    over(reportBuffers, (from) => sbe.decodeExecutionReport(from).priceTicks),
  )
  add(
    'sbe',
    'executionReport',
    'scan',
    over(reportBuffers, (from) => sbe.scanFilled(from)),
  )
  add(
    'sbe',
    'bookUpdate',
    'encode',
    over(updates, (update) => sbe.encodeBookUpdate(update, into)),
  )
  add(
    'sbe',
    'bookUpdate',
    'decode',
    over(updateBuffers, (from) => sbe.decodeBookUpdate(from).priceTicks),
  )
}
