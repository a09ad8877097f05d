import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { describe, it } from 'node:test'
import { WriteStream } from 'node:tty'
import { boundCells, DEFAULT_SLOS } from '@tickscope/contract'
import { judgeControls, sampleControls } from '../src/controls.ts'
import { collectEnvironment } from '../src/environment.ts'
import { judgeBudget, type Mode, type ProbeResult, resultText, toResult } from '../src/result.ts'
import { Tally } from '../src/tally.ts'

const SLO = DEFAULT_SLOS.api_rtt
const MODE: Mode = { name: 'warm', requestedMode: 'warm', effectiveMode: 'warm', status: 'measured' }

function tallyOf(times: number, serviceNs: number, tally = new Tally(boundCells([SLO.thresholdNs]))): Tally {
  for (let time = 0; time < times; time++) tally.ok(0, serviceNs, [['ttfb', serviceNs]])
  return tally
}

function resultOf(tally: Tally): ProbeResult {
  const sample = sampleControls()
  return toResult(
    'http',
    {
      target: 'http://h/',
      settings: { ratePerSecond: 10 },
      all: tally,
      slip: tally.slip,
      rows: [{ mode: MODE, tally }],
      headline: 'warm',
      budgets: judgeBudget(SLO, 'warm', tally),
    },
    {
      startedAtMs: 0,
      durationMs: 1_000,
      environment: collectEnvironment(),
      controls: judgeControls(sample, sample, 1e9),
    },
  )
}

const ESCAPE = '\u001b['
/** A stream that is a terminal, or not, and knows its colours as Node's own does. */
const stream = (isTTY: boolean) =>
  Object.assign(new PassThrough(), {
    isTTY,
    getColorDepth: WriteStream.prototype.getColorDepth,
  }) as unknown as NodeJS.WriteStream

describe('a budget', () => {
  it('is kept at its threshold and broken one nanosecond above it', () => {
    assert.equal(judgeBudget(SLO, 'warm', tallyOf(10, SLO.thresholdNs))[0]?.ok, true)
    assert.equal(judgeBudget(SLO, 'warm', tallyOf(10, SLO.thresholdNs + 1))[0]?.ok, false)
  })

  it('is judged by its objective: at 99 %, by p99', () => {
    assert.equal(judgeBudget(SLO, 'warm', tallyOf(1, 1e9, tallyOf(99, 1e6)))[0]?.ok, true)
    assert.equal(judgeBudget(SLO, 'warm', tallyOf(2, 1e9, tallyOf(98, 1e6)))[0]?.ok, false)
  })

  it('counts what was lost or dropped as over it', () => {
    for (const lose of [
      (tally: Tally) => tally.failed('timeout', 'TIMEOUT'),
      (tally: Tally) => tally.failed('error', 'CLOSED'),
      (tally: Tally) => tally.dropped('in_flight'),
    ]) {
      const tally = tallyOf(98, 1e6)
      lose(tally)
      lose(tally)
      const [budget] = judgeBudget(SLO, 'warm', tally)
      assert.deepEqual(budget, {
        slo: 'api_rtt',
        thresholdMs: 20,
        objectiveRatio: 0.99,
        withinRatio: 0.98,
        row: 'warm',
        ok: false,
      })
    }
  })

  it('is not judged without a request', () => {
    assert.deepEqual(judgeBudget(SLO, 'warm', new Tally()), [])
  })
})

describe('the table of a result', () => {
  it('is plain where it is not read on a terminal', () => {
    const text = resultText(resultOf(tallyOf(200, 21e6)), stream(false))
    assert.ok(!text.includes(ESCAPE))
    assert.match(text, /^http http:\/\/h\/\n/)
    assert.match(text, /boundary user→user, clock performance\.now/)
    assert.match(text, /^warm {2}200 sent, 0 lost, 0 dropped/m)
    assert.match(text, /^budget api_rtt BROKEN: 0 % of warm requests within 20 ms, 99 % wanted$/m)
  })

  it('is coloured on a terminal, unless NO_COLOR is set', (t) => {
    const before = { ...process.env }
    t.after(() => {
      process.env = before
    })
    const result = resultOf(tallyOf(10, 1e6))
    process.env = { TERM: 'xterm-256color' }
    assert.ok(resultText(result, stream(true)).includes(ESCAPE))
    assert.ok(!resultText(result, stream(false)).includes(ESCAPE))
    process.env = { TERM: 'xterm-256color', NO_COLOR: '1' }
    assert.ok(!resultText(result, stream(true)).includes(ESCAPE))
  })

  it('marks percentiles that too few samples lie beyond', () => {
    const text = resultText(resultOf(tallyOf(200, 1e6)), stream(false))
    const response = text.split('\n').find((line) => line.startsWith('  response')) as string
    assert.match(response, /^ {2}response +200 +1\.00 ms +1\.00 ms +~1\.00 ms +~1\.00 ms +1\.00 ms$/)
    assert.match(text, /^~ fewer than 10 samples beyond it/m)
  })

  it('says what was lost, why, and that a mode was not what was asked for', () => {
    const tally = tallyOf(1, 1e6)
    tally.failed('error', 'ECONNRESET')
    const result = resultOf(tally)
    const [row] = result.rows
    assert.ok(row)
    const inactive = { ...result, rows: [{ ...row, status: 'inactive' as const, reason: 'it was not warm' }] }
    const text = resultText(inactive, stream(false))
    assert.match(text, /^warm inactive {2}2 sent, 1 lost, 0 dropped, .*it was not warm$/m)
    assert.match(text, /^ {2}ECONNRESET 1$/m)
    assert.match(text, /^lost requests are in no percentile/m)
  })
})
