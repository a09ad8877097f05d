import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { UserError } from '@tickscope/contract'
import { FaultSchedule, parseFault } from '../../src/sim/fault.ts'

describe('a fault text', () => {
  it('is read in every form it is documented with', () => {
    const cases: [string, object][] = [
      ['api-delay=40ms@10s+5s', { name: 'api-delay', value: 40, startMs: 10_000, durationMs: 5_000 }],
      ['api-error=0.5@0s+500ms', { name: 'api-error', value: 0.5, startMs: 0, durationMs: 500 }],
      ['feed-gap=3@10s', { name: 'feed-gap', value: 3, startMs: 10_000, durationMs: Number.POSITIVE_INFINITY }],
      ['feed-gap=3@3s+1s', { name: 'feed-gap', value: 3, startMs: 3_000, durationMs: 1_000 }],
      ['feed-stall@1m+2s', { name: 'feed-stall', value: 0, startMs: 60_000, durationMs: 2_000 }],
      ['feed-stall=2s@10s', { name: 'feed-stall', value: 0, startMs: 10_000, durationMs: 2_000 }],
      ['disconnect@10s', { name: 'disconnect', value: 1, startMs: 10_000, durationMs: 0 }],
      ['disconnect=0.5@6s+1s', { name: 'disconnect', value: 0.5, startMs: 6_000, durationMs: 1_000 }],
    ]
    for (const [text, fault] of cases) assert.deepEqual(parseFault(text), fault)
  })

  it('is refused in one sentence that names it and what is accepted', () => {
    const wrong = [
      ['', 'api-delay', 'api-delay=40@10s+5s', 'api-delay=40ms@10s', 'api-delay=40ms', 'api-delay@10s+5s'],
      ['api-error=1.5@10s+5s', 'api-error=0@10s+5s', 'api-error=half@1s+1s', 'api-error=0.5@1s', 'feed-gap=0@10s'],
      ['feed-gap=1.5@10s', 'feed-gap@10s', 'feed-stall@10s', 'feed-stall=1s@10s+1s', 'disconnect=2@10s'],
      ['meteor=1@10s', 'disconnect@-1s', 'api-delay=40ms@10s+5s+5s', 'api-delay=40ms@@10s+5s'],
    ].flat()
    for (const text of wrong) {
      assert.throws(
        () => parseFault(text),
        (error) => {
          assert.ok(error instanceof UserError, text)
          assert.ok(error.message.startsWith(`--fault '${text}': `), error.message)
          assert.match(error.message, /accepted are api-delay=40ms@10s\+5s/)
          return true
        },
      )
    }
  })
})

describe('a fault schedule', () => {
  const schedule = (...texts: string[]) => new FaultSchedule(texts.map(parseFault))

  it('adds delays that overlap and combines shares of errors as independent chances', () => {
    const faults = schedule(
      'api-delay=40ms@1s+2s',
      'api-delay=10ms@2s+2s',
      'api-error=0.5@1s+1s',
      'api-error=0.5@1s+1s',
    )
    assert.deepEqual(
      [999, 1_000, 2_500, 3_000, 4_000].map((at) => faults.apiDelayMs(at)),
      [0, 40, 50, 10, 0],
    )
    assert.deepEqual(
      [0, 1_500, 2_000].map((at) => faults.apiErrorShare(at)),
      [0, 0.75, 0],
    )
  })

  it('joins stalls that overlap into one silence', () => {
    const faults = schedule('feed-stall@1s+2s', 'feed-stall=2s@2s', 'feed-stall@9s+1s')
    assert.deepEqual(
      [0, 1_000, 3_500, 4_000, 9_500].map((at) => faults.stalledUntilMs(at)),
      [undefined, 4_000, 4_000, undefined, 10_000],
    )
  })

  it('refuses connections only for as long as a disconnect says', () => {
    const faults = schedule('disconnect@1s+1s', 'disconnect@5s')
    assert.deepEqual(
      [500, 1_500, 2_000, 5_000].map((at) => faults.refusesConnections(at)),
      [false, true, false, false],
    )
  })
})
