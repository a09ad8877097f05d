import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { FixError, type FixErrorCode } from '../../src/codec/error.ts'
import {
  decodeOrder,
  decodeUpdate,
  ExecutionScan,
  FixReader,
  FixWriter,
  frameLength,
  parseFix,
  scanExecution,
} from '../../src/codec/fix.ts'
import { createMessages, type NewOrder } from '../../src/codec/message.ts'

const SESSION = { sender: '6f1c1e7c-9d6b-4a29-8a53-9c2a7c2d7a10', target: 'KalshiNR' }
const NOW_MS = Date.UTC(2026, 7, 1, 12, 34, 56, 78)
const ORDER: NewOrder = {
  ticker: 'KXX-1',
  side: 'ask',
  countHundredths: 1050,
  priceTicks: 5600,
  timeInForce: 'immediate_or_cancel',
  selfTradePrevention: 'maker',
  clientOrderId: 'c-1',
  postOnly: false,
  exchangeIndex: 0,
}

const text = (writer: FixWriter) => writer.bytes.toString('latin1', writer.start, writer.end).replaceAll('\x01', '|')

/** A message with right sums around a body written with `|`. */
function framed(body: string): Buffer {
  const inner = body.replaceAll('|', '\x01')
  const begin = `8=FIXT.1.1\x019=${inner.length}\x01${inner}`
  const sum = Buffer.from(begin, 'latin1').reduce((total, byte) => total + byte, 0) & 0xff
  return Buffer.from(`${begin}10=${String(sum).padStart(3, '0')}\x01`, 'latin1')
}

const refuses = (code: FixErrorCode, run: () => unknown) =>
  assert.throws(run, (error) => error instanceof FixError && error.code === code, code)

describe('writing FIX', () => {
  it('writes the venue’s new order, with body length and checksum', () => {
    const writer = new FixWriter(SESSION)
    writer.order(ORDER, 12, NOW_MS)
    const body =
      '35=D|49=6f1c1e7c-9d6b-4a29-8a53-9c2a7c2d7a10|56=KalshiNR|34=12|52=20260801-12:34:56.078|11=c-1|38=10.50|40=2|44=0.5600|54=2|55=KXX-1|59=3|100=0|2964=2|'
    assert.equal(text(writer), framed(body).toString('latin1').replaceAll('\x01', '|'))
    writer.order({ ...ORDER, side: 'bid', countHundredths: 1000, postOnly: true }, 13, NOW_MS)
    assert.match(text(writer), /\|11=c-1\|18=6\|38=10\|40=2\|44=0\.5600\|54=1\|/)
  })

  it('writes the right day on both sides of midnight', () => {
    const writer = new FixWriter(SESSION)
    const midnightMs = Date.UTC(2026, 11, 31, 24)
    for (const [atMs, written] of [
      [midnightMs - 1, '52=20261231-23:59:59.999'],
      [midnightMs, '52=20270101-00:00:00.000'],
      [midnightMs - 1, '52=20261231-23:59:59.999'],
    ] as const) {
      writer.order(ORDER, 1, atMs)
      assert.ok(text(writer).includes(`|${written}|`), text(writer))
    }
  })

  it('refuses what would break the frame or the session', () => {
    const writer = new FixWriter(SESSION)
    refuses('VALUE', () => writer.order({ ...ORDER, clientOrderId: 'x\x0154=1' }, 1, NOW_MS))
    refuses('VALUE', () => writer.order({ ...ORDER, ticker: '' }, 1, NOW_MS))
    refuses('VALUE', () => writer.order({ ...ORDER, ticker: 'T'.repeat(65) }, 1, NOW_MS))
    refuses('VALUE', () => writer.order({ ...ORDER, ticker: 'Tä' }, 1, NOW_MS))
    refuses('VALUE', () => writer.order({ ...ORDER, priceTicks: 0.5 }, 1, NOW_MS))
    refuses('VALUE', () => writer.order(ORDER, -1, NOW_MS))
    refuses('VALUE', () => writer.order(ORDER, 1, Number.NaN))
    assert.equal(writer.end, 0, 'nothing of a refused message is left to send')
    refuses('VALUE', () => new FixWriter({ ...SESSION, sender: 'a b' }))
  })
})

describe('reading FIX', () => {
  const reader = new FixReader()

  it('scans the integers of an execution report and where its id lies', () => {
    const writer = new FixWriter(SESSION)
    const [report] = createMessages(1).reports
    assert(report !== undefined)
    writer.report(
      { ...report, status: 'resting', countHundredths: 30_050, filledHundredths: 10_025, remainingHundredths: 20_025 },
      99,
      NOW_MS,
    )
    const scan = new ExecutionScan()
    scanExecution(reader, writer.bytes, writer.start, writer.end, scan)
    const { clientOrderIdStart, clientOrderIdEnd, ...numbers } = scan
    assert.equal(writer.bytes.toString('latin1', clientOrderIdStart, clientOrderIdEnd), report.clientOrderId)
    assert.deepEqual(numbers, {
      sequence: 99,
      status: 1,
      execType: 'F'.charCodeAt(0),
      side: report.side === 'bid' ? 1 : 2,
      priceTicks: report.priceTicks,
      countHundredths: 30_050,
      filledHundredths: 10_025,
      remainingHundredths: 20_025,
      lastPriceTicks: report.priceTicks,
      lastHundredths: 10_025,
    })
  })

  it('leaves nothing of an earlier report in a scan', () => {
    const scan = new ExecutionScan()
    const full = framed('35=8|34=7|11=c|38=5|39=1|14=2|151=3|31=0.5|32=2|44=0.5|54=1|150=F|')
    const bare = framed('35=8|34=8|39=4|14=0|151=0|')
    scanExecution(reader, full, 0, full.length, scan)
    assert.equal(scan.lastPriceTicks, 5_000)
    scanExecution(reader, bare, 0, bare.length, scan)
    assert.deepEqual({ ...scan }, { ...new ExecutionScan(), sequence: 8, status: 4 })
  })

  it('reads the venue’s own example of an order', () => {
    const message = framed(
      '35=D|49=key|56=KalshiNR|34=2|52=20260801-12:00:00.000|11=c-1|38=10|40=2|44=0.5600|54=1|55=KXX-1|59=1|100=0|2964=1|',
    )
    assert.deepEqual(decodeOrder(reader, message), {
      ...ORDER,
      side: 'bid',
      countHundredths: 1000,
      timeInForce: 'good_till_canceled',
      selfTradePrevention: 'taker_at_cross',
    })
    assert.equal(parseFix(reader, message).get(44), '0.5600')
    assert.equal(parseFix(reader, message).size, 14)
  })

  it('says how long a message in a stream is, or that more is to come', () => {
    const message = framed('35=0|34=2|')
    const stream = Buffer.concat([message, message])
    assert.equal(frameLength(stream, 0, stream.length), message.length)
    assert.equal(frameLength(stream, message.length, stream.length), message.length)
    for (let end = 0; end < message.length; end++) assert.equal(frameLength(message, 0, end), 0)
    refuses('FRAME', () => frameLength(Buffer.from('GET / HTTP/1.1\r\n'), 0, 16))
    refuses('BODY_LENGTH', () => frameLength(Buffer.from('8=FIXT.1.1\x019=99999999999\x01'), 0, 24))
    refuses('BODY_LENGTH', () => frameLength(Buffer.from('8=FIXT.1.1\x019=\x01'), 0, 14))
    refuses('BODY_LENGTH', () => frameLength(Buffer.from('8=FIXT.1.1\x019=-1\x01'), 0, 16))
  })

  it('refuses a message with any byte changed, cut off or added', () => {
    const message = framed('35=D|34=2|11=c-1|')
    for (let index = 0; index < message.length; index++) {
      const damaged = Buffer.from(message)
      damaged[index] = damaged[index]! ^ 1
      assert.throws(() => parseFix(reader, damaged), FixError, `byte ${index}`)
      assert.throws(() => parseFix(reader, message.subarray(0, index)), FixError)
    }
    refuses('BODY_LENGTH', () => parseFix(reader, Buffer.concat([message, Buffer.from('x')])))
    refuses('CHECKSUM', () =>
      parseFix(reader, Buffer.from(message.toString('latin1').replace('11=c-1', '11=c-2'), 'latin1')),
    )
  })

  it('refuses fields that are not well-formed, whatever the sums say', () => {
    refuses('FRAME', () => parseFix(reader, framed('34=2|35=D|')))
    refuses('TAG', () => parseFix(reader, framed('35=D|x=1|')))
    refuses('TAG', () => parseFix(reader, framed('35=D|011=1|')))
    refuses('TAG', () => parseFix(reader, framed('35=D|=1|')))
    refuses('TAG', () => parseFix(reader, framed('35=D|11|')))
    refuses('TAG', () => parseFix(reader, framed('35=D|99999999999=1|')))
    refuses('TAG', () => parseFix(reader, framed('35=D|11=a|11=b|')))
    refuses('VALUE', () => parseFix(reader, framed('35=D|11=|')))
    refuses('FRAME', () => parseFix(reader, framed('35=D|11=a')))
  })

  it('refuses values that are not of their type, and messages that lack what they need', () => {
    const order = (changes: string) =>
      decodeOrder(reader, framed(`35=D|11=c|38=10|40=2|44=0.5|54=1|55=K|59=1|2964=1|${changes}`))
    for (const wrong of [
      '38=1.005|',
      '38=1e3|',
      '38=.|',
      '38=1.0.0|',
      '44=0.56000|',
      '54=3|',
      '59=9|',
      '2964=0|',
      '40=1|',
      '44=9999999999999999|',
      '100=-1|',
    ])
      refuses('VALUE', () => order(wrong))
    refuses('MISSING', () => decodeOrder(reader, framed('35=D|11=c|38=10|40=2|54=1|55=K|59=1|2964=1|')))
    refuses('VALUE', () => decodeOrder(reader, framed('35=8|11=c|')))
    refuses('MISSING', () =>
      scanExecution(
        reader,
        framed('35=8|34=1|39=0|14=0|'),
        0,
        framed('35=8|34=1|39=0|14=0|').length,
        new ExecutionScan(),
      ),
    )
    const update = (changes: string) =>
      decodeUpdate(reader, framed(`35=X|34=5|268=1|269=0|55=K|270=0.5|271=-1|272=20260228|273=00:00:00.000|${changes}`))
    assert.equal(update('').tsMs, Date.UTC(2026, 1, 28))
    for (const wrong of [
      '272=20260229|',
      '272=20261301|',
      '272=2026022x|',
      '273=24:00:00.000|',
      '273=00:00:00|',
      '269=2|',
      '268=2|',
    ])
      refuses('VALUE', () => update(wrong))
  })
})
