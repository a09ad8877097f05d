import assert from 'node:assert/strict'
import { test } from 'node:test'
import { EXIT, UserError } from '@tickscope/contract'
import fc from 'fast-check'
import { ConnectionError, parseErrorBody, VenueError, venueUserError, WireError } from '../../src/kalshi/index.ts'

test('all four shapes of an error body become one error', () => {
  const nested = parseErrorBody(
    400,
    '{"error":{"code":"invalid_order","message":"invalid order","details":"post only cross"}}',
  )
  assert.deepEqual(
    [nested.httpStatus, nested.code, nested.details, nested.retryable, nested.message],
    [
      400,
      'invalid_order',
      'post only cross',
      false,
      'venue answered 400 invalid_order: invalid order (post only cross)',
    ],
  )
  const flat = parseErrorBody(400, '{"code":"json_decode_error","message":"bad JSON","details":"offset 3"}')
  assert.deepEqual([flat.code, flat.details], ['json_decode_error', 'offset 3'])
  const bare = parseErrorBody(400, '{"msg":"limit must be at most 1000"}')
  assert.deepEqual([bare.code, bare.message], ['http_400', 'venue answered 400 http_400: limit must be at most 1000'])
  const text = parseErrorBody(429, '{"error":"too many requests"}')
  assert.deepEqual([text.code, text.retryable], ['too_many_requests', true])
})

test('the 401 bodies seen on the wire keep the code and details that tell their cause', () => {
  const cases: [string, string, string | undefined][] = [
    [
      '{"error":{"code":"header_timestamp_expired","message":"header timestamp expired"}}',
      'header_timestamp_expired',
      undefined,
    ],
    [
      '{"error":{"code":"authentication_error","message":"authentication_error","details":"INCORRECT_API_KEY_SIGNATURE"}}',
      'authentication_error',
      'INCORRECT_API_KEY_SIGNATURE',
    ],
  ]
  for (const [body, code, details] of cases) {
    const error = parseErrorBody(401, body)
    assert.deepEqual([error.code, error.details, error.retryable], [code, details, false])
  }
})

test('a retry can help after a rate limit, a pause or a failing server, and not after a refusal', () => {
  const retryable = (status: number, code: string) =>
    parseErrorBody(status, JSON.stringify({ error: { code, message: '' } })).retryable
  assert.equal(retryable(409, 'trading_is_paused'), true)
  assert.equal(retryable(503, 'exchange_unavailable'), true)
  assert.equal(retryable(409, 'order_already_exists'), false)
  assert.equal(retryable(404, 'not_found'), false)
})

test('any body at all becomes an error of bounded length, and never throws', () => {
  fc.assert(
    fc.property(fc.integer({ min: 300, max: 599 }), fc.oneof(fc.string(), fc.json()), (status, body) => {
      const error = parseErrorBody(status, body)
      assert.ok(error instanceof VenueError)
      assert.equal(error.httpStatus, status)
      assert.notEqual(error.code, '')
    }),
  )
  const page = parseErrorBody(502, `<html>${'x'.repeat(100_000)}</html>`)
  assert.equal(page.code, 'http_502')
  assert.ok(page.message.length < 300)
  for (const body of ['', 'null', '[]', '"x"', '1', '{}', '{"error":null}', '{"error":[]}', '{"error":""}'])
    assert.equal(parseErrorBody(500, body).code, 'http_500')
})

test('errors of the venue become one sentence with the exit code of the environment; our own stay as they are', () => {
  const refused = venueUserError(parseErrorBody(401, ''), 'reading the balance') as UserError
  assert.ok(refused instanceof UserError)
  assert.equal(refused.message, 'reading the balance: venue answered 401 http_401')
  assert.equal(refused.exitCode, EXIT.environment)
  const lost = venueUserError(new ConnectionError('CONNECT_FAILED', 'cannot connect to http://x'), 'x') as UserError
  assert.deepEqual([lost.code, lost.message], ['VENUE_UNREACHABLE', 'cannot connect to http://x'])
  assert.equal((venueUserError(new WireError('no'), 'reading') as UserError).code, 'VENUE_MALFORMED')
  const own = new TypeError('ours')
  assert.equal(venueUserError(own, 'x'), own)
})
