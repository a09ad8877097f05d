/**
 * Faults on a schedule: `--fault NAME=VALUE@START+DURATION`, repeatable. START counts from the start of the flow.
 *
 * | fault | what happens from START, for DURATION |
 * | --- | --- |
 * | `api-delay=40ms@10s+5s` | every REST answer comes 40 ms late; orders still reach the book in time |
 * | `api-error=0.5@10s+5s` | that share of REST calls is answered 500 or 503, in turn, and has no effect |
 * | `feed-gap=3@10s` | each subscription loses its next 3 numbered messages: the numbers pass, the messages do not; with a DURATION, only those due within it |
 * | `feed-stall@10s+2s` or `feed-stall=2s@10s` | the feed is silent while pings go on; at the end everything held back comes at once |
 * | `disconnect@10s` | WebSockets are cut without a close frame; with a VALUE (0 … 1), that share of them; with a DURATION, new ones are refused with 503 for so long |
 *
 * Faults of one kind that overlap add up: delays are added, shares of errors are combined as independent chances.
 */
import { parseDurationMs, UserError } from '@tickscope/contract'

export const FAULT_FORMS =
  'api-delay=40ms@10s+5s, api-error=0.5@10s+5s, feed-gap=3@10s[+5s], feed-stall@10s+2s, disconnect[=0.5]@10s[+5s]'

const GAP_MAX = 1_000_000

export type FaultName = 'api-delay' | 'api-error' | 'feed-gap' | 'feed-stall' | 'disconnect'

export interface Fault {
  readonly name: FaultName
  /** ms for `api-delay`, a share for `api-error` and `disconnect`, a count for `feed-gap`; 0 for `feed-stall`. */
  readonly value: number
  /** From the start of the flow. */
  readonly startMs: number
  /** 0 for an instant; infinite for a `feed-gap` that waits for its messages as long as it takes. */
  readonly durationMs: number
}

/** @throws UserError `FAULT_INVALID` naming what is accepted */
export function parseFault(text: string): Fault {
  const wrong = (why: string) =>
    new UserError('FAULT_INVALID', `--fault '${text}': ${why}; accepted are ${FAULT_FORMS}`)
  const match = /^([^=@+]+)(?:=([^=@+]+))?@([^=@+]+)(?:\+([^=@+]+))?$/.exec(text)
  if (!match) throw wrong('it is not NAME=VALUE@START+DURATION')
  const [, name, value, start, duration] = match
  const ms = (part: string, what: string) => {
    try {
      return part === '0s' || part === '0ms' ? 0 : parseDurationMs(part, what)
    } catch (error) {
      throw wrong((error as Error).message)
    }
  }
  const startMs = ms(start as string, 'START')
  const durationMs = duration === undefined ? undefined : ms(duration, 'DURATION')
  const share = (part: string) => {
    const number = /^\d+(\.\d+)?$/.test(part) ? Number(part) : Number.NaN
    if (!(number > 0 && number <= 1)) throw wrong(`VALUE is '${part}', not a share above 0 and up to 1`)
    return number
  }
  const needed = <T>(part: T | undefined, what: string): T => {
    if (part === undefined) throw wrong(`${name} needs ${what}`)
    return part
  }
  switch (name) {
    case 'api-delay':
      return {
        name,
        value: ms(needed(value, 'a VALUE'), 'VALUE'),
        startMs,
        durationMs: needed(durationMs, 'a DURATION'),
      }
    case 'api-error':
      return { name, value: share(needed(value, 'a VALUE')), startMs, durationMs: needed(durationMs, 'a DURATION') }
    case 'feed-gap': {
      const count = /^\d{1,7}$/.test(needed(value, 'a VALUE')) ? Number(value) : 0
      if (!(count >= 1 && count <= GAP_MAX)) throw wrong(`VALUE is '${value}', not a count from 1 to ${GAP_MAX}`)
      return { name, value: count, startMs, durationMs: durationMs ?? Number.POSITIVE_INFINITY }
    }
    case 'feed-stall':
      if ((value === undefined) === (durationMs === undefined))
        throw wrong('feed-stall needs its length once, as VALUE or as DURATION')
      return { name, value: 0, startMs, durationMs: durationMs ?? ms(value as string, 'VALUE') }
    case 'disconnect':
      return { name, value: value === undefined ? 1 : share(value), startMs, durationMs: durationMs ?? 0 }
    default:
      throw wrong(`there is no fault '${name}'`)
  }
}

/** What is wrong at an instant. Pure: instants are given, ms since the start of the flow. */
export class FaultSchedule {
  readonly faults: readonly Fault[]

  constructor(faults: readonly Fault[]) {
    this.faults = faults
  }

  *#active(name: FaultName, atMs: number): Generator<Fault> {
    for (const fault of this.faults) {
      if (fault.name === name && atMs >= fault.startMs && atMs < fault.startMs + fault.durationMs) yield fault
    }
  }

  apiDelayMs(atMs: number): number {
    let sum = 0
    for (const fault of this.#active('api-delay', atMs)) sum += fault.value
    return sum
  }

  apiErrorShare(atMs: number): number {
    let working = 1
    for (const fault of this.#active('api-error', atMs)) working *= 1 - fault.value
    return 1 - working
  }

  /** When the feed speaks again; undefined while it speaks. */
  stalledUntilMs(atMs: number): number | undefined {
    let until: number | undefined
    for (let at = atMs; ; at = until) {
      let end = at
      for (const fault of this.#active('feed-stall', at)) end = Math.max(end, fault.startMs + fault.durationMs)
      if (end === at) return until
      until = end
    }
  }

  /** Whether new WebSockets are refused. */
  refusesConnections(atMs: number): boolean {
    return !this.#active('disconnect', atMs).next().done
  }
}
