import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  controlSides,
  createAllocationMeter,
  judgeControl,
  measureRounds,
  type Operation,
  over,
  quantile,
  timingOf,
} from '../../src/codec/measure.ts'

/** A clock that only moves when an operation says so, and operations of a known cost. */
function fakeMachine() {
  let nowMs = 0
  const side = (nsPerOp: number, calls: string[] = [], name = ''): Operation => ({
    run(operations) {
      calls.push(name)
      nowMs += (operations * nsPerOp) / 1e6
      return operations
    },
  })
  return { now: () => nowMs, side, stall: (ms: number) => (nowMs += ms) }
}

describe('measuring operations', () => {
  it('reports what an operation costs, whatever its size', async () => {
    const { now, side } = fakeMachine()
    const costs = [12, 480, 90_000, 5_000_000]
    const figures = await measureRounds(
      costs.map((cost) => side(cost)),
      { rounds: 5, seed: 1, now },
    )
    for (const [index, cost] of costs.entries()) {
      assert.equal(figures[index]?.length, 5)
      for (const figure of figures[index] ?? []) assert(Math.abs(figure / cost - 1) < 1e-6, `${figure} for ${cost}`)
    }
  })

  it('runs every side once a round, in an order that changes', async () => {
    const { now, side } = fakeMachine()
    const calls: string[] = []
    let warmUps = 0
    await measureRounds(
      ['a', 'b', 'c'].map((name) => side(1_000, calls, name)),
      {
        rounds: 20,
        seed: 1,
        now,
        between: () => {
          warmUps ||= calls.length
          return true
        },
      },
    )
    const rounds = Array.from({ length: 20 }, (_, round) =>
      calls.slice(warmUps + 3 * round, warmUps + 3 * round + 3).join(''),
    )
    for (const round of rounds) assert.equal([...round].sort().join(''), 'abc')
    assert(new Set(rounds).size > 3, rounds.join(' '))
  })

  it('keeps its median when some rounds are held up', async () => {
    const { now, side, stall } = fakeMachine()
    let round = 0
    const [figures] = await measureRounds([side(1_000)], {
      rounds: 25,
      seed: 1,
      now: () => {
        if (round % 5 === 4) stall(3)
        return now()
      },
      between: () => {
        round++
        return true
      },
    })
    const timing = timingOf(figures ?? [], 1)
    assert(Math.abs(timing.median / 1_000 - 1) < 1e-6)
    assert(timing.p90 > 2_000)
  })

  it('stops between rounds when told to', async () => {
    const { now, side } = fakeMachine()
    const [figures] = await measureRounds([side(1_000)], { rounds: 10, seed: 1, now, between: (ratio) => ratio < 0.3 })
    assert.equal(figures?.length, 3)
  })

  it('gives an interval that holds the true median about as often as it says', () => {
    let held = 0
    for (let run = 0; run < 200; run++) {
      // Twenty values of a known distribution: uniform, median 0.5.
      const values = Array.from(
        { length: 20 },
        (_, index) => (Math.sin(run * 7919 + index * 104_729) * 43_758.5453) % 1,
      ).map((value) => Math.abs(value))
      const { low, high } = timingOf(values, run + 1)
      if (low <= 0.5 && 0.5 <= high) held++
    }
    assert(held >= 180 && held < 200, `${held} of 200`)
  })

  it('interpolates quantiles', () => {
    assert.equal(quantile([1, 2, 3, 4], 0.5), 2.5)
    assert.equal(quantile([1, 2, 3, 4], 0), 1)
    assert.equal(quantile([1, 2, 3, 4], 1), 4)
    assert(Number.isNaN(timingOf([], 1).median))
  })

  it('sees that twice the work takes twice as long, and says so when it does not', async () => {
    const [once, again, twice] = (await measureRounds(controlSides(), { rounds: 9, seed: 1, batchMs: 0.5 })) as [
      number[],
      number[],
      number[],
    ]
    const { twice: gain, same } = judgeControl(once, again, twice)
    assert(gain.ratio > 1.3 && gain.ratio < 3, `twice: ${gain.ratio}`)
    assert(same.ratio > 0.6 && same.ratio < 1.6, `same: ${same.ratio}`)
    assert.deepEqual(judgeControl([10, 10, 10], [10, 10, 10], [20, 20, 20]).failures, [])
    assert.equal(judgeControl([10, 10, 10], [10, 10, 10], [10, 10, 10]).failures.length, 1)
    assert.equal(judgeControl([10, 10, 10], [14, 14, 14], [20, 20, 20]).failures.length, 1)
  })

  it('tells bytes allocated from none', () => {
    const meter = createAllocationMeter()
    assert(meter !== undefined)
    const numbers = Array.from({ length: 64 }, (_, index) => index)
    let kept: unknown
    const none = over(numbers, (value) => value * 2)
    const some = over(numbers, (value) => {
      kept = { a: value, b: value, c: value, d: value }
      return value
    })
    // By time, not by count: code that is not optimized yet allocates 16 bytes more, and it is compiled on another thread.
    for (const warmUntilMs = performance.now() + 200; performance.now() < warmUntilMs; )
      for (const side of [none, some]) side.run(20_000)
    assert.equal(meter(none), 0)
    // Header, properties and elements of 8 bytes each, and the four values.
    assert.equal(meter(some), 7 * 8)
    assert(kept !== undefined)
  })

  it('restarts the messages of an operation where a stream must begin anew', () => {
    let restarts = 0
    const seen: number[] = []
    const operation = over(
      [1, 2, 3],
      (value) => seen.push(value),
      () => restarts++,
    )
    operation.run(7)
    assert.deepEqual(seen, [1, 2, 3, 1, 2, 3, 1])
    assert.equal(restarts, 3)
  })
})
