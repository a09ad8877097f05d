/**
 * Every order the probe has sent, until it is known not to rest any more; and the promise to cancel what does.
 *
 * An order whose answer was lost is looked up by its client order id, because it may rest all the same. Reads lag writes
 * at the venue, so an absence counts only `READ_LAG_MS` after the call ended. Each order also carries an expiry: what
 * neither a crash of the probe nor of the network let it cancel ends by itself.
 */
import { setTimeout as wait } from 'node:timers/promises'
import { collectPages, type Rest, VenueError } from '@tickscope/venue/kalshi'

/** Portfolio reads of the venue lag by about 100 ms; ten times that. */
const READ_LAG_MS = 1_000
const RETRY_MS = 100

export interface Placed {
  readonly clientOrderId: string
  /** Its call came to an end, well or not; `performance.now()`. */
  settledAtMs: number | undefined
  orderId: string | undefined
}

export class PlacedOrders {
  readonly #rest: Rest
  readonly #ticker: string
  /** Orders that may rest, by client order id. */
  readonly #open = new Map<string, Placed>()

  constructor(rest: Rest, ticker: string) {
    this.#rest = rest
    this.#ticker = ticker
  }

  /** Orders that may rest. */
  get size(): number {
    return this.#open.size
  }

  add(clientOrderId: string): Placed {
    const placed: Placed = { clientOrderId, settledAtMs: undefined, orderId: undefined }
    this.#open.set(clientOrderId, placed)
    return placed
  }

  /** It does not rest: refused, cancelled, filled or expired. */
  gone({ clientOrderId }: Placed): void {
    this.#open.delete(clientOrderId)
  }

  /**
   * Cancels all that may rest. Never rejects.
   *
   * @returns client order ids that may rest still, after `timeoutMs` of trying
   */
  async cancelAll(timeoutMs: number): Promise<readonly string[]> {
    const endsAtMs = performance.now() + timeoutMs
    while (this.#open.size > 0 && performance.now() < endsAtMs) {
      if ([...this.#open.values()].some(({ orderId }) => orderId === undefined)) await this.#lookUp()
      await Promise.all([...this.#open.values()].map((placed) => this.#cancel(placed)))
      if (this.#open.size > 0) await wait(RETRY_MS)
    }
    return [...this.#open.keys()]
  }

  async #cancel(placed: Placed): Promise<void> {
    if (placed.orderId === undefined) return
    const result = await this.#rest.cancelOrder({ orderId: placed.orderId, marketTicker: this.#ticker })
    if (result.outcome === 'ok' || isGone(result.error)) this.gone(placed)
  }

  /** Finds the ids of orders whose answer was lost. */
  async #lookUp(): Promise<void> {
    const askedAtMs = performance.now()
    try {
      const resting = await collectPages((cursor) =>
        this.#rest.listOrders({ ticker: this.#ticker, status: 'resting', limit: 1000, ...(cursor ? { cursor } : {}) }),
      )
      const ids = new Map(resting.map(({ clientOrderId, orderId }) => [clientOrderId, orderId]))
      for (const placed of this.#open.values()) {
        placed.orderId ??= ids.get(placed.clientOrderId)
        const { orderId, settledAtMs = Number.POSITIVE_INFINITY } = placed
        if (orderId === undefined && askedAtMs - settledAtMs > READ_LAG_MS) this.gone(placed)
      }
    } catch {
      // Asked again until the time is up; then the order is reported as perhaps resting.
    }
  }
}

export function isGone(error: unknown): boolean {
  return error instanceof VenueError && error.httpStatus === 404
}
