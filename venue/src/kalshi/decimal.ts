/**
 * Decimal strings of the wire as integers, and back. No value passes through a binary fraction.
 *
 * | on the wire | here | unit |
 * | --- | --- | --- |
 * | price, `"0.5600"`, at most 4 places | `5600` | ticks of $0.0001 |
 * | count, `"10.00"`, at most 2 places | `1000` | hundredths of a contract |
 * | fee or cost, `"0.017500"`, at most 6 places | `17500` | micro-dollars |
 *
 * Parsing is strict: optional `-`, digits without a needless leading zero, optionally a point and at least one digit;
 * no blanks, `+`, exponent or empty part; magnitude at most 2^53 - 1 units. One pass over the characters.
 */
import { quote, WireError } from './error.ts'

/** Price units in one dollar. */
export const TICKS_PER_DOLLAR = 10_000
/** Count units in one contract. */
export const HUNDREDTHS_PER_CONTRACT = 100
/** Fee and cost units in one dollar. */
export const MICROS_PER_DOLLAR = 1_000_000
/** Micro-dollars in one price tick. */
export const MICROS_PER_TICK = MICROS_PER_DOLLAR / TICKS_PER_DOLLAR

/** Sign, 16 integer digits, point, 6 places: nothing longer can be a safe integer of any unit here. */
const LENGTH_MAX = 24

const MINUS = 45
const POINT = 46
const ZERO = 48

function parseFixed(text: unknown, places: number, what: string): number {
  if (typeof text !== 'string' || text.length === 0 || text.length > LENGTH_MAX) throw invalid(text, places, what)
  const length = text.length
  const negative = text.charCodeAt(0) === MINUS
  const first = negative ? 1 : 0
  let index = first
  let value = 0
  for (; index < length; index++) {
    const digit = text.charCodeAt(index) - ZERO
    if (digit < 0 || digit > 9) break
    value = value * 10 + digit
  }
  if (index === first || (index > first + 1 && text.charCodeAt(first) === ZERO)) throw invalid(text, places, what)
  let fractionDigits = 0
  if (index < length) {
    if (text.charCodeAt(index) !== POINT) throw invalid(text, places, what)
    for (index++; index < length; index++, fractionDigits++) {
      const digit = text.charCodeAt(index) - ZERO
      if (digit < 0 || digit > 9) throw invalid(text, places, what)
      value = value * 10 + digit
    }
    if (fractionDigits === 0 || fractionDigits > places) throw invalid(text, places, what)
  }
  for (; fractionDigits < places; fractionDigits++) value *= 10
  // Every step above is exact as long as the result is safe, and a result that is not never rounds down to a safe one.
  if (value > Number.MAX_SAFE_INTEGER) throw invalid(text, places, what)
  return negative && value !== 0 ? -value : value
}

function invalid(text: unknown, places: number, what: string): WireError {
  return new WireError(`${what} is ${quote(text)}, not a decimal string with at most ${places} places`)
}

function formatFixed(value: number, scale: number, what: string): string {
  if (!Number.isSafeInteger(value)) throw new RangeError(`${what} must be a safe integer, not ${value}`)
  const magnitude = value < 0 ? -value : value
  const fraction = magnitude % scale
  const whole = (magnitude - fraction) / scale
  // `scale + fraction` has one digit more than the fraction needs: its leading 1 makes way for the point.
  return `${value < 0 ? '-' : ''}${whole}.${String(scale + fraction).slice(1)}`
}

/**
 * @param what names the value in the error
 * @returns ticks of $0.0001
 * @throws WireError `WIRE_INVALID`
 */
export function parseDollars(text: unknown, what = 'price'): number {
  return parseFixed(text, 4, what)
}

/** @returns dollars with 4 places, e.g. `0.5600` */
export function formatDollars(priceTicks: number): string {
  return formatFixed(priceTicks, TICKS_PER_DOLLAR, 'priceTicks')
}

/**
 * @returns hundredths of a contract
 * @throws WireError `WIRE_INVALID`
 */
export function parseCount(text: unknown, what = 'count'): number {
  return parseFixed(text, 2, what)
}

/** @returns contracts with 2 places, e.g. `10.00` */
export function formatCount(countHundredths: number): string {
  return formatFixed(countHundredths, HUNDREDTHS_PER_CONTRACT, 'countHundredths')
}

/**
 * @returns micro-dollars; also reads prices of 4 places, since fewer places are always allowed
 * @throws WireError `WIRE_INVALID`
 */
export function parseMicros(text: unknown, what = 'amount'): number {
  return parseFixed(text, 6, what)
}

/** @returns dollars with 6 places, e.g. `0.017500` */
export function formatMicros(micros: number): string {
  return formatFixed(micros, MICROS_PER_DOLLAR, 'micros')
}
