import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { deflateSync } from 'node:zlib'
import fc from 'fast-check'
import * as hdr from 'hdr-histogram-js'
import {
  boundCells,
  bucketBoundsNs,
  CELL_COUNT,
  cellIndexOf,
  DEFAULT_SLOS,
  decodeHistogram,
  ENCODED_CHARS_MAX,
  encodeHistogram,
  HIGHEST_NS,
  HistogramError,
  highestOf,
  LatencyHistogram,
  leOf,
  lowestOf,
  summarize,
} from '../src/index.ts'

/** ns, dense where latencies live and reaching both ends. */
const valueNs = fc.oneof(
  fc.integer({ min: 0, max: 4096 }),
  fc.integer({ min: 0, max: 50_000_000 }),
  fc.integer({ min: 0, max: HIGHEST_NS }),
)
const valuesNs = fc.array(valueNs, { maxLength: 400 })

function histogramOf(values: readonly number[], bounds?: ReturnType<typeof boundCells>): LatencyHistogram {
  const histogram = new LatencyHistogram(bounds)
  for (const value of values) histogram.record(value)
  return histogram
}

function peerOf(values: readonly number[]): hdr.Histogram {
  const peer = hdr.build({
    lowestDiscernibleValue: 1,
    highestTrackableValue: HIGHEST_NS,
    numberOfSignificantValueDigits: 3,
    bitBucketSize: 64,
  })
  for (const value of values) peer.recordValue(value)
  return peer
}

function nonZeroCells(histogram: LatencyHistogram): [number, number][] {
  const result: [number, number][] = []
  histogram.counts.forEach((n, cell) => {
    if (n > 0) result.push([cell, n])
  })
  return result
}

/** base64 of a compressed V2 histogram with the given counts bytes, and any header field replaced. */
function craft(
  counts: Uint8Array,
  header: Partial<Record<'cookie' | 'length' | 'offset' | 'digits', number>> & { ratio?: number; lowest?: bigint } = {},
): string {
  const inner = Buffer.alloc(40 + counts.length)
  inner.writeInt32BE(header.cookie ?? 0x1c849313, 0)
  inner.writeInt32BE(header.length ?? counts.length, 4)
  inner.writeInt32BE(header.offset ?? 0, 8)
  inner.writeInt32BE(header.digits ?? 3, 12)
  inner.writeBigInt64BE(header.lowest ?? 1n, 16)
  inner.writeBigInt64BE(60_000_000_000n, 24)
  inner.writeDoubleBE(header.ratio ?? 1, 32)
  inner.set(counts, 40)
  return wrap(deflateSync(inner))
}

function wrap(compressed: Buffer): string {
  const outer = Buffer.alloc(8 + compressed.length)
  outer.writeInt32BE(0x1c849314, 0)
  outer.writeInt32BE(compressed.length, 4)
  compressed.copy(outer, 8)
  return outer.toString('base64')
}

describe('cells', () => {
  it('hold every value between their lowest and highest, at most 1/1024 wide', () => {
    fc.assert(
      fc.property(valueNs, (value) => {
        const cell = cellIndexOf(value)
        assert.ok(lowestOf(cell) <= value && value <= highestOf(cell))
        assert.ok(cell < CELL_COUNT)
        assert.ok(highestOf(cell) - lowestOf(cell) <= value / 1024)
      }),
    )
  })

  it('follow one another without a hole', () => {
    for (let cell = 0; cell < CELL_COUNT - 1; cell++) {
      assert.equal(cellIndexOf(highestOf(cell)), cell)
      assert.equal(cellIndexOf(highestOf(cell) + 1), cell + 1)
    }
  })
})

describe('LatencyHistogram', () => {
  it('gives quantiles within 0.1 % above those of the sorted values', () => {
    fc.assert(
      fc.property(fc.array(valueNs, { minLength: 1, maxLength: 300 }), (values) => {
        const histogram = histogramOf(values)
        const sorted = values.toSorted((a, b) => a - b)
        for (const q of [0, 0.5, 0.9, 0.99, 0.999, 1]) {
          const truth = sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] as number
          const got = histogram.quantileNs(q)
          assert.ok(got >= truth && got <= truth + truth / 1024, `q${q}: ${got} for ${truth}`)
        }
        assert.equal(
          histogram.sumNs,
          values.reduce((a, b) => a + b, 0),
        )
      }),
    )
  })

  it('merges exactly: a fleet is one histogram of all its values', () => {
    fc.assert(
      fc.property(valuesNs, valuesNs, (a, b) => {
        const merged = histogramOf(a)
        merged.add(histogramOf(b))
        const whole = histogramOf([...a, ...b])
        assert.deepEqual(nonZeroCells(merged), nonZeroCells(whole))
        assert.deepEqual(summarize(merged), summarize(whole))
        assert.equal(merged.sumNs, whole.sumNs)
      }),
    )
  })

  it('counts exactly at every bucket bound it was made with', () => {
    const boundsNs = bucketBoundsNs(DEFAULT_SLOS)
    const cells = boundCells(boundsNs)
    const nearBound = fc
      .tuple(fc.constantFrom(...boundsNs), fc.integer({ min: -2000, max: 2000 }))
      .map(([bound, delta]) => Math.max(0, bound + delta))
    fc.assert(
      fc.property(fc.array(fc.oneof(nearBound, valueNs), { maxLength: 200 }), (values) => {
        const cumulative = histogramOf(values, cells).cumulative(boundsNs)
        boundsNs.forEach((bound, i) => {
          assert.equal(cumulative[i], values.filter((value) => value <= bound).length, `le ${bound}`)
        })
      }),
    )
  })

  it('keeps those counts through the wire and through merging', () => {
    const boundsNs = bucketBoundsNs(DEFAULT_SLOS)
    const cells = boundCells(boundsNs)
    const values = [19_999_999, 20_000_000, 20_000_001, 20_000_002, 5_000_000, 5_000_001]
    const merged = decodeHistogram(encodeHistogram(histogramOf(values, cells)))
    merged.add(decodeHistogram(encodeHistogram(histogramOf(values, cells))))
    assert.equal(merged.countAtMost(20_000_000), 8)
    assert.equal(merged.countAtMost(5_000_000), 2)
    assert.deepEqual(
      merged.cumulative(boundsNs),
      boundsNs.map((bound) => merged.countAtMost(bound)),
    )
  })

  it('counts values beyond its range as its highest, and is empty after reset', () => {
    const histogram = histogramOf([HIGHEST_NS * 3])
    assert.equal(histogram.maxNs, HIGHEST_NS)
    histogram.reset()
    assert.equal(histogram.count, 0)
    assert.equal(histogram.maxNs, 0)
    assert.deepEqual(nonZeroCells(histogram), [])
  })
})

describe('the V2 wire form', () => {
  it('comes back as it was', () => {
    fc.assert(
      fc.property(valuesNs, (values) => {
        const histogram = histogramOf(values)
        const text = encodeHistogram(histogram)
        assert.ok(text.startsWith('HISTFAAAA'))
        assert.deepEqual(nonZeroCells(decodeHistogram(text)), nonZeroCells(histogram))
      }),
    )
  })

  it('is read by hdr-histogram-js as the same counts', () => {
    fc.assert(
      fc.property(valuesNs, (values) => {
        const peer = hdr.decodeFromCompressedBase64(encodeHistogram(histogramOf(values)), 64)
        assert.equal(peer.totalCount, values.length)
        const expected = peerOf(values)
        for (const q of [50, 90, 99, 99.9, 100]) {
          assert.equal(peer.getValueAtPercentile(q), expected.getValueAtPercentile(q))
        }
      }),
      { numRuns: 50 },
    )
  })

  it('of hdr-histogram-js is read as the same counts, for all its two wrong header fields', () => {
    fc.assert(
      fc.property(valuesNs, (values) => {
        const ours = decodeHistogram(hdr.encodeIntoCompressedBase64(peerOf(values)))
        assert.deepEqual(nonZeroCells(ours), nonZeroCells(histogramOf(values)))
      }),
      { numRuns: 50 },
    )
  })

  it('carries counts up to 2^53 - 1 and no further', () => {
    for (const times of [1, 63, 64, 2 ** 31, 2 ** 32, 2 ** 47 - 1, Number.MAX_SAFE_INTEGER]) {
      const histogram = new LatencyHistogram()
      histogram.record(7, times)
      assert.equal(decodeHistogram(encodeHistogram(histogram)).counts[7], times)
    }
    const twice = Uint8Array.from([...new Array(7).fill(0xff), 0x3f, ...new Array(8).fill(0xff), 0x7f])
    assert.throws(() => decodeHistogram(craft(twice)), HistogramError)
  })

  const hostile: [string, string][] = [
    ['an empty string', ''],
    ['text that is not base64', '!!!! not base64 !!!!'],
    ['the cookie of another form', Buffer.alloc(64, 1).toString('base64')],
    ['a cut zlib stream', wrap(deflateSync(Buffer.alloc(500)).subarray(0, 12))],
    ['a run of 2^40 empty cells', craft(Uint8Array.from([0xff, 0xff, 0xff, 0xff, 0xff, 0x3f]))],
    ['a run past the last cell', craft(Uint8Array.from([0xff, 0xff, 0x7f]))],
    ['a count that never ends', craft(Uint8Array.from(new Array(8).fill(0x80)))],
    ['a payload length that lies', craft(Uint8Array.from([2]), { length: 9_000_000 })],
    ['shifted cells', craft(Uint8Array.from([2]), { offset: 5 })],
    ['a value ratio', craft(Uint8Array.from([2]), { ratio: 2.5 })],
    ['two significant digits', craft(Uint8Array.from([2]), { digits: 2 })],
    ['steps of 1000 ns', craft(Uint8Array.from([2]), { lowest: 1000n })],
    ['an inner cookie of V0', craft(Uint8Array.from([2]), { cookie: 0x1c849308 })],
    ['a zip bomb', wrap(deflateSync(Buffer.alloc(16 * 1024 * 1024)))],
    ['more text than a histogram can need', 'A'.repeat(ENCODED_CHARS_MAX + 1)],
    ['values above 60 s', craft(runThenCount(CELL_COUNT - 1))],
  ]
  for (const [what, text] of hostile) {
    it(`refuses ${what}`, () => assert.throws(() => decodeHistogram(text), HistogramError))
  }

  it('never does anything but decode or refuse, whatever bytes come', () => {
    const bytes = fc.uint8Array({ maxLength: 200 })
    fc.assert(
      fc.property(bytes, bytes, (counts, raw) => {
        for (const text of [craft(counts), Buffer.from(raw).toString('base64'), wrap(Buffer.from(raw))]) {
          try {
            const histogram = decodeHistogram(text)
            const total = histogram.counts.reduce((a, b) => a + b, 0)
            assert.equal(histogram.count, total)
          } catch (error) {
            assert.ok(error instanceof HistogramError, String(error))
          }
        }
      }),
      { numRuns: 500 },
    )
  })
})

/** Counts bytes: `run` empty cells, then one value. */
function runThenCount(run: number): Uint8Array {
  let word = run * 2 - 1
  const bytes: number[] = []
  while (word >= 128) {
    bytes.push((word % 128) + 128)
    word = Math.floor(word / 128)
  }
  return Uint8Array.from([...bytes, word, 2])
}

describe('bucket bounds', () => {
  it('include every latency threshold, also an overridden one', () => {
    const slos = { ...DEFAULT_SLOS, api_rtt: { ...DEFAULT_SLOS.api_rtt, thresholdNs: 17_300_000 } }
    const bounds = bucketBoundsNs(slos)
    assert.ok(bounds.includes(17_300_000) && bounds.includes(DEFAULT_SLOS.processing.thresholdNs))
    assert.deepEqual(
      bounds,
      bounds.toSorted((a, b) => a - b),
    )
  })

  it('are written as Prometheus writes floats', () => {
    // Go: strconv.FormatFloat(v, 'g', -1, 64), and ".0" on integers
    const expected: [number, string][] = [
      [1_000, '1e-06'],
      [2_500, '2.5e-06'],
      [25_000, '2.5e-05'],
      [100_000, '0.0001'],
      [5_000_000, '0.005'],
      [20_000_000, '0.02'],
      [1_000_000_000, '1.0'],
      [2_500_000_000, '2.5'],
      [10_000_000_000, '10.0'],
    ]
    for (const [ns, le] of expected) assert.equal(leOf(ns), le)
    for (const bound of bucketBoundsNs(DEFAULT_SLOS)) assert.equal(Number(leOf(bound)), bound / 1e9)
  })
})
