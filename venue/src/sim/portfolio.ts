/**
 * What the portfolio reads show of one account's orders and fills: not the engine's truth but a copy that lags behind,
 * as the venue's does (a GET right after a cancel may still say `resting`). An order appears at once; its changes and
 * fills appear after the lag. Positions and balance are read from the engine.
 */
import type { Order } from './book.ts'
import type { Fill } from './engine.ts'
import { fillWire, type OrderWire, orderWire } from './wire.ts'

/** Orders and fills kept for the reads; the oldest make way. */
const ROWS_MAX = 100_000

export type FillWire = ReturnType<typeof fillWire>

export class Portfolio {
  readonly #lagMs: number
  readonly #orders = new Map<string, OrderWire>()
  readonly #fills: FillWire[] = []
  #pending: { readonly atMs: number; readonly apply: () => void }[] = []

  constructor(lagMs: number) {
    this.#lagMs = lagMs
  }

  orderChanged(order: Order): void {
    const wire = orderWire(order)
    if (this.#orders.has(wire.order_id)) this.#later(() => this.#orders.set(wire.order_id, wire))
    else {
      this.#orders.set(wire.order_id, wire)
      if (this.#orders.size > ROWS_MAX) this.#orders.delete(this.#orders.keys().next().value as string)
    }
  }

  filled(fill: Fill): void {
    const wire = fillWire(fill)
    this.#later(() => {
      this.#fills.push(wire)
      if (this.#fills.length >= 2 * ROWS_MAX) this.#fills.splice(0, ROWS_MAX)
    })
  }

  order(orderId: string): OrderWire | undefined {
    this.#catchUp()
    return this.#orders.get(orderId)
  }

  /** Newest first. */
  orders(): OrderWire[] {
    this.#catchUp()
    return [...this.#orders.values()].reverse()
  }

  /** Newest first. */
  fills(): FillWire[] {
    this.#catchUp()
    return this.#fills.toReversed()
  }

  #later(apply: () => void): void {
    this.#catchUp()
    this.#pending.push({ atMs: performance.now() + this.#lagMs, apply })
  }

  #catchUp(): void {
    const nowMs = performance.now()
    let due = 0
    while (due < this.#pending.length && (this.#pending[due]?.atMs as number) <= nowMs) this.#pending[due++]?.apply()
    if (due > 0) this.#pending = this.#pending.slice(due)
  }
}
