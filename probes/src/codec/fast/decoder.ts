/**
 * FAST 1.1 decoder (§10): one object a stream, because previous values carry over from message to message.
 *
 * Never reads outside the bytes it was given and never loops longer than they and `FAST_LIMITS` allow, whatever they
 * say. Reportable errors of the specification (overlong integers, maps and strings) are errors here. After an error
 * the previous values are in doubt, so every further message is refused until `reset`: a wrong price is worse than none.
 *
 * Cost: no allocation when a message is decoded into an earlier one of the same template, save for text, decimals,
 * byte vectors and numbers beyond 31 bits that are not the previous value.
 */
import { isUtf8 } from 'node:buffer'
import { FastError } from '../error.ts'
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
  typeName,
} from './template.ts'
import {
  addIntegers,
  EXPONENT_MAX,
  type FastDecimal,
  type FastInteger,
  type FastPrimitive,
  fits,
  subtractIntegers,
  TYPE,
  toFastInteger,
  ZERO_DECIMAL,
} from './value.ts'

export const FAST_LIMITS = {
  /** Elements of all sequences of a message: an element of constants takes no byte, so bytes alone bound nothing. */
  elements: 16_384,
  /** Messages inside messages. */
  nesting: 8,
  /** A string, and a byte vector after delta or tail, bytes: a delta in each message could grow it without end. */
  textBytes: 16_384,
} as const

/** 64 bits and the one that NULL costs take 10 bytes of 7 bits; a delta of two 64-bit integers no more. */
const INTEGER_BYTES_MAX = 10
/** Bytes whose 49 bits are exact in a double whatever the sign. */
const DOUBLE_BYTES_MAX = 7

const NO_BYTES = new Uint8Array(0)

export class FastDecoder {
  readonly #templates: Templates
  readonly #dictionary: Dictionary
  #bytes: Uint8Array = NO_BYTES
  #at = 0
  #end = 0
  /** Presence map of the current segment: byte and bit that come next, and where it ends. */
  #mapAt = 0
  #mapMask = 0
  #mapEnd = 0
  #elements = 0
  #nesting = 0
  #broken = false
  /** ASCII text without its stop bit, before it becomes a string. */
  readonly #text = Buffer.alloc(256)

  constructor(templates: Templates) {
    this.#templates = templates
    this.#dictionary = new Dictionary(templates.slots)
  }

  /** Offset behind the last message decoded: where the next one of a packet begins. */
  get position(): number {
    return this.#at
  }

  /** Forgets all previous values; the encoder must have done so before the next message. */
  reset(): void {
    this.#dictionary.reset()
    this.#broken = false
  }

  /**
   * Decodes the message that starts at `start`.
   *
   * @param reuse an earlier message whose arrays may be overwritten
   * @throws FastError
   */
  decode(bytes: Uint8Array, start = 0, end = bytes.length, reuse?: FastMessage): FastMessage {
    if (this.#broken) throw new FastError('BROKEN', '', 'an earlier message was malformed: reset the stream first')
    if (start < 0 || end > bytes.length || start > end) throw new RangeError(`${start}…${end} is not inside the bytes`)
    this.#bytes = bytes
    this.#at = start
    this.#end = end
    this.#elements = 0
    this.#nesting = 0
    this.#broken = true
    const message = this.#message(reuse)
    this.#broken = false
    return message
  }

  #message(reuse: FastMessage | undefined): FastMessage {
    this.#openMap()
    let templateId: number
    if (this.#bit()) {
      templateId = this.#bounded(this.#unsigned(), TEMPLATE_ID) as number
      this.#dictionary.assign(TEMPLATE_ID, templateId)
    } else {
      templateId = this.#dictionary.implied(TEMPLATE_ID) as number
    }
    const { body } = templateOf(this.#templates, templateId)
    const message = reuse?.templateId === templateId ? reuse : { templateId, values: body.blank.slice() }
    this.#fields(body, message.values)
    this.#closeMap()
    return message
  }

  #fields({ instructions }: Segment, values: FastValue[]): void {
    for (let index = 0; index < instructions.length; index++) {
      const instruction = instructions[index] as Instruction
      switch (instruction.kind) {
        case KIND.field:
          values[index] = this.#field(instruction)
          break
        case KIND.parts:
          values[index] = this.#parts(instruction)
          break
        case KIND.sequence:
          values[index] = this.#sequence(instruction, values[index] as FastValue[][] | undefined)
          break
        case KIND.group:
          values[index] =
            instruction.optional && !this.#bit()
              ? undefined
              : this.#segment(instruction.segment as Segment, values[index] as FastValue[] | undefined)
          break
        default:
          values[index] = this.#inner(values[index] as FastMessage | undefined)
      }
    }
  }

  /** A segment inside a segment has a presence map of its own, if any of its instructions needs one. */
  #segment(segment: Segment, reuse: FastValue[] | undefined): FastValue[] {
    const values = reuse ?? segment.blank.slice()
    if (segment.mapBytes === 0) {
      this.#fields(segment, values)
      return values
    }
    const mapAt = this.#mapAt
    const mapMask = this.#mapMask
    const mapEnd = this.#mapEnd
    this.#openMap()
    this.#fields(segment, values)
    this.#closeMap()
    this.#mapAt = mapAt
    this.#mapMask = mapMask
    this.#mapEnd = mapEnd
    return values
  }

  #inner(reuse: FastMessage | undefined): FastMessage {
    if (++this.#nesting > FAST_LIMITS.nesting)
      throw new FastError('LIMIT', '', `messages are nested more than ${FAST_LIMITS.nesting} deep`)
    const mapAt = this.#mapAt
    const mapMask = this.#mapMask
    const mapEnd = this.#mapEnd
    const message = this.#message(reuse)
    this.#mapAt = mapAt
    this.#mapMask = mapMask
    this.#mapEnd = mapEnd
    this.#nesting--
    return message
  }

  #sequence({ name, first, segment }: Instruction, reuse: FastValue[][] | undefined): FastValue[][] | undefined {
    const length = this.#field(first as Instruction) as number | undefined
    if (length === undefined) return undefined
    this.#elements += length
    if (this.#elements > FAST_LIMITS.elements)
      throw new FastError('LIMIT', name, `the message has more than ${FAST_LIMITS.elements} elements`)
    const rows = reuse ?? []
    for (let index = 0; index < length; index++) rows[index] = this.#segment(segment as Segment, rows[index])
    rows.length = length
    return rows
  }

  /** Exponent and mantissa with an operator each: without an exponent there is no mantissa, nor a bit for it. */
  #parts({ name, first, second }: Instruction): FastDecimal | undefined {
    const exponent = this.#field(first as Instruction) as number | undefined
    if (exponent === undefined) return undefined
    if (exponent < -EXPONENT_MAX || exponent > EXPONENT_MAX) throw exponentError(name)
    return { exponent, mantissa: this.#field(second as Instruction) as FastInteger }
  }

  #field(field: Instruction): FastPrimitive | undefined {
    switch (field.operator) {
      case OPERATOR.none:
        return this.#value(field)
      case OPERATOR.constant:
        return !field.optional || this.#bit() ? field.initial : undefined
      case OPERATOR.default:
        return this.#bit() ? this.#value(field) : field.initial
      case OPERATOR.delta:
        return this.#delta(field)
      case OPERATOR.tail:
        return this.#bit() ? this.#tail(field) : this.#dictionary.implied(field)
      default: {
        if (!this.#bit()) return this.#dictionary.implied(field)
        const value = this.#value(field)
        this.#dictionary.store(field, value)
        return value
      }
    }
  }

  /** A value as it stands in the stream; nullable when the field is optional. */
  #value(field: Instruction): FastPrimitive | undefined {
    const { type, optional } = field
    switch (type) {
      case TYPE.uInt32:
      case TYPE.uInt64: {
        const value = optional ? lessNull(this.#unsigned()) : this.#unsigned()
        return value === undefined ? undefined : this.#bounded(value, field)
      }
      case TYPE.int32:
      case TYPE.int64: {
        const value = optional ? lessNull(this.#signed()) : this.#signed()
        return value === undefined ? undefined : this.#bounded(value, field)
      }
      case TYPE.decimal: {
        const exponent = optional ? lessNull(this.#signed()) : this.#signed()
        return exponent === undefined ? undefined : this.#decimal(exponent, this.#signed(), field)
      }
      case TYPE.ascii:
        return this.#ascii(optional, field.name)
      case TYPE.unicode: {
        const part = this.#vector(optional, field.name)
        return part === undefined ? undefined : utf8(part, field.name)
      }
      default: {
        const part = this.#vector(optional, field.name)
        return part === undefined ? undefined : new Uint8Array(part)
      }
    }
  }

  #delta(field: Instruction): FastPrimitive | undefined {
    const { name, type, optional } = field
    // What comes first (delta, exponent delta, subtraction length) carries the NULL.
    const first = optional ? lessNull(this.#signed()) : this.#signed()
    if (first === undefined) return undefined
    let value: FastPrimitive
    if (type <= TYPE.uInt64) {
      const sum = addIntegers(this.#dictionary.base(field, 0) as FastInteger, first)
      if (!fits(sum, type)) throw new FastError('R4', name, `the sum with its delta does not fit ${typeName(type)}`)
      value = sum
    } else if (type === TYPE.decimal) {
      const base = this.#dictionary.base(field, ZERO_DECIMAL) as FastDecimal
      const mantissa = addIntegers(base.mantissa, this.#signed())
      value = this.#decimal(addIntegers(base.exponent, first), mantissa, field)
    } else if (type === TYPE.ascii) {
      const base = this.#dictionary.base(field, '') as string
      const cut = cutOf(first, base.length, name)
      const part = this.#ascii(false, name) as string
      value = first < 0 ? part + base.slice(cut) : base.slice(0, base.length - cut) + part
      this.#checkLength(value.length, name)
    } else {
      const base = this.#baseBytes(field)
      const cut = cutOf(first, base.length, name)
      const part = this.#vector(false, name) as Uint8Array
      const kept = first < 0 ? base.subarray(cut) : base.subarray(0, base.length - cut)
      value = this.#joined(first < 0 ? [part, kept] : [kept, part], field)
    }
    this.#dictionary.assign(field, value)
    return value
  }

  #tail(field: Instruction): FastPrimitive | undefined {
    const { name, type, optional } = field
    const part = type === TYPE.ascii ? this.#ascii(optional, name) : this.#vector(optional, name)
    if (part === undefined) {
      this.#dictionary.store(field, undefined)
      return undefined
    }
    let value: FastPrimitive
    if (typeof part === 'string') {
      const base = this.#dictionary.base(field, '') as string
      value = base.slice(0, Math.max(0, base.length - part.length)) + part
      this.#checkLength(value.length, name)
    } else {
      const base = this.#baseBytes(field)
      value = this.#joined([base.subarray(0, Math.max(0, base.length - part.length)), part], field)
    }
    this.#dictionary.assign(field, value)
    return value
  }

  /** Deltas and tails of Unicode strings work on their UTF-8 bytes (§6.3.7.4). */
  #baseBytes(field: Instruction): Uint8Array {
    const base = this.#dictionary.base(field, field.type === TYPE.unicode ? '' : NO_BYTES)
    return typeof base === 'string' ? Buffer.from(base, 'utf8') : (base as Uint8Array)
  }

  #joined(parts: readonly Uint8Array[], { name, type }: Instruction): string | Uint8Array {
    const joined = Buffer.concat(parts)
    this.#checkLength(joined.length, name)
    return type === TYPE.unicode ? utf8(joined, name) : new Uint8Array(joined)
  }

  #checkLength(length: number, name: string): void {
    if (length > FAST_LIMITS.textBytes)
      throw new FastError('LIMIT', name, `its value grew beyond ${FAST_LIMITS.textBytes} bytes`)
  }

  #decimal(exponent: FastInteger, mantissa: FastInteger, { name }: Instruction): FastDecimal {
    if (exponent < -EXPONENT_MAX || exponent > EXPONENT_MAX) throw exponentError(name)
    if (!fits(mantissa, TYPE.int64)) throw new FastError('R1', name, 'the mantissa does not fit int64')
    return { exponent: exponent as number, mantissa }
  }

  #bounded(value: FastInteger, { name, type }: Instruction): FastInteger {
    if (!fits(value, type)) throw new FastError('D2', name, `the integer does not fit ${typeName(type)}`)
    return value
  }

  #openMap(): void {
    const bytes = this.#bytes
    const start = this.#at
    let at = start
    for (;;) {
      if (at >= this.#end) throw truncated()
      if ((bytes[at++] as number) >= 0x80) break
    }
    if (bytes[at - 1] === 0x80 && at - start > 1) throw new FastError('R7', '', 'the presence map is overlong')
    this.#mapAt = start
    this.#mapMask = 0x40
    this.#mapEnd = at
    this.#at = at
  }

  /** Next bit of the presence map, which goes on with zeroes for ever. */
  #bit(): boolean {
    if (this.#mapAt >= this.#mapEnd) return false
    const bit = ((this.#bytes[this.#mapAt] as number) & this.#mapMask) !== 0
    this.#mapMask >>= 1
    if (this.#mapMask === 0) {
      this.#mapMask = 0x40
      this.#mapAt++
    }
    return bit
  }

  #closeMap(): void {
    // No overlong map ends in zeroes, so a bit that is set and unread is all that can be too much.
    if (this.#mapAt >= this.#mapEnd) return
    const unread = (this.#mapMask << 1) - 1
    if (((this.#bytes[this.#mapAt] as number) & unread) !== 0 || this.#mapAt + 1 < this.#mapEnd)
      throw new FastError('R8', '', 'the presence map has more bits than its fields')
  }

  #unsigned(): FastInteger {
    const bytes = this.#bytes
    const start = this.#at
    const end = Math.min(this.#end, start + DOUBLE_BYTES_MAX)
    let value = 0
    for (let at = start; at < end; at++) {
      const byte = bytes[at] as number
      if (byte >= 0x80) {
        this.#at = at + 1
        return value * 128 + (byte & 0x7f)
      }
      value = value * 128 + byte
      if (value === 0) throw overlong()
    }
    return this.#long(value, end)
  }

  #signed(): FastInteger {
    const bytes = this.#bytes
    const start = this.#at
    if (start >= this.#end) throw truncated()
    const head = bytes[start] as number
    let value = (head & 0x40) === 0 ? head & 0x3f : (head & 0x7f) - 0x80
    if (head >= 0x80) {
      this.#at = start + 1
      return value
    }
    const end = Math.min(this.#end, start + DOUBLE_BYTES_MAX)
    for (let at = start + 1; at < end; at++) {
      const byte = bytes[at] as number
      // A first byte of nothing but the sign, and the second says the same.
      if (at === start + 1 && ((head === 0 && (byte & 0x40) === 0) || (head === 0x7f && (byte & 0x40) !== 0)))
        throw overlong()
      value = value * 128 + (byte & 0x7f)
      if (byte >= 0x80) {
        this.#at = at + 1
        return value
      }
    }
    return this.#long(value, end)
  }

  /** The rest of an integer of more than 49 bits. @param from offset of the byte that comes next */
  #long(high: number, from: number): FastInteger {
    const end = from - DOUBLE_BYTES_MAX + INTEGER_BYTES_MAX
    let value = BigInt(high)
    for (let at = from; at < end; at++) {
      if (at >= this.#end) throw truncated()
      const byte = this.#bytes[at] as number
      value = value * 128n + BigInt(byte & 0x7f)
      if (byte >= 0x80) {
        this.#at = at + 1
        return toFastInteger(value)
      }
    }
    throw new FastError('D2', '', `an integer takes more than ${INTEGER_BYTES_MAX} bytes`)
  }

  #ascii(nullable: boolean, name: string): string | undefined {
    const bytes = this.#bytes
    let start = this.#at
    let end = start
    for (;;) {
      if (end >= this.#end) throw truncated()
      if ((bytes[end++] as number) >= 0x80) break
    }
    this.#at = end
    if (((bytes[start] as number) & 0x7f) === 0) {
      // Zero-preambles (§10.6.3): one stands for NULL or precedes a NUL; a nullable string has one more.
      start++
      if (start === end) return nullable ? undefined : ''
      if (((bytes[start] as number) & 0x7f) !== 0) throw overlongString(name)
      if (nullable) {
        start++
        if (start === end) return ''
        if (((bytes[start] as number) & 0x7f) !== 0) throw overlongString(name)
      }
    }
    return this.#latin1(start, end)
  }

  #latin1(start: number, end: number): string {
    const bytes = this.#bytes
    const length = end - start
    if (length === 1) return String.fromCharCode((bytes[start] as number) & 0x7f)
    if (length > FAST_LIMITS.textBytes) throw new FastError('LIMIT', '', `a string of ${length} bytes`)
    const text = length <= this.#text.length ? this.#text : Buffer.alloc(length)
    for (let index = 0; index < length; index++) text[index] = (bytes[start + index] as number) & 0x7f
    return text.toString('latin1', 0, length)
  }

  /** @returns a view of the message, not a copy */
  #vector(nullable: boolean, name: string): Uint8Array | undefined {
    const length = nullable ? lessNull(this.#unsigned()) : this.#unsigned()
    if (length === undefined) return undefined
    if (length > this.#end - this.#at) {
      if (!fits(length, TYPE.uInt32)) throw new FastError('D2', name, 'its length does not fit uInt32')
      throw truncated()
    }
    const start = this.#at
    this.#at = start + (length as number)
    return this.#bytes.subarray(start, this.#at)
  }
}

/** Nullable integers (§10.6.1): zero is NULL, and what is above it was one less. */
function lessNull(value: FastInteger): FastInteger | undefined {
  if (value === 0) return undefined
  return value > 0 ? subtractIntegers(value, 1) : value
}

/** Characters a delta removes: negative lengths are from the front and one less than they say, so that -1 is "0 there". */
function cutOf(subtraction: FastInteger, length: number, name: string): number {
  if (!fits(subtraction, TYPE.int32)) throw new FastError('D7', name, 'the subtraction length does not fit int32')
  const cut = subtraction < 0 ? -1 - (subtraction as number) : (subtraction as number)
  if (cut > length) throw new FastError('D7', name, `subtracts ${cut} from a value of length ${length}`)
  return cut
}

function utf8(bytes: Uint8Array, name: string): string {
  if (!isUtf8(bytes)) throw new FastError('R2', name, 'the string is not UTF-8')
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8')
}

function truncated(): FastError {
  return new FastError('TRUNCATED', '', 'the bytes end inside the message')
}

function overlong(): FastError {
  return new FastError('R6', '', 'an integer is overlong')
}

function overlongString(name: string): FastError {
  return new FastError('R9', name, 'the string is overlong')
}

function exponentError(name: string): FastError {
  return new FastError('R1', name, `the exponent is not from -${EXPONENT_MAX} to ${EXPONENT_MAX}`)
}
