/** What is claimed of runtimes, and what the rows of a run say to it. */
import { formatNs } from '@tickscope/contract'
import { atLeast, atMost, type ClaimPart, conclude, contaminatedJudgement, type Judgement } from '../claims/verdict.ts'
import type { RuntimeComparison, RuntimeRow } from './run.ts'

export interface ClaimVerdict extends Judgement {
  readonly id: 'rt-python' | 'rt-pypy'
}

/** Claimed round trips: Python 8–12 ms, C++ 6–9 ms. So Python may cost as much more as the gap between the upper ends. */
const PYTHON_MS = [8, 12] as const
const CPP_MS = [6, 9] as const
const GAP_NS = (PYTHON_MS[1] - CPP_MS[1]) * 1e6
/** Claimed of PyPy: 4 to 7 times as fast. */
const PYPY_FACTOR = [4, 7] as const
/** `Equal` I/O: within this share of CPython's. */
const EQUAL_RATIO = 0.2
const NO_INTERVAL = 'too few rounds for an interval'

/** From the bytes of a request written to the venue's answer read, on the route that counts. */
export interface VenueShare {
  readonly target: string
  /** What it is of, such as `place_ack of 40 orders`. */
  readonly of: string
  readonly p50Ns: number
}

/** @param venue without it, nothing is known of whole round trips: the runtimes are measured on loopback */
export function judgeRuntimes(
  rows: readonly RuntimeRow[],
  comparisons: readonly RuntimeComparison[],
  contaminatedBy: readonly string[],
  venue?: VenueShare,
): ClaimVerdict[] {
  const settle = (id: ClaimVerdict['id'], judgement: Judgement): ClaimVerdict => ({
    id,
    ...(contaminatedBy.length > 0 && judgement.parts.length > 0
      ? contaminatedJudgement(judgement, contaminatedBy)
      : judgement),
  })
  return [settle('rt-python', judgePython(rows, comparisons, venue)), settle('rt-pypy', judgePypy(rows, comparisons))]
}

function judgePython(
  rows: readonly RuntimeRow[],
  comparisons: readonly RuntimeComparison[],
  venue: VenueShare | undefined,
): Judgement {
  const row = (kind: string) => rows.find((r) => r.kind === kind && r.status === 'measured')
  const c = row('c')
  const python = row('uvloop') ?? row('asyncio')
  if (c === undefined || python === undefined)
    return conclude([], `needs a C row and a Python row; missing: ${missing(rows, ['c', 'uvloop', 'asyncio'])}`)
  const gap = comparisons.find(
    ({ from, to, quantity }) => from === c.name && to === python.name && quantity === 'client',
  )
  const clients = [python, c].map(({ client }) => client?.p50Ns ?? 0) as [number, number]
  const [pythonText, cText] = clients.map(formatNs)
  const wholes = clients.map((ns) => formatNs(ns + (venue?.p50Ns ?? 0)))
  const rest =
    venue === undefined
      ? "the rest is the route's and the venue's"
      : `${venue.target} took ${formatNs(venue.p50Ns)} (p50, ${venue.of}), so about ${wholes[0]} and ${wholes[1]} in all, without an interval`
  const parts: ClaimPart[] = [
    {
      statement: `${python.kind} costs an order at most ${GAP_NS / 1e6} ms more than C, the gap of the claim`,
      measured: gap === undefined ? 'no round in which both ran' : differenceText(gap),
      holds: gap === undefined ? null : atMost(intervalOf(gap), GAP_NS),
    },
    {
      statement: `an order takes ${PYTHON_MS.join('–')} ms in Python and ${CPP_MS.join('–')} ms in C++`,
      measured: `the client's own share is ${pythonText} in ${python.kind} and ${cText} in C (p50); ${rest}`,
      holds: null,
    },
  ]
  return conclude(
    parts,
    venue === undefined
      ? "Whole round trips need the venue: save a result of probe order, or of probe http --connection warm, from the machine that would trade. Against the simulator on loopback only the client's share is comparable."
      : "The client's share is of this probe, against the simulator on loopback; the venue's of the other one.",
  )
}

function judgePypy(rows: readonly RuntimeRow[], comparisons: readonly RuntimeComparison[]): Judgement {
  const row = (kind: string) => rows.find((r) => r.kind === kind && r.status === 'measured')
  const cpython = row('asyncio')
  const pypy = row('pypy')
  if (cpython === undefined || pypy === undefined)
    return conclude([], `needs a CPython row and a PyPy row; missing: ${missing(rows, ['asyncio', 'pypy'])}`)
  const between = (quantity: RuntimeComparison['quantity']) =>
    comparisons.find((c) => c.from === cpython.name && c.to === pypy.name && c.quantity === quantity)
  const faster = (quantity: RuntimeComparison['quantity'], what: string): ClaimPart => {
    const ratio = between(quantity)
    const statement = `${what} is at least ${PYPY_FACTOR[0]} times as fast in a hot loop`
    if (ratio === undefined) return { statement, measured: 'no round in which both ran', holds: null }
    const { low, high } = intervalOf(ratio)
    // Times as fast is the inverse of the ratio of times.
    const factor = { low: high > 0 ? 1 / high : 0, high: low > 0 ? 1 / low : Number.POSITIVE_INFINITY }
    return {
      statement,
      measured: `${(1 / ratio.mean).toFixed(1)} times (${Number.isFinite(factor.high) ? `${factor.low.toFixed(1)} to ${factor.high.toFixed(1)}` : NO_INTERVAL})`,
      holds: atLeast(factor, PYPY_FACTOR[0]),
    }
  }
  const io = between('io')
  const bound = (cpython.io?.p50Ns ?? 0) * EQUAL_RATIO
  const equal = (): boolean | null => {
    if (io === undefined) return null
    const { low, high } = intervalOf(io)
    if (low >= -bound && high <= bound) return true
    return low > bound || high < -bound ? false : null
  }
  return conclude(
    [
      faster('cpu:decide', 'the strategy, pure Python,'),
      faster('cpu:parse', 'parsing a tick, JSON,'),
      faster('cpu:sign', 'signing, a C library in both,'),
      {
        statement: `waiting for the venue takes the same, within ${EQUAL_RATIO * 100} %`,
        measured: io === undefined ? 'no round in which both ran' : differenceText(io),
        holds: equal(),
      },
    ],
    `Claimed: ${PYPY_FACTOR.join('–')} times. In a hot loop; a process that sends a few orders a second stays cold, and its client share of an order (${formatNs(pypy.client?.p50Ns ?? 0)} p50 in PyPy, ${formatNs(cpython.client?.p50Ns ?? 0)} in CPython) is what a bot sees.`,
  )
}

function missing(rows: readonly RuntimeRow[], kinds: readonly string[]): string {
  const absent = rows.filter(({ kind, status }) => kinds.includes(kind) && status !== 'measured')
  return (
    absent.map(({ name, reason }) => `${name} (${reason ?? 'no reason given'})`).join(', ') || 'they were not asked for'
  )
}

/** Bounds as they come back from JSON, where an infinite one is null. */
function intervalOf({ low, high }: { readonly low: number | null; readonly high: number | null }): {
  low: number
  high: number
} {
  return { low: low ?? Number.NEGATIVE_INFINITY, high: high ?? Number.POSITIVE_INFINITY }
}

function differenceText(comparison: RuntimeComparison): string {
  const { low, high } = intervalOf(comparison)
  const signed = (ns: number) => (ns < 0 ? `−${formatNs(-ns)}` : formatNs(ns))
  const interval = Number.isFinite(low + high) ? `99 % interval ${signed(low)} to ${signed(high)}` : NO_INTERVAL
  return `${signed(comparison.mean)} (${interval}, ${comparison.rounds} rounds)`
}
