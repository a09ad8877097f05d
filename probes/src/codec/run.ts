/** `probe codec`: sizes, times, heap and verdicts, in one run. */
import { formatNs } from '@tickscope/contract'
import { CLOCK, nowNs } from '../clock.ts'
import { type ControlReport, judgeControls, sampleControls } from '../controls.ts'
import { collectEnvironment, type Environment } from '../environment.ts'
import { type ClaimVerdict, type CostRatio, judgeCosts, judgeOverhead, judgeSizes } from './claims.ts'
import {
  controlSides,
  createAllocationMeter,
  judgeControl,
  measureRounds,
  over,
  type PositiveControl,
  ratioOf,
  type Timing,
  timingOf,
} from './measure.ts'
import { createMessages } from './message.ts'
import { createOperations, type MessageName, SESSION } from './operations.ts'
import { loadPeer } from './peer.ts'
import { createSigners, createSigningOperations } from './signing.ts'
import { measureSizes, type Sizes } from './sizes.ts'

export interface CodecOptions {
  readonly rounds: number
  readonly seed: number
  /** Whether `jspurefix` is loaded and measured too. */
  readonly peer: boolean
  readonly signal: AbortSignal
  /** One line for people. */
  readonly note: (line: string) => void
  readonly progress: (ratio: number) => void
}

interface Measured {
  readonly status: 'measured' | 'skipped' | 'unsupported'
  readonly reason?: string
  /** Null when nothing was measured. */
  readonly nsPerOp: Timing | null
  /** Bytes of V8's heap; `unknown` where garbage could not be collected on demand. */
  readonly bytesPerOp: number | 'unknown'
}

export interface CodecRow extends Measured {
  readonly codec: string
  readonly message: MessageName | 'none'
  readonly operation: string
}

export interface SigningRow extends Measured {
  readonly name: string
  readonly description: string
}

/** What a codec of this suite should do on an ordinary, quiet machine. Never a reason to fail: time is the machine's. */
export interface Target {
  readonly name: string
  readonly thresholdNs: number
  readonly medianNs: number
  /** null when it was missed and the controls say that the machine may be why. */
  readonly ok: boolean | null
}

export interface CodecResult {
  readonly probe: 'codec'
  readonly startedAtMs: number
  readonly durationMs: number
  readonly clock: string
  readonly boundary: string
  readonly settings: {
    readonly rounds: number
    readonly seed: number
    readonly messages: number
    readonly peer: string
  }
  readonly messages: Sizes
  readonly rows: readonly CodecRow[]
  readonly signing: readonly SigningRow[]
  readonly claims: readonly ClaimVerdict[]
  readonly targets: readonly Target[]
  readonly notes: readonly string[]
  readonly contaminated: boolean
  readonly controls: ControlReport & { readonly positive: PositiveControl }
  readonly environment: Environment
}

/** Of each kind: more than a branch predictor learns by heart, few enough to stay in a cache. */
const MESSAGES = 64

const TARGETS = [
  {
    name: 'FAST decode of a 60-byte market-data message to objects',
    codec: 'fast',
    message: 'bookBatch',
    operation: 'decode',
    thresholdNs: 2_000,
  },
  {
    name: 'FIX integer scan of an execution report',
    codec: 'fix',
    message: 'executionReport',
    operation: 'scan',
    thresholdNs: 500,
  },
] as const

export async function runCodec(options: CodecOptions): Promise<CodecResult> {
  const { rounds, seed, signal } = options
  const environment = collectEnvironment()
  const set = createMessages(MESSAGES, seed)
  const signers = await createSigners(SESSION.sender)
  const messages = await measureSizes(set, signers)
  if (options.peer) options.note('loading jspurefix and its dictionary')
  const peer = options.peer ? await loadPeer(SESSION) : 'left out by --no-peer'
  const signature = signers.rsa.sign(String(set.reports[0]?.tsMs), 'POST', '/')
  const operations = createOperations(set, signature, typeof peer === 'string' ? undefined : peer)
  const signing = createSigningOperations(
    signers,
    set.reports.map(({ tsMs }, index) => tsMs + index),
  )
  const empty = over(set.orders, () => 1)
  const sides = [empty, ...controlSides(), ...operations.map(({ side }) => side), ...signing.map(({ side }) => side)]

  const before = sampleControls()
  const startedAtMs = Date.now()
  const startedAtNs = nowNs()
  const figures = await measureRounds(sides, {
    rounds,
    seed,
    between: async (ratio) => {
      options.progress(ratio)
      await new Promise((resolve) => setImmediate(resolve))
      return !signal.aborted
    },
  })
  const durationNs = nowNs() - startedAtNs
  const after = sampleControls()
  const system = judgeControls(before, after, nowNs() - startedAtNs)
  const [emptyFigures = [], once = [], again = [], twice = [], ...rest] = figures
  const positive = judgeControl(once, again, twice)
  const contaminatedBy = [...system.contaminatedBy, ...positive.failures]

  const meter = createAllocationMeter()
  const measured = (side: (typeof sides)[number], sideFigures: readonly number[]): Measured => ({
    status: 'measured',
    nsPerOp: timingOf(sideFigures, seed),
    bytesPerOp: meter?.(side) ?? 'unknown',
  })
  const rows: CodecRow[] = [
    { codec: 'harness', message: 'none', operation: 'empty', ...measured(empty, emptyFigures) },
    ...operations.map(({ codec, message, operation, side }, index) => ({
      codec,
      message,
      operation,
      ...measured(side, rest[index] ?? []),
    })),
  ]
  if (typeof peer === 'string')
    for (const message of ['order', 'executionReport', 'bookUpdate'] as const)
      rows.push({
        codec: 'jspurefix',
        message,
        operation: 'decode',
        status: 'skipped',
        reason: peer,
        nsPerOp: null,
        bytesPerOp: 'unknown',
      })
  const signingRows = signing.map(({ name, description, side }, index): SigningRow => {
    return { name, description, ...measured(side, rest[operations.length + index] ?? []) }
  })

  const figuresOf = (codec: string, message: MessageName, operation: string) => {
    const index = operations.findIndex(
      (each) => each.codec === codec && each.message === message && each.operation === operation,
    )
    return rest[index] ?? []
  }
  return {
    probe: 'codec',
    startedAtMs,
    durationMs: Math.round(durationNs / 1e6),
    clock: CLOCK,
    boundary: BOUNDARY,
    settings: {
      rounds: once.length,
      seed,
      messages: MESSAGES,
      peer: typeof peer === 'string' ? peer : `jspurefix ${peer.version}`,
    },
    messages,
    rows,
    signing: signingRows,
    claims: [
      judgeSizes(messages),
      judgeCosts(costRatios(figuresOf, seed), costNote(rows, signingRows), contaminatedBy),
      judgeOverhead(messages),
    ],
    targets: TARGETS.map(({ name, codec, message, operation, thresholdNs }) => {
      const medianNs = timingOf(figuresOf(codec, message, operation), seed).median
      return { name, thresholdNs, medianNs, ok: medianNs <= thresholdNs || (contaminatedBy.length > 0 ? null : false) }
    }),
    notes: NOTES,
    contaminated: contaminatedBy.length > 0,
    controls: { ...system, contaminatedBy, positive },
    environment,
  }
}

/** Of encoding and decoding; a scan makes no object. */
const BOUNDARY = 'object ↔ bytes in a buffer'

const NOTES = [
  'Neither Kalshi nor Polymarket offers FAST or SBE: those rows compare codecs, not venues.',
  'The FIX session, like REST and the feed, runs over TLS: 22 bytes a record more for each.',
  'REST order and its times are HTTP/1.1 with the fewest headers the venue’s client sends; signatures are timed by themselves.',
  'FIX and SBE messages are self-contained; a FAST message leans on those before it, and a lost one costs the stream.',
] as const

/** Pairs the claim is about: what a bot encodes (orders) and decodes (reports, book updates). */
function costRatios(
  figuresOf: (codec: string, message: MessageName, operation: string) => readonly number[],
  seed: number,
): CostRatio[] {
  const pair = (codec: string, message: MessageName, operation: string, against: string): CostRatio => ({
    statement: `${codec} ${message} ${operation} against ${operation === 'scan' ? `${against} decode` : against}`,
    ...ratioOf(
      figuresOf(against, message, operation === 'scan' ? 'decode' : operation),
      figuresOf(codec, message, operation),
      seed,
    ),
  })
  return [
    pair('fix', 'order', 'encode', 'rest'),
    pair('fast', 'order', 'encode', 'rest'),
    pair('fix', 'executionReport', 'decode', 'rest'),
    pair('fix', 'executionReport', 'scan', 'rest'),
    pair('fix-map', 'executionReport', 'decode', 'rest'),
    pair('fast', 'executionReport', 'decode', 'rest'),
    pair('fix', 'bookUpdate', 'decode', 'rest'),
    pair('fast', 'bookUpdate', 'decode', 'rest'),
  ]
}

/** The claim's absolute figures are of Python; here those of this process, and what outweighs them. */
function costNote(rows: readonly CodecRow[], signing: readonly SigningRow[]): string {
  const median = (codec: string, message: string, operation: string) =>
    formatNs(
      rows.find((row) => row.codec === codec && row.message === message && row.operation === operation)?.nsPerOp
        ?.median ?? Number.NaN,
    )
  const signed = (name: string) => formatNs(signing.find((row) => row.name === name)?.nsPerOp?.median ?? Number.NaN)
  return (
    `In Node a report takes ${median('rest', 'executionReport', 'decode')} as JSON, ${median('fix', 'executionReport', 'decode')} as FIX, ` +
    `${median('fast', 'executionReport', 'decode')} as FAST; Python is the runtime probe's. A REST order's signature (RSA ${signed('rsa-pss')}, ` +
    `Ed25519 ${signed('ed25519')}) outweighs all of them; FIX signs once, at logon.`
  )
}
