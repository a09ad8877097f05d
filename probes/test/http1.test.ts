import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { BODY_BYTES_MAX, ProtocolError, ResponseReader } from '../src/http1.ts'

interface Answer {
  readonly text: string
  readonly status: number
  readonly bodyBytes: number
  readonly keepAlive: boolean
  /** Whether only the end of the connection ends it. */
  readonly untilClose: boolean
}

const body = fc.string({ unit: 'binary-ascii', maxLength: 300 })
const status = fc.constantFrom(200, 201, 400, 401, 429, 500, 503)
const interim = fc.constantFrom('', 'HTTP/1.1 100 Continue\r\n\r\n', 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n')
const field = fc.constantFrom('', 'X-Empty:\r\n', 'Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n', 'x-colon: a:b\r\n')

const sized: fc.Arbitrary<Answer> = fc
  .record({ body, status, interim, field, close: fc.boolean(), minor: fc.constantFrom(0, 1) })
  .map(({ body, status, interim, field, close, minor }) => ({
    text: `${interim}HTTP/1.${minor} ${status} Some Words\r\n${field}Content-Length:  ${body.length} \r\n${close ? 'Connection: Close\r\n' : ''}\r\n${body}`,
    status,
    bodyBytes: body.length,
    keepAlive: minor === 1 && !close,
    untilClose: false,
  }))

const chunked: fc.Arbitrary<Answer> = fc
  .record({
    chunks: fc.array(fc.string({ unit: 'binary-ascii', minLength: 1, maxLength: 80 }), { maxLength: 6 }),
    extension: fc.constantFrom('', ';name=value', ' ; a="b"'),
    trailer: fc.constantFrom('', 'X-Trailer: 1\r\n'),
    upper: fc.boolean(),
    status,
    interim,
  })
  .map(({ chunks, extension, trailer, upper, status, interim }) => {
    const size = (n: number) => (upper ? n.toString(16).toUpperCase() : n.toString(16))
    const parts = chunks.map((chunk) => `${size(chunk.length)}${extension}\r\n${chunk}\r\n`)
    return {
      text: `${interim}HTTP/1.1 ${status} \r\ntransfer-encoding: Chunked\r\n\r\n${parts.join('')}0\r\n${trailer}\r\n`,
      status,
      bodyBytes: chunks.reduce((sum, chunk) => sum + chunk.length, 0),
      keepAlive: true,
      untilClose: false,
    }
  })

const closing: fc.Arbitrary<Answer> = fc.record({ body, status }).map(({ body, status }) => ({
  text: `HTTP/1.1 ${status} OK\r\nServer: x\r\n\r\n${body}`,
  status,
  bodyBytes: body.length,
  keepAlive: false,
  untilClose: true,
}))

const empty: fc.Arbitrary<Answer> = fc.constantFrom(204, 304).map((code) => ({
  text: `HTTP/1.1 ${code} Nothing\r\nConnection: x, keep-alive\r\n\r\n`,
  status: code,
  bodyBytes: 0,
  keepAlive: true,
  untilClose: false,
}))

/** Cuts bytes into pieces at the given fractions of their length. */
function cut(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const offsets = [...cuts.map((ratio) => Math.floor(ratio * bytes.length)), bytes.length].sort((a, b) => a - b)
  return offsets.map((end, index) => bytes.subarray(offsets[index - 1] ?? 0, end))
}

function check(reader: ResponseReader, answer: Answer): void {
  assert.equal(reader.done, true)
  assert.equal(reader.status, answer.status)
  assert.equal(reader.bodyBytes, answer.bodyBytes)
  assert.equal(reader.keepAlive, answer.keepAlive)
}

describe('the reader of answers', () => {
  const cuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 })

  it('reads an answer the same, however the network cuts it', () => {
    fc.assert(
      fc.property(fc.oneof(sized, chunked, closing, empty), cuts, (answer, cuts) => {
        const reader = new ResponseReader()
        for (const piece of cut(Buffer.from(answer.text, 'latin1'), cuts)) {
          assert.equal(reader.done, false)
          if (piece.length > 0) reader.push(piece)
          if (reader.done) break
        }
        if (answer.untilClose) assert.equal(reader.end(), true)
        check(reader, answer)
      }),
    )
  })

  it('reads one byte at a time', () => {
    fc.assert(
      fc.property(fc.oneof(sized, chunked), (answer) => {
        const reader = new ResponseReader()
        for (const byte of Buffer.from(answer.text, 'latin1')) {
          assert.equal(reader.done, false)
          reader.push(Buffer.from([byte]))
        }
        check(reader, answer)
      }),
      { numRuns: 50 },
    )
  })

  it('reads the next answer of a connection after a reset', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(sized, chunked, empty), { minLength: 2, maxLength: 5 }), (answers) => {
        const reader = new ResponseReader()
        for (const answer of answers) {
          reader.push(Buffer.from(answer.text, 'latin1'))
          check(reader, answer)
          reader.reset()
        }
      }),
      { numRuns: 50 },
    )
  })

  it('is not done by the end of the connection in the middle of an answer', () => {
    for (const text of ['', 'HTTP/1.1 200 OK\r\n', 'HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab']) {
      const reader = new ResponseReader()
      reader.push(Buffer.from(text))
      assert.equal(reader.end(), false, JSON.stringify(text))
    }
  })

  const ok = 'HTTP/1.1 200 OK\r\n'
  for (const [what, text] of [
    ['another protocol', 'SSH-2.0-OpenSSH_9.2\r\n\r\n'],
    ['HTTP/2 spoken in clear', 'PRI * HTTP/2.0\r\n\r\n'],
    ['a version it does not know', 'HTTP/1.2 200 OK\r\n\r\n'],
    ['a switch of protocols', 'HTTP/1.1 101 Switching\r\n\r\n'],
    ['a length that is no number', `${ok}content-length: 3x\r\n\r\nabc`],
    ['a negative length', `${ok}content-length: -1\r\n\r\n`],
    ['two different lengths', `${ok}content-length: 3\r\ncontent-length: 4\r\n\r\nabcd`],
    ['a length and chunks', `${ok}content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`],
    ['a coding it does not know', `${ok}transfer-encoding: gzip, chunked\r\n\r\n`],
    ['a body longer than the limit', `${ok}content-length: ${BODY_BYTES_MAX + 1}\r\n\r\n`],
    ['a field without a colon', `${ok}nonsense\r\n\r\n`],
    ['a blank in a field name', `${ok}content-length : 3\r\n\r\n`],
    ['a folded field', `${ok}a: b\r\n c: d\r\n\r\n`],
    ['a malformed chunk size', `${ok}transfer-encoding: chunked\r\n\r\nxyz\r\n`],
    ['a chunk longer than its size', `${ok}transfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n`],
    ['a chunk line ended by LF alone', `${ok}transfer-encoding: chunked\r\n\r\n3\nabc\r\n`],
    ['bytes behind the answer', `${ok}content-length: 1\r\n\r\nab`],
    ['endless interim answers', 'HTTP/1.1 100 Continue\r\n\r\n'.repeat(17)],
    ['a head without end', `${ok}${'a: b\r\n'.repeat(12_000)}`],
    ['a chunk line without end', `${ok}transfer-encoding: chunked\r\n\r\n1;${'x'.repeat(9_000)}`],
    ['trailers without end', `${ok}transfer-encoding: chunked\r\n\r\n0\r\n${'a: b\r\n'.repeat(2_000)}`],
  ] as const) {
    it(`refuses ${what}`, () => {
      assert.throws(() => new ResponseReader().push(Buffer.from(text)), ProtocolError)
    })
  }

  it('refuses a body of chunks beyond the limit without keeping it', () => {
    const reader = new ResponseReader()
    reader.push(Buffer.from(`${ok}transfer-encoding: chunked\r\n\r\nffffffff\r\n`))
    const megabyte = Buffer.alloc(1024 * 1024)
    for (let taken = 0; taken < BODY_BYTES_MAX; taken += megabyte.length) reader.push(megabyte)
    assert.throws(() => reader.push(Buffer.alloc(1)), ProtocolError)
  })

  it('answers arbitrary bytes with an answer, more waiting, or a protocol error', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('', ok, `${ok}content-length: 5\r\n\r\n`, `${ok}transfer-encoding: chunked\r\n\r\n`),
        fc.uint8Array({ minLength: 1, maxLength: 200 }),
        (prefix, bytes) => {
          const reader = new ResponseReader()
          if (prefix !== '') reader.push(Buffer.from(prefix))
          try {
            reader.push(Buffer.from(bytes))
          } catch (error) {
            assert.ok(error instanceof ProtocolError)
          }
        },
      ),
    )
  })
})
