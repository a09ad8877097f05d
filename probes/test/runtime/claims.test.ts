import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { LatencySummary } from '@tickscope/contract'
import { judgeRuntimes } from '../../src/runtime/claims.ts'
import type { Kind } from '../../src/runtime/interpreter.ts'
import { compareRows, type RuntimeRow } from '../../src/runtime/run.ts'

const summary = (p50Ns: number): LatencySummary => ({
  count: 100,
  p50Ns,
  p90Ns: p50Ns,
  p99Ns: p50Ns,
  p999Ns: p50Ns,
  maxNs: p50Ns,
})

interface Figures {
  readonly client: readonly number[]
  readonly io?: readonly number[]
  readonly cpu?: readonly number[]
}

function row(kind: Kind, { client, io = [1e6, 1.01e6, 1.02e6, 1e6], cpu = [1000, 1001, 1002, 1000] }: Figures) {
  const work = { parse: cpu, decide: cpu, sign: [300e3, 301e3, 300e3, 301e3], encode: cpu }
  const measured: RuntimeRow = {
    name: kind,
    kind,
    status: 'measured',
    interpreter: kind,
    version: '1',
    requestedMode: '',
    effectiveMode: '',
    signing: '',
    boundary: 'user→user',
    clock: '',
    sent: 400,
    lost: 0,
    reasons: {},
    response: summary(2e6),
    service: summary(2e6),
    slip: summary(1e3),
    client: summary(client[0] as number),
    io: summary(1e6),
    phases: {},
    roundsP50Ns: { service: client.map((ns, i) => ns + (io[i] as number)), client, io },
    cpuRoundsNs: work,
  }
  return measured
}

const judge = (rows: readonly RuntimeRow[], contaminatedBy: readonly string[] = []) =>
  judgeRuntimes(rows, compareRows(rows), contaminatedBy)
const verdictOf = (id: string, rows: readonly RuntimeRow[], contaminatedBy?: readonly string[]) =>
  judge(rows, contaminatedBy).find((claim) => claim.id === id)?.verdict

const C = row('c', { client: [400e3, 410e3, 405e3, 400e3] })

describe('the claim that Python is about as fast as C++', () => {
  it('names no bounds after too few rounds for them', () => {
    const [python, pypy] = judge(
      [
        row('c', { client: [400e3] }),
        row('uvloop', { client: [800e3] }),
        row('asyncio', { client: [900e3], cpu: [5000] }),
      ].concat(row('pypy', { client: [700e3], cpu: [1000] })),
    )
    for (const { measured } of [...(python?.parts ?? []), ...(pypy?.parts ?? [])])
      assert.doesNotMatch(measured, /Infinity|−-|to -/)
    assert.match(python?.parts[0]?.measured ?? '', /\(too few rounds for an interval, 1 rounds\)/)
    assert.match(pypy?.parts[0]?.measured ?? '', /\(too few rounds for an interval\)$/)
  })

  it('holds in part when the gap is within the claimed one: the whole round trip is not measured on loopback', () => {
    const uvloop = row('uvloop', { client: [800e3, 810e3, 805e3, 790e3] })
    assert.equal(verdictOf('rt-python', [C, uvloop]), 'holds in part')
  })

  it('has a part that does not hold when the gap is larger than the claimed 3 ms', () => {
    const slow = row('uvloop', { client: [9e6, 9.1e6, 9.05e6, 9e6] })
    const claim = judge([C, slow]).find(({ id }) => id === 'rt-python')
    assert.deepEqual(
      claim?.parts.map(({ holds }) => holds),
      [false, null],
    )
  })

  it('stays open when the interval includes the claimed gap', () => {
    const noisy = row('uvloop', { client: [0.5e6, 6e6, 2e6, 5e6] })
    assert.equal(verdictOf('rt-python', [C, noisy]), 'open')
  })

  it('stays open with fewer rounds than make an interval, also after a journey through JSON', () => {
    const two = [row('c', { client: [4e5, 4e5] }), row('uvloop', { client: [8e5, 8e5] })]
    assert.equal(verdictOf('rt-python', two), 'open')
    const comparisons = JSON.parse(JSON.stringify(compareRows(two)))
    assert.equal(judgeRuntimes(two, comparisons, [])[0]?.verdict, 'open')
  })

  it('is open when the run was contaminated, and says by what', () => {
    const uvloop = row('uvloop', { client: [800e3, 810e3, 805e3, 790e3] })
    const claim = judge([C, uvloop], ['the hypervisor took 40 %'])[0]
    assert.equal(claim?.verdict, 'open')
    assert.match(claim?.note ?? '', /the hypervisor took 40 %/)
    assert.ok(claim?.parts.every(({ holds }) => holds === null))
  })

  it('is not measured without a C row, and says why that is missing', () => {
    const { reason: _, ...absent } = { ...C, status: 'unsupported' as const, reason: 'no libssl-dev' }
    const claim = judge([{ ...absent, reason: 'no libssl-dev' }, row('uvloop', { client: [8e5, 8e5, 8e5, 8e5] })])[0]
    assert.equal(claim?.verdict, 'not measured')
    assert.match(claim?.note ?? '', /no libssl-dev/)
  })
})

describe('the claim that PyPy is 4 to 7 times as fast', () => {
  const cpython = row('asyncio', { client: [8e5, 8e5, 8e5, 8e5], cpu: [5000, 5010, 5005, 5000] })

  it('holds in part when pure code is, and signing in a C library is not', () => {
    const pypy = row('pypy', { client: [7e5, 7e5, 7e5, 7e5], cpu: [1000, 1001, 1002, 1000] })
    const claim = judge([cpython, pypy]).find(({ id }) => id === 'rt-pypy')
    assert.equal(claim?.verdict, 'holds in part')
    assert.deepEqual(
      claim?.parts.map(({ holds }) => holds),
      [true, true, false, true],
    )
    assert.match(claim?.parts[0]?.measured ?? '', /^5\.0 times/)
  })

  it('has no part about speed that holds when PyPy is twice as fast, and waiting differs', () => {
    const pypy = row('pypy', {
      client: [7e5, 7e5, 7e5, 7e5],
      cpu: [2500, 2501, 2502, 2500],
      io: [2e6, 2.01e6, 2.02e6, 2e6],
    })
    assert.equal(verdictOf('rt-pypy', [cpython, pypy]), 'does not hold')
  })
})
