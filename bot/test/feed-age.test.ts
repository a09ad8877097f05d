import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FeedAge } from '../src/feed-age.ts'

const ORIGIN_MS = 1_780_000_000_000

test('data is late by what it is older than the freshest, whatever the clocks differ by', () => {
  for (const offsetMs of [-5_000, 0, 5_000]) {
    const age = new FeedAge(1_000, ORIGIN_MS)
    const venueMs = ORIGIN_MS + offsetMs
    assert.equal(age.isLate(venueMs + 1_000, 1_006), false)
    assert.equal(age.isLate(venueMs + 2_000, 2_005), false)
    assert.equal(age.isLate(venueMs + 2_000, 3_004), false)
    assert.equal(age.isLate(venueMs + 2_000, 3_008), true)
    assert.equal(age.isLate(venueMs + 3_008, 3_013), false)
  }
})

test('what a stall held back is late until the feed has caught up', () => {
  const age = new FeedAge(1_000, ORIGIN_MS)
  age.isLate(ORIGIN_MS, 5)
  const late = Array.from({ length: 30 }, (_, i) => age.isLate(ORIGIN_MS + (i + 1) * 100, 3_005))
  assert.equal(late.filter(Boolean).length, 19)
  assert.deepEqual(
    late,
    [...late].sort((a, b) => Number(b) - Number(a)),
  )
})

test('clocks that drift apart are followed', () => {
  const age = new FeedAge(1_000, ORIGIN_MS)
  // 100 ppm for ten hours: 3.6 s.
  for (let second = 0; second < 36_000; second++) {
    const receivedAtMs = second * 1_000
    assert.equal(age.isLate(ORIGIN_MS + receivedAtMs * (1 - 1e-4), receivedAtMs + 5), false)
  }
})
