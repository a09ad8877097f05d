/**
 * Silence: spans without market data, found while they last, and books that cannot be trusted.
 *
 * `look` is called on a beat; a span counts as silent from `limitMs` on, and is found at most a beat later. Its length
 * counts from the last message to the next one.
 */

export interface SilentGap {
  /** Epoch ms of the last message before it. */
  readonly fromMs: number
  /** From the last message to the moment it was noticed. */
  readonly foundAfterMs: number
  /** Up to the next message; null while it lasts. */
  lengthMs: number | null
}

/** Gaps kept one by one; all are counted. */
const GAPS_KEPT = 100

export class Silence {
  readonly #limitMs: number
  readonly gaps: SilentGap[] = []
  count = 0
  /** Total, ms, of those that are over. */
  totalMs = 0
  #lastAtMs: number | undefined
  #open: SilentGap | undefined

  constructor(limitMs: number) {
    this.#limitMs = limitMs
  }

  get isSilent(): boolean {
    return this.#open !== undefined
  }

  /**
   * A message came, or the watch begins. Instants are `performance.now()`.
   *
   * @returns length of the silence that ended, ms
   */
  message(atMs: number): number | undefined {
    const lastAtMs = this.#lastAtMs
    this.#lastAtMs = atMs
    if (lastAtMs === undefined || (this.#open === undefined && atMs - lastAtMs < this.#limitMs)) return undefined
    // It ended between two beats: found by its end.
    this.#open ??= this.#begin(atMs - lastAtMs, atMs - lastAtMs)
    return this.#end(atMs - lastAtMs)
  }

  /** @returns the gap, when this look found one */
  look(nowMs: number): SilentGap | undefined {
    if (this.#lastAtMs === undefined || this.#open !== undefined) return undefined
    const silentMs = nowMs - this.#lastAtMs
    if (silentMs < this.#limitMs) return undefined
    this.#open = this.#begin(silentMs, silentMs)
    return this.#open
  }

  /** The watch is over. @returns length so far of the silence that lasts, ms */
  stop(nowMs: number): number | undefined {
    if (this.#open === undefined || this.#lastAtMs === undefined) return undefined
    this.totalMs += nowMs - this.#lastAtMs
    return nowMs - this.#lastAtMs
  }

  #begin(foundAfterMs: number, agoMs: number): SilentGap {
    const gap: SilentGap = { fromMs: Math.round(Date.now() - agoMs), foundAfterMs, lengthMs: null }
    this.count++
    if (this.gaps.length < GAPS_KEPT) this.gaps.push(gap)
    return gap
  }

  #end(lengthMs: number): number {
    if (this.#open !== undefined) this.#open.lengthMs = lengthMs
    this.#open = undefined
    this.totalMs += lengthMs
    return lengthMs
  }
}

/** How long each book was without a word, or not whole, on `performance.now()`. */
export class Books {
  readonly #limitMs: number
  readonly #lastAtMs = new Map<string, number>()
  readonly #suspectAtMs = new Map<string, number>()
  suspectCount = 0

  constructor(limitMs: number) {
    this.#limitMs = limitMs
  }

  /** Something of these books was lost. */
  suspect(tickers: readonly string[], atMs: number): void {
    for (const ticker of tickers) {
      if (this.#suspectAtMs.has(ticker)) continue
      this.#suspectAtMs.set(ticker, atMs)
      this.suspectCount++
    }
  }

  /** @returns for how long the book was not whole, ms, when this made it whole again */
  snapshot(ticker: string, atMs: number): number | undefined {
    this.#lastAtMs.set(ticker, atMs)
    const sinceMs = this.#suspectAtMs.get(ticker)
    this.#suspectAtMs.delete(ticker)
    return sinceMs === undefined ? undefined : atMs - sinceMs
  }

  delta(ticker: string, atMs: number): void {
    this.#lastAtMs.set(ticker, atMs)
  }

  /** Books that are not whole, or had no message for the limit. */
  stale(nowMs: number): { readonly ticker: string; readonly quietMs: number; readonly isSuspect: boolean }[] {
    return [...this.#lastAtMs]
      .map(([ticker, atMs]) => ({ ticker, quietMs: nowMs - atMs, isSuspect: this.#suspectAtMs.has(ticker) }))
      .filter(({ quietMs, isSuspect }) => isSuspect || quietMs >= this.#limitMs)
  }
}
