/**
 * The one latency histogram: HdrHistogram's layout at 1 ns … 60 s with 3 significant digits, on a plain array.
 *
 * Counting, exact merging and quantiles cost no allocation. The wire form is HdrHistogram V2 compressed, which every
 * HdrHistogram tool reads; encoder and decoder are ours because hdr-histogram-js 3.0.1 writes two header fields wrong
 * and can be stalled for seconds by a 60-byte payload. `decodeHistogram` is safe on hostile bytes: its work and memory
 * are bounded by the size of one histogram, whatever the input.
 *
 * Cell layout (Gil Tene, HdrHistogram `AbstractHistogram.java`, `countsArrayIndex`): values below 2048 have a cell of
 * 1 ns each; above, each power of two is divided into 1024 cells, so a cell is at most 1/1024 of its value wide.
 */
import { deflateSync, inflateSync } from 'node:zlib'
import type { Slos } from './slo.ts'

/** Smallest distinguishable value, ns. */
export const LOWEST_NS = 1
/** Largest value with a cell of its own, ns; longer ones are counted as this. */
export const HIGHEST_NS = 60_000_000_000
export const SIGNIFICANT_DIGITS = 3

/** 2 * 10^3 rounded up to a power of two. */
const SUB_BUCKETS = 2048
const HALF = SUB_BUCKETS / 2
const SUB_BUCKET_BITS = 11

/** Cells of a histogram: 26 powers of two above 2048 ns reach past 60 s, (26 + 1) * 1024. */
export const CELL_COUNT = 27_648

/** @param valueNs integer, 0 … HIGHEST_NS */
export function cellIndexOf(valueNs: number): number {
  const high = Math.floor(valueNs / 4_294_967_296)
  const bits = high > 0 ? 64 - Math.clz32(high) : 32 - Math.clz32(valueNs)
  const bucket = bits > SUB_BUCKET_BITS ? bits - SUB_BUCKET_BITS : 0
  return bucket * HALF + Math.floor(valueNs / 2 ** bucket)
}

/** Smallest value counted in a cell, ns. */
export function lowestOf(cell: number): number {
  const bucket = cell < SUB_BUCKETS ? 0 : Math.floor(cell / HALF) - 1
  return (cell - bucket * HALF) * 2 ** bucket
}

/** Largest value counted in a cell, ns. */
export function highestOf(cell: number): number {
  return lowestOf(cell + 1) - 1
}

/**
 * Bounds of the Prometheus buckets without the SLO thresholds, ns: 1-2.5-5 steps from 1 µs to 10 s, finer around where
 * trading happens.
 */
const BASE_BOUNDS_NS = [
  1e3, 2.5e3, 5e3, 1e4, 2.5e4, 5e4, 1e5, 2.5e5, 5e5, 7.5e5, 1e6, 1.5e6, 2e6, 3e6, 4e6, 5e6, 7.5e6, 1e7, 1.5e7, 2e7, 3e7,
  5e7, 1e8, 2.5e8, 5e8, 1e9, 2.5e9, 1e10,
]

/** Bucket bounds, ns, ascending; each latency threshold is among them, so a rule on it never interpolates. */
export function bucketBoundsNs(slos: Slos): readonly number[] {
  return [...new Set([...BASE_BOUNDS_NS, slos.api_rtt.thresholdNs, slos.processing.thresholdNs])].sort((a, b) => a - b)
}

/**
 * A bound as Prometheus 3 writes an `le`: the shortest float of the seconds, with `.0` on integers and the exponent
 * form Go's `strconv.FormatFloat(v, 'g', -1, 64)` gives below 1e-4. A rule must match it letter by letter.
 */
export function leOf(boundNs: number): string {
  const seconds = boundNs / 1e9
  if (Number.isInteger(seconds)) return `${seconds}.0`
  if (seconds >= 1e-4) return `${seconds}`
  const [mantissa, exponent] = seconds.toExponential().split('e') as [string, string]
  return `${mantissa}e-${exponent.slice(1).padStart(2, '0')}`
}

export class LatencyHistogram {
  /** Count per cell; exact up to 2^53. */
  readonly counts = new Float64Array(CELL_COUNT)
  count = 0
  /** Exact sum of the values recorded, ns. The wire form of HdrHistogram has none: a batch carries it beside. */
  sumNs = 0
  /** Highest cell in use, -1 when empty. */
  #maxCell = -1
  /** Exact upper bound of each cell that a bucket bound falls into, else 0. */
  readonly #bounds: BoundCells | undefined

  /**
   * @param bounds from `boundCells`: a value above a bound, in the same cell as it, is recorded one cell up (by less
   *   than 0.1 %), so that cumulative counts at the bounds are exact. Leave out for plain HdrHistogram behaviour.
   */
  constructor(bounds?: BoundCells) {
    this.#bounds = bounds
  }

  /** @param valueNs integer ≥ 0; values above 60 s are counted as 60 s */
  record(valueNs: number, times = 1): void {
    const value = Math.min(valueNs, HIGHEST_NS)
    let cell = cellIndexOf(value)
    if (this.#bounds !== undefined) {
      const bound = this.#bounds.boundOfCell.get(cell)
      if (bound !== undefined && value > bound) cell++
    }
    this.counts[cell] = (this.counts[cell] as number) + times
    this.count += times
    this.sumNs += valueNs * times
    if (cell > this.#maxCell) this.#maxCell = cell
  }

  /** Counts `times` values into a cell as decoded, never moved by a bound. */
  restore(cell: number, times: number, sumNs: number): void {
    this.counts[cell] = (this.counts[cell] as number) + times
    this.count += times
    this.sumNs += sumNs
    if (cell > this.#maxCell) this.#maxCell = cell
  }

  /** Adds another histogram's counts; exact. */
  add(other: LatencyHistogram): void {
    const { counts } = other
    for (let cell = 0; cell <= other.#maxCell; cell++) {
      const n = counts[cell] as number
      if (n !== 0) this.counts[cell] = (this.counts[cell] as number) + n
    }
    this.count += other.count
    this.sumNs += other.sumNs
    if (other.#maxCell > this.#maxCell) this.#maxCell = other.#maxCell
  }

  reset(): void {
    this.counts.fill(0, 0, this.#maxCell + 1)
    this.count = 0
    this.sumNs = 0
    this.#maxCell = -1
  }

  /** Highest value of the highest cell in use, ns; 0 when empty. Within 0.1 % above the true maximum. */
  get maxNs(): number {
    return this.#maxCell < 0 ? 0 : Math.min(highestOf(this.#maxCell), HIGHEST_NS)
  }

  get maxCell(): number {
    return this.#maxCell
  }

  /**
   * Nearest-rank quantile: the highest value of the cell that holds the event of rank ceil(q * count), ns. Within 0.1 %
   * above the true value.
   *
   * @param q 0 … 1
   */
  quantileNs(q: number): number {
    if (this.count === 0) return 0
    const rank = Math.max(1, Math.ceil(q * this.count - 1e-9))
    let seen = 0
    for (let cell = 0; cell <= this.#maxCell; cell++) {
      seen += this.counts[cell] as number
      if (seen >= rank) return Math.min(highestOf(cell), HIGHEST_NS)
    }
    return this.maxNs
  }

  /**
   * How many values are at most `boundNs`. Exact at the bounds the histogram was recorded with; elsewhere the cell that
   * holds the bound counts as below it.
   */
  countAtMost(boundNs: number): number {
    const last = Math.min(cellIndexOf(Math.min(boundNs, HIGHEST_NS)), this.#maxCell)
    let seen = 0
    for (let cell = 0; cell <= last; cell++) seen += this.counts[cell] as number
    return seen
  }

  /** Cumulative counts at ascending bounds, in one pass. */
  cumulative(boundsNs: readonly number[]): number[] {
    const result: number[] = []
    let cell = 0
    let seen = 0
    for (const bound of boundsNs) {
      const last = Math.min(cellIndexOf(Math.min(bound, HIGHEST_NS)), this.#maxCell)
      for (; cell <= last; cell++) seen += this.counts[cell] as number
      result.push(seen)
    }
    return result
  }
}

/** The cells that bucket bounds fall into, see `LatencyHistogram`. */
export interface BoundCells {
  readonly boundOfCell: ReadonlyMap<number, number>
}

export function boundCells(boundsNs: readonly number[]): BoundCells {
  const boundOfCell = new Map<number, number>()
  for (const bound of boundsNs) {
    const cell = cellIndexOf(bound)
    if (highestOf(cell) !== bound) boundOfCell.set(cell, bound)
  }
  return { boundOfCell }
}

/** A histogram as scripts read it; durations in ns. */
export interface LatencySummary {
  readonly count: number
  readonly p50Ns: number
  readonly p90Ns: number
  readonly p99Ns: number
  readonly p999Ns: number
  readonly maxNs: number
}

export function summarize(histogram: LatencyHistogram): LatencySummary {
  return {
    count: histogram.count,
    p50Ns: histogram.quantileNs(0.5),
    p90Ns: histogram.quantileNs(0.9),
    p99Ns: histogram.quantileNs(0.99),
    p999Ns: histogram.quantileNs(0.999),
    maxNs: histogram.maxNs,
  }
}

/*
 * Wire form, big-endian (HdrHistogram `AbstractHistogram.java`, `encodeIntoCompressedByteBuffer`):
 *
 *   outer  0  int32   0x1c849314   compressed V2 cookie (0x1c849304 | 0x10)
 *          4  int32   length of what follows
 *          8  bytes   zlib stream of the inner form
 *   inner  0  int32   0x1c849313   V2 cookie (0x1c849303 | 0x10)
 *          4  int32   length of the counts
 *          8  int32   normalising index offset, 0
 *         12  int32   significant digits, 3
 *         16  int64   lowest discernible value, 1
 *         24  int64   highest trackable value, 60e9
 *         32  float64 integer-to-double ratio, 1.0
 *         40  bytes   counts, ZigZag LEB128-64b9B: n >= 0 a count, -n a run of n empty cells
 */
const COMPRESSED_COOKIE = 0x1c849314
const COOKIE = 0x1c849313
const HEADER_BYTES = 40
/** A LEB128-64b9B word is at most 9 bytes. */
const INNER_BYTES_MAX = HEADER_BYTES + CELL_COUNT * 9

/**
 * Longest base64 accepted, characters. A full histogram of large random counts is about 240 kB inner and does not
 * compress, plus 8 bytes of outer header, 64 of zlib, times 4/3.
 */
export const ENCODED_CHARS_MAX = Math.ceil(((INNER_BYTES_MAX + 72) * 4) / 3) + 4

/** @returns the bytes after the last one written */
function putZigZag(out: Buffer, at: number, signed: number): number {
  let word = signed >= 0 ? signed * 2 : -signed * 2 - 1
  let offset = at
  for (let byte = 0; byte < 8 && word >= 128; byte++) {
    out[offset++] = (word % 128) + 128
    word = Math.floor(word / 128)
  }
  out[offset++] = word
  return offset
}

/** @returns base64 of the compressed V2 form; starts with `HISTFAAAA` */
export function encodeHistogram(histogram: LatencyHistogram): string {
  const cells = Math.max(histogram.maxCell, 0) + 1
  const inner = Buffer.allocUnsafe(HEADER_BYTES + cells * 9)
  let offset = HEADER_BYTES
  for (let cell = 0; cell < cells; ) {
    const n = histogram.counts[cell] as number
    if (n !== 0) {
      offset = putZigZag(inner, offset, n)
      cell++
      continue
    }
    const start = cell
    while (cell < cells && histogram.counts[cell] === 0) cell++
    const run = cell - start
    offset = putZigZag(inner, offset, run === 1 ? 0 : -run)
  }
  inner.writeInt32BE(COOKIE, 0)
  inner.writeInt32BE(offset - HEADER_BYTES, 4)
  inner.writeInt32BE(0, 8)
  inner.writeInt32BE(SIGNIFICANT_DIGITS, 12)
  inner.writeBigInt64BE(BigInt(LOWEST_NS), 16)
  inner.writeBigInt64BE(BigInt(HIGHEST_NS), 24)
  inner.writeDoubleBE(1, 32)
  const compressed = deflateSync(inner.subarray(0, offset), { level: 1 })
  const outer = Buffer.allocUnsafe(8 + compressed.length)
  outer.writeInt32BE(COMPRESSED_COOKIE, 0)
  outer.writeInt32BE(compressed.length, 4)
  compressed.copy(outer, 8)
  return outer.toString('base64')
}

/** A histogram on the wire that cannot be taken: malformed, of another shape, or larger than a histogram can be. */
export class HistogramError extends Error {
  readonly code = 'HISTOGRAM_INVALID'
}

/**
 * Decodes base64 of a compressed V2 histogram. Work is linear in one histogram (27,648 cells), memory under 0.5 MiB
 * beside the result, whatever the input says.
 *
 * hdr-histogram-js 3.0.1 writes offset 1 and the ratio as the integer 1; that exact pair is accepted, any other offset
 * or ratio is refused because it would mean shifted cells.
 *
 * @param bounds passed on to the histogram, for later `record` calls
 * @throws HistogramError
 */
export function decodeHistogram(base64: string, bounds?: BoundCells): LatencyHistogram {
  if (base64.length > ENCODED_CHARS_MAX) {
    throw new HistogramError(`histogram is ${base64.length} characters, more than ${ENCODED_CHARS_MAX}`)
  }
  const outer = Buffer.from(base64, 'base64')
  if (outer.length < 16 || outer.readInt32BE(0) !== COMPRESSED_COOKIE) {
    throw new HistogramError('histogram is not in the HdrHistogram V2 compressed form')
  }
  if (outer.readInt32BE(4) !== outer.length - 8) throw new HistogramError('histogram length field is wrong')
  let inner: Buffer
  try {
    inner = inflateSync(outer.subarray(8), { maxOutputLength: INNER_BYTES_MAX })
  } catch (error) {
    const large = (error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE'
    throw new HistogramError(
      large ? `histogram inflates to more than ${INNER_BYTES_MAX} bytes` : 'histogram is not a whole zlib stream',
    )
  }
  if (inner.length < HEADER_BYTES || inner.readInt32BE(0) !== COOKIE) {
    throw new HistogramError('histogram has no V2 header')
  }
  if (inner.readInt32BE(4) !== inner.length - HEADER_BYTES) {
    throw new HistogramError('histogram payload length is wrong')
  }
  const ours = inner.readInt32BE(8) === 0 && inner.readDoubleBE(32) === 1
  const hdrHistogramJs = inner.readInt32BE(8) === 1 && inner.readBigInt64BE(32) === 1n
  if (!ours && !hdrHistogramJs) throw new HistogramError('histogram has shifted cells or a value ratio')
  if (inner.readInt32BE(12) !== SIGNIFICANT_DIGITS || inner.readBigInt64BE(16) !== BigInt(LOWEST_NS)) {
    throw new HistogramError('histogram is not of 1 ns steps and 3 significant digits')
  }
  const histogram = new LatencyHistogram(bounds)
  readCounts(inner, histogram)
  return histogram
}

function readCounts(inner: Buffer, histogram: LatencyHistogram): void {
  let cell = 0
  let offset = HEADER_BYTES
  while (offset < inner.length) {
    let word = 0
    let scale = 1
    for (let byte = 0; ; byte++) {
      const value = inner[offset++]
      if (value === undefined) throw new HistogramError('histogram ends inside a count')
      if (byte === 8) {
        word += value * scale
        break
      }
      word += (value & 127) * scale
      if (value < 128) break
      scale *= 128
    }
    if (word > 2 ** 54 - 2) throw new HistogramError('histogram has a count above 2^53 - 1')
    if (word % 2 === 1) {
      const run = (word + 1) / 2
      if (run > CELL_COUNT - cell) throw new HistogramError(`histogram has more than ${CELL_COUNT} cells`)
      cell += run
      continue
    }
    if (cell >= CELL_COUNT) throw new HistogramError(`histogram has more than ${CELL_COUNT} cells`)
    const n = word / 2
    if (n > 0) restoreCell(histogram, cell, n)
    cell++
  }
}

/** Counts `n` values of a cell at its middle: what a decoded histogram without a sum beside it can know. */
function restoreCell(histogram: LatencyHistogram, cell: number, n: number): void {
  const middle = Math.min(HIGHEST_NS, Math.floor((lowestOf(cell) + highestOf(cell)) / 2))
  if (histogram.count + n > Number.MAX_SAFE_INTEGER) throw new HistogramError('histogram has more than 2^53 - 1 values')
  if (cellIndexOf(middle) !== cell) throw new HistogramError('histogram has values above 60 s')
  histogram.restore(cell, n, middle * n)
}
