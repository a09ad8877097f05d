import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { UserError } from '@tickscope/contract'
import { resolveEnvironment } from '../../src/kalshi/index.ts'

test('prod and demo are known by name, any other origin serves both REST and the feed', () => {
  assert.equal(resolveEnvironment('prod').restOrigin, 'https://external-api.kalshi.com')
  assert.equal(resolveEnvironment('demo').feedOrigin, 'wss://external-api-ws.demo.kalshi.co')
  assert.deepEqual(resolveEnvironment('http://127.0.0.1:8700/'), {
    restOrigin: 'http://127.0.0.1:8700',
    feedOrigin: 'ws://127.0.0.1:8700',
  })
  assert.equal(resolveEnvironment('https://localhost').feedOrigin, 'wss://localhost')
})

test('what is not an origin is refused in one sentence', () => {
  for (const bad of [
    '',
    'production',
    'ftp://x',
    '127.0.0.1:80',
    'http://x/trade-api/v2',
    'http://x?a=1',
    'http://u:p@x',
  ])
    assert.throws(
      () => resolveEnvironment(bad),
      (error: UserError) => error.code === 'VENUE_URL_INVALID',
    )
})
