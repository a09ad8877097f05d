/**
 * Token buckets: each account has one for reads and one for writes, refilled continuously. A call costs 10 tokens
 * unless the table says otherwise; one that does not fit is refused and costs nothing.
 *
 * Writes that name a shard of 1 or above draw on that shard's own bucket of the same size.
 */

export interface Tier {
  readonly name: string
  readonly readPerSecond: number
  readonly writePerSecond: number
}

/** Tokens per second, after the raise of 2026-09-24 from Premier up. */
export const TIERS: readonly Tier[] = [
  { name: 'basic', readPerSecond: 200, writePerSecond: 100 },
  { name: 'advanced', readPerSecond: 300, writePerSecond: 300 },
  { name: 'expert', readPerSecond: 600, writePerSecond: 600 },
  { name: 'premier', readPerSecond: 1200, writePerSecond: 1200 },
  { name: 'paragon', readPerSecond: 2400, writePerSecond: 2400 },
  { name: 'prime', readPerSecond: 4800, writePerSecond: 4800 },
  { name: 'prestige', readPerSecond: 12_000, writePerSecond: 9600 },
]

export const DEFAULT_COST = 10

/** Calls served here that do not cost 10 tokens, as `GET /account/endpoint_costs` lists them. */
export const ENDPOINT_COSTS = [
  { cost: 2, method: 'DELETE', path: '/trade-api/v2/portfolio/events/orders' },
  { cost: 2, method: 'DELETE', path: '/trade-api/v2/portfolio/events/orders/:order_id' },
  { cost: 2, method: 'GET', path: '/trade-api/v2/portfolio/orders/:order_id' },
] as const

/** Tokens a full bucket holds: writes two seconds of refill above Basic, reads two seconds up to Advanced, else one. */
export function capacities(tier: Tier): { readonly read: number; readonly write: number } {
  const { name, readPerSecond, writePerSecond } = tier
  return {
    read: readPerSecond * (name === 'basic' || name === 'advanced' ? 2 : 1),
    write: writePerSecond * (name === 'basic' ? 1 : 2),
  }
}

export class TokenBucket {
  readonly capacity: number
  readonly perSecond: number
  #tokens: number
  #atMs: number

  /** @param nowMs any monotonic clock, the same in every call */
  constructor(perSecond: number, capacity: number, nowMs: number) {
    this.perSecond = perSecond
    this.capacity = capacity
    this.#tokens = capacity
    this.#atMs = nowMs
  }

  /** @returns whether the tokens were there, and are gone now */
  take(cost: number, nowMs: number): boolean {
    this.#tokens = Math.min(this.capacity, this.#tokens + ((nowMs - this.#atMs) / 1000) * this.perSecond)
    this.#atMs = nowMs
    if (this.#tokens < cost) return false
    this.#tokens -= cost
    return true
  }
}

export class RateLimit {
  readonly #tier: Tier
  readonly #read: TokenBucket
  readonly #writes = new Map<number, TokenBucket>()

  constructor(tier: Tier, nowMs: number) {
    this.#tier = tier
    this.#read = new TokenBucket(tier.readPerSecond, capacities(tier).read, nowMs)
  }

  read(cost: number, nowMs: number): boolean {
    return this.#read.take(cost, nowMs)
  }

  /** @param shard as named by the member; 0 for the common bucket. There are few shards: the caller checks the range */
  write(cost: number, shard: number, nowMs: number): boolean {
    let bucket = this.#writes.get(shard)
    if (bucket === undefined) {
      bucket = new TokenBucket(this.#tier.writePerSecond, capacities(this.#tier).write, nowMs)
      this.#writes.set(shard, bucket)
    }
    return bucket.take(cost, nowMs)
  }
}
