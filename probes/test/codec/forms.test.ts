/** The same messages in every form: each decodes to the same object. */
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { describe, it } from 'node:test'
import { AUTH_HEADERS, createRest, createSigner, verify } from '@tickscope/venue/kalshi'
import fc from 'fast-check'
import { FastError, FixError, SbeError } from '../../src/codec/error.ts'
import * as fast from '../../src/codec/fast/form.ts'
import { FastDecoder, FastEncoder } from '../../src/codec/fast/index.ts'
import * as fix from '../../src/codec/fix.ts'
import { type BookUpdate, createMessages, type ExecutionReport, type NewOrder } from '../../src/codec/message.ts'
import * as rest from '../../src/codec/rest.ts'
import * as sbe from '../../src/codec/sbe.ts'

const SESSION = { sender: '6f1c1e7c-9d6b-4a29-8a53-9c2a7c2d7a10', target: 'KalshiNR' }
const NOW_MS = 1_785_585_600_123

/** A form both ways, with whatever state its stream has. */
interface Form {
  readonly name: string
  order(order: NewOrder): NewOrder
  report(report: ExecutionReport): ExecutionReport
  update(update: BookUpdate): BookUpdate
}

function forms(): Form[] {
  const writer = new fix.FixWriter(SESSION)
  const reader = new fix.FixReader()
  const encoder = new FastEncoder(fast.TEMPLATES)
  const decoder = new FastDecoder(fast.TEMPLATES)
  const bytes = Buffer.alloc(512)
  const sbeOf = (end: number) => new sbe.SbeBuffer(bytes.subarray(0, end))
  const buffer = new sbe.SbeBuffer(bytes)
  const written = () => writer.bytes.subarray(writer.start, writer.end)
  const body = (request: string) => request.slice(request.indexOf('\r\n\r\n') + 4)
  return [
    {
      name: 'REST',
      order: (order) => rest.decodeOrderBody(body(rest.encodeOrderRequest(order, 'key', String(NOW_MS), 'signature'))),
      report: (report) => rest.decodeReport(rest.encodeReport(report)),
      update: (update) => rest.decodeUpdate(rest.encodeUpdate(update)),
    },
    {
      name: 'FIX',
      order(order) {
        writer.order(order, 7, NOW_MS)
        return fix.decodeOrder(reader, written())
      },
      report(report) {
        writer.report(report, 8, NOW_MS)
        return fix.decodeReport(reader, written())
      },
      update(update) {
        writer.update(update)
        return fix.decodeUpdate(reader, written())
      },
    },
    {
      name: 'FAST',
      order: (order) => fast.decodeNewOrder(decoder, bytes.subarray(0, fast.encodeNewOrder(order, encoder, bytes))),
      report: (report) =>
        fast.decodeExecutionReport(decoder, bytes.subarray(0, fast.encodeExecutionReport(report, encoder, bytes))),
      update: (update) =>
        fast.decodeBookUpdate(decoder, bytes.subarray(0, fast.encodeBookUpdate(update, encoder, bytes))),
    },
    {
      name: 'SBE',
      order: (order) => sbe.decodeNewOrder(sbeOf(sbe.encodeNewOrder(order, buffer))),
      report: (report) => sbe.decodeExecutionReport(sbeOf(sbe.encodeExecutionReport(report, buffer))),
      update: (update) => sbe.decodeBookUpdate(sbeOf(sbe.encodeBookUpdate(update, buffer))),
    },
  ]
}

const uuid = fc.uuid()
const ticker = fc.stringMatching(/^KX[A-Z0-9]{1,12}-[A-Z0-9]{3,14}(-[A-Z0-9.]{1,8})?$/)
const count = fc.integer({ min: 1, max: 100_000_000 })
const price = fc.integer({ min: 1, max: 9_999 })
const instant = fc.integer({ min: 0, max: 4_102_444_800_000 })
const plain = { noNullPrototype: true }

const orders: fc.Arbitrary<NewOrder> = fc.record(
  {
    ticker,
    side: fc.constantFrom('bid' as const, 'ask' as const),
    countHundredths: count,
    priceTicks: price,
    timeInForce: fc.constantFrom(
      'good_till_canceled' as const,
      'immediate_or_cancel' as const,
      'fill_or_kill' as const,
    ),
    selfTradePrevention: fc.constantFrom('taker_at_cross' as const, 'maker' as const),
    clientOrderId: uuid,
    postOnly: fc.boolean(),
    exchangeIndex: fc.integer({ min: 0, max: 15 }),
  },
  plain,
)
const reports: fc.Arbitrary<ExecutionReport> = fc
  .record(
    {
      orderId: uuid,
      clientOrderId: uuid,
      ticker,
      side: fc.constantFrom('bid' as const, 'ask' as const),
      status: fc.constantFrom('resting' as const, 'canceled' as const, 'executed' as const),
      priceTicks: price,
      countHundredths: count,
      filledHundredths: fc.integer({ min: 0, max: 100_000_000 }),
      tsMs: instant.map((ms) => ms + 100),
    },
    plain,
  )
  .map((report) => ({
    ...report,
    filledHundredths: report.filledHundredths % (report.countHundredths + 1),
    remainingHundredths: report.countHundredths - (report.filledHundredths % (report.countHundredths + 1)),
  }))
const updates: fc.Arbitrary<BookUpdate> = fc.record(
  {
    sequence: fc.integer({ min: 1, max: 2 ** 40 }),
    ticker,
    side: fc.constantFrom('yes' as const, 'no' as const),
    priceTicks: price,
    changeHundredths: fc.integer({ min: -100_000_000, max: 100_000_000 }),
    tsMs: instant,
  },
  plain,
)

describe('equal semantics', () => {
  it('decodes an order, a report and a book update to the same object from every form', () => {
    const all = forms()
    fc.assert(
      fc.property(orders, reports, updates, (order, report, update) => {
        for (const form of all) {
          assert.deepEqual(form.order(order), order, form.name)
          assert.deepEqual(form.report(report), report, form.name)
          assert.deepEqual(form.update(update), update, form.name)
        }
      }),
      { numRuns: 300 },
    )
  })

  it('carries the measured messages too, and tells in the answer what the report tells', () => {
    const all = forms()
    const set = createMessages(64)
    for (const [index, report] of set.reports.entries()) {
      for (const form of all) {
        assert.deepEqual(form.order(set.orders[index]!), set.orders[index], form.name)
        assert.deepEqual(form.report(report), report, form.name)
        assert.deepEqual(form.update(set.updates[index]!), set.updates[index], form.name)
      }
      const answer = rest.decodeAnswer(rest.encodeAnswer(report))
      assert.equal(answer.orderId, report.orderId)
      assert.equal(answer.clientOrderId, report.clientOrderId)
      assert.equal(answer.fillCountHundredths, report.filledHundredths)
      assert.equal(answer.remainingCountHundredths, report.remainingHundredths)
      assert.equal(answer.tsMs, report.tsMs)
    }
  })

  it('makes the same messages of the same seed, and others of another', () => {
    assert.deepEqual(createMessages(8, 3), createMessages(8, 3))
    assert.notDeepEqual(createMessages(8, 3), createMessages(8, 4))
  })

  it('packs a batch of changes into about 60 bytes of FAST', () => {
    const encoder = new FastEncoder(fast.TEMPLATES)
    const decoder = new FastDecoder(fast.TEMPLATES)
    const bytes = Buffer.alloc(512)
    const sizes = createMessages(64).batches.map((batch) => {
      const end = fast.encodeBookBatch(batch, encoder, bytes)
      assert.deepEqual(fast.decodeBookBatch(decoder, bytes.subarray(0, end)), batch)
      return end
    })
    const [, ...steady] = sizes
    assert(Math.min(...steady) >= 50 && Math.max(...steady) <= 75, String(sizes))
  })
})

describe('the REST request', () => {
  it('has the very bytes that the venue’s client puts on a socket', async () => {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519')
    const signer = createSigner({
      keyId: SESSION.sender,
      privateKeyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    })
    const { promise: request, resolve } = Promise.withResolvers<string>()
    const server = createServer((socket) => {
      let text = ''
      socket.on('data', (chunk: Buffer) => {
        text += chunk.toString('latin1')
        // The client warms its connection with a GET; every request is answered, the POST is kept.
        const end = text.indexOf('\r\n\r\n')
        if (end < 0) return
        const length = Number(/content-length: (\d+)/.exec(text)?.[1] ?? 0)
        if (text.length < end + 4 + length) return
        const whole = text.slice(0, end + 4 + length)
        text = text.slice(whole.length)
        if (whole.startsWith('POST')) resolve(whole)
        socket.write('HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}')
      })
      socket.on('error', () => {})
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const client = createRest({ origin: `http://127.0.0.1:${port}`, signer })
    try {
      const [order] = createMessages(1).orders as [NewOrder]
      void client.createOrder(order)
      const sent = await request
      const header = (name: string) => new RegExp(`^${name}: (.*)\r$`, 'm').exec(sent)?.[1] ?? ''
      const timestamp = header(AUTH_HEADERS.timestamp)
      const signature = header(AUTH_HEADERS.signature)
      const ours = rest.encodeOrderRequest(order, SESSION.sender, timestamp, signature)
      assert.equal(sent.replace(/^host: .*\r$/m, 'host: external-api.kalshi.com\r'), ours)
      assert(verify(publicKey, { timestamp, method: 'POST', path: rest.ORDERS_PATH }, signature))
    } finally {
      await client.stop({ graceMs: 0 })
      server.close()
    }
  })
})

describe('hostile bytes', () => {
  it('end in a message or a typed error, in FIX, SBE and FAST', () => {
    const set = createMessages(4)
    const writer = new fix.FixWriter(SESSION)
    const reader = new fix.FixReader()
    const bytes = Buffer.alloc(512)
    const buffer = new sbe.SbeBuffer(bytes)
    writer.report(set.reports[1]!, 9, NOW_MS)
    const fixMessage = Buffer.from(writer.bytes.subarray(writer.start, writer.end))
    const sbeMessage = Buffer.from(bytes.subarray(0, sbe.encodeExecutionReport(set.reports[1]!, buffer)))
    const fastMessage = Buffer.from(
      bytes.subarray(0, fast.encodeExecutionReport(set.reports[1]!, new FastEncoder(fast.TEMPLATES), bytes)),
    )
    const scan = new fix.ExecutionScan()
    const attempts: readonly [Buffer, (damaged: Buffer) => unknown, new (...args: never[]) => Error][] = [
      [fixMessage, (damaged) => fix.decodeReport(reader, damaged), FixError],
      [fixMessage, (damaged) => fix.parseFix(reader, damaged), FixError],
      [fixMessage, (damaged) => fix.scanExecution(reader, damaged, 0, damaged.length, scan), FixError],
      [fixMessage, (damaged) => fix.frameLength(damaged, 0, damaged.length), FixError],
      [sbeMessage, (damaged) => sbe.decodeExecutionReport(new sbe.SbeBuffer(damaged)), SbeError],
      [fastMessage, (damaged) => fast.decodeExecutionReport(new FastDecoder(fast.TEMPLATES), damaged), FastError],
    ]
    const damage = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 3 })
    fc.assert(
      fc.property(damage, fc.nat(), fc.uint8Array({ maxLength: 64 }), (changes, cut, noise) => {
        for (const [whole, decode, ErrorClass] of attempts) {
          const damaged = Buffer.from(whole.subarray(0, cut % 3 === 0 ? cut % whole.length : whole.length))
          for (const [place, byte] of changes) if (damaged.length > 0) damaged[place % damaged.length] = byte
          for (const input of [damaged, Buffer.from(noise), Buffer.concat([damaged, noise])]) {
            try {
              decode(input)
            } catch (error) {
              assert(error instanceof ErrorClass, String(error))
            }
          }
        }
      }),
      { numRuns: 2_000 },
    )
  })
})
