/** What jitter concludes from its rounds, on lines made by hand. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { cellIndexOf } from '@tickscope/contract'
import { measuredFootguns, threadsOnOneCore, throttleFootgun } from '../../src/jitter/footguns.ts'
import { compareWakes, judgePinning, type WakeRow, WakeTally } from '../../src/jitter/rows.ts'
import { type Scenario, scenariosOf, type WakeLine } from '../../src/jitter/scenario.ts'

const SCENARIOS = scenariosOf({ quiet: 1, noisy: 0, isolated: [], count: 2 })
const scenario = (name: string) => SCENARIOS.find((one) => one.name === name) as Scenario

const equal = (ns: number, count = 100) => ({ count, sumNs: ns * count, cells: [cellIndexOf(ns), count] })

function line(wakeNs: number, more: Partial<WakeLine> = {}): WakeLine {
  return {
    kind: 'wake',
    count: 100,
    intervalUs: 200,
    taskUs: 12,
    durationNs: 20_000_000,
    voluntarySwitches: 100,
    involuntarySwitches: 1,
    migrations: 2,
    ranOn: 1,
    slackNs: 50_000,
    runQueueWaitNs: 100_000,
    wake: equal(wakeNs),
    response: equal(wakeNs + 200),
    service: equal(200),
    ...more,
  }
}

const NOISE = [0, 5, -3, 2, -4]

/** Five rounds of a row, each a little apart. */
function rowOf(name: string, wakeNs: number, waitPerWakeNs = 1000, more: Partial<WakeLine> = {}): WakeRow {
  const tally = new WakeTally(scenario(name))
  for (const [round, noise] of NOISE.entries())
    tally.add(round, line(wakeNs + noise, { runQueueWaitNs: (waitPerWakeNs + noise) * 100, ...more }))
  return tally.row()
}

describe('a row of wakes', () => {
  it('holds every wake of every round, with switches, migrations and waiting', () => {
    const tally = new WakeTally(scenario('quiet_pinned'))
    tally.add(0, line(1000))
    tally.add(2, line(1200, { ranOn: 0 }))
    const row = tally.row()
    assert.deepEqual(
      [
        row.status,
        row.count,
        row.voluntarySwitches,
        row.involuntarySwitches,
        row.migrations,
        row.runQueueWaitPerWakeNs,
      ],
      ['measured', 200, 200, 2, 4, 1000],
    )
    assert.deepEqual([row.measuredRounds, row.roundsP50Ns, row.wake?.maxNs], [[0, 2], [1000, 1200], 1200])
    assert.equal(row.requestedMode, 'pinned to core 1')
    assert.match(row.effectiveMode, /TIMER_ABSTIME, SCHED_OTHER, pinned, ran on core 0 and 1, timer slack 50000 ns/)
  })

  it('says why it is missing, and keeps the reason when a later round fails', () => {
    const skipped = new WakeTally(scenario('isolated_pinned')).row()
    assert.deepEqual([skipped.status, skipped.wake], ['skipped', null])
    assert.match(skipped.reason, /isolates no core/)
    const failed = new WakeTally(scenario('quiet_fifo'))
    failed.add(0, line(1000))
    failed.missing('unsupported', 'SCHED_FIFO: not permitted')
    assert.deepEqual([failed.row().status, failed.row().reason], ['unsupported', 'SCHED_FIFO: not permitted'])
  })

  it('knows no waiting where the kernel keeps no account', () => {
    const tally = new WakeTally(scenario('quiet_pinned'))
    tally.add(0, line(1000, { runQueueWaitNs: -1 }))
    assert.deepEqual([tally.row().runQueueWaitPerWakeNs, tally.row().roundsRunQueueWaitNs], [null, []])
  })
})

describe('the verdict on pinning', () => {
  const verdictOf = (from: string, to: string, before: number, after_: number) => {
    const comparisons = compareWakes([rowOf(from, 1000, before), rowOf(to, 1000, after_)])
    return judgePinning(comparisons).find((verdict) => verdict.from === from && verdict.to === to)
  }

  it('is the share removed with its interval, and whether it reaches the claim', () => {
    const whole = verdictOf('noisy_unpinned', 'noisy_pinned_away', 100_000, 1000)
    assert.equal(whole?.verdict, 'at least 95 %')
    assert.ok(Math.abs((whole?.removedRatio ?? 0) - 0.99) < 0.001)
    assert.ok((whole?.lowRatio ?? 1) <= 0.99 && (whole?.highRatio ?? 0) >= 0.99)
    assert.equal(verdictOf('noisy_unpinned', 'noisy_pinned_away', 10_000, 5000)?.verdict, 'less than 95 %')
  })

  it('is "no gain" when the interval includes none, and "added" when it got worse', () => {
    assert.equal(verdictOf('crowded_unpinned', 'crowded_pinned', 1000, 1000)?.verdict, 'no gain')
    assert.equal(verdictOf('crowded_unpinned', 'crowded_pinned', 1000, 3000)?.verdict, 'added')
  })

  it('says what was not measured, such as an isolated core where there is none', () => {
    const verdicts = judgePinning(compareWakes([rowOf('quiet_unpinned', 1000), rowOf('quiet_pinned', 1000)]))
    const isolated = verdicts.find(({ to }) => to === 'isolated_pinned')
    assert.deepEqual([isolated?.verdict, isolated?.removedRatio], ['not measured', null])
    assert.equal(verdicts.length, 6)
  })

  it('never compares a row that was not measured, nor rounds that only one side has', () => {
    const failed = new WakeTally(scenario('quiet_pinned'))
    failed.add(0, line(1000))
    failed.missing('unsupported', 'x')
    assert.deepEqual(compareWakes([rowOf('quiet_unpinned', 1000), failed.row()]), [])
    const late = new WakeTally(scenario('quiet_pinned'))
    late.add(9, line(1000))
    assert.deepEqual(compareWakes([rowOf('quiet_unpinned', 1000), late.row()]), [])
  })
})

describe('the scenarios', () => {
  it('use an isolated core when the kernel has one', () => {
    const isolated = scenariosOf({ quiet: 3, noisy: 0, isolated: [2], count: 4 }).find(
      ({ name }) => name === 'isolated_pinned',
    )
    assert.deepEqual([isolated?.cpu, isolated?.skipped], [2, undefined])
    assert.deepEqual(
      isolated?.hogs.map(({ cpu }) => cpu),
      [-1, -1, -1, -1],
      'beside the same free neighbours as the row it is compared with',
    )
  })

  it('keep as many neighbours as cores off the core of a thread that is pinned alone', () => {
    const alone = scenariosOf({ quiet: 3, noisy: 0, isolated: [], count: 4 }).find(
      ({ name }) => name === 'crowded_pinned_alone',
    )
    assert.equal(alone?.cpu, 3)
    assert.deepEqual(
      alone?.hogs.map(({ cpu }) => cpu),
      [0, 0, 0, 0],
    )
  })

  it('skip what needs a second core on a machine with one', () => {
    const away = scenariosOf({ quiet: 0, noisy: 0, isolated: [], count: 1 }).filter(({ name }) =>
      /away|alone/.test(name),
    )
    assert.equal(away.length, 3)
    for (const { skipped } of away) assert.match(skipped ?? '', /one core/)
  })
})

describe('footguns', () => {
  const environment = {
    cpu: { governors: ['powersave'] },
    kernel: { clocksource: 'tsc' },
  } as unknown as Parameters<typeof measuredFootguns>[2]
  const statusOf = (id: string, rows: readonly WakeRow[], where = environment) =>
    measuredFootguns(rows, compareWakes(rows), where).find((footgun) => footgun.id === id)?.status

  it('see the limit on real-time threads in a stall of its length', () => {
    const limit = { runtimeUs: 950_000, periodUs: 1_000_000 }
    assert.equal(throttleFootgun({ ...limit, longestWakeNs: 49_000_000 }).status, 'found')
    assert.equal(throttleFootgun({ ...limit, longestWakeNs: 5_000_000 }).status, 'clear')
    const unknown = throttleFootgun({ ...limit, longestWakeNs: null })
    assert.equal(unknown.status, 'unknown')
    assert.match(unknown.evidence, /50\.0 ms of each 1\.00 s; not measured/)
    assert.match(throttleFootgun({ ...limit, runtimeUs: -1, longestWakeNs: null }).evidence, /keeps its core for good/)
    assert.equal(throttleFootgun({ runtimeUs: null, periodUs: null, longestWakeNs: null }).status, 'unknown')
  })

  it('see timer slack and idle halts where the remedy makes a claimed difference', () => {
    const slack = (after_: number) => [rowOf('quiet_pinned', 1000), rowOf('quiet_pinned_slack', after_)]
    assert.equal(statusOf('timer_slack', slack(300)), 'found')
    assert.equal(statusOf('timer_slack', slack(1000)), 'clear')
    assert.equal(statusOf('timer_slack', []), 'unknown')
    assert.equal(statusOf('idle_halt', [rowOf('quiet_pinned_slack', 1000), rowOf('quiet_pinned_awake', 300)]), 'found')
  })

  it('see that pinning bought nothing beside free neighbours', () => {
    assert.equal(
      statusOf('pinning_without_isolation', [rowOf('crowded_unpinned', 1000), rowOf('crowded_pinned', 1000)]),
      'found',
    )
    assert.equal(
      statusOf('pinning_without_isolation', [rowOf('crowded_unpinned', 1000), rowOf('crowded_pinned', 100)]),
      'clear',
    )
  })

  it('see a tail that service time hides', () => {
    assert.equal(statusOf('service_time_only', [rowOf('noisy_pinned_beside', 1000)]), 'found')
    assert.equal(statusOf('service_time_only', [rowOf('noisy_pinned_beside', 10)]), 'clear')
  })

  it('see a slow clock and a governor that saves power, and know when the machine shows neither', () => {
    assert.equal(statusOf('cpu_governor', []), 'found')
    assert.equal(statusOf('slow_clocksource', []), 'clear')
    const other = { cpu: { governors: null }, kernel: { clocksource: 'hpet' } } as unknown as typeof environment
    assert.equal(statusOf('cpu_governor', [], other), 'unknown')
    assert.equal(statusOf('slow_clocksource', [], other), 'found')
  })

  describe('of a process', () => {
    const root = mkdtempSync(join(tmpdir(), 'tickscope-threads-'))
    after(() => rmSync(root, { recursive: true }))
    const process_ = (pid: number, masks: readonly string[]) => {
      for (const [i, mask] of masks.entries()) {
        mkdirSync(join(root, `proc/${pid}/task/${pid + i}`), { recursive: true })
        writeFileSync(join(root, `proc/${pid}/task/${pid + i}/status`), `Name:\tnode\nCpus_allowed_list:\t${mask}\n`)
      }
    }
    mkdirSync(join(root, 'sys/devices/system/cpu'), { recursive: true })
    writeFileSync(join(root, 'sys/devices/system/cpu/online'), '0-3\n')

    it('see all its threads on one core, and not its JavaScript thread alone', () => {
      process_(100, ['2', '2', '2'])
      process_(200, ['2', '0-3', '0-3'])
      const found = threadsOnOneCore(100, root)
      assert.equal(found.status, 'found')
      assert.match(found.evidence, /all 3 threads of process 100 may run on core 2 only/)
      assert.equal(threadsOnOneCore(200, root).status, 'clear')
      assert.equal(threadsOnOneCore(300, root).status, 'unknown')
    })
  })
})
