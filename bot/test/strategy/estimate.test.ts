import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Estimate } from '../../src/strategy/estimate.ts'

const params = { fairHalfLifeMs: 1000, volatilityHalfLifeMs: 5000, warmupUpdates: 3 }

test('the fair value weighs prices by how long they stood', () => {
  const estimate = new Estimate(params)
  estimate.update(5000, 0)
  estimate.update(6000, 1000)
  // 5000 stood for a second, 6000 for no time yet.
  assert.equal(estimate.fairTicks, 5000)
  estimate.update(6000, 2000)
  // One half-life of 6000.
  assert.equal(estimate.fairTicks, 5500)
})

test('a burst in one millisecond weighs as a millisecond', () => {
  const estimate = new Estimate(params)
  estimate.update(5000, 0)
  for (let i = 0; i < 50; i++) estimate.update(9000, 1000 + i * 0.02)
  assert.ok(estimate.fairTicks < 5010)
})

test('volatility is the root of squared moves per second', () => {
  const estimate = new Estimate(params)
  let mid = 5000
  for (let i = 0; i < 5000; i++) {
    mid += i % 2 === 0 ? 20 : -20
    estimate.update(mid, i * 100)
  }
  // Ten moves of 20 a second: variance 10 * 400.
  assert.ok(Math.abs(estimate.sigmaTicks - Math.sqrt(4000)) < 1.5, `${estimate.sigmaTicks}`)
})

test('an estimate is ready after its warm-up and starts again after a reset or a minute of silence', () => {
  const estimate = new Estimate(params)
  for (let i = 0; i < 3; i++) {
    assert.equal(estimate.ready, false)
    estimate.update(5000 + i, i)
  }
  assert.equal(estimate.ready, true)
  estimate.reset()
  assert.equal(estimate.ready, false)
  for (let i = 0; i < 3; i++) estimate.update(5000, 100 + i)
  assert.equal(estimate.ready, true)
  estimate.update(7000, 100_000)
  assert.equal(estimate.ready, false)
  assert.equal(estimate.fairTicks, 7000)
})
