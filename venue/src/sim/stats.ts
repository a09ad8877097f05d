/**
 * What went over the wire, counted where it happens. A message counts as delivered when it was written to an open
 * socket; one lost by a fault never does. Orders count when an authenticated request was read whole, whatever became
 * of it: received = accepted + rejected, once none is under way.
 */

/** Messages of these types are market data: one of them is one tick of a bot. */
export const TICK_TYPES = ['orderbook_snapshot', 'orderbook_delta', 'ticker', 'trade'] as const
export type TickType = (typeof TICK_TYPES)[number]

export class Counters {
  readonly ticks: { [type in TickType]: number } = { orderbook_snapshot: 0, orderbook_delta: 0, ticker: 0, trade: 0 }
  ordersReceived = 0
  ordersAccepted = 0
  /** Refused, limited, malformed, or answered by an injected error. */
  ordersRejected = 0
  cancelsReceived = 0
  /** Executions of this key's orders, each side of a trade once. */
  fills = 0
  requests = 0
  rateLimited = 0
  faultErrors = 0
  connections = 0

  toJSON() {
    const { ticks, ...rest } = this
    return { ticksDelivered: TICK_TYPES.reduce((sum, type) => sum + ticks[type], 0), ...rest, ticks }
  }
}

export class Stats {
  readonly byKey = new Map<string, Counters>()
  /** Requests and upgrades refused with 401. */
  unauthorized = 0
  /** Requests without a signature to endpoints that need none. */
  publicRequests = 0

  of(keyId: string): Counters {
    let counters = this.byKey.get(keyId)
    if (counters === undefined) {
      counters = new Counters()
      this.byKey.set(keyId, counters)
    }
    return counters
  }

  toJSON() {
    const byKey = Object.fromEntries([...this.byKey].map(([keyId, counters]) => [keyId, counters.toJSON()]))
    const sum = (field: 'ticksDelivered' | Exclude<keyof Counters, 'ticks' | 'toJSON'>) =>
      Object.values(byKey).reduce((total, counters) => total + counters[field], 0)
    return {
      ticksDelivered: sum('ticksDelivered'),
      ordersReceived: sum('ordersReceived'),
      ordersAccepted: sum('ordersAccepted'),
      ordersRejected: sum('ordersRejected'),
      cancelsReceived: sum('cancelsReceived'),
      fills: sum('fills'),
      rateLimited: sum('rateLimited'),
      faultErrors: sum('faultErrors'),
      unauthorized: this.unauthorized,
      publicRequests: this.publicRequests,
      byKey,
    }
  }
}
