import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { WireError } from '../../src/kalshi/index.ts'
import { ResponseParser } from '../../src/kalshi/response.ts'

const LIMIT = 64 * 1024

/** Cuts `bytes` at the given places, in order. */
function split(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const at = [...new Set([0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length])].sort((a, b) => a - b)
  return at.slice(1).map((end, index) => bytes.subarray(at[index], end))
}

function parse(chunks: readonly Buffer[]): ResponseParser {
  const parser = new ResponseParser(LIMIT)
  for (const chunk of chunks) parser.push(chunk)
  return parser
}

const cuts = fc.array(fc.nat(), { maxLength: 20 })

test('an answer with a length reads the same however the network cuts it', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 300 }), cuts, (body, at) => {
      const text = `HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nKeep-Alive: timeout=5\r\n\r\n${body}`
      const parser = parse(split(Buffer.from(text), at))
      assert.ok(parser.complete)
      assert.deepEqual([parser.status, parser.body, parser.keepAlive, parser.keepAliveSeconds], [201, body, true, 5])
    }),
  )
})

test('a chunked answer reads the same however the network cuts it, extensions and trailers skipped', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: 'grapheme', minLength: 1 }), { maxLength: 5 }), cuts, (parts, at) => {
      const chunks = parts.map((part) => `${Buffer.byteLength(part).toString(16)};x=1\r\n${part}\r\n`).join('')
      const text = `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n${chunks}0\r\nx-trailer: 1\r\n\r\n`
      const parser = parse(split(Buffer.from(text), at))
      assert.ok(parser.complete)
      assert.deepEqual([parser.body, parser.keepAlive], [parts.join(''), true])
    }),
  )
})

test('an answer is not whole before its last byte', () => {
  const text = Buffer.from('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}')
  for (let length = 0; length < text.length; length++) assert.ok(!parse([text.subarray(0, length)]).complete)
})

test('an informational answer before the real one is skipped', () => {
  const parser = parse([Buffer.from('HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n')])
  assert.deepEqual([parser.status, parser.complete, parser.body], [204, true, ''])
})

test('an answer without a length ends with the connection', () => {
  const parser = parse([Buffer.from('HTTP/1.1 200 OK\r\n\r\nabc')])
  assert.ok(!parser.complete)
  assert.ok(parser.end())
  assert.deepEqual([parser.body, parser.keepAlive], ['abc', false])
  const cut = parse([Buffer.from('HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc')])
  assert.ok(!cut.end())
})

test('a connection is not used again after close, HTTP/1.0, or bytes beyond the answer', () => {
  for (const text of [
    'HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: 0\r\n\r\n',
    'HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n',
    'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\n',
  ]) {
    const parser = parse([Buffer.from(text)])
    assert.deepEqual([parser.complete, parser.keepAlive], [true, false], text)
  }
})

test('answers that could be read in two ways, or are too long, are refused', () => {
  for (const text of [
    'HTTP/2 200\r\n',
    'nonsense\r\n',
    'HTTP/1.1 200 OK\n',
    'HTTP/1.1 101 Switching Protocols\r\n\r\n',
    'HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n',
    'HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n',
    'HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n',
    'HTTP/1.1 200 OK\r\ncontent-length: 1e3\r\n\r\n',
    'HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n',
    'HTTP/1.1 200 OK\r\nx: 1\r\n folded\r\n\r\n',
    'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n+5\r\nabcde\r\n',
    'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n',
    `HTTP/1.1 200 OK\r\ncontent-length: ${LIMIT + 1}\r\n\r\n`,
    `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffff\r\n${'x'.repeat(LIMIT + 1)}`,
    `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;${'x'.repeat(1000)}`,
    `HTTP/1.1 200 OK\r\n\r\n${'x'.repeat(LIMIT + 1)}`,
    `HTTP/1.1 200 OK\r\nx: ${'x'.repeat(20_000)}`,
    `HTTP/1.1 200 OK\r\n${'x: 1\r\n'.repeat(4_000)}`,
  ])
    assert.throws(() => parse([Buffer.from(text)]), WireError, text.slice(0, 80))
})

test('no bytes whatever make it fail in another way', () => {
  const hostile = fc.oneof(
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
    fc
      .array(
        fc.constantFrom(
          'HTTP/1.1 200 OK',
          '\r\n',
          '\n',
          ':',
          'content-length: 3',
          'transfer-encoding: chunked',
          '0',
          'a',
        ),
      )
      .map((parts) => Buffer.from(parts.join(''))),
  )
  fc.assert(
    fc.property(hostile, cuts, (bytes, at) => {
      try {
        parse(split(bytes, at)).end()
      } catch (error) {
        assert.ok(error instanceof WireError, String(error))
      }
    }),
    { numRuns: 1000 },
  )
})
