/**
 * What was claimed of FIX and FAST against REST, and what was measured here. A claim with a figure holds when the
 * measured interval lies on its side, does not when it lies on the other, and is open in between.
 */
import type { Ratio } from './measure.ts'
import type { Size, Sizes } from './sizes.ts'

export type Verdict = 'holds' | 'does not hold' | 'holds in part' | 'open'

export interface ClaimPart {
  readonly statement: string
  readonly measured: string
  /** null when the interval includes the claimed figure. */
  readonly holds: boolean | null
}

export interface ClaimVerdict {
  readonly id: 'fix-size' | 'fix-cost' | 'rest-overhead'
  readonly claim: string
  readonly verdict: Verdict
  readonly parts: readonly ClaimPart[]
  readonly note: string
}

/** Claimed of a message's size: 80 % less. */
const SIZE_SAVED = 0.8
/** Claimed of its cost: 60 % less. */
const COST_SAVED = 0.6
/** Claimed of an order: 50 to 100 bytes. Less would be better still. */
const FIX_ORDER_BYTES_MAX = 100
const REST_ORDER_BYTES = [500, 1_000] as const
const HEADER_BYTES = [500, 1_000] as const

const NOT_OFFERED = 'Neither Kalshi nor Polymarket offers FAST or SBE; Kalshi offers FIX, Polymarket does not.'

export function judgeSizes({ order }: Sizes): ClaimVerdict {
  const atMost = (name: string, form: string, limit: number): ClaimPart => {
    const { bytes } = sizeOf(order, form)
    return { statement: `${name} takes at most ${limit} bytes`, measured: `${bytes} bytes`, holds: bytes <= limit }
  }
  const saved = (form: string, against: string): ClaimPart => {
    const ratio = 1 - sizeOf(order, form).bytes / sizeOf(order, against).bytes
    return {
      statement: `${form} is ${SIZE_SAVED * 100} % smaller than ${against}`,
      measured: `${percent(ratio)} smaller`,
      holds: ratio >= SIZE_SAVED,
    }
  }
  return conclude(
    'fix-size',
    'a FIX/FAST message is 80 % smaller than the equivalent REST request: 50–100 bytes against 500–1000',
    [
      saved('fix', 'rest-rsa'),
      saved('fix', 'rest-ed25519'),
      saved('fast', 'rest-rsa'),
      saved('fast', 'rest-ed25519'),
      atMost('a FIX order', 'fix', FIX_ORDER_BYTES_MAX),
      atMost('a FAST order', 'fast', FIX_ORDER_BYTES_MAX),
      {
        statement: `a REST order takes ${REST_ORDER_BYTES.join(' to ')} bytes`,
        measured: `${sizeOf(order, 'rest-rsa').bytes} bytes`,
        holds: inRange(sizeOf(order, 'rest-rsa').bytes, REST_ORDER_BYTES),
      },
    ],
    `The FIX order carries the API key's id, a UUID for the order and the market's ticker: 95 bytes that no tag=value can shrink. ${NOT_OFFERED}`,
  )
}

export function judgeOverhead({ order }: Sizes): ClaimVerdict {
  const [low, high] = HEADER_BYTES
  const part = (form: string, name: string): ClaimPart => {
    const { headBytes = 0, signatureBytes = 0 } = sizeOf(order, form)
    return {
      statement: `${name}: headers add ${low} to ${high} bytes`,
      measured: `${headBytes} bytes, ${signatureBytes} of them the signature`,
      holds: inRange(headBytes, HEADER_BYTES),
    }
  }
  return conclude(
    'rest-overhead',
    'HTTP headers add 500–1000 bytes to each message',
    [
      part('rest-rsa', 'fewest headers, RSA'),
      part('rest-ed25519', 'fewest headers, Ed25519'),
      part('rest-fetch-rsa', 'fetch, RSA'),
    ],
    'HTTP/1.1, request only. HTTP/2 would compress the headers that repeat, not the signature.',
  )
}

/** One side's cost against another's, by name. */
export interface CostRatio extends Ratio {
  readonly statement: string
}

export function judgeCosts(ratios: readonly CostRatio[], note: string): ClaimVerdict {
  return conclude(
    'fix-cost',
    'FIX/FAST costs 60 % less to process than JSON (50–100 µs against 10–20 µs a message, in Python)',
    ratios.map(({ statement, ratio, low, high }) => ({
      statement,
      measured: `${percent(1 - ratio)} less (${percent(1 - high)} to ${percent(1 - low)})`,
      holds: high <= 1 - COST_SAVED ? true : low > 1 - COST_SAVED ? false : null,
    })),
    note,
  )
}

function conclude(id: ClaimVerdict['id'], claim: string, parts: readonly ClaimPart[], note: string): ClaimVerdict {
  const holding = parts.filter(({ holds }) => holds === true).length
  const failing = parts.filter(({ holds }) => holds === false).length
  const verdict: Verdict =
    holding === parts.length
      ? 'holds'
      : failing === parts.length
        ? 'does not hold'
        : holding + failing === 0
          ? 'open'
          : 'holds in part'
  return { id, claim, verdict, parts, note }
}

function sizeOf(forms: { readonly [form: string]: Size }, form: string): Size {
  const size = forms[form]
  if (size === undefined) throw new RangeError(`no size of ${form}`)
  return size
}

function inRange(value: number, [low, high]: readonly [number, number]): boolean {
  return value >= low && value <= high
}

/** Negative savings read as such: `-35 %`. */
function percent(ratio: number): string {
  return `${(ratio * 100).toFixed(0)} %`
}
