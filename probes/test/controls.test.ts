import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { LatencyHistogram } from '@tickscope/contract'
import { runProgram } from '../../contract/test/program.ts'
import {
  type Between,
  type ControlSample,
  judgeControls,
  sampleControls,
  watchControls,
  worstReasons,
} from '../src/controls.ts'

const QUIET: ControlSample = {
  atMs: 1_800_000_000_000,
  clockCostNs: 60,
  clockStepNs: 40,
  hiccups: { observedMs: 50, count: 10, p99Ns: 40_000, maxNs: 100_000, heldRatio: 0.02 },
  coreToCoreNs: 110,
  cpuTicks: { total: 10_000, steal: 300 },
  runQueueWaitNs: 5_000_000,
}
const QUIET_LATER: ControlSample = {
  ...QUIET,
  atMs: QUIET.atMs + 10_000,
  clockCostNs: 90,
  cpuTicks: { total: 12_000, steal: 380 },
  runQueueWaitNs: 105_000_000,
}
const RUN_NS = 10e9

describe('the controls around a run', () => {
  it('find nothing when the machine stayed what it was', () => {
    const report = judgeControls(QUIET, QUIET_LATER, RUN_NS, { slip: new LatencyHistogram() })
    assert.deepEqual(report.contaminatedBy, [])
    assert.equal(report.stealRatio, 0.04)
    assert.equal(report.runQueueWaitRatio, 0.01)
  })

  for (const [what, after, pattern] of [
    ['the hypervisor', { cpuTicks: { total: 12_000, steal: 700 } }, /^the hypervisor gave 20\.0 %/],
    ['waiting for a CPU', { runQueueWaitNs: 1_005_000_000 }, /^the probe's thread waited 10\.0 % of the run/],
    ['pauses', { hiccups: { ...QUIET.hiccups, heldRatio: 0.3 } }, /held up 30\.0 % of the time after the run/],
    [
      'cores further apart',
      { coreToCoreNs: 40_000 },
      /^a cache line took 110 ns to another core .* and 40000 ns after/,
    ],
    ['another clock', { clockCostNs: 1_000 }, /^a clock read cost 60 ns before the run and 1000 ns after/],
  ] as const) {
    it(`name ${what} as what contaminated it`, () => {
      const { contaminatedBy } = judgeControls(QUIET, { ...QUIET_LATER, ...after }, RUN_NS)
      assert.equal(contaminatedBy.length, 1)
      assert.match(contaminatedBy[0] as string, pattern)
    })
  }

  it('name the probe itself when it was late', () => {
    const slip = new LatencyHistogram()
    slip.record(1_000, 97)
    slip.record(8_000_000, 3)
    assert.match(judgeControls(QUIET, QUIET_LATER, RUN_NS, { slip }).contaminatedBy[0] as string, /8\.0 ms late at p99/)
  })

  it('name a single bad second, which an average would hide', () => {
    const judged = (between: Between) => judgeControls(QUIET, QUIET_LATER, RUN_NS, { between }).contaminatedBy
    assert.deepEqual(judged({ samples: 10, worstStealRatio: 0.2, worstRunQueueWaitRatio: 0.3 }), [])
    assert.match(
      judged({ samples: 10, worstStealRatio: 0.7, worstRunQueueWaitRatio: null }).join(),
      /^in one second the hypervisor gave 70\.0 %/,
    )
    assert.match(
      judged({ samples: 10, worstStealRatio: null, worstRunQueueWaitRatio: 0.8 }).join(),
      /^in one second the probe's thread waited 80\.0 %/,
    )
  })

  it('are watched once a second while a run goes on', async () => {
    const none = watchControls()
    assert.equal(none.stop(), null)
    const watch = watchControls()
    await delay(2_300)
    const between = watch.stop()
    assert.ok(between !== null && between.samples >= 1)
    if (existsSync('/proc/thread-self/schedstat')) assert.ok((between.worstRunQueueWaitRatio ?? -1) >= 0)
  })

  it('say nothing of what the kernel does not count', () => {
    const blind = { ...QUIET, coreToCoreNs: null, cpuTicks: null, runQueueWaitNs: null }
    const report = judgeControls(blind, QUIET_LATER, RUN_NS)
    assert.equal(report.stealRatio, null)
    assert.equal(report.runQueueWaitRatio, null)
    assert.deepEqual(report.contaminatedBy, [])
  })

  it('go without the way to another core where no thread can be had', () => {
    const file = new URL('../src/core-to-core.ts', import.meta.url).href
    const program = `import { sampleCoreToCore } from '${file}'; console.log(sampleCoreToCore())`
    const denied = ['--permission', '--allow-fs-read=*', '--input-type=module', '-e', program]
    assert.deepEqual(runProgram(process.execPath, denied), { status: 0, output: 'null\n' })
  })

  it('of several rounds name the worst of each kind, and how many rounds had it', () => {
    const held = (heldRatio: number) => ({ ...QUIET_LATER, hiccups: { ...QUIET.hiccups, heldRatio } })
    const rounds = [
      judgeControls(QUIET, held(0.3), RUN_NS),
      judgeControls(held(0.3), held(0.8), RUN_NS),
      judgeControls(QUIET, QUIET_LATER, RUN_NS),
    ]
    assert.deepEqual(worstReasons(rounds), [
      'a spinning thread was held up 80.0 % of the time, at worst; in 2 of 3 rounds',
    ])
    assert.deepEqual(worstReasons(rounds.slice(2)), [])
    const clock = (from: number, to: number) =>
      judgeControls({ ...QUIET, clockCostNs: from }, { ...QUIET_LATER, clockCostNs: to }, RUN_NS)
    assert.deepEqual(worstReasons([clock(900, 200), clock(60, 2_000), clock(1_000, 60)]), [
      'a clock read cost 60 ns before the run and 2000 ns after it, at worst; in 3 of 3 rounds',
    ])
  })

  it('are measured on this machine', () => {
    const sample = sampleControls()
    assert.ok(sample.clockCostNs > 0 && sample.clockStepNs > 0)
    // A sample in which the other thread did not get to run is null, by its word; on a busy machine some are.
    const trips = [sample.coreToCoreNs]
    while (trips.length < 10 && trips.at(-1) === null) trips.push(sampleControls().coreToCoreNs)
    if (availableParallelism() > 1) assert.ok((trips.at(-1) ?? 0) > 10, `${trips} ns`)
    assert.ok(sample.hiccups.observedMs >= 50)
    assert.ok(sample.hiccups.heldRatio >= 0 && sample.hiccups.heldRatio <= 1)
    assert.ok(sample.hiccups.count === 0 ? sample.hiccups.maxNs === 0 : sample.hiccups.maxNs > 10_000)
  })
})
