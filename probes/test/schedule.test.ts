import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { constantArrivals, type OpenLoopOptions, openLoop, poissonArrivals, type Slot } from '../src/schedule.ts'

const MS = 1e6

function take(count: number, arrivals: { nextNs(): number }): number[] {
  return Array.from({ length: count }, () => arrivals.nextNs())
}

/** Occupies the thread, as a collection or somebody else's work would. */
function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

interface Sent extends Slot {
  readonly startedAtNs: number
}

/** A schedule of 200 sends a second whose sends are kept. */
function run(options: Partial<OpenLoopOptions> & { onSend?: (sent: Sent) => Promise<void> | undefined }) {
  const sent: Sent[] = []
  const { onSend, ...rest } = options
  const loop = openLoop({
    arrivals: constantArrivals(200),
    untilNs: 200 * MS,
    maxInFlight: 1_000,
    maxSlipNs: Number.POSITIVE_INFINITY,
    wait: 'precise',
    send(slot, startedAtNs) {
      const one = { ...slot, startedAtNs }
      sent.push(one)
      return onSend?.(one) ?? Promise.resolve()
    },
    ...rest,
  })
  return { loop, sent }
}

describe('constant arrivals', () => {
  it('stay within half a nanosecond of index / rate for ever: nothing adds up', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.001, max: 10_000, noNaN: true }),
        fc.integer({ min: 1, max: 3_000 }),
        (rate, count) => {
          const offsets = take(count, constantArrivals(rate))
          for (const [index, offset] of offsets.entries()) {
            assert.ok(Number.isInteger(offset))
            assert.ok(Math.abs(offset - (index * 1e9) / rate) <= 0.5 + offset * Number.EPSILON)
          }
        },
      ),
    )
  })
})

describe('Poisson arrivals', () => {
  it('ascend, and are the same for the same seed only', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 2 ** 32 - 1 }),
        fc.double({ min: 0.1, max: 5_000, noNaN: true }),
        (seed, rate) => {
          const offsets = take(200, poissonArrivals(rate, seed))
          for (const [index, offset] of offsets.entries()) {
            assert.ok(Number.isInteger(offset) && offset >= (offsets[index - 1] ?? 0))
          }
          assert.deepEqual(offsets, take(200, poissonArrivals(rate, seed)))
          assert.notDeepEqual(offsets, take(200, poissonArrivals(rate, (seed + 1) % 2 ** 32)))
        },
      ),
    )
  })

  it('have exponential gaps of the mean asked for', () => {
    const offsets = [0, ...take(50_000, poissonArrivals(100, 7))]
    const gaps = offsets.slice(1).map((offset, index) => offset - (offsets[index] as number))
    const meanNs = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length
    assert.ok(Math.abs(meanNs / 1e7 - 1) < 0.03, `mean ${meanNs}`)
    for (const multiple of [0.5, 1, 2, 3]) {
      const share = gaps.filter((gap) => gap > multiple * 1e7).length / gaps.length
      assert.ok(Math.abs(share - Math.exp(-multiple)) < 0.01, `${share} of the gaps exceed ${multiple} means`)
    }
  })
})

describe('an open loop', () => {
  it('sends everything on schedule, never early, while no answer comes', async () => {
    const answers: (() => void)[] = []
    const { loop, sent } = run({ onSend: () => new Promise((resolve) => answers.push(resolve)) })
    while (loop.progress < 1) await new Promise(setImmediate)
    assert.equal(sent.length, 40)
    assert.deepEqual(loop.counts, { scheduled: 40, started: 40, dropped: { in_flight: 0, late: 0 } })
    assert.equal(loop.slip.count, 40)
    for (const { startedAtNs, intendedAtNs } of sent) assert.ok(startedAtNs >= intendedAtNs)
    assert.equal(
      loop.slip.sumNs,
      sent.reduce((sum, { startedAtNs, intendedAtNs }) => sum + startedAtNs - intendedAtNs, 0),
    )
    for (const answer of answers) answer()
    await loop.done
  })

  for (const wait of ['precise', 'timer'] as const) {
    it(`keeps intended instants exact with wait ${wait}, also after it was held up`, async () => {
      const { loop, sent } = run({
        wait,
        onSend: ({ index }) => {
          if (index === 10) block(60)
          return undefined
        },
      })
      await loop.done
      assert.equal(sent.length, 40)
      const first = sent[0] as Sent
      for (const { index, intendedAtNs } of sent) assert.equal(intendedAtNs - first.intendedAtNs, index * 5 * MS)
      const afterBlock = sent[11] as Sent
      assert.ok(afterBlock.startedAtNs - afterBlock.intendedAtNs >= 50 * MS, 'the delay is the next send’s slip')
      assert.ok(loop.slip.maxNs >= 50 * MS)
    })
  }

  it('counts what cannot start for want of room, and goes on when there is room again', async () => {
    const answers: (() => void)[] = []
    const dropped: [number, string][] = []
    const { loop, sent } = run({
      maxInFlight: 3,
      dropped: (slot, reason) => {
        dropped.push([slot.index, reason])
        if (slot.index === 20) for (const answer of answers.splice(0)) answer()
      },
      onSend: () => new Promise((resolve) => answers.push(resolve)),
    })
    while (loop.progress < 1) await new Promise(setImmediate)
    for (const answer of answers) answer()
    await loop.done
    assert.deepEqual(
      sent.map(({ index }) => index),
      [0, 1, 2, 21, 22, 23],
    )
    assert.equal(dropped.length, 34)
    assert.ok(dropped.every(([, reason]) => reason === 'in_flight'))
    assert.deepEqual(loop.counts, { scheduled: 40, started: 6, dropped: { in_flight: 34, late: 0 } })
  })

  it('drops what is too late after the probe itself was stopped, instead of flooding the venue', async () => {
    const { loop, sent } = run({
      maxSlipNs: 50 * MS,
      onSend: ({ index }) => {
        if (index === 5) block(120)
        return undefined
      },
    })
    await loop.done
    // Of the 24 sends due while it was held up, those older than 50 ms at its end.
    assert.ok(loop.counts.dropped.late >= 12, `${loop.counts.dropped.late} dropped`)
    assert.equal(loop.counts.scheduled, 40)
    assert.equal(sent.length, 40 - loop.counts.dropped.late)
    assert.ok(loop.slip.maxNs <= 51 * MS)
  })

  it('prepares each send once, before it', async () => {
    const events: string[] = []
    const { loop } = run({
      untilNs: 50 * MS,
      prepare: (index) => events.push(`prepare ${index}`),
      onSend: ({ index }) => {
        events.push(`send ${index}`)
        return undefined
      },
    })
    await loop.done
    assert.deepEqual(events, Array.from({ length: 10 }, (_, index) => [`prepare ${index}`, `send ${index}`]).flat())
  })

  it('lasts as long as asked, also when the last send is long before its end', async () => {
    const startedAtMs = performance.now()
    const { loop, sent } = run({ arrivals: constantArrivals(10), untilNs: 90 * MS })
    await loop.done
    assert.equal(sent.length, 1)
    assert.ok(performance.now() - startedAtMs >= 90)
  })

  it('keeps the event loop turning while an answer is awaited, when asked to', async () => {
    const busyRatio = async (awake: boolean, untilMs: number) => {
      const before = performance.eventLoopUtilization()
      const { loop } = run({
        awake,
        arrivals: constantArrivals(10),
        untilNs: untilMs * MS,
        onSend: () => new Promise((resolve) => setTimeout(resolve, 90)),
      })
      await loop.done
      return performance.eventLoopUtilization(before).utilization
    }
    assert.ok((await busyRatio(true, 300)) > 0.6)
    assert.ok((await busyRatio(true, 10)) > 0.6, 'also for the answers that are due after the last send')
    assert.ok((await busyRatio(false, 300)) < 0.5)
  })

  it('sends nothing before its caller has it, however long the machine stalls at its start', async () => {
    const arrivals = constantArrivals(200)
    let first = true
    const stalled = {
      nextNs() {
        if (first) block(20)
        first = false
        return arrivals.nextNs()
      },
    }
    const { loop, sent } = run({ arrivals: stalled, untilNs: 10 * MS })
    assert.equal(sent.length, 0)
    await loop.done
    assert.equal(sent.length, 2)
  })

  it('stops at once, and is done when the last answer has come', async () => {
    let answer: () => void = () => {}
    const { promise: first, resolve } = Promise.withResolvers<void>()
    const { loop, sent } = run({
      untilNs: Number.POSITIVE_INFINITY,
      maxInFlight: 1,
      onSend: () => {
        resolve()
        return new Promise((settle) => {
          answer = settle
        })
      },
    })
    await first
    loop.stop()
    let done = false
    loop.done.then(() => {
      done = true
    })
    await new Promise((later) => setTimeout(later, 20))
    assert.equal(sent.length, 1)
    assert.equal(done, false)
    answer()
    await loop.done
    assert.equal(loop.counts.scheduled, 1)
  })
})
