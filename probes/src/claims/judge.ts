/**
 * Results in, verdicts out. Nothing here measures.
 *
 * Results come from files as well as from a run, so every field may be missing, and an infinite bound is null: what
 * cannot be read is not measured, never zero.
 */
import { formatNs } from '@tickscope/contract'
import type { LadderGain, LadderRow } from '../bypass/ladder.ts'
import { meanInterval } from '../compare.ts'
import { isLoopbackHost } from '../host.ts'
import type { PinningVerdict } from '../jitter/rows.ts'
import type { Price, Prices } from '../route/price.ts'
import { INJECTED_LABEL } from '../route/routes.ts'
import { compareRoutes, type RouteRow } from '../route/run.ts'
import { judgeRuntimes, type VenueShare } from '../runtime/claims.ts'
import type { RuntimeComparison, RuntimeRow } from '../runtime/run.ts'
import type { ClaimProbe } from './catalogue.ts'
import {
  atLeast,
  atMost,
  type ClaimPart,
  conclude,
  contaminatedJudgement,
  type Judgement,
  type Verdict,
} from './verdict.ts'

/** A result object of a probe, as it came from its last line. */
export interface SavedResult {
  readonly probe: string
  /** The file, or `this run`. */
  readonly from: string
  readonly body: { readonly [field: string]: unknown }
}

export interface JudgeInput {
  /** The results to judge; of several of one probe the last counts, of routes all. */
  readonly results: readonly SavedResult[]
  readonly prices: Prices
  /** NUMA nodes of this machine; null when unknown. */
  readonly numaNodes: number | null
  /** USD a month that the latency earns, when its user said so. */
  readonly monthlyGainUsd?: number
}

const none = (verdict: Verdict, note: string): Judgement => ({ verdict, parts: [], note })
const notMeasured = (probe: string) => none('not measured', `no result of probe ${probe} was given or made`)
const impossible = (because: string) => none('cannot be measured here', because)
const later = (part: string) => none('not measured', `needs a later part of this suite: ${part}`)

export function judgeClaim(id: string, input: JudgeInput): Judgement {
  const latest = (probe: ClaimProbe) => input.results.findLast((result) => result.probe === probe)?.body
  switch (id) {
    case 'rt-python':
    case 'rt-pypy': {
      const runtime = latest('runtime')
      if (runtime === undefined) return notMeasured('runtime')
      const { rows, comparisons } = runtime
      if (!isList<RuntimeRow>(rows) || !isList<RuntimeComparison>(comparisons)) return notMeasured('runtime')
      const claims = judgeRuntimes(rows, comparisons, reasonsOf(runtime), venueShareOf(input.results))
      return claims.find((claim) => claim.id === id) ?? notMeasured('runtime')
    }
    case 'fix-size':
    case 'fix-cost':
    case 'rest-overhead':
      return judgeCodec(id, latest('codec'))
    case 'bypass-onload':
    case 'bypass-dpdk':
      return judgeBypass(id, latest('bypass'))
    case 'pinning':
      return judgeJitter(latest('jitter'))
    case 'numa':
      return judgeNuma(input.numaNodes)
    case 'aws-direct':
    case 'aws-region':
    case 'aws-accelerator':
    case 'aws-placement':
      return judgeRoutes(
        id,
        input.results.filter(({ probe }) => probe === 'route'),
      )
    case 'cost-cloud':
      return judgeCloud(input.prices)
    case 'cost-roi':
      return judgePayback(input.prices, input.monthlyGainUsd)
    case 'budgets':
      return judgePages(input.results.findLast(({ body }) => Array.isArray(body.pages))?.body)
    case 'fpga':
      return later('tick-to-trade logic simulated at a stated clock (fpga)')
    case 'tracing':
      return later('a score of found causes on a matrix of injected ones (tracing)')
    default:
      throw new RangeError(`no claim is called ${id}`)
  }
}

/**
 * What a venue beyond this machine takes for a call, of the latest result that knows: an order's acknowledgement, else a
 * read's first byte on a warm connection. Simulators and contaminated runs say nothing.
 */
function venueShareOf(results: readonly SavedResult[]): VenueShare | undefined {
  const shares = results.flatMap(({ probe, body }): (VenueShare & { readonly probe: string })[] => {
    const [row, phase, what] = probe === 'order' ? ['place', 'place_ack', 'orders'] : ['warm', 'ttfb', 'reads']
    const url = URL.parse(String(body.target))
    if ((probe !== 'order' && probe !== 'http') || body.contaminated === true || !isList<NamedRow>(body.rows)) return []
    const found = body.rows.find((each) => each?.name === row)?.phases?.[phase]
    if (url === null || isLoopbackHost(url.hostname) || typeof found?.p50Ns !== 'number' || !(Number(found.count) > 0))
      return []
    return [{ probe, target: url.origin, of: `${phase} of ${found.count} ${what}`, p50Ns: found.p50Ns }]
  })
  return shares.findLast(({ probe }) => probe === 'order') ?? shares.at(-1)
}

interface NamedRow {
  readonly name?: unknown
  readonly phases?: { readonly [phase: string]: { readonly count?: unknown; readonly p50Ns?: unknown } }
}

/** Why a run was contaminated; empty when it was not. */
function reasonsOf(body: SavedResult['body']): string[] {
  if (body.contaminated !== true) return []
  const { contaminatedBy, controls } = body as { contaminatedBy?: unknown; controls?: { contaminatedBy?: unknown } }
  const reasons = isList<unknown>(contaminatedBy) ? contaminatedBy : controls?.contaminatedBy
  return isList<unknown>(reasons) && reasons.length > 0 ? reasons.map(String) : ['its controls moved']
}

function settle(judgement: Judgement, body: SavedResult['body']): Judgement {
  const reasons = reasonsOf(body)
  return reasons.length > 0 && judgement.parts.length > 0 ? contaminatedJudgement(judgement, reasons) : judgement
}

function judgeCodec(id: string, body: SavedResult['body'] | undefined): Judgement {
  const claims = body?.claims
  if (body === undefined || !isList<Partial<Judgement> & { id?: string }>(claims)) return notMeasured('codec')
  const claim = claims.find((entry) => entry.id === id)
  if (claim === undefined || !isList<ClaimPart>(claim.parts)) return notMeasured('codec')
  const judgement = conclude(claim.parts, claim.note ?? '')
  // Bytes are counted, not timed: no neighbour changes them. The probe may have left its parts open itself.
  return id === 'fix-cost' && judgement.verdict !== 'open' ? settle(judgement, body) : judgement
}

/** Claimed of both ways around the kernel: 80 to 90 % less. */
const BYPASS_RATIO = 0.2
const ONLOAD_NS = 10_000
const DPDK_NS = 12_000

function judgeBypass(id: 'bypass-onload' | 'bypass-dpdk', body: SavedResult['body'] | undefined): Judgement {
  const { rows, gains } = body ?? {}
  if (body === undefined || !isList<LadderRow>(rows) || !isList<LadderGain>(gains)) return notMeasured('bypass')
  const prefix = id === 'bypass-onload' ? 'preload:onload' : 'dpdk_'
  const limitNs = id === 'bypass-onload' ? ONLOAD_NS : DPDK_NS
  const own = rows.filter(({ path }) => typeof path === 'string' && path.startsWith(prefix))
  const measured = own.filter(({ status }) => status === 'measured')
  const context = (body.contaminated === true ? [] : gains)
    .filter(
      ({ from, to, claimed }) => from === 'udp_blocking' && ['udp_spinning', 'af_xdp_generic'].includes(to) && claimed,
    )
    .map(({ to, ratio }) => `${to} takes ${percent(ratio)} of a blocking socket's time`)
  const instead = context.length > 0 ? ` Measured here instead: ${context.join(', ')}.` : ''
  if (measured.length === 0) {
    const why = own.find(({ reason }) => reason)?.reason
    return impossible(
      id === 'bypass-onload'
        ? `${why ?? 'no row under Onload was asked for'}; where it is, run it with --preload onload.${instead}`
        : `${why ?? 'no DPDK row was asked for'}.${instead}`,
    )
  }
  const parts = measured.flatMap(({ path, payloadBytes, roundsP50Ns }): ClaimPart[] => {
    const gain = gains.find((g) => g.from === 'udp_blocking' && g.to === path && g.payloadBytes === payloadBytes)
    const p50 = meanInterval(isList<number>(roundsP50Ns) ? roundsP50Ns : [])
    return [
      {
        statement: `${path}, ${payloadBytes} bytes: at least ${percent(1 - BYPASS_RATIO)} less than a blocking kernel socket`,
        measured:
          gain === undefined
            ? 'not compared'
            : `${percent(1 - gain.ratio)} less (${percent(1 - boundsOf(gain).high)} to ${percent(1 - boundsOf(gain).low)})`,
        holds: gain === undefined ? null : atMost(boundsOf(gain), BYPASS_RATIO),
      },
      {
        statement: `${path}, ${payloadBytes} bytes: a round trip takes at most ${formatNs(limitNs)}`,
        measured: `${formatNs(p50.mean)} p50 (${formatNs(p50.low)} to ${formatNs(p50.high)})`,
        holds: atMost(p50, limitNs),
      },
    ]
  })
  if (id === 'bypass-dpdk')
    parts.push({
      statement: 'the same on a NIC that DPDK drives',
      measured: 'not here: veth has no DMA and no wire',
      holds: null,
    })
  const shares = (body.shares ?? undefined) as { wakeUp?: number; stack?: number } | undefined
  const split =
    typeof shares?.wakeUp === 'number' && typeof shares.stack === 'number'
      ? ` Of a blocking round trip ${percent(shares.wakeUp)} is waking up, which spinning on the kernel's socket saves too, and ${percent(shares.stack)} the kernel's stack.`
      : ''
  return settle(conclude(parts, `Messages between two processes; no TCP, no TLS.${split}${instead}`), body)
}

/** Claimed of pinning: 95 % removed. */
const PINNING_REMOVED = 0.95

function judgeJitter(body: SavedResult['body'] | undefined): Judgement {
  const pinning = body?.pinning
  if (body === undefined || !isList<PinningVerdict>(pinning)) return notMeasured('jitter')
  const measured = pinning.filter(({ removedRatio }) => typeof removedRatio === 'number')
  const parts = measured.map(({ surrounding, removedRatio, lowRatio, highRatio }): ClaimPart => {
    const bounds = { low: lowRatio ?? Number.NEGATIVE_INFINITY, high: highRatio ?? Number.POSITIVE_INFINITY }
    const text = (ratio: number) => (Number.isFinite(ratio) ? percent(ratio) : 'no bound')
    return {
      statement: `pinning removes at least ${percent(PINNING_REMOVED)} of the wait for a core: ${surrounding}`,
      measured: `${percent(removedRatio ?? 0)} removed (${text(bounds.low)} to ${text(bounds.high)})`,
      holds: atLeast(bounds, PINNING_REMOVED),
    }
  })
  const missing = pinning.filter(({ removedRatio }) => typeof removedRatio !== 'number').map((row) => row.surrounding)
  return settle(
    conclude(parts, missing.length > 0 ? `Not measured: ${missing.join('; ')}.` : 'Every surrounding was measured.'),
    body,
  )
}

function judgeNuma(nodes: number | null): Judgement {
  if (nodes === null) return impossible('the kernel does not say how many NUMA nodes there are')
  if (nodes < 2) return impossible('this machine has one NUMA node')
  return none(
    'not measured',
    `this machine has ${nodes} nodes, and no probe of this suite times memory of another one yet`,
  )
}

interface RoutePair {
  readonly from: RouteRow
  readonly to: RouteRow
  readonly contaminated: boolean
}

const INTERNET = /internet/i
const REGION_FROM = 'eu-west-1'
const REGION_TO = 'us-east-1'
const DIRECT = { ratio: 0.4, ms: 20 } as const
const REGION_MS = [15, 25] as const
const PLACEMENT_NS = 100_000

function judgeRoutes(id: string, results: readonly SavedResult[]): Judgement {
  const rows = results.flatMap(({ body }) =>
    isList<RouteRow>(body.rows)
      ? body.rows.map((row) => ({ row, contaminated: body.contaminated === true, body }))
      : [],
  )
  const real = rows.filter(({ row }) => row.status === 'measured' && row.route !== INJECTED_LABEL)
  const rehearsed = rows.some(({ row }) => row.route === INJECTED_LABEL)
  const absent = (needs: string) =>
    impossible(
      `it needs ${needs}${rehearsed ? '; only relays with injected delay were measured, which rehearse a route and are none' : ''}`,
    )
  const pair = (isFrom: (row: RouteRow) => boolean, isTo: (row: RouteRow) => boolean): RoutePair | undefined => {
    for (const from of real.filter(({ row }) => isFrom(row)))
      for (const to of real.filter(({ row }) => isTo(row)))
        if (from.body === to.body) return { from: from.row, to: to.row, contaminated: from.contaminated }
    return undefined
  }
  if (id === 'aws-placement') {
    const near = real.filter(({ row }) => /placement/i.test(row.route))
    if (near.length === 0) return absent('a second host in the same placement group')
    return conclude(
      near.map(({ row, contaminated }) => {
        const edge = meanInterval(row.roundsP50Ns.edgeRtt.filter((ns) => ns !== null))
        return {
          statement: `${row.name}: a round trip of at most ${formatNs(PLACEMENT_NS)}`,
          measured: `${formatNs(edge.mean)} (${formatNs(edge.low)} to ${formatNs(edge.high)})${contaminated ? ', contaminated' : ''}`,
          holds: contaminated ? null : atMost(edge, PLACEMENT_NS),
        }
      }),
      'TCP handshakes, kernels of both ends included.',
    )
  }
  const wanted = {
    'aws-direct': {
      pair: pair(
        ({ route }) => INTERNET.test(route),
        ({ route }) => /direct ?connect|privatelink|vpc endpoint/i.test(route),
      ),
      needs: 'a Direct Connect or VPC endpoint beside the public internet, from one place',
    },
    'aws-region': {
      pair: pair(
        ({ region }) => region === REGION_FROM,
        ({ region }) => region === REGION_TO,
      ),
      needs: `hosts in ${REGION_FROM} and ${REGION_TO}`,
    },
    'aws-accelerator': {
      pair: pair(
        ({ route }) => INTERNET.test(route),
        ({ route }) => /accelerator/i.test(route),
      ),
      needs: "a Global Accelerator in front of a host of one's own",
    },
  }[id] as { pair: RoutePair | undefined; needs: string }
  if (wanted.pair === undefined) return absent(wanted.needs)
  return judgePair(id, wanted.pair)
}

function judgePair(id: string, { from, to, contaminated }: RoutePair): Judgement {
  const response = compareRoutes(from, to, contaminated).find(({ figure }) => figure === 'response')
  if (response === undefined || response.meanNs === null || response.lowNs === null || response.highNs === null)
    return none('open', `${from.name} and ${to.name}: ${response?.reason ?? 'not compared'}`)
  const saved = { low: -response.highNs, high: -response.lowNs }
  const measured = `${formatSigned(-response.meanNs)} saved (${formatSigned(saved.low)} to ${formatSigned(saved.high)}), ${from.name} to ${to.name}`
  const open = (holds: boolean | null) => (response.claimed ? holds : null)
  const before = from.response?.p50Ns ?? Number.NaN
  const parts: ClaimPart[] =
    id === 'aws-direct'
      ? [
          { statement: 'at least 60 % less', measured, holds: open(atLeast(saved, (1 - DIRECT.ratio) * before)) },
          {
            statement: `under ${DIRECT.ms} ms`,
            measured: `${formatNs(to.response?.p50Ns ?? Number.NaN)} p50`,
            holds: open(atMost(meanInterval(to.roundsP50Ns.response.filter((ns) => ns !== null)), DIRECT.ms * 1e6)),
          },
        ]
      : id === 'aws-region'
        ? [
            {
              statement: `at least ${REGION_MS[0]} ms faster`,
              measured,
              holds: open(atLeast(saved, REGION_MS[0] * 1e6)),
            },
          ]
        : [{ statement: 'faster than the public internet', measured, holds: open(atLeast(saved, 1)) }]
  return conclude(
    parts,
    response.reason ?? 'Warm requests; a CDN edge answers the handshake, so look at the time behind it too.',
  )
}

/** The claim's own figures, USD. */
const CLOUD_MONTH_USD = [500, 1000] as const
const OWN_ONCE_USD = 30_000
const OWN_MONTH_USD = 2_000
const YEARS_MONTHS = 36
const OWN_TOTAL_USD = 100_000
const SAVED_RATIO = 0.9

function judgeCloud(prices: Prices): Judgement {
  const own = OWN_ONCE_USD + OWN_MONTH_USD * YEARS_MONTHS
  const saved = (cloudMonthUsd: number, ownTotalUsd: number) => 1 - (cloudMonthUsd * YEARS_MONTHS) / ownTotalUsd
  const range = { low: saved(CLOUD_MONTH_USD[1], own), high: saved(CLOUD_MONTH_USD[0], own) }
  const cloud = prices.items.get('cloud_tuned')
  const ownSetUp = prices.items.get('own_hardware')
  const yours =
    cloud === undefined || ownSetUp === undefined || ownSetUp.usdPerMonth === 0
      ? ''
      : ` With the price file: ${percent(1 - cloud.usdPerMonth / ownSetUp.usdPerMonth)} saved, ${priceText(cloud)} against ${priceText(ownSetUp)}.`
  return conclude(
    [
      {
        statement: `an own set-up costs over ${OWN_TOTAL_USD} USD in three years`,
        measured: `${own} USD on the claim's own figures`,
        holds: own > OWN_TOTAL_USD,
      },
      {
        statement: `the cloud saves ${percent(SAVED_RATIO)}`,
        measured: `${percent(range.low)} to ${percent(range.high)} on the claim's own figures`,
        holds: atLeast(range, SAVED_RATIO),
      },
      { statement: 'at equal latency', measured: 'needs both set-ups as routes of probe route', holds: null },
    ],
    `Arithmetic, not a measurement.${yours}`,
  )
}

function priceText({ usdPerMonth, source }: Price): string {
  return `${usdPerMonth} USD a month (${source})`
}

const OWN_PAYBACK_MONTHS = [24, 36] as const

function judgePayback(prices: Prices, gainUsd: number | undefined): Judgement {
  if (gainUsd === undefined)
    return impossible('what a faster order earns a month is known to its trader only: give --monthly-gain')
  const left = gainUsd - OWN_MONTH_USD
  const months = left > 0 ? OWN_ONCE_USD / left : Number.POSITIVE_INFINITY
  const cloud = prices.items.get('cloud_tuned')?.usdPerMonth
  return conclude(
    [
      {
        statement: `own hardware pays back in ${OWN_PAYBACK_MONTHS.join('–')} months`,
        measured: Number.isFinite(months)
          ? `${months.toFixed(1)} months at ${gainUsd} USD a month`
          : `never: ${gainUsd} USD a month do not cover ${OWN_MONTH_USD} of colocation`,
        holds: months <= OWN_PAYBACK_MONTHS[1],
      },
      {
        statement: 'a cloud stack pays back in 6–12 months',
        measured:
          cloud === undefined
            ? 'no price cloud_tuned in the price file'
            : `${gainUsd > cloud ? 'earns' : 'loses'} ${Math.abs(gainUsd - cloud)} USD a month from the first on; the claim names no outlay to pay back`,
        holds: null,
      },
    ],
    'Arithmetic on prices and on the gain its user stated.',
  )
}

const BUDGETS = {
  api_rtt: 'API latency passes its limit',
  processing: 'processing passes its limit',
  utilization: 'utilisation passes its limit',
} as const

/** The summary of a run of the whole suite with an injected fault. */
function judgePages(body: SavedResult['body'] | undefined): Judgement {
  if (body === undefined)
    return none(
      'not measured',
      'needs the summary of a run of the whole suite with a fault: save the output of the command into the results',
    )
  const pages = body.pages as readonly { slo?: string; firstBreachAtMs?: number; deliveredAtMs?: number }[]
  if (pages.length === 0) return none('open', 'the run paged nobody; it decides nothing unless a fault was injected')
  const parts = Object.entries(BUDGETS).map(([slo, what]): ClaimPart => {
    const page = pages.find((entry) => entry.slo === slo)
    const { firstBreachAtMs, deliveredAtMs } = page ?? {}
    const timed = typeof firstBreachAtMs === 'number' && typeof deliveredAtMs === 'number'
    return {
      statement: `somebody is paged when ${what}`,
      measured: timed
        ? `paged ${((deliveredAtMs - firstBreachAtMs) / 1000).toFixed(1)} s after the first breach`
        : 'no page of it in this run',
      holds: timed ? true : null,
    }
  })
  return conclude(parts, 'One fault breaks one or two budgets; limits from history are not judged here.')
}

function isList<T>(value: unknown): value is readonly T[] {
  return Array.isArray(value)
}

/** Bounds as they come back from JSON, where an infinite one is null. */
function boundsOf({ low, high }: { readonly low: number | null; readonly high: number | null }): {
  low: number
  high: number
} {
  return { low: low ?? Number.NEGATIVE_INFINITY, high: high ?? Number.POSITIVE_INFINITY }
}

function percent(ratio: number): string {
  return Number.isFinite(ratio) ? `${(ratio * 100).toFixed(0)} %` : 'no bound'
}

function formatSigned(ns: number): string {
  return ns < 0 ? `−${formatNs(-ns)}` : formatNs(ns)
}
