/**
 * The suite's messages as FAST 1.1. No venue of this suite offers FAST: the templates are what an exchange would write
 * for them, each field with the operator that fits how it changes.
 *
 * Ids are byte vectors of 16; prices have their exponent fixed at -4 and counts at -2, so only mantissas travel. All
 * templates share one stream, as on one connection.
 */
import { ORDER_STATUSES, SELF_TRADE_PREVENTIONS, TIMES_IN_FORCE } from '@tickscope/venue/kalshi'
import { FastError } from '../error.ts'
import type { BookBatch, BookEntry, BookUpdate, ExecutionReport, NewOrder } from '../message.ts'
import { readUuid, writeUuid } from '../uuid.ts'
import type { FastDecoder } from './decoder.ts'
import type { FastEncoder } from './encoder.ts'
import { compileTemplates, type FastMessage, type FastValue } from './template.ts'
import type { FastDecimal } from './value.ts'
import { parseTemplates } from './xml.ts'

const PRICE = '<exponent><constant value="-4"/></exponent><mantissa><delta/></mantissa>'
const COUNT = '<exponent><constant value="-2"/></exponent>'

export const TEMPLATES_XML = `
<templates>
  <template name="NewOrder" id="1">
    <string name="Ticker"><copy/></string>
    <uInt32 name="Side"><copy/></uInt32>
    <decimal name="Count">${COUNT}</decimal>
    <decimal name="Price">${PRICE}</decimal>
    <uInt32 name="TimeInForce"><copy value="0"/></uInt32>
    <uInt32 name="SelfTradePrevention"><copy value="0"/></uInt32>
    <byteVector name="ClientOrderId"/>
    <uInt32 name="PostOnly"><copy/></uInt32>
    <uInt32 name="Shard"><copy/></uInt32>
  </template>
  <template name="ExecutionReport" id="2">
    <byteVector name="OrderId"/>
    <byteVector name="ClientOrderId"/>
    <string name="Ticker"><copy/></string>
    <uInt32 name="Side"><copy/></uInt32>
    <uInt32 name="Status"><copy/></uInt32>
    <decimal name="Price">${PRICE}</decimal>
    <decimal name="Count">${COUNT}</decimal>
    <decimal name="Filled">${COUNT}</decimal>
    <decimal name="Remaining">${COUNT}</decimal>
    <uInt64 name="Time"><delta/></uInt64>
  </template>
  <template name="BookUpdate" id="3">
    <uInt64 name="Sequence"><increment/></uInt64>
    <string name="Ticker"><copy/></string>
    <uInt32 name="Side"><copy/></uInt32>
    <decimal name="Price">${PRICE}</decimal>
    <decimal name="Change">${COUNT}</decimal>
    <uInt64 name="Time"><delta/></uInt64>
  </template>
  <template name="BookBatch" id="4">
    <uInt64 name="Sequence"><increment/></uInt64>
    <string name="Ticker"><copy/></string>
    <uInt64 name="Time"><delta/></uInt64>
    <sequence name="Entries">
      <uInt32 name="Side"><copy/></uInt32>
      <decimal name="Price">${PRICE}</decimal>
      <decimal name="Change">${COUNT}</decimal>
    </sequence>
  </template>
</templates>`

/** Templates of the four messages. */
export const TEMPLATES = compileTemplates(parseTemplates(TEMPLATES_XML))

const NEW_ORDER = 1
const EXECUTION_REPORT = 2
const BOOK_UPDATE = 3
const BOOK_BATCH = 4

/** @returns offset behind the message */
export function encodeNewOrder(order: NewOrder, encoder: FastEncoder, into: Uint8Array, at = 0): number {
  return encoder.encode(
    {
      templateId: NEW_ORDER,
      values: [
        order.ticker,
        order.side === 'bid' ? 0 : 1,
        count(order.countHundredths),
        price(order.priceTicks),
        TIMES_IN_FORCE.indexOf(order.timeInForce),
        SELF_TRADE_PREVENTIONS.indexOf(order.selfTradePrevention),
        uuidBytes(order.clientOrderId, 'ClientOrderId'),
        order.postOnly ? 1 : 0,
        order.exchangeIndex,
      ],
    },
    into,
    at,
  )
}

export function decodeNewOrder(decoder: FastDecoder, bytes: Uint8Array): NewOrder {
  const values = valuesOf(decoder.decode(bytes), NEW_ORDER)
  return {
    ticker: values[0] as string,
    side: values[1] === 0 ? 'bid' : 'ask',
    countHundredths: mantissa(values[2]),
    priceTicks: mantissa(values[3]),
    timeInForce: oneOf(TIMES_IN_FORCE, values[4], 'TimeInForce'),
    selfTradePrevention: oneOf(SELF_TRADE_PREVENTIONS, values[5], 'SelfTradePrevention'),
    clientOrderId: uuidText(values[6], 'ClientOrderId'),
    postOnly: values[7] !== 0,
    exchangeIndex: values[8] as number,
  }
}

export function encodeExecutionReport(report: ExecutionReport, encoder: FastEncoder, into: Uint8Array, at = 0): number {
  return encoder.encode(
    {
      templateId: EXECUTION_REPORT,
      values: [
        uuidBytes(report.orderId, 'OrderId'),
        uuidBytes(report.clientOrderId, 'ClientOrderId'),
        report.ticker,
        report.side === 'bid' ? 0 : 1,
        ORDER_STATUSES.indexOf(report.status),
        price(report.priceTicks),
        count(report.countHundredths),
        count(report.filledHundredths),
        count(report.remainingHundredths),
        report.tsMs,
      ],
    },
    into,
    at,
  )
}

export function decodeExecutionReport(decoder: FastDecoder, bytes: Uint8Array): ExecutionReport {
  const values = valuesOf(decoder.decode(bytes), EXECUTION_REPORT)
  return {
    orderId: uuidText(values[0], 'OrderId'),
    clientOrderId: uuidText(values[1], 'ClientOrderId'),
    ticker: values[2] as string,
    side: values[3] === 0 ? 'bid' : 'ask',
    status: oneOf(ORDER_STATUSES, values[4], 'Status'),
    priceTicks: mantissa(values[5]),
    countHundredths: mantissa(values[6]),
    filledHundredths: mantissa(values[7]),
    remainingHundredths: mantissa(values[8]),
    tsMs: safe(values[9], 'Time'),
  }
}

export function encodeBookUpdate(update: BookUpdate, encoder: FastEncoder, into: Uint8Array, at = 0): number {
  return encoder.encode(
    {
      templateId: BOOK_UPDATE,
      values: [
        update.sequence,
        update.ticker,
        update.side === 'yes' ? 0 : 1,
        price(update.priceTicks),
        count(update.changeHundredths),
        update.tsMs,
      ],
    },
    into,
    at,
  )
}

export function decodeBookUpdate(decoder: FastDecoder, bytes: Uint8Array): BookUpdate {
  const values = valuesOf(decoder.decode(bytes), BOOK_UPDATE)
  return {
    sequence: safe(values[0], 'Sequence'),
    ticker: values[1] as string,
    side: values[2] === 0 ? 'yes' : 'no',
    priceTicks: mantissa(values[3]),
    changeHundredths: mantissa(values[4]),
    tsMs: safe(values[5], 'Time'),
  }
}

export function encodeBookBatch(batch: BookBatch, encoder: FastEncoder, into: Uint8Array, at = 0): number {
  const entries = batch.entries.map((entry): FastValue[] => [
    entry.side === 'yes' ? 0 : 1,
    price(entry.priceTicks),
    count(entry.changeHundredths),
  ])
  return encoder.encode(
    { templateId: BOOK_BATCH, values: [batch.sequence, batch.ticker, batch.tsMs, entries] },
    into,
    at,
  )
}

export function decodeBookBatch(decoder: FastDecoder, bytes: Uint8Array): BookBatch {
  const values = valuesOf(decoder.decode(bytes), BOOK_BATCH)
  return {
    sequence: safe(values[0], 'Sequence'),
    ticker: values[1] as string,
    tsMs: safe(values[2], 'Time'),
    entries: (values[3] as FastValue[][]).map(
      (row): BookEntry => ({
        side: row[0] === 0 ? 'yes' : 'no',
        priceTicks: mantissa(row[1]),
        changeHundredths: mantissa(row[2]),
      }),
    ),
  }
}

const price = (ticks: number): FastDecimal => ({ exponent: -4, mantissa: ticks })
const count = (hundredths: number): FastDecimal => ({ exponent: -2, mantissa: hundredths })

function valuesOf({ templateId, values }: FastMessage, wanted: number): FastValue[] {
  if (templateId !== wanted) throw new FastError('D9', '', `a message of template ${templateId}, not ${wanted}`)
  return values
}

/** The template fixes the exponent, so the mantissa is the number of units. */
function mantissa(value: FastValue): number {
  return safe((value as FastDecimal).mantissa, 'decimal')
}

function safe(value: FastValue, field: string): number {
  if (typeof value !== 'number') throw new FastError('R4', field, 'the integer is beyond 2^53')
  return value
}

function oneOf<T>(values: readonly T[], index: FastValue, field: string): T {
  const value = values[index as number]
  if (value === undefined) throw new FastError('D1', field, `there is no value ${index}`)
  return value
}

function uuidBytes(text: string, field: string): Uint8Array {
  const bytes = new Uint8Array(16)
  if (!writeUuid(text, bytes, 0)) throw new FastError('D1', field, 'the id is not a UUID in lower case')
  return bytes
}

function uuidText(value: FastValue, field: string): string {
  const bytes = value as Uint8Array
  if (bytes.length !== 16) throw new FastError('D1', field, 'the id is not 16 bytes long')
  return readUuid(bytes, 0)
}
