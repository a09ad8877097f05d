import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { UserError } from '@tickscope/contract'
import { type CallKind, createLatency, readLatencyTable } from '../../src/sim/latency.ts'

const REAL = fileURLToPath(new URL('../../../../shared/data/latency/', import.meta.url))

/** Quantiles of so many draws, ms. */
function quantiles(length: number, draw: () => number, ...at: number[]): number[] {
  const drawn = Array.from({ length }, draw).sort((a, b) => a - b)
  return at.map((share) => drawn[Math.floor(share * drawn.length)] as number)
}

const near = (actual: number, wanted: number, within: number) =>
  assert.ok(Math.abs(actual - wanted) <= within, `${actual} is not within ${within} of ${wanted}`)

describe('the latency model', () => {
  it('draws engine times of an in-region venue, with tails, and an order within 20 ms almost always', () => {
    const latency = createLatency(1)
    const kinds: [CallKind, number, number][] = [
      ['write', 4.1, 9.8],
      ['publicRead', 2.6, 3.7],
      ['privateRead', 5.1, 9],
      ['balanceRead', 7.8, 13.1],
    ]
    for (const [kind, p50, p99] of kinds) {
      const [median, tail] = quantiles(50_000, () => latency.callMs(kind), 0.5, 0.99) as [number, number]
      near(median, p50, 0.1)
      near(tail, p99, 0.3)
    }
    near(quantiles(300_000, () => latency.callMs('write'), 0.9999)[0] as number, 18.2, 1.5)
    const [young, median, old] = quantiles(50_000, () => latency.feedMs(), 0.01, 0.5, 0.99) as [number, number, number]
    near(young, 3.9, 0.2)
    near(median, 5.7, 0.1)
    near(old, 9.9, 0.3)
  })

  it('draws the same from the same seed, whatever the feed draws, and something else from another', () => {
    const draws = (seed: number, feed: number) => {
      const latency = createLatency(seed)
      return Array.from({ length: 50 }, () => {
        for (let i = 0; i < feed; i++) latency.feedMs()
        return latency.callMs('write')
      })
    }
    assert.deepEqual(draws(1, 0), draws(1, 3))
    assert.notDeepEqual(draws(1, 0), draws(2, 0))
  })

  it('draws from the samples of a measured table, for every call and never for the feed', () => {
    const latency = createLatency(1, [100, 200, 200, 300])
    const drawn = Array.from({ length: 4_000 }, (_, i) => latency.callMs(i % 2 ? 'write' : 'publicRead'))
    assert.deepEqual(new Set(drawn), new Set([100, 200, 300]))
    near(drawn.filter((ms) => ms === 200).length / drawn.length, 0.5, 0.05)
    assert.ok(latency.feedMs() < 50)
  })
})

describe('a measured table', () => {
  let folder = ''
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'tickscope-latency-'))
  })
  after(() => rmSync(folder, { recursive: true }))
  const table = (text: string) => {
    const path = join(folder, 'table.csv')
    writeFileSync(path, text)
    return path
  }

  it('is read from the first column of latencies, quotes and line ends of any kind included', () => {
    const text = 'when,"a, b",submit_latency_ms,min_ms\r\n1,"x ""y"", z",47.5,1\r\n2,,0,1\r\n'
    assert.deepEqual(readLatencyTable(table(text)), [47.5, 0])
    assert.deepEqual(readLatencyTable(table('latency_ms\n5\n\n60000')), [5, 60_000])
  })

  it('that is wrong is refused in one sentence with file, line and limit', () => {
    const cases: [string, RegExp][] = [
      ['', /line 1 names no column latency_ms/],
      ['ms\n5\n', /line 1 names no column latency_ms/],
      ['latency_ms\n', /has a header and no measurements$/],
      ['latency_ms\n5\nfast\n', /line 3: latency_ms is 'fast', not a number of ms from 0 to 60000$/],
      ['latency_ms\n-1\n', /line 2: latency_ms is '-1'/],
      ['latency_ms\n60001\n', /line 2: latency_ms is '60001'/],
      ['a,latency_ms\n5\n', /line 2: latency_ms is ''/],
    ]
    for (const [text, sentence] of cases) {
      assert.throws(
        () => readLatencyTable(table(text)),
        (error) => error instanceof UserError && sentence.test(error.message) && error.message.includes('table.csv'),
        text,
      )
    }
    assert.throws(() => readLatencyTable(join(folder, 'none.csv')), /none\.csv: it cannot be read \(ENOENT\)$/)
    assert.throws(() => readLatencyTable(folder), /cannot be read \(EISDIR\)$/)
  })

  it('may be one of the real ones', { skip: existsSync(REAL) ? false : 'no recorded data beside the project' }, () => {
    const kalshi = readLatencyTable(join(REAL, 'kalshi-order-submit-latency.csv'))
    assert.equal(kalshi.length, 2_356)
    assert.equal(kalshi.toSorted((a, b) => a - b)[1_178], 47)
    assert.equal(readLatencyTable(join(REAL, 'polymarket-order-post-latency.csv')).length, 141)
  })
})
