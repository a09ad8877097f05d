import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { compareRoutes, type RouteRow, worthOf } from '../../src/route/run.ts'

function row(name: string, responses: readonly number[], usdPerMonth: number | null = null): RouteRow {
  return {
    name,
    region: null,
    route: name,
    target: 'http://venue',
    requestedMode: 'direct',
    effectiveMode: 'direct',
    status: 'measured',
    boundary: 'user→user',
    clock: '',
    vantage: 'here',
    scheduled: 0,
    warmScheduled: 0,
    sent: 0,
    lost: 0,
    dropped: 0,
    reasons: {},
    response: null,
    service: null,
    slip: null,
    edgeRtt: null,
    behindEdge: null,
    behindClamped: 0,
    eventAge: { status: 'skipped', reason: 'none' },
    phases: {},
    roundsP50Ns: { response: responses, edgeRtt: [], behindEdge: [] },
    usdPerMonth,
    priceSource: null,
    histograms: {},
    sumsNs: {},
    imported: null,
  }
}

const SLOW = [30e6, 30.2e6, 29.9e6, 30.1e6]
const FAST = [5e6, 5.1e6, 5.2e6, 5e6]
const worth = (from: RouteRow, to: RouteRow, contaminated = false) =>
  worthOf([from, to], compareRoutes(from, to, contaminated))[0]

describe('what a route is worth', () => {
  it('is milliseconds saved for each extra dollar a month', () => {
    const value = worth(row('internet', SLOW, 0), row('private', FAST, 250))
    assert.ok(Math.abs((value?.savedMs ?? 0) - 24.975) < 0.01)
    assert.ok((value?.savedMsLow ?? 0) < 24.975 && (value?.savedMsHigh ?? 0) > 24.975)
    assert.equal(value?.extraUsdPerMonth, 250)
    assert.ok(Math.abs((value?.savedMsPerUsd ?? 0) - 0.0999) < 1e-4)
  })

  it('has no price per millisecond when it costs no more, and none when a price is missing', () => {
    assert.match(worth(row('a', SLOW, 10), row('b', FAST, 10))?.says ?? '', /costs no more/)
    assert.match(worth(row('a', SLOW, 10), row('b', FAST))?.says ?? '', /no price/)
  })

  it('is a loss when it is slower', () => {
    const value = worth(row('a', FAST, 0), row('b', SLOW, 10))
    assert.match(value?.says ?? '', /^slower by/)
    assert.equal(value?.savedMsPerUsd, null)
  })

  it('is nothing when the interval includes none, the rounds are too few, or the controls moved', () => {
    const noisy = [20e6, 45e6, 28e6, 33e6]
    assert.match(worth(row('a', SLOW, 0), row('b', noisy, 10))?.says ?? '', /includes no difference/)
    assert.match(worth(row('a', [30e6, 30e6], 0), row('b', [5e6, 5e6], 10))?.says ?? '', /too few rounds/)
    const dirty = worth(row('a', SLOW, 0), row('b', FAST, 10), true)
    assert.match(dirty?.says ?? '', /contaminated/)
    assert.equal(dirty?.savedMs, null)
  })

  it('pairs only rounds in which both were measured', () => {
    const gaps = row('b', FAST)
    const [response] = compareRoutes(
      { ...row('a', SLOW), roundsP50Ns: { response: [30e6, null, 30e6, 30.1e6], edgeRtt: [], behindEdge: [] } },
      gaps,
      false,
    )
    assert.equal(response?.rounds, 3)
  })

  it('does not claim against an imported run that was contaminated', () => {
    const imported = {
      ...row('b', FAST),
      imported: { file: 'x', startedAtMs: 0, contaminated: true, environment: null },
    }
    const [response] = compareRoutes(row('a', SLOW), imported, false)
    assert.equal(response?.claimed, false)
    assert.equal(response?.interleaved, false)
  })
})
