/**
 * Values of FAST fields, and their text form in templates (FAST 1.1 §8.1).
 *
 * Integers are a `number` whenever they are safe, else a `bigint`: one representation for each value, exact for all 64
 * bits, and no allocation for what prices, sizes and sequence numbers are made of.
 */
import { FastError } from '../error.ts'

/** A number when it is a safe integer, a bigint otherwise. */
export type FastInteger = number | bigint

/** mantissa · 10^exponent. 12.1 and 12.10 are different decimals: the parts are what travels. */
export interface FastDecimal {
  readonly exponent: number
  readonly mantissa: FastInteger
}

/**
 * V8 learns what kind of value a field holds; when a mantissa of another kind comes later, decimals made before are slow
 * to read (measured: 130 ns instead of 2, for as long as the process ran). Both kinds here, first of all, settle it.
 */
const DECIMALS: readonly FastDecimal[] = [
  { exponent: 0, mantissa: 2n ** 62n },
  { exponent: 0, mantissa: 0 },
]
/** Base of a decimal's delta when there is no other (§6.3.7.2). */
export const ZERO_DECIMAL = DECIMALS[1] as FastDecimal

/** One value: integer, decimal, text, bytes; undefined when absent. */
export type FastPrimitive = FastInteger | FastDecimal | string | Uint8Array

export const FAST_TYPES = ['int32', 'uInt32', 'int64', 'uInt64', 'decimal', 'ascii', 'unicode', 'byteVector'] as const
export type FastType = (typeof FAST_TYPES)[number]

/** Place of each type in `FAST_TYPES`: what the codec switches on. */
export const TYPE = {
  int32: 0,
  uInt32: 1,
  int64: 2,
  uInt64: 3,
  decimal: 4,
  ascii: 5,
  unicode: 6,
  byteVector: 7,
} as const satisfies Record<FastType, number>

/** By `TYPE`. */
export const INTEGER_MIN: readonly FastInteger[] = [-(2 ** 31), 0, -(2n ** 63n), 0]
export const INTEGER_MAX: readonly FastInteger[] = [2 ** 31 - 1, 2 ** 32 - 1, 2n ** 63n - 1n, 2n ** 64n - 1n]

/** The same for what is a number: comparing one with a bigint costs more than decoding it. */
const NUMBER_MIN = Float64Array.of(-(2 ** 31), 0, Number.MIN_SAFE_INTEGER, 0)
const NUMBER_MAX = Float64Array.of(2 ** 31 - 1, 2 ** 32 - 1, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)

/** Whether an integer is one of the type's. */
export function fits(value: FastInteger, type: number): boolean {
  return typeof value === 'number'
    ? value >= (NUMBER_MIN[type] as number) && value <= (NUMBER_MAX[type] as number)
    : value >= (INTEGER_MIN[type] as FastInteger) && value <= (INTEGER_MAX[type] as FastInteger)
}

/** Exponents of decimals (§6.2.2). */
export const EXPONENT_MAX = 63

/** The one representation of an integer. */
export function toFastInteger(value: bigint): FastInteger {
  return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value
}

export function addIntegers(a: FastInteger, b: FastInteger): FastInteger {
  if (typeof a === 'number' && typeof b === 'number') {
    const sum = a + b
    if (Number.isSafeInteger(sum)) return sum
  }
  return toFastInteger(BigInt(a) + BigInt(b))
}

export function subtractIntegers(a: FastInteger, b: FastInteger): FastInteger {
  if (typeof a === 'number' && typeof b === 'number') {
    const difference = a - b
    if (Number.isSafeInteger(difference)) return difference
  }
  return toFastInteger(BigInt(a) - BigInt(b))
}

/** Whether two values of the same type are the same on the wire; both may be absent. */
export function equalValues(a: FastPrimitive | undefined, b: FastPrimitive | undefined): boolean {
  if (a === b) return true
  if (typeof a !== 'object' || typeof b !== 'object') return false
  if (a instanceof Uint8Array || b instanceof Uint8Array)
    return a instanceof Uint8Array && b instanceof Uint8Array && Buffer.compare(a, b) === 0
  return a.exponent === b.exponent && a.mantissa === b.mantissa
}

/** Refuses an application's value that is not of the field's type (D1) or out of its bounds (R1, R3, R4). */
export function checkValue(value: unknown, type: number, field: string): asserts value is FastPrimitive {
  switch (type) {
    case TYPE.int32:
    case TYPE.uInt32:
    case TYPE.int64:
    case TYPE.uInt64:
      checkInteger(value, type, field)
      return
    case TYPE.decimal: {
      if (typeof value !== 'object' || value === null || !('exponent' in value) || !('mantissa' in value))
        throw new FastError('D1', field, 'the value is not a decimal')
      const { exponent, mantissa } = value as FastDecimal
      if (!Number.isInteger(exponent) || exponent < -EXPONENT_MAX || exponent > EXPONENT_MAX)
        throw new FastError('R1', field, `the exponent is not an integer from -${EXPONENT_MAX} to ${EXPONENT_MAX}`)
      checkInteger(mantissa, TYPE.int64, field)
      return
    }
    case TYPE.ascii:
      if (typeof value !== 'string') throw new FastError('D1', field, 'the value is not a string')
      for (let i = 0; i < value.length; i++)
        if (value.charCodeAt(i) > 0x7f) throw new FastError('R3', field, 'the string is not ASCII')
      return
    case TYPE.unicode:
      if (typeof value !== 'string' || !value.isWellFormed())
        throw new FastError('D1', field, 'the value is not a well-formed string')
      return
    default:
      if (!(value instanceof Uint8Array)) throw new FastError('D1', field, 'the value is not a byte vector')
  }
}

function checkInteger(value: unknown, type: number, field: string): void {
  const safe = typeof value === 'number' && Number.isSafeInteger(value) && !Object.is(value, -0)
  // A bigint that is safe would be a second representation of the same value: it would compare as different.
  const big = typeof value === 'bigint' && typeof toFastInteger(value) === 'bigint'
  if (!safe && !big)
    throw new FastError('D1', field, 'the value is not an integer (a number when safe, a bigint only beyond)')
  if (!fits(value as FastInteger, type)) throw new FastError('R4', field, `the value does not fit ${FAST_TYPES[type]}`)
}

const WHITESPACE = /^[ \t\r\n]+|[ \t\r\n]+$/g

/**
 * Reads an initial value out of a template (§6.3.2: decimals are normalised).
 *
 * @throws FastError `S3`
 */
export function parseInitialValue(text: string, type: number, field: string): FastPrimitive {
  const invalid = () => new FastError('S3', field, `'${text.slice(0, 40)}' is no value of ${FAST_TYPES[type]}`)
  let value: FastPrimitive
  switch (type) {
    case TYPE.ascii:
    case TYPE.unicode:
      value = text
      break
    case TYPE.byteVector: {
      const digits = text.replaceAll(/[ \t\r\n]/g, '')
      if (!/^(?:[0-9A-Fa-f]{2})*$/.test(digits)) throw invalid()
      value = Uint8Array.from(Buffer.from(digits, 'hex'))
      break
    }
    case TYPE.decimal: {
      const match = /^(-?)(\d*)(?:\.(\d*))?$/.exec(text.replaceAll(WHITESPACE, ''))
      const [, sign = '', whole = '', fraction = ''] = match ?? []
      if (match === null || whole + fraction === '' || whole.length + fraction.length > 100) throw invalid()
      value = normalizeDecimal(-fraction.length, BigInt(sign + whole + fraction))
      break
    }
    default: {
      const trimmed = text.replaceAll(WHITESPACE, '')
      const signed = type === TYPE.int32 || type === TYPE.int64
      if (!(signed ? /^-?\d{1,40}$/ : /^\d{1,40}$/).test(trimmed)) throw invalid()
      value = toFastInteger(BigInt(trimmed))
    }
  }
  try {
    checkValue(value, type, field)
  } catch {
    throw invalid()
  }
  return value
}

/** No factor of ten is left in the mantissa; zero is 0 · 10^0. */
function normalizeDecimal(exponent: number, mantissa: bigint): FastDecimal {
  if (mantissa === 0n) return { exponent: 0, mantissa: 0 }
  let normalExponent = exponent
  let normalMantissa = mantissa
  while (normalMantissa % 10n === 0n) {
    normalMantissa /= 10n
    normalExponent++
  }
  return { exponent: normalExponent, mantissa: toFastInteger(normalMantissa) }
}
