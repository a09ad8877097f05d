/** The arithmetic of the ladder, on lines made by hand. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { cellIndexOf } from '@tickscope/contract'
import { judgeLadderControls, type LadderControl, RunControls } from '../../src/bypass/controls.ts'
import { gainsOf, Ladder, type LadderLine, missing, type Status, sharesOf, worthOf } from '../../src/bypass/ladder.ts'
import type { NativeHistogram } from '../../src/native.ts'

/** A printed histogram of `times` equal values, exact below 2 µs. */
function equal(ns: number, times = 10): NativeHistogram {
  return { count: times, sumNs: ns * times, cells: [cellIndexOf(ns), times] }
}

function line(path: string, round: number, ns: number, more: Partial<LadderLine> = {}): LadderLine {
  return {
    kind: 'ladder',
    round,
    path,
    payloadBytes: 64,
    status: 'measured',
    reason: '',
    requestedMode: `${path} asked for`,
    effectiveMode: `${path} seen`,
    sent: 10,
    lost: 0,
    voluntarySwitches: 5,
    response: equal(ns + 100),
    service: equal(ns),
    slip: equal(100),
    ...more,
  }
}

function ladderOf(lines: readonly LadderLine[]): Ladder {
  const ladder = new Ladder()
  for (const one of lines) ladder.add(one)
  return ladder
}

/** Five rounds a path, each a little apart. */
const NOISE = [0, 3, -2, 1, -1]
const rounds = (path: string, ns: number) => NOISE.map((noise, round) => line(path, round, ns + noise))

describe('the ladder', () => {
  it('merges the rounds of a path and payload into one row with every sample', () => {
    const [row, other] = ladderOf([
      line('udp_blocking', 0, 1000),
      line('udp_blocking', 1, 1200, { lost: 1 }),
      line('udp_blocking', 0, 900, { payloadBytes: 830 }),
    ]).rows()
    assert.ok(row && other)
    assert.deepEqual(
      [row.sent, row.lost, row.service?.count, row.sleepsPerMessage, row.roundsP50Ns, row.measuredRounds],
      [20, 1, 20, 0.5, [1000, 1200], [0, 1]],
    )
    assert.equal(row.p50Ns, 1100)
    assert.equal(row.maxNs, 1300)
    assert.equal(row.slip?.maxNs, 100)
    assert.deepEqual([other.payloadBytes, other.sent], [830, 10])
    assert.deepEqual([row.boundary, row.clock], ['user→user', 'CLOCK_MONOTONIC'])
  })

  it('takes a row for no better than its worst round, whatever came after', () => {
    const given = { status: 'unsupported' as Status, reason: 'given up' }
    const [row] = ladderOf([
      line('io_uring', 0, 1000),
      line('io_uring', 1, 1000, given),
      line('io_uring', 2, 1000),
    ]).rows()
    assert.deepEqual([row?.status, row?.reason, row?.sent], ['unsupported', 'given up', 30])
    assert.deepEqual(gainsOf([...ladderOf(rounds('udp_blocking', 1000)).rows(), row as never]), [])
  })

  it('has no figures for a path that did not run', () => {
    const [row] = ladderOf([missing('dpdk_memif', 64, 'skipped', 'libdpdk is not here')]).rows()
    assert.deepEqual(
      [row?.status, row?.reason, row?.sent, row?.p50Ns, row?.service, row?.roundsP50Ns, row?.sleepsPerMessage],
      ['skipped', 'libdpdk is not here', 0, null, null, [], null],
    )
  })
})

describe('a gain', () => {
  const gain = (lines: readonly LadderLine[], from: string, to: string) =>
    gainsOf(ladderOf(lines).rows()).find((g) => g.from === from && g.to === to)

  it('is claimed when the interval over paired rounds excludes none', () => {
    const found = gain(
      [...rounds('udp_blocking', 1000), ...rounds('udp_spinning', 400)],
      'udp_blocking',
      'udp_spinning',
    )
    assert.ok(found?.claimed)
    assert.ok(Math.abs(found.ratio - 0.4) < 0.01, `${found.ratio}`)
    assert.ok(found.low <= found.ratio && found.ratio <= found.high && found.high < 1)
  })

  it('is not claimed between a path and itself under another name', () => {
    const found = gain(
      [
        ...rounds('udp_blocking', 1000),
        ...[...NOISE].reverse().map((noise, round) => line('udp_epoll', round, 1000 + noise)),
      ],
      'udp_blocking',
      'udp_epoll',
    )
    assert.equal(found?.claimed, false)
  })

  it('pairs rounds by number, so that a round one path lacks is left out for both', () => {
    // Round 1 is slow for everybody; the bypass has no round 1.
    const ns = [1000, 8000, 1000, 1000, 1000]
    const spinning = ns.map((value, round) => line('udp_spinning', round, value / 2))
    const bypass = ns.flatMap((value, round) => (round === 1 ? [] : [line('af_xdp_generic', round, value / 4)]))
    const found = gain([...spinning, ...bypass], 'udp_spinning', 'af_xdp_generic')
    assert.equal(found?.ratio.toFixed(6), '0.500000')
  })

  it('is never computed for a row that is inactive, nor across payloads', () => {
    const inactive = { status: 'inactive' as Status, reason: 'napi 0' }
    const lines = [
      ...rounds('udp_blocking', 1000),
      ...NOISE.map((noise, round) => line('udp_busy_poll', round, 300 + noise, inactive)),
      ...NOISE.map((noise, round) => line('udp_spinning', round, 300 + noise, { payloadBytes: 830 })),
    ]
    assert.deepEqual(gainsOf(ladderOf(lines).rows()), [])
  })

  it('of a preloaded stack is taken against the blocking socket it replaces', () => {
    const found = gain(
      [...rounds('udp_blocking', 1000), ...rounds('preload:onload', 200)],
      'udp_blocking',
      'preload:onload',
    )
    assert.ok(found?.claimed)
  })
})

describe('the shares', () => {
  const p50s = { udp_blocking: 1000, udp_spinning: 300, af_xdp_native: 150, af_xdp_generic: 100 }
  const rows = (entries: { readonly [path: string]: number }) =>
    ladderOf(Object.entries(entries).flatMap(([path, ns]) => [line(path, 0, ns)])).rows()

  it('split a blocking round trip into waking up, the stack, and the fastest bypass', () => {
    assert.deepEqual(sharesOf(rows(p50s), 64), {
      wakeUp: 0.7,
      stack: 0.2,
      bypass: 0.1,
      bypassPath: 'af_xdp_generic',
    })
  })

  it('are not given without a bypass, or when a rung is no faster than the one before', () => {
    assert.equal(sharesOf(rows({ udp_blocking: 1000, udp_spinning: 300 }), 64), null)
    assert.equal(sharesOf(rows({ ...p50s, udp_spinning: 1100 }), 64), null)
    assert.equal(sharesOf(rows({ ...p50s, af_xdp_generic: 400, af_xdp_native: 400 }), 64), null)
    assert.equal(sharesOf(rows(p50s), 200), null)
  })

  it('never take shared memory for a network', () => {
    assert.equal(sharesOf(rows({ udp_blocking: 1000, udp_spinning: 300, dpdk_memif: 50 }), 64), null)
  })
})

describe('what a gain is worth', () => {
  it("is the time saved as a share of the bot's own round trip, for claimed gains only", () => {
    const claimed = ladderOf([...rounds('udp_blocking', 1000), ...rounds('udp_spinning', 400)]).rows()
    assert.deepEqual(worthOf(claimed, gainsOf(claimed), 60_000), [
      { from: 'udp_blocking', to: 'udp_spinning', savedNs: 600, endToEndNs: 60_000, ratio: 0.01 },
    ])
    const one = ladderOf([line('udp_blocking', 0, 1000), line('udp_spinning', 0, 400)]).rows()
    assert.deepEqual(worthOf(one, gainsOf(one), 60_000), [], 'one round makes no interval')
  })
})

describe('the controls', () => {
  const sample = (coreToCoreP50Ns: number | null, clockReadNs = 30, stolenRatio = 0.01): LadderControl => ({
    clockReadNs,
    clockStepNs: 20,
    recordNs: 5,
    coreToCoreP50Ns,
    hiccups: [{ cpu: 0, stolenRatio, p99Ns: 1000, maxNs: 2000 }],
  })

  it('say nothing of a run they did not move in', () => {
    assert.deepEqual(judgeLadderControls([sample(100), sample(120), sample(null)], 0.02), [])
  })

  it('name what moved: the cores, the clock, the thread, the hypervisor', () => {
    const reasons = judgeLadderControls([sample(80), sample(400, 120), sample(90, 30, 0.5)], 0.3)
    assert.equal(reasons.length, 4)
    assert.match(reasons.join(), /between 80 and 400 ns.*between 30 and 120 ns.*50\.0 %.*30\.0 %/)
  })

  /** Controls as a run takes them: one before, one after each round, and the share of time stolen in each round. */
  const watched = async (samples: readonly (LadderControl | undefined)[], steals: readonly number[] = []) => {
    const left = [...samples]
    let round = -1
    let steal = 0
    const controls = new RunControls(
      async () => left.shift(),
      () => {
        steal += round < 0 || round >= steals.length ? 0 : (steals[round] as number)
        return { total: (round++ + 2) * 100, steal }
      },
    )
    await controls.start()
    while (left.length > 0) await controls.endRound()
    return {
      rounds: controls.rounds.map((reasons) => reasons.length),
      run: controls.judge(),
      samples: controls.samples,
    }
  }

  it('say of each round whether its own moved, and mark the run for any of them', async () => {
    const { rounds, run, samples } = await watched([sample(110), sample(480), sample(470), sample(110), sample(110)])
    assert.deepEqual(rounds, [1, 0, 1, 0])
    assert.equal(run.length, 1)
    assert.equal(samples.length, 5)
  })

  it('mark a run that crept from round to round, though no round moved', async () => {
    const { rounds, run } = await watched([sample(100), sample(180), sample(300)])
    assert.deepEqual(rounds, [0, 0])
    assert.match(run.join(), /between 100 and 300 ns/)
  })

  it('mark the round in which the hypervisor took much, and the run, however long it was', async () => {
    const { rounds, run } = await watched([sample(100), sample(100), sample(100), sample(100)], [0, 30, 0])
    assert.deepEqual(rounds, [0, 1, 0])
    assert.match(run.join(), /30\.0 % of the CPU time/)
  })

  it('know nothing of the rounds beside a sample that is missing, and say so', async () => {
    const { rounds, run } = await watched([sample(100), undefined, sample(100), sample(100)])
    assert.deepEqual(rounds, [1, 1, 0])
    assert.match(run.join(), /a control sample is missing/)
  })
})
