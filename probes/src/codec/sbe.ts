/**
 * Fixed binary messages in the style of FIX Simple Binary Encoding 1.0: little-endian, every field at a fixed place, one
 * variable field (the ticker) at the end. No venue of this suite speaks it; it shows what is left of codec cost when
 * nothing must be searched for.
 *
 * Message header, 8 bytes, then the block, then the ticker as length (u8) and ASCII:
 *
 * | offset | size | field |
 * | --- | --- | --- |
 * | 0 | 2 | block length |
 * | 2 | 2 | template: 1 new order, 2 execution report, 3 book update |
 * | 4 | 2 | schema, 1 |
 * | 6 | 2 | version, 0 |
 *
 * New order, block of 32:          Execution report, block of 72:     Book update, block of 32:
 *
 * | at | size | field |            | at | size | field |              | at | size | field |
 * | --- | --- | --- |              | --- | --- | --- |                | --- | --- | --- |
 * | 0 | 16 | client order id |     | 0 | 16 | order id |              | 0 | 8 | sequence, u64 |
 * | 16 | 4 | price ticks, u32 |    | 16 | 16 | client order id |      | 8 | 8 | time, unix ms, u64 |
 * | 20 | 1 | side |                | 32 | 8 | time, unix ms, u64 |    | 16 | 8 | change, hundredths, i64 |
 * | 21 | 1 | time in force |       | 40 | 8 | count, u64 |            | 24 | 4 | price ticks, u32 |
 * | 22 | 1 | self-trade prev. |    | 48 | 8 | filled, u64 |           | 28 | 1 | side, 0 yes, 1 no |
 * | 23 | 1 | post only |           | 56 | 8 | remaining, u64 |        | 29 | 3 | zero |
 * | 24 | 8 | count, u64 |          | 64 | 4 | price ticks, u32 |
 *                                  | 68 | 1 | side, 0 bid, 1 ask |
 *                                  | 69 | 1 | status |
 *                                  | 70 | 2 | zero |
 *
 * The shard of an order is the upper half of its side byte (4 bits). Over a stream a message needs a length before it:
 * the Simple Open Framing Header, `SOFH_BYTES`, counted where sizes on the wire are.
 */
import { ORDER_STATUSES, SELF_TRADE_PREVENTIONS, TIMES_IN_FORCE } from '@tickscope/venue/kalshi'
import { SbeError } from './error.ts'
import type { BookUpdate, ExecutionReport, NewOrder } from './message.ts'
import { readUuid, writeUuid } from './uuid.ts'

/** Simple Open Framing Header 1.0: message length (4), encoding type (2). */
export const SOFH_BYTES = 6

const HEADER_BYTES = 8
const SCHEMA = 1
const VERSION = 0
const NEW_ORDER = { template: 1, block: 32 } as const
const EXECUTION_REPORT = { template: 2, block: 72 } as const
const BOOK_UPDATE = { template: 3, block: 32 } as const

/** Unsigned integers above this are written in two halves, which a double holds exactly up to 2^53. */
const HALF = 2 ** 32

/** Bytes to read from or write to, with the view that reads numbers out of them. Made once a buffer. */
export class SbeBuffer {
  readonly bytes: Buffer
  readonly view: DataView

  constructor(bytes: Buffer) {
    this.bytes = bytes
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  }
}

/** @returns offset behind the message */
export function encodeNewOrder(order: NewOrder, into: SbeBuffer, at = 0): number {
  const body = writeHeader(NEW_ORDER, order.ticker, into, at)
  const { bytes, view } = into
  if (order.exchangeIndex < 0 || order.exchangeIndex > 15 || !Number.isInteger(order.exchangeIndex))
    throw new SbeError('VALUE', 'exchangeIndex is not an integer from 0 to 15')
  putUuid(order.clientOrderId, bytes, body)
  putUint32(view, body + 16, order.priceTicks)
  bytes[body + 20] = (order.side === 'bid' ? 0 : 1) | (order.exchangeIndex << 4)
  bytes[body + 21] = TIMES_IN_FORCE.indexOf(order.timeInForce)
  bytes[body + 22] = SELF_TRADE_PREVENTIONS.indexOf(order.selfTradePrevention)
  bytes[body + 23] = order.postOnly ? 1 : 0
  putUint64(view, body + 24, order.countHundredths)
  return writeTicker(order.ticker, bytes, body + NEW_ORDER.block)
}

export function decodeNewOrder(from: SbeBuffer, at = 0): NewOrder {
  const body = readHeader(NEW_ORDER, from, at)
  const { bytes, view } = from
  const side = bytes[body + 20] as number
  return {
    ticker: readTicker(bytes, body + NEW_ORDER.block),
    side: (side & 15) === 0 ? 'bid' : 'ask',
    countHundredths: getUint64(view, body + 24),
    priceTicks: view.getUint32(body + 16, true),
    timeInForce: oneOf(TIMES_IN_FORCE, bytes[body + 21]),
    selfTradePrevention: oneOf(SELF_TRADE_PREVENTIONS, bytes[body + 22]),
    clientOrderId: readUuid(bytes, body),
    postOnly: bytes[body + 23] !== 0,
    exchangeIndex: side >> 4,
  }
}

export function encodeExecutionReport(report: ExecutionReport, into: SbeBuffer, at = 0): number {
  const body = writeHeader(EXECUTION_REPORT, report.ticker, into, at)
  const { bytes, view } = into
  putUuid(report.orderId, bytes, body)
  putUuid(report.clientOrderId, bytes, body + 16)
  putUint64(view, body + 32, report.tsMs)
  putUint64(view, body + 40, report.countHundredths)
  putUint64(view, body + 48, report.filledHundredths)
  putUint64(view, body + 56, report.remainingHundredths)
  putUint32(view, body + 64, report.priceTicks)
  bytes[body + 68] = report.side === 'bid' ? 0 : 1
  bytes[body + 69] = ORDER_STATUSES.indexOf(report.status)
  bytes[body + 70] = 0
  bytes[body + 71] = 0
  return writeTicker(report.ticker, bytes, body + EXECUTION_REPORT.block)
}

export function decodeExecutionReport(from: SbeBuffer, at = 0): ExecutionReport {
  const body = readHeader(EXECUTION_REPORT, from, at)
  const { bytes, view } = from
  return {
    orderId: readUuid(bytes, body),
    clientOrderId: readUuid(bytes, body + 16),
    ticker: readTicker(bytes, body + EXECUTION_REPORT.block),
    side: bytes[body + 68] === 0 ? 'bid' : 'ask',
    status: oneOf(ORDER_STATUSES, bytes[body + 69]),
    priceTicks: view.getUint32(body + 64, true),
    countHundredths: getUint64(view, body + 40),
    filledHundredths: getUint64(view, body + 48),
    remainingHundredths: getUint64(view, body + 56),
    tsMs: getUint64(view, body + 32),
  }
}

/** What a bot needs first of a report, read where it lies: nothing is allocated. */
export function scanFilled(from: SbeBuffer, at = 0): number {
  return getUint64(from.view, readHeader(EXECUTION_REPORT, from, at) + 48)
}

export function encodeBookUpdate(update: BookUpdate, into: SbeBuffer, at = 0): number {
  const body = writeHeader(BOOK_UPDATE, update.ticker, into, at)
  const { bytes, view } = into
  putUint64(view, body, update.sequence)
  putUint64(view, body + 8, update.tsMs)
  putInt64(view, body + 16, update.changeHundredths)
  putUint32(view, body + 24, update.priceTicks)
  view.setUint32(body + 28, update.side === 'yes' ? 0 : 1, true)
  return writeTicker(update.ticker, bytes, body + BOOK_UPDATE.block)
}

export function decodeBookUpdate(from: SbeBuffer, at = 0): BookUpdate {
  const body = readHeader(BOOK_UPDATE, from, at)
  const { bytes, view } = from
  return {
    sequence: getUint64(view, body),
    ticker: readTicker(bytes, body + BOOK_UPDATE.block),
    side: bytes[body + 28] === 0 ? 'yes' : 'no',
    priceTicks: view.getUint32(body + 24, true),
    changeHundredths: getInt64(view, body + 16),
    tsMs: getUint64(view, body + 8),
  }
}

interface Layout {
  readonly template: number
  readonly block: number
}

/** @returns offset of the block; the whole message is known to fit */
function writeHeader({ template, block }: Layout, ticker: string, { bytes, view }: SbeBuffer, at: number): number {
  const needed = HEADER_BYTES + block + 1 + ticker.length
  if (ticker.length > 255) throw new SbeError('VALUE', 'the ticker is longer than 255 characters')
  if (at + needed > bytes.length)
    throw new SbeError('SPACE', `a message of ${needed} bytes does not fit a buffer of ${bytes.length} at ${at}`)
  view.setUint16(at, block, true)
  view.setUint16(at + 2, template, true)
  view.setUint16(at + 4, SCHEMA, true)
  view.setUint16(at + 6, VERSION, true)
  return at + HEADER_BYTES
}

/** @returns offset of the block; the block and the ticker are known to be there */
function readHeader({ template, block }: Layout, { bytes, view }: SbeBuffer, at: number): number {
  const tickerAt = at + HEADER_BYTES + block
  if (at < 0 || tickerAt >= bytes.length || tickerAt + 1 + (bytes[tickerAt] as number) > bytes.length)
    throw new SbeError('TRUNCATED', 'the bytes end inside the message')
  if (
    view.getUint16(at, true) !== block ||
    view.getUint16(at + 2, true) !== template ||
    view.getUint16(at + 4, true) !== SCHEMA
  )
    throw new SbeError('HEADER', `not a message of template ${template} with a block of ${block} bytes`)
  return at + HEADER_BYTES
}

function writeTicker(ticker: string, bytes: Buffer, at: number): number {
  bytes[at] = ticker.length
  for (let index = 0; index < ticker.length; index++) {
    const code = ticker.charCodeAt(index)
    if (code > 0x7f) throw new SbeError('VALUE', 'the ticker is not ASCII')
    bytes[at + 1 + index] = code
  }
  return at + 1 + ticker.length
}

function readTicker(bytes: Buffer, at: number): string {
  return bytes.toString('latin1', at + 1, at + 1 + (bytes[at] as number))
}

function putUuid(text: string, bytes: Buffer, at: number): void {
  if (!writeUuid(text, bytes, at)) throw new SbeError('VALUE', 'an id is not a UUID in lower case')
}

function putUint32(view: DataView, at: number, value: number): void {
  if (!Number.isInteger(value) || value < 0 || value >= HALF)
    throw new SbeError('VALUE', `${value} is not an unsigned integer of 32 bits`)
  view.setUint32(at, value, true)
}

function putUint64(view: DataView, at: number, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) throw new SbeError('VALUE', `${value} is not a safe unsigned integer`)
  putInt64(view, at, value)
}

function getUint64(view: DataView, at: number): number {
  const value = view.getUint32(at, true) + view.getUint32(at + 4, true) * HALF
  if (value > Number.MAX_SAFE_INTEGER) throw new SbeError('VALUE', 'an integer is beyond 2^53')
  return value
}

/** Two halves instead of a bigint, which would be an allocation. */
function putInt64(view: DataView, at: number, value: number): void {
  if (!Number.isSafeInteger(value)) throw new SbeError('VALUE', `${value} is not a safe integer`)
  const high = Math.floor(value / HALF)
  view.setUint32(at, value - high * HALF, true)
  view.setInt32(at + 4, high, true)
}

function getInt64(view: DataView, at: number): number {
  const value = view.getUint32(at, true) + view.getInt32(at + 4, true) * HALF
  if (!Number.isSafeInteger(value)) throw new SbeError('VALUE', 'an integer is beyond 2^53')
  return value
}

function oneOf<T>(values: readonly T[], index: number | undefined): T {
  const value = values[index ?? -1]
  if (value === undefined) throw new SbeError('VALUE', `there is no value ${index} of ${values.join(', ')}`)
  return value
}
