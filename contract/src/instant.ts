/**
 * The instants of one tick, in the order they happen.
 *
 * A duration is named after the instant that ends it: the stage `decoded` lasts from `received` to `decoded`. All
 * instants are on the bot's monotonic clock (`performance.now()`, ns after conversion), so durations never cross
 * clocks, and the stages of one order add up to its tick-to-trade exactly.
 */

/** Instant names; the index of a name is its place in a record of the agent's ring. */
export const INSTANTS = [
  /** first byte of the message read from the socket by the process */
  'received',
  /** message parsed and validated */
  'decoded',
  /** order book updated */
  'booked',
  /** strategy returned its decision; a tick that causes no order ends here */
  'decided',
  /** risk limits passed */
  'checked',
  /** order serialised and signed */
  'encoded',
  /** order bytes handed to the kernel */
  'sent',
  /** venue's answer read */
  'acked',
] as const

export type InstantName = (typeof INSTANTS)[number]

/** Place of each instant in a record. */
export const INSTANT = {
  received: 0,
  decoded: 1,
  booked: 2,
  decided: 3,
  checked: 4,
  encoded: 5,
  sent: 6,
  acked: 7,
} as const satisfies Record<InstantName, number>

/** Stages of a tick that causes no order: they sum to tick-to-decision. */
export const DECISION_STAGES = ['decoded', 'booked', 'decided'] as const satisfies readonly InstantName[]

/** Stages of an order: they sum to tick-to-trade. `acked` is not one of them: it is the API RTT. */
export const ORDER_STAGES = [
  'decoded',
  'booked',
  'decided',
  'checked',
  'encoded',
  'sent',
] as const satisfies readonly InstantName[]

export type Stage = (typeof ORDER_STAGES)[number]
