/**
 * Trading fees: 0.07 · C · P · (1 − P) dollars for the taker, rounded up to $0.0001 for each execution. The maker pays
 * nothing under `quadratic` and a quarter of the taker's fee under `quadratic_with_maker_fees`.
 */
import { TICKS_PER_DOLLAR } from '../kalshi/decimal.ts'

export type FeeType = 'quadratic' | 'quadratic_with_maker_fees'

/** Micro-dollars in $0.0001, the rounding step. */
const STEP_MICROS = 100

/**
 * 0.07 · (count / 100) · (p / 10^4) · ((10^4 - p) / 10^4) dollars is 7 · count · p · (10^4 - p) / 10^8 steps of $0.0001.
 * The product passes 2^53 at half a million contracts, hence BigInt.
 */
function quadraticSteps(priceTicks: number, count: number, divisor: bigint): number {
  const product = 7n * BigInt(count) * BigInt(priceTicks) * BigInt(TICKS_PER_DOLLAR - priceTicks)
  const steps = 100_000_000n * divisor
  return Number((product + steps - 1n) / steps)
}

/** @returns micro-dollars */
export function takerFeeMicros(priceTicks: number, count: number): number {
  return quadraticSteps(priceTicks, count, 1n) * STEP_MICROS
}

/** @returns micro-dollars */
export function makerFeeMicros(feeType: FeeType, priceTicks: number, count: number): number {
  return feeType === 'quadratic' ? 0 : quadraticSteps(priceTicks, count, 4n) * STEP_MICROS
}

/** Most a taker with this limit can pay per execution of `count`, micro-dollars: the fee peaks at 50 cents. */
export function takerFeeBoundMicros(side: 'bid' | 'ask', limitTicks: number, count: number): number {
  const half = TICKS_PER_DOLLAR / 2
  const worstTicks = side === 'bid' ? Math.min(limitTicks, half) : Math.max(limitTicks, half)
  return takerFeeMicros(worstTicks, count)
}
