import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { CLAIMS } from '../../src/claims/catalogue.ts'
import { type JudgeInput, judgeClaim, type SavedResult } from '../../src/claims/judge.ts'

const PRICES = {
  asOf: 'now',
  items: new Map([
    ['cloud_tuned', { usdPerMonth: 750, source: 'the bill of a friend' }],
    ['own_hardware', { usdPerMonth: 2833, source: 'an offer' }],
  ]),
}

function input(bodies: readonly { readonly probe?: string; readonly [field: string]: unknown }[]): JudgeInput {
  // As it comes from a file: infinite bounds are null there.
  const results = bodies.map(
    (body): SavedResult => ({ probe: body.probe ?? 'start', from: 'file', body: JSON.parse(JSON.stringify(body)) }),
  )
  return { results, prices: PRICES, numaNodes: 1 }
}

const judge = (id: string, ...bodies: { readonly probe?: string; readonly [field: string]: unknown }[]) =>
  judgeClaim(id, input(bodies))

const ladderRow = (path: string, roundsP50Ns: readonly number[], status = 'measured', reason = '') => ({
  path,
  status,
  reason,
  payloadBytes: 64,
  roundsP50Ns,
})
const gain = (to: string, ratio: number, low: number, high: number) => ({
  from: 'udp_blocking',
  to,
  payloadBytes: 64,
  quantile: 0.5,
  ratio,
  low,
  high,
  claimed: low > 1 || high < 1,
})
const ladder = (more: object) => ({ probe: 'bypass', contaminated: false, rows: [], gains: [], shares: null, ...more })

describe('every claim', () => {
  it('has a verdict and a reason without any result, and none is "holds" for want of data', () => {
    for (const { id } of CLAIMS) {
      const { verdict, note } = judge(id)
      if (id === 'cost-cloud') continue
      assert.ok(['not measured', 'cannot be measured here'].includes(verdict), `${id}: ${verdict}`)
      assert.notEqual(note, '', id)
    }
  })

  it('survives results that lack everything', () => {
    const empty = ['runtime', 'bypass', 'jitter', 'codec', 'route'].map((probe) => ({ probe }))
    for (const { id } of CLAIMS) assert.notEqual(judge(id, ...empty).verdict, 'holds', id)
  })
})

describe('the claim about whole round trips', () => {
  const side = (kind: string, p50Ns: number) => ({ kind, name: kind, status: 'measured', client: { p50Ns } })
  const runtime = { probe: 'runtime', rows: [side('c', 400_000), side('uvloop', 800_000)], comparisons: [] }
  const order = (target: string, p50Ns: number, more = {}) => ({
    probe: 'order',
    target,
    rows: [{ name: 'place', phases: { place_ack: { count: 40, p50Ns } } }],
    ...more,
  })
  const http = {
    probe: 'http',
    target: 'https://venue.example/time',
    rows: [
      { name: 'warm', phases: { ttfb: { count: 50, p50Ns: 5e6 } } },
      { name: 'new', phases: { ttfb: { count: 50, p50Ns: 6e6 } } },
    ],
  }
  const whole = (...others: Parameters<typeof input>[0]) =>
    judge('rt-python', runtime, ...others).parts[1]?.measured ?? ''

  it('adds what the venue took, of an order before a read', () => {
    assert.match(
      whole(http),
      /https:\/\/venue\.example took 5\.00 ms \(p50, ttfb of 50 reads\), so about 5\.80 ms and 5\.40 ms/,
    )
    assert.match(
      whole(order('https://demo.example', 7e6), http),
      /7\.00 ms \(p50, place_ack of 40 orders\), so about 7\.80 ms/,
    )
  })

  it('takes nothing from a simulator, from a contaminated run, or from a result without figures', () => {
    for (const other of [
      order('http://127.0.0.1:8700', 7e6),
      order('https://demo.example', 7e6, { contaminated: true }),
      { probe: 'http', target: 'no url', rows: http.rows },
      { probe: 'order', target: 'https://demo.example', rows: [null, { name: 'place' }] },
    ])
      assert.match(whole(other), /the rest is the route's and the venue's$/)
  })
})

describe('the claim of DPDK', () => {
  const rows = [ladderRow('dpdk_af_packet', [4000, 4100, 4050, 4020])]

  it('holds in part over veth when the interval keeps to the figures: a NIC is not shown', () => {
    const { verdict, parts, note } = judge(
      'bypass-dpdk',
      ladder({
        rows,
        gains: [gain('dpdk_af_packet', 0.15, 0.12, 0.18)],
        shares: { wakeUp: 0.7, stack: 0.15, bypass: 0.15 },
      }),
    )
    assert.equal(verdict, 'holds in part')
    assert.deepEqual(
      parts.map(({ holds }) => holds),
      [true, true, null],
    )
    assert.match(parts[0]?.measured ?? '', /^85 % less \(82 % to 88 %\)$/)
    assert.match(note, /70 % is waking up/)
  })

  it('has a part that does not hold when the interval lies beyond the figure', () => {
    const { parts } = judge('bypass-dpdk', ladder({ rows, gains: [gain('dpdk_af_packet', 0.4, 0.3, 0.5)] }))
    assert.equal(parts[0]?.holds, false)
  })

  it('stays open where the interval includes the figure, or is infinite', () => {
    const wide = judge('bypass-dpdk', ladder({ rows, gains: [gain('dpdk_af_packet', 0.2, 0.1, 0.4)] }))
    assert.equal(wide.parts[0]?.holds, null)
    const { NEGATIVE_INFINITY, POSITIVE_INFINITY } = Number
    const two = ladder({
      rows: [ladderRow('dpdk_af_packet', [4000, 4000])],
      gains: [gain('dpdk_af_packet', 0.1, NEGATIVE_INFINITY, POSITIVE_INFINITY)],
    })
    assert.equal(judge('bypass-dpdk', two).verdict, 'open')
  })

  it('claims nothing of a contaminated run, and says why', () => {
    const { verdict, note, parts } = judge(
      'bypass-dpdk',
      ladder({
        rows,
        gains: [gain('dpdk_af_packet', 0.15, 0.12, 0.18)],
        contaminated: true,
        contaminatedBy: ['the virtual CPUs changed places'],
      }),
    )
    assert.equal(verdict, 'open')
    assert.ok(parts.every(({ holds }) => holds === null))
    assert.match(note, /the virtual CPUs changed places/)
  })

  it('cannot be measured where libdpdk is not, with the row’s own reason', () => {
    const skipped = ladder({ rows: [ladderRow('dpdk_memif', [], 'skipped', 'libdpdk is not here')] })
    const { verdict, note } = judge('bypass-dpdk', skipped)
    assert.equal(verdict, 'cannot be measured here')
    assert.match(note, /libdpdk is not here/)
  })
})

describe('the claim of OpenOnload', () => {
  it('cannot be measured without it, and says what was measured instead', () => {
    const { verdict, note } = judge(
      'bypass-onload',
      ladder({
        rows: [ladderRow('preload:onload', [], 'skipped', 'onload is not on PATH')],
        gains: [gain('udp_spinning', 0.3, 0.25, 0.35)],
      }),
    )
    assert.equal(verdict, 'cannot be measured here')
    assert.match(note, /onload is not on PATH/)
    assert.match(note, /udp_spinning takes 30 %/)
  })

  it('is not taken from a row that is inactive', () => {
    const rows = [ladderRow('preload:onload/blocking', [5000, 5000, 5000], 'inactive', 'no proof')]
    assert.equal(
      judge('bypass-onload', ladder({ rows, gains: [gain('preload:onload/blocking', 0.1, 0.09, 0.11)] })).verdict,
      'cannot be measured here',
    )
  })
})

describe('the claim of pinning', () => {
  const jitter = (...pinning: object[]) => ({ probe: 'jitter', contaminated: false, pinning })
  const removed = (surrounding: string, ratio: number | null, low: number | null, high: number | null) => ({
    surrounding,
    from: 'a',
    to: 'b',
    removedRatio: ratio,
    lowRatio: low,
    highRatio: high,
    verdict: '',
  })

  it('holds in part when it does in one surrounding and not in another', () => {
    const { verdict, parts } = judge(
      'pinning',
      jitter(removed('one busy core', 0.98, 0.96, 0.99), removed('all busy', 0.1, 0.02, 0.2)),
    )
    assert.equal(verdict, 'holds in part')
    assert.deepEqual(
      parts.map(({ holds }) => holds),
      [true, false],
    )
  })

  it('is open when the interval includes the claimed share, and names what was not measured', () => {
    const { verdict, note } = judge(
      'pinning',
      jitter(removed('one busy core', 0.9, 0.5, 0.99), removed('isolated', null, null, null)),
    )
    assert.equal(verdict, 'open')
    assert.match(note, /Not measured: isolated/)
  })

  it('is open when a bound is infinite', () => {
    assert.equal(judge('pinning', jitter(removed('x', 0.99, null, 1))).verdict, 'open')
  })
})

describe('the claims of codecs', () => {
  const claims = [
    { id: 'fix-size', parts: [{ statement: 's', measured: 'm', holds: false }], note: 'n' },
    { id: 'fix-cost', parts: [{ statement: 's', measured: 'm', holds: true }], note: 'n' },
  ]

  it('come from the codec probe', () => {
    assert.equal(judge('fix-size', { probe: 'codec', claims }).verdict, 'does not hold')
    assert.equal(judge('fix-cost', { probe: 'codec', claims }).verdict, 'holds')
  })

  it('are open about time in a contaminated run, and not about bytes, which are counted', () => {
    const body = { probe: 'codec', claims, contaminated: true, controls: { contaminatedBy: ['steal'] } }
    assert.equal(judge('fix-cost', body).verdict, 'open')
    assert.match(judge('fix-cost', body).note, /steal/)
    assert.equal(judge('fix-size', body).verdict, 'does not hold')
  })
})

describe('the claims of routes', () => {
  const route = (name: string, label: string, region: string | null, response: readonly number[]) => ({
    name,
    route: label,
    region,
    status: 'measured',
    imported: null,
    response: { count: 80, p50Ns: response[0] },
    roundsP50Ns: { response, edgeRtt: response, behindEdge: response },
  })
  const routes = (...rows: object[]) => ({ probe: 'route', contaminated: false, rows })
  const internet = route('net', 'public internet', 'eu-west-1', [50e6, 50.5e6, 50.2e6, 50.1e6])

  it('hold when the measured gain keeps to the figures', () => {
    const direct = route('dx', 'Direct Connect', null, [15e6, 15.2e6, 15.1e6, 15e6])
    assert.equal(judge('aws-direct', routes(internet, direct)).verdict, 'holds')
    const virginia = route('va', 'public internet', 'us-east-1', [30e6, 30.2e6, 30.1e6, 30e6])
    assert.equal(judge('aws-region', routes(internet, virginia)).verdict, 'holds')
    const group = route('pg', 'placement group', null, [60e3, 61e3, 60e3, 62e3])
    assert.equal(judge('aws-placement', routes(group)).verdict, 'holds')
  })

  it('do not hold when it is smaller', () => {
    const direct = route('dx', 'PrivateLink', null, [40e6, 40.2e6, 40.1e6, 40e6])
    assert.equal(judge('aws-direct', routes(internet, direct)).verdict, 'does not hold')
  })

  it('are open when the interval includes none, or the run was contaminated', () => {
    const same = route('ga', 'Global Accelerator', null, [50.4e6, 49.9e6, 50.3e6, 50.2e6])
    assert.equal(judge('aws-accelerator', routes(internet, same)).verdict, 'open')
    const direct = route('dx', 'Direct Connect', null, [15e6, 15.2e6, 15.1e6, 15e6])
    assert.equal(judge('aws-direct', { ...routes(internet, direct), contaminated: true }).verdict, 'open')
  })

  it('are never taken from a relay with injected delay', () => {
    const relay = route('Direct Connect', 'relay with injected delay', null, [15e6, 15e6, 15e6, 15e6])
    const { verdict, note } = judge('aws-direct', routes(internet, relay))
    assert.equal(verdict, 'cannot be measured here')
    assert.match(note, /rehearse a route and are none/)
  })
})

describe('the claims of costs', () => {
  it('hold in part on their own figures: the total does, 90 % saved does not', () => {
    const { verdict, parts, note } = judge('cost-cloud')
    assert.equal(verdict, 'holds in part')
    assert.deepEqual(
      parts.map(({ holds }) => holds),
      [true, false, null],
    )
    assert.match(parts[1]?.measured ?? '', /^65 % to 82 %/)
    assert.match(note, /74 % saved, 750 USD a month \(the bill of a friend\) against 2833 USD a month \(an offer\)/)
  })

  it('of pay-back need what its user earns', () => {
    assert.equal(judge('cost-roi').verdict, 'cannot be measured here')
    const months = (monthlyGainUsd: number) => judgeClaim('cost-roi', { ...input([]), monthlyGainUsd }).parts[0]
    assert.equal(months(3000)?.holds, true)
    assert.match(months(3000)?.measured ?? '', /^30\.0 months/)
    assert.equal(months(2100)?.holds, false)
    assert.match(months(1500)?.measured ?? '', /^never/)
  })
})

describe('the claim of budgets', () => {
  it('holds for the budget that paged, with the time it took, and is open for the others', () => {
    const { verdict, parts } = judge('budgets', {
      pages: [{ slo: 'api_rtt', firstBreachAtMs: 1000, deliveredAtMs: 3200 }],
    })
    assert.equal(verdict, 'holds in part')
    assert.match(parts[0]?.measured ?? '', /2\.2 s after/)
    assert.deepEqual(
      parts.map(({ holds }) => holds),
      [true, null, null],
    )
  })

  it('is open when nobody was paged', () => {
    assert.equal(judge('budgets', { pages: [] }).verdict, 'open')
  })
})

describe('the claim of NUMA', () => {
  it('cannot be measured on one node, and is not measured on two', () => {
    assert.equal(judge('numa').verdict, 'cannot be measured here')
    assert.equal(judgeClaim('numa', { ...input([]), numaNodes: 2 }).verdict, 'not measured')
    assert.match(judgeClaim('numa', { ...input([]), numaNodes: null }).note, /does not say/)
  })
})
