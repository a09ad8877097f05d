/**
 * FAST 1.1 encoder (§10): one object a stream, mirror of the decoder. Writes the shortest form the operators allow
 * (a field that its previous value implies takes no byte) into the caller's buffer.
 *
 * A value that does not fit its field is refused before the next byte is written, but the previous values may have
 * moved on by then: after an error every further message is refused until `reset`, as the decoder does.
 */
import { FastError } from '../error.ts'
import { FAST_LIMITS } from './decoder.ts'
import { Dictionary } from './dictionary.ts'
import {
  type FastMessage,
  type FastValue,
  type Instruction,
  KIND,
  OPERATOR,
  type Segment,
  TEMPLATE_ID,
  type Templates,
  templateOf,
} from './template.ts'
import {
  addIntegers,
  checkValue,
  equalValues,
  type FastDecimal,
  type FastInteger,
  type FastPrimitive,
  subtractIntegers,
  TYPE,
  ZERO_DECIMAL,
} from './value.ts'

const NO_BYTES = new Uint8Array(0)

/** Magnitude below which an integer is written with double arithmetic: 7 groups of 7 bits, one for the sign. */
const DOUBLE_LIMIT = 2 ** 48

export class FastEncoder {
  readonly #templates: Templates
  readonly #dictionary: Dictionary
  #into: Uint8Array = NO_BYTES
  #at = 0
  /** Presence map of the current segment: byte and bit that come next. */
  #mapAt = 0
  #mapMask = 0
  #elements = 0
  #nesting = 0
  #broken = false

  constructor(templates: Templates) {
    this.#templates = templates
    this.#dictionary = new Dictionary(templates.slots)
  }

  reset(): void {
    this.#dictionary.reset()
    this.#broken = false
  }

  /**
   * @param at where in `into` the message begins
   * @returns offset behind its last byte
   * @throws FastError
   */
  encode(message: FastMessage, into: Uint8Array, at = 0): number {
    if (this.#broken)
      throw new FastError('BROKEN', '', 'an earlier message could not be encoded: reset the stream first')
    this.#into = into
    this.#at = at
    this.#elements = 0
    this.#nesting = 0
    this.#broken = true
    this.#message(message)
    // Typed arrays ignore stores beyond their end, so one look at the end is enough.
    this.#checkSpace(0)
    this.#broken = false
    return this.#at
  }

  #message({ templateId, values }: FastMessage): void {
    const { body } = templateOf(this.#templates, templateId)
    const start = this.#openMap(body.mapBytes)
    const known = this.#dictionary.expected(TEMPLATE_ID) === templateId
    this.#bit(!known)
    if (!known) {
      this.#unsigned(templateId)
      this.#dictionary.assign(TEMPLATE_ID, templateId)
    }
    this.#fields(body, values)
    this.#closeMap(start, body.mapBytes)
  }

  #fields({ instructions }: Segment, values: readonly FastValue[]): void {
    for (let index = 0; index < instructions.length; index++) {
      const instruction = instructions[index] as Instruction
      const value = values[index]
      switch (instruction.kind) {
        case KIND.field:
          this.#field(instruction, value as FastPrimitive | undefined)
          break
        case KIND.parts:
          this.#parts(instruction, value as FastDecimal | undefined)
          break
        case KIND.sequence:
          this.#sequence(instruction, value as FastValue[][] | undefined)
          break
        case KIND.group:
          if (instruction.optional) this.#bit(value !== undefined)
          else if (value === undefined) throw missing(instruction)
          if (value !== undefined) this.#segment(instruction.segment as Segment, value as FastValue[])
          break
        default:
          if (value === undefined) throw missing(instruction)
          this.#inner(value as FastMessage)
      }
    }
  }

  #segment(segment: Segment, values: readonly FastValue[]): void {
    if (segment.mapBytes === 0) {
      this.#fields(segment, values)
      return
    }
    const mapAt = this.#mapAt
    const mapMask = this.#mapMask
    const start = this.#openMap(segment.mapBytes)
    this.#fields(segment, values)
    this.#closeMap(start, segment.mapBytes)
    this.#mapAt = mapAt
    this.#mapMask = mapMask
  }

  #inner(message: FastMessage): void {
    if (++this.#nesting > FAST_LIMITS.nesting)
      throw new FastError('LIMIT', '', `messages are nested more than ${FAST_LIMITS.nesting} deep`)
    const mapAt = this.#mapAt
    const mapMask = this.#mapMask
    this.#message(message)
    this.#mapAt = mapAt
    this.#mapMask = mapMask
    this.#nesting--
  }

  #sequence({ name, first, segment }: Instruction, rows: readonly FastValue[][] | undefined): void {
    this.#field(first as Instruction, rows?.length)
    if (rows === undefined) return
    this.#elements += rows.length
    if (this.#elements > FAST_LIMITS.elements)
      throw new FastError('LIMIT', name, `the message has more than ${FAST_LIMITS.elements} elements`)
    for (const row of rows) this.#segment(segment as Segment, row)
  }

  #parts({ name, first, second }: Instruction, value: FastDecimal | undefined): void {
    if (value !== undefined) checkValue(value, TYPE.decimal, name)
    try {
      this.#field(first as Instruction, value?.exponent)
      if (value !== undefined) this.#field(second as Instruction, value.mantissa)
    } catch (error) {
      // An operator that cannot say this part makes the decimal one that cannot be encoded (§6.2.2).
      if (error instanceof FastError && error.code === 'CONSTANT')
        throw new FastError('D3', name, 'its operators cannot express this decimal')
      throw error
    }
  }

  #field(field: Instruction, value: FastPrimitive | undefined): void {
    const { name, type, operator, optional, initial } = field
    if (value !== undefined) checkValue(value, type, name)
    else if (!optional) throw missing(field)
    switch (operator) {
      case OPERATOR.none:
        this.#value(field, value)
        return
      case OPERATOR.constant:
        if (optional) this.#bit(value !== undefined)
        if (value !== undefined && !equalValues(value, initial))
          throw new FastError('CONSTANT', name, 'the value is not its constant')
        return
      case OPERATOR.default: {
        const implied = equalValues(value, initial)
        this.#bit(!implied)
        if (!implied) this.#value(field, value)
        return
      }
      case OPERATOR.delta:
        this.#delta(field, value)
        return
      default: {
        const implied = equalValues(value, this.#dictionary.expected(field))
        this.#bit(!implied)
        if (!implied) {
          if (operator === OPERATOR.tail) this.#tail(field, value)
          else this.#value(field, value)
        }
        this.#dictionary.store(field, value)
      }
    }
  }

  #value({ type, optional }: Instruction, value: FastPrimitive | undefined): void {
    if (value === undefined) {
      this.#null()
      return
    }
    switch (type) {
      case TYPE.uInt32:
      case TYPE.uInt64:
        this.#unsigned(optional ? moreNull(value as FastInteger) : (value as FastInteger))
        return
      case TYPE.int32:
      case TYPE.int64:
        this.#signed(optional ? moreNull(value as FastInteger) : (value as FastInteger))
        return
      case TYPE.decimal: {
        const { exponent, mantissa } = value as FastDecimal
        this.#signed(optional ? moreNull(exponent) : exponent)
        this.#signed(mantissa)
        return
      }
      case TYPE.ascii:
        this.#ascii(value as string, optional)
        return
      default:
        this.#vector(bytesOf(value), optional)
    }
  }

  #delta(field: Instruction, value: FastPrimitive | undefined): void {
    const { type, optional } = field
    if (value === undefined) {
      this.#null()
      return
    }
    if (type === TYPE.decimal) {
      const base = this.#dictionary.base(field, ZERO_DECIMAL) as FastDecimal
      const { exponent, mantissa } = value as FastDecimal
      this.#lead(exponent - base.exponent, optional)
      this.#signed(subtractIntegers(mantissa, base.mantissa))
    } else if (type === TYPE.ascii) {
      const base = this.#dictionary.base(field, '') as string
      const text = value as string
      const front = frontCut(base, text)
      const back = base.length - commonStart(base, text)
      // At which end fewer characters need be said; a tie goes to the back.
      const atFront = base.length > 0 && front < back
      this.#lead(atFront ? -1 - front : back, optional)
      this.#ascii(atFront ? text.slice(0, text.length - (base.length - front)) : text.slice(base.length - back), false)
    } else if (type === TYPE.unicode || type === TYPE.byteVector) {
      const base = bytesOf(this.#dictionary.base(field, NO_BYTES))
      const bytes = bytesOf(value)
      const front = frontCut(base, bytes)
      const back = base.length - commonStart(base, bytes)
      const atFront = base.length > 0 && front < back
      this.#lead(atFront ? -1 - front : back, optional)
      this.#vector(
        atFront ? bytes.subarray(0, bytes.length - (base.length - front)) : bytes.subarray(base.length - back),
        false,
      )
    } else {
      this.#lead(subtractIntegers(value as FastInteger, this.#dictionary.base(field, 0) as FastInteger), optional)
    }
    this.#dictionary.assign(field, value)
  }

  /** What a delta begins with carries its NULL. */
  #lead(first: FastInteger, optional: boolean): void {
    this.#signed(optional ? moreNull(first) : first)
  }

  /** What follows the part that the base value has in common; a value shorter than its base has no tail. */
  #tail(field: Instruction, value: FastPrimitive | undefined): void {
    const { name, type, optional } = field
    if (value === undefined) {
      this.#null()
      return
    }
    if (type === TYPE.ascii) {
      const base = this.#dictionary.base(field, '') as string
      const text = value as string
      if (text.length < base.length) throw tooShort(name)
      this.#ascii(text.length > base.length ? text : text.slice(commonStart(base, text)), optional)
    } else {
      const base = bytesOf(this.#dictionary.base(field, NO_BYTES))
      const bytes = bytesOf(value)
      if (bytes.length < base.length) throw tooShort(name)
      this.#vector(bytes.length > base.length ? bytes : bytes.subarray(commonStart(base, bytes)), optional)
    }
  }

  /** Reserves the longest presence map the segment can have. @returns where it begins */
  #openMap(mapBytes: number): number {
    const start = this.#at
    this.#at = start + mapBytes
    for (let at = start; at < this.#at; at++) this.#into[at] = 0
    this.#mapAt = start
    this.#mapMask = 0x40
    return start
  }

  #bit(set: boolean): void {
    if (set) this.#into[this.#mapAt] = (this.#into[this.#mapAt] as number) | this.#mapMask
    this.#mapMask >>= 1
    if (this.#mapMask === 0) {
      this.#mapMask = 0x40
      this.#mapAt++
    }
  }

  /** Cuts trailing zeroes off the map (§10.5) and closes the gap they leave. */
  #closeMap(start: number, mapBytes: number): void {
    const into = this.#into
    let last = start + mapBytes - 1
    while (last > start && into[last] === 0) last--
    into[last] = (into[last] as number) | 0x80
    const gap = start + mapBytes - 1 - last
    if (gap === 0) return
    into.copyWithin(last + 1, start + mapBytes, this.#at)
    this.#at -= gap
  }

  #null(): void {
    this.#into[this.#at++] = 0x80
  }

  #unsigned(value: FastInteger): void {
    if (value < 128) {
      this.#into[this.#at++] = (value as number) | 0x80
      return
    }
    if (typeof value === 'bigint' || value >= DOUBLE_LIMIT) {
      this.#long(BigInt(value), false)
      return
    }
    let bytes = 1
    for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) bytes++
    this.#groups(value, bytes)
  }

  #signed(value: FastInteger): void {
    if (value >= -64 && value < 64) {
      this.#into[this.#at++] = (value as number) | 0x80
      return
    }
    if (typeof value === 'bigint' || value >= DOUBLE_LIMIT || value < -DOUBLE_LIMIT) {
      this.#long(BigInt(value), true)
      return
    }
    let bytes = 1
    // The first byte's second bit is the sign, so the last group holds six bits of the number.
    for (let rest = value; rest >= 64 || rest < -64; rest = Math.floor(rest / 128)) bytes++
    this.#groups(value, bytes)
  }

  #groups(value: number, bytes: number): void {
    const into = this.#into
    const last = this.#at + bytes - 1
    let rest = value
    for (let at = last; at >= this.#at; at--) {
      const higher = Math.floor(rest / 128)
      into[at] = rest - higher * 128
      rest = higher
    }
    into[last] = (into[last] as number) | 0x80
    this.#at = last + 1
  }

  #long(value: bigint, signed: boolean): void {
    const groups: number[] = []
    let rest = value
    do {
      groups.unshift(Number(rest & 0x7fn))
      rest >>= 7n
    } while (rest !== 0n && rest !== -1n)
    // -1 or 0 may be left while the sign bit of what was written says the opposite.
    if (signed && ((groups[0] as number) & 0x40) !== Number(rest & 0x40n)) groups.unshift(Number(rest & 0x7fn))
    for (const group of groups) this.#into[this.#at++] = group
    this.#into[this.#at - 1] = (groups.at(-1) as number) | 0x80
  }

  #ascii(text: string, nullable: boolean): void {
    const into = this.#into
    let at = this.#at
    // Zero-preambles (§10.6.3): before a NUL, and one more in a nullable string that is empty or starts with NUL.
    if (text.length === 0 || text.charCodeAt(0) === 0) {
      if (nullable) into[at++] = 0
      into[at++] = 0
    }
    for (let index = 0; index < text.length; index++) into[at++] = text.charCodeAt(index)
    into[at - 1] = (into[at - 1] as number) | 0x80
    this.#at = at
  }

  #vector(bytes: Uint8Array, nullable: boolean): void {
    this.#unsigned(nullable ? bytes.length + 1 : bytes.length)
    this.#checkSpace(bytes.length)
    this.#into.set(bytes, this.#at)
    this.#at += bytes.length
  }

  #checkSpace(bytes: number): void {
    if (this.#at + bytes > this.#into.length)
      throw new FastError('SPACE', '', `the message does not fit a buffer of ${this.#into.length} bytes`)
  }
}

function moreNull(value: FastInteger): FastInteger {
  return value >= 0 ? addIntegers(value, 1) : value
}

function bytesOf(value: FastPrimitive): Uint8Array {
  return typeof value === 'string' ? Buffer.from(value, 'utf8') : (value as Uint8Array)
}

/** Length of the common start of two strings or byte vectors. */
function commonStart<T extends string | Uint8Array>(a: T, b: T): number {
  const end = Math.min(a.length, b.length)
  let index = 0
  while (index < end && a[index] === b[index]) index++
  return index
}

/** What must be cut from the front of `base` so that the rest ends `value`. */
function frontCut<T extends string | Uint8Array>(base: T, value: T): number {
  const end = Math.min(base.length, value.length)
  let common = 0
  while (common < end && base[base.length - 1 - common] === value[value.length - 1 - common]) common++
  return base.length - common
}

function missing({ name }: Instruction): FastError {
  return new FastError('MISSING', name, 'mandatory, but there is no value to encode')
}

function tooShort(name: string): FastError {
  return new FastError('D3', name, 'a tail cannot make the value shorter than the previous one')
}
