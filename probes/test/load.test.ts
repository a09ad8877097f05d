/** The load probe on servers whose times are known; where the machine's own noise could decide, its controls are asked. */
import assert from 'node:assert/strict'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { after, describe, it } from 'node:test'
import { UserError } from '@tickscope/contract'
import { nowNs } from '../src/clock.ts'
import { judgeControls, sampleControls } from '../src/controls.ts'
import { findKnee, judgeStep, type Step } from '../src/load/knee.ts'
import { type LoadOptions, loadProbe } from '../src/load.ts'
import type { ProbeContext } from '../src/probe.ts'
import type { Measurement } from '../src/result.ts'
import { Tally } from '../src/tally.ts'
import { type Answerer, startAnswerer } from './answerer.ts'
import { contextOf } from './measurement.ts'
import { lastLine, runProbe, startTarget } from './target.ts'

const OPTIONS = {
  connections: 16,
  arrivals: 'constant',
  seed: 1,
  timeout: 5_000,
  maxInFlight: 10_000,
  warmUp: 16,
  allowRemote: false,
} as const

function measure(
  options: Partial<LoadOptions> & { readonly url: string },
  context: Partial<ProbeContext> = {},
): Promise<Measurement> {
  return loadProbe.run({ ...OPTIONS, ...options }, contextOf({ durationMs: 500, ...context }))
}

/**
 * Runs an attempt up to three times until two of them hold. A machine held up by others can spoil any of them: those
 * whose own control samples say so are reported, not counted.
 */
async function holdsTwice(
  t: { diagnostic(text: string): void },
  attempt: () => Promise<{ readonly holds: boolean; readonly text: string; readonly run: Measurement }>,
): Promise<void> {
  const failures: string[] = []
  let held = 0
  for (let tries = 0; tries < 3 && held < 2; tries++) {
    const before = sampleControls()
    const fromNs = nowNs()
    const { holds, text, run } = await attempt()
    const { contaminatedBy } = judgeControls(before, sampleControls(), nowNs() - fromNs, { slip: run.slip })
    if (holds) held++
    else if (contaminatedBy.length === 0) failures.push(text)
    else t.diagnostic(`contaminated (${contaminatedBy.join('; ')}): ${text}`)
  }
  assert.ok(failures.length < 2, failures.join('\n'))
}

describe('the load probe', () => {
  const stops: (() => Promise<void>)[] = []
  const answerer = async (...args: Parameters<typeof startAnswerer>): Promise<Answerer> => {
    const started = await startAnswerer(...args)
    stops.push(() => started.stop())
    return started
  }
  after(async () => {
    for (const stop of stops) await stop()
  })

  for (const rate of [20, 200]) {
    it(`finds the 50 ms of a server that always takes 50 ms, at ${rate} requests a second`, async (t) => {
      const server = await answerer({ kind: 'constant', delayMs: 50 })
      await holdsTwice(t, async () => {
        const run = await measure({ url: server.url, rate, connections: 32 }, { durationMs: 500 })
        assert.equal(run.all.scheduled, rate / 2)
        assert.equal(run.all.lost, 0)
        assert.ok(run.all.service.quantileNs(0) >= 48e6, 'no request is faster than its answer')
        assert.ok(run.all.response.quantileNs(0.5) >= run.all.service.quantileNs(0.5) * 0.999)
        const responseMs = run.all.response.quantileNs(0.5) / 1e6
        return { holds: responseMs >= 49 && responseMs <= 55, text: `response p50 ${responseMs.toFixed(2)} ms`, run }
      })
    })
  }

  it('finds the p99 of a server that stood still once, as arithmetic has it', async (t) => {
    // Of the requests of T, those of the pause P wait for its end: response times are uniform in 0…P for a share P/T of
    // them and about 0 for the rest, so the quantile q is P - (1 - q) T.
    const server = await answerer({ kind: 'pause', pauseMs: 1_000 })
    const durationMs = 2_000
    await holdsTwice(t, async () => {
      let paused: Promise<number> | undefined
      const run = await measure(
        { url: server.url, rate: 200, connections: 64 },
        {
          durationMs,
          measuring: () => {
            setTimeout(() => {
              paused = server.pause()
            }, 400)
          },
        },
      )
      const pausedMs = (await paused) as number
      assert.equal(run.all.outcomes.ok, 400, 'every request of the schedule was sent and answered')
      const expectedMs = pausedMs - 0.01 * durationMs
      const p99Ms = run.all.response.quantileNs(0.99) / 1e6
      const holds = Math.abs(p99Ms - expectedMs) <= expectedMs * 0.02
      return { holds, text: `p99 ${p99Ms.toFixed(1)} ms, ${expectedMs.toFixed(1)} expected`, run }
    })
  })

  it('adds up: response is slip, the wait for a connection, and service', async () => {
    const server = await answerer({ kind: 'constant', delayMs: 20 })
    const run = await measure({ url: server.url, rate: 200, connections: 2 })
    const { slip, service, response, phases, outcomes } = run.all
    assert.equal(outcomes.ok, 100)
    const sum = (phase: string) => phases.get(phase)?.sumNs as number
    assert.equal(slip.sumNs + sum('queue') + service.sumNs, response.sumNs)
    assert.equal(sum('ttfb') + sum('body'), service.sumNs)
    // 2 connections carry 100 requests a second of the 200: the last waits as long as the run took.
    assert.ok((phases.get('queue')?.maxNs as number) > 200e6)
    assert.ok(service.quantileNs(0.5) < 200e6, 'the closed loop sees nothing of it')
  })

  it('drops and counts what is beyond --max-in-flight', async () => {
    const server = await answerer({ kind: 'constant', delayMs: 200 })
    const run = await measure({ url: server.url, rate: 100, connections: 2, maxInFlight: 4, warmUp: 2 })
    assert.equal(run.all.scheduled, 50)
    assert.equal(run.all.outcomes.ok + run.all.outcomes.dropped, 50)
    assert.ok(run.all.outcomes.dropped >= 30)
    assert.deepEqual([...run.all.reasons.keys()], ['DROPPED_IN_FLIGHT'])
  })

  it('counts answers that are none, and goes on over new connections', async () => {
    let requests = 0
    const target = await startTarget((request, response) => {
      requests++
      if (requests <= 16) response.end()
      else if (requests % 4 === 0) request.socket.destroy()
      else if (requests % 4 === 1) response.writeHead(503).end()
      else if (requests % 4 === 2) response.writeHead(200, { connection: 'close' }).end('ok')
      else response.end('ok')
    })
    stops.push(() => target.stop())
    const run = await measure({ url: target.url, rate: 100 })
    assert.equal(run.all.scheduled, 50)
    assert.ok(run.all.outcomes.ok >= 20, 'half of the requests are answered well')
    assert.ok((run.all.reasons.get('STATUS_503') ?? 0) >= 10)
    assert.equal(run.all.outcomes.ok + run.all.lost, 50)
    assert.ok(target.accepted > 16)
  })

  it('gives up on an answer after --timeout, and uses its connection no more', async () => {
    let requests = 0
    const target = await startTarget((_, response) => {
      if (++requests <= 2) response.end()
    })
    stops.push(() => target.stop())
    const run = await measure({ url: target.url, rate: 20, timeout: 50, connections: 2, warmUp: 2 })
    assert.equal(run.all.outcomes.timeout, 10)
    assert.deepEqual([...run.all.reasons], [['TIMEOUT', 10]])
  })

  it('finds the knee of a server with a known capacity, and ends there', async (t) => {
    // 2 at a time for 20 ms each: 100 a second at most.
    const server = await answerer({ kind: 'slots', slots: 2, delayMs: 20 })
    await holdsTwice(t, async () => {
      const run = await measure({ url: server.url, steps: [20, 200, 400] }, { durationMs: 1_500 })
      const { knee } = run.details as { knee: { ratePerSecond: number; steadyPerSecond: number; reason: string } }
      const names = run.rows.map(({ mode }) => mode.name)
      const holds = knee.ratePerSecond === 200 && names.join() === '20/s,200/s' && run.headline === '20/s'
      return { holds, text: JSON.stringify(knee), run }
    })
  })

  for (const [name, options, message, context] of [
    [
      'another machine without leave',
      { url: 'http://192.0.2.1/' },
      /^192\.0\.2\.1 is another machine: add --allow-remote/,
    ],
    ['a venue', { url: 'https://demo-api.kalshi.co/', allowRemote: true }, /a venue's own host/],
    ['a service in steps', { url: 'http://127.0.0.1:1/', steps: 'auto' }, /^--serve keeps one rate/, { serve: true }],
    [
      'a time too short for one step',
      { url: 'http://127.0.0.1:1/', steps: 'auto' },
      /^--steps auto needs --for of at least 2 s, a step's length$/,
      { durationMs: 1_999 },
    ],
  ] as const) {
    it(`refuses ${name} in one sentence`, () => {
      assert.throws(
        () => measure(options, context),
        (error) => error instanceof UserError && message.test(error.message),
      )
    })
  }

  it('says so when nothing listens', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
    const { port } = server.address() as AddressInfo
    await new Promise((resolve) => server.close(resolve))
    await assert.rejects(measure({ url: `http://127.0.0.1:${port}/` }), /cannot be loaded: ECONNREFUSED$/)
  })

  it('shows what it has of a step that was stopped', async () => {
    const server = await answerer({ kind: 'constant', delayMs: 1 })
    const stopping = new AbortController()
    const run = await measure(
      { url: server.url, steps: [100, 200] },
      { durationMs: 600_000, signal: stopping.signal, measuring: () => void setTimeout(() => stopping.abort(), 500) },
    )
    const [row, ...others] = run.rows
    assert.deepEqual([row?.mode.name, row?.mode.reason, others.length], ['100/s', 'stopped before its end', 0])
    assert.ok((row?.tally.response.count ?? 0) > 10)
    const [{ achievedPerSecond }] = (run.details as { steps: [{ achievedPerSecond: number }] }).steps
    assert.ok(achievedPerSecond > 10, `${achievedPerSecond} a second, of the time it had`)
  })

  it('runs as a command, prints the common object, and ends with 1 when the budget is broken', async () => {
    const server = await answerer({ kind: 'constant', delayMs: 50 })
    const ended = await runProbe(['load', '--url', server.url, '--rate', '50', '--for', '500ms', '--json'])
    assert.equal(ended.code, 1, ended.stderr)
    const result = lastLine(ended)
    assert.equal(result.probe, 'load')
    assert.equal(result.boundary, 'user→user')
    assert.equal(result.sent, 25)
    assert.equal(result.response.count, 25)
    assert.equal(result.budgets[0].ok, false)
    assert.equal(result.settings.certificateChecked, false)
  })
})

describe('the knee', () => {
  const step = (ratePerSecond: number, p99Ms: number, achieved = ratePerSecond, slipP99Ms = 0): Step => {
    const tally = new Tally()
    for (let index = 0; index < 100; index++) tally.ok(0, p99Ms * 1e6, [])
    const short = ratePerSecond - achieved
    return { ratePerSecond, tally, achievedPerSecond: achieved, short, slipP99Ns: slipP99Ms * 1e6 }
  }
  const kinds = async (rates: readonly number[], runs: readonly Step[]) => {
    const left = [...runs]
    return (await findKnee(rates, () => Promise.resolve(left.shift()))).knee
  }

  it('is the first rate that departs twice in a row', async () => {
    const knee = await kinds([1, 2, 4], [step(1, 10), step(2, 31), step(2, 11), step(4, 40), step(4, 40)])
    assert.deepEqual([knee.steadyPerSecond, knee.ratePerSecond], [2, 4])
    assert.match(knee.reason, /^response p99 40\.0 ms, at 1\/s it was 10\.0 ms$/)
  })

  it('is where answers come slower than requests, whatever their times', () => {
    assert.equal(judgeStep(step(100, 10, 96), step(50, 10)).kind, 'departed')
    assert.equal(judgeStep(step(20, 10, 17), step(10, 10)).kind, 'steady', 'three of twenty may be one hiccup')
    assert.equal(judgeStep(step(100, 10, 98), step(50, 10)).kind, 'steady')
  })

  it('needs more than a hiccup on a fast server', () => {
    assert.equal(judgeStep(step(100, 5), step(50, 1)).kind, 'steady')
    assert.equal(judgeStep(step(100, 7), step(50, 1)).kind, 'departed')
  })

  it('is not found in a rate the probe itself could not send', async () => {
    const knee = await kinds([1, 2], [step(1, 10), step(2, 90, 2, 6), step(2, 90, 2, 6)])
    assert.deepEqual([knee.steadyPerSecond, knee.ratePerSecond], [1, null])
    assert.match(knee.reason, /^the probe itself was late at 2\/s/)
  })

  it('may not be there', async () => {
    const knee = await kinds([1, 2], [step(1, 10), step(2, 10)])
    assert.deepEqual([knee.steadyPerSecond, knee.ratePerSecond, knee.reason], [2, null, 'no rate departed'])
  })

  it('is not judged from a step that was stopped, which is shown all the same', async () => {
    const stopped = { ...step(2, 900), stopped: true }
    const first = await findKnee([1, 2], async (rate) => (rate === 1 ? step(1, 10) : stopped))
    assert.deepEqual([first.steps.length, first.steps[1], first.knee.ratePerSecond], [2, stopped, null])
    const left = [step(1, 10), step(2, 90), stopped]
    const again = await findKnee([1, 2], async () => left.shift())
    assert.equal(again.steps[1]?.stopped, undefined, 'the first attempt was whole')
    assert.deepEqual([again.knee.ratePerSecond, again.knee.steadyPerSecond], [null, 1])
  })
})
