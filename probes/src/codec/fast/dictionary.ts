/**
 * Previous values of a stream (FAST 1.1 §6.3.1), and the part of the operators that encoder and decoder share: what a
 * field's value is when nothing of it is in the stream. One such object on each side; they must see the same messages.
 */
import { FastError } from '../error.ts'
import { type Instruction, OPERATOR, typeName } from './template.ts'
import { addIntegers, type FastInteger, type FastPrimitive, INTEGER_MAX, INTEGER_MIN } from './value.ts'

const UNDEFINED = 0
const EMPTY = 1
/** States from here on: assigned, by a field of type `state - ASSIGNED`. */
const ASSIGNED = 2

export class Dictionary {
  readonly #states: Uint8Array
  readonly #values: (FastPrimitive | undefined)[]

  constructor(slots: number) {
    this.#states = new Uint8Array(slots)
    this.#values = new Array<FastPrimitive | undefined>(slots).fill(undefined)
  }

  /** All entries to undefined. Both sides of a stream must do it at the same place. */
  reset(): void {
    this.#states.fill(UNDEFINED)
    this.#values.fill(undefined)
  }

  assign({ slot, type }: Instruction, value: FastPrimitive): void {
    this.#states[slot] = ASSIGNED + type
    this.#values[slot] = value
  }

  /** Assigns the value, or empties the entry when it is absent. */
  store(field: Instruction, value: FastPrimitive | undefined): void {
    if (value !== undefined) this.assign(field, value)
    else this.#states[field.slot] = EMPTY
  }

  /**
   * Value of a copy, increment or tail field that is not in the stream; becomes the previous value.
   *
   * @returns undefined when absent
   * @throws FastError `D4`, and `D5`, `D6`, `D7` when a mandatory field is left without a value
   */
  implied(field: Instruction): FastPrimitive | undefined {
    const { slot, operator, type } = field
    const state = this.#states[slot] as number
    if (state === ASSIGNED + type) {
      const previous = this.#values[slot] as FastPrimitive
      if (operator !== OPERATOR.increment) return previous
      const next = increment(previous as FastInteger, type)
      this.#values[slot] = next
      return next
    }
    if (state >= ASSIGNED) throw this.#typeError(field)
    if (state === UNDEFINED && field.initial !== undefined) {
      this.assign(field, field.initial)
      return field.initial
    }
    if (!field.optional) throw missing(field, state)
    this.#states[slot] = EMPTY
    return undefined
  }

  /**
   * What `implied` would say, without a change; undefined also where it would find nothing to say. For the encoder.
   *
   * @throws FastError `D4`
   */
  expected(field: Instruction): FastPrimitive | undefined {
    const { slot, operator, type, initial } = field
    const state = this.#states[slot] as number
    if (state === ASSIGNED + type) {
      const previous = this.#values[slot] as FastPrimitive
      return operator === OPERATOR.increment ? increment(previous as FastInteger, type) : previous
    }
    if (state >= ASSIGNED) throw this.#typeError(field)
    return state === UNDEFINED ? initial : undefined
  }

  /**
   * Base value of a delta or tail.
   *
   * @param none the base of the type when there is neither a previous nor an initial value
   * @throws FastError `D4`; `D6` for a delta on an empty entry
   */
  base(field: Instruction, none: FastPrimitive): FastPrimitive {
    const state = this.#states[field.slot] as number
    if (state === ASSIGNED + field.type) return this.#values[field.slot] as FastPrimitive
    if (state >= ASSIGNED) throw this.#typeError(field)
    if (state === EMPTY && field.operator === OPERATOR.delta)
      throw new FastError('D6', field.name, 'the previous value of a delta is empty')
    return field.initial ?? none
  }

  #typeError({ name, slot, type }: Instruction): FastError {
    const state = this.#states[slot] as number
    return new FastError('D4', name, `its previous value is of ${typeName(state - ASSIGNED)}, not ${typeName(type)}`)
  }
}

function increment(value: FastInteger, type: number): FastInteger {
  return value === INTEGER_MAX[type] ? (INTEGER_MIN[type] as FastInteger) : addIntegers(value, 1)
}

function missing({ name, operator }: Instruction, state: number): FastError {
  const tail = operator === OPERATOR.tail
  return state === UNDEFINED
    ? new FastError(tail ? 'D6' : 'D5', name, 'mandatory, not in the stream, and without previous or initial value')
    : new FastError(tail ? 'D7' : 'D6', name, 'mandatory, not in the stream, and its previous value is empty')
}
