/**
 * The last minute of one series, second by second, for quantiles over sliding windows.
 *
 * A second is the whole second of the collector's monotonic clock in which an interval arrived; a window of 10 s is the
 * current second and the nine before it. Merging them is exact, so a quantile over a window is the quantile of all its
 * events. Costs 10 bytes per cell in use and second, and at most `WINDOW_CELLS_MAX` cells over all series: beyond it a
 * series gives up its own oldest seconds for the newest (never anything of the cumulative histograms), which is counted.
 */
import { QUANTILE_WINDOWS_SECONDS } from '@tickscope/contract'
import type { CellCounts, CellSum } from './cells.ts'

const LONGEST_SECONDS = Math.max(...QUANTILE_WINDOWS_SECONDS)

/** 8 M cells are 80 MB: a minute of a thousand series of some 150 events a second. */
export const WINDOW_CELLS_MAX = 8_000_000

/** What all windows of a collector hold together. */
export interface WindowBudget {
  cells: number
  /** Intervals left out of windows that should hold them. */
  leftOut: number
}

interface Slot {
  readonly second: number
  cells: CellCounts
}

export class SlidingWindow {
  readonly #slots: Slot[] = []
  readonly #budget: WindowBudget

  constructor(budget: WindowBudget) {
    this.#budget = budget
  }

  add(cells: CellCounts, nowMs: number): void {
    this.expire(nowMs)
    while (this.#budget.cells + cells.size > WINDOW_CELLS_MAX) {
      this.#budget.leftOut++
      if (!this.#dropOldest()) return
    }
    const second = Math.floor(nowMs / 1000)
    const last = this.#slots.at(-1)
    if (last?.second === second) {
      const both = last.cells.copy()
      both.add(cells)
      this.#budget.cells += both.size - last.cells.size
      last.cells = both
    } else {
      this.#slots.push({ second, cells })
      this.#budget.cells += cells.size
    }
  }

  /** Drops what no window can see. */
  expire(nowMs: number): void {
    const oldest = Math.floor(nowMs / 1000) - LONGEST_SECONDS + 1
    while (this.#slots[0] && this.#slots[0].second < oldest) this.#dropOldest()
  }

  clear(): void {
    while (this.#dropOldest()) {}
  }

  #dropOldest(): boolean {
    const slot = this.#slots.shift()
    this.#budget.cells -= slot?.cells.size ?? 0
    return slot !== undefined
  }

  /**
   * Calls back with the sum of each window, shortest first; the sum is only good during the call.
   *
   * @param sum scratch
   */
  read(nowMs: number, sum: CellSum, visit: (windowSeconds: number, sum: CellSum) => void): void {
    this.expire(nowMs)
    const second = Math.floor(nowMs / 1000)
    let at = this.#slots.length - 1
    sum.clear()
    for (const windowSeconds of QUANTILE_WINDOWS_SECONDS) {
      for (; at >= 0 && (this.#slots[at] as Slot).second > second - windowSeconds; at--)
        sum.add((this.#slots[at] as Slot).cells)
      visit(windowSeconds, sum)
    }
  }
}
