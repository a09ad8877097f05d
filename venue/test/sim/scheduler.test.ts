import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Scheduler } from '../../src/sim/scheduler.ts'

/** Resolves when everything scheduled has run. */
function run(
  scheduler: Scheduler,
  inMs: readonly number[],
): Promise<{ wished: number; dueMs: number; ranMs: number }[]> {
  const ran: { wished: number; dueMs: number; ranMs: number }[] = []
  const nowMs = performance.now()
  return new Promise((resolve) => {
    for (const wished of inMs) {
      const dueMs = nowMs + wished
      scheduler.at(dueMs, () => {
        ran.push({ wished, dueMs, ranMs: performance.now() })
        if (ran.length === inMs.length) resolve(ran)
      })
    }
  })
}

describe('the scheduler', () => {
  it('runs things in the order they are due, those due together in the order given, and never early', async () => {
    const scheduler = new Scheduler()
    const inMs = [30, 5, 5, 0.4, 12, -3, 5, 30, 1.7, 0]
    const ran = await run(scheduler, inMs)
    assert.deepEqual(
      ran.map(({ wished }) => wished),
      inMs.toSorted((a, b) => a - b),
    )
    assert.ok(ran.every(({ dueMs, ranMs }) => ranMs >= dueMs))
    assert.equal(scheduler.latenessNs.count, inMs.length)
    assert.equal(scheduler.pending, 0)
  })

  it('takes what is due sooner than everything it waits for', async () => {
    const scheduler = new Scheduler()
    const order: string[] = []
    await new Promise<void>((resolve) => {
      const nowMs = performance.now()
      scheduler.at(nowMs + 60, () => {
        order.push('late')
        resolve()
      })
      scheduler.at(nowMs + 10, () => {
        order.push('early')
        scheduler.at(performance.now() + 5, () => order.push('from within'))
      })
    })
    assert.deepEqual(order, ['early', 'from within', 'late'])
  })

  it('keeps many in order', async () => {
    const scheduler = new Scheduler()
    const inMs = Array.from({ length: 2_000 }, (_, i) => ((i * 7_919) % 2_000) / 50)
    const ran = await run(scheduler, inMs)
    assert.ok(ran.every(({ wished }, i) => i === 0 || wished >= (ran[i - 1]?.wished as number)))
  })

  it('forgets everything when stopped', async () => {
    const scheduler = new Scheduler()
    let ran = 0
    scheduler.at(performance.now() + 1, () => ran++)
    scheduler.at(performance.now() + 20, () => ran++)
    scheduler.stop()
    await run(new Scheduler(), [40])
    assert.equal(ran, 0)
  })
})
