/**
 * Counts of histogram cells, kept small.
 *
 * A `LatencyHistogram` of contract is 216 kB whatever is in it; a collector keeps one per series for ever and up to 60
 * more for the last minute. `CellCounts` holds only the cells in use, 10 bytes each (a real series uses some hundreds to
 * a few thousand), and adds exactly. `CellSum` is the one dense array they are added into to be read.
 */
import {
  CELL_COUNT,
  cellIndexOf,
  HIGHEST_NS,
  highestOf,
  type LatencyHistogram,
  type LatencySummary,
} from '@tickscope/contract'

/** Where `CellCounts.from` gathers cells before it knows how many there are. */
const scratchCells = new Uint16Array(CELL_COUNT)
const scratchCounts = new Float64Array(CELL_COUNT)

export class CellCounts {
  /** Cells in use, ascending; the first `size` entries count. */
  #cells: Uint16Array
  #counts: Float64Array
  #size: number
  count = 0
  sumNs = 0

  private constructor(cells: Uint16Array, counts: Float64Array) {
    this.#cells = cells
    this.#counts = counts
    this.#size = cells.length
  }

  static from(histogram: LatencyHistogram): CellCounts {
    const { counts, maxCell } = histogram
    let size = 0
    for (let cell = 0; cell <= maxCell; cell++) {
      const n = counts[cell] as number
      if (n === 0) continue
      scratchCells[size] = cell
      scratchCounts[size++] = n
    }
    const result = new CellCounts(scratchCells.slice(0, size), scratchCounts.slice(0, size))
    result.count = histogram.count
    result.sumNs = histogram.sumNs
    return result
  }

  static empty(): CellCounts {
    return new CellCounts(new Uint16Array(0), new Float64Array(0))
  }

  copy(): CellCounts {
    const result = new CellCounts(this.#cells.slice(0, this.#size), this.#counts.slice(0, this.#size))
    result.count = this.count
    result.sumNs = this.sumNs
    return result
  }

  /** Cells in use. */
  get size(): number {
    return this.#size
  }

  /** Highest value of the highest cell in use, ns; 0 when empty. */
  get maxNs(): number {
    return this.#size === 0 ? 0 : Math.min(highestOf(this.#cells[this.#size - 1] as number), HIGHEST_NS)
  }

  /** Adds exactly. Linear in the cells of both. */
  add(other: CellCounts): void {
    const missing = this.#addKnown(other, false)
    if (missing > 0) this.#makeRoom(other, missing)
    this.#addKnown(other, true)
    this.count += other.count
    this.sumNs += other.sumNs
  }

  /** @returns how many cells of `other` are not here; adds the others when `apply` */
  #addKnown(other: CellCounts, apply: boolean): number {
    const cells = this.#cells
    const counts = this.#counts
    const size = this.#size
    const theirCells = other.#cells
    const theirCounts = other.#counts
    const theirSize = other.#size
    let missing = 0
    let at = 0
    for (let i = 0; i < theirSize; i++) {
      const cell = theirCells[i] as number
      while (at < size && (cells[at] as number) < cell) at++
      if (at === size || cells[at] !== cell) missing++
      else if (apply) counts[at] = (counts[at] as number) + (theirCounts[i] as number)
    }
    return missing
  }

  /** Gives each cell of `other` that is not here a place with count 0, from the end so that it works in place. */
  #makeRoom(other: CellCounts, missing: number): void {
    const size = this.#size + missing
    if (size > this.#cells.length) {
      const capacity = Math.min(CELL_COUNT, Math.max(size, Math.ceil(this.#cells.length * 1.25)))
      const cells = new Uint16Array(capacity)
      const counts = new Float64Array(capacity)
      cells.set(this.#cells.subarray(0, this.#size))
      counts.set(this.#counts.subarray(0, this.#size))
      this.#cells = cells
      this.#counts = counts
    }
    let to = size - 1
    let mine = this.#size - 1
    for (let theirs = other.#size - 1; theirs >= 0; theirs--) {
      const cell = other.#cells[theirs] as number
      while (mine >= 0 && (this.#cells[mine] as number) > cell) {
        this.#cells[to] = this.#cells[mine] as number
        this.#counts[to--] = this.#counts[mine--] as number
      }
      if (mine >= 0 && this.#cells[mine] === cell) continue
      this.#cells[to] = cell
      this.#counts[to--] = 0
    }
    this.#size = size
  }

  /** How many values are at most `boundNs`; exact at the bounds the values were recorded with. */
  countAtMost(boundNs: number): number {
    return this.cumulative([boundNs])[0] as number
  }

  /** Cumulative counts at ascending bounds, in one pass. */
  cumulative(boundsNs: readonly number[]): number[] {
    let at = 0
    let seen = 0
    return boundsNs.map((bound) => {
      const last = cellIndexOf(Math.min(bound, HIGHEST_NS))
      for (; at < this.#size && (this.#cells[at] as number) <= last; at++) seen += this.#counts[at] as number
      return seen
    })
  }

  forEach(visit: (cell: number, count: number) => void): void {
    for (let i = 0; i < this.#size; i++) visit(this.#cells[i] as number, this.#counts[i] as number)
  }

  /** Puts the counts into an empty histogram, for its encoder. */
  copyTo(histogram: LatencyHistogram): void {
    this.forEach((cell, count) => {
      histogram.restore(cell, count, 0)
    })
    histogram.sumNs = this.sumNs
  }
}

/** A dense sum of `CellCounts`, to be read at once and used again: quantiles cost one pass over the cells in use. */
export class CellSum {
  readonly #counts = new Float64Array(CELL_COUNT)
  #low = CELL_COUNT
  #high = -1
  count = 0

  add(cells: CellCounts): this {
    cells.forEach((cell, count) => {
      this.#counts[cell] = (this.#counts[cell] as number) + count
      if (cell < this.#low) this.#low = cell
      if (cell > this.#high) this.#high = cell
    })
    this.count += cells.count
    return this
  }

  clear(): this {
    if (this.#high >= 0) this.#counts.fill(0, this.#low, this.#high + 1)
    this.#low = CELL_COUNT
    this.#high = -1
    this.count = 0
    return this
  }

  /** Nearest-rank quantiles as `LatencyHistogram.quantileNs` gives them, ns. @param qs ascending, 0 … 1 */
  quantilesNs(qs: readonly number[]): number[] {
    let cell = this.#low
    let seen = this.#high < 0 ? 0 : (this.#counts[cell] as number)
    return qs.map((q) => {
      if (this.count === 0) return 0
      const rank = Math.max(1, Math.ceil(q * this.count - 1e-9))
      while (seen < rank && cell < this.#high) seen += this.#counts[++cell] as number
      return Math.min(highestOf(cell), HIGHEST_NS)
    })
  }

  summary(): LatencySummary {
    const [p50Ns, p90Ns, p99Ns, p999Ns, maxNs] = this.quantilesNs([0.5, 0.9, 0.99, 0.999, 1]) as [
      number,
      number,
      number,
      number,
      number,
    ]
    return { count: this.count, p50Ns, p90Ns, p99Ns, p999Ns, maxNs }
  }
}
