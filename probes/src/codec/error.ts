/**
 * What the codecs refuse, as typed errors: each has a stable `code`. Text and bytes of the other side never reach a
 * message unescaped or uncut.
 */

/**
 * Errors of FAST by the specification's own numbers (FAST 1.1, appendix 4), and six of ours:
 *
 * - `TRUNCATED`: the bytes end inside the message
 * - `LIMIT`: more elements, nesting or text than a message may have here
 * - `MISSING`: a mandatory field without a value was to be encoded
 * - `CONSTANT`: a field was to be encoded with another value than its constant
 * - `SPACE`: the buffer to encode into is too small
 * - `BROKEN`: an earlier error left the dictionaries in doubt; `reset` first
 */
export type FastErrorCode =
  | `S${1 | 2 | 3 | 4 | 5}`
  | `D${1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12}`
  | `R${1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9}`
  | 'TRUNCATED'
  | 'LIMIT'
  | 'MISSING'
  | 'CONSTANT'
  | 'SPACE'
  | 'BROKEN'

export class FastError extends Error {
  readonly code: FastErrorCode
  /** Name of the field concerned; empty when it is none. */
  readonly field: string

  constructor(code: FastErrorCode, field: string, message: string) {
    super(`${code}: ${field === '' ? '' : `field ${field}: `}${message}`)
    this.name = 'FastError'
    this.code = code
    this.field = field
  }
}

/**
 * - `FRAME`: not `8=…|9=…|35=…|…|10=ddd|`, or cut short
 * - `BODY_LENGTH`, `CHECKSUM`: the frame's own sums do not hold
 * - `TAG`: a tag is no number, or came twice
 * - `VALUE`: a value is empty or not of its type
 * - `MISSING`: a tag the message needs is not there
 */
export type FixErrorCode = 'FRAME' | 'BODY_LENGTH' | 'CHECKSUM' | 'TAG' | 'VALUE' | 'MISSING'

export class FixError extends Error {
  readonly code: FixErrorCode
  /** Tag concerned; 0 when it is none. */
  readonly tag: number

  constructor(code: FixErrorCode, tag: number, message: string) {
    super(tag === 0 ? message : `tag ${tag}: ${message}`)
    this.name = 'FixError'
    this.code = code
    this.tag = tag
  }
}

/** A fixed binary message that is not what its byte table says, or does not fit its buffer. */
export class SbeError extends Error {
  readonly code: 'HEADER' | 'TRUNCATED' | 'VALUE' | 'SPACE'

  constructor(code: SbeError['code'], message: string) {
    super(message)
    this.name = 'SbeError'
    this.code = code
  }
}
