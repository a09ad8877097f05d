/** What is claimed of FIX and FAST against REST, and what a run says to it. */
import { atMost, type ClaimPart, conclude, contaminatedJudgement, type Judgement } from '../claims/verdict.ts'
import type { Ratio } from './measure.ts'
import type { Size, Sizes } from './sizes.ts'

export interface ClaimVerdict extends Judgement {
  readonly id: 'fix-size' | 'fix-cost' | 'rest-overhead'
  readonly claim: string
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
  const bytesOf = (form: string) => sizeOf(order, form).bytes
  const atMostBytes = (name: string, form: string): ClaimPart => ({
    statement: `${name} takes at most ${FIX_ORDER_BYTES_MAX} bytes`,
    measured: `${bytesOf(form)} bytes`,
    holds: bytesOf(form) <= FIX_ORDER_BYTES_MAX,
  })
  const saved = (form: string, against: string): ClaimPart => {
    const ratio = 1 - bytesOf(form) / bytesOf(against)
    return {
      statement: `${form} is ${percent(SIZE_SAVED)} smaller than ${against}`,
      measured: `${percent(ratio)} smaller`,
      holds: ratio >= SIZE_SAVED,
    }
  }
  const parts = [
    saved('fix', 'rest-rsa'),
    saved('fix', 'rest-ed25519'),
    saved('fast', 'rest-rsa'),
    saved('fast', 'rest-ed25519'),
    atMostBytes('a FIX order', 'fix'),
    atMostBytes('a FAST order', 'fast'),
    {
      statement: `a REST order takes ${REST_ORDER_BYTES.join(' to ')} bytes`,
      measured: `${bytesOf('rest-rsa')} bytes`,
      holds: inRange(bytesOf('rest-rsa'), REST_ORDER_BYTES),
    },
  ]
  return {
    id: 'fix-size',
    claim: 'a FIX/FAST message is 80 % smaller than the equivalent REST request: 50–100 bytes against 500–1000',
    ...conclude(
      parts,
      `The FIX order carries the API key's id, a UUID of its own and the market's ticker: 95 bytes that tag=value cannot shrink. ${NOT_OFFERED}`,
    ),
  }
}

export function judgeOverhead({ order }: Sizes): ClaimVerdict {
  const part = (form: string, name: string): ClaimPart => {
    const { headBytes = 0, signatureBytes = 0 } = sizeOf(order, form)
    return {
      statement: `${name}: headers add ${HEADER_BYTES.join(' to ')} bytes`,
      measured: `${headBytes} bytes, ${signatureBytes} of them the signature`,
      holds: inRange(headBytes, HEADER_BYTES),
    }
  }
  const parts = [
    part('rest-rsa', 'fewest headers, RSA'),
    part('rest-ed25519', 'fewest headers, Ed25519'),
    part('rest-fetch-rsa', 'fetch, RSA'),
  ]
  return {
    id: 'rest-overhead',
    claim: 'HTTP headers add 500–1000 bytes to each message',
    ...conclude(parts, 'HTTP/1.1, request only. HTTP/2 would compress the headers that repeat, not the signature.'),
  }
}

/** One side's cost against another's, by name. */
export interface CostRatio extends Ratio {
  readonly statement: string
}

/** @param contaminatedBy why the times cannot be believed; sizes can be on any machine */
export function judgeCosts(
  ratios: readonly CostRatio[],
  note: string,
  contaminatedBy: readonly string[] = [],
): ClaimVerdict {
  const parts = ratios.map(
    (ratio): ClaimPart => ({
      statement: `${ratio.statement} costs ${percent(COST_SAVED)} less`,
      measured: `${percent(1 - ratio.ratio)} less (${percent(1 - ratio.high)} to ${percent(1 - ratio.low)})`,
      holds: atMost(ratio, 1 - COST_SAVED),
    }),
  )
  const judgement = conclude(parts, note)
  return {
    id: 'fix-cost',
    claim: 'FIX/FAST costs 60 % less to process than JSON (50–100 µs against 10–20 µs a message, in Python)',
    ...(contaminatedBy.length > 0 ? contaminatedJudgement(judgement, contaminatedBy) : judgement),
  }
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
