import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { LatencyHistogram } from '@tickscope/contract'
import { compareDifference, compareRatio, compareTotals, meanInterval } from '../src/compare.ts'

/** Mulberry32: the same draws on every machine. */
function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

/** The p50 of one round: lognormal latencies around `medianNs`, and a shift of the whole round that its sides share. */
function roundP50(draw: () => number, medianNs: number, shared: number): number {
  const histogram = new LatencyHistogram()
  for (let i = 0; i < 400; i++) {
    const normal = Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw())
    histogram.record(Math.round(medianNs * shared * Math.exp(0.3 * normal)))
  }
  return histogram.quantileNs(0.5)
}

function rounds(draw: () => number, count: number, sidesNs: readonly [number, number]): [number[], number[]] {
  const a: number[] = []
  const b: number[] = []
  for (let i = 0; i < count; i++) {
    const shared = 1 + 0.2 * draw()
    a.push(roundP50(draw, sidesNs[0], shared))
    b.push(roundP50(draw, sidesNs[1], shared))
  }
  return [a, b]
}

describe('a comparison', () => {
  it('finds no gain between a side and itself in at least 95 of 100 runs', () => {
    const draw = random(1)
    let silent = 0
    for (let run = 0; run < 100; run++) if (!compareRatio(...rounds(draw, 5, [5_000, 5_000])).claimed) silent++
    assert.ok(silent >= 95, `${silent} of 100`)
  })

  it('has an injected 200 µs inside its interval in at least 95 of 100 runs, and claims it', () => {
    const draw = random(2)
    let inside = 0
    let claimed = 0
    for (let run = 0; run < 100; run++) {
      const [a] = rounds(draw, 7, [1_000_000, 1_000_000])
      const b = a.map((value) => value + 200_000 + (draw() - 0.5) * 40_000)
      const difference = compareDifference(a, b)
      if (difference.low <= 200_000 && difference.high >= 200_000) inside++
      if (difference.claimed) claimed++
    }
    assert.ok(inside >= 95, `${inside} of 100`)
    assert.ok(claimed >= 95, `${claimed} of 100`)
  })

  it('claims a halving in every run, with the half inside the interval', () => {
    const draw = random(3)
    for (let run = 0; run < 20; run++) {
      const gain = compareRatio(...rounds(draw, 5, [10_000, 5_000]))
      assert.ok(gain.claimed && gain.high < 1)
      assert.ok(gain.low < 0.55 && gain.high > 0.45, JSON.stringify(gain))
    }
  })

  it('of totals that gather in a few rounds is silent of a side against itself, and finds nineteen twentieths gone', () => {
    const draw = random(4)
    // A round's wait: nothing much, or now and then a time slice.
    const waits = (scale: number) =>
      Array.from({ length: 20 }, () => scale * (50 + (draw() < 0.5 ? 20_000 * -Math.log(1 - draw()) : 0)))
    let silent = 0
    let inside = 0
    for (let run = 0; run < 100; run++) {
      if (!compareTotals(waits(1), waits(1)).claimed) silent++
      const removed = compareTotals(waits(1), waits(0.05))
      if (removed.low <= 0.05 && removed.high >= 0.05 && removed.high < 1) inside++
    }
    assert.ok(silent >= 95, `${silent} of 100`)
    assert.ok(inside >= 95, `${inside} of 100`)
  })

  it('of totals agrees with arithmetic', () => {
    // Totals 12 and 6; without each round 5/10, 5/8, 2/6. Pseudo-values 3 ln(1/2) - 2 ln(r): s by hand from these.
    const gain = compareTotals([2, 4, 6], [1, 1, 4])
    assert.equal(gain.ratio, 0.5)
    const pseudo = [5 / 10, 5 / 8, 2 / 6].map((r) => 3 * Math.log(0.5) - 2 * Math.log(r))
    const mean = (Math.log(0.5) * 9 - 2 * Math.log((5 / 10) * (5 / 8) * (2 / 6))) / 3
    const s = Math.sqrt(pseudo.reduce((sum, value) => sum + (value - mean) ** 2, 0) / 2)
    assert.ok(Math.abs(Math.log(gain.high) - (mean + (9.925 * s) / Math.sqrt(3))) < 1e-9)
    assert.ok(Math.abs(Math.log(gain.low) - (mean - (9.925 * s) / Math.sqrt(3))) < 1e-9)
    assert.equal(gain.claimed, false)
    assert.equal(compareTotals([1, 1], [0.1, 0.1]).claimed, false)
  })

  it('claims nothing from fewer than three rounds, and refuses sides of different length', () => {
    assert.equal(compareRatio([10, 10], [1, 1]).claimed, false)
    assert.throws(() => compareRatio([1, 2, 3], [1, 2]), RangeError)
    assert.throws(() => compareRatio([], []), RangeError)
  })

  it('agrees with the textbook interval', () => {
    // n = 5, mean 3, s = 1.5811, t(0.995, 4) = 4.604: half width 4.604 * 1.5811 / sqrt(5) = 3.2555
    const { mean, low, high } = meanInterval([1, 2, 3, 4, 5])
    assert.equal(mean, 3)
    assert.ok(Math.abs(high - 3 - 3.2555) < 1e-3 && Math.abs(3 - low - 3.2555) < 1e-3)
  })
})
