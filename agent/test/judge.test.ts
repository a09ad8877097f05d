import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Cause, DEFAULT_SLOS } from '@tickscope/contract'
import { Judge, type Suspect } from '../src/judge.ts'

const MS = 1e6

/** The cause of an interval of `slo`, ms, after what `before` told the judge. */
function causeOf(slo: Suspect['slo'], startMs: number, endMs: number, before: (judge: Judge) => void): Cause {
  const judge = new Judge(DEFAULT_SLOS)
  before(judge)
  const settled: Cause[] = []
  const settle = (causes: readonly Cause[]) => void settled.push(...causes)
  judge.add({ suspects: [{ slo, startNs: startMs * MS, endNs: endMs * MS }], settle }, 0)
  judge.settleAll()
  assert.equal(settled.length, 1)
  return settled[0] as Cause
}

describe('the judge', () => {
  it('blames the venue for a slow answer, and nobody for slow processing, when nothing local overlapped', () => {
    assert.equal(
      causeOf('api_rtt', 100, 140, () => {}),
      'venue',
    )
    assert.equal(
      causeOf('processing', 100, 110, () => {}),
      'unattributed',
    )
    const elsewhere = (judge: Judge) => {
      judge.pause(50 * MS, 100 * MS)
      judge.stall(140 * MS, 300 * MS)
    }
    assert.equal(causeOf('api_rtt', 100, 140, elsewhere), 'venue')
  })

  it('names the collector when its pauses are most of the event, one or several together', () => {
    assert.equal(
      causeOf('processing', 100, 110, (judge) => judge.pause(101 * MS, 107 * MS)),
      'gc',
    )
    const two = (judge: Judge) => {
      judge.pause(99 * MS, 103 * MS)
      judge.pause(105 * MS, 108 * MS)
    }
    assert.equal(causeOf('processing', 100, 110, two), 'gc')
  })

  it('names a pause without which the event was within budget, unless it is a small part', () => {
    assert.equal(
      causeOf('processing', 100, 106, (judge) => judge.pause(101 * MS, 103 * MS)),
      'gc',
    )
    assert.equal(
      causeOf('processing', 100, 106, (judge) => judge.pause(101 * MS, 102 * MS)),
      'unattributed',
    )
    assert.equal(
      causeOf('processing', 100, 120, (judge) => judge.pause(101 * MS, 106 * MS)),
      'unattributed',
    )
  })

  it('names the event loop when it was stalled, and the collector rather than the loop that it stalled', () => {
    assert.equal(
      causeOf('api_rtt', 100, 140, (judge) => judge.stall(105 * MS, 141 * MS)),
      'event_loop',
    )
    const both = (judge: Judge) => {
      judge.stall(105 * MS, 141 * MS)
      judge.pause(106 * MS, 140 * MS)
    }
    assert.equal(causeOf('api_rtt', 100, 140, both), 'gc')
  })

  it('waits three beats for what is reported late, and no longer than 50 ms', () => {
    const judge = new Judge(DEFAULT_SLOS)
    const settled: Cause[] = []
    const suspects = [{ slo: 'processing', startNs: 100 * MS, endNs: 110 * MS }] as const
    const settle = (causes: readonly Cause[]) => void settled.push(...causes)
    judge.add({ suspects, settle }, 1000)
    judge.beat()
    judge.beat()
    assert.deepEqual(settled, [])
    judge.pause(101 * MS, 109 * MS)
    judge.beat()
    assert.deepEqual(settled, ['gc'])
    judge.add({ suspects, settle }, 1000)
    judge.expire(1049)
    assert.equal(settled.length, 1)
    judge.expire(1050)
    assert.equal(settled.length, 2)
  })

  it('keeps a bounded number waiting and judges the oldest rather than losing it', () => {
    const judge = new Judge(DEFAULT_SLOS)
    let settled = 0
    const suspects = [{ slo: 'api_rtt', startNs: 0, endNs: 40 * MS }] as const
    for (let i = 0; i < 1030; i++) judge.add({ suspects, settle: () => settled++ }, 0)
    assert.equal(settled, 6)
    judge.settleAll()
    assert.equal(settled, 1030)
  })
})
