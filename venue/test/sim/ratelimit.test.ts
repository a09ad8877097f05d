import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { capacities, RateLimit, TIERS, type Tier, TokenBucket } from '../../src/sim/ratelimit.ts'

describe('a token bucket', () => {
  it('refills continuously up to its capacity, and a refusal costs nothing', () => {
    const bucket = new TokenBucket(100, 200, 1_000)
    assert.ok(bucket.take(200, 1_000))
    assert.ok(!bucket.take(10, 1_099))
    assert.ok(bucket.take(10, 1_100))
    assert.ok(!bucket.take(1, 1_100))
    assert.ok(bucket.take(200, 60_000))
    assert.ok(!bucket.take(1, 60_000))
    assert.ok(!new TokenBucket(100, 200, 0).take(201, 1e9))
  })
})

describe('a rate limit', () => {
  it('has the sizes of its tier: two seconds of writes above Basic, two of reads up to Advanced', () => {
    assert.deepEqual(
      TIERS.map((tier) => [tier.name, capacities(tier).read, capacities(tier).write]),
      [
        ['basic', 400, 100],
        ['advanced', 600, 600],
        ['expert', 600, 1_200],
        ['premier', 1_200, 2_400],
        ['paragon', 2_400, 4_800],
        ['prime', 4_800, 9_600],
        ['prestige', 12_000, 19_200],
      ],
    )
  })

  it('keeps reads, common writes and each shard’s writes apart', () => {
    const limit = new RateLimit(TIERS[0] as Tier, 0)
    assert.ok(limit.write(100, 0, 0))
    assert.ok(!limit.write(10, 0, 0))
    assert.ok(limit.write(100, 2, 0))
    assert.ok(!limit.write(10, 2, 0))
    assert.ok(limit.read(400, 0))
    assert.ok(!limit.read(10, 0))
  })
})
