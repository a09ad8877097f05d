/**
 * How long the venue takes, drawn per call from a distribution: a shifted lognormal fitted to what was measured in the
 * venue's own region, or the samples of a measured table.
 *
 * The fits (ms, without the loopback's own 0.1): floor + median · e^(σ · normal).
 *
 * | call | p50 | p99 | p99.99 | measured |
 * | --- | --- | --- | --- | --- |
 * | order, cancel | 4.1 | 9.8 | 18.2 | signed order round trip p50 4.2–4.5 |
 * | public read | 2.6 | 3.7 | 5.2 | unsigned GET p50 2.7, p99 3.8 |
 * | private read | 5.1 | 9.0 | 14.2 | signed GET of orders 5.2 |
 * | balance | 7.8 | 13.1 | 20.9 | signed GET of the balance 8.0 |
 * | feed message | 5.7 | 9.9 | 14.7 | age at receipt p1 3.6, p50 5.7, p99 10 |
 */
import { readFileSync, statSync } from 'node:fs'
import { UserError } from '@tickscope/contract'
import { Random } from './random.ts'

const FITS = {
  write: { floorMs: 1.5, medianMs: 2.6, sigma: 0.5 },
  publicRead: { floorMs: 2.0, medianMs: 0.6, sigma: 0.448 },
  privateRead: { floorMs: 3.0, medianMs: 2.1, sigma: 0.45 },
  balanceRead: { floorMs: 5.0, medianMs: 2.8, sigma: 0.45 },
  feed: { floorMs: 2.5, medianMs: 3.2, sigma: 0.36 },
} as const

export type CallKind = 'write' | 'publicRead' | 'privateRead' | 'balanceRead'

/**
 * Share of an order's time that passes before it meets the book: seen from outside, an order shows in the book after
 * 2.7–3.0 ms of its 4.2–4.5.
 */
export const MATCHED_AFTER_SHARE = 0.6

export interface LatencyModel {
  /** Engine time of one REST call, ms: from the request read to the answer written. */
  callMs(kind: CallKind): number
  /** From the engine's event to its message on the wire, ms. */
  feedMs(): number
}

/** @param measuredMs samples that replace the fits of every REST call; the feed keeps its own */
export function createLatency(seed: number, measuredMs?: readonly number[]): LatencyModel {
  const calls = new Random(seed, 'latency of calls')
  const feed = new Random(seed, 'latency of the feed')
  const draw = (random: Random, { floorMs, medianMs, sigma }: (typeof FITS)[keyof typeof FITS]) =>
    floorMs + medianMs * Math.exp(sigma * random.normal())
  return {
    callMs: (kind) => (measuredMs ? calls.pick(measuredMs) : draw(calls, FITS[kind])),
    feedMs: () => draw(feed, FITS.feed),
  }
}

/** A real table has thousands of rows; this is a guard against the wrong file. */
const TABLE_BYTES_MAX = 16 * 1024 * 1024
const LATENCY_MS_MAX = 60_000

/**
 * Reads a measured table: CSV with a header, one call a line; the first column whose name is `latency_ms` or ends in
 * `_latency_ms` counts.
 *
 * @returns samples, ms
 * @throws UserError `VENUE_LATENCY_INVALID` naming file, line and limit
 */
export function readLatencyTable(path: string): number[] {
  let text: string
  try {
    if (statSync(path).size > TABLE_BYTES_MAX)
      throw invalid(path, `it is larger than ${TABLE_BYTES_MAX / 1024 ** 2} MiB`)
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if (error instanceof UserError) throw error
    throw invalid(path, `it cannot be read (${(error as NodeJS.ErrnoException).code})`)
  }
  const lines = text.split(/\r?\n/)
  const header = splitCsv(lines[0] as string)
  const column = header.findIndex((name) => /^(.*_)?latency_ms$/.test(name))
  if (column < 0) throw invalid(path, `line 1 names no column latency_ms or …_latency_ms`)
  const name = header[column]
  const samples: number[] = []
  for (const [index, line] of lines.entries()) {
    if (index === 0 || line === '') continue
    const cell = splitCsv(line)[column] ?? ''
    const ms = cell.trim() === '' ? Number.NaN : Number(cell)
    if (!(ms >= 0 && ms <= LATENCY_MS_MAX))
      throw invalid(path, `line ${index + 1}: ${name} is '${cell}', not a number of ms from 0 to ${LATENCY_MS_MAX}`)
    samples.push(ms)
  }
  if (samples.length === 0) throw invalid(path, 'it has a header and no measurements')
  return samples
}

function invalid(path: string, why: string): UserError {
  return new UserError('VENUE_LATENCY_INVALID', `--venue-latency ${path}: ${why}`)
}

/** Cells of one line; quotes may hold commas and doubled quotes, not line ends. */
function splitCsv(line: string): string[] {
  return Array.from(line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g), ([, quoted, plain]) =>
    quoted === undefined ? (plain as string) : quoted.replaceAll('""', '"'),
  )
}
